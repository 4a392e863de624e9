"""The step and the loop: exact cases, orders of convergence, and the same numbers as the schedulers of `diffusers`."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from specimens import Specimen

from ritz.diffusion import (
    EDM,
    GaussianMixtureDenoiser,
    PlanStep,
    Samples,
    SolverPlan,
    Update,
    VPLinear,
    dpm_solver_plan,
    multistep,
    phi,
    timesteps,
    unipc_plan,
)
from ritz.diffusion.exponential_integrator import DataPrediction, MultistepSolver

SMOOTH = GaussianMixtureDenoiser([1.0, 1.0], torch.tensor([[0.5, 0.0], [-0.5, 0.3]], dtype=torch.float64), torch.tensor([0.3, 0.5]))
SCHEDULE = VPLinear()
STARTS = SCHEDULE.rho(1.0) * torch.randn(48, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _lam(n, spacing="logsnr"):
    return SCHEDULE.lam(timesteps(SCHEDULE, n, spacing))


@pytest.fixture(scope="module")
def endpoints():
    return multistep(SMOOTH, STARTS, _lam(3000), unipc_plan(3000)).x


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("z", [-20.0, -1.5, -0.31, -0.29, -1e-9, 0.0, 1e-4, 0.29, 0.9999, 1.0001, 12.0])
def test_phi_is_its_integral(k, z):
    integral = quad(lambda u: math.exp((1 - u) * z) * u ** (k - 1) / math.factorial(k - 1), 0, 1, epsabs=0, epsrel=1e-13)[0]
    assert phi(k, z) == pytest.approx(integral, rel=1e-12)


def test_first_order_with_either_prediction_is_ddim():
    lam = _lam(7, "quadratic")
    y = STARTS
    for lam_s, lam_t in pairwise(lam):
        rho_s, rho_t = math.exp(-lam_s), math.exp(-lam_t)
        data = SMOOTH(y, rho_s)
        y = data + rho_t / rho_s * (y - data)
    for prediction in ("noise", "data"):
        result = multistep(SMOOTH, STARTS, lam, dpm_solver_plan(7, order=1, prediction=prediction))
        assert torch.allclose(result.x, y, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("prediction", ["noise", "data"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_orders_of_convergence_of_dpm_solver(order, prediction, endpoints):
    errors = [_error(dpm_solver_plan(n, order=order, prediction=prediction, lower_order_final=False), endpoints) for n in (80, 160, 320)]
    assert math.log2(errors[0] / errors[-1]) / 2 >= order - 0.15


@pytest.mark.parametrize("prediction", ["noise", "data"])
@pytest.mark.parametrize("variant", ["bh1", "bh2"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_orders_of_convergence_of_unipc(order, variant, prediction, endpoints):
    errors = [_error(unipc_plan(n, order=order, variant=variant, prediction=prediction, lower_order_final=False), endpoints) for n in (80, 160, 320)]
    assert math.log2(errors[0] / errors[-1]) / 2 >= order + 0.8


def _error(plan, endpoints):
    result = multistep(SMOOTH, STARTS, _lam(len(plan.steps)), plan)
    return (result.x - endpoints).norm(dim=1).median().item()


def test_one_point_too_few_for_the_slope_costs_an_order(endpoints):
    """The first derivative of an order-3 plan from one point only: order 2."""

    def plan(n):
        steps = list(dpm_solver_plan(n, order=3, lower_order_final=False).steps)
        steps[2:] = [PlanStep(Update(3, ((-2,), (-2, -3)))) for _ in steps[2:]]
        return SolverPlan(tuple(steps))

    errors = [_error(plan(n), endpoints) for n in (80, 160, 320)]
    assert math.log2(errors[0] / errors[-1]) / 2 == pytest.approx(2, abs=0.2)


def test_a_relaxation_proportional_to_h_keeps_second_order(endpoints):
    def plan(n):
        steps = list(dpm_solver_plan(n, order=2, lower_order_final=False).steps)
        steps[1:] = [PlanStep(Update.over(2, (-2,), relaxation=0.3)) for _ in steps[1:]]
        return SolverPlan(tuple(steps))

    errors = [_error(plan(n), endpoints) for n in (80, 160, 320)]
    assert math.log2(errors[0] / errors[-1]) / 2 >= 1.85


@pytest.mark.parametrize("plan", [dpm_solver_plan(6, order=3), unipc_plan(6), unipc_plan(6, variant="bh1")], ids=["dpm", "bh2", "bh1"])
def test_a_constant_data_prediction_is_integrated_exactly(plan):
    target = torch.tensor([[0.3, -0.7]], dtype=torch.float64)
    lam = _lam(6, "uniform")
    result = multistep(lambda y, sigma: target.expand_as(y), STARTS, lam, plan)
    assert torch.allclose(result.x, target + math.exp(lam[0] - lam[-1]) * (STARTS - target), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("prediction", ["noise", "data"])
@pytest.mark.parametrize("order", [2, 3, 4])
def test_a_prediction_polynomial_in_lam_is_integrated_exactly_after_warm_up(order, prediction):
    """F of degree order - 1 in lam: a step of that order is exact."""
    lam = [-1.0, -0.6, -0.1, 0.3, 0.9]

    def value(at):
        return (1 + 0.5 * at) ** (order - 1)

    orders = [min(i, order) for i in range(1, 5)]
    plan = SolverPlan(tuple(PlanStep(Update.over(p, range(-2, -p - 1, -1)), prediction=prediction) for p in orders))
    solver = MultistepSolver(plan, lam)
    y = torch.zeros(1, 1, dtype=torch.float64)
    for node in lam[:-1]:
        start, y = y, None
        data = start - math.exp(-node) * value(node) if prediction == "noise" else torch.full_like(start, value(node))
        y = solver.step(start, data)
    s, t = lam[-2:]
    if prediction == "noise":
        exact = float(start) - quad(lambda at: math.exp(-at) * value(at), s, t, epsrel=1e-13)[0]
    else:
        exact = math.exp(s - t) * float(start) + quad(lambda at: math.exp(at - t) * value(at), s, t, epsrel=1e-13)[0]
    assert float(y) == pytest.approx(exact, rel=1e-11)


@pytest.mark.parametrize("plan", [dpm_solver_plan(9), unipc_plan(9), unipc_plan(9, corrector=False)], ids=["dpm", "unipc", "unip"])
def test_a_plan_makes_one_call_per_step(plan):
    calls = []
    result = multistep(lambda y, sigma: calls.append(sigma) or SMOOTH(y, sigma), STARTS, _lam(9), plan, keep_trajectory=True)
    assert len(calls) == result.nfe == 9
    assert np.allclose(calls, np.exp(-_lam(9)[:-1]), rtol=1e-12)
    assert result.trajectory.shape == (10, 48, 2)
    assert torch.equal(result.trajectory[0], STARTS)
    assert torch.equal(result.trajectory[-1], result.x)


def test_the_corrector_keeps_the_evaluation_of_the_predicted_point():
    plan, lam = unipc_plan(4, order=2), _lam(4)
    solver = MultistepSolver(plan, lam.tolist())
    y = solver.step(STARTS, SMOOTH(STARTS, math.exp(-lam[0])))
    data = SMOOTH(y, math.exp(-lam[1]))
    solver.step(y, data)
    assert solver.values["data"][-1] is data
    assert not torch.equal(solver.states[-1], y)


def test_the_input_is_left_alone():
    before = STARTS.clone()
    multistep(SMOOTH, STARTS, _lam(5), unipc_plan(5, prediction="noise"))
    assert torch.equal(STARTS, before)


def test_samplers_are_differentiable():
    start = STARTS[:3].clone().requires_grad_()
    multistep(SMOOTH, start, _lam(5), unipc_plan(5)).x.sum().backward()
    step = torch.zeros_like(start)
    step[0, 0] = 1e-4
    with torch.no_grad():
        ends = [multistep(SMOOTH, start + sign * step, _lam(5), unipc_plan(5)).x.sum() for sign in (1, -1)]
    assert start.grad[0, 0].item() == pytest.approx((ends[0] - ends[1]).item() / 2e-4, rel=1e-5)


def _drive(scheduler, lam, denoiser, y):
    """Run a scheduler of `diffusers` over our nodes in the variance-preserving frame."""
    rho = torch.from_numpy(np.exp(-np.asarray(lam)))
    scheduler.set_timesteps(len(lam) - 1)
    scheduler.sigmas = rho
    scheduler.timesteps = torch.arange(len(lam) - 1)
    scheduler.set_begin_index(0)
    x = y / torch.sqrt(1 + rho[0] ** 2)
    for i in range(len(lam) - 1):
        alpha = 1 / torch.sqrt(1 + rho[i] ** 2)
        x = scheduler.step(denoiser(x / alpha, float(rho[i])), i, x).prev_sample
    return x * torch.sqrt(1 + rho[-1] ** 2)


@pytest.mark.parametrize("spacing", ["logsnr", "quadratic"])
@pytest.mark.parametrize("variant", ["bh1", "bh2"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_unipc_equals_diffusers(order, variant, spacing):
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.UniPCMultistepScheduler(solver_order=order, solver_type=variant, prediction_type="sample", final_sigmas_type="sigma_min")
    lam = _lam(8, spacing)
    theirs = _drive(scheduler, lam, SMOOTH, STARTS)
    ours = multistep(SMOOTH, STARTS, lam, unipc_plan(8, order=order, variant=variant)).x
    assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-9)


class _HalvedThirdTerm(DataPrediction):
    def integrals(self, lam_s, lam_t, order):
        decay, factors, offset = super().integrals(lam_s, lam_t, order)
        return decay, [factor / 2 if k == 2 else factor for k, factor in enumerate(factors)], offset


@pytest.mark.parametrize(("order", "kind"), [(1, "midpoint"), (2, "heun"), (2, "midpoint"), (3, "heun")])
def test_dpm_solver_equals_diffusers(order, kind):
    """Order 2 in both of their forms; order 3 once our third term is halved as theirs is. Theirs computes in single precision."""
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DPMSolverMultistepScheduler(solver_order=order, solver_type=kind, prediction_type="sample", final_sigmas_type="sigma_min")
    lam = _lam(8, "quadratic")
    theirs = _drive(scheduler, lam, SMOOTH, STARTS)
    plan = dpm_solver_plan(8, order=order) if kind == "heun" or order == 1 else unipc_plan(8, order=2, corrector=False)
    ours = multistep(SMOOTH, STARTS, lam, plan, predictions={"data": _HalvedThirdTerm()}).x
    assert torch.allclose(ours, theirs, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"lam": [0.0, 1.0]}, "lam"),
        ({"lam": [0.0, 1.0, 1.0]}, "lam"),
        ({"y": torch.zeros(3)}, "y"),
        ({"denoiser": lambda y, sigma: y[:, :1]}, "denoiser"),
        ({"denoiser": lambda y, sigma: y / 0}, "not finite at step 1"),
        ({"plan": SolverPlan((PlanStep(Update(1), prediction="ems"),) * 2)}, "predictions"),
    ],
)
def test_refusals(change, name):
    arguments = {"denoiser": SMOOTH, "y": STARTS, "lam": [0.0, 1.0, 2.0], "plan": dpm_solver_plan(2)} | change
    with pytest.raises(ValueError, match=name):
        multistep(**arguments)


@pytest.mark.parametrize(
    ("change", "name"), [({"denoiser": 3}, "denoiser"), ({"y": [[1.0]]}, "y"), ({"y": torch.ones(2, 2, dtype=int)}, "y"), ({"plan": "ddim"}, "plan")]
)
def test_wrong_types(change, name):
    arguments = {"denoiser": SMOOTH, "y": STARTS, "lam": [0.0, 1.0, 2.0], "plan": dpm_solver_plan(2)} | change
    with pytest.raises(TypeError, match=name):
        multistep(**arguments)


def test_frames_agree():
    """The same nodes give the same samples whatever schedule they came from."""
    lam = EDM().lam(timesteps(EDM(), 6))
    through_vp = SCHEDULE.lam(SCHEDULE.inverse_lam(lam))
    assert torch.allclose(
        multistep(SMOOTH, STARTS, lam, unipc_plan(6)).x, multistep(SMOOTH, STARTS, through_vp, unipc_plan(6)).x, rtol=1e-10, atol=1e-10
    )


SPECIMENS = {
    "phi": Specimen(phi, lambda: {"k": 2, "z": 0.5}),
    "multistep": Specimen(
        lambda **arguments: multistep(SMOOTH, plan=dpm_solver_plan(2), **arguments),
        lambda: {"y": STARTS[:2].clone(), "lam": np.array([0.0, 1.0, 2.0]), "keep_trajectory": False},
    ),
    "Samples": Specimen(Samples, lambda: {"x": STARTS, "nfe": 3}, spare=frozenset({"x", "nfe"})),
}
