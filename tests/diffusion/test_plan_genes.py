"""Plans as genes: the fixed solvers that a search starts from, and children that are always plans with the same number of calls."""

import numpy as np
import pytest

from ritz.diffusion import VPLinear, dpm_solver_plan, timesteps, unipc_plan
from ritz.diffusion.plan_genes import PlanGenes, StepGenes, Variation, fixed_solvers

SCHEDULE = VPLinear()
SEEDS = fixed_solvers(SCHEDULE, 5, ("noise", "data"), SCHEDULE.t_min)
PLANS = [genes.plan() for genes in SEEDS]
GRIDS = ("logsnr", "uniform", "quadratic", "karras")


@pytest.mark.parametrize("spacing", GRIDS)
@pytest.mark.parametrize("prediction", ["noise", "data"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_fixed_solvers_are_the_plans_of_dpm_solver_and_unipc(order, prediction, spacing):
    wanted = [dpm_solver_plan(5, order=order, prediction=prediction)]
    wanted += [unipc_plan(5, order=order, prediction=prediction, variant=variant) for variant in ("bh1", "bh2")]
    times = tuple(timesteps(SCHEDULE, 5, spacing).tolist())
    for plan in wanted:
        assert any(found.times == times and _same(found.steps, plan.steps) for found in PLANS)


def _same(found, wanted):
    """Equal up to relaxations of a first derivative that an update of order 1 does not have."""
    return all(
        (a.prediction, *_compared(a.predictor), *_compared(a.corrector)) == (b.prediction, *_compared(b.predictor), *_compared(b.corrector))
        for a, b in zip(found, wanted, strict=True)
    )


def _compared(update):
    return (None,) if update is None else (update.order, update.start, tuple(map(set, update.points)), update.relaxation if update.order > 1 else 0)


def test_there_are_no_two_alike_among_them():
    assert len(SEEDS) == 3 * 3 * 2 * 4 == len(set(SEEDS))
    assert all(genes.calls == 5 == plan.calls for genes, plan in zip(SEEDS, PLANS))


def _children(count=600, t_end=(1e-3, 1e-3)):
    variation = Variation(np.random.default_rng(0), SCHEDULE, ("noise", "data", "ems"), ("network", "zero", "mean"))
    population = list(SEEDS)
    for _ in range(count):
        one, other = population[-1], population[int(variation.rng.integers(len(population)))]
        crossed = variation.crossover(one, other) if len(one.steps) == len(other.steps) else other
        population.append(variation.mutated(crossed, t_end))
    return population[len(SEEDS) :]


def test_children_are_plans_with_as_many_calls():
    for genes in _children():
        plan = genes.plan()  # would refuse a step that looks too far back
        assert plan.calls == genes.calls == 5
        assert plan.times[0] == 1.0
        assert plan.times[-1] == pytest.approx(1e-3)
        assert min(a / b for a, b in zip(plan.times, plan.times[1:])) >= 1 + 0.99e-3
        assert plan.steps[-1].corrector is None


def test_children_come_in_all_kinds():
    children = _children()
    steps = [step for genes in children for step in genes.steps]
    assert {step.order for step in steps} == {1, 2, 3, 4}
    assert {step.prediction for step in steps} == {"noise", "data", "ems"}
    assert {step.slope_points for step in steps} >= {1, 2}
    assert {step.corrected for step in steps} == {True, False}
    assert {genes.first_step for genes in children} == {"network", "zero", "mean"}
    assert len({genes.times for genes in children}) > 300


def test_the_last_time_moves_in_its_range():
    ends = [genes.times[-1] for genes in _children(t_end=(1e-4, 2e-3))]
    assert min(ends) >= 1e-4
    assert max(ends) <= 2e-3
    assert len(set(ends)) > 50


def test_a_named_relaxation_becomes_the_number_that_does_the_same():
    variation = Variation(np.random.default_rng(0), SCHEDULE, ("data",), ("network",))
    genes = StepGenes(2, "data", 1, "bh2", False)
    number = variation._number(genes, (1.0, 0.5), 0)
    h = SCHEDULE.lam(0.5) - SCHEDULE.lam(1.0)
    z = -h
    assert 1 + number * h == pytest.approx(0.5 * z * np.expm1(z) / (np.expm1(z) - z), rel=1e-12)


def test_low_order_estimation_uses_fewer_points():
    genes = PlanGenes((1.0, 0.5, 0.3, 0.1), tuple(StepGenes(3, "data", 1, 0.0, True) for _ in range(3)))
    predictor, corrector = genes.plan().steps[2].predictor, genes.plan().steps[1].corrector
    assert predictor.points == ((-2,), (-2, -3))
    assert corrector.points == ((-1, -3), (-1, -3))
