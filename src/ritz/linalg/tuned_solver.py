"""A solver that learns its parameter while it works through a sequence of linear systems, from iteration counts alone.

Khodak, Chow, Balcan and Talwalkar, "Learning to Relax: Setting Solver Parameters Across a Sequence of Linear System Instances", ICLR 2024,
arXiv:2310.02246.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ritz.core import Result, integer, random_generator, real
from ritz.linalg.chebyshev_bandit import ChebyshevBandit
from ritz.linalg.sor import sor
from ritz.linalg.ssor_cg import ssor_cg
from ritz.linalg.tsallis_bandit import BinnedBandit, TsallisINF, action_values

SOLVERS = {"sor": sor, "ssor-cg": ssor_cg}
LEARNERS = (TsallisINF, BinnedBandit, ChebyshevBandit)


class Round(NamedTuple):
    """One system of a `TunedSolver`'s history: its context (None without), the action tried, and what it cost."""

    context: float | None
    action: float
    cost: float


@dataclass(frozen=True, eq=False, repr=False)
class TunedSolve(Result):
    """What `TunedSolver.solve` returns.

    Attributes
    ----------
    x : array (n,)
        The solution.
    action : float
        The parameter that was tried.
    cost : float
        Iterations, or what the callable gave; at least 1.
    converged : bool
        Whether the solver reached its tolerance; True of a callable.

    Examples
    --------
    >>> TunedSolve(np.ones(2), 1.5, 7.0, True)
    TunedSolve(x=float64[2], action=1.5, cost=7.0, converged=True)
    """

    x: np.ndarray
    action: float
    cost: float
    converged: bool


