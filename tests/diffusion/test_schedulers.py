"""Schedulers: driven by a loop each equals its sampler. What all of them must do in `diffusers` is in test_scheduler_interface.py."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from specimens import Specimen

from ritz.diffusion import EMS, DPMSolverV3Scheduler, Flow, GaussianMixtureDenoiser, NetworkDenoiser, compute_ems, dpm_solver_v3_sample

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
    "DPMSolverV3Scheduler.set_timesteps": Specimen(
        lambda **arguments: DPMSolverV3Scheduler().set_timesteps(ems=EMS.degenerate("data", np.linspace(-5, 4.6, 121)), **arguments),
        lambda: {"num_inference_steps": 5},
    ),
}
