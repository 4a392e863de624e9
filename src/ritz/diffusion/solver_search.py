"""Search for the sampling plan that serves one model best at a given number of denoiser calls.

Liu et al., "A Unified Sampling Framework for Solver Searching of Diffusion Probabilistic Models", ICLR 2024, arXiv:2312.07243, section 5 (S^3). An
evolutionary search starts from all solvers of fixed form, and crosses and mutates the best plans. Most children need not be tried: a network that has
learned to rank plans from those that were chooses which ones are.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy.stats import kendalltau

from ritz.core import Result, flag, integer, progress, random_generator, real
from ritz.diffusion.denoisers import Denoiser, check_callable
from ritz.diffusion.exponential_integrator import NonFiniteAnswer, check_start, multistep
from ritz.diffusion.model_statistics import EMS
from ritz.diffusion.plan_genes import PlanGenes, Variation, fixed_solvers
from ritz.diffusion.plan_ranking import PlanRanking
from ritz.diffusion.schedules import NoiseSchedule, check_schedule, timesteps
from ritz.diffusion.solver_plan import dpm_solver_plan
from ritz.diffusion.unified_sampling import SamplingPlan, checked_mean, usf_sample

Objective = Callable[[torch.Tensor], float]

CROSSOVER = 0.3
STAGE, EXPLORED = 16, 2
"""Plans tried per stage of the search with a predictor, and how many of them it does not choose."""
GENERATIONS, CHILDREN = 2, 120
"""Of an evolution by predicted scores."""
FIRST_EPOCHS, LATER_EPOCHS = 150, 25
REFERENCE_STEPS = 1000


@dataclass(frozen=True, eq=False, repr=False)
class SearchResult(Result):
    """What a `SolverSearch` found.

    Attributes
    ----------
    best : SamplingPlan
        The plan with the lowest score.
    score : float
        Its score.
    history : ndarray (evaluations,)
        The lowest score after each evaluation.
    evaluated : tuple of SamplingPlan
        All plans that were tried, in order.
    scores : ndarray (evaluations,)
        Their scores; infinite where the samples were not finite.
    seeds : int
        How many of them were solvers of fixed form.
    predictor_kendall_tau : float or None
        Rank correlation, mean over the stages, of predicted and true scores on plans that the predictor had not seen.
    """

    best: SamplingPlan
    score: float
    history: np.ndarray
    evaluated: tuple[SamplingPlan, ...]
    scores: np.ndarray
    seeds: int
    predictor_kendall_tau: float | None = None

    @property
    def best_fixed(self) -> SamplingPlan:
        """The best of the solvers of fixed form."""
        return self.evaluated[int(np.argmin(self.scores[: self.seeds]))]


class SolverSearch:
    """A search for the best plan at a number of denoiser calls.

    Parameters
    ----------
    denoiser : callable
        ``D(x, sigma)``.
    x_T : Tensor (batch, *shape)
        Starting points in the frame y = x / alpha, the same for all plans.
    schedule : NoiseSchedule
        Where the times live.
    nfe : int
        Number of denoiser calls, from 2. All plans that are tried have it.
    objective : callable or "reference"
        Maps samples (batch, *shape) to a number, lower is better; "reference": the mean distance to the endpoints of 1000 steps from `x_T`.
    evaluations : int
        How many plans are tried, the solvers of fixed form among them, which are tried first.
    population : int
        Parents are drawn from this many of the best plans.
    predictor : bool
        Let a network choose which plans are tried; without it every child is.
    ems : EMS, optional
        The model's statistics, which allow plans with prediction "ems".
    mean_x0 : Tensor (*shape,), optional
        The mean of the data, which allows plans with first step "mean".
    t_end_range : tuple of float, optional
        Where the last time may lie; by default it is the schedule's smallest.
    seed : int
        Of all random choices.

    Raises
    ------
    TypeError, ValueError
        For a bad argument.

    Notes
    -----
    Cost: ``evaluations * nfe`` calls; a predictor adds 3 to 4 s of processor time for each 100 evaluations. A plan whose samples are
    not finite scores infinity.
    Plans are multistep: orders 1 to 4, low-order estimation of the first derivative, relaxations, pseudo-correctors, analytic first steps. Steps from
    older nodes and implicit correctors, which `usf_sample` can carry out, are not searched, as in the paper.

    Examples
    --------
    >>> from ritz.diffusion import GaussianMixtureDenoiser, VPLinear
    >>> denoiser, schedule = GaussianMixtureDenoiser([1.0, 1.0], [[1.0], [-1.0]], [0.1, 0.1]), VPLinear()
    >>> x_T = schedule.rho(1.0) * torch.randn(32, 1, generator=torch.Generator().manual_seed(0))
    >>> result = SolverSearch(denoiser, x_T, schedule, nfe=4, evaluations=80, predictor=False).run()
    >>> result.best.calls, result.seeds, len(result.scores)
    (4, 48, 80)
    """

    def __init__(
        self,
        denoiser: Denoiser,
        x_T: torch.Tensor,
        schedule: NoiseSchedule,
        *,
        nfe: int,
        objective: Objective | Literal["reference"] = "reference",
        evaluations: int = 200,
        population: int = 15,
        predictor: bool = True,
        ems: EMS | None = None,
        mean_x0: torch.Tensor | None = None,
        t_end_range: tuple[float, float] | None = None,
        seed: int = 0,
    ):
        check_callable(denoiser, "denoiser")
        check_schedule(schedule)
        if ems is not None and not isinstance(ems, EMS):
            raise TypeError(f"ems must be an EMS or None, got {type(ems).__name__}")
        if not (callable(objective) or objective == "reference"):
            raise TypeError(f'objective must be callable or "reference", got {objective!r}')
        self.denoiser, self.x_T, self.schedule, self.objective = denoiser, check_start(x_T, "x_T"), schedule, objective
        self.nfe = integer(nfe, "nfe", at_least=2)
        self.evaluations = integer(evaluations, "evaluations", at_least=1)
        self.population = integer(population, "population", at_least=2)
        self.predictor = flag(predictor, "predictor")
        self.ems = ems
        self.mean_x0 = checked_mean(mean_x0, self.x_T)
        self.t_end_range = _checked_range(t_end_range, schedule)
        self.seed = integer(seed, "seed", at_least=0)

    def run(self) -> SearchResult:
        """Carry the search out; the same seed gives the same result.

        Raises
        ------
        TypeError, ValueError
            If the denoiser returns another shape, or the objective no number.
        """
        return _Evolution(self).run()


class _Evolution:
    """One run of a search."""

    def __init__(self, search: SolverSearch):
        self.search, self.rng = search, random_generator(search.seed)
        predictions = ("noise", "data") if search.ems is None else ("noise", "data", "ems")
        first_steps = ("network", "zero") if search.mean_x0 is None else ("network", "zero", "mean")
        self.variation = Variation(self.rng, search.schedule, predictions, first_steps)
        self.seeds = fixed_solvers(search.schedule, search.nfe, predictions, search.t_end_range[0])[: search.evaluations]
        self.objective = search.objective if callable(search.objective) else self._distance_to_reference()
        self.scores: dict[PlanGenes, float] = {}
        self.taus: list[float] = []

    def run(self) -> SearchResult:
        batches = self._chosen_by_predictor() if self.search.predictor else self._one_by_one()
        for _ in progress(range(self.search.evaluations), f"search at {self.search.nfe} calls"):
            genes = next(batches)
            self.scores[genes] = self._score(genes.plan())
        plans, scores = list(self.scores), np.array(list(self.scores.values()))
        best = int(np.argmin(scores))
        tau = float(np.mean(self.taus)) if self.taus else None
        evaluated = tuple(genes.plan() for genes in plans)
        return SearchResult(evaluated[best], float(scores[best]), np.minimum.accumulate(scores), evaluated, scores, len(self.seeds), tau)

    def _one_by_one(self) -> Iterator[PlanGenes]:
        """The plans to try: the fixed solvers, then children of the best so far."""
        yield from self.seeds
        while True:
            yield self._child(self._best(list(self.scores), list(self.scores.values())), self.scores)

    def _chosen_by_predictor(self) -> Iterator[PlanGenes]:
        """The plans to try: the fixed solvers, then in stages those that a network ranks first, which learns from each stage."""
        yield from self.seeds
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.search.seed)
            ranking = PlanRanking(self.search.schedule, self.search.seed)
        epochs = FIRST_EPOCHS
        while True:
            ranking.fit(list(self.scores), list(self.scores.values()), epochs)
            epochs = LATER_EPOCHS
            stage = self._stage(ranking)
            predicted = ranking.predict(stage)
            yield from stage
            self.taus.append(float(kendalltau(predicted, [self.scores[genes] for genes in stage]).statistic))

    def _stage(self, ranking: PlanRanking) -> list[PlanGenes]:
        """Evolve by predicted scores; return the plans ranked first, and some others to learn from."""
        parents, born = self._best(list(self.scores), list(self.scores.values())), {}
        for _ in range(GENERATIONS):
            for _ in range(CHILDREN):
                born[self._child(parents, self.scores, born)] = None
            candidates = list(born)
            ranked = [candidates[i] for i in np.argsort(ranking.predict(candidates), kind="stable")]
            parents = ranked[: self.search.population]
        chosen, others = ranked[: STAGE - EXPLORED], ranked[STAGE - EXPLORED :]
        return chosen + [others[i] for i in self.rng.choice(len(others), EXPLORED, replace=False)]

    def _best(self, plans: Sequence[PlanGenes], scores: Sequence[float]) -> list[PlanGenes]:
        return [plans[i] for i in np.argsort(scores, kind="stable")[: self.search.population]]

    def _child(self, parents: Sequence[PlanGenes], *known: Container[PlanGenes]) -> PlanGenes:
        """A plan that is not known yet, crossed from two parents or copied from one, and mutated."""
        while True:
            child = parents[self.rng.integers(len(parents))]
            mates = [mate for mate in parents if len(mate.steps) == len(child.steps) and mate is not child]
            if mates and self.rng.random() < CROSSOVER:
                child = self.variation.crossover(child, mates[self.rng.integers(len(mates))])
            child = self.variation.mutated(child, self.search.t_end_range)
            if not any(child in plans for plans in known):
                return child

    def _score(self, plan: SamplingPlan) -> float:
        search = self.search
        try:
            with torch.no_grad():
                x = usf_sample(search.denoiser, search.x_T, search.schedule, plan, ems=search.ems, mean_x0=search.mean_x0).x
        except NonFiniteAnswer:
            return float("inf")
        if not bool(torch.isfinite(x).all()):
            return float("inf")
        score = float(self.objective(x))
        return score if np.isfinite(score) else float("inf")

    def _distance_to_reference(self) -> Objective:
        search = self.search
        lam = search.schedule.lam(timesteps(search.schedule, REFERENCE_STEPS, t_end=search.t_end_range[0]))
        with torch.no_grad():
            endpoints = multistep(search.denoiser, search.x_T, lam, dpm_solver_plan(REFERENCE_STEPS)).x
        return lambda x: float((x - endpoints).flatten(1).norm(dim=1).mean())


def _checked_range(t_end_range: object, schedule: NoiseSchedule) -> tuple[float, float]:
    if t_end_range is None:
        return schedule.t_min, schedule.t_min
    if not isinstance(t_end_range, tuple) or len(t_end_range) != 2:
        raise TypeError("t_end_range must be a tuple of two times")
    low = real(t_end_range[0], "t_end_range", above=0)
    return low, real(t_end_range[1], "t_end_range", at_least=low, below=schedule.t_max)
