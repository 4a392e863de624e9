"""By how much a sample of rows can mislead: an adversary's search for the x with the worst ratio of p-th powers of norms."""

from __future__ import annotations

import math

import numpy as np
import scipy.optimize
import scipy.sparse

from ritz.core import integer, random_generator, real, to_numpy
from ritz.linalg.leverage_scores import orthonormal_basis, real_matrix
from ritz.linalg.row_sampling import RowSample

MOST_STEPS = 200
SMALLEST = 1e-300  # a norm that is nothing beside the other, and still has a logarithm


def lp_distortion(A, sample: RowSample, p: float, *, trials: int = 20, rng: np.random.Generator | int | None = None) -> tuple[float, float]:
    """Search for the greatest and the least ``||A_sample x||_p^p / ||A x||_p^p``.

    How good a sample is in the sense of Woodruff and Yasuda, "Sharper Bounds for l_p Sensitivity Sampling", ICML 2023, arXiv:2306.00732, up to the
    p-th root; what they bound holds for all x. This is an adversary's search, not a certificate: the truth is at least as bad.

    Parameters
    ----------
    A : array, sparse array or torch tensor (n, d)
        The matrix that was sampled.
    sample : RowSample
        Its sample.
    p : float
        At least 1.
    trials : int
        Starts of each kind: random directions, and directions of random rows, drawn by their leverage. From each the logarithm of the ratio is
        followed up and down, by L-BFGS.
    rng : numpy.random.Generator or int, optional
        Where the starts come from.

    Returns
    -------
    upper, lower : float
        The greatest ratio found minus one, and one minus the least. Both are 0 for a sample of all rows; lower is 1 if some x is lost.

    Raises
    ------
    TypeError, ValueError
        If A is no finite real matrix, sample is no sample of it, p below 1, or trials no positive integer.

    Notes
    -----
    Cost: up to 200 steps for each of four times `trials` runs, n d operations each.

    Examples
    --------
    >>> from ritz.linalg import sample_rows
    >>> A = np.random.default_rng(0).standard_normal((200, 2))
    >>> upper, lower = lp_distortion(A, sample_rows(A, 4, 200), 4, trials=2, rng=0)
    >>> abs(round(upper, 9)), abs(round(lower, 9))
    (0.0, 0.0)
    """
    entries, p, trials, rng = real_matrix(A, "A"), real(p, "p", at_least=1), integer(trials, "trials", at_least=1), random_generator(rng)
    if not isinstance(sample, RowSample):
        raise TypeError(f"sample must be a RowSample, got {type(sample).__name__}")
    indices, weights = to_numpy(sample.indices), to_numpy(sample.weights).astype(np.float64)
    if len(indices) and indices.max() >= entries.shape[0]:
        raise ValueError(f"sample must be a sample of A, with {entries.shape[0]} rows, got row {indices.max()}")
    Q = orthonormal_basis(entries)
    if Q.shape[1] == 0:
        return 0.0, 0.0
    sampled = weights[:, None] * Q[indices]
    rows = Q[rng.choice(len(Q), trials, p=np.sum(Q**2, axis=1) / Q.shape[1])]
    starts = np.concatenate([rng.standard_normal((trials, Q.shape[1])), rows])
    starts /= np.linalg.norm(starts, axis=1)[:, None]
    greatest = max(_climb(sampled, Q, p, start, 1.0) for start in starts)
    least = min(_climb(sampled, Q, p, start, -1.0) for start in starts)
    return math.exp(greatest) - 1, 1 - math.exp(least)


def _climb(sampled: np.ndarray, Q: np.ndarray, p: float, start: np.ndarray, sign: float) -> float:
    """Follow the logarithm of the ratio up (sign 1) or down (-1) from a start; return it where that ends."""

    def negative(z):
        (top, top_gradient), (bottom, bottom_gradient) = _log_power(sampled, z, p), _log_power(Q, z, p)
        return -sign * (top - bottom), -sign * (top_gradient - bottom_gradient)

    found = scipy.optimize.minimize(negative, start, jac=True, method="L-BFGS-B", options={"maxiter": MOST_STEPS})
    return -sign * float(found.fun)


def _log_power(rows: np.ndarray, z: np.ndarray, p: float) -> tuple[float, np.ndarray]:
    """``log ||rows z||_p^p`` and its gradient."""
    r = rows @ z
    largest = float(np.max(np.abs(r), initial=0.0))
    if largest ** min(p, 1.0) <= SMALLEST:
        return math.log(SMALLEST), np.zeros_like(z)
    r = r / largest
    powers = np.abs(r) ** (p - 1)
    total = float(powers @ np.abs(r))
    return max(p * math.log(largest) + math.log(total), math.log(SMALLEST)), (p / total / largest) * (rows.T @ (np.sign(r) * powers))
