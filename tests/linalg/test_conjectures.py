"""The search finds the published formulas of e and the known ones of other constants, and nothing for pi or for random numbers."""

from fractions import Fraction

import mpmath
import numpy as np
import pytest
import sympy
from specimens import Specimen

from ritz.linalg import Conjecture, LinearRecurrence, evaluate_continued_fraction, find_conjectures
from ritz.linalg.conjectures import _periods, left_sides

SPECIMENS = {
    "find_conjectures": Specimen(
        find_conjectures,
        lambda: {
            "constant": sympy.GoldenRatio, "degree": 1, "coefficient_limit": 1, "sign_periods": (1, 1), "depth": 20, "prime": 199, "digits": 50,
            "verify_digits": 20, "progress": False,
        },
    ),
    "Conjecture": Specimen(
        lambda **fields: Conjecture(sympy_expression=sympy.GoldenRatio, **fields),
        lambda: {
            "expression": "c", "signs": (1,), "initial": (1,), "recurrence": LinearRecurrence((1, -1), 1), "digits_per_term": 0.4, "alternatives": (),
        },
        spare=frozenset({"expression", "signs", "initial", "recurrence", "digits_per_term", "alternatives"}),
    ),
    "Conjecture.latex": Specimen(
        Conjecture("c", sympy.GoldenRatio, (1,), (1,), LinearRecurrence((1, -1), 1), 0.4).latex, lambda: {"terms": 3}
    ),
    "Conjecture.terms": Specimen(Conjecture("c", sympy.GoldenRatio, (1,), (1,), LinearRecurrence((1, -1), 1), 0.4).terms, lambda: {"n": 3}),
}  # fmt: skip


@pytest.fixture(scope="module")
def of_e():
    return find_conjectures(sympy.E, degree=1, coefficient_limit=2, sign_periods=(2, 2), depth=105, prime=199)


def test_e_has_thirteen_formulas(of_e):
    """112 left sides: SymPy's simplification alone counts 114, as it leaves 1/(2 + 2e) and e/(2 + 2e) apart from 1/(2(1 + e)) and e/(2(1 + e))."""
    assert len(left_sides(sympy.E, 1, 2, None, 200)) == 112
    assert len(of_e) == 13
    formulas = {(found.sympy_expression, each.signs, each.recurrence.coefficients) for found in of_e for each in (found, *found.alternatives)}
    e = sympy.E
    assert (e / (e - 1), (1, -1), (1, 0, -2, 0, 1)) in formulas
    assert (e - 1, (-1, 1), (1, 0, -2, 0, 1)) in formulas
    assert (e / (e - 2), (1, 1), (1, 0, 0, -1, 0, 0, -1, 0, 0, 1)) in formulas
    initial = {found.sympy_expression: found.initial for found in of_e}
    assert initial[e / (e - 1)] == (1, 2, 3, 2)
    coth = next(found for found in of_e if found.sympy_expression == (e + 1) / (e - 1))
    assert coth.terms(5) == [2, 6, 10, 14, 18]
    assert coth.recurrence.coefficients == (1, -2, 1)
    assert coth.signs == (1, 1)


def test_what_is_found_has_the_value_to_more_digits(of_e):
    for found in of_e:
        for each in (found, *found.alternatives):
            value = evaluate_continued_fraction(each.terms(400), each.signs, 300)
            with mpmath.workdps(320):
                assert abs(value / mpmath.mpmathify(sympy.N(each.sympy_expression, 310)) - 1) < mpmath.mpf(10) ** -250
            assert each.digits_per_term > 1
    assert len({str(sympy.N(found.sympy_expression, 50)) for found in of_e}) == 13


