"""Bandits that pick a solver's parameter from costs alone: Tsallis-INF, and one of them for each bin of a context.

Zimmert and Seldin, "Tsallis-INF: An Optimal Algorithm for Stochastic and Adversarial Bandits", JMLR 22, 2021; scaled to iteration counts as in
Khodak et al., "Learning to Relax: Setting Solver Parameters Across a Sequence of Linear System Instances", ICLR 2024, arXiv:2310.02246, section 3.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
from numba import njit

from ritz.core import array, integer, random_generator, real, to_numpy


class TsallisINF:
    """Follow-the-regularized-leader with the 1/2-Tsallis entropy: nearly the best fixed action, whether costs are stochastic or adversarial.

    With k_i the cost of action i so far, estimated by importance weights, ``eta = 2 / sqrt(t)`` and ``scale`` the mean cost less one,
    ``p_i = 4 / (eta (k_i / scale - x))^2`` with x such that they sum to one.

    Parameters
    ----------
    actions : array (d,)
        What can be suggested: parameter values.
    rng : Generator, int or None
        Draws the actions.

    Raises
    ------
    ValueError, TypeError
        If `actions` is empty or not finite.

    Notes
    -----
    x comes from Newton's method, begun where the action with the least cost alone has probability one: from there it descends to the root
    monotonically. Begun above the pole at the least k_i / scale it would leave it for good. A step costs ``O(d)``.

    References
    ----------
    .. [1] Zimmert and Seldin, JMLR 22, 2021.
    .. [2] Khodak, Chow, Balcan and Talwalkar, ICLR 2024, arXiv:2310.02246, algorithm 2.

    Examples
    --------
    >>> bandit = TsallisINF([1.0, 1.5], rng=0)
    >>> for _ in range(1000):
    ...     bandit.update(10.0 if bandit.suggest() == 1.0 else 5.0)
    >>> bool(bandit.probabilities[1] > 0.9)
    True
    """

    def __init__(self, actions, *, rng: np.random.Generator | int | None = None):
        self.actions = action_values(actions)
        self._rng = random_generator(rng)
        self._costs = np.zeros(len(self.actions))  # estimated, less one each
        self._rounds, self._total = 0, 0.0
        self._played, self._odds = None, 0.0

    @property
    def probabilities(self) -> np.ndarray:
        """The probability of each action (d,) in the next suggestion."""
        return tsallis_probabilities(self._costs, 2 / math.sqrt(self._rounds + 1), self._scale)

    def suggest(self, context: float | None = None) -> float:
        """Draw an action; a context is ignored."""
        self._played, self._odds = _draw(self._costs, 2 / math.sqrt(self._rounds + 1), self._scale, self._rng.random())
        return float(self.actions[self._played])

    def update(self, cost: float) -> None:
        """Learn the cost, at least 1, of the action suggested last."""
        cost = cost_value(cost, self._played)
        self._costs[self._played] += (cost - 1) / self._odds
        self._rounds, self._total, self._played = self._rounds + 1, self._total + cost - 1, None

    @property
    def _scale(self) -> float:
        return self._total / self._rounds if self._total > 0 else 1.0


class BinnedBandit:
    """One `TsallisINF` for each bin of the context: nearly the best function of the context that is constant on bins.

    Parameters
    ----------
    actions : array (d,)
        What can be suggested.
    context_range : (float, float)
        Lowest and highest context.
    bins : int
        How many bins of equal width.
    rng : Generator, int or None
        Draws the actions.

    Raises
    ------
    ValueError, TypeError
        If `actions` is empty or not finite, or the range not increasing.

    References
    ----------
    .. [1] Khodak et al., ICLR 2024, arXiv:2310.02246, section 3.2.

    Examples
    --------
    >>> bandit = BinnedBandit([1.0, 1.5], (0.0, 1.0), bins=2, rng=0)
    >>> bandit.suggest(0.3) in (1.0, 1.5)
    True
    """

    def __init__(self, actions, context_range, bins: int = 5, *, rng: np.random.Generator | int | None = None):
        self.actions = action_values(actions)
        self.context_range = range_values(context_range)
        rng = random_generator(rng)
        self._bandits = [TsallisINF(self.actions, rng=rng) for _ in range(integer(bins, "bins", at_least=1))]
        self._current = self._bandits[0]

    @property
    def probabilities(self) -> np.ndarray:
        """The probability of each action (d,) at the context seen last."""
        return self._current.probabilities

    def suggest(self, context: float) -> float:
        """Draw an action for a context; one outside the range is clipped, with a warning."""
        low, high = self.context_range
        place = (clipped(context, self.context_range) - low) / (high - low)
        self._current = self._bandits[min(int(place * len(self._bandits)), len(self._bandits) - 1)]
        return self._current.suggest()

    def update(self, cost: float) -> None:
        """Learn the cost, at least 1, of the action suggested last."""
        self._current.update(cost)


def action_values(actions) -> np.ndarray:
    """Check actions."""
    return to_numpy(array(actions, "actions", ndim=1)).astype(float)


def range_values(context_range) -> tuple[float, float]:
    """Check a range of contexts."""
    low, high = (float(end) for end in to_numpy(array(context_range, "context_range", shape=(2,))))
    if low >= high:
        raise ValueError(f"context_range must be increasing, got ({low:g}, {high:g})")
    return low, high


def cost_value(cost, played: int | None) -> float:
    """Check a cost, and that there is an action it belongs to."""
    cost = real(cost, "cost", at_least=1)
    if played is None:
        raise ValueError("cost belongs to no action: call `suggest` before each `update`")
    return cost


def clipped(context, context_range: tuple[float, float]) -> float:
    """The context, or the nearer end of the range with a warning."""
    context, (low, high) = real(context, "context"), context_range
    if not low <= context <= high:
        warnings.warn(f"context {context:g} is outside context_range ({low:g}, {high:g}) and was clipped", stacklevel=3)
    return min(max(context, low), high)


@njit(cache=True, nogil=True)
def tsallis_probabilities(costs, eta, scale):
    """The probabilities of Tsallis-INF (d,): ``4 / (eta (costs / scale - x))^2``, x by Newton's method from below."""
    gaps = (costs - costs.min()) / scale  # the probabilities do not see a common shift
    x = -2 / eta
    for _ in range(100):
        p = 4 / (eta * (gaps - x)) ** 2
        excess = p.sum() - 1
        if abs(excess) < 1e-12:
            break
        x -= excess / (eta * (p**1.5).sum())
    return p / p.sum()


@njit(cache=True, nogil=True)
def _draw(costs, eta, scale, uniform):
    """The action at a uniform draw, and its probability."""
    p = tsallis_probabilities(costs, eta, scale)
    return drawn(p, uniform)


@njit(cache=True, nogil=True)
def drawn(p, uniform):
    """The index at which the cumulated probabilities pass a uniform draw, never one of probability zero, and its probability."""
    total, last = 0.0, 0
    for i in range(len(p)):
        total += p[i]
        if p[i] > 0:
            last = i
            if uniform < total:
                break
    return last, p[last]
