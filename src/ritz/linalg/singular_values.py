"""A few singular triplets of a matrix of any kind, by block Lanczos on the smaller Gram matrix and a projection that squares nothing.

Lanczos on ``A^H A`` (or ``A A^H``, whichever is smaller), applied as two products, spans the wanted right (left) singular vectors; it is in exact
arithmetic the block bidiagonalization of Golub, Luk and Overton, ACM Trans. Math. Softw. 7 (1981) 149-169. The triplets are then those of
``A V = Q (Q^H A V)`` with an orthonormal Q, so the singular values are as accurate as A, not as its Gram matrix, and both sides are orthonormal
even where singular values are zero. Residuals of both sides are computed from what is returned.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

from ritz.core import Result, choice, integer, like, positive, random_generator, warn_not_converged
from ritz.linalg.eigen import LANCZOS_BLOCK, PRODUCTS_PER_PAIR, ROUNDING_FLOOR
from ritz.linalg.lanczos import adjoint, orthonormal_complement, random_block, thick_restart_lanczos
from ritz.linalg.matrix_kinds import host_matrix, stored

DENSE_ENTRIES = 20_000_000  # up to which a matrix with one short side is decomposed whole
SHORT_SIDE = 500


@dataclass(frozen=True, eq=False, repr=False)
class SVDResult(Result):
    """Singular triplets, the most wanted first, with what is known about their accuracy.

    Attributes
    ----------
    U : array (m, k)
        Left singular vectors, orthonormal.
    singular_values : array (k,)
        Real, not negative.
    Vh : array (k, n)
        Right singular vectors, conjugate-transposed.
    residual_norms : array (k,)
        The larger of ``||A v - s u||`` and ``||A^H u - s v||``, recomputed from what is returned.
    converged : array (k,) of bool
        Whether the residual is within the tolerance.
    matvecs : int
        Products with A and with its adjoint.
    restarts : int
        Restarts of Lanczos; 0 for LAPACK.
    method : str
        "dense" or "lanczos".
    """

    U: np.ndarray
    singular_values: np.ndarray
    Vh: np.ndarray
    residual_norms: np.ndarray
    converged: np.ndarray
    matvecs: int
    restarts: int
    method: str


def svds(A, k: int = 6, *, which: str = "largest", tol: float = 1e-8, rng: np.random.Generator | int | None = None) -> SVDResult:
    """Return k singular triplets of a real or complex matrix.

    Parameters
    ----------
    A : array, sparse array, LinearOperator or torch tensor (m, n)
        An operator must know its adjoint (`rmatvec`). Computed in its dtype, at least float32; integers as float64.
    k : int
        How many, at most min(m, n).
    which : {"largest", "smallest"}
        Largest first, or smallest first (of all min(m, n) singular values, zeros included).
    tol : float
        A triplet has converged if its residual is at most ``tol`` times the largest singular value (estimated). What rounding allows, 16 eps, is
        always enough.
    rng : numpy.random.Generator or int, optional
        Where random blocks come from.

    Returns
    -------
    SVDResult
        Torch tensors if A is one, else NumPy arrays.

    Warns
    -----
    ConvergenceWarning
        If a triplet did not converge; the result flags which.

    Raises
    ------
    ValueError, TypeError
        If A is no finite matrix or an option is out of range.

    Notes
    -----
    An explicit matrix of at most 2 10^7 entries is decomposed whole by LAPACK if a side is at most 500, or the smallest triplets or more than a
    quarter of all are wanted. The smallest singular values of a larger matrix are hard for products alone (their Gram values crowd at zero): expect
    a warning where they are far below the largest. CUDA tensors are refused, not moved.

    Examples
    --------
    >>> A = scipy.sparse.diags_array(np.arange(3000.0), shape=(3000, 4000))
    >>> svds(A, 2, rng=0).singular_values
    array([2999., 2998.])
    """
    operand = host_matrix(A, "A")
    m, n = operand.shape
    k = integer(k, "k", at_least=1)
    if k > min(m, n):
        raise ValueError(f"k must be at most {min(m, n)}, the shorter side of A, got {k}")
    which = choice(which, "which", ("largest", "smallest"))
    dtype = np.result_type(operand.dtype or np.float64, np.float32)
    tol = max(positive(tol, "tol"), ROUNDING_FLOOR * float(np.finfo(dtype).eps))
    rng = random_generator(rng)
    entries = None if isinstance(operand, scipy.sparse.linalg.LinearOperator) else operand.astype(dtype, copy=False)
    products = _Products(scipy.sparse.linalg.aslinearoperator(operand if entries is None else entries), dtype)
    short, small = min(m, n) <= SHORT_SIDE, m * n <= DENSE_ENTRIES
    if entries is not None and small and (short or which == "smallest" or k > min(m, n) // 4):
        U, s, Vh = _dense(entries, k, which)
        restarts, scale, method = 0, float(np.linalg.norm(s, np.inf)) if which == "largest" else _norm(products, rng), "dense"
    else:
        U, s, Vh, restarts, scale = _gram_lanczos(products, k, which, tol, rng)
        method = "lanczos"
    return _finished(products, U, s, Vh, scale, tol, restarts, method, A)


class _Products:
    """Products with A and its adjoint, counted."""

    def __init__(self, operand: scipy.sparse.linalg.LinearOperator, dtype):
        self.operand, self.shape, self.dtype, self.count = operand, operand.shape, dtype, 0

    def forward(self, X: np.ndarray) -> np.ndarray:
        """``A X``."""
        self.count += X.shape[1]
        return np.asarray(self.operand.matmat(np.ascontiguousarray(X))).astype(self.dtype, copy=False)

    def backward(self, Y: np.ndarray) -> np.ndarray:
        """``A^H Y``."""
        self.count += Y.shape[1]
        return np.asarray(self.operand.rmatmat(np.ascontiguousarray(Y))).astype(self.dtype, copy=False)


def _dense(entries, k: int, which: str):
    U, s, Vh = np.linalg.svd(entries.toarray() if scipy.sparse.issparse(entries) else entries, full_matrices=False)
    order = np.arange(len(s))[:k] if which == "largest" else np.arange(len(s))[::-1][:k]
    return U[:, order], s[order], Vh[order]


def _gram_lanczos(A: _Products, k: int, which: str, tol: float, rng: np.random.Generator):
    """Triplets from the Gram matrix of the shorter side; the last factor is the norm of A."""
    wide = A.shape[0] < A.shape[1]
    there, back = (A.backward, A.forward) if wide else (A.forward, A.backward)
    start = random_block(min(A.shape), LANCZOS_BLOCK, A.dtype, rng)
    pairs = thick_restart_lanczos(
        lambda X: back(there(X)),
        start,
        k,
        which,
        tol=max(tol / 100, ROUNDING_FLOOR * float(np.finfo(A.dtype).eps)),
        basis_size=max(2 * k + 20, 3 * k),
        max_products=PRODUCTS_PER_PAIR * (k + 10),
        rng=rng,
    )
    Q, R = np.linalg.qr(there(pairs.vectors))
    left, s, right = np.linalg.svd(R)
    left, right = Q @ left, pairs.vectors @ adjoint(right)
    if which == "smallest":
        left, s, right = left[:, ::-1], s[::-1], right[:, ::-1]
    scale = float(np.sqrt(pairs.scale))
    if which == "smallest" and (zeros := int(np.sum(s <= tol / 10 * scale))):
        left[:, :zeros] = _null_vectors(lambda Y: there(back(Y)), left[:, zeros:], zeros, tol, rng)
    U, V = (right, left) if wide else (left, right)
    return U, s, adjoint(V), pairs.restarts, scale


def _null_vectors(apply, others: np.ndarray, count: int, tol: float, rng: np.random.Generator) -> np.ndarray:
    """Vectors of the longer side that belong to zero singular values: nothing of the shorter side leads to them."""
    start = random_block(len(others), LANCZOS_BLOCK, others.dtype, rng)
    floor = ROUNDING_FLOOR * float(np.finfo(others.dtype).eps)
    budget = PRODUCTS_PER_PAIR * (count + 10)
    found = thick_restart_lanczos(
        apply, start, count, "smallest", tol=max(tol * tol, floor), basis_size=max(2 * count + 20, 3 * count), max_products=budget, rng=rng
    )
    return orthonormal_complement(found.vectors, others, None, rng, 0.0)[1]


def _norm(A: _Products, rng: np.random.Generator) -> float:
    """The largest singular value, from a short Lanczos run."""
    start = random_block(A.shape[1], 1, A.dtype, rng)
    top = thick_restart_lanczos(lambda X: A.backward(A.forward(X)), start, 1, "largest", tol=1e-2, basis_size=20, max_products=20, rng=rng)
    return float(np.sqrt(max(top.values[0], 0.0)))


def _finished(A: _Products, U, s, Vh, scale, tol, restarts, method, reference) -> SVDResult:
    """Recompute both residuals, flag and warn, and make the entry of largest modulus of each right vector positive."""
    U, Vh = _canonical_signs(U, Vh)
    V = adjoint(Vh)
    of_left = np.linalg.norm(A.forward(V) - U * s, axis=0)
    of_right = np.linalg.norm(A.backward(U) - V * s, axis=0)
    residuals = np.maximum(of_left, of_right)
    converged = residuals <= tol * max(scale, float(np.max(s)))
    if not converged.all():
        warn_not_converged(
            f"svds ({method}): {int(np.sum(~converged))} of {len(s)} triplets did not reach tol = {tol:.1e} with {A.count} products; "
            f"the largest residual is {float(np.max(residuals)):.1e}, the limit {tol * scale:.1e}"
        )
    parts = (like(part, stored(reference)) for part in (U, s.copy(), Vh, residuals, converged))
    return SVDResult(*parts, matvecs=A.count, restarts=restarts, method=method)


def _canonical_signs(U: np.ndarray, Vh: np.ndarray):
    sizes = np.abs(Vh)
    first = np.argmax(sizes >= (1 - 1e-6) * np.max(sizes, axis=1, keepdims=True), axis=1)
    pivots = Vh[np.arange(len(Vh)), first]
    phases = pivots / np.abs(pivots)
    return U * phases, Vh * phases.conj()[:, None]
