"""The unified sampling framework: published solvers as plans, orders of convergence, counted calls, and plans as text."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from specimens import Specimen

from ritz.diffusion import (
    EDM,
    EMS,
    GaussianMixtureDenoiser,
    PlanStep,
    SamplingPlan,
    SolverPlan,
    Update,
    VPLinear,
    compute_ems,
    dpm_solver_plan,
    dpm_solver_v3_sample,
    multistep,
    plan_nfe,
    timesteps,
    unipc_plan,
    usf_sample,
)
from ritz.diffusion.dpm_solver_v3 import dpm_solver_v3_plan, sampling_nodes

SCHEDULE = VPLinear()
SMOOTH = GaussianMixtureDenoiser([1.0, 1.0], torch.tensor([[0.5, 0.0], [-0.5, 0.3]], dtype=torch.float64), torch.tensor([0.3, 0.5]))
STARTS = SCHEDULE.rho(1.0) * torch.randn(32, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
TIMES = timesteps(SCHEDULE, 9)


def _close(found, expected):
    return float((found - expected).abs().max()) < 1e-10


def _sampled(plan, **options):
    return usf_sample(SMOOTH, STARTS, SCHEDULE, plan, **options)


def _multistep_loop(order, prediction, names=False):
    """DPM-Solver(++) of order 2 and UniPC's predictors from their published formulas, in x, without our step."""
    lam = SCHEDULE.lam(TIMES)
    alpha, sigma = SCHEDULE.alpha(TIMES), SCHEDULE.sigma(TIMES)
    x, values = alpha[0] * STARTS, []
    for i in range(9):
        data = SMOOTH(x / alpha[i], math.exp(-lam[i]))
        values.append(data if prediction == "data" else (x - alpha[i] * data) / sigma[i])
        h = lam[i + 1] - lam[i]
        slope = torch.zeros_like(x)
        if i and order == 2:
            slope = (values[-1] - values[-2]) * h / (lam[i] - lam[i - 1])  # D1 of the papers
        if prediction == "data":
            B = {"bh1": -h, "bh2": math.expm1(-h)}[names or "bh2"]
            x = sigma[i + 1] / sigma[i] * x - alpha[i + 1] * math.expm1(-h) * values[-1] - 0.5 * alpha[i + 1] * B * slope
        else:
            B = {"bh1": h, "bh2": math.expm1(h)}[names or "bh2"]
            x = alpha[i + 1] / alpha[i] * x - sigma[i + 1] * math.expm1(h) * values[-1] - 0.5 * sigma[i + 1] * B * slope
    return x / alpha[-1]


@pytest.mark.parametrize("prediction", ["data", "noise"])
def test_ddim_as_a_plan(prediction):
    plan = SamplingPlan.on(TIMES, dpm_solver_plan(9, order=1, prediction=prediction))
    assert _close(_sampled(plan).x, _multistep_loop(1, prediction))


@pytest.mark.parametrize("prediction", ["data", "noise"])
@pytest.mark.parametrize("name", ["bh1", "bh2"])
def test_second_order_predictors_as_named_relaxations(name, prediction):
    """bh2 is also DPM-Solver-2 of the released multistep codes, and DPM-Solver++(2M)."""
    steps = (PlanStep(Update(1), prediction=prediction), *(PlanStep(Update.over(2, (-2,), relaxation=name), prediction=prediction),) * 8)
    assert _close(_sampled(SamplingPlan(tuple(TIMES), steps)).x, _multistep_loop(2, prediction, name))


@pytest.mark.parametrize(
    "plan",
    [dpm_solver_plan(9, order=2), dpm_solver_plan(9, order=3), dpm_solver_plan(9, prediction="noise"), unipc_plan(9), unipc_plan(9, variant="bh1")],
)
def test_plans_of_the_room_are_plans_with_times(plan):
    """Those of DPM-Solver and UniPC are compared with diffusers in test_exponential_integrator.py."""
    assert torch.equal(_sampled(SamplingPlan.on(TIMES, plan)).x, multistep(SMOOTH, STARTS, SCHEDULE.lam(TIMES), plan).x)


