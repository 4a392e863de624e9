"""Tsallis-INF: its probabilities to rounding and far out, regret in both worlds, bins, seeds, refusals."""

import pickle

import numpy as np
import pytest
from specimens import Specimen

from ritz.linalg import BinnedBandit, TsallisINF
from ritz.linalg.tsallis_bandit import tsallis_probabilities

RNG = np.random.default_rng(0)


def updated(bandit, cost, context=None):
    bandit.suggest(context)
    bandit.update(cost)


def suggested(bandit, context):
    bandit.suggest(context)


SPECIMENS = {
    "TsallisINF": Specimen(TsallisINF, lambda: {"actions": np.linspace(1, 2, 4)}),
    "TsallisINF.update": Specimen(lambda cost: updated(TsallisINF([1.0, 2.0]), cost), lambda: {"cost": 3.0}),
    "BinnedBandit": Specimen(BinnedBandit, lambda: {"actions": np.linspace(1, 2, 4), "context_range": np.array([0.0, 1.0]), "bins": 3}),
    "BinnedBandit.update": Specimen(lambda cost: updated(BinnedBandit([1.0, 2.0], (0.0, 1.0)), cost, 0.5), lambda: {"cost": 3.0}),
    "BinnedBandit.suggest": Specimen(lambda context: suggested(BinnedBandit([1.0, 2.0], (0.0, 1.0)), context), lambda: {"context": 0.5}),
}


@pytest.mark.parametrize("t", [1, 100, 10**7])
@pytest.mark.parametrize(
    "k",
    [
        np.zeros(5),
        np.array([0.0, 1.0, 2.0, 2.0, 10.0]),
        1e6 + np.arange(5.0),
        np.array([1e12, 1e12 + 1, 2e12, 1e3, 0.0]),
        1e12 + 1e3 * np.arange(5.0),
        np.abs(RNG.standard_cauchy(200)) * 1e4,
    ],
)
def test_probabilities_are_those_of_the_definition(k, t):
    eta = 2 / np.sqrt(t)
    p = tsallis_probabilities(k, eta, 1.0)
    assert np.all(p > 0)
    assert abs(p.sum() - 1) < 1e-12
    order = np.argsort(k, kind="stable")
    assert np.all(np.diff(p[order]) <= 0)
    strictly = np.diff(k[order]) > 1e-9 * (k.max() - k.min())
    assert np.all(np.diff(p[order])[strictly] < 0)
    root = 2 / (eta * np.sqrt(p)) - (k - k.min())  # minus x, the same for all
    np.testing.assert_allclose(root, root[np.argmin(k)], rtol=1e-6, atol=1e-6 * (k.max() - k.min()))
    np.testing.assert_allclose(tsallis_probabilities(k + 1024.0, eta, 1.0), p, rtol=1e-9)


def test_equal_costs_give_equal_probabilities_and_the_scale_divides():
    np.testing.assert_allclose(tsallis_probabilities(np.full(7, 3e5), 0.01, 1.0), np.full(7, 1 / 7), rtol=1e-12)
    k = np.array([5.0, 1.0, 30.0])
    np.testing.assert_allclose(tsallis_probabilities(k, 0.3, 4.0), tsallis_probabilities(k / 4, 0.3, 1.0), rtol=1e-12)


def test_an_update_is_the_importance_weighted_cost():
    bandit = TsallisINF([1.0, 2.0, 3.0], rng=0)
    k, total = np.zeros(3), 0.0
    for t in range(1, 50):
        p = tsallis_probabilities(k, 2 / np.sqrt(t), total / (t - 1) if t > 1 else 1.0)
        np.testing.assert_allclose(bandit.probabilities, p, rtol=1e-10)
        played, cost = int(bandit.suggest()) - 1, 1 + 5 * RNG.random()
        bandit.update(cost)
        k[played] += (cost - 1) / p[played]
        total += cost - 1


