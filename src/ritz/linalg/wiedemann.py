"""Sparse linear systems over a prime field, exactly, from products with the matrix alone.

Wiedemann, "Solving Sparse Linear Equations over Finite Fields", IEEE Transactions on Information Theory 1986.
Berlekamp-Massey in conjecture search: Razon et al. 2023, arXiv:2212.09470.

The numbers ``u^T A^i b`` obey a linear recurrence whose polynomial, for nearly every u, is the least f with ``f(A) b = 0``. If f(0) is not zero,
that equation says what A has to be applied to for b.
"""

from __future__ import annotations

import math

import numpy as np
import scipy.sparse
from numba import njit

from ritz.core import is_torch, kind, random_generator, to_csr
from ritz.linalg.linear_recurrences import LinearRecurrence, integers, prime, shortest

TRIALS = 10
AGREEING_BITS = 93  # of trials in a row that leave a minimal polynomial as it is, each log2(p) of them: three for the largest primes


def wiedemann(A, b, p: int, *, rng: np.random.Generator | int | None = None) -> np.ndarray:
    """Solve A x = b modulo a prime.

    Parameters
    ----------
    A : sparse or dense matrix (n, n) of integers
        It is reduced modulo p.
    b : sequence of int (n,)
        Right-hand side.
    p : int
        A prime below 2^31; the larger, the fewer trials fail (each does with a chance of about 2 n / p).
    rng : Generator, int or None
        Source of the random u.

    Returns
    -------
    ndarray (n,) of int64
        The solution, from 0 to p - 1; it is checked.

    Raises
    ------
    ValueError
        If A is found to be singular modulo p, which the polynomial f proves by f(0) = 0, or if `TRIALS` random u all fail (a small p).
        A singular A whose null space b has no part in may go unnoticed: what is returned solves the system all the same.
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    3 n products with A, O(n^2) other operations, O(n) memory beside A. Source: Wiedemann 1986.

    Examples
    --------
    >>> wiedemann(np.array([[2, 1], [1, 1]]), [3, 2], 101, rng=0)
    array([1, 1])
    """
    A, p = _reduced(A, p)
    b = np.array([value % p for value in integers(b, "b")], np.int64)
    if len(b) != A.shape[0]:
        raise ValueError(f"b must have one entry for each of the {A.shape[0]} rows of A, got {len(b)}")
    rng = random_generator(rng)
    for _ in range(TRIALS):
        f = shortest(_projections(A, rng.integers(p, size=len(b)), b, p, 2 * len(b)), p)
        if f.order == len(f.coefficients) - 1:
            x = _solution(A, b, f, p)
            if np.array_equal(_product(A.indptr, A.indices, A.data, x, p), b):
                return x
        else:
            raise ValueError(f"A must be nonsingular modulo {p}: the recurrence of u^T A^i b has the root 0")
    raise ValueError(f"A x = b modulo p was not solved by {TRIALS} random projections; p = {p} may be too small, or A singular")