def _singlestep_plan(n):
    """DPM-Solver++(3S) with inner nodes at 1/3 and 2/3: all updates of a macro step from its start, the last slope from its newest node alone."""
    lam = SCHEDULE.lam(timesteps(SCHEDULE, n))
    inner = np.concatenate([a + (b - a) * np.array([0, 1 / 3, 2 / 3]) for a, b in pairwise(lam)])
    macro = (PlanStep(Update(1)), PlanStep(Update.over(2, (-1,), start=-2)), PlanStep(Update(2, ((-1,),), start=-3)))
    return SamplingPlan.on(SCHEDULE.inverse_lam(np.append(inner, lam[-1])), SolverPlan(macro * n))


def test_singlestep_solvers_start_from_older_nodes():
    y, lam = STARTS, SCHEDULE.lam(timesteps(SCHEDULE, 4))
    for s, t in pairwise(lam):
        h, r1, r2 = t - s, 1 / 3, 2 / 3
        start = SMOOTH(y, math.exp(-s))
        u = math.exp(-r1 * h) * y - math.expm1(-r1 * h) * start
        first = SMOOTH(u, math.exp(-s - r1 * h)) - start
        u = math.exp(-r2 * h) * y - math.expm1(-r2 * h) * start + r2 / r1 * (math.expm1(-r2 * h) / (r2 * h) + 1) * first
        second = SMOOTH(u, math.exp(-s - r2 * h)) - start
        y = math.exp(-h) * y - math.expm1(-h) * start + (math.expm1(-h) / h + 1) / r2 * second
    assert _close(_sampled(_singlestep_plan(4)).x, y)


@pytest.fixture(scope="module")
def ems():
    return compute_ems(SMOOTH, SCHEDULE, (2,), samples=32, generator=0, dtype=torch.float64)


@pytest.mark.parametrize("options", [{"pseudo_corrector": False}, {"pseudo_corrector": True}])
def test_dpm_solver_v3_as_a_plan(ems, options):
    nodes = sampling_nodes(ems, SCHEDULE, 8, "quadratic")
    plan = dpm_solver_v3_plan([True] * 7 + [False], order=3, pseudo_predictor=False, lower_order_final=True, **options)
    times = SCHEDULE.inverse_lam(ems.lam[nodes].numpy())
    expected = dpm_solver_v3_sample(SMOOTH, STARTS, SCHEDULE, ems, steps=8, spacing="quadratic", **options).x
    assert _close(_sampled(SamplingPlan.on(times, plan), ems=ems).x, expected)


@pytest.fixture(scope="module")
def endpoints():
    return multistep(SMOOTH, STARTS, SCHEDULE.lam(timesteps(SCHEDULE, 3000)), unipc_plan(3000)).x


def _slope(make, endpoints, calls=(40, 80, 160)):
    errors = [(_sampled(make(n)).x - endpoints).norm(dim=1).median().item() for n in calls]
    return math.log2(errors[0] / errors[-1]) / math.log2(calls[-1] / calls[0])


def _uniform_plan(n, order, points=None, relaxation=0.0, prediction="data", implicit=False):
    """Full order from the start on, as far as there is history."""
    steps = []
    for i in range(n):
        p = min(order, i + 1)
        nodes = tuple(range(-2, -p - 1, -1))
        update = Update(p, tuple(nodes[:points] if k == 1 else nodes for k in range(1, p)), relaxation=relaxation)
        corrector = update.redone() if implicit and i < n - 1 else None
        steps.append(PlanStep(update, corrector, prediction, implicit and i < n - 1))
    return SamplingPlan(tuple(timesteps(SCHEDULE, n)), tuple(steps))