def pseudo_regrets(rounds: list[int], seed: int) -> list[float]:
    """Two arms with Bernoulli costs, gap 1: the expected cost above the best arm's at each of the rounds."""
    bandit, rng = TsallisINF([0.0, 1.0], rng=seed), np.random.default_rng(100 + seed)
    mistakes, noted = 0, []
    for t, noise in enumerate(2 * rng.random(max(rounds)), 1):
        worse = bandit.suggest() == 1.0
        mistakes += worse
        bandit.update(1 + worse + noise)
        if t in rounds:
            noted.append(float(mistakes))
    return noted


def test_stochastic_regret_grows_like_the_logarithm():
    earlier, later = np.mean([pseudo_regrets([10**4, 10**5], seed) for seed in range(3)], axis=0)
    assert later / earlier < 2


def test_adversarial_regret_is_below_the_bound():
    d, rounds, span = 4, 4000, 10.0
    regrets = []
    for seed in range(4):
        bandit = TsallisINF(np.arange(d), rng=seed)
        costs = np.full((rounds, d), 1 + span)
        for start in range(0, rounds, 500):  # the good arm moves
            costs[start : start + 500, (start // 500) % d] = 1.0
        paid = 0.0
        for row in costs:
            cost = row[int(bandit.suggest())]
            bandit.update(cost)
            paid += cost
        regrets.append(paid - costs.sum(axis=0).min())
    assert max(regrets) <= 6 * np.sqrt(d * rounds) * span


def test_costs_of_one_keep_the_probabilities_equal():
    bandit = TsallisINF([1.0, 2.0], rng=0)
    for _ in range(20):
        updated(bandit, 1.0)
    np.testing.assert_allclose(bandit.probabilities, [0.5, 0.5])


def test_seeds_reproduce_and_pickles_go_on():
    def play(bandit, rounds):
        actions = []
        for _ in range(rounds):
            actions.append(bandit.suggest(0.3))
            bandit.update(1 + 10 * actions[-1])
        return actions

    for make in (lambda: TsallisINF(np.linspace(1, 2, 5), rng=3), lambda: BinnedBandit(np.linspace(1, 2, 5), (0.0, 1.0), rng=3)):
        assert play(make(), 60) == play(make(), 60)
        bandit = make()
        play(bandit, 30)
        assert play(pickle.loads(pickle.dumps(bandit)), 30) == play(bandit, 30)


def test_bins_learn_apart():
    bandit, rng = BinnedBandit([0.0, 1.0], (0.0, 1.0), bins=2, rng=0), np.random.default_rng(1)
    for context in rng.random(2000):
        action = bandit.suggest(context)
        bandit.update(1.0 if (context < 0.5) == (action == 0.0) else 10.0)
    for context, best in ((0.1, 0), (0.9, 1)):
        bandit.suggest(context)
        assert bandit.probabilities[best] > 0.9


@pytest.mark.parametrize("bins", [1, 4])
def test_the_bin_is_the_one_with_the_nearest_center(bins):
    bandit = BinnedBandit([0.0, 1.0], (-1.0, 3.0), bins=bins)
    centers = -1 + 4 * (np.arange(bins) + 0.5) / bins
    for context in RNG.uniform(-1, 3, 50):
        bandit.suggest(context)
        assert bandit._bandits.index(bandit._current) == np.argmin(np.abs(centers - context))


def test_contexts_outside_are_clipped_with_a_warning():
    bandit = BinnedBandit([0.0, 1.0], (0.0, 1.0))
    with pytest.warns(UserWarning, match="outside context_range"):
        bandit.suggest(1.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: TsallisINF([]), "actions"),
        (lambda: updated(TsallisINF([1.0]), 0.5), "cost"),
        (lambda: updated(TsallisINF([1.0]), np.nan), "cost"),
        (lambda: TsallisINF([1.0]).update(2.0), "cost belongs to no action"),
        (lambda: BinnedBandit([1.0], (1.0, 1.0)), "context_range must be increasing"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
