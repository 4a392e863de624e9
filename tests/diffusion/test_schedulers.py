"""Schedulers: driven by a loop each equals its sampler. What all of them must do in `diffusers` is in test_scheduler_interface.py."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from specimens import Specimen

from ritz.diffusion import (
    EMS,
    Compensation,
    DCSolverScheduler,
    DEISScheduler,
    DPMSolverV3Scheduler,
    Flow,
    GaussianMixtureDenoiser,
    NetworkDenoiser,
    PlanStep,
    SamplingPlan,
    Update,
    USFScheduler,
    compute_ems,
    dc_sample,
    deis_sample,
    dpm_solver_plan,
    dpm_solver_v3_sample,
    timesteps,
    unipc_plan,
    usf_sample,
)
from ritz.diffusion.dpm_solver_v3 import dpm_solver_v3_plan
from ritz.diffusion.scheduler_interface import PREDICTION_TYPES

diffusers = pytest.importorskip("diffusers")

EXACT = GaussianMixtureDenoiser(torch.ones(2), [[0.5, -0.2], [-0.5, 0.4]], [0.1, 0.2])
NOISE = torch.randn(16, 2, generator=torch.Generator().manual_seed(0))


def _network(scheduler):
    """A network trained as the scheduler's configuration says, which knows the data distribution."""
    schedule, kind = scheduler.schedule, scheduler.config.prediction_type

    def network(x, timestep):
        if isinstance(schedule, Flow):
            sigma = timestep / 1000
            alpha = 1 - sigma
        else:
            t = (timestep + 1) / 1000
            alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        alpha, sigma = alpha.reshape(-1, 1), sigma.reshape(-1, 1)
        data = EXACT(x / alpha, (sigma / alpha).expand(len(x), 1)[:, 0])
        noise = (x - alpha * data) / sigma
        return {"epsilon": noise, "sample": data, "v_prediction": alpha * noise - sigma * data, "flow_prediction": noise - data}[kind]

    return network


def _drive(scheduler, network, steps, sample, ems=None):
    scheduler.set_timesteps(steps, ems=ems)
    sample = sample * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        output = network(scheduler.scale_model_input(sample, timestep), timestep)
        sample = scheduler.step(output, timestep, sample).prev_sample
    return sample


def _double(function):
    return lambda x, timestep: function(x.double(), timestep.double()).to(x.dtype)


@pytest.fixture(scope="module")
def ems():
    scheduler = DPMSolverV3Scheduler()
    denoiser = NetworkDenoiser(_network(scheduler), scheduler.schedule, "noise", "timestep")
    return compute_ems(denoiser, scheduler.schedule, (2,), samples=64, generator=0, dtype=torch.float64)


@pytest.mark.parametrize(
    ("prediction_type", "prediction", "time_input"),
    [
        ("epsilon", "noise", "timestep"),
        ("sample", "data", "timestep"),
        ("v_prediction", "velocity", "timestep"),
        ("flow_prediction", "flow", "1000sigma"),
    ],
)
@pytest.mark.parametrize("options", [{}, {"solver_order": 2, "pseudo_corrector": True}, {"corrector": False, "spacing": "uniform"}])
def test_a_loop_over_the_scheduler_is_the_sampler(prediction_type, prediction, time_input, options, ems):
    scheduler = DPMSolverV3Scheduler(prediction_type=prediction_type, flow_shift=2.0, **options)
    if prediction_type == "flow_prediction":
        schedule = scheduler.schedule
        ems = EMS.degenerate("data", np.linspace(schedule.lam(schedule.t_max), schedule.lam(schedule.t_min), 201))
    network = _double(_network(scheduler))
    ours = _drive(scheduler, network, 7, NOISE, ems)
    denoiser = NetworkDenoiser(network, scheduler.schedule, prediction, time_input)
    t_start, t_end = (scheduler.schedule.inverse_lam(float(ems.lam[end])) for end in (0, -1))
    keywords = {name: value for name, value in options.items() if name != "solver_order"} | {"order": options.get("solver_order", 3)}
    y = NOISE / scheduler.schedule.alpha(t_start)
    expected = dpm_solver_v3_sample(denoiser, y, scheduler.schedule, ems, steps=7, **keywords).x * scheduler.schedule.alpha(t_end)
    assert ours.dtype == torch.float32
    assert torch.allclose(ours, expected, rtol=1e-6, atol=1e-6)


