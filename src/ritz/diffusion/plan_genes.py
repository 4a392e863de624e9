"""Sampling plans as genes: independent decisions that a search may mix and change, whatever comes out being a plan again.

Liu et al., ICLR 2024, arXiv:2312.07243, section 5 and appendix: what is mutated, with which probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ritz.diffusion.exponential_integrator import relaxation_factor
from ritz.diffusion.schedules import SPACINGS, NoiseSchedule, timesteps
from ritz.diffusion.solver_plan import PlanStep, Update, older_nodes, warm_up_orders
from ritz.diffusion.unified_sampling import SamplingPlan

MUTATION = 0.3
TIME_SPREAD, RELAXATION_SPREAD = 0.08, 0.03
SMALLEST_GAP = 1e-3
"""Times keep at least this relative distance."""
ORDERS, ORDER_PROBABILITIES = (1, 2, 3, 4), (0.2, 0.4, 0.3, 0.1)


@dataclass(frozen=True)
class StepGenes:
    """The decisions of one step.

    `slope_points` is how many earlier values estimate the first derivative: fewer than the order asks for is low-order estimation. `relaxation` is
    that of the first derivative in the predictor; a named one belongs to the predictor or the corrector, whichever has order 2.
    """

    order: int
    prediction: str
    slope_points: int
    relaxation: float | str
    corrected: bool

    def effective(self, known: int, last: bool) -> StepGenes:
        """The same step where `known` values are: orders are cut to them, a last step is not corrected, and what has no effect is left out."""
        order, corrected = min(self.order, known), self.corrected and not last
        named = isinstance(self.relaxation, str)
        relaxed = order == 2 or (order == 1 and corrected) if named else order > 1
        return StepGenes(order, self.prediction, min(self.slope_points, max(order - 1, 1)), self.relaxation if relaxed else 0.0, corrected)


@dataclass(frozen=True)
class PlanGenes:
    """The decisions of a plan."""

    times: tuple[float, ...]
    steps: tuple[StepGenes, ...]
    first_step: str = "network"

    @property
    def calls(self) -> int:
        """How often the plan calls the denoiser."""
        return len(self.steps) - (self.first_step != "network")

    def effective(self) -> PlanGenes:
        """Of all genes of the same plan those that say no more than it does."""
        last = len(self.steps) - 1
        return replace(self, steps=tuple(genes.effective(i + 1, i == last) for i, genes in enumerate(self.steps)))

    def plan(self) -> SamplingPlan:
        """The plan they stand for."""
        return SamplingPlan(self.times, tuple(_planned(genes) for genes in self.effective().steps), self.first_step)


def _planned(genes: StepGenes) -> PlanStep:
    nodes = older_nodes(genes.order)
    points = tuple(nodes[: genes.slope_points] if k == 1 else nodes for k in range(1, genes.order))
    predictor = Update(genes.order, points, relaxation=genes.relaxation if genes.order > 1 else 0.0)
    corrector = predictor.redone(genes.relaxation if genes.order == 1 else 0.0) if genes.corrected else None
    return PlanStep(predictor, corrector, genes.prediction)


def fixed_solvers(schedule: NoiseSchedule, calls: int, predictions: tuple[str, ...], t_end: float) -> list[PlanGenes]:
    """Multistep DPM-Solver(++) and UniPC of orders 1 to 3 with either B(h), for each prediction on each grid of times."""
    kinds = [(order, corrected, relaxation) for order in (1, 2, 3) for corrected, relaxation in ((False, 0.0), (True, "bh1"), (True, "bh2"))]
    grids = [tuple(timesteps(schedule, calls, spacing, t_end=t_end).tolist()) for spacing in SPACINGS]
    solvers = (
        PlanGenes(
            times, tuple(StepGenes(p, prediction, max(p - 1, 1), relaxation, corrected) for p in warm_up_orders(calls, order, lower_order_final=True))
        )
        for times in grids
        for prediction in predictions
        for order, corrected, relaxation in kinds
    )
    return list(dict.fromkeys(genes.effective() for genes in solvers))


class Variation:
    """Makes children of plans, all with the same number of denoiser calls."""

    def __init__(self, rng: np.random.Generator, schedule: NoiseSchedule, predictions: tuple[str, ...], first_steps: tuple[str, ...]):
        self.rng, self.schedule, self.predictions, self.first_steps = rng, schedule, predictions, first_steps

    def crossover(self, one: PlanGenes, other: PlanGenes) -> PlanGenes:
        """Each decision from either parent; both have equally many steps."""
        times = sorted((self._either(a, b) for a, b in zip(one.times, other.times)), reverse=True)
        steps = tuple(
            StepGenes(*(self._either(getattr(a, name), getattr(b, name)) for name in StepGenes.__dataclass_fields__))
            for a, b in zip(one.steps, other.steps)
        )
        lengths_agree = (one.first_step == "network") == (other.first_step == "network")
        return PlanGenes(self._apart(times), steps, self._either(one.first_step, other.first_step) if lengths_agree else one.first_step)

    def mutated(self, genes: PlanGenes, t_end_range: tuple[float, float]) -> PlanGenes:
        """Each decision changed with probability 0.3."""
        genes = self._with_first_step(genes) if self._changes() else genes
        start, *inner, end = genes.times
        inner = [t * (1 + TIME_SPREAD * self.rng.normal()) if self._changes() else t for t in inner]
        end = self.rng.uniform(*t_end_range) if self._changes() else end
        inner = np.clip(inner, end, start).tolist()
        times = self._apart([start, *sorted(inner, reverse=True), end])
        steps = tuple(self._mutated_step(step, genes.times, i) for i, step in enumerate(genes.steps))
        return PlanGenes(times, steps, genes.first_step).effective()

    def _mutated_step(self, genes: StepGenes, times: tuple[float, ...], i: int) -> StepGenes:
        changes = {}
        if self._changes():
            changes["order"] = int(self.rng.choice(ORDERS, p=ORDER_PROBABILITIES))
            changes["slope_points"] = max(changes["order"] - 1, 1)
        if self._changes():
            changes["prediction"] = self._prediction()
        if self._changes():
            changes["slope_points"] = int(self.rng.choice((1, 2)))
        if self._changes():
            changes["relaxation"] = self._number(genes, times, i) + RELAXATION_SPREAD * self.rng.normal()
        if self._changes():
            changes["corrected"] = bool(self.rng.random() < 0.5)
        return replace(genes, **changes)

    def _number(self, genes: StepGenes, times: tuple[float, ...], i: int) -> float:
        """The relaxation as c in 1 + c h: of a named one, the c that gives the same factor over this step."""
        if not isinstance(genes.relaxation, str):
            return genes.relaxation
        h = self.schedule.lam(times[i + 1]) - self.schedule.lam(times[i])
        return (relaxation_factor(genes.relaxation, h, 1 if genes.prediction == "noise" else -1) - 1) / h

    def _with_first_step(self, genes: PlanGenes) -> PlanGenes:
        """Another first step; an analytic one saves a call, which another step spends."""
        first_step = self._first_step()
        analytic, was = first_step != "network", genes.first_step != "network"
        times, steps = list(genes.times), list(genes.steps)
        if analytic and not was:
            at = int(self.rng.integers(len(steps)))
            times.insert(at + 1, float(np.sqrt(times[at] * times[at + 1])))
            steps.insert(at, steps[at])
        elif was and not analytic:
            at = int(self.rng.integers(1, len(steps)))
            del times[at], steps[at]
        return PlanGenes(tuple(times), tuple(steps), first_step)

    def _prediction(self) -> str:
        weights = np.array([0.4 if name == "ems" else 0.3 for name in self.predictions])
        return str(self.rng.choice(self.predictions, p=weights / weights.sum()))

    def _first_step(self) -> str:
        weights = np.array([0.4 if name == "mean" else 0.3 for name in self.first_steps])
        return str(self.rng.choice(self.first_steps, p=weights / weights.sum()))

    def _either(self, one, other):
        return one if self.rng.random() < 0.5 else other

    def _changes(self) -> bool:
        return self.rng.random() < MUTATION

    def _apart(self, times: list[float]) -> tuple[float, ...]:
        """Falling times, pushed apart where they are too near; the first and the last stay."""
        apart = list(times)
        for i in range(1, len(apart) - 1):
            apart[i] = min(apart[i], apart[i - 1] / (1 + SMALLEST_GAP))
        for i in range(len(apart) - 2, 0, -1):
            apart[i] = max(apart[i], apart[i + 1] * (1 + SMALLEST_GAP))
        return tuple(apart)
