"""`lstsq(A, b)` for those who do not want to choose: dense problems by a pivoted QR factorization, others by LSMR, each answer checked."""

from __future__ import annotations

import warnings

import numpy as np
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg

from ritz.core import ConvergenceWarning, array, choice, integer, is_torch, like, positive, real, to_numpy, warn_not_converged
from ritz.linalg.krylov_system import check_kinds, check_right_side
from ritz.linalg.least_squares import lsmr
from ritz.linalg.matrix_kinds import checked_matrix, on_host
from ritz.linalg.solve import Solution
from ritz.linalg.structured_operators import DiagonalOperator

METHODS = ("auto", "qr", "svd", "lsmr")
DENSE_ENTRIES = 5_000_000  # up to which a sparse matrix is solved as a dense one, where its shorter side is at most
DENSE_SIDE = 300
UNEVEN_COLUMNS = 10.0  # ratio of column norms from which LSMR gets them scaled


def lstsq(A, b, *, damping: float = 0.0, method: str = "auto", tol: float = 1e-8, max_iterations: int | None = None) -> Solution:
    """Minimize ``||b - A x||^2 + damping^2 ||x||^2`` for a matrix of any kind, shape and rank.

    Parameters
    ----------
    A : array, sparse array, LinearOperator or torch tensor (m, n)
        Any matrix; an operator must know its adjoint. torch data are computed on the host.
    b : array (m,) or (m, k)
        Right-hand sides, torch if A is.
    damping : float
        Weight of ``||x||`` (Tikhonov regularization).
    method : {"auto", "qr", "svd", "lsmr"}
        QR with column pivoting and singular value decomposition (LAPACK, dense, least norm) or LSMR (products only). "auto" takes QR for dense
        matrices and small sparse ones, LSMR for the rest, with the columns of a tall one scaled to unit norm where their norms differ by more
        than ten times.
    tol : float
        Converged means ``||A^H r - damping^2 x|| <= tol ||A||_F (||r|| + damping ||x||)`` or ``||r|| <= tol ||b||``, where r = b - A x.
    max_iterations : int, optional
        Steps of LSMR, by default ``10 max(m, n)``.

    Returns
    -------
    Solution
        `residual_norms` are ``||b - A x|| / ||b||``: of a least-squares problem they need not be small.

    Warns
    -----
    ConvergenceWarning
        If the answer is no least-squares solution to the tolerance.

    Raises
    ------
    ValueError, TypeError
        If shapes do not fit, entries are not finite, torch meets NumPy, or the method needs entries that an operator does not show.

    Notes
    -----
    Of all solutions QR and SVD return the one of least norm; so does LSMR where the columns are not scaled.

    Examples
    --------
    >>> found = lstsq(np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]]), np.array([1.0, 2.0, 3.0]))
    >>> found.x.round(6), found.method
    (array([1., 1.]), 'qr')
    """
    method = choice(method, "method", METHODS)
    A, right = checked_matrix(A, "A"), array(b, "b", ndim=(1, 2), allow_complex=True)
    check_right_side(A, right)
    check_kinds(A, "A", right)
    damping, tol = real(damping, "damping", at_least=0), positive(tol, "tol")
    limit = None if max_iterations is None else integer(max_iterations, "max_iterations", at_least=1)
    A = on_host(A)
    columns = to_numpy(right).reshape(right.shape[0], -1)
    chosen, why = _choose(A) if method == "auto" else (method, "asked for")
    if chosen == "lsmr":
        x, steps, why = _by_lsmr(A, columns, damping, tol, limit, why)
    else:
        x, steps, why = _by_lapack(A, columns, damping, chosen, why)
    return _judged(A, columns, x, damping, tol, chosen, why, steps, right)


def _choose(A) -> tuple[str, str]:
    m, n = A.shape
    if isinstance(A, scipy.sparse.linalg.LinearOperator):
        return "lsmr", "known by its products"
    if not scipy.sparse.issparse(A):
        return "qr", f"a dense {m} x {n} matrix"
    if m * n <= DENSE_ENTRIES and min(m, n) <= DENSE_SIDE:
        return "qr", f"a sparse {m} x {n} matrix, small enough to be solved as a dense one"
    return "lsmr", f"a sparse {m} x {n} matrix"


