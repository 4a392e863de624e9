"""Direct solutions: LAPACK by the structure of a dense matrix, SuperLU of a sparse one, graph Laplacians by grounding, all refined.

A factorization is a function that solves for columns (n, k); its answer is refined by residuals while that helps (Wilkinson; Higham, "Accuracy and
Stability of Numerical Algorithms", 2nd edition, SIAM 2002, chapter 12).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg
from scipy.sparse.csgraph import connected_components, reverse_cuthill_mckee

MAX_REFINEMENTS = 3
ZERO_ROW_SUM = 1e-12  # of a graph Laplacian, relative to its diagonal

Solver = Callable[[np.ndarray], np.ndarray]


class Unsuitable(ArithmeticError):
    """A route cannot solve this system; the message says why."""


def dense_factorization(A: np.ndarray, *, hermitian: bool) -> tuple[Solver, str]:
    """Factor a dense square matrix by its structure; return the solver and the factorization's name.

    Raises
    ------
    Unsuitable
        If A is singular to working precision, by LAPACK's estimate of its condition number.
    """
    if _vanishes_above_diagonal(A):
        return _triangular(A, lower=True), "forward substitution"
    if _vanishes_above_diagonal(A.T):
        return _triangular(A, lower=False), "back substitution"
    if hermitian and np.all(np.diagonal(A).real > 0):
        try:
            factor = scipy.linalg.cho_factor(A, lower=True, check_finite=False)
        except np.linalg.LinAlgError:
            pass
        else:
            _check_condition(A, factor[0], "pocon", uplo="L")
            return (lambda b: scipy.linalg.cho_solve(factor, b, check_finite=False)), "Cholesky"
    (getrf,) = scipy.linalg.get_lapack_funcs(("getrf",), (A,))
    lu, pivots, info = getrf(A)
    if info > 0:
        raise Unsuitable("A is singular: a pivot is zero")
    _check_condition(A, lu, "gecon")
    return (lambda b: scipy.linalg.lu_solve((lu, pivots), b, check_finite=False)), "LU"


def least_norm_solution(A: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, int]:
    """The least-squares solution of least norm, by the singular value decomposition, and the rank."""
    x, _, rank, _ = scipy.linalg.lstsq(A, b, lapack_driver="gelsd", check_finite=False)
    return x, int(rank)


def sparse_factorization(A: scipy.sparse.csr_array, *, pivoting: bool) -> Solver:
    """Factor a sparse square matrix by SuperLU: minimum degree on A + A^T with weak pivoting, or on columns with partial pivoting.

    Raises
    ------
    Unsuitable
        If a pivot is exactly zero, or memory does not suffice.
    """
    weak = {"permc_spec": "MMD_AT_PLUS_A", "diag_pivot_thresh": 0.01, "options": {"SymmetricMode": True}}
    A = scipy.sparse.csc_array(A).astype(np.result_type(A.dtype, np.float64), copy=False)
    try:
        factors = scipy.sparse.linalg.splu(A, **({} if pivoting else weak))
    except (RuntimeError, MemoryError) as error:
        raise Unsuitable(f"SuperLU: {error}") from error

    def solve(b):
        if np.iscomplexobj(b) and A.dtype.kind != "c":
            return factors.solve(np.ascontiguousarray(b.real)) + 1j * factors.solve(np.ascontiguousarray(b.imag))
        return factors.solve(np.ascontiguousarray(b, dtype=A.dtype))

    return solve


def refined(solve: Solver, residual: Callable[[np.ndarray], np.ndarray], b: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Solve, and correct by the solution for the residual while one exceeds its target and the correction helps."""
    x = solve(b)
    r = residual(x)
    for _ in range(MAX_REFINEMENTS):
        norms = np.linalg.norm(r, axis=0)
        if np.all(norms <= targets) or not np.isfinite(norms).all():
            break
        corrected = x + solve(r)
        r = residual(corrected)
        if not np.any(np.linalg.norm(r, axis=0) < 0.5 * norms):
            break
        x = corrected
    return x


