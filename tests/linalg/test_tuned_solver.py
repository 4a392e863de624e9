"""A solver that tunes itself: solutions, costs, learners, growing ranges of contexts, resuming from a pickle, refusals."""

import pickle

import numpy as np
import pytest
import scipy.sparse
from linalg.test_sor import laplacian
from specimens import Specimen

from ritz.linalg import BinnedBandit, ChebyshevBandit, TsallisINF, TunedSolve, TunedSolver, optimal_omega, sor, ssor_cg

SPECIMENS = {
    "TunedSolver": Specimen(
        TunedSolver,
        lambda: {"solver": "sor", "actions": np.linspace(1, 1.9, 4), "learner": "auto", "tol": 1e-6, "maxiter": 100},
        accepts={"actions": ("none",)},
    ),
    "TunedSolver.solve": Specimen(
        lambda A, b, context, x0: TunedSolver("ssor-cg").solve(A, b, context=context, x0=x0),
        lambda: {"A": laplacian(3), "b": np.ones(9), "context": 0.5, "x0": np.zeros(9)},
        accepts={"context": ("none",)},
    ),
    "TunedSolve": Specimen(
        TunedSolve,
        lambda: {"x": np.ones(2), "action": 1.5, "cost": 7.0, "converged": True},
        spare=frozenset({"x", "action", "cost", "converged"}),
    ),
}


@pytest.mark.parametrize(("name", "solve"), [("sor", sor), ("ssor-cg", ssor_cg)])
def test_it_solves_and_counts_what_the_solver_takes(name, solve):
    tuned, A, b = TunedSolver(name, rng=0), laplacian(5), np.arange(25.0)
    for _ in range(5):
        found = tuned.solve(A, b)
        alone = solve(A, b, omega=found.action)
        np.testing.assert_array_equal(found.x, alone.x)
        assert found.cost == alone.iterations
        assert found.converged
        assert tuned.history[-1] == (None, found.action, found.cost)
    assert isinstance(tuned.learner, TsallisINF)
    np.testing.assert_allclose(tuned.actions, np.linspace(1, 1.95, 20))
    assert tuned.solve(A, np.zeros(25)).cost == 1.0


def test_it_learns_the_best_fixed_omega():
    tuned, A, rng = TunedSolver("sor", actions=[1.0, 1.5, 1.9], rng=0), laplacian(8), np.random.default_rng(1)
    costs = [tuned.solve(A, rng.standard_normal(64)).cost for _ in range(400)]
    assert np.mean(costs[-100:]) < 0.6 * np.mean(costs[:30])
    assert optimal_omega(A) == pytest.approx(1.49, abs=0.01)
    assert tuned.learner.probabilities[1] > 0.7


def test_with_contexts_it_learns_an_omega_for_each():
    rng = np.random.default_rng(1)
    tuned = TunedSolver("sor", actions=[1.0, 1.5], context=lambda A, b: A.diagonal()[0] - 4, rng=0)
    one = scipy.sparse.eye_array(64)
    for c in rng.choice([0.0, 8.0], size=300):
        tuned.solve(laplacian(8) + c * one, rng.standard_normal(64))
    assert isinstance(tuned.learner, ChebyshevBandit)
    late = tuned.history[-100:]
    assert np.mean([record.action == (1.5 if record.context == 0.0 else 1.0) for record in late]) > 0.8


def test_the_range_of_contexts_grows_and_the_history_is_kept():
    tuned, A, b = TunedSolver(lambda A, b, action: (b, 2 + action), actions=[0.0, 1.0], rng=0), np.eye(2), np.ones(2)
    for context in (1.0, 1.05, 3.0, -2.0, 0.0):
        tuned.solve(A, b, context=context)
        low, high = tuned.learner.context_range
        assert low <= context <= high
    assert low < -2.0
    assert high > 3.0
    again = ChebyshevBandit([0.0, 1.0], (low, high))
    for context, action, cost in tuned.history:
        again.learn(context, int(action), cost)
    np.testing.assert_allclose(again.coefficients, tuned.learner.coefficients, atol=1e-12)


@pytest.mark.parametrize("make", [lambda: TsallisINF([1.0, 1.5], rng=0), lambda: BinnedBandit([1.0, 1.5], (0.0, 1.0), rng=0)])
def test_a_learner_of_ones_own(make):
    tuned = TunedSolver("ssor-cg", learner=make())
    np.testing.assert_array_equal(tuned.actions, [1.0, 1.5])
    assert tuned.solve(laplacian(4), np.ones(16), context=0.2, x0=np.ones(16)).action in (1.0, 1.5)


def test_a_callable_brings_its_own_cost():
    restarts = []

    def solve(A, b, restart):
        restarts.append(restart)
        return np.linalg.solve(A, b), 1.0 + restart

    tuned = TunedSolver(solve, actions=[5, 10, 20], rng=0)
    for _ in range(200):
        found = tuned.solve(2 * np.eye(3), np.ones(3))
    np.testing.assert_allclose(found.x, 0.5)
    assert np.mean(np.array(restarts[-50:]) == 5) > 0.8


@pytest.mark.parametrize("context", [None, 0.3])
def test_a_pickled_solver_goes_on_where_it_was(context):
    tuned, A, rng = TunedSolver("sor", rng=0), laplacian(4), np.random.default_rng(0)
    systems = rng.standard_normal((20, 16))
    for b in systems:
        tuned.solve(A, b, context=context)
    resumed = pickle.loads(pickle.dumps(tuned))
    assert [resumed.solve(A, b, context=context).action for b in systems] == [tuned.solve(A, b, context=context).action for b in systems]
    assert resumed.history == tuned.history


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: TunedSolver("multigrid"), ValueError, "solver"),
        (lambda: TunedSolver(context=3), TypeError, "context"),
        (lambda: TunedSolver(learner="ChebCB"), TypeError, "learner"),
        (lambda: TunedSolver(actions=[1.0], learner=TsallisINF([1.0])), ValueError, "actions"),
        (lambda: TunedSolver(actions=[]), ValueError, "actions"),
        (lambda: TunedSolver(lambda A, b, action: (b, 0.5)).solve(np.eye(2), np.ones(2)), ValueError, "cost"),
        (lambda: TunedSolver(lambda A, b, action: (b, 2)).solve(np.eye(2), np.ones(2), x0=np.ones(2)), ValueError, "x0"),
        (lambda: TunedSolver(actions=[2.5]).solve(np.eye(2), np.ones(2)), ValueError, "omega"),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_contexts_are_given_always_or_never():
    with_context, without = TunedSolver(), TunedSolver()
    with_context.solve(np.eye(2), np.ones(2), context=1.0)
    without.solve(np.eye(2), np.ones(2))
    with pytest.raises(ValueError, match="context must be given"):
        with_context.solve(np.eye(2), np.ones(2))
    with pytest.raises(ValueError, match="context must be None"):
        without.solve(np.eye(2), np.ones(2), context=1.0)