@pytest.mark.parametrize("prediction", ["data", "noise"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_order_of_convergence(order, prediction, endpoints):
    assert _slope(lambda n: _uniform_plan(n, order, prediction=prediction), endpoints) >= order - 0.2


def test_order_of_convergence_of_singlestep(endpoints):
    assert _slope(_singlestep_plan, endpoints) >= 2.8


def test_low_order_estimation_of_the_slope_costs_an_order(endpoints):
    assert _slope(lambda n: _uniform_plan(n, 3, points=1), endpoints) == pytest.approx(2, abs=0.3)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("relaxation", [-0.2, 0.3])
def test_a_relaxation_keeps_the_order(order, relaxation, endpoints):
    assert _slope(lambda n: _uniform_plan(n, order, relaxation=relaxation), endpoints) >= order - 0.2


def test_an_implicit_corrector_evaluates_what_it_corrected():
    plan = SamplingPlan((1.0, 0.5, 0.1), (PlanStep(Update(1), Update.over(2, (-1,), start=-2), implicit=True), PlanStep(Update.over(2, (-2,)))))
    lam = SCHEDULE.lam(np.array(plan.times))
    first = SMOOTH(STARTS, math.exp(-lam[0]))
    h = lam[1] - lam[0]
    predicted = math.exp(-h) * STARTS - math.expm1(-h) * first
    slope = (SMOOTH(predicted, math.exp(-lam[1])) - first) / h
    corrected = predicted + (math.expm1(-h) / h + 1) * h * slope
    second = SMOOTH(corrected, math.exp(-lam[1]))
    k = lam[2] - lam[1]
    expected = math.exp(-k) * corrected - math.expm1(-k) * second + (math.expm1(-k) / k + 1) * k * (second - first) / h
    assert _close(_sampled(plan).x, expected)


def test_implicit_plans_of_higher_order_converge(endpoints):
    assert _slope(lambda n: _uniform_plan(n, 2, implicit=True), endpoints) >= 2.8


@pytest.mark.parametrize("first_step", ["network", "zero", "mean"])
@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("order", [1, 3])
def test_calls_are_counted(order, implicit, first_step):
    plan = _uniform_plan(6, order, implicit=implicit)
    plan = SamplingPlan(plan.times, plan.steps, first_step)
    calls = []
    result = usf_sample(lambda y, sigma: calls.append(sigma) or SMOOTH(y, sigma), STARTS, SCHEDULE, plan, mean_x0=torch.zeros(2))
    assert len(calls) == result.nfe == plan.calls == plan_nfe(plan) == 6 + 5 * implicit - (first_step != "network")
    assert plan.correctors == ("implicit" if implicit else "none",) * 5 + ("none",)


def test_an_analytic_first_step_takes_zero_or_the_mean():
    plan = SamplingPlan.on((1.0, 0.4), dpm_solver_plan(1), "mean")
    mean, ratio = torch.tensor([0.2, -0.1], dtype=torch.float64), SCHEDULE.rho(0.4) / SCHEDULE.rho(1.0)
    assert _close(_sampled(plan, mean_x0=mean).x, ratio * STARTS + (1 - ratio) * mean)
    assert _close(_sampled(SamplingPlan(plan.times, plan.steps, "zero")).x, ratio * STARTS)
    with pytest.raises(ValueError, match="mean_x0 must be given"):
        _sampled(plan)
    with pytest.raises(ValueError, match="mean_x0"):
        _sampled(plan, mean_x0=torch.zeros(3))


PLANS = {
    "unipc": SamplingPlan.on(TIMES, unipc_plan(9, variant="bh1")),
    "implicit": _uniform_plan(5, 3, relaxation=0.1234567890123456789, implicit=True),
    "singlestep": _singlestep_plan(2),
    "analytic": SamplingPlan.on(TIMES, dpm_solver_plan(9, prediction="noise"), "zero"),
}


@pytest.mark.parametrize("name", PLANS)
def test_plans_survive_text_and_files(name, tmp_path):
    plan = PLANS[name]
    assert SamplingPlan.from_json(plan.to_json()) == plan
    plan.save(tmp_path / "plan.json")
    assert SamplingPlan.load(tmp_path / "plan.json") == plan
    assert hash(SamplingPlan.load(tmp_path / "plan.json")) == hash(plan)


@pytest.mark.parametrize(
    "text", ["{}", "[1]", '{"times": [1.0], "steps": [{}], "first_step": "zero"}', "nothing", PLANS["unipc"].to_json().replace("data", "dada")]
)
def test_text_that_is_no_plan(text):
    with pytest.raises(ValueError):
        SamplingPlan.from_json(text)


def test_a_plan_may_begin_anew_at_any_node():
    plan = PLANS["implicit"].after(2)
    assert plan.orders == (1, 2, 3)
    assert plan.times == PLANS["implicit"].times[2:]
    assert PLANS["singlestep"].after(1).orders == (1, 1, 1, 2, 2)
    assert PLANS["unipc"].after(0) == PLANS["unipc"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((1.0, 0.5), (PlanStep(Update.over(3, (-2, -3))),)), "looks back"),
        (((1.0, 0.5), (PlanStep(Update(1)),) * 2), "times must be 3"),
        (((0.5, 1.0), (PlanStep(Update(1)),)), "falling"),
        (((1.0, 0.0), (PlanStep(Update(1)),)), "times"),
        (((1.0, 0.5), (PlanStep(Update(1), prediction="score"),)), "prediction"),
        (((1.0, 0.5), (PlanStep(Update(1)),), "half"), "first_step"),
        (((1.0, 0.5), (PlanStep(Update(1), Update.over(2, (-1,), start=-2)),)), "last step"),
    ],
)
def test_impossible_plans_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SamplingPlan(*arguments)


