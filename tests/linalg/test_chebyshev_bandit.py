"""ChebCB: the fit against SciPy's bounded least squares, incremental against naive, the right arm for polynomial costs, refusals."""

import math
import pickle

import numpy as np
import pytest
import scipy.optimize
from numpy.polynomial import chebyshev
from specimens import Specimen

from ritz.linalg import ChebyshevBandit
from ritz.linalg.chebyshev_bandit import box_least_squares

RNG = np.random.default_rng(0)


def updated(cost):
    bandit = ChebyshevBandit([1.0, 2.0], (0.0, 1.0))
    bandit.suggest(0.5)
    bandit.update(cost)


SPECIMENS = {
    "ChebyshevBandit": Specimen(ChebyshevBandit, lambda: {"actions": np.linspace(1, 2, 4), "context_range": np.array([0.0, 1.0]), "degree": 3}),
    "ChebyshevBandit.update": Specimen(updated, lambda: {"cost": 3.0}),
    "ChebyshevBandit.suggest": Specimen(lambda context: ChebyshevBandit([1.0, 2.0], (0.0, 1.0)).suggest(context), lambda: {"context": 0.5}),
    "ChebyshevBandit.learn": Specimen(
        lambda context, action, cost: ChebyshevBandit([1.0, 2.0], (0.0, 1.0)).learn(context, action, cost),
        lambda: {"context": 0.5, "action": 1, "cost": 3.0},
    ),
}


@pytest.mark.parametrize("rows", [1, 3, 6, 40])
def test_the_bounded_fit_is_scipys(rows):
    bounded = 0
    for _ in range(60):
        X, y = chebyshev.chebvander(RNG.uniform(-1, 1, rows), 5), 3 * RNG.standard_normal(rows)
        box = RNG.uniform(0.05, 2.0, 6)
        theta, is_bounded = box_least_squares(X.T @ X, X.T @ y, box)
        expected = scipy.optimize.lsq_linear(X, y, (-box, box), tol=1e-14, max_iter=500)
        free = np.linalg.lstsq(X, y, rcond=None)[0]
        assert np.all(np.abs(theta) <= box * (1 + 1e-12))
        assert np.linalg.norm(X @ theta - y) <= np.linalg.norm(X @ expected.x - y) + 1e-6
        assert is_bounded == bool(np.any(np.abs(free) > box))
        if not is_bounded:
            np.testing.assert_allclose(theta, free, atol=1e-5)
        bounded += is_bounded
    assert bounded > 10


class Naive:
    """The definition: every action's fit from all its rounds, and probabilities by the formulas, anew each round."""

    def __init__(self, d, low, high, degree):
        self.d, self.low, self.width, self.m = d, low, high - low, degree + 1
        self.rounds, self.theta, self.eta = [], np.zeros((d, self.m)), 0.0

    def features(self, context):
        rows = chebyshev.chebvander(2 / self.width * (context - self.low) - 1, self.m - 1)
        return rows if np.ndim(context) else rows[0]

    def probabilities(self, context):
        y = self.theta @ self.features(context)
        best = int(np.argmin(y))
        p = 1 / (self.d + self.eta * (y - y[best]))
        p[best] = 1 - (p.sum() - p[best])
        return p

    def learn(self, context, action, cost):
        predicted = self.theta[action] @ self.features(context)
        self.rounds.append((context, action, cost, predicted))
        contexts, actions, costs, predictions = (np.array(column) for column in zip(*self.rounds))
        t, w, m = len(costs), self.width, self.m
        K, lipschitz = costs.max(), (costs.max() - costs.min()) / w
        N = 2 + 4 * w * lipschitz / K * (1 + math.log(m))
        scale = K * N
        box = np.append(1 / N, np.maximum(2 * w * lipschitz / scale / np.arange(1, m), 1e-12 / scale))
        residual = 0.0
        for i in np.unique(actions):
            rows, right = self.features(contexts[actions == i]), (costs[actions == i] - 1) / scale
            self.theta[i] = np.linalg.lstsq(rows, right, rcond=1e-5)[0]
            if np.any(np.abs(self.theta[i]) > box):
                fit = scipy.optimize.lsq_linear(rows, right, (-box, box), tol=1e-14, max_iter=1000)
                self.theta[i], residual = fit.x, 2 * fit.cost if i == action else residual
        alpha = (math.pi + 2 / math.pi * math.log(2 * m + 1)) * w * lipschitz / (2 * scale * (m + 1))
        R = ((predictions - costs / scale) ** 2).sum()
        self.eta = 2 * t * math.sqrt(self.d * t / (R - residual + 2 * alpha**2 * t))


