"""Leading singular triplets and eigenpairs from a few products with random blocks, and from one pass over a stream of rows.

Halko, Martinsson and Tropp, "Finding Structure with Randomness: Probabilistic Algorithms for Constructing Approximate Matrix Decompositions",
SIAM Review 53 (2011), arXiv:0909.4061: algorithms 4.3-4.4 (range finder with power iterations) and 5.1, 5.3 (projection).
The default keeps all blocks of the iteration, a Krylov space, as Halko, Martinsson, Shkolnisky and Tygert, "An Algorithm for the Principal Component
Analysis of Large Data Sets", SIAM J. Sci. Comput. 33 (2011), arXiv:1007.5510, and Musco and Musco, arXiv:1504.05477: half the products for the same
accuracy. The single pass over row blocks is that of Yu, Gu, Li, Liu and Li, "Single-Pass PCA of Large High-Dimensional Data", arXiv:1704.07669.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ritz.core import Result, integer, random_generator
from ritz.linalg.products import Products, adjoint, as_products
from ritz.linalg.subspaces import krylov_space, power_space, tall_svd

KRYLOV_DEPTH = 2  # as accurate as four power iterations, with 6 products of blocks instead of 10
PROBES = 10


@dataclass(frozen=True, eq=False, repr=False)
class SVDApproximation(Result):
    """Leading singular triplets: ``A ~ U diag(s) Vh``.

    Attributes
    ----------
    U : array (m, k)
        Left singular vectors, orthonormal columns.
    s : array (k,)
        Singular values, descending, real.
    Vh : array (k, n)
        Right singular vectors, orthonormal rows.
    residual_norm : float
        ``||A - U diag(s) Vh||_F``. From `randomized_svd`: exact for explicit matrices while it is above ``eps^(1/4) ||A||_F``; else
        estimated, without bias in its square, from products with 10 Gaussian probes (standard error 22 % where one direction dominates, less where
        many remain).
        From `StreamingSVD`: exact up to ``sqrt(eps) ||A||_F``.
    method : str
        What was done.
    """

    U: np.ndarray
    s: np.ndarray
    Vh: np.ndarray
    residual_norm: float
    method: str


@dataclass(frozen=True, eq=False, repr=False)
class EigenApproximation(Result):
    """Leading eigenpairs of a Hermitian matrix: ``A ~ V diag(eigenvalues) V^H``.

    Attributes
    ----------
    eigenvalues : array (k,)
        Real, by descending magnitude.
    eigenvectors : array (n, k)
        V, orthonormal columns.
    residual_norm : float
        ``||A - V diag(eigenvalues) V^H||_F``, exact or estimated as in `SVDApproximation`; always estimated by `nystrom`.
    method : str
        What was done.
    """

    eigenvalues: np.ndarray
    eigenvectors: np.ndarray
    residual_norm: float
    method: str


def randomized_svd(
    A, k: int, *, oversampling: int = 10, power_iterations: int | str = "auto", rng: np.random.Generator | int | None = None
) -> SVDApproximation:
    """Return the k leading singular triplets of a matrix, nearly, from few products with blocks of random vectors.

    Parameters
    ----------
    A : array, sparse array, LinearOperator or torch tensor (m, n)
        Real or complex, single or double precision.
    k : int
        How many triplets, at most ``min(m, n)``.
    oversampling : int
        Columns of the random block beyond k.
    power_iterations : int or "auto"
        - an integer q: Halko et al.'s randomized subspace iteration. The error is that of a spectrum ``sigma^(2 q + 1)``; q = 0 suffices for
          fast decay.
        - "auto": the block Krylov space of depth 2 of the same iteration, as accurate as about q = 4.
    rng : numpy.random.Generator or int, optional
        Where the random block comes from (drawn with NumPy for torch as well).

    Returns
    -------
    SVDApproximation
        Of A's kind, dtype and device. Singular values never exceed the true ones, up to rounding. Where the space would have as many dimensions
        as A's shorter side, the decomposition is exact, and the method says so.

    Raises
    ------
    TypeError, ValueError
        If A is no finite matrix (an operator must define both products), or an option is out of range.

    Notes
    -----
    With l = k + oversampling: ``2 q + 2`` products of A or A^H with l columns (6 for "auto"), possibly one with 10 for the residual, and
    ``O((m + n) l^2)`` further operations. The iteration runs on the shorter side.

    Examples
    --------
    >>> A = np.diag([4.0, 3.0, 0.1, 0.0])
    >>> found = randomized_svd(A, 2, oversampling=1, rng=0)
    >>> np.round(found.s, 6)
    array([4., 3.])
    """
    A = as_products(A, "A")
    k, oversampling, iterations = _options(A, k, oversampling, power_iterations)
    rng = random_generator(rng)
    tall = A if A.shape[0] >= A.shape[1] else A.adjoint()
    Z, images, method = _space(tall, tall.rmatmat, k + oversampling, iterations, KRYLOV_DEPTH, rng)
    left, s, inner = tall_svd(images, k)
    right = Z @ adjoint(inner)
    U, V = (left, right) if tall is A else (right, left)
    return SVDApproximation(U, s, adjoint(V), _projection_residual(A, U, s, adjoint(V), rng), method)


def randomized_eigh(
    A, k: int, *, oversampling: int = 10, power_iterations: int | str = "auto", rng: np.random.Generator | int | None = None
) -> EigenApproximation:
    """Return the k eigenpairs of largest magnitude of a Hermitian matrix, nearly, from few products with blocks of random vectors.

    Halko et al.'s algorithm 5.3: the matrix is compressed to the space from both sides.

    Parameters
    ----------
    A : array, sparse array, LinearOperator or torch tensor (n, n)
        Symmetric or Hermitian, possibly indefinite; checked with two random vectors.
    k : int
        How many pairs, at most n.
    oversampling : int
        Columns of the random block beyond k.
    power_iterations : int or "auto"
        An integer q: the range of ``A^(2 q + 1) Omega``. "auto": the block Krylov space of as many products as q = 2.
    rng : numpy.random.Generator or int, optional
        Where the random block comes from.

    Returns
    -------
    EigenApproximation
        Ritz pairs of A's kind, dtype and device; exact where the space would have n dimensions.

    Raises
    ------
    TypeError, ValueError
        If A is no finite Hermitian matrix, or an option is out of range.

    Notes
    -----
    ``2 q + 2`` products with ``k + oversampling`` columns (6 for "auto"). For a positive semidefinite matrix that can be multiplied by only once, see
    `nystrom`.

    Examples
    --------
    >>> randomized_eigh(np.diag([1.0, -5.0, 3.0]), 2, rng=0).eigenvalues
    array([-5.,  3.])
    """
    A = as_products(A, "A", hermitian=True)
    k, oversampling, iterations = _options(A, k, oversampling, power_iterations)
    rng = random_generator(rng)
    doubled = None if iterations is None else 2 * iterations
    Z, images, method = _space(A, _identity, k + oversampling, doubled, 2 * KRYLOV_DEPTH, rng)
    T = adjoint(Z) @ images
    values, directions = A.xp.linalg.eigh((T + adjoint(T)) / 2)
    order = A.xp.argsort(A.xp.abs(values), descending=True)[:k]
    values, vectors = values[order], Z @ directions[:, order]
    return EigenApproximation(values, vectors, _projection_residual(A, vectors, values, adjoint(vectors), rng), method)


class StreamingSVD:
    """Leading singular triplets of a matrix that passes by once, in blocks of rows.

    For every block the products ``G = A Omega`` (kept, m x l) and ``H = A^H G`` (accumulated, n x l) with one random Omega of
    ``l = k + oversampling`` columns; with ``G = Q R``, ``Q^H A = R^-H H^H``. In exact arithmetic this
    equals Halko et al.'s algorithm 5.1 without power iterations.

    Parameters
    ----------
    k : int
        How many triplets.
    oversampling : int
        Columns of the random block beyond k.
    rng : numpy.random.Generator or int, optional
        Where the random block comes from.

    Notes
    -----
    Memory ``(m + n) l`` numbers. Since H has the squared singular values, those below ``sqrt(eps)`` of the largest are not resolved and come out
    as zero.

    Examples
    --------
    >>> stream = StreamingSVD(2, oversampling=3, rng=0)
    >>> A = np.outer(np.arange(6.0), [3.0, 4.0, 0.0])
    >>> for rows in (A[:2], A[2:]):
    ...     _ = stream.update(rows)
    >>> bool(np.allclose(stream.result().s, [np.linalg.norm(A), 0.0]))
    True
    """

    def __init__(self, k: int, *, oversampling: int = 10, rng: np.random.Generator | int | None = None):
        self.k = integer(k, "k", at_least=1)
        self.oversampling = integer(oversampling, "oversampling", at_least=0)
        self._rng = random_generator(rng)
        self._blocks: list = []
        self._omega = self._H = self._first = None
        self._squares = 0.0

    def update(self, rows) -> StreamingSVD:
        """Take in a block of rows (b, n): a dense or sparse array or torch tensor, of one number of columns, kind, dtype and device throughout.

        Raises
        ------
        TypeError, ValueError
            If it is no finite matrix, or does not fit the blocks before. What came before stays as it was.
        """
        block = as_products(rows, "rows")
        if block.entries is None:
            raise TypeError("rows must be an explicit matrix, got an operator")
        if self._first is None:
            if block.shape[1] < self.k:
                raise ValueError(f"rows must have at least k = {self.k} columns, got shape {block.shape}")
            self._omega = block.gaussian(self._rng, block.shape[1], min(self.k + self.oversampling, block.shape[1]))
            self._H = block.xp.zeros_like(self._omega)
            self._first = block
        self._check_fits(block)
        G = block.matmat(self._omega)
        self._H = self._H + block.rmatmat(G)
        self._blocks.append(G)
        self._squares += block.squared_norm
        return self

    def result(self) -> SVDApproximation:
        """Return the triplets of all rows so far; more rows may follow.

        Raises
        ------
        ValueError
            If fewer than k rows have come.
        """
        rows = sum(G.shape[0] for G in self._blocks)
        if rows < self.k:
            raise ValueError(f"rows must be at least k = {self.k} in number before a result, got {rows}")
        xp = self._first.xp
        Q, R = xp.linalg.qr(xp.concat(self._blocks, axis=0))
        left, sketched, right = xp.linalg.svd(R, full_matrices=False)
        floor = math.sqrt(self._first.eps) * sketched[0]
        inverse = xp.where(sketched > floor, 1 / xp.where(sketched > floor, sketched, xp.ones_like(sketched)), xp.zeros_like(sketched))
        B_H = (self._H @ adjoint(right)) * xp.astype(inverse, self._H.dtype)[None, :]
        V, s, inner = tall_svd(B_H, self.k)
        residual = math.sqrt(max(self._squares - float(xp.sum(s**2)), 0.0))
        return SVDApproximation(Q @ (left @ adjoint(inner)), s, adjoint(V), residual, f"single pass, {rows} rows in {len(self._blocks)} blocks")

    def _check_fits(self, block: Products) -> None:
        first = self._first
        if block.shape[1] != first.shape[1]:
            raise ValueError(f"rows must have {first.shape[1]} columns like the first block, got shape {block.shape}")
        if (block.xp, block.dtype, block.device) != (first.xp, first.dtype, first.device):
            raise TypeError(f"rows must be of the kind, dtype and device of the first block, {first.dtype} on {first.device}, got {block.dtype}")


def probed_residual(A: Products, left, middle, right, rng: np.random.Generator) -> float:
    """Estimate ``||A - left diag(middle) right||_F`` from products with Gaussian probes; unbiased in its square."""
    probes = A.gaussian(rng, A.shape[1], PROBES)
    missing = A.matmat(probes) - left @ (A.xp.astype(middle, A.dtype)[:, None] * (right @ probes))
    size = float(A.xp.max(A.xp.abs(missing))) or 1.0
    return size * float(A.xp.linalg.matrix_norm(missing / size)) / math.sqrt(PROBES)


def _projection_residual(A: Products, left, middle, right, rng: np.random.Generator) -> float:
    """The residual of a projection of A, for which it is ``||A||_F^2 - |middle|^2``: exact where A's entries are at hand and no digits cancel."""
    if A.entries is not None:
        total = A.squared_norm
        rest = total - float(A.xp.linalg.vector_norm(middle)) ** 2
        if rest > math.sqrt(A.eps) * total:
            return math.sqrt(rest)
    return probed_residual(A, left, middle, right, rng)


