"""ChebCB: a contextual bandit that predicts each action's cost by a Chebyshev series in the context.

Khodak et al., "Learning to Relax: Setting Solver Parameters Across a Sequence of Linear System Instances", ICLR 2024, arXiv:2310.02246, section 3.2;
actions are drawn by inverse gap weighting: Foster and Rakhlin, "Beyond UCB", ICML 2020.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from ritz.core import integer, random_generator
from ritz.linalg.tsallis_bandit import action_values, clipped, cost_value, drawn, range_values

TINY = 1e-12


class ChebyshevBandit:
    """Nearly the best smooth function from a scalar context to actions, learned from costs alone.

    The cost of action i at context c, less one, is predicted by ``theta_i . T(c)``, T the Chebyshev polynomials up to `degree` on the range. Each
    theta_i is the least-squares fit of the costs seen for that action, of least norm, within the box of a Lipschitz function with the range of the
    costs: ``|theta_i0| <= K`` and ``|theta_ij| <= 2 (largest - smallest cost) / j`` with K the largest cost. The other actions than the best
    predicted one are drawn with probability ``1 / (d + eta gap)``, the gap being that of the predictions over ``K N``.

    Parameters
    ----------
    actions : array (d,)
        What can be suggested.
    context_range : (float, float)
        Lowest and highest context.
    degree : int
        Of the polynomials; 0 ignores the context.
    rng : Generator, int or None
        Draws the actions.

    Raises
    ------
    ValueError, TypeError
        If `actions` is empty or not finite, or the range not increasing.

    Notes
    -----
    A step costs ``O(d m + m^3)`` with m = degree + 1: each action keeps the m x m normal equations of its rounds. All are solved anew, ``O(d m^3)``,
    when the range of the costs grows, since the box grows with it.

    References
    ----------
    .. [1] Khodak, Chow, Balcan and Talwalkar, ICLR 2024, arXiv:2310.02246, algorithm 3.
    .. [2] Foster and Rakhlin, ICML 2020, arXiv:2002.04926.

    Examples
    --------
    >>> bandit, rng = ChebyshevBandit([0.0, 1.0], (0.0, 1.0), degree=1, rng=0), np.random.default_rng(0)
    >>> for context in rng.random(500):  # action 0 costs 1 + 10 c, action 1 costs 11 - 10 c
    ...     bandit.update(1 + 10 * (context if bandit.suggest(context) == 0 else 1 - context))
    >>> _ = bandit.suggest(0.9)
    >>> bool(bandit.probabilities[1] > 0.9)
    True
    """

    def __init__(self, actions, context_range, degree: int = 5, *, rng: np.random.Generator | int | None = None):
        self.actions = action_values(actions)
        self.context_range = range_values(context_range)
        self.degree = integer(degree, "degree", at_least=0)
        self._rng = random_generator(rng)
        d, m = len(self.actions), self.degree + 1
        self._grams, self._moments, self._squares = np.zeros((d, m, m)), np.zeros((d, m)), np.zeros(d)
        self._theta = np.zeros((d, m))
        self._features = np.zeros(m)
        self._probabilities = np.full(d, 1 / d)
        self._rounds, self._eta, self._scale = 0, 0.0, 1.0
        self._smallest, self._largest = math.inf, 1.0
        self._sums = np.zeros(3)  # of prediction^2, prediction x cost, cost^2 over the rounds
        self._prediction, self._played = 0.0, None

    @property
    def probabilities(self) -> np.ndarray:
        """The probability of each action (d,) in the last suggestion; before the first they are equal."""
        return self._probabilities.copy()

    @property
    def coefficients(self) -> np.ndarray:
        """theta (d, degree + 1), in units of the cost."""
        return self._theta.copy()

    def suggest(self, context: float) -> float:
        """Draw an action for a context; one outside the range is clipped, with a warning."""
        _chebyshev(_place(clipped(context, self.context_range), self.context_range), self._features)
        uniform = self._rng.random()
        self._played, prediction = _draw(self._theta, self._features, self._eta / self._scale, self._probabilities, uniform)
        self._prediction = prediction / self._scale
        return float(self.actions[self._played])

    def update(self, cost: float) -> None:
        """Learn the cost, at least 1, of the action suggested last."""
        cost = cost_value(cost, self._played)
        self._learn(self._played, cost)
        self._played = None

    def learn(self, context: float, action: int, cost: float) -> None:
        """Learn from a round that was played elsewhere: the index of its action and its cost."""
        action = integer(action, "action", at_least=0, at_most=len(self.actions) - 1)
        _chebyshev(_place(clipped(context, self.context_range), self.context_range), self._features)
        self._prediction = float(self._theta[action] @ self._features) / self._scale
        self._learn(action, cost_value(cost, action))

    def _learn(self, action: int, cost: float) -> None:
        self._rounds += 1
        grown = cost > self._largest or cost < self._smallest
        self._smallest, self._largest = min(cost, self._smallest), max(cost, self._largest)
        spread, m, d = self._largest - self._smallest, self.degree + 1, len(self.actions)
        self._scale = self._largest * (2 + 4 * spread / self._largest * (1 + math.log(m)))
        box = np.append(self._largest, np.maximum(2 * spread / np.arange(1, m), TINY))
        self._sums += (self._prediction**2, self._prediction * cost, cost**2)
        residual = _fit(self._grams, self._moments, self._squares, self._theta, self._features, action, cost - 1, box, grown)
        alpha = (math.pi + 2 / math.pi * math.log(2 * m + 1)) * spread / (2 * self._scale * (m + 1))
        errors = self._sums[0] - 2 * self._sums[1] / self._scale + self._sums[2] / self._scale**2
        t = self._rounds
        self._eta = 2 * t * math.sqrt(d * t / max(errors - residual / self._scale**2 + 2 * alpha**2 * t, TINY))


def _place(context: float, context_range: tuple[float, float]) -> float:
    low, high = context_range
    return 2 * (context - low) / (high - low) - 1


@njit(cache=True, nogil=True)
def _chebyshev(x, features):
    """Write T_0(x), T_1(x), ... into `features`."""
    for j in range(len(features)):
        features[j] = 1.0 if j == 0 else x if j == 1 else 2 * x * features[j - 1] - features[j - 2]


@njit(cache=True, nogil=True)
def _draw(theta, features, weight, probabilities, uniform):
    """Write the probabilities of the actions; return the one drawn, and its predicted cost, less one."""
    d = len(theta)
    predictions = np.zeros(d)
    best = 0
    for i in range(d):
        for j in range(len(features)):
            predictions[i] += theta[i, j] * features[j]
        if predictions[i] < predictions[best]:
            best = i
    rest = 0.0
    for i in range(d):
        if i != best:
            probabilities[i] = 1 / (d + weight * (predictions[i] - predictions[best]))
            rest += probabilities[i]
    probabilities[best] = 1 - rest
    played, _ = drawn(probabilities, uniform)
    return played, predictions[played]


@njit(cache=True, nogil=True)
def _fit(grams, moments, squares, theta, features, action, target, box, all_actions):
    """Add a round to the action's normal equations and fit it, or all actions.

    Return the squared residual of the last fit that the box bounded, or 0.
    """
    m = len(features)
    for j in range(m):
        moments[action, j] += features[j] * target
        for k in range(m):
            grams[action, j, k] += features[j] * features[k]
    squares[action] += target**2
    residual = 0.0
    for i in range(len(theta)):
        if (all_actions or i == action) and grams[i, 0, 0] > 0:
            theta[i], bounded = box_least_squares(grams[i], moments[i], box)
            if bounded:
                residual = max(squares[i] - 2 * np.dot(moments[i], theta[i]) + np.dot(theta[i], np.dot(grams[i], theta[i])), 0.0)
    return residual


@njit(cache=True, nogil=True)
def box_least_squares(gram, moment, box):
    """Minimize ``theta . gram theta / 2 - moment . theta`` within ``|theta_j| <= box_j``; return theta, and whether the box bounds it.

    The unbounded solution is that of least norm. An active-set method: variables at a bound are held until their multiplier turns them away from it.
    """
    m = len(moment)
    everything = np.ones(m, np.bool_)
    theta = _least_norm_solution(gram, moment, everything)
    if np.all(np.abs(theta) <= box):
        return theta, False
    theta = np.minimum(np.maximum(theta, -box), box)
    free = np.abs(theta) < box
    scale = np.abs(gram).max() * box.max() + np.abs(moment).max()
    for _ in range(20 * m):
        for _ in range(m + 1):  # to the minimum over the free variables, or to the first bound on the way, which is then held
            if not free.any():
                break
            right = moment.copy()
            for j in range(m):
                if not free[j]:
                    right -= gram[:, j] * theta[j]
            wanted = _least_norm_solution(gram, right, free)
            step, blocking = 1.0, -1
            for j in range(m):
                if free[j] and abs(wanted[j]) > box[j]:
                    bound = box[j] if wanted[j] > 0 else -box[j]
                    way = (bound - theta[j]) / (wanted[j] - theta[j])
                    if way < step or blocking < 0:
                        step, blocking = min(way, 1.0), j
            for j in range(m):
                if free[j]:
                    theta[j] += step * (wanted[j] - theta[j])
            if blocking < 0:
                break
            theta[blocking] = box[blocking] if wanted[blocking] > 0 else -box[blocking]
            free[blocking] = False
        gradient = np.dot(gram, theta) - moment
        worst, leaving = 1e-12 * scale, -1
        for j in range(m):
            if not free[j] and gradient[j] * np.sign(theta[j]) > worst:
                worst, leaving = gradient[j] * np.sign(theta[j]), j
        if leaving < 0:
            break
        free[leaving] = True
    return theta, True


@njit(cache=True, nogil=True)
def _least_norm_solution(gram, moment, free):
    """The solution of least norm over the free variables, zero elsewhere: by Cholesky's factors, by eigenvectors where they are singular."""
    index = np.flatnonzero(free)
    size = len(index)
    solution = np.zeros(len(moment))
    factor, y = np.zeros((size, size)), np.zeros(size)
    for a in range(size):
        for b in range(a + 1):
            rest = gram[index[a], index[b]]
            for c in range(b):
                rest -= factor[a, c] * factor[b, c]
            if a > b:
                factor[a, b] = rest / factor[b, b]
            elif rest > 1e-10 * gram[index[a], index[a]] and rest > 0:
                factor[a, a] = np.sqrt(rest)
            else:
                return _by_eigenvectors(gram, moment, index)
        rest = moment[index[a]]
        for c in range(a):
            rest -= factor[a, c] * y[c]
        y[a] = rest / factor[a, a]
    for a in range(size - 1, -1, -1):
        rest = y[a]
        for c in range(a + 1, size):
            rest -= factor[c, a] * solution[index[c]]
        solution[index[a]] = rest / factor[a, a]
    return solution


@njit(cache=True, nogil=True)
def _by_eigenvectors(gram, moment, index):
    values, vectors = np.linalg.eigh(gram[index][:, index])
    part = np.dot(vectors.T, moment[index])
    for a in range(len(index)):
        part[a] = part[a] / values[a] if values[a] > 1e-10 * values[-1] else 0.0
    solution = np.zeros(len(moment))
    solution[index] = np.dot(vectors, part)
    return solution