def test_it_is_the_algorithm_of_the_definition():
    low, high, d = -0.5, 2.0, 3
    bandit, naive = ChebyshevBandit(np.arange(d), (low, high), 3, rng=0), Naive(d, low, high, 3)
    rng = np.random.default_rng(1)
    for step in range(150):
        context = rng.uniform(low, high)
        action = int(bandit.suggest(context))
        if step % 10 == 0 and step > 20:  # the costs' range has settled, and all fits are unique
            np.testing.assert_allclose(bandit.probabilities, naive.probabilities(context), rtol=0.02, atol=2e-4)
        cost = 2.0 if step == 0 else 30.0 if step == 1 else 3 + 8 * (action - context) ** 2 + rng.random()
        bandit.update(cost)
        naive.learn(context, action, cost)


@pytest.mark.parametrize("degree", [2, 5])
def test_polynomial_costs_are_played_right(degree):
    bandit, rng = ChebyshevBandit(np.linspace(0, 1, 5), (0.0, 1.0), degree, rng=0), np.random.default_rng(1)
    right = 0
    for step, context in enumerate(rng.random(3000)):
        action = bandit.suggest(context)
        assert np.all(bandit.probabilities >= 0)
        assert bandit.probabilities.sum() == pytest.approx(1, abs=1e-12)
        bandit.update(1 + 20 * (action - context) ** 2)
        if step >= 2000:
            right += 20 * (action - context) ** 2 <= 20 * ((bandit.actions - context) ** 2).min() + 1e-12
    assert right >= 950


def test_degree_zero_ignores_the_context():
    bandit, rng = ChebyshevBandit([0.0, 1.0], (0.0, 1.0), degree=0, rng=0), np.random.default_rng(1)
    for context in rng.random(300):
        bandit.update(5.0 if bandit.suggest(context) == 0.0 else 2.0)
    seen = []
    for context in (0.0, 0.3, 1.0):
        bandit.suggest(context)
        seen.append(bandit.probabilities)
    np.testing.assert_array_equal(seen[0], seen[1])
    np.testing.assert_array_equal(seen[0], seen[2])
    assert seen[0][1] > 0.9


def test_equal_costs_do_not_break_it():
    bandit = ChebyshevBandit([0.0, 1.0], (0.0, 1.0), rng=0)
    for context in np.linspace(0, 1, 50):
        bandit.suggest(context)
        bandit.update(1.0)
    assert np.all(np.isfinite(bandit.probabilities))


def test_learning_from_history_is_learning_while_playing():
    played, rng, history = ChebyshevBandit([0.0, 1.0], (0.0, 1.0), rng=0), np.random.default_rng(1), []
    for context in rng.random(100):
        action = played.suggest(context)
        cost = 2 + 5 * abs(action - context)
        played.update(cost)
        history.append((context, int(action), cost))
    told = ChebyshevBandit([0.0, 1.0], (0.0, 1.0), rng=0)
    for row in history:
        told.learn(*row)
    np.testing.assert_allclose(told.coefficients, played.coefficients)
    told.suggest(0.3)
    played.suggest(0.3)
    np.testing.assert_allclose(told.probabilities, played.probabilities)


def test_seeds_reproduce_pickles_go_on_and_contexts_are_clipped():
    def play(bandit, rounds):
        actions = []
        for context in np.linspace(0, 1, rounds):
            actions.append(bandit.suggest(context))
            bandit.update(1 + 10 * abs(actions[-1] - context))
        return actions

    make = lambda: ChebyshevBandit(np.linspace(0, 1, 4), (0.0, 1.0), rng=5)  # noqa: E731
    assert play(make(), 80) == play(make(), 80)
    bandit = make()
    play(bandit, 40)
    assert play(pickle.loads(pickle.dumps(bandit)), 40) == play(bandit, 40)
    with pytest.warns(UserWarning, match="outside context_range"):
        bandit.suggest(-0.1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: updated(0.9), "cost"),
        (lambda: updated(np.nan), "cost"),
        (lambda: ChebyshevBandit([1.0], (0.0, 1.0)).update(2.0), "cost belongs to no action"),
        (lambda: ChebyshevBandit([1.0], (2.0, 1.0)), "context_range"),
        (lambda: ChebyshevBandit([1.0], (0.0, 1.0), degree=-1), "degree"),
        (lambda: ChebyshevBandit([1.0], (0.0, 1.0)).suggest(np.nan), "context"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
