"""Continued fractions: terms are right or refused, values exact, simple forms equal."""

from fractions import Fraction

import mpmath
import numpy as np
import pytest
import sympy
from specimens import Specimen

from ritz.linalg import evaluate_continued_fraction, signed_continued_fraction, to_simple_continued_fraction

A, B = np.array([3, 2, 2]), np.array([-1, 1])
SPECIMENS = {
    "signed_continued_fraction": Specimen(
        signed_continued_fraction, lambda: {"x": 0.7, "signs": B.copy(), "depth": 2, "digits": 15}
    ),
    "evaluate_continued_fraction": Specimen(evaluate_continued_fraction, lambda: {"a": A.copy(), "b": B.copy(), "digits": 15}),
    "to_simple_continued_fraction": Specimen(to_simple_continued_fraction, lambda: {"a": A.copy(), "b": B.copy()}),
}  # fmt: skip
E = [2] + [value for k in range(2, 60, 2) for value in (1, k, 1)]
SIGNS = ([1], [-1], [1, -1], [-1, 1], [1, 1, -1])


def exact(a, b):
    """The value by the definition, from the inside out; None if it divides by zero."""
    value = Fraction(a[-1])
    for n in range(len(a) - 2, -1, -1):
        if value == 0:
            return None
        value = a[n] + b[n % len(b)] / value
    return value


def test_known_fractions():
    assert signed_continued_fraction(mpmath.e, [1], 80, digits=150) == E[:80]
    assert signed_continued_fraction(sympy.sqrt(2), [1], 50, digits=60) == [1] + [2] * 49
    assert signed_continued_fraction(sympy.E / (sympy.E - 1), [1, -1], 8, digits=60) == [1, 2, 3, 2, 5, 2, 7, 2]
    assert signed_continued_fraction(_golden, [1], 30, digits=40) == [1] * 30
    assert signed_continued_fraction(-sympy.pi, [1], 4, digits=30) == [-4, 1, 6, 15]


def _golden(digits):
    with mpmath.workdps(digits):
        return +mpmath.phi


@pytest.mark.parametrize("signs", SIGNS)
def test_the_value_of_the_terms_is_the_number_to_the_digits_consumed(signs):
    for constant in (sympy.pi, sympy.exp(2), sympy.tan(1), sympy.sqrt(2) - 1):
        terms = signed_continued_fraction(constant, signs, 60, digits=300)
        value, x = evaluate_continued_fraction(terms, signs, 300), sympy.N(constant, 320)
        consumed = 2 * sum(np.log10(float(_tail(terms, signs, n))) for n in range(1, 59))
        with mpmath.workdps(320):
            assert abs(value - mpmath.mpmathify(x)) < mpmath.mpf(10) ** (2 - consumed)


def _tail(terms, signs, n):
    return exact(terms[n:], signs[n % len(signs) :] + signs[: n % len(signs)])


@pytest.mark.parametrize("signs", SIGNS)
def test_no_wrong_term_is_ever_returned(signs):
    right = signed_continued_fraction(sympy.pi, signs, 300, digits=1000)
    for digits in (15, 30, 50):
        with pytest.raises(ValueError, match="digits must be more: those given determine"):
            signed_continued_fraction(sympy.pi, signs, 2000, digits=digits)
        depth = 1
        while True:
            try:
                terms = signed_continued_fraction(sympy.pi, signs, depth, digits=digits)
            except ValueError:
                break
            assert terms == right[:depth]
            depth += 1
        assert depth > digits // 4
    with pytest.raises(ValueError, match="digits must be more"):
        signed_continued_fraction(float(np.pi), signs, 2000, digits=500)
    with mpmath.workdps(20), pytest.raises(ValueError, match="digits must be more"):
        signed_continued_fraction(+mpmath.pi, signs, 2000, digits=500)


def test_rational_numbers_end():
    for x in (Fraction(355, 113), 7, Fraction(-22, 7), Fraction(1, 3), 0):
        for signs in SIGNS:
            terms = signed_continued_fraction(x, signs, 500, digits=10)
            assert exact(terms, signs) == x
    assert signed_continued_fraction(Fraction(355, 113), [1], 2, digits=10) == [3, 7]


def test_simple_forms_keep_the_value_exactly():
    rng, count = np.random.default_rng(0), 0
    while count < 200:
        n = int(rng.integers(1, 14))
        a, b = rng.integers(-4, 5, size=n).tolist(), rng.choice([-1, 1], size=max(1, n - 1)).tolist()
        value = exact(a, b)
        if value is None:
            with pytest.raises(ValueError, match="a and b must have a finite value"):
                to_simple_continued_fraction(a, b)
            continue
        simple = to_simple_continued_fraction(a, b)
        assert exact(simple, [1]) == value
        assert all(term >= 1 for term in simple[1:])
        assert simple == signed_continued_fraction(value, [1], 1000, digits=10)
        count += 1


def test_a_long_signed_fraction_and_the_simple_one_share_their_front():
    signed = signed_continued_fraction(sympy.E, [1, -1, -1], 60, digits=200)
    simple = to_simple_continued_fraction(signed, [1, -1, -1])
    assert simple[:40] == E[:40]


def test_values_are_exact_before_they_are_rounded():
    value = evaluate_continued_fraction([0, *range(1, 40)], list(range(1, 39)), 50)
    fraction = exact([0, *range(1, 40)], [*range(1, 39), 1])
    with mpmath.workdps(60):
        assert abs(value - mpmath.mpf(fraction.numerator) / fraction.denominator) < mpmath.mpf(10) ** -48
    with pytest.raises(ValueError, match="a and b must have a finite value"):
        evaluate_continued_fraction([1, 0], [1], 10)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (sympy.I, ValueError, "x must be a finite real number"),
        (sympy.Symbol("x"), ValueError, "x must be a constant"),
        (sympy.oo, ValueError, "x must be a finite real number"),
        (lambda digits: 1.5, TypeError, "x must be a real number, or a callable that returns an mpf"),
        (lambda digits: mpmath.mpf(1) / 3, ValueError, "x must be right to the digits asked for|digits must be more"),
        (lambda digits: mpmath.mpf(1) + mpmath.mpf(digits) / 1000, ValueError, "x must be right to the digits asked for"),
        (mpmath.mpf("nan"), ValueError, "x must be finite"),
        (True, TypeError, "x must be"),
    ],
)  # fmt: skip
def test_what_is_no_real_constant_is_refused(x, error, message):
    with pytest.raises(error, match=message):
        signed_continued_fraction(x, [1], 60, digits=50)


def test_refusals():
    with pytest.raises(ValueError, match=r"signs must hold only \+1 and -1"):
        signed_continued_fraction(1, [1, 2], 3, digits=10)
    with pytest.raises(ValueError, match="signs must not be empty"):
        signed_continued_fraction(1, [], 3, digits=10)
    with pytest.raises(ValueError, match=r"b must hold only \+1 and -1"):
        to_simple_continued_fraction([1, 2], [3])
