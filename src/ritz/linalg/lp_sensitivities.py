"""Sensitivities: how much a single row can matter for the p-norm of ``A x``.

Woodruff and Yasuda, "Sharper Bounds for l_p Sensitivity Sampling", ICML 2023, arXiv:2306.00732:
``sigma_i = max_x |a_i^T x|^p / ||A x||_p^p``, one over the least ``||A x||_p^p`` with ``a_i^T x = 1``. They depend on A's range only;
for p = 2 they are the leverage scores tau_i. Bounds: ``tau_i^(p / 2)`` for p <= 2 and ``n^(p / 2 - 1) tau_i^(p / 2)`` for p >= 2.
The group estimate is that of Padmanabhan, Woodruff and Zhang, "Computing Approximate l_p Sensitivities", NeurIPS 2023, arXiv:2311.04158.
"""

from __future__ import annotations

import math

import numpy as np

from ritz.core import choice, is_torch, like, positive, random_generator, real, to_numpy, warn_not_converged
from ritz.linalg.least_p_norm import least_p_norms
from ritz.linalg.leverage_scores import orthonormal_basis, real_matrix

MAX_ITERATIONS = 1000
GROUPS, DRAWS = 1000, 3


def lp_sensitivities(A, p: float, *, method: str = "exact", rows=None, tol: float = 1e-6, rng: np.random.Generator | int | None = None):
    """Return the l_p sensitivities of the rows of A.

    Parameters
    ----------
    A : array, sparse array or torch tensor (n, d)
        Real, of any rank; a zero row has sensitivity 0. torch data are computed on the host.
    p : float
        At least 1.
    method : {"exact", "bound", "group"}
        - "exact": one convex problem per row: for p > 1 Newton's method with a duality gap, on all of numba's threads; for p = 1 a linear program
          (HiGHS); for p = 2 leverage scores.
        - "bound": the upper bounds by leverage scores, at the price of one QR factorization.
        - "group": rows of similar leverage are put into about 1000 groups; the sensitivity of a combination of a group's rows with random signs
          stands for all its members, the largest of three draws, and the upper bound where that is less. A draw is as large as a member's
          sensitivity with probability 1/2 at least; it is too large by a power ``p / 2`` or so of the group's size. Exact for up to 1000 rows.
    rows : array of int (k,), optional
        Whose sensitivities are wanted; all by default.
    tol : float
        Relative accuracy of each problem, by its duality gap.
    rng : numpy.random.Generator or int, optional
        For the signs of "group".

    Returns
    -------
    array or torch tensor (k,)
        Between 0 and 1, float64 (torch: of A's dtype). They sum to at most ``rank`` for p <= 2 and ``rank^(p / 2)`` for p >= 2, often far less.

    Raises
    ------
    TypeError, ValueError
        If A is no finite real matrix, is empty, p below 1, or a row does not exist.

    Warns
    -----
    ConvergenceWarning
        If a duality gap stayed above tol.

    Notes
    -----
    Cost of "exact": a few steps per row (3 to 15; up to a hundred for p near 1), each ``n d^2 / 2`` multiply-adds, and n d numbers of memory.

    Examples
    --------
    >>> A = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 5.0]])  # one column per row: shares of the column's p-norm
    >>> lp_sensitivities(A, 3).round(6)
    array([0.111111, 0.888889, 1.      ])
    """
    entries, p = real_matrix(A, "A"), real(p, "p", at_least=1)
    method, tol, rng = choice(method, "method", ("exact", "bound", "group")), positive(tol, "tol"), random_generator(rng)
    rows = np.arange(entries.shape[0]) if rows is None else _row_numbers(rows, entries.shape[0])
    scores, gap = _scores(orthonormal_basis(entries), p, method, rows, tol, rng)
    if gap > tol:
        warn_not_converged(f"lp_sensitivities left a relative duality gap of {gap:.2g} in the worst row, tol is {tol:g}")
    return like(scores, A).to(A.dtype) if is_torch(A) else scores


def basis_sensitivities(Q: np.ndarray, p: float, tol: float, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Sensitivities of an orthonormal basis and the worst gap: exact for up to ten thousand rows, by groups beyond."""
    return _scores(Q, p, "exact" if len(Q) <= 10 * GROUPS else "group", np.arange(len(Q)), tol, rng)


def sensitivity_bounds(leverage: np.ndarray, n: int, p: float) -> np.ndarray:
    """The upper bounds by leverage scores."""
    return np.minimum(leverage ** (p / 2) * n ** max(p / 2 - 1, 0.0), 1.0)


def _scores(Q: np.ndarray, p: float, method: str, rows: np.ndarray, tol: float, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    leverage = np.sum(Q[rows] ** 2, axis=1)
    if p == 2:
        return np.minimum(leverage, 1.0), 0.0
    if method == "bound":
        return sensitivity_bounds(leverage, len(Q), p), 0.0
    if method == "exact" or len(rows) <= GROUPS:
        return _of_vectors(Q, Q[rows], p, tol)
    scores, gap = _group_scores(Q, rows, leverage, p, tol, rng)
    return np.minimum(scores, sensitivity_bounds(leverage, len(Q), p)), gap


def _of_vectors(Q: np.ndarray, vectors: np.ndarray, p: float, tol: float) -> tuple[np.ndarray, float]:
    """``max_z |v^T z|^p / ||Q z||_p^p`` for the rows v, and the worst relative gap."""
    scores = np.zeros(len(vectors))
    kept = np.any(vectors != 0, axis=1)
    if not kept.any():
        return scores, 0.0
    found = least_p_norms(Q, vectors[kept], p, tol / p, MAX_ITERATIONS)
    scores[kept] = np.exp(-p * found.log_norms)
    return np.minimum(scores, 1.0), float(p * found.gaps.max())


def _group_scores(Q: np.ndarray, rows: np.ndarray, leverage: np.ndarray, p: float, tol: float, rng) -> tuple[np.ndarray, float]:
    order = np.argsort(leverage)
    size = math.ceil(len(rows) / GROUPS)
    starts = np.arange(0, len(rows), size)
    scores, worst = np.zeros(len(rows)), 0.0
    for _ in range(DRAWS):
        signs = 2.0 * rng.integers(2, size=len(rows)) - 1.0
        combinations = np.add.reduceat(signs[:, None] * Q[rows[order]], starts, axis=0)
        drawn, gap = _of_vectors(Q, combinations, p, tol)
        scores[order] = np.maximum(scores[order], np.repeat(drawn, size)[: len(rows)])
        worst = max(worst, gap)
    return scores, worst


def _row_numbers(rows, n: int) -> np.ndarray:
    rows = to_numpy(rows, "rows")
    if rows.ndim != 1 or rows.dtype.kind not in "iu":
        raise TypeError(f"rows must be a list of row numbers, got {rows.ndim} dimension(s) of {rows.dtype}")
    if rows.size == 0 or rows.min() < 0 or rows.max() >= n:
        raise ValueError(f"rows must be row numbers between 0 and {n - 1}, at least one, got {rows.size} of them")
    return rows
