"""The shortest linear recurrence of a sequence: Berlekamp-Massey over a prime field, and from there over the rationals.

Massey, "Shift-Register Synthesis and BCH Decoding", IEEE Transactions on Information Theory 1969; used to find structure in continued
fractions by Razon et al., "Automated Search for Conjectures on Mathematical Constants using Analysis of Integer Sequences", ICML 2023,
arXiv:2212.09470, section 3.

A sequence obeys ``s_n + c_1 s_{n-1} + ... + c_L s_{n-L} = 0`` exactly if its Hankel matrix has rank L; Berlekamp-Massey solves that Hankel system in
O(n^2) operations, and a random sequence of n terms has L near n/2, so that a short recurrence is a discovery.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import isqrt
from numbers import Integral, Rational

import numpy as np
from numba import njit

from ritz.core import Result, integer, optional_import

LARGEST_PRIME = 2**31  # products of two residues fit 64-bit integers
MOST_PRIMES = 64  # that a recurrence over the rationals is put together from before it is given up


@dataclass(frozen=True, eq=False, repr=False)
class LinearRecurrence(Result):
    """``s_n + c_1 s_{n-1} + c_2 s_{n-2} + ... = 0`` for all n of at least `order`.

    Attributes
    ----------
    coefficients : tuple
        (1, c_1, c_2, ...), the last of them not zero: integers between -p/2 and p/2 modulo a prime p, else integers or Fractions. There may be fewer
        than `order` after the 1: the first terms then obey no rule.
    order : int
        How many terms start the sequence.
    modulus : int or None
        The prime p; None over the rationals.

    Examples
    --------
    >>> berlekamp_massey([1, 1, 2, 3, 5, 8], 199)
    LinearRecurrence(coefficients=(1, -1, -1), order=2, modulus=199)
    """

    coefficients: tuple
    order: int
    modulus: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.coefficients, tuple) or not self.coefficients or self.coefficients[0] != 1:
            raise ValueError(f"coefficients must be a tuple that starts with 1, got {self.coefficients!r}")
        if not all(type(coefficient) is int for coefficient in self.coefficients):
            for coefficient in self.coefficients:
                _rational(coefficient, "coefficients")
        integer(self.order, "order", at_least=len(self.coefficients) - 1)
        if self.modulus is not None:
            prime(self.modulus, "modulus")


def prime(p: object, name: str = "p") -> int:
    """Return p if it is a prime below 2^31."""
    p = integer(p, name, at_least=2, at_most=LARGEST_PRIME)
    if not is_prime(p):
        raise ValueError(f"{name} must be a prime, got {p}")
    return p


@lru_cache(maxsize=4096)
def is_prime(p: int) -> bool:
    """Whether a number from 2 to 2^31 is prime, by trial division."""
    return bool(np.all(p % np.arange(2, isqrt(p) + 1)))


def integers(sequence: object, name: str) -> list[int]:
    """Return a sequence of integers, of any size, as a list."""
    sequence = _items(sequence, name)
    if not sequence:
        raise ValueError(f"{name} must not be empty")
    return sequence if all(type(value) is int for value in sequence) else [integer(value, name) for value in sequence]


def berlekamp_massey(sequence: Sequence[int], p: int) -> LinearRecurrence:
    """Find the shortest linear recurrence of a sequence modulo a prime.

    Parameters
    ----------
    sequence : sequence of int
        Its terms, of any size; they are reduced modulo p. If they obey a recurrence of order L, 2 L of them determine it.
    p : int
        A prime below 2^31.

    Returns
    -------
    LinearRecurrence
        Its order is the linear complexity; 0 for a sequence of zeros.

    Raises
    ------
    TypeError, ValueError
        If the terms are no integers, or p is no prime below 2^31.

    Notes
    -----
    O(n^2) operations on 64-bit integers. Source: Massey 1969; Razon et al. 2023, arXiv:2212.09470, section 3.

    Examples
    --------
    >>> berlekamp_massey([n * n for n in range(10)], 199).coefficients
    (1, -3, 3, -1)
    """
    p = prime(p)
    return shortest(integers(sequence, "sequence"), p)


def shortest(sequence: list[int], p: int) -> LinearRecurrence:
    """The shortest recurrence of checked terms."""
    small = len(sequence) * p * p < 2**53
    residues = np.array([value % p for value in reversed(sequence)], np.float64 if small else np.int64)
    connection, order = _massey(residues, p, small)
    used = connection[: np.flatnonzero(connection)[-1] + 1].astype(np.int64)
    return LinearRecurrence(tuple(np.where(used <= p // 2, used, used - p).tolist()), int(order), p)


def linear_recurrence(sequence: Sequence[int | Fraction], *, max_order: int | None = None, primes: int = 2) -> LinearRecurrence | None:
    """Find the shortest linear recurrence of a sequence over the rationals; it holds exactly for all terms given.

    Parameters
    ----------
    sequence : sequence of int or Fraction
        Its terms.
    max_order : int, optional
        The longest recurrence that is looked for; by default the longest that the terms determine and one more term confirms, (n - 1) // 2.
    primes : int
        Modulo how many primes it is computed at first; more are taken where the coefficients are too large for them.

    Returns
    -------
    LinearRecurrence or None
        Coefficients are integers, or Fractions where they have to be; None if there is no recurrence of at most that order.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    Berlekamp-Massey modulo primes near 2^31, the Chinese remainder theorem, rational reconstruction, and a check of all terms. A prime that
    divides a denominator or a leading coefficient shows a wrong order and is left out. O(n^2) operations for each prime.

    Examples
    --------
    >>> linear_recurrence([2, 5, 11, 23, 47, 95]).coefficients
    (1, -3, 2)
    """
    terms = [_rational(value, "sequence") for value in _items(sequence, "sequence")]
    if not terms:
        raise ValueError("sequence must not be empty")
    most = (len(terms) - 1) // 2 if max_order is None else integer(max_order, "max_order", at_least=0)
    primes = integer(primes, "primes", at_least=1, at_most=MOST_PRIMES)
    found: list[LinearRecurrence] = []
    for p in _large_primes(MOST_PRIMES, terms):
        found.append(shortest([value.numerator * pow(value.denominator, -1, p) for value in terms], p))
        if len(found) < primes:
            continue
        order = max(recurrence.order for recurrence in found)
        if order > most:
            return None
        candidate = _lifted([recurrence for recurrence in found if recurrence.order == order], order)
        if candidate is not None and _holds(candidate, terms):
            return candidate
    return None


def extend_recurrence(recurrence: LinearRecurrence, initial: Sequence[int | Fraction], n: int) -> list:
    """Continue a sequence by its recurrence.

    Parameters
    ----------
    recurrence : LinearRecurrence
        The rule.
    initial : sequence of int or Fraction
        At least as many terms as its order.
    n : int
        How many terms are wanted in all.

    Returns
    -------
    list
        n terms: exact, or, if the recurrence has a modulus, from 0 to p - 1.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    O(n L) operations on integers as large as the terms.

    Examples
    --------
    >>> extend_recurrence(LinearRecurrence((1, -1, -1), 2), [1, 1], 8)
    [1, 1, 2, 3, 5, 8, 13, 21]
    """
    if not isinstance(recurrence, LinearRecurrence):
        raise TypeError(f"recurrence must be a LinearRecurrence, got {type(recurrence).__name__}")
    n, p = integer(n, "n", at_least=0), recurrence.modulus
    known = integers(initial, "initial") if p and recurrence.order else [_rational(value, "initial") for value in _items(initial, "initial")]
    if len(known) < recurrence.order:
        raise ValueError(f"initial must hold at least {recurrence.order} terms, the order of the recurrence, got {len(known)}")
    return continued(recurrence, known, n)


def continued(recurrence: LinearRecurrence, known: list, n: int) -> list:
    """The first n terms, from at least `order` of them."""
    p = recurrence.modulus
    terms = [value % p for value in known[:n]] if p else known[:n]
    rule = [(j, -c) for j, c in enumerate(recurrence.coefficients) if j and c]
    while len(terms) < n:
        value = sum(c * terms[-j] for j, c in rule)
        terms.append(value % p if p else value)
    return terms


def characteristic_roots(recurrence: LinearRecurrence) -> np.ndarray:
    """Return the roots of ``x^L + c_1 x^{L-1} + ... + c_L``: the terms are sums of their powers, times polynomials for multiple roots.

    Parameters
    ----------
    recurrence : LinearRecurrence
        Of order L. Coefficients modulo a prime count as the integers nearest to zero.

    Returns
    -------
    ndarray (L,) complex
        Each as often as its multiplicity, which is exact: multiple roots are split off over the rationals, before anything is rounded.

    Raises
    ------
    TypeError
        If it is no recurrence.

    Notes
    -----
    N interlaced polynomials of degree at most K obey the recurrence with the characteristic polynomial ``(x^N - 1)^(K+1)``.
    Source: Razon et al. 2023, arXiv:2212.09470.

    Examples
    --------
    >>> characteristic_roots(LinearRecurrence((1, -3, 2), 2)).real.tolist()
    [1.0, 2.0]
    """
    if not isinstance(recurrence, LinearRecurrence):
        raise TypeError(f"recurrence must be a LinearRecurrence, got {type(recurrence).__name__}")
    sympy = optional_import("sympy", extra="linalg")
    x = sympy.Symbol("x")
    polynomial = sympy.Poly([sympy.Rational(c) for c in recurrence.coefficients], x, domain="QQ")
    roots = [0.0] * (recurrence.order - polynomial.degree())
    for factor, multiplicity in polynomial.sqf_list()[1]:
        roots += np.repeat(np.roots([float(c) for c in factor.all_coeffs()]), multiplicity).tolist()
    return np.sort_complex(np.array(roots, dtype=np.complex128))


def _items(sequence: object, name: str) -> list:
    if isinstance(sequence, np.ndarray) and sequence.ndim == 1:
        return sequence.tolist()
    if isinstance(sequence, str | bytes) or not isinstance(sequence, Sequence):
        raise TypeError(f"{name} must be a sequence of integers, got {type(sequence).__name__}")
    return list(sequence)


def _rational(value: object, name: str) -> int | Fraction:
    if type(value) is int:
        return value
    if isinstance(value, bool) or not isinstance(value, Rational):
        raise TypeError(f"{name} must hold integers or Fractions, got {type(value).__name__} {value!r}")
    return int(value) if isinstance(value, Integral) else value


def _large_primes(count: int, terms: list[int | Fraction]):
    """The largest primes below 2^31 that divide no denominator."""
    p = LARGEST_PRIME - 1
    while count:
        if is_prime(p) and all(value.denominator % p for value in terms):
            count -= 1
            yield p
        p -= 1


def _lifted(found: list[LinearRecurrence], order: int) -> LinearRecurrence | None:
    """The rational coefficients that are those found modulo each prime, if there are any of size below the root of half their product."""
    width = max(len(recurrence.coefficients) for recurrence in found)
    lifted = [_reconstructed([r.coefficients[j] if j < len(r.coefficients) else 0 for r in found], [r.modulus for r in found]) for j in range(width)]
    if None in lifted:
        return None
    while lifted[-1] == 0:
        lifted.pop()
    return LinearRecurrence(tuple(lifted), order)


def _reconstructed(residues: list[int], primes: list[int]) -> int | Fraction | None:
    residue, modulus = 0, 1
    for r, p in zip(residues, primes):
        residue += modulus * ((r - residue) * pow(modulus, -1, p) % p)
        modulus *= p
    bound = isqrt(modulus // 2)
    r0, r1, t0, t1 = modulus, residue, 0, 1
    while r1 > bound:
        quotient = r0 // r1
        r0, r1, t0, t1 = r1, r0 - quotient * r1, t1, t0 - quotient * t1
    if t1 == 0 or abs(t1) > bound:
        return None
    value = Fraction(r1, t1)
    return int(value) if value.denominator == 1 else value


def _holds(recurrence: LinearRecurrence, terms: list[int | Fraction]) -> bool:
    return all(sum(c * terms[n - j] for j, c in enumerate(recurrence.coefficients)) == 0 for n in range(recurrence.order, len(terms)))


@njit(cache=True, nogil=True)
def power(x, exponent, p):
    """x to a power modulo p."""
    result = 1
    while exponent:
        if exponent & 1:
            result = result * x % p
        x = x * x % p
        exponent >>= 1
    return result


@njit(cache=True, nogil=True, fastmath=True)
def _massey(r, p, small):
    """Connection polynomial C (n + 1,) and linear complexity L of residues r (n,), the last of them first.

    Residues are float64 where n p^2 < 2^53 (`small`), so that sums of products are exact and vectorized, and int64 elsewhere, where sums stay below
    2 p^2 < 2^63 by taking p^2 away. A product is reduced by a quotient in double precision, which is off by one at most.
    """
    n, square, inverse = r.size, p * p, 1.0 / p
    C, B, kept = np.zeros(n + 1, r.dtype), np.zeros(n + 1, r.dtype), np.zeros(n + 1, r.dtype)
    C[0] = B[0] = 1
    L, m, b, degree = 0, 1, 1, 0  # of B, whose degree is at most the L that it had
    for i in range(n):
        terms = r[n - 1 - i :]
        total = terms[0]
        if small:
            for j in range(1, L + 1):
                total += C[j] * terms[j]
        else:
            for j in range(1, L + 1):
                total += C[j] * terms[j]
                total -= square if total >= square else 0
        d = np.int64(total) % p
        if d == 0:
            m += 1
            continue
        factor = r.dtype.type(p - d * power(b, p - 2, p) % p)
        longer = i >= 2 * L
        if longer:
            kept[: L + 1] = C[: L + 1]
        shifted = C[m:]
        for j in range(min(degree, n - m) + 1):
            value = shifted[j] + factor * B[j]
            value -= r.dtype.type(np.floor(value * inverse)) * p
            value += p if value < 0 else 0
            shifted[j] = value - (p if value >= p else 0)
        if longer:
            B[: L + 1] = kept[: L + 1]
            degree = L
            L, b, m = i + 1 - L, d, 1
        else:
            m += 1
    return C, L