def _space(A: Products, advance: Callable, columns: int, iterations: int | None, krylov_depth: int, rng: np.random.Generator):
    """A space on A's right, shorter side, its images, and its name: Krylov where `iterations` is None, everything where that is no larger."""
    n = A.shape[1]
    if columns * (1 if iterations is not None else krylov_depth + 1) >= n:
        everything = A.asarray(np.eye(n))
        return everything, A.matmat(everything), "exact"
    start = A.rmatmat(A.gaussian(rng, A.shape[0], columns))
    if iterations is None:
        return *krylov_space(A, advance, start, krylov_depth), f"block Krylov space, {krylov_depth + 1} blocks"
    return *power_space(A, advance, start, iterations), f"subspace iteration, {iterations} advances"


def rank_within(A: Products, k: int) -> int:
    """Check a rank against the shorter side of the matrix."""
    k = integer(k, "k", at_least=1)
    if k > min(A.shape):
        raise ValueError(f"k must be at most {min(A.shape)}, the shorter side of {A.name} of shape {tuple(A.shape)}, got {k}")
    return k


def _options(A: Products, k: int, oversampling: int, power_iterations: int | str) -> tuple[int, int, int | None]:
    k = rank_within(A, k)
    oversampling = integer(oversampling, "oversampling", at_least=0)
    if isinstance(power_iterations, str):
        if power_iterations != "auto":
            raise ValueError(f"power_iterations must be 'auto' or an integer, got {power_iterations!r}")
        return k, oversampling, None
    return k, oversampling, integer(power_iterations, "power_iterations", at_least=0)


def _identity(images):
    return images