def test_the_sides_are_all_quotients_of_polynomials_that_differ():
    found = {str(mpmath.nstr(side.value, 40)) for side in left_sides(sympy.pi, 2, 1, None, 200)}
    expected = set()
    with mpmath.workdps(60):
        for p in np.ndindex(3, 3, 3):
            for q in np.ndindex(3, 3, 3):
                P, Q = (mpmath.polyval([int(k) - 1 for k in c], +mpmath.pi) for c in (p, q))
                if P and Q and len({Fraction(int(a) - 1, int(b) - 1) if b != 1 else None if a == 1 else "inf" for a, b in zip(p, q)} - {None}) > 1:
                    expected.add(str(mpmath.nstr(abs(P / Q), 40)))
    assert found == expected


def test_golden_ratio_tangent_and_pi():
    golden = find_conjectures(mpmath.phi, coefficient_limit=1)
    one = next(found for found in golden if found.expression == "c")
    assert one.recurrence.coefficients == (1, -1)
    assert one.terms(6) == [1] * 6
    assert one.digits_per_term == pytest.approx(2 * np.log10((1 + 5**0.5) / 2), rel=1e-3)
    tangent = find_conjectures(sympy.tan(1), coefficient_limit=1)
    assert any(found.sympy_expression == sympy.tan(1) for found in tangent)
    assert find_conjectures(sympy.pi) == []
    assert find_conjectures(lambda digits: _random(0, digits), coefficient_limit=1) == []


def _random(seed, digits):
    with mpmath.workdps(digits):
        return mpmath.mpf(int.from_bytes(np.random.default_rng(seed).bytes(500), "little")) / mpmath.mpf(256) ** 499


def test_rational_and_algebraic_relations_are_left_out():
    assert all(side.value > 0 for side in left_sides(sympy.sqrt(2), 2, 1, None, 200))
    values = [side.value for side in left_sides(sympy.GoldenRatio, 2, 1, None, 200)]
    assert all(abs(value - round(float(value) * 60) / 60) > 1e-12 for value in values)


def test_a_small_prime_is_helped_by_a_large_one():
    large = find_conjectures(sympy.coth(sympy.Rational(1, 600)), generator=lambda c: [c], sign_periods=(1, 1), prime=3, digits=1500)
    assert [found.initial for found in large] == [(600, 1800)]
    assert large[0].recurrence.coefficients == (1, -2, 1)


def test_a_generator_replaces_the_quotients():
    found = find_conjectures(sympy.E, generator=lambda c: (a * c**d + b for a in (1, 2) for b in (-1, 0) for d in (1, 2)), sign_periods=(1, 1))
    assert {each.sympy_expression for each in found} >= {sympy.E - 1, sympy.exp(2) - 1}
    with pytest.raises(TypeError, match="generator must return SymPy expressions"):
        find_conjectures(sympy.E, generator=lambda c: [sympy.Symbol("y")])
    with pytest.raises(TypeError, match="generator must be a callable"):
        find_conjectures(sympy.E, generator=[1])


def test_latex_shows_the_fraction(of_e):
    coth = next(found for found in of_e if found.initial == (2, 6))
    assert coth.latex(2).endswith(r"= 2 + \cfrac{1}{6 + \cfrac{1}{\ddots}}")
    signed = next(found for found in of_e if found.signs == (1, -1))
    assert " - \\cfrac{1}{" in signed.latex()


def test_periods_that_repeat_shorter_ones_are_skipped():
    assert _periods((1, 2)) == [(-1,), (1,), (-1, 1), (1, -1)]
    assert len(_periods((2, 2))) == 4
    assert len(_periods((1, 4))) == 2 + 2 + 6 + 12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"constant": 2.5}, "constant must be"),
        ({"constant": sympy.I}, "constant must be a finite real number"),
        ({"sign_periods": (2, 1)}, "sign_periods must be"),
        ({"sign_periods": 2}, "sign_periods must be a pair"),
        ({"prime": 10}, "prime must be a prime"),
        ({"depth": 3}, "depth must be"),
    ],
)
def test_refusals(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        find_conjectures(**({"constant": sympy.E} | options))
