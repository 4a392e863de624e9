"""`ritz linalg conjectures`: continued fractions with structure for expressions of a constant."""

from __future__ import annotations

import time

import typer

from ritz.cli.output import print_json, print_table


def conjectures(
    constant: str = typer.Argument(help="The constant, as SymPy writes it: e, pi, phi, tan(1), exp(2), zeta(3), besseli(1, 2)/besseli(0, 2)."),
    degree: int = typer.Option(1, help="Largest degree of the polynomials P and Q in |P(c)/Q(c)|."),
    limit: int = typer.Option(2, help="Largest magnitude of their coefficients."),
    periods: tuple[int, int] = typer.Option((1, 2), help="Shortest and longest period of the signs."),
    depth: int = typer.Option(105, help="Terms of each continued fraction that are looked at."),
    prime: int = typer.Option(199, help="Prime of Berlekamp-Massey."),
    digits: int = typer.Option(500, help="Digits that are expanded."),
    verify_digits: int = typer.Option(100, help="Digits to which a conjecture has to hold."),
    latex: bool = typer.Option(False, "--latex", help="Print LaTeX equations."),
    json: bool = typer.Option(False, "--json", help="Print everything as JSON."),
) -> None:
    """Search expressions of a constant for signed continued fractions whose terms obey a short linear recurrence."""
    from ritz.linalg import find_conjectures

    start = time.perf_counter()
    found = find_conjectures(
        _constant(constant),
        degree=degree,
        coefficient_limit=limit,
        sign_periods=periods,
        depth=depth,
        prime=prime,
        digits=digits,
        verify_digits=verify_digits,
    )
    seconds = time.perf_counter() - start
    if json:
        print_json([_plain(one) | {"alternatives": [_plain(other) for other in one.alternatives]} for one in found])
    elif latex:
        print("\n".join(one.latex() for one in found))
    else:
        rows = [[one.expression, _row(one.signs), _row(one.terms(8)), _row(one.recurrence.coefficients), one.digits_per_term] for one in found]
        note = f"verified to {verify_digits} digits, not proved; {seconds:.3g} s"
        print_table(f"{len(found)} conjectures on {constant}", ["value", "signs", "first terms", "recurrence", "digits per term"], rows, note=note)


def _constant(text: str):
    """Read a constant; names and functions are SymPy's, with e and phi."""
    import sympy
    from sympy.parsing.sympy_parser import parse_expr

    try:
        value = parse_expr(text, local_dict={"e": sympy.E, "phi": sympy.GoldenRatio})
    except Exception as error:  # the parser raises whatever the text makes Python raise
        raise ValueError(f"constant: '{text}' is no expression: {error}") from error
    if not isinstance(value, sympy.Expr):
        raise ValueError(f"constant: '{text}' is no number")
    return value


def _row(numbers) -> str:
    return " ".join(map(str, numbers))


def _plain(one) -> dict[str, object]:
    return {
        "expression": one.expression,
        "signs": list(one.signs),
        "initial": list(one.initial),
        "recurrence": list(one.recurrence.coefficients),
        "digits_per_term": one.digits_per_term,
        "latex": one.latex(),
    }