def minimal_polynomial(A, p: int, *, rng: np.random.Generator | int | None = None) -> LinearRecurrence:
    """Find the least polynomial m with m(A) = 0 modulo a prime.

    Parameters
    ----------
    A : sparse or dense matrix (n, n) of integers
        It is reduced modulo p.
    p : int
        A prime below 2^31.
    rng : Generator, int or None
        Source of the random vectors.

    Returns
    -------
    LinearRecurrence
        Of order L with coefficients (1, c_1, ...): ``m(x) = x^L + c_1 x^{L-1} + ... + c_L``, absent coefficients being zero.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    The least common multiple of the polynomials of random sequences ``u^T A^i v``, until ``93 / log2(p)`` more change nothing: always a divisor of m,
    and m itself but for a chance of about (2 n / p)^3 for large p. 2 n products with A for each. Source: Wiedemann 1986.

    Examples
    --------
    >>> minimal_polynomial(np.diag([2, 2, 3]), 101, rng=0).coefficients
    (1, -5, 6)
    """
    A, p = _reduced(A, p)
    rng, n = random_generator(rng), A.shape[0]
    least, agreeing = np.ones(1, np.int64), 0
    while agreeing * math.log2(p) < AGREEING_BITS - 1 and len(least) <= n:
        f = shortest(_projections(A, rng.integers(p, size=n), rng.integers(p, size=n), p, 2 * n), p)
        multiple = _least_common_multiple(least, _polynomial(f), p)
        agreeing = agreeing + 1 if len(multiple) == len(least) else 0
        least = multiple
    coefficients = [int(c) if c <= p // 2 else int(c) - p for c in least]
    order = len(coefficients) - 1
    while coefficients[-1] == 0:
        coefficients.pop()
    return LinearRecurrence(tuple(coefficients), order, p)


def _reduced(A, p: int) -> tuple[scipy.sparse.csr_array, int]:
    """A modulo p as CSR of int64, checked."""
    p = prime(p)
    if kind(A, "A") == "operator":
        raise TypeError("A must be an explicit matrix of integers, got a LinearOperator")
    if len(A.shape) != 2 or A.shape[0] != A.shape[1] or A.shape[0] == 0:
        raise ValueError(f"A must be a square matrix that is not empty, got shape {tuple(A.shape)}")
    if A.is_floating_point() or A.is_complex() if is_torch(A) else A.dtype.kind not in "iub":
        raise TypeError(f"A must be a matrix of integers, got dtype {A.dtype}")
    matrix = to_csr(A, "A")
    entries = (matrix.data.astype(np.uint64) % np.uint64(p) if matrix.dtype.kind == "u" else matrix.data.astype(np.int64) % p).astype(np.int64)
    return scipy.sparse.csr_array((entries, matrix.indices, matrix.indptr), shape=matrix.shape), p


def _projections(A, u: np.ndarray, v: np.ndarray, p: int, count: int) -> list[int]:
    return _krylov(A.indptr, A.indices, A.data, u, v, p, count).tolist()


def _solution(A, b: np.ndarray, f: LinearRecurrence, p: int) -> np.ndarray:
    """``-(1/c_L) (A^{L-1} + c_1 A^{L-2} + ... + c_{L-1}) b`` by Horner's rule."""
    x = np.zeros_like(b)
    for c in f.coefficients[:-1]:
        x = (_product(A.indptr, A.indices, A.data, x, p) + c % p * b) % p
    return x * (-pow(f.coefficients[-1], -1, p) % p) % p if f.order else x


def _polynomial(f: LinearRecurrence) -> np.ndarray:
    """The coefficients of x^L, ..., x, 1."""
    padded = np.zeros(f.order + 1, np.int64)
    padded[: len(f.coefficients)] = [c % f.modulus for c in f.coefficients]
    return padded


def _least_common_multiple(f: np.ndarray, g: np.ndarray, p: int) -> np.ndarray:
    """Of monic polynomials, highest coefficients first."""
    divisor, rest = f, g
    while len(rest):
        divisor, rest = rest, _divided(divisor, _monic(rest, p), p)[1]
    return _times(f, _divided(g, _monic(divisor, p), p)[0], p)


def _monic(f: np.ndarray, p: int) -> np.ndarray:
    return f * pow(int(f[0]), -1, p) % p


def _times(f: np.ndarray, g: np.ndarray, p: int) -> np.ndarray:
    product = np.zeros(len(f) + len(g) - 1, np.int64)
    for i, c in enumerate(f):
        product[i : i + len(g)] = (product[i : i + len(g)] + c * g) % p
    return product


def _divided(f: np.ndarray, g: np.ndarray, p: int) -> tuple[np.ndarray, np.ndarray]:
    """Quotient and remainder by a monic polynomial; the remainder has no leading zeros."""
    rest, size = f.copy(), max(0, len(f) - len(g) + 1)
    quotient = np.zeros(size, np.int64)
    for i in range(size):
        quotient[i] = rest[i]
        rest[i : i + len(g)] = (rest[i : i + len(g)] - quotient[i] * g) % p
    nonzero = np.flatnonzero(rest)
    return quotient, rest[nonzero[0] :] if len(nonzero) else rest[:0]


@njit(cache=True, nogil=True)
def _product(indptr, indices, data, x, p):
    y = np.empty_like(x)
    for i in range(x.size):
        total = 0
        for k in range(indptr[i], indptr[i + 1]):
            total = (total + data[k] * x[indices[k]]) % p
        y[i] = total
    return y


@njit(cache=True, nogil=True)
def _krylov(indptr, indices, data, u, v, p, count):
    found = np.empty(count, np.int64)
    for i in range(count):
        total = 0
        for j in range(u.size):
            total = (total + u[j] * v[j]) % p
        found[i] = total
        v = _product(indptr, indices, data, v, p)
    return found