def _by_lapack(A, b: np.ndarray, damping: float, method: str, why: str):
    if isinstance(A, scipy.sparse.linalg.LinearOperator):
        raise ValueError(f"method '{method}' needs an explicit matrix, got {type(A).__name__}")
    A = A.toarray() if scipy.sparse.issparse(A) else A
    n = A.shape[1]
    if damping > 0:
        A, b = np.vstack([A, damping * np.eye(n, dtype=A.dtype)]), np.vstack([b, np.zeros((n, b.shape[1]), dtype=b.dtype)])
    driver = "gelsy" if method == "qr" else "gelsd"
    x, _, rank, _ = scipy.linalg.lstsq(A, b, cond=max(A.shape) * np.finfo(A.dtype).eps, lapack_driver=driver, check_finite=False)
    return x, 0, f"{why}; rank {int(rank)}" + (", least norm" if rank < n else "")


def _by_lsmr(A, b: np.ndarray, damping: float, tol: float, limit: int | None, why: str):
    scaling = None
    if scipy.sparse.issparse(A) and damping == 0 and A.shape[0] >= A.shape[1]:  # of a wide matrix's many solutions the one of least norm is wanted
        norms = np.sqrt(np.asarray(abs(A).power(2).sum(axis=0)).ravel())
        if norms[norms > 0].size and norms.max() > UNEVEN_COLUMNS * norms[norms > 0].min():
            scaling, why = DiagonalOperator(np.where(norms > 0, 1 / np.where(norms > 0, norms, 1), 1.0)), f"{why}; columns scaled"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        # LSMR's own test allows for ||A|| ||x||, which may be far larger than ||b||
        found = lsmr(A, b, damping=damping, preconditioner=scaling, tol=tol / 1000, max_iterations=limit)
    return found.x, int(np.max(found.iterations)), why


def _judged(A, b: np.ndarray, x: np.ndarray, damping: float, tol: float, method: str, why: str, steps: int, reference) -> Solution:
    """Test what was found against the normal equations, and give it the kind of b."""
    operator = scipy.sparse.linalg.aslinearoperator(A)
    r = b - operator.matmat(x)
    norms, sizes, lengths = (np.linalg.norm(columns, axis=0) for columns in (r, b, x))
    gradient = np.linalg.norm(operator.rmatmat(r) - damping**2 * x, axis=0)
    scale = _frobenius(A) if not isinstance(A, scipy.sparse.linalg.LinearOperator) else _norm_of_operator(operator)
    eps = float(np.finfo(x.dtype).eps)
    floor = 16 * eps * scale * (scale * lengths + sizes)  # what rounding leaves of A^H r
    converged = (gradient <= tol * scale * (norms + damping * lengths) + floor) | (norms <= tol * sizes)
    if not converged.all():
        worst = float(np.max(gradient / np.maximum(scale * norms, np.finfo(float).tiny)))
        warn_not_converged(f"lstsq ({method}): ||A^H r|| is {worst:.1e} of ||A|| ||r||, asked for {tol:.1e}, after {steps} steps; {why}")
    relative = np.where(sizes > 0, norms / np.where(sizes > 0, sizes, 1), 0.0)
    x = like(np.ascontiguousarray(x), reference) if is_torch(reference) else x
    if reference.ndim == 1:
        return Solution(x[:, 0], bool(converged[0]), float(relative[0]), method, why, (), steps)
    return Solution(x, like(converged, reference), like(relative, reference), method, why, (), steps)


def _frobenius(A) -> float:
    return float(np.linalg.norm(A.data if scipy.sparse.issparse(A) else A))


def _norm_of_operator(operator: scipy.sparse.linalg.LinearOperator) -> float:
    """A lower bound of the Frobenius norm, near it on average: the size of the image of random vectors."""
    probes = np.random.default_rng(0).standard_normal((operator.shape[1], 8))
    return float(np.linalg.norm(operator.matmat(probes)) / np.sqrt(8))
