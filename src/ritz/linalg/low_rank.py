"""Best low-rank approximations, plain and in a weighted norm.

The weighted problem: given D (o, i) and a positive semidefinite G (i, i), find B (o, r) and A (r, i) with the smallest ``||(D - B A) G^(1/2)||_F``.
With U_r the r leading eigenvectors of ``D G D^T``, the answer is ``B = U_r, A = U_r^T D``: by Eckart and Young the best approximation of rank r
to ``D G^(1/2)`` is ``U_r U_r^T D G^(1/2)``, and the weight cancels. No inverse of G is taken, so a singular G is as good as any, and what is lost
is the sum of the eigenvalues left out. Low-rank compensation (D a compression error, G an input Gram matrix), principal components of output features
(D a weight, G an input covariance) and the joint compression of two matrices in a row are this one problem.

Everything here is written against the array-API namespace: NumPy in, NumPy out; torch in, torch out, on its device.
The block Krylov route follows Musco and Musco, "Randomized Block Krylov Methods for Stronger and Faster Approximate Singular Value
Decomposition", NeurIPS 2015, arXiv:1504.05477, algorithm 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import array_api_compat
import numpy as np

from ritz.core import Result, integer, matrix, namespace, random_generator, real, symmetric_matrix
from ritz.linalg.rank_rule import RankRule

GRAM_ASYMMETRY = 1e-6  # relative; more than the rounding of any accumulated Gram matrix, less than any mistake


@dataclass(frozen=True, eq=False, repr=False)
class LowRankFactors(Result):
    """A low-rank approximation ``B @ A`` of a matrix D in the norm weighted by G.

    Attributes
    ----------
    B : array (o, r)
        Left factor.
    A : array (r, i)
        Right factor.
    error : float
        ``tr(D G D^T)``: the squared weighted norm of D, which rank 0 leaves.
    tail : float
        The squared weighted norm of ``D - B A``, which this approximation leaves.

    Examples
    --------
    >>> factors = LowRankFactors(np.array([[8.0], [0.0]]), np.array([[0.5, 0.0]]), error=20.0, tail=4.0)
    >>> factors.product()
    array([[4., 0.],
           [0., 0.]])
    >>> bool(factors.balanced().B[0, 0] == factors.balanced().A[0, 0] == 2.0)
    True
    """

    B: np.ndarray
    A: np.ndarray
    error: float
    tail: float

    def __post_init__(self) -> None:
        B, A = matrix(self.B, "B", allow_empty=True), matrix(self.A, "A", allow_empty=True)
        if B.shape[1] != A.shape[0]:
            raise ValueError(f"A must have as many rows as B has columns, {B.shape[1]}, got shape {tuple(A.shape)}")
        object.__setattr__(self, "B", B)
        object.__setattr__(self, "A", A)
        object.__setattr__(self, "error", real(self.error, "error", at_least=0))
        object.__setattr__(self, "tail", real(self.tail, "tail", at_least=0))

    @property
    def rank(self) -> int:
        """The number of columns of B and rows of A."""
        return self.A.shape[0]

    def product(self):
        """The approximation ``B @ A`` (o, i)."""
        return self.B @ self.A

    def balanced(self) -> LowRankFactors:
        """The same product with column j of B and row j of A of equal norm: neither factor over- or underflows in half precision.

        A pair whose product is zero becomes zero in both factors.
        """
        xp = namespace(self.B, self.A)
        of_B, of_A = xp.linalg.vector_norm(self.B, axis=0), xp.linalg.vector_norm(self.A, axis=1)
        alive = (of_B > 0) & (of_A > 0)
        zero, one = xp.zeros_like(of_B), xp.ones_like(of_B)
        ratio = xp.sqrt(xp.where(alive, of_A, one) / xp.where(alive, of_B, one))
        return replace(
            self,
            B=self.B * xp.where(alive, ratio, zero)[None, :],
            A=self.A * xp.where(alive, 1 / ratio, zero)[:, None],
        )


def weighted_low_rank(delta, gram, rank: RankRule | int | float | str) -> LowRankFactors:
    """Return the best low-rank approximation of `delta` in the norm weighted by `gram`.

    Minimizes ``||(delta - B A) gram^(1/2)||_F`` exactly: ``B = U_r`` (orthonormal columns), ``A = U_r^T delta`` with the leading
    eigenvectors U_r of ``delta gram delta^T``. A matrix with more rows than columns is first reduced by ``delta = Q R``, so the eigenproblem has
    the size of the shorter side.

    Parameters
    ----------
    delta : array (o, i)
        What is approximated.
    gram : array (i, i)
        Symmetric positive semidefinite weight, possibly singular; its scale does not matter.
        Negative eigenvalues of the size of rounding count as zero.
    rank : int, float, str or RankRule
        A count (more than ``min(o, i)`` means all), a fraction of ``min(o, i)``, or a rule, see `RankRule`.

    Returns
    -------
    LowRankFactors
        ``B (o, r)``, ``A (r, i)`` in the dtype of `delta`, `error` and `tail`. Computed in the wider of both dtypes, at least float32.

    Raises
    ------
    ValueError, TypeError
        If shapes do not fit, entries are not finite, `gram` is not symmetric (1e-6 relative) or has a negative diagonal, or `rank` is out of range.

    Notes
    -----
    With k = min(o, i): ``2 o i^2 + 2 k i min(k, o)`` multiplications for the products and about ``9 k^3`` for the eigenproblem; memory ``O(o i +
    i^2)``.

    Examples
    --------
    >>> delta, gram = np.array([[2.0, 0.0], [0.0, 1.0]]), np.diag([1.0, 9.0])
    >>> weighted_low_rank(delta, gram, 1).product()          # the smaller entry, because its input is three times as large
    array([[0., 0.],
           [0., 1.]])
    """
    delta, gram, dtype = _weighted_pair(delta, gram)
    rule = RankRule.of(rank)
    (unit_delta, unit_gram), scale = _normalized(delta, gram)
    xp = namespace(delta)
    basis, core = (None, unit_delta) if delta.shape[0] <= delta.shape[1] else xp.linalg.qr(unit_delta)
    squares, vectors = _descending_eigh((core @ unit_gram) @ core.T)
    r = rule.choose(xp.sqrt(squares) * math.sqrt(scale), delta.shape)
    B = vectors[:, :r] if basis is None else basis @ vectors[:, :r]
    return _factors(B, delta, float(xp.sum(squares)) * scale, float(xp.sum(squares[r:])) * scale, dtype)


def krylov_weighted_low_rank(
    delta, gram, rank: int | float, *, iterations: int = 2, oversampling: int = 16, rng: np.random.Generator | int | None = None
) -> LowRankFactors:
    """Return a near-best low-rank approximation of `delta` in the norm weighted by `gram`, by block Krylov iteration: fast for small ranks.

    The leading eigenvectors of ``M = delta gram delta^T`` are taken from the space spanned by ``M X, M^2 X, ..., M^(iterations + 1) X`` of a random
    block X of ``rank + oversampling`` columns (Musco and Musco 2015). `tail` is the exact error of the factors returned; where the space would not be
    smaller than the matrix, the exact `weighted_low_rank` is returned.

    Parameters
    ----------
    delta, gram : array
        As in `weighted_low_rank`.
    rank : int or float
        A count or a fraction of ``min(o, i)``; rules that need all singular values are refused.
    iterations : int
        Powers of M beyond the first.
    oversampling : int
        Columns of the block beyond the rank.
    rng : numpy.random.Generator or int, optional
        Where the random block comes from (drawn with NumPy for torch as well).

    Returns
    -------
    LowRankFactors
        As in `weighted_low_rank`.

    Notes
    -----
    One product ``delta @ gram`` (``2 o i^2`` operations) and ``iterations + 1`` products with blocks, ``4 o i`` operations per column.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> delta, X = rng.standard_normal((300, 200)), rng.standard_normal((1000, 200)) * np.arange(1, 201) ** -1.0
    >>> near, best = krylov_weighted_low_rank(delta, X.T @ X, 10, rng=0), weighted_low_rank(delta, X.T @ X, 10)
    >>> bool(near.tail < 1.01 * best.tail)
    True
    """
    delta, gram, dtype = _weighted_pair(delta, gram)
    rule = RankRule.of(rank)
    if rule.needs_spectrum:
        raise ValueError(f"rank must be a count or a fraction for the Krylov route, got '{rule.kind}:{rule.value}', which needs all singular values")
    iterations, oversampling = integer(iterations, "iterations", at_least=0), integer(oversampling, "oversampling", at_least=0)
    rng = random_generator(rng)
    r = rule.choose([], delta.shape)
    columns = r + oversampling
    if r == 0 or columns * (iterations + 1) >= min(delta.shape):
        return weighted_low_rank(delta, gram, r)
    xp = namespace(delta)
    (unit_delta, unit_gram), scale = _normalized(delta, gram)
    weighted = unit_delta @ unit_gram

    def apply(X):
        return weighted @ (unit_delta.T @ X)

    start = xp.asarray(rng.standard_normal((delta.shape[0], columns)), dtype=delta.dtype, device=array_api_compat.device(delta))
    blocks = [xp.linalg.qr(apply(start))[0]]
    for _ in range(iterations):
        blocks.append(xp.linalg.qr(apply(blocks[-1]))[0])
    Q = xp.linalg.qr(xp.concat(blocks, axis=1))[0]
    squares, vectors = _descending_eigh(Q.T @ apply(Q))
    total = float(xp.sum(weighted * unit_delta))
    tail = max(total - float(xp.sum(squares[:r])), 0.0)
    return _factors(Q @ vectors[:, :r], delta, total * scale, tail * scale, dtype)


def weighted_singular_values(delta, gram):
    """Return the singular values of ``delta gram^(1/2)``, descending, ``(min(o, i),)``: what each direction of `weighted_low_rank` is worth.

    Parameters
    ----------
    delta, gram : array
        As in `weighted_low_rank`.

    Examples
    --------
    >>> weighted_singular_values(np.eye(2), np.diag([1.0, 9.0]))
    array([3., 1.])
    """
    delta, gram, dtype = _weighted_pair(delta, gram)
    (unit_delta, unit_gram), scale = _normalized(delta, gram)
    xp = namespace(delta)
    core = unit_delta if delta.shape[0] <= delta.shape[1] else xp.linalg.qr(unit_delta)[1]
    squares = _descending_eigh((core @ unit_gram) @ core.T)[0]
    return xp.astype(xp.sqrt(squares) * math.sqrt(scale), dtype)


def truncated_svd(A, rank: RankRule | int | float | str):
    """Return the leading singular triplets ``U (m, r), s (r,), Vh (r, n)`` of a matrix, from its full decomposition.

    Parameters
    ----------
    A : array (m, n)
        The matrix.
    rank : int, float, str or RankRule
        How many, see `RankRule`.

    Examples
    --------
    >>> U, s, Vh = truncated_svd(np.diag([3.0, 2.0, 1.0]), 2)
    >>> s
    array([3., 2.])
    """
    A, rule = matrix(A, "A"), RankRule.of(rank)
    xp = namespace(A)
    U, s, Vh = xp.linalg.svd(xp.astype(A, _working_dtype(xp, A.dtype)), full_matrices=False)
    r = rule.choose(s, A.shape)
    return tuple(xp.astype(part, A.dtype) for part in (U[:, :r], s[:r], Vh[:r, :]))


def symmetric_sqrt(G, *, floor: float = 0.0):
    """Return the symmetric square root of a positive semidefinite matrix and its inverse, ``(G^(1/2), G^(-1/2))``.

    Parameters
    ----------
    G : array (n, n)
        Symmetric to 1e-6 relative.
    floor : float
        Eigenvalues below this fraction of the largest are raised to it. With 0 those below rounding (n eps times the largest) count as zero,
        and the inverse is the pseudo-inverse.

    Raises
    ------
    ValueError
        If `G` is not square, symmetric and finite, or has an eigenvalue that is negative beyond what rounding in half precision explains (1e-3
        relative).

    Examples
    --------
    >>> root, inverse = symmetric_sqrt(np.diag([4.0, 0.0]))
    >>> np.diag(root), np.diag(inverse)
    (array([2., 0.]), array([0.5, 0. ]))
    """
    G = symmetric_matrix(G, "G", tolerance=GRAM_ASYMMETRY)
    floor = real(floor, "floor", at_least=0, at_most=1)
    xp = namespace(G)
    values, Q = xp.linalg.eigh(xp.astype(G, _working_dtype(xp, G.dtype)))
    largest = float(values[-1])
    if float(values[0]) < -1e-3 * max(largest, 0.0):
        raise ValueError(f"G must be positive semidefinite, got eigenvalues from {float(values[0]):.3} to {largest:.3}")
    least = max(floor, G.shape[0] * float(xp.finfo(values.dtype).eps)) * largest
    kept = values > least
    filler = xp.full_like(values, least if floor > 0 else 0.0)
    roots = xp.sqrt(xp.where(kept, values, filler))
    inverses = xp.where(roots > 0, 1 / xp.where(roots > 0, roots, xp.ones_like(roots)), xp.zeros_like(roots))
    return tuple(xp.astype((Q * diagonal[None, :]) @ Q.T, G.dtype) for diagonal in (roots, inverses))


def _weighted_pair(delta, gram):
    """Check both matrices and bring them to one working dtype; also return the dtype that results have, delta's own."""
    delta = matrix(delta, "delta")
    gram = symmetric_matrix(gram, "gram", tolerance=GRAM_ASYMMETRY)
    if gram.shape[0] != delta.shape[1]:
        raise ValueError(f"gram must have shape ({delta.shape[1]}, {delta.shape[1]}), as many inputs as delta has columns, got {tuple(gram.shape)}")
    xp = namespace(delta, gram)
    diagonal = xp.linalg.diagonal(gram)
    if float(xp.min(diagonal)) < -GRAM_ASYMMETRY * float(xp.max(xp.abs(gram))):
        raise ValueError(f"gram must be positive semidefinite, got {float(xp.min(diagonal)):.3} on its diagonal")
    working = _working_dtype(xp, xp.result_type(delta, gram))
    return xp.astype(delta, working), xp.astype(gram, working), delta.dtype


def _working_dtype(xp, dtype):
    return dtype if xp.finfo(dtype).bits >= 32 else xp.float32


def _normalized(delta, gram):
    """Scale both to a largest entry of one, so that no square over- or underflows; also return the factor that squared norms have lost."""
    xp = namespace(delta)
    of_delta, of_gram = (float(xp.max(xp.abs(part))) or 1.0 for part in (delta, gram))
    return (delta / of_delta, gram / of_gram), of_gram * of_delta**2


def _descending_eigh(M):
    """Eigenvalues, descending and floored at zero, and eigenvectors of a symmetric positive semidefinite matrix."""
    xp = namespace(M)
    values, vectors = xp.linalg.eigh(M)
    return xp.flip(xp.clip(values, 0, None), axis=0), xp.flip(vectors, axis=1)


def _factors(B, delta, error: float, tail: float, dtype) -> LowRankFactors:
    xp = namespace(B)
    return LowRankFactors(xp.astype(B, dtype), xp.astype(B.T @ delta, dtype), error, tail)