DEIS_OPTIONS = [
    {},
    {"order": 0, "spacing": "logsnr"},
    {"variant": "rho_ab", "order": 2},
    {"variant": "ipndm", "spacing": "uniform"},
    {"variant": "rho_rk", "rk": "heun2"},
    {"variant": "rho_rk", "rk": "ssprk3", "spacing": "karras"},
]


@pytest.mark.parametrize("options", DEIS_OPTIONS, ids=str)
@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction", "flow_prediction"])
def test_a_loop_over_the_deis_scheduler_is_the_sampler(prediction_type, options):
    scheduler = DEISScheduler(prediction_type=prediction_type, flow_shift=2.0, **options)
    found, expected = _loop_and_sampler(scheduler, lambda *start: deis_sample(*start, steps=7, **options), torch.float64)
    assert torch.allclose(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction"])
def test_a_loop_over_the_deis_scheduler_in_single_precision(prediction_type):
    """Other variants magnify the rounding of the first, noisiest samples; see the test in double precision."""
    found, expected = _loop_and_sampler(DEISScheduler(prediction_type=prediction_type), lambda *start: deis_sample(*start, steps=7), torch.float32)
    assert torch.allclose(found.double(), expected.double(), rtol=1e-6, atol=1e-6)


RATIOS = [1.0, 1.0, 0.7, 1.2, 1.0, 0.0, 1.3]


@pytest.mark.parametrize("options", [{}, {"order": 2, "variant": "bh2", "spacing": "logsnr"}, {"dc_order": 1}, {"corrector": False}], ids=str)
@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction", "flow_prediction"])
def test_a_loop_over_the_dc_scheduler_is_the_sampler(prediction_type, options):
    renamed = {{"order": "solver_order", "variant": "unipc_variant"}.get(name, name): value for name, value in options.items()}
    scheduler = DCSolverScheduler(prediction_type=prediction_type, flow_shift=2.0, ratios=RATIOS, **renamed)
    corrector = options.get("corrector", True)
    compensation = Compensation(RATIOS, **{name: value for name, value in options.items() if name != "corrector"})
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 3e-6)):
        found, expected = _loop_and_sampler(scheduler, lambda *start: dc_sample(*start, compensation, corrector=corrector), dtype)
        assert torch.allclose(found.double(), expected.double(), rtol=tolerance, atol=tolerance)


def test_a_compensation_comes_from_the_file_of_the_configuration(tmp_path):
    path = tmp_path / "ratios.json"
    Compensation(RATIOS, spacing="logsnr", order=2).save(path)
    DCSolverScheduler(compensation_path=str(path)).save_pretrained(tmp_path / "saved")
    again, direct = DCSolverScheduler.from_pretrained(tmp_path / "saved"), DCSolverScheduler(ratios=RATIOS, spacing="logsnr", solver_order=2)
    results = []
    for scheduler in (again, direct):
        scheduler.set_timesteps(7)
        sample = NOISE
        for timestep in scheduler.timesteps:
            sample = scheduler.step(_network(scheduler)(sample, timestep), timestep, sample).prev_sample
        results.append(sample)
    assert torch.equal(*results)
    with pytest.raises(ValueError, match="num_inference_steps is 8"):
        again.set_timesteps(8)
    with pytest.raises(ValueError, match="compensation was made for times"):
        again.set_timesteps(3, compensation=Compensation([1.0, 1.0, 0.5], times=[0.9, 0.5, 0.2, 0.1]))
    with pytest.raises(TypeError, match="compensation"):
        again.set_timesteps(7, compensation=RATIOS)
    with pytest.raises(FileNotFoundError):
        DCSolverScheduler(compensation_path=str(tmp_path / "none.json")).set_timesteps(7)


def _usf_plans(schedule):
    """Plans of five network calls: UniPC, an analytic first step, an implicit corrector, and steps from older nodes."""
    unipc = unipc_plan(5).steps
    implicit = [PlanStep(step.predictor, step.corrector, implicit=i == 1) for i, step in enumerate(unipc_plan(4).steps)]
    older = [PlanStep(Update(1)), PlanStep(Update.over(2, (-1,), start=-2)), *dpm_solver_plan(5, order=2, prediction="noise").steps[2:]]
    grid = {n: tuple(timesteps(schedule, n).tolist()) for n in (4, 5, 6)}
    return {
        "unipc": SamplingPlan(grid[5], unipc),
        "zero": SamplingPlan(grid[6], unipc_plan(6).steps, "zero"),
        "implicit": SamplingPlan(grid[4], tuple(implicit)),
        "older": SamplingPlan(grid[5], tuple(older)),
    }


