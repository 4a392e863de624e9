"""A few reweighted rows that keep ``||A x||_p`` for all x.

Woodruff and Yasuda, "Sharper Bounds for l_p Sensitivity Sampling", ICML 2023, arXiv:2306.00732: with S the sum of the sensitivities, sampling each
row with a probability proportional to its sensitivity needs, up to logarithms, ``S^(2/p)`` rows for p < 2 and ``S^(2 - 2/p)`` for p > 2, where the
classical bound was S d. Square roots of leverage scores to the power p, applied to their own output again and again, need d for p < 2;
sensitivities together with leverage scores need ``d^(2/p) S^(2 - 4/p)`` for p > 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.sparse

from ritz.core import Result, array, choice, integer, is_torch, like, random_generator, real, to_numpy, warn_not_converged
from ritz.linalg.krylov_system import is_sparse_tensor
from ritz.linalg.leverage_scores import orthonormal_basis, real_matrix
from ritz.linalg.lewis_weights import fixed_point
from ritz.linalg.lp_sensitivities import basis_sensitivities, sensitivity_bounds

SCORES = ("sensitivity", "root_leverage", "lewis", "leverage", "sensitivity+leverage")
CONSTANT = 4  # of the automatic sizes
TOLERANCE = 1e-6  # of sensitivities and Lewis weights


@dataclass(frozen=True, eq=False, repr=False)
class RowSample(Result):
    """Sampled rows: ``||A_sample x||_p ~ ||A x||_p``, in expectation of the p-th powers exactly.

    Attributes
    ----------
    indices : array of int (k,)
        The rows that were kept, ascending.
    weights : array (k,)
        ``probabilities^(-1/p)``.
    A : array, sparse array or torch tensor (k, d)
        ``diag(weights) A[indices]``, of A's kind.
    probabilities : array (k,)
        With which each of them was kept: of several rounds, the product.
    """

    indices: np.ndarray
    weights: np.ndarray
    A: np.ndarray
    probabilities: np.ndarray


def sample_rows(A, p: float, size: int | str, *, scores="sensitivity", b=None, rng: np.random.Generator | int | None = None) -> RowSample:
    """Keep each row with a probability that grows with its score, and weight it so that ``||A x||_p^p`` is kept on average.

    Parameters
    ----------
    A : array, sparse array or torch tensor (n, d)
        Real, of any rank.
    p : float
        At least 1.
    size : int or "auto"
        Expected number of rows; all rows that matter, with weight 1, if there are no more than that. "auto": ``4 log(d)`` times the bound of the
        scores for a fixed accuracy, see the notes.
    scores : str or array (n,)
        What the probabilities are proportional to:

        - "sensitivity": see `lp_sensitivities`; exact for up to 10,000 rows, by groups beyond;
        - "root_leverage": ``tau^(p / 2)`` with leverage scores tau; for p < 2 in rounds, each applied to the weighted rows of the last, down to
          ``4 log(d) n^(1 - p/2) d^(p/2)`` of n rows while that shrinks them, and last to `size`;
        - "lewis": see `lewis_weights`;
        - "leverage": tau;
        - "sensitivity+leverage": ``sigma / sum(sigma) + tau / d``;
        - an array of scores, not negative.
    b : array (n,), optional
        A right-hand side: the scores are those of the rows of [A b], so that ``||A x - b||_p`` is kept. Of A's kind.
    rng : numpy.random.Generator or int, optional
        What is kept.

    Returns
    -------
    RowSample
        Of random length: rows are kept independently. Rows of zeros never are.

    Raises
    ------
    TypeError, ValueError
        If an array is not finite or of the wrong shape, scores are negative or all zero, or an option is unknown.

    Warns
    -----
    ConvergenceWarning
        If sensitivities or Lewis weights were not found to six digits.

    Notes
    -----
    Row i is kept with probability ``q_i = min(1, s_i / alpha)``, alpha such that they sum to `size`, and weighted by ``q_i^(-1/p)``.
    Sizes behind "auto", with S the sum of the sensitivities (or of the scores given, or of the bounds by leverage scores) and d the rank:
    "sensitivity" and arrays ``S^(2/p)`` for p < 2, ``S^(2 - 2/p)`` for p >= 2; "root_leverage" as the rounds leave it for p < 2,
    ``S^(2 - 2/p)`` else; "lewis" and "leverage" ``d^max(1, p/2)``; "sensitivity+leverage" ``S + d`` for p <= 2, ``d^(2/p) S^(2 - 4/p)`` else.
    The paper combines sensitivities for p > 2 with ``n^(p/2 - 1) tau^(p/2)``; the sum of normalized scores taken here is, for p <= 2, the
    augmentation of Munteanu and Omlor, ICML 2024, arXiv:2406.00328.

    Examples
    --------
    >>> A = np.random.default_rng(0).standard_normal((1000, 3))
    >>> sample = sample_rows(A, 3, 200, rng=0)
    >>> x = np.array([1.0, -1.0, 2.0])
    >>> bool(abs(np.sum(abs(sample.A @ x) ** 3) / np.sum(abs(A @ x) ** 3) - 1) < 0.2)
    True
    """
    entries, p = real_matrix(A, "A"), real(p, "p", at_least=1)
    size = size if isinstance(size, str) else integer(size, "size", at_least=1)
    if isinstance(size, str):
        choice(size, "size", ("auto",))
    given = None if isinstance(scores, str) else _given_scores(scores, entries.shape[0])
    if given is None:
        choice(scores, "scores", SCORES)
    rows, rng = entries if b is None else _with_right_side(entries, b), random_generator(rng)
    if given is None and scores == "root_leverage" and p < 2:
        indices, probabilities = _rounds(rows, p, size, rng)
    else:
        indices, probabilities = _one_round(rows, p, size, scores if given is None else given, rng)
    weights = probabilities ** (-1 / p)
    return RowSample(indices, _like(weights, A), _weighted_rows(A, indices, weights), _like(probabilities, A))


def keeping_probabilities(scores: np.ndarray, size: float) -> np.ndarray:
    """``min(1, s_i / alpha)`` with alpha such that they sum to `size`; one for every positive score if there are no more than that."""
    descending = np.sort(scores)[::-1]
    if size >= np.count_nonzero(scores):
        return (scores > 0).astype(float)
    tails = np.cumsum(descending[::-1])[::-1]
    certain = int(np.argmax((size - np.arange(len(scores))) * descending <= tails))
    return np.minimum(1.0, scores * ((size - certain) / tails[certain]))


def _one_round(rows, p: float, size: int | str, scores: str | np.ndarray, rng) -> tuple[np.ndarray, np.ndarray]:
    values, automatic = (scores, _power_of_total(scores.sum(), p)) if isinstance(scores, np.ndarray) else _scores(rows, p, scores, rng)
    if size == "auto":
        size = min(len(values), math.ceil(CONSTANT * _log(rows.shape[1]) * automatic))
    return _keep(values, size, rng)


def _scores(rows, p: float, scores: str, rng) -> tuple[np.ndarray, float]:
    """The scores by name and their bound on the number of rows, without constant and logarithm."""
    Q = orthonormal_basis(rows)
    leverage, d = np.sum(Q**2, axis=1), max(Q.shape[1], 1)
    if scores == "leverage":
        return leverage, d ** max(1.0, p / 2)
    if scores == "root_leverage":
        return leverage ** (p / 2), _power_of_total(sensitivity_bounds(leverage, len(Q), p).sum(), p)
    if scores == "lewis":
        weights, change = fixed_point(Q, p, 100, TOLERANCE)
        _warn_above(change, "Lewis weights changed by a factor of")
        return weights, d ** max(1.0, p / 2)
    sensitivities, gap = basis_sensitivities(Q, p, TOLERANCE, rng)
    _warn_above(gap, "sensitivities have a duality gap of")
    total = sensitivities.sum()
    if scores == "sensitivity" or total == 0:
        return sensitivities, _power_of_total(total, p)
    return sensitivities / total + leverage / d, total + d if p <= 2 else d ** (2 / p) * total ** (2 - 4 / p)


def _rounds(rows, p: float, size: int | str, rng) -> tuple[np.ndarray, np.ndarray]:
    """p < 2: keep rows by ``tau^(p / 2)``, again and again of what was kept, until that shrinks them no more or would go below `size`."""
    indices, probabilities = np.arange(rows.shape[0]), np.ones(rows.shape[0])
    while True:
        Q = orthonormal_basis(scaled_rows(rows[indices], probabilities ** (-1 / p)))
        target = math.ceil(CONSTANT * _log(Q.shape[1]) * len(indices) ** (1 - p / 2) * Q.shape[1] ** (p / 2))
        last = target >= len(indices) if size == "auto" else target <= size or target >= len(indices)
        if last and size == "auto":
            nonzero = np.any(Q != 0, axis=1)
            return indices[nonzero], probabilities[nonzero]
        kept, chances = _keep(np.sum(Q**2, axis=1) ** (p / 2), size if last else target, rng)
        indices, probabilities = indices[kept], probabilities[kept] * chances
        if last:
            return indices, probabilities


def _keep(scores: np.ndarray, size: int, rng) -> tuple[np.ndarray, np.ndarray]:
    """The rows that were kept and the probabilities they had."""
    q = keeping_probabilities(scores, size)
    kept = np.flatnonzero(rng.random(len(q)) < q)
    return kept, q[kept]


def _power_of_total(total: float, p: float) -> float:
    return total ** (2 / p if p < 2 else 2 - 2 / p)


def _log(d: int) -> float:
    return max(1.0, math.log(max(d, 1)))


def _warn_above(value: float, what: str) -> None:
    if value > TOLERANCE:
        warn_not_converged(f"sample_rows: {what} {value:.2g}, above {TOLERANCE:g}")


def _given_scores(scores, n: int) -> np.ndarray:
    values = row_values(scores, "scores", n)
    if values.min() < 0 or values.max() == 0:
        raise ValueError(f"scores must not be negative, and not all zero, got values from {values.min():.3g} to {values.max():.3g}")
    return values


def _with_right_side(entries, b):
    b = row_values(b, "b", entries.shape[0]).astype(entries.dtype)
    return scipy.sparse.hstack([entries, b[:, None]], format="csr") if scipy.sparse.issparse(entries) else np.column_stack([entries, b])


def row_values(values, name: str, n: int) -> np.ndarray:
    """Check an array that has one number for each row of A; return float64."""
    values = to_numpy(array(values, name)).astype(np.float64)
    if values.shape != (n,):
        raise ValueError(f"{name} must have shape ({n},), one entry for each row of A, got {values.shape}")
    return values


def scaled_rows(rows, weights: np.ndarray):
    """``diag(weights) rows``, in the dtype of the rows."""
    weights = weights.astype(rows.dtype)
    return scipy.sparse.diags_array(weights) @ rows if scipy.sparse.issparse(rows) else weights[:, None] * rows


def _weighted_rows(A, indices: np.ndarray, weights: np.ndarray):
    if is_torch(A):
        return (A.to_dense() if is_sparse_tensor(A) else A)[indices] * _like(weights, A)[:, None]
    return scaled_rows(real_matrix(A, "A")[indices], weights)


def _like(values: np.ndarray, A):
    return like(values, A).to(A.dtype) if is_torch(A) else values
