"""Signed continued fractions of real numbers, term by term and never a wrong one; their values; and their simple forms.

``x = a_0 + b_0/(a_1 + b_1/(a_2 + ...))`` with signs b_n: different signs give one number different integers a_n, some of which have a structure
that those of the simple continued fraction (all b_n = +1) do not show.

Razon et al., "Automated Search for Conjectures on Mathematical Constants using Analysis of Integer Sequences", ICML 2023, arXiv:2212.09470.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle, islice
from numbers import Rational
from typing import TYPE_CHECKING

from ritz.core import integer, optional_import
from ritz.linalg.linear_recurrences import integers

if TYPE_CHECKING:
    import mpmath

GUARD = 10  # digits that a constant is computed to beyond those that are trusted
BITS_PER_DIGIT = 3.33


class InsufficientPrecision(ValueError):
    """The digits given do not determine the terms asked for."""


def signed_continued_fraction(x: object, signs: Sequence[int], depth: int, *, digits: int) -> list[int]:
    """Expand a real number into a continued fraction with given signs.

    Parameters
    ----------
    x : int, Fraction, SymPy or mpmath constant, mpf, float, or callable
        The number. A callable takes a number of digits and returns an mpf that is right to as many. An mpf or float is trusted to the last bit of
        its mantissa and no further.
    signs : sequence of +1 and -1
        The period of the b_n; it is repeated.
    depth : int
        How many terms a_n are wanted.
    digits : int
        How many digits of x are used; about ``2 sum_n log10 |x_n|`` of them are consumed.

    Returns
    -------
    list of int
        ``a_n = floor(x_n)`` where b_n is +1 and ``ceil(x_n)`` where it is -1, with ``x_{n+1} = b_n / (x_n - a_n)``; fewer than `depth` if x is an int
        or Fraction and its fraction ends.

    Raises
    ------
    InsufficientPrecision (a ValueError)
        If `digits` digits leave it open what a term is. No wrong term is ever returned: both ends of an interval around x are expanded, in
        exact arithmetic, and have to agree.
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    Two divisions of integers of `digits` digits for each term: Euclid's algorithm on both ends. Source: Razon et al. 2023, arXiv:2212.09470.

    Examples
    --------
    >>> import mpmath
    >>> signed_continued_fraction(mpmath.e, [1], 9, digits=30)
    [2, 1, 2, 1, 1, 4, 1, 1, 6]
    >>> from fractions import Fraction
    >>> signed_continued_fraction(Fraction(7, 3), [-1], 9, digits=30)
    [3, 2, 2]
    """
    signs = checked_signs(signs)
    depth = integer(depth, "depth", at_least=1)
    digits = integer(digits, "digits", at_least=1)
    return expanded(*enclosure(x, digits), signs, depth)


def evaluate_continued_fraction(a: Sequence[int], b: Sequence[int], digits: int) -> mpmath.mpf:
    """Return the value of a finite continued fraction ``a_0 + b_0/(a_1 + b_1/(a_2 + ...))``.

    Parameters
    ----------
    a : sequence of int
        Its terms.
    b : sequence of int
        Its numerators; repeated if they are fewer than ``len(a) - 1``.
    digits : int
        To how many digits it is rounded; everything before is exact.

    Returns
    -------
    mpmath.mpf

    Raises
    ------
    ValueError
        If the value is infinite.
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    The convergents ``A_n = a_n A_{n-1} + b_{n-1} A_{n-2}`` and the same for B_n, as integers. Source: Razon et al. 2023, arXiv:2212.09470.

    Examples
    --------
    >>> float(evaluate_continued_fraction([1] * 40, [1], digits=15))
    1.618033988749895
    """
    a, b = integers(a, "a"), integers(b, "b")
    digits = integer(digits, "digits", at_least=1)
    numerator, denominator = convergents(a, b)[-1]
    if denominator == 0:
        raise ValueError("a and b must have a finite value, got a last denominator of zero")
    return quotient(numerator, denominator, digits)


def to_simple_continued_fraction(a: Sequence[int], b: Sequence[int]) -> list[int]:
    """Rewrite a finite signed continued fraction as the simple one of the same value.

    Parameters
    ----------
    a : sequence of int
        Its terms, of any sign, zeros too.
    b : sequence of +1 and -1
        Its signs; repeated if they are fewer than ``len(a) - 1``.

    Returns
    -------
    list of int
        ``[t_0, t_1, ...]`` with t_n of at least 1 from t_1 on, the last of them at least 2.

    Raises
    ------
    ValueError
        If the value, or that of a part from some a_n on, is infinite.
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    From the last term to the first by ``a - 1/(t + y) = (a - 1) + 1/(1 + 1/((t - 1) + y))`` and ``[.., s, 0, t, ..] = [.., s + t, ..]``, which
    rewrite a few terms at the front: O(n) operations. Source: Razon et al. 2023, arXiv:2212.09470.

    Examples
    --------
    >>> to_simple_continued_fraction([3, 2, 2], [-1])
    [2, 3]
    """
    a, b = integers(a, "a"), checked_signs(b, "b")
    back = [a[-1]]  # of the simple form, last term first
    for term, sign in zip(reversed(a[:-1]), reversed(list(islice(cycle(b), len(a) - 1)))):
        _invert(back)
        if sign < 0:
            _negate(back)
        back[-1] += term
    if len(back) > 1 and back[0] == 1:
        back[1] += 1
        del back[0]
    return back[::-1]


def checked_signs(signs: object, name: str = "signs") -> tuple[int, ...]:
    """Return a period of signs as a tuple."""
    found = tuple(integers(signs, name))
    if any(sign not in (1, -1) for sign in found):
        raise ValueError(f"{name} must hold only +1 and -1, got {found}")
    return found


def convergents(a: Sequence[int], b: Sequence[int]) -> list[tuple[int, int]]:
    """Numerators and denominators (A_n, B_n), not reduced."""
    found, previous, current = [], (0, 1), (1, 0)
    for term, numerator in zip(a, (1, *islice(cycle(b), len(a) - 1))):
        previous, current = current, tuple(term * now + numerator * before for now, before in zip(current, previous))
        found.append(current)
    return found


def quotient(numerator: int, denominator: int, digits: int) -> mpmath.mpf:
    """A fraction rounded to some digits."""
    mpmath = optional_import("mpmath", extra="linalg")
    numerator, denominator = (numerator, denominator) if denominator > 0 else (-numerator, -denominator)
    return mpmath.make_mpf(mpmath.libmp.from_rational(numerator, denominator, mpmath.libmp.dps_to_prec(digits), "n"))


def expanded(lower: tuple[int, int], upper: tuple[int, int], signs: Sequence[int], depth: int) -> list[int]:
    """The terms on which both ends of an interval, fractions (numerator, denominator > 0), agree."""
    exact, terms = lower == upper, []
    for sign in islice(cycle(signs), depth):
        term = _nearest(lower, sign)
        rests = [numerator - term * denominator for numerator, denominator in (lower, upper)]
        if exact and rests[0] == 0:
            return [*terms, term]
        if _nearest(upper, sign) != term or 0 in rests:
            raise InsufficientPrecision(f"digits must be more: those given determine {len(terms)} terms of the {depth} in depth")
        terms.append(term)
        lower, upper = ((denominator, sign * rest) for rest, (_, denominator) in zip(rests, (lower, upper)))
    return terms


def enclosure(x: object, digits: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Two fractions between which x lies, as near to each other as so many digits of it allow."""
    if isinstance(x, Rational) and not isinstance(x, bool):
        return ((int(x.numerator), int(x.denominator)),) * 2
    value, known_bits = _value(x, digits)
    sign, mantissa, exponent, bits = value._mpf_
    if mantissa == 0:
        raise ValueError("x must not be zero, nor so near to it that no digit is known")
    return around(-mantissa if sign else mantissa, exponent, min(known_bits, digits * BITS_PER_DIGIT - GUARD), bits)


