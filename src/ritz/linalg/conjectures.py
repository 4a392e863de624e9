"""Conjectures on mathematical constants: expressions of a constant whose signed continued fractions obey a short linear recurrence.

Razon, Harris, Gottlieb, Carmon, David and Kaminer, "Automated Search for Conjectures on Mathematical Constants using Analysis of Integer Sequences",
ICML 2023, arXiv:2212.09470.

ESMA (enumerated signed-continued-fraction Massey approval) expands each expression f(c) of a constant with each period of signs, looks at the
integers with Berlekamp-Massey modulo a small prime, and approves what a recurrence that is much too short for chance continues to many more digits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from ritz.core import Result, flag, integer, optional_import
from ritz.core import progress as progress_bar
from ritz.linalg.continued_fractions import (
    BITS_PER_DIGIT,
    GUARD,
    InsufficientPrecision,
    around,
    constant_value,
    convergents,
    expanded,
    quotient,
)
from ritz.linalg.linear_recurrences import LinearRecurrence, continued, prime, shortest

if TYPE_CHECKING:
    import mpmath
    import sympy

SECOND_PRIME = 2**31 - 1  # for recurrences whose coefficients are too large for the first
VERIFIED_TERMS = 1000
MEASURED_TERMS = 200
LARGEST_DENOMINATOR = 10**9  # of what counts as a rational number
COMPARED_DIGITS = 60  # to which two expressions with one value are told to have it


@dataclass(frozen=True, eq=False, repr=False)
class Conjecture(Result):
    """An expression of a constant and the continued fraction that it seems to have.

    Attributes
    ----------
    expression : str
        The left side, f(c).
    sympy_expression : sympy.Expr
        The same for SymPy; the constant is the symbol c if it was given as a callable.
    signs : tuple of int
        The period of the b_n in ``f(c) = a_0 + b_0/(a_1 + b_1/(a_2 + ...))``.
    initial : tuple of int
        The first a_n, as many as the recurrence's order.
    recurrence : LinearRecurrence
        What the a_n obey, over the integers.
    digits_per_term : float
        How many decimal digits a further term brings.
    alternatives : tuple of Conjecture
        The same value with other signs.
    """

    expression: str
    sympy_expression: sympy.Expr
    signs: tuple[int, ...]
    initial: tuple[int, ...]
    recurrence: LinearRecurrence
    digits_per_term: float
    alternatives: tuple[Conjecture, ...] = ()

    def terms(self, n: int) -> list[int]:
        """The first n of the a_n."""
        return continued(self.recurrence, list(self.initial), integer(n, "n", at_least=0))

    def latex(self, terms: int = 5) -> str:
        """The conjecture as a LaTeX equation that shows so many terms of the fraction."""
        sympy = optional_import("sympy", extra="linalg")
        a = self.terms(integer(terms, "terms", at_least=1))
        right = r"\ddots"
        for n in reversed(range(len(a))):
            right = rf"{a[n]} {'+' if self.signs[n % len(self.signs)] > 0 else '-'} \cfrac{{1}}{{{right}}}"
        return f"{sympy.latex(self.sympy_expression)} = {right}"


def find_conjectures(
    constant: object,
    *,
    degree: int = 1,
    coefficient_limit: int = 2,
    sign_periods: tuple[int, int] = (1, 2),
    depth: int = 105,
    prime: int = 199,
    digits: int = 500,
    verify_digits: int = 100,
    generator: Callable[[sympy.Symbol], Iterable[sympy.Expr]] | None = None,
    progress: bool = True,
) -> list[Conjecture]:
    """Search expressions of a constant for continued fractions with structure.

    Parameters
    ----------
    constant : SymPy or mpmath constant, or callable
        The real number c. A callable takes a number of digits and returns an mpf that is right to as many.
    degree, coefficient_limit : int
        The expressions are ``|P(c)/Q(c)|`` for polynomials of at most this degree with integer coefficients of at most this magnitude.
    sign_periods : (int, int)
        The shortest and the longest period of signs; all of these lengths are tried, but for those that repeat a shorter one.
    depth : int
        How many terms are looked at, 8 at least. A recurrence from the first term on, with fewer than a quarter as many coefficients, is a candidate.
    prime : int
        The prime of Berlekamp-Massey. It has to be more than twice the coefficients; a candidate that fails is tried modulo 2^31 - 1 too.
    digits : int
        How many digits of the expressions are expanded. An expression that needs more for `depth` terms is passed over.
    verify_digits : int
        To how many digits the first 1000 terms of the recurrence's continued fraction have to give the expression's value.
    generator : callable, optional
        Takes the symbol c and returns expressions in it, to be searched instead: ``lambda c: (a * c**d + b for ...)``.
    progress : bool
        Show a progress bar on a terminal.

    Returns
    -------
    list of Conjecture
        One for each value; other signs of the same value are its `alternatives`. They are verified to `verify_digits` digits, not proved.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    Expressions are told apart by their values to 60 digits, much faster than by simplification; of equal ones the one with the smallest
    coefficients is kept. Rational values are dropped. Terms come from both ends of an interval (`signed_continued_fraction`), so none is wrong.
    Cost: for each expression and period, `depth` divisions of integers of `digits` digits and O(depth^2) operations of 64-bit integers.
    Source: Razon et al. 2023, arXiv:2212.09470, sections 3 and 4.

    Examples
    --------
    >>> import mpmath
    >>> found = find_conjectures(mpmath.phi, coefficient_limit=1, sign_periods=(1, 1))
    >>> [(one.expression, one.signs, one.terms(3)) for one in found if one.expression == "c"]
    [('c', (1,), [1, 1, 1])]
    """
    search = _checked_search(depth, prime, digits, verify_digits)
    degree = integer(degree, "degree", at_least=1)
    limit = integer(coefficient_limit, "coefficient_limit", at_least=1)
    periods = _periods(sign_periods)
    show = flag(progress, "progress")
    sides = left_sides(constant, degree, limit, generator, max(search.digits, search.fine_digits) + 2 * GUARD)
    found = []
    for side in progress_bar(sides, "expanding") if show else sides:
        hits = [hit for signs in periods if (hit := search.conjecture(side, signs)) is not None]
        if hits:
            first, *others = hits
            found.append(Conjecture(**first.as_dict() | {"alternatives": tuple(others)}))
    return found


@dataclass(frozen=True)
class _LeftSide:
    """An expression of the constant and its value."""

    expression: sympy.Expr
    value: mpmath.mpf


@dataclass(frozen=True)
class _Search:
    """What is asked of a continued fraction."""

    depth: int
    prime: int
    digits: int
    verify_digits: int

    @property
    def fine_digits(self) -> int:
        """How many digits of an expression are known where a conjecture is approved."""
        return max(1000, 2 * self.verify_digits)

    def conjecture(self, side: _LeftSide, signs: tuple[int, ...]) -> Conjecture | None:
        """Expand, look for a recurrence, approve."""
        terms = self._terms(side.value, signs)
        if terms is None:
            return None
        for p in dict.fromkeys((self.prime, SECOND_PRIME)):
            modular = shortest(terms, p)
            if len(modular.coefficients) < self.depth // 4 and modular.order == len(modular.coefficients) - 1:
                recurrence = LinearRecurrence(modular.coefficients, modular.order)
                rate = self._approved(side.value, recurrence, terms[: modular.order], signs)
                if rate is not None:
                    return Conjecture(str(side.expression), side.expression, signs, tuple(terms[: modular.order]), recurrence, rate)
        return None

    def _terms(self, value: mpmath.mpf, signs: tuple[int, ...]) -> list[int] | None:
        _, mantissa, exponent, bits = value._mpf_
        try:
            terms = expanded(*around(mantissa, exponent, self.digits * BITS_PER_DIGIT - GUARD, bits), signs, self.depth)
        except InsufficientPrecision:
            return None
        return None if 0 in terms or len(terms) < self.depth else terms

    def _approved(self, value: mpmath.mpf, recurrence: LinearRecurrence, initial: list[int], signs: tuple[int, ...]) -> float | None:
        """The digits per term of a fraction that has the value, None of another."""
        mpmath = optional_import("mpmath", extra="linalg")
        fractions = convergents(continued(recurrence, initial, VERIFIED_TERMS), signs)
        numerator, denominator = fractions[-1]
        if denominator == 0:
            return None
        with mpmath.workdps(self.fine_digits):
            if abs(quotient(numerator, denominator, self.fine_digits) - value) > value * mpmath.mpf(10) ** -self.verify_digits:
                return None
        return _digits_per_term(value, fractions[:MEASURED_TERMS], self.fine_digits)


def _digits_per_term(value: mpmath.mpf, fractions: list[tuple[int, int]], digits: int) -> float:
    """The slope of -log10 of the error over the second half of the terms whose error is within the digits known."""
    mpmath = optional_import("mpmath", extra="linalg")
    with mpmath.workdps(digits):
        errors = [abs(mpmath.mpf(a) / b - value) / value if b else mpmath.mpf(1) for a, b in fractions]
    with mpmath.workdps(15):
        logs = [float(mpmath.log10(error)) if error else -math.inf for error in errors]
    known = next((n for n, log in enumerate(logs) if log < GUARD - digits), len(logs))
    n = np.arange(known // 2, known)
    return float(-np.polyfit(n, [logs[i] for i in n], 1)[0])


def _checked_search(depth: object, p: object, digits: object, verify_digits: object) -> _Search:
    return _Search(
        integer(depth, "depth", at_least=8),
        prime(p, "prime"),
        integer(digits, "digits", at_least=10),
        integer(verify_digits, "verify_digits", at_least=10),
    )


def _periods(bounds: object) -> list[tuple[int, ...]]:
    """All periods of signs of these lengths, in the order of -1 before +1, but for those that repeat a shorter one."""
    if not isinstance(bounds, Sequence) or isinstance(bounds, str) or len(bounds) != 2:
        raise TypeError(f"sign_periods must be a pair (shortest, longest), got {bounds!r}")
    shortest_, longest = (integer(bound, "sign_periods", at_least=1, at_most=16) for bound in bounds)
    if shortest_ > longest:
        raise ValueError(f"sign_periods must be (shortest, longest), got {bounds!r}")
    found: list[tuple[int, ...]] = []
    repeated: set[tuple[int, ...]] = set()
    for length in range(shortest_, longest + 1):
        for signs in product((-1, 1), repeat=length):
            if signs not in repeated:
                found.append(signs)
                repeated |= {signs * times for times in range(2, longest // length + 1)}
    return found


def left_sides(constant: object, degree: int, limit: int, generator: Callable | None, digits: int) -> list[_LeftSide]:
    """The expressions to be searched, each value once, the one with the smallest coefficients; zero and rational ones left out."""
    sympy = optional_import("sympy", extra="linalg")
    mpmath = optional_import("mpmath", extra="linalg")
    value, c = constant_value(constant, digits, "constant"), sympy.Symbol("c")
    candidates = _quotients(c, degree, limit) if generator is None else _generated(generator, c)
    found: dict[str, _Candidate] = {}
    with mpmath.workdps(COMPARED_DIGITS + GUARD):
        for candidate in candidates:
            number = candidate.at(+value)
            if not mpmath.isfinite(number) or number < mpmath.mpf(10) ** -COMPARED_DIGITS or _is_rational(number):
                continue
            key = mpmath.nstr(number, COMPARED_DIGITS)
            if key not in found or candidate.size < found[key].size:
                found[key] = candidate
    shown = constant if isinstance(constant, sympy.Expr) else c
    with mpmath.workdps(digits):
        return [_LeftSide(candidate.expression().subs(c, shown), candidate.at(value)) for candidate in found.values()]


@dataclass(frozen=True)
class _Candidate:
    """A function of the constant: how simple it is, its value at an mpf, and the way to its expression."""

    size: tuple[int, int]
    at: Callable[[mpmath.mpf], mpmath.mpf]
    expression: Callable[[], sympy.Expr]


def _quotients(c: sympy.Symbol, degree: int, limit: int) -> Iterator[_Candidate]:
    """P(c)/Q(c) for all integer polynomials of a degree and a size of coefficients: small ones, then those with few minus signs, are simple."""
    polynomials = [p for p in product(range(-limit, limit + 1), repeat=degree + 1) if any(p)]
    for P, Q in product(polynomials, repeat=2):
        size = sum(map(abs, P + Q)), sum(k < 0 for k in P + Q)
        yield _Candidate(size, lambda x, P=P, Q=Q: _quotient_at(P, Q, x), lambda P=P, Q=Q: _polynomial(P, c) / _polynomial(Q, c))


def _quotient_at(P: tuple[int, ...], Q: tuple[int, ...], x: mpmath.mpf) -> mpmath.mpf:
    mpmath = optional_import("mpmath", extra="linalg")
    numerator, denominator = (mpmath.polyval(p[::-1], x) for p in (P, Q))
    negligible = mpmath.mpf(10) ** -COMPARED_DIGITS
    return numerator / denominator if abs(denominator) > negligible else mpmath.inf


def _polynomial(coefficients: tuple[int, ...], c: sympy.Symbol) -> sympy.Expr:
    """Lowest coefficient first."""
    return sum((k * c**power for power, k in enumerate(coefficients)), start=0 * c)


def _generated(generator: Callable, c: sympy.Symbol) -> Iterator[_Candidate]:
    sympy = optional_import("sympy", extra="linalg")
    if not callable(generator):
        raise TypeError(f"generator must be a callable that takes the symbol of the constant, got {type(generator).__name__}")
    for place, expression in enumerate(generator(c)):
        if not isinstance(expression, sympy.Expr) or expression.free_symbols - {c}:
            raise TypeError(f"generator must return SymPy expressions in the symbol it is given, got {expression!r}")
        for side in (expression, -expression):
            yield _Candidate((place, 0), sympy.lambdify(c, side, modules="mpmath"), lambda side=side: side)


def _is_rational(number: mpmath.mpf) -> bool:
    """Whether a fraction with a small denominator is as near as only a rational number has one."""
    _, mantissa, exponent, _ = number._mpf_
    exact = Fraction(mantissa) * Fraction(2) ** exponent
    near = exact.limit_denominator(LARGEST_DENOMINATOR)
    return abs(near - exact) * 10 ** (COMPARED_DIGITS - GUARD) < exact