@pytest.mark.parametrize("name", ["unipc", "zero", "implicit", "older"])
@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction", "flow_prediction"])
def test_a_loop_over_the_usf_scheduler_is_the_sampler(prediction_type, name):
    plan = _usf_plans(USFScheduler(prediction_type=prediction_type, flow_shift=2.0).schedule)[name]
    scheduler = USFScheduler(prediction_type=prediction_type, flow_shift=2.0, plan=plan.to_json())
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 3e-6)):
        found, expected = _loop_and_sampler(scheduler, lambda *start: usf_sample(*start, plan), dtype, 5)
        assert torch.allclose(found.double(), expected.double(), rtol=tolerance, atol=tolerance)


def test_a_plan_with_statistics_is_that_of_dpm_solver_v3(ems, tmp_path):
    scheduler = DPMSolverV3Scheduler(ems_path=str(tmp_path / "ems.safetensors"))
    ems.save(tmp_path / "ems.safetensors")
    network = _double(_network(scheduler))
    expected = _drive(scheduler, network, 6, NOISE.double())
    plan = dpm_solver_v3_plan([True] * 5 + [False], order=3, pseudo_predictor=False, pseudo_corrector=False, lower_order_final=True)
    SamplingPlan.on(scheduler._times, plan).save(tmp_path / "plan.json")
    USFScheduler(plan_path=str(tmp_path / "plan.json"), ems_path=str(tmp_path / "ems.safetensors")).save_pretrained(tmp_path / "saved")
    found = USFScheduler.from_pretrained(tmp_path / "saved")
    assert torch.allclose(_drive_plainly(found, network, 6, NOISE.double()), expected, rtol=1e-9, atol=1e-9)


def _drive_plainly(scheduler, network, steps, sample):
    scheduler.set_timesteps(steps)
    for timestep in scheduler.timesteps:
        sample = scheduler.step(network(sample, timestep), timestep, sample).prev_sample
    return sample


def test_plans_that_a_scheduler_cannot_take():
    plans = _usf_plans(USFScheduler().schedule)
    mean = SamplingPlan(plans["zero"].times, plans["zero"].steps, "mean")
    with_ems = SamplingPlan(plans["unipc"].times, tuple(PlanStep(Update(1), prediction="ems") for _ in range(5)))
    scheduler = USFScheduler()
    for steps, plan, message in ((6, plans["unipc"], "num_inference_steps must be 5"), (5, mean, "mean"), (5, with_ems, "ems"), (5, "unipc", "plan")):
        with pytest.raises((ValueError, TypeError), match=message):
            scheduler.set_timesteps(steps, plan=plan)
    scheduler.set_timesteps(5, plan=plans["implicit"])
    scheduler.set_begin_index(2)
    with pytest.raises(ValueError, match="implicit correctors"):
        scheduler.step(NOISE, scheduler.timesteps[2], NOISE)


@pytest.mark.parametrize("name", ["unipc", "zero", "older"])
def test_a_plan_started_in_the_middle_warms_up(name):
    """Of one point the denoiser is constant, which every plan integrates exactly, whatever history it finds."""
    scheduler = USFScheduler(prediction_type="sample")
    scheduler.set_timesteps(5, plan=_usf_plans(scheduler.schedule)[name])
    scheduler.set_begin_index(2)
    clean = torch.full_like(NOISE, 0.4)
    sample = scheduler.add_noise(clean, NOISE, scheduler.timesteps[2:3].expand(len(NOISE)))
    for timestep in scheduler.timesteps[2:]:
        sample = scheduler.step(clean, timestep, sample).prev_sample
    assert torch.allclose(sample, scheduler._alphas[-1] * clean + scheduler._sigmas[-1] * NOISE, atol=1e-4)
    assert scheduler.step_index == 5


def _loop_and_sampler(scheduler, sample, dtype, steps=7):
    """What the scheduler makes of noise in a loop, and what the sampler makes of it with the same network, both as x at the last time."""
    schedule, network, noise = scheduler.schedule, _double(_network(scheduler)), NOISE.to(dtype)
    scheduler.set_timesteps(steps)
    if dtype == torch.float64:  # the network is to be called at the sampler's times, not at times rounded to single precision
        scheduler.timesteps = torch.from_numpy(scheduler._to_timesteps(scheduler._times[:-1]))
    x = scheduler.init_noise_sigma * noise
    for timestep in scheduler.timesteps:
        x = scheduler.step(network(x, timestep), timestep, x).prev_sample
    assert x.dtype == dtype
    kind = PREDICTION_TYPES[scheduler.config.prediction_type]
    denoiser = NetworkDenoiser(network, schedule, kind, "1000sigma" if kind == "flow" else "timestep")
    return x, sample(denoiser, noise / schedule.alpha(schedule.t_max), schedule).x * schedule.alpha(schedule.t_min)