def around(mantissa: int, exponent: int, known_bits: float, bits: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """The ends of ``mantissa 2^exponent`` plus or minus its last known bit."""
    error = max(1, 1 << max(0, bits - int(known_bits)))
    scale, shift = (1, 1 << exponent) if exponent >= 0 else (1 << -exponent, 1)
    return ((mantissa - error) * shift, scale), ((mantissa + error) * shift, scale)


def constant_value(constant: object, digits: int, name: str = "x") -> mpmath.mpf:
    """The value of a SymPy or mpmath constant, or of a callable of digits, right to so many digits, as an mpf.

    A callable is asked for two precisions, whose difference must be as small as it promises.
    """
    mpmath = optional_import("mpmath", extra="linalg")
    if hasattr(constant, "evalf"):
        return _finite(mpmath.mpmathify(_numeric(constant, digits + GUARD, name)), name)
    if isinstance(constant, mpmath.mp.constant):
        with mpmath.workdps(digits + GUARD):
            return +constant
    if not isinstance(constant, Callable):
        raise TypeError(f"{name} must be a SymPy or mpmath constant or a callable that takes digits, got {type(constant).__name__}")
    value, finer = (_finite(constant(digits + extra), name) for extra in (GUARD, 3 * GUARD))
    with mpmath.workdps(digits + GUARD):
        if abs(value - finer) > abs(finer) * mpmath.mpf(10) ** -digits:
            raise ValueError(f"{name} must be right to the digits asked for: at {digits + GUARD} and {digits + 3 * GUARD} digits it differs")
    return finer


def _value(x: object, digits: int) -> tuple[mpmath.mpf, float]:
    """The value of x, and how many of its bits are known."""
    mpmath = optional_import("mpmath", extra="linalg")
    if isinstance(x, float | mpmath.mpf):
        value = _finite(mpmath.mpf(x) if isinstance(x, float) else x, "x")
        return value, value._mpf_[3]
    return constant_value(x, digits), float("inf")


def _numeric(expression, digits: int, name: str):
    if getattr(expression, "free_symbols", None):
        raise ValueError(f"{name} must be a constant, got the expression {expression}")
    value = expression.evalf(digits)
    if not value.is_Float and not value.is_Rational:
        raise ValueError(f"{name} must be a finite real number, got {expression}")
    return value


def _finite(value: object, name: str) -> mpmath.mpf:
    mpmath = optional_import("mpmath", extra="linalg")
    if not isinstance(value, mpmath.mpf):
        raise TypeError(f"{name} must be a real number, or a callable that returns an mpf, got {type(value).__name__}")
    if not mpmath.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}")
    return value


def _nearest(fraction: tuple[int, int], sign: int) -> int:
    """The floor for a sign of +1, the ceiling for -1."""
    numerator, denominator = fraction
    return numerator // denominator if sign > 0 else -(-numerator // denominator)


def _invert(back: list[int]) -> None:
    """Replace a value t_0 + ... by its reciprocal, the terms stored last first."""
    if back[-1] < 0:
        _negate(back)
        _invert(back)
        _negate(back)
    elif back[-1] > 0:
        back.append(0)
    else:
        back.pop()
        if not back:
            raise ValueError("a and b must have a finite value, got a division by zero")


def _negate(back: list[int]) -> None:
    """Replace a value t_0 + 1/(t_1 + y) by its negative (-t_0 - 1) + 1/(1 + 1/((t_1 - 1) + y))."""
    first = back.pop()
    if not back:
        back.append(-first)
        return
    second = back.pop()
    if second > 1:
        back += [second - 1, 1]
    elif back:
        back[-1] += 1
    back.append(-first - 1)
