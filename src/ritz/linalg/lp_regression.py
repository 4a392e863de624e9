"""Regression in the p-norm, on all rows or on a coreset.

Woodruff and Yasuda, "Sharper Bounds for l_p Sensitivity Sampling", ICML 2023, arXiv:2306.00732: rows sampled by scores of [A b] keep
``||A x - b||_p`` for all x, so that the solution on them is nearly the solution on all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.sparse

from ritz.core import Result, is_torch, like, positive, random_generator, real, to_numpy, warn_not_converged
from ritz.linalg.least_p_norm import least_p_norms
from ritz.linalg.leverage_scores import real_matrix
from ritz.linalg.row_sampling import RowSample, row_values, sample_rows, scaled_rows

MAX_ITERATIONS = 1000


@dataclass(frozen=True, eq=False, repr=False)
class LpRegression(Result):
    """The solution of a regression in the p-norm.

    Attributes
    ----------
    x : array (d,)
        The solution, of A's kind.
    objective : float
        ``||A x - b||_p`` over all rows.
    converged : bool
        Whether the duality gap of the problem that was solved, on the coreset if there is one, is within tol (p = 1: within 1e-7 at least).
    iterations : int
        Newton steps; for p = 1 those of the linear program.
    """

    x: np.ndarray
    objective: float
    converged: bool
    iterations: int


def lp_regression(
    A, b, p: float, *, coreset: int | str | RowSample | None = None, tol: float = 1e-8, rng: np.random.Generator | int | None = None
) -> LpRegression:
    """Minimize ``||A x - b||_p``.

    Parameters
    ----------
    A : array, sparse array or torch tensor (n, d)
        Real, of any rank. torch data are computed on the host.
    b : array or torch tensor (n,)
        Right-hand side, of A's kind.
    p : float
        At least 1; p = 1 is least absolute deviations.
    coreset : int, "auto" or RowSample, optional
        Solve on a sample of the rows only: of this expected size by Lewis weights of [A b], or the one given, which should be sampled with b.
    tol : float
        Relative accuracy of the norm, by the duality gap.
    rng : numpy.random.Generator or int, optional
        For the coreset.

    Returns
    -------
    LpRegression

    Raises
    ------
    TypeError, ValueError
        If an array is not finite or of the wrong shape, p below 1, or the coreset is none of these or has no row.

    Warns
    -----
    ConvergenceWarning
        If the duality gap stayed above tol.

    Notes
    -----
    With an orthonormal basis of [A b] this is the least p-norm over a hyperplane. For p > 1 it is solved by Newton's method, a damped form of
    iteratively reweighted least squares, with a line search, on the dual if p < 2: ``n d^2`` operations per step, 3 to 15 steps for p in [1.5, 6].
    It starts from least squares and needs no sequence of exponents on the way to p. p = 1 is a linear program with d + 1 rows, solved by HiGHS.
    Without full rank a solution with zeros is returned.

    Examples
    --------
    >>> A = np.column_stack([np.ones(5), np.arange(5.0)])
    >>> lp_regression(A, np.array([0.0, 1.0, 2.0, 3.0, 100.0]), 1).x.round(6) + 0.0  # the outlier does not matter
    array([0., 1.])
    """
    entries, p, tol, rng = real_matrix(A, "A"), real(p, "p", at_least=1), positive(tol, "tol"), random_generator(rng)
    b = row_values(b, "b", entries.shape[0])
    rows, right = _restricted(entries, b, p, coreset, rng)
    x, gap, iterations = _solve(rows.toarray() if scipy.sparse.issparse(rows) else rows, right, p, tol)
    converged = gap <= (max(tol, 1e-7) if p == 1 else tol)
    if not converged:
        warn_not_converged(f"lp_regression left a relative duality gap of {gap:.2g} after {iterations} iterations, tol is {tol:g}")
    objective = p_norm(entries @ x - b, p)
    return LpRegression(like(x, A).to(A.dtype) if is_torch(A) else x, objective, bool(converged), iterations)


def p_norm(v: np.ndarray, p: float) -> float:
    """``||v||_p``, scaled so that no power over- or underflows."""
    largest = float(np.max(np.abs(v)))
    return largest * float(np.sum((np.abs(v) / largest) ** p)) ** (1 / p) if largest > 0 else 0.0


def _restricted(entries, b: np.ndarray, p: float, coreset, rng) -> tuple[object, np.ndarray]:
    """The weighted rows of A and b to solve on."""
    if coreset is None:
        return entries, b
    if not isinstance(coreset, RowSample):
        if isinstance(coreset, bool) or not isinstance(coreset, int | np.integer | str):
            raise TypeError(f"coreset must be a size, 'auto', a RowSample or None, got {type(coreset).__name__}")
        if coreset != "auto" and (isinstance(coreset, str) or coreset < 1):
            raise ValueError(f"coreset must be a size of at least 1, 'auto', a RowSample or None, got {coreset!r}")
        coreset = sample_rows(entries, p, coreset, scores="lewis", b=b, rng=rng)
    indices, weights = to_numpy(coreset.indices), to_numpy(coreset.weights).astype(np.float64)
    if len(indices) == 0 or indices.max() >= len(b):
        raise ValueError(f"coreset must have rows, all of A, got {len(indices)}")
    kept = entries[indices]
    return scaled_rows(kept, weights), weights * b[indices]


def _solve(A: np.ndarray, b: np.ndarray, p: float, tol: float) -> tuple[np.ndarray, float, int]:
    """x, the relative gap and the number of steps: z with ``Q z = r`` up to sign, ``[A b] = Q R``, over the hyperplane where b counts once."""
    precision, A = np.finfo(A.dtype).eps, A.astype(np.float64, copy=False)
    norms = np.linalg.norm(A, axis=0)
    norms[norms == 0] = 1.0
    Q, R, order = scipy.linalg.qr(A / norms, mode="economic", pivoting=True, check_finite=False)
    diagonal = np.abs(np.diag(R))
    rank = int(np.sum(diagonal > max(A.shape) * precision * diagonal[0])) if diagonal[0] > 0 else 0
    Q = Q[:, :rank]
    coordinates = Q.T @ b
    residual = b - Q @ coordinates
    correction = Q.T @ residual
    coordinates, residual = coordinates + correction, residual - Q @ correction
    size, gap, iterations = float(np.linalg.norm(residual)), 0.0, 0
    if size > 10 * math.sqrt(len(b)) * np.finfo(b.dtype).eps * float(np.linalg.norm(b)):
        basis, normal = np.column_stack([Q, residual / size]), np.zeros((1, rank + 1))
        normal[0, -1] = 1.0  # b - A x = Q (coordinates - y) + residual: the last coordinate is fixed, the others are free
        found = least_p_norms(basis, normal, p, tol, MAX_ITERATIONS)
        coordinates = coordinates - size * found.z[0, :-1]
        gap, iterations = float(found.gaps[0]), int(found.iterations[0])
    x = np.zeros(A.shape[1])
    x[order[:rank]] = scipy.linalg.solve_triangular(R[:rank, :rank], coordinates)
    return x / norms, gap, iterations