def test_statistics_come_from_the_file_of_the_configuration(tmp_path, ems):
    path = tmp_path / "model.safetensors"
    ems.save(path)
    scheduler = DPMSolverV3Scheduler(ems_path=str(path))
    scheduler.save_pretrained(tmp_path / "saved")
    again = DPMSolverV3Scheduler.from_pretrained(tmp_path / "saved")
    network = _network(scheduler)
    assert torch.equal(_drive(again, network, 5, NOISE), _drive(DPMSolverV3Scheduler(), network, 5, NOISE, ems))


def test_refusals(ems):
    scheduler = DPMSolverV3Scheduler()
    with pytest.raises(ValueError, match="ems must be given"):
        scheduler.set_timesteps(5)
    with pytest.raises(TypeError, match="ems must be an EMS"):
        scheduler.set_timesteps(5, ems="file")
    scheduler.set_timesteps(5, ems=ems)
    with pytest.raises(ValueError, match="sample holds samples of shape"):
        scheduler.step(NOISE[:, :1], scheduler.timesteps[0], NOISE[:, :1])


def test_without_diffusers_the_extra_is_named_and_the_rest_of_the_room_works():
    code = """
import sys
sys.modules["diffusers"] = None
import ritz.diffusion
ritz.diffusion.dpm_solver_v3_sample
from ritz.core import MissingExtra
try:
    ritz.diffusion.DPMSolverV3Scheduler
except MissingExtra as error:
    assert "ritz[diffusers]" in str(error), error
else:
    raise AssertionError("no MissingExtra")
"""
    subprocess.run([sys.executable, "-c", code], check=True)


SPECIMENS = {
    "DPMSolverV3Scheduler": Specimen(
        DPMSolverV3Scheduler,
        lambda: {
            "num_train_timesteps": 100,
            "beta_start": 0.001,
            "beta_end": 0.02,
            "beta_schedule": "linear",
            "trained_betas": np.linspace(0.001, 0.1, 100),
            "prediction_type": "epsilon",
            "flow_shift": 1.0,
            "solver_order": 2,
            "spacing": "uniform",
            "corrector": True,
            "pseudo_predictor": False,
            "pseudo_corrector": False,
            "lower_order_final": True,
            "corrector_t_max": 0.5,
        },
        accepts={"corrector_t_max": ("none",)},
    ),
    "DCSolverScheduler": Specimen(
        DCSolverScheduler,
        lambda: {
            "num_train_timesteps": 100,
            "beta_start": 0.001,
            "beta_end": 0.02,
            "beta_schedule": "linear",
            "trained_betas": np.linspace(0.001, 0.1, 100),
            "prediction_type": "epsilon",
            "flow_shift": 1.0,
            "solver_order": 2,
            "unipc_variant": "bh2",
            "dc_order": 2,
            "spacing": "uniform",
            "corrector": True,
            "ratios": np.ones(5),
        },
        accepts={"ratios": ("one element", "integers")},
    ),
    "USFScheduler": Specimen(
        USFScheduler,
        lambda: {
            "num_train_timesteps": 100,
            "beta_start": 0.001,
            "beta_end": 0.02,
            "beta_schedule": "linear",
            "trained_betas": np.linspace(0.001, 0.1, 100),
            "prediction_type": "epsilon",
            "flow_shift": 1.0,
            "spacing": "uniform",
        },
    ),
    "DEISScheduler": Specimen(
        DEISScheduler,
        lambda: {
            "num_train_timesteps": 100,
            "beta_start": 0.001,
            "beta_end": 0.02,
            "beta_schedule": "linear",
            "trained_betas": np.linspace(0.001, 0.1, 100),
            "prediction_type": "epsilon",
            "flow_shift": 1.0,
            "variant": "rho_rk",
            "order": 2,
            "rk": "heun2",
            "spacing": "uniform",
        },
    ),
    "DPMSolverV3Scheduler.set_timesteps": Specimen(
        lambda **arguments: DPMSolverV3Scheduler().set_timesteps(ems=EMS.degenerate("data", np.linspace(-5, 4.6, 121)), **arguments),
        lambda: {"num_inference_steps": 5},
    ),
}
