"""Fast approximate quadratic assignment from many starts.

Vogelstein et al., "Fast Approximate Quadratic Programming for Graph Matching", PLOS ONE 10 (2015), arXiv:1112.5507: Frank and Wolfe's method for
max tr(B P A P^T) over doubly stochastic P, whose steps are linear assignment problems, and the nearest permutation at the end.

For symmetric A and B one product a step is enough: the gradient 2 B P A is linear in P, so that of the new point is a mixture of that of the old one
and that of the permutation stepped to. Each assignment starts from the prices of the last one. The starts are spread over the threads.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from ritz.graphs.linear_assignment import assign

MOST_STEPS = 30
TOLERANCE = 0.03  # of the change of P in the Frobenius norm, over sqrt(n)
SINKHORN_ROUNDS = 8


def match_graphs(A: np.ndarray, B: np.ndarray, starts: int, rng: np.random.Generator) -> np.ndarray:
    """Return the permutation p (n,) with the largest sum of B * A[p][:, p] that was found, for symmetric A and B (n, n).

    The first start is the barycenter, the others are halfway from it to random doubly stochastic matrices.
    """
    found = np.empty((starts, len(A)), dtype=np.int64)
    _climb_all(A, B, rng.random((starts, len(A), len(A))), found)
    agreements = [np.vdot(B, A[np.ix_(p, p)]) for p in found]
    return found[int(np.argmax(agreements))]


@njit(cache=True, nogil=True, parallel=True)
def _climb_all(A, B, positive, found):
    """Climb from the barycenter and from the points that positive matrices (starts, n, n) give; the permutations go to `found` (starts, n)."""
    for start in prange(positive.shape[0]):
        P = np.full(A.shape, 1 / A.shape[0])
        if start > 0:
            P += _doubly_stochastic(positive[start])
            P /= 2
        _climb(A, B, P, found[start])


@njit(cache=True, nogil=True)
def _climb(A, B, P, permutation):
    """Frank and Wolfe's steps from P, which is overwritten."""
    n = A.shape[0]
    gradient = B @ P @ A
    price = np.empty(n)
    for j in range(n):
        price[j] = -gradient[:, j].max()
    for _ in range(MOST_STEPS):
        assign(-gradient, price, permutation)
        towards = B @ A[permutation]
        here, across, there = 0.0, 0.0, 0.0
        for i in range(n):
            across += gradient[i, permutation[i]]
            there += towards[i, permutation[i]]
            for j in range(n):
                here += gradient[i, j] * P[i, j]
        kept = _best_share(here, across, there)
        moved = 0.0
        for i in range(n):
            for j in range(n):
                target = 1.0 if j == permutation[i] else 0.0
                moved += (P[i, j] - target) ** 2
                P[i, j] = kept * P[i, j] + (1 - kept) * target
                gradient[i, j] = kept * gradient[i, j] + (1 - kept) * towards[i, j]
        if (1 - kept) * np.sqrt(moved / n) <= TOLERANCE:
            break
    assign(-P, np.zeros(n), permutation)


@njit(cache=True, nogil=True)
def _best_share(here, across, there):
    """The share a in [0, 1] that maximizes a^2 here + 2 a (1 - a) across + (1 - a)^2 there."""
    curvature, slope = here - 2 * across + there, across - there  # of curvature a^2 + 2 slope a + there
    if curvature < 0 and 0 <= slope <= -curvature:
        return -slope / curvature
    return 1.0 if here > there else 0.0


@njit(cache=True, nogil=True)
def _doubly_stochastic(positive):
    P = positive.copy()
    for _ in range(SINKHORN_ROUNDS):
        for j in range(P.shape[1]):
            P[:, j] /= P[:, j].sum()
        for i in range(P.shape[0]):
            P[i] /= P[i].sum()
    return P
