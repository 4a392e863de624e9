"""Schedulers: driven by a loop they equal the sampler, and they fit into `diffusers`."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from specimens import Specimen

from ritz.diffusion import EMS, Discrete, DPMSolverV3Scheduler, Flow, GaussianMixtureDenoiser, NetworkDenoiser, compute_ems, dpm_solver_v3_sample

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


def test_set_timesteps_forgets_the_history(ems):
    scheduler = DPMSolverV3Scheduler()
    network = _network(scheduler)
    first = _drive(scheduler, network, 6, NOISE, ems)
    assert torch.equal(_drive(scheduler, network, 6, NOISE), first)


def test_a_configuration_of_another_scheduler_is_understood(ems):
    other = diffusers.UniPCMultistepScheduler(beta_schedule="scaled_linear", prediction_type="v_prediction", solver_order=2)
    scheduler = DPMSolverV3Scheduler.from_config(other.config)
    assert scheduler.config.prediction_type == "v_prediction"
    assert scheduler.config.solver_order == 2
    assert np.allclose(scheduler.schedule.alphas_cumprod, other.alphas_cumprod.numpy(), rtol=1e-4)
    back = diffusers.UniPCMultistepScheduler.from_config(scheduler.config)
    assert back.config.beta_schedule == "scaled_linear"
    assert diffusers.UniPCMultistepScheduler.__name__ in DPMSolverV3Scheduler._compatibles


@pytest.mark.parametrize("beta_schedule", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_betas_are_those_of_diffusers(beta_schedule):
    other = diffusers.DPMSolverMultistepScheduler(beta_schedule=beta_schedule)
    ours = DPMSolverV3Scheduler(beta_schedule=beta_schedule).schedule
    assert np.allclose(np.log(ours.alphas_cumprod), np.log(other.alphas_cumprod.double().numpy()), rtol=1e-4, atol=1e-6)


def test_trained_betas():
    betas = np.linspace(1e-3, 0.05, 50)
    scheduler = DPMSolverV3Scheduler(num_train_timesteps=50, trained_betas=betas.tolist())
    assert isinstance(scheduler.schedule, Discrete)
    assert np.allclose(scheduler.schedule.alphas_cumprod, np.cumprod(1 - betas))


def test_statistics_come_from_the_file_of_the_configuration(tmp_path, ems):
    path = tmp_path / "model.safetensors"
    ems.save(path)
    scheduler = DPMSolverV3Scheduler(ems_path=str(path))
    scheduler.save_pretrained(tmp_path / "saved")
    again = DPMSolverV3Scheduler.from_pretrained(tmp_path / "saved")
    network = _network(scheduler)
    assert torch.equal(_drive(again, network, 5, NOISE), _drive(DPMSolverV3Scheduler(), network, 5, NOISE, ems))


def test_a_pipeline_may_start_in_the_middle(ems):
    """As image-to-image does: noise at a later timestep, then the rest of the steps with a warm-up of their own."""
    scheduler = DPMSolverV3Scheduler()
    scheduler.set_timesteps(10, ems=ems)
    scheduler.set_begin_index(4)
    timesteps = scheduler.timesteps[4:]
    sample = scheduler.add_noise(EXACT.sample(16, 1).float(), NOISE, timesteps[:1].expand(16))
    for timestep in timesteps:
        sample = scheduler.step(_network(scheduler)(sample, timestep), timestep, sample).prev_sample
    assert scheduler.step_index == 10
    assert torch.isfinite(sample).all()
    with pytest.raises(ValueError, match="step was called"):
        scheduler.step(sample, timesteps[-1], sample)


@pytest.mark.parametrize("prediction_type", ["epsilon", "flow_prediction"])
def test_noise_is_added_as_the_schedule_says(prediction_type):
    scheduler = DPMSolverV3Scheduler(prediction_type=prediction_type, flow_shift=3.0)
    clean, timesteps = torch.ones(2, 3), torch.tensor([250.0, 700.0])
    noisy = scheduler.add_noise(clean, 2 * torch.ones(2, 3), timesteps)
    if prediction_type == "epsilon":
        alpha = torch.from_numpy(scheduler.schedule.alphas_cumprod[[250, 700]]).sqrt().float()
        expected = alpha + 2 * (1 - alpha**2).sqrt()
    else:
        expected = 1 + timesteps / 1000
    assert torch.allclose(noisy, expected[:, None].expand(2, 3), rtol=1e-5)


def test_half_precision_samples_are_computed_in_single(ems):
    scheduler = DPMSolverV3Scheduler()
    scheduler.set_timesteps(5, ems=ems)
    sample = scheduler.step(NOISE.half(), scheduler.timesteps[0], NOISE.half()).prev_sample
    assert sample.dtype == torch.float16


def test_length_and_tuple_output(ems):
    scheduler = DPMSolverV3Scheduler()
    assert len(scheduler) == 1000
    scheduler.set_timesteps(5, ems=ems)
    (sample,) = scheduler.step(NOISE, scheduler.timesteps[0], NOISE, return_dict=False)
    assert sample.shape == NOISE.shape


def test_refusals(ems):
    scheduler = DPMSolverV3Scheduler()
    with pytest.raises(ValueError, match="set_timesteps must be called"):
        scheduler.step(NOISE, 0, NOISE)
    with pytest.raises(ValueError, match="ems must be given"):
        scheduler.set_timesteps(5)
    with pytest.raises(TypeError, match="ems must be an EMS"):
        scheduler.set_timesteps(5, ems="file")
    scheduler.set_timesteps(5, ems=ems)
    with pytest.raises(ValueError, match="model_output"):
        scheduler.step(NOISE[:3], scheduler.timesteps[0], NOISE)
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