def grounded_components(A: scipy.sparse.csr_array) -> np.ndarray | None:
    """The component (n,) of each row if A is the Laplacian of a graph (zero row sums, no positive entry off the diagonal), else None."""
    diagonal = A.diagonal()
    if A.dtype.kind == "c" or np.any(diagonal < 0) or np.any(np.abs(A.sum(axis=1)) > ZERO_ROW_SUM * np.max(diagonal, initial=0.0)):
        return None
    rows = np.repeat(np.arange(A.shape[0]), np.diff(A.indptr))
    if np.any(A.data[A.indices != rows] > 0):
        return None
    return connected_components(A, directed=False)[1]


def solve_grounded(A: scipy.sparse.csr_array, component: np.ndarray, b: np.ndarray, solve_definite: Callable) -> np.ndarray:
    """The least-squares solution of least norm with a graph Laplacian.

    b is projected on the range (mean zero in each component), the potential of one node of each component is set to zero, `solve_definite(A, b)`
    solves for the others, and the mean of each component is taken out.
    """
    grounded = np.zeros(len(component), dtype=bool)
    grounded[np.unique(component, return_index=True)[1]] = True
    free = np.flatnonzero(~grounded)
    x = np.zeros(b.shape, dtype=np.result_type(A.dtype, b.dtype))
    if len(free):
        x[free] = solve_definite(A[free][:, free], (b - outside_range(component, b))[free])
    return x - outside_range(component, x)


def outside_range(component: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The part of columns (n, k) that a graph's Laplacian cannot reach: their means over the components."""
    indicator = scipy.sparse.csr_array((np.ones(len(component)), (component, np.arange(len(component)))))
    return indicator.T @ ((indicator @ columns) / np.bincount(component)[:, None])


def factorization_cost(A: scipy.sparse.csr_array) -> tuple[float, float]:
    """Estimate the seconds and the bytes of a sparse factorization from the width of the graph.

    The rms width w of the envelope in reverse Cuthill-McKee order is the size of the graph's separators; factoring the largest one costs about w^3
    operations and w^2 numbers, in two and three dimensions alike, and a narrow band never more than n w^2 and n w.
    """
    n, width = A.shape[0], float(np.sqrt(np.mean(envelope(A) ** 2)))
    words = 2 if A.dtype.kind == "c" else 1
    seconds = words * (1.5e-8 * min(width**3, n * width**2) + 0.7e-6 * A.nnz)
    return seconds, words * (12 * (6 * A.nnz + min(25 * width**2, 2 * n * width)))


def envelope(A: scipy.sparse.csr_array) -> np.ndarray:
    """How far each row (n,) reaches to the left of its diagonal in reverse Cuthill-McKee order."""
    rank = np.empty(A.shape[0], np.int64)
    rank[reverse_cuthill_mckee(scipy.sparse.csr_matrix(A), symmetric_mode=True)] = np.arange(A.shape[0])
    stored = np.diff(A.indptr) > 0
    first = rank.copy()
    first[stored] = np.minimum(rank[stored], np.minimum.reduceat(rank[A.indices], A.indptr[:-1][stored]))
    return (rank - first).astype(np.float64)


def _vanishes_above_diagonal(A: np.ndarray) -> bool:
    """Whether A is lower triangular; the first row tells of most matrices that they are not."""
    return not A[0, 1:].any() and not np.triu(A, 1).any()


def _triangular(A: np.ndarray, *, lower: bool) -> Solver:
    diagonal = np.abs(np.diagonal(A))
    if diagonal.min() <= np.finfo(A.dtype).eps * diagonal.max() * 1e-3:
        raise Unsuitable("A is triangular with an entry near zero on its diagonal")
    return lambda b: scipy.linalg.solve_triangular(A, b, lower=lower, check_finite=False)


def _check_condition(A: np.ndarray, factor: np.ndarray, routine: str, **options) -> None:
    """Refuse a matrix whose reciprocal condition number, estimated by LAPACK, is below the rounding unit."""
    (estimate,) = scipy.linalg.get_lapack_funcs((routine,), (factor,))
    reciprocal, _ = estimate(factor, np.linalg.norm(A, 1), **options)
    if not reciprocal > np.finfo(A.dtype).eps:
        raise Unsuitable(f"A is singular to working precision: its reciprocal condition number is about {reciprocal:.1e}")