class TunedSolver:
    """Solve systems one after the other with a parameter that is learned on the way.

    Parameters
    ----------
    solver : {"sor", "ssor-cg"} or callable
        What is tuned: omega of `sor` or of `ssor_cg`; or ``solver(A, b, action) -> (x, cost)`` with any parameter and a cost of at least 1
        (iterations, or seconds over a unit that is never undercut).
    actions : array (d,)
        The values to choose from; by default 20 from 1 to 1.95.
    context : callable, optional
        ``context(A, b) -> float``, what the best parameter depends on: a diagonal shift, a time step times a coefficient, ``trace(A) / n``.
    learner : "auto", TsallisINF, BinnedBandit or ChebyshevBandit
        "auto" is `TsallisINF` for systems without contexts and `ChebyshevBandit` for those with, on the range of the contexts seen so far: when one
        falls outside, the range grows by half and the history is learned anew. An instance brings its own actions.
    tol : float
        Of "sor" and "ssor-cg".
    maxiter : int
        Of "sor" and "ssor-cg": what a parameter that fails costs.
    rng : Generator, int or None
        For the learner of "auto".

    Attributes
    ----------
    history : list of Round
        What was tried and what it cost.

    Raises
    ------
    ValueError, TypeError
        If an argument is no valid choice.

    Notes
    -----
    An instance can be pickled (with a callable that can) and goes on where it was.

    References
    ----------
    .. [1] Khodak, Chow, Balcan and Talwalkar, ICLR 2024, arXiv:2310.02246.

    Examples
    --------
    >>> A = np.array([[4.0, 1.0], [1.0, 3.0]])
    >>> tuned = TunedSolver("sor", rng=0)
    >>> for _ in range(50):
    ...     found = tuned.solve(A, np.array([1.0, 2.0]))
    >>> found.x.round(6), len(tuned.history)
    (array([0.090909, 0.636364]), 50)
    """

    def __init__(
        self,
        solver: str | Callable = "sor",
        *,
        actions=None,
        context: Callable | None = None,
        learner="auto",
        tol: float = 1e-8,
        maxiter: int = 10_000,
        rng: np.random.Generator | int | None = None,
    ):
        if not callable(solver) and (not isinstance(solver, str) or solver not in SOLVERS):
            raise ValueError(f"solver must be {', '.join(map(repr, SOLVERS))} or callable, got {solver!r}")
        if context is not None and not callable(context):
            raise TypeError(f"context must be callable or None, got {type(context).__name__}")
        if not isinstance(learner, LEARNERS) and not (isinstance(learner, str) and learner == "auto"):
            names = ", ".join(kind.__name__ for kind in LEARNERS)
            raise TypeError(f"learner must be 'auto' or an instance of {names}, got {learner!r}")
        if actions is not None and learner != "auto":
            raise ValueError("actions must be None where the learner brings its own")
        self._solver, self._context = solver, context
        self._tol, self._maxiter = real(tol, "tol", above=0), integer(maxiter, "maxiter", at_least=1)
        self._rng = random_generator(rng)
        self._learner = None if learner == "auto" else learner
        self._is_automatic = learner == "auto"
        self.actions = learner.actions if learner != "auto" else action_values(np.linspace(1, 1.95, 20) if actions is None else actions)
        self.history: list[Round] = []

    @property
    def learner(self):
        """The bandit at work; None before the first system under "auto"."""
        return self._learner

    def solve(self, A, b, *, context: float | None = None, x0=None) -> TunedSolve:
        """Solve one system and learn from its cost.

        Parameters
        ----------
        A, b
            As the solver takes them.
        context : float, optional
            In place of the callable given at the start.
        x0 : array (n,), optional
            Where "sor" and "ssor-cg" start.

        Returns
        -------
        TunedSolve
            The solution and what was tried.

        Raises
        ------
        ValueError, TypeError
            As the solver; if x0 is given to a callable, a context is missing that systems before had, or a callable's cost is below 1.
        """
        if context is None and self._context is not None:
            context = self._context(A, b)
        context = None if context is None else real(context, "context")
        learner = self._prepared(context)
        action = learner.suggest(context)
        x, cost, converged = self._tried(A, b, action, x0)
        learner.update(cost)
        self.history.append(Round(context, action, cost))
        return TunedSolve(x, action, cost, converged)

    def _tried(self, A, b, action: float, x0) -> tuple:
        if callable(self._solver):
            if x0 is not None:
                raise ValueError("x0 must be None with a callable solver, which starts where it will")
            x, cost = self._solver(A, b, action)
            return x, real(cost, "cost", at_least=1), True
        found = SOLVERS[self._solver](A, b, omega=action, x0=x0, tol=self._tol, maxiter=self._maxiter)
        return found.x, float(max(found.iterations, 1)), found.converged

    def _prepared(self, context: float | None):
        """The learner, fit for this context."""
        if not self._is_automatic:
            return self._learner
        if context is None:
            if isinstance(self._learner, ChebyshevBandit):
                raise ValueError("context must be given: the systems before had one")
            self._learner = self._learner or TsallisINF(self.actions, rng=self._rng)
        elif isinstance(self._learner, TsallisINF):
            raise ValueError("context must be None: the systems before had none")
        else:
            low, high = self._learner.context_range if self._learner else (context, context)
            if self._learner is None or not low <= context <= high:
                self._learner = self._learned_anew(_widened(low, high, context))
        return self._learner

    def _learned_anew(self, context_range: tuple[float, float]) -> ChebyshevBandit:
        bandit = ChebyshevBandit(self.actions, context_range, rng=self._rng)
        for context, action, cost in self.history:
            bandit.learn(context, int(np.argmin(np.abs(self.actions - action))), cost)
        return bandit


def _widened(low: float, high: float, context: float) -> tuple[float, float]:
    """A range that holds the context too, half as wide again towards it."""
    margin = 0.5 * (high - low) or 0.1 * max(abs(context), 1.0)
    return (
        (min(low, context - margin), high)
        if context < low
        else (low, max(high, context + margin))
        if context > high
        else (low - margin, high + margin)
    )
