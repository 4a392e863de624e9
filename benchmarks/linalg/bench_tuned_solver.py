"""What learning costs: bandit steps against limits, ChebCB against fits from scratch, a sweep of SOR against pyamg's."""

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import scipy.optimize
import scipy.sparse
from numpy.polynomial import chebyshev

from ritz.core import optional_import
from ritz.linalg import ChebyshevBandit, TsallisINF
from ritz.linalg.sor import forward_sweep
from ritz.studies import Comparison, benchmark, compare
from ritz.studies.timing import within

ACTIONS = np.linspace(1, 1.95, 20)
RANGE = (0.0, 1.0)
STEPS = 2000


def _cost(action: float, context: float, noise: float) -> float:
    return 20 + 400 * (action - 1.2 - 0.6 * context) ** 2 + 5 * noise


def _played(bandit, contexts: np.ndarray, noise: np.ndarray) -> None:
    for context, deviation in zip(contexts, noise):
        bandit.update(_cost(bandit.suggest(context), context, deviation))


@benchmark
def a_step_of_tsallis_inf() -> Comparison:
    """Suggest and update, 20 actions: 30 microseconds a step."""
    contexts, noise = np.random.default_rng(0).random((2, STEPS))
    _played(TsallisINF(ACTIONS, rng=1), contexts[:10], noise)
    return within(f"Tsallis-INF, {STEPS} steps", lambda: _played(TsallisINF(ACTIONS, rng=1), contexts, noise), limit=30e-6 * STEPS)


@benchmark
def a_step_of_chebcb() -> Comparison:
    """Suggest and update, 20 actions, degree 5: 150 microseconds a step."""
    contexts, noise = np.random.default_rng(0).random((2, STEPS))
    _played(ChebyshevBandit(ACTIONS, RANGE, rng=1), contexts[:100], noise)
    return within(f"ChebCB, {STEPS} steps", lambda: _played(ChebyshevBandit(ACTIONS, RANGE, rng=1), contexts, noise), limit=150e-6 * STEPS)


@benchmark
def chebcb_against_fits_from_scratch() -> Iterator[Comparison]:
    """A step after 5000 rounds with normal equations kept, against least squares from all rounds: of every action, and of the played one alone."""
    rng = np.random.default_rng(0)
    contexts, noise = rng.random((2, 5000))
    bandit, actions, costs = ChebyshevBandit(ACTIONS, RANGE, rng=1), np.empty(5000, dtype=int), np.empty(5000)
    for t, (context, deviation) in enumerate(zip(contexts, noise)):
        action = bandit.suggest(context)
        actions[t], costs[t] = np.argmin(np.abs(ACTIONS - action)), _cost(action, context, deviation)
        bandit.update(costs[t])
    features, predictions = chebyshev.chebvander(2 * contexts - 1, 5), np.zeros(5000)
    spread = np.ptp(costs)
    scale = costs.max() * (2 + 4 * spread / costs.max() * (1 + np.log(6)))
    box = np.append(costs.max(), 2 * spread / np.arange(1, 6)) / scale
    played = itertools.cycle(rng.permutation(actions))

    def from_scratch(refitted: Iterable[int]) -> float:
        residual = 0.0
        for action in refitted:
            rows = actions == action
            right = (costs[rows] - 1) / scale
            theta = np.linalg.lstsq(features[rows], right, rcond=None)[0]
            if np.any(np.abs(theta) > box):
                residual = 2 * scipy.optimize.lsq_linear(features[rows], right, (-box, box)).cost
        return ((predictions - costs / scale) ** 2).sum() - residual

    def ours() -> None:
        context = rng.random()
        bandit.update(min(_cost(bandit.suggest(context), context, 0.5), costs.max()))

    name = "ChebCB's step after 5000 rounds"
    yield compare(name, ours, lambda: from_scratch(range(len(ACTIONS))), peer_name="fit of all actions from all rounds", target=50.0)
    yield compare(name, ours, lambda: from_scratch([next(played)]), peer_name="fit of the played action from its rounds")


@benchmark
def a_sweep_of_sor() -> Comparison:
    """Ten forward sweeps on a 200 x 200 grid; at most 1.5 times pyamg's time."""
    sor = optional_import("pyamg.relaxation.relaxation", extra="linalg").sor

    n = 200
    T = scipy.sparse.diags_array([-np.ones(n - 1), 2 * np.ones(n), -np.ones(n - 1)], offsets=[-1, 0, 1])
    A = scipy.sparse.csr_array(scipy.sparse.kronsum(T, T))
    theirs = scipy.sparse.csr_matrix(A)
    b, x, y, factors = np.ones(n * n), np.zeros(n * n), np.zeros(n * n), 1.5 / A.diagonal()

    def ours() -> None:
        for _ in range(10):
            forward_sweep(A.indptr, A.indices, A.data, factors, b, x)

    return compare(
        "SOR, ten sweeps, 40,000 rows", ours, lambda: sor(theirs, y, b, 1.5, iterations=10), peer_name="pyamg.relaxation.sor", target=1 / 1.5
    )
