"""Lewis weights: leverage scores for the p-norm, by a fixed-point iteration.

Cohen and Peng, "l_p Row Sampling by Lewis Weights", STOC 2015, arXiv:1412.0588. The weights w are the ones with
``w_i = tau_i(W^(1/2 - 1/p) A)``, tau the leverage scores; they sum to the rank of A.
"""

from __future__ import annotations

from collections import deque

import numpy as np
import scipy.linalg

from ritz.core import integer, is_torch, like, positive, real, warn_not_converged
from ritz.linalg.leverage_scores import orthonormal_basis, real_matrix

MEMORY = 6  # iterates that are mixed


def lewis_weights(A, p: float, *, iterations: int | None = None, tol: float = 1e-6):
    """Return the l_p Lewis weights of the rows of A.

    Parameters
    ----------
    A : array, sparse array or torch tensor (n, d)
        Real, of any rank; a zero row has weight 0. torch data are computed on the host.
    p : float
        At least 1.
    iterations : int, optional
        Leverage scores computed at most, one QR factorization each; 100 by default.
    tol : float
        Stop when ``|tau_i / w_i - 1| <= tol`` for all rows.

    Returns
    -------
    array or torch tensor (n,)
        Between 0 and 1, float64 (torch: of A's dtype), with sum ``rank(A)`` up to tol.

    Raises
    ------
    TypeError, ValueError
        If A is no finite real matrix, is empty, or p below 1.

    Warns
    -----
    ConvergenceWarning
        If the tolerance was not reached.

    Notes
    -----
    The step is ``w <- w (tau / w)^(2 p / (p + 2))`` from ``w = rank / n``. The exponent p / 2 is the iteration of Cohen and Peng, which contracts
    log w by ``|1 - p / 2|`` for p < 4; 1 is their damped form for larger p. Near the weights an error e of log w is multiplied by
    ``1 - (2 / p) step - (1 - 2 / p) step T``, with T symmetrizable and its eigenvalues in [0, 1], so that the step taken here makes the greatest
    factor least: ``|p - 2| / (p + 2)``, one third for p = 1 and p = 4. For 1 <= p <= 4 it never increases the greatest error of log w.
    Anderson's mixing of the last five steps (Walker and Ni, SIAM J. Numer. Anal. 49, 2011) shortens that to 7 to 14 factorizations for p <= 4 and six
    digits, some 40 for p = 20; each takes ``2 n d^2`` operations.

    Examples
    --------
    >>> lewis_weights(np.array([[1.0], [3.0]]), 1).round(6)
    array([0.25, 0.75])
    """
    entries, p = real_matrix(A, "A"), real(p, "p", at_least=1)
    limit, tol = 100 if iterations is None else integer(iterations, "iterations", at_least=1), positive(tol, "tol")
    weights, change = fixed_point(orthonormal_basis(entries), p, limit, tol)
    if change > tol:
        warn_not_converged(f"lewis_weights changed by a factor of {change:.2g} after {limit} factorizations, tol is {tol:g}")
    return like(weights, A).to(A.dtype) if is_torch(A) else weights


def fixed_point(Q: np.ndarray, p: float, limit: int, tol: float) -> tuple[np.ndarray, float]:
    """The Lewis weights of an orthonormal basis and the greatest ``|tau_i / w_i - 1|`` left."""
    weights, change = np.zeros(len(Q)), 0.0
    kept = np.any(Q != 0, axis=1)
    if not kept.any():
        return weights, change
    columns, step = np.ascontiguousarray(Q[kept].T), 2 * p / (p + 2)
    log_w = np.full(columns.shape[1], np.log(Q.shape[1] / columns.shape[1]))
    history: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=MEMORY)
    for used in range(1, limit + 1):
        residual = np.log(_leverage(np.exp((0.5 - 1 / p) * log_w) * columns)) - log_w
        change = float(np.max(np.abs(np.expm1(residual))))
        if change <= tol or used == limit:
            break
        history.append((log_w, residual))
        log_w = _mixed(history, step)
    weights[kept] = np.minimum(np.exp(log_w), 1.0)
    return weights, change


def _mixed(history: deque[tuple[np.ndarray, np.ndarray]], step: float) -> np.ndarray:
    """The next log w: the step from the combination of the last points whose residual is least, rows counted by their weights."""
    log_w, residual = history[-1]
    if len(history) == 1:
        return log_w + step * residual
    points, residuals = (np.diff(np.stack(part), axis=0).T for part in zip(*history))
    row_weights = np.exp(log_w / 2)
    shares = np.linalg.lstsq(row_weights[:, None] * residuals, row_weights * residual, rcond=1e-10)[0]
    return log_w + step * residual - (points + step * residuals) @ shares


def _leverage(columns: np.ndarray) -> np.ndarray:
    """Leverage scores of the rows of A, given as columns, from R alone: small ones keep their relative accuracy, which the rows of Q do not."""
    R = np.linalg.qr(columns.T, mode="r")
    return np.sum(scipy.linalg.solve_triangular(R, columns, trans="T", check_finite=False) ** 2, axis=0)