def test_implicit_steps_need_a_corrector():
    with pytest.raises(ValueError, match="implicit"):
        PlanStep(Update(1), implicit=True)


def test_statistics_that_do_not_fit_are_refused(ems):
    plan = SamplingPlan(tuple(TIMES), tuple(PlanStep(Update(1), prediction="ems") for _ in range(9)))
    with pytest.raises(TypeError, match="ems must be an EMS"):
        _sampled(plan)
    with pytest.raises(ValueError, match="ems was made for samples of shape"):
        _sampled(plan, ems=EMS(ems.lam, *torch.zeros(3, len(ems.lam), 5)))
    with pytest.raises(ValueError, match="ems covers"):
        usf_sample(SMOOTH, STARTS, EDM(), SamplingPlan((80.0, 1.0), plan.steps[:1]), ems=EMS.degenerate("data", np.linspace(0, 1, 5)))
    with pytest.raises(ValueError, match="one node"):
        _sampled(SamplingPlan((1.0, 0.5, 0.4999, 0.1), plan.steps[:3]), ems=ems)


SPECIMENS = {
    "SamplingPlan": Specimen(
        lambda **arguments: SamplingPlan(steps=(PlanStep(Update(1)),) * 2, **arguments),
        lambda: {"times": (1.0, 0.5, 0.1), "first_step": "network"},
        spare=frozenset({"times"}),
    ),
    "SamplingPlan.on": Specimen(
        lambda **arguments: SamplingPlan.on(plan=dpm_solver_plan(2), **arguments),
        lambda: {"times": np.array([1.0, 0.5, 0.1]), "first_step": "network"},
    ),
    "usf_sample": Specimen(
        lambda **arguments: usf_sample(lambda y, sigma: y / (1 + sigma**2), schedule=SCHEDULE, plan=PLANS["analytic"], **arguments),
        lambda: {"x_T": torch.ones(2, 3, dtype=torch.float64), "mean_x0": torch.zeros(3)},
        accepts={"x_T": ("more dimensions",), "mean_x0": ("none",)},
    ),
    "plan_nfe": Specimen(plan_nfe, lambda: {"plan": PLANS["unipc"]}),
}
