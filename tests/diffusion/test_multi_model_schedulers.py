"""Schedulers of several models: driven by a loop they equal the sampler, and they read the configurations of `diffusers`."""

import numpy as np
import pytest
import torch
from specimens import Specimen

from ritz.diffusion import FKCScheduler, GaussianMixtureDenoiser, SuperDiffScheduler, fkc_sample, superdiff

diffusers = pytest.importorskip("diffusers")

FIRST = GaussianMixtureDenoiser(torch.ones(2), torch.tensor([[0.5, -0.2], [-0.5, 0.4]], dtype=torch.float64), [0.1, 0.2])
SECOND = GaussianMixtureDenoiser([1.0], torch.zeros(1, 2, dtype=torch.float64), [0.5])
NOISE = torch.randn(16, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _noise_prediction(scheduler, denoiser, x, timestep):
    """What a network trained under the scheduler's schedule would say."""
    t = scheduler._from_timesteps(timestep.double())
    alpha, sigma = float(scheduler.schedule.alpha(t)), float(scheduler.schedule.sigma(t))
    return (x - alpha * denoiser(x / alpha, sigma / alpha)) / sigma


def _drive(scheduler, denoisers, steps, seed=1, sample=NOISE):
    scheduler.set_timesteps(steps)
    generator = torch.Generator().manual_seed(seed)
    for timestep in scheduler.timesteps:
        outputs = [_noise_prediction(scheduler, denoiser, sample, timestep) for denoiser in denoisers]
        sample = scheduler.step(outputs, timestep, sample, generator=generator).prev_sample
    return sample


@pytest.mark.parametrize(
    "options", [{}, {"noise_scale": 0.5, "ess_threshold": 0.6}, {"resampling": "birth_death", "spacing": "logsnr"}, {"resampling": None}]
)
def test_a_loop_over_the_scheduler_is_the_sampler(options):
    scheduler = FKCScheduler(exponents=(-1.0, 2.0), active_t_max=0.8, **options)
    ours = _drive(scheduler, [SECOND, FIRST], 25)
    schedule = scheduler.schedule
    options = {"spacing": "uniform"} | options
    y = NOISE / schedule.alpha(schedule.t_max)
    expected = fkc_sample([SECOND, FIRST], [-1.0, 2.0], y, schedule, steps=25, active=(0.0, 0.8), generator=1, **options)
    assert torch.allclose(ours, expected.x * schedule.alpha(schedule.t_min), rtol=1e-6, atol=1e-6)
    assert torch.allclose(scheduler.log_weights, expected.log_weights, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "options", [{"mode": "or", "temperature": 2.0, "log_prior": (0.3, -0.1)}, {"mode": "and", "lift": (0.5,)}, {"mode": "average"}]
)
def test_a_loop_over_the_superposing_scheduler_is_the_sampler(options):
    scheduler = SuperDiffScheduler(**options)
    ours = _drive(scheduler, [SECOND, FIRST], 25)
    schedule = scheduler.schedule
    expected = superdiff([SECOND, FIRST], NOISE / schedule.alpha(schedule.t_max), schedule, steps=25, generator=1, **options)
    assert torch.allclose(ours, expected.x * schedule.alpha(schedule.t_min), rtol=1e-6, atol=1e-6)
    assert torch.allclose(scheduler.log_densities, expected.log_densities, rtol=1e-5, atol=1e-5)


def test_one_model_needs_no_list_and_set_timesteps_forgets():
    scheduler = FKCScheduler(exponents=[2.0])
    first = _drive(scheduler, [FIRST], 10)
    assert torch.equal(first, _drive(scheduler, [FIRST], 10))
    scheduler.set_timesteps(10)
    output = _noise_prediction(scheduler, FIRST, NOISE, scheduler.timesteps[0])
    alone = scheduler.step(output, scheduler.timesteps[0], NOISE, generator=0).prev_sample
    scheduler.set_timesteps(10)
    (listed,) = scheduler.step([output], scheduler.timesteps[0], NOISE, return_dict=False, generator=0)
    assert torch.equal(alone, listed)


def test_a_walk_may_begin_in_the_middle():
    scheduler = FKCScheduler(exponents=[2.0])
    scheduler.set_timesteps(10)
    scheduler.set_begin_index(6)
    sample = NOISE
    for timestep in scheduler.timesteps[6:]:
        sample = scheduler.step(0 * sample, timestep, sample, generator=0).prev_sample
    assert scheduler.step_index == 10
    assert len(scheduler.log_weights) == 16


def test_configurations_survive_and_are_read_from_diffusers(tmp_path):
    other = diffusers.UniPCMultistepScheduler(beta_schedule="scaled_linear", prediction_type="v_prediction")
    scheduler = FKCScheduler.from_config(other.config, exponents=[-2.0, 3.0])
    assert scheduler.config.prediction_type == "v_prediction"
    scheduler.save_pretrained(tmp_path)
    again = FKCScheduler.from_pretrained(tmp_path)
    assert list(again.config.exponents) == [-2.0, 3.0]
    assert again.models == 2


def test_half_precision_samples_stay_so():
    scheduler = FKCScheduler()
    scheduler.set_timesteps(5)
    assert scheduler.step(NOISE.half(), scheduler.timesteps[0], NOISE.half()).prev_sample.dtype == torch.float16


def test_refusals():
    scheduler = FKCScheduler(exponents=[1.0, 1.0])
    with pytest.raises(ValueError, match="set_timesteps must be called"):
        scheduler.step([NOISE, NOISE], 0, NOISE)
    scheduler.set_timesteps(3)
    with pytest.raises(ValueError, match="log_weights"):
        _ = scheduler.log_weights
    with pytest.raises(ValueError, match="model_output must hold 2"):
        scheduler.step(NOISE, scheduler.timesteps[0], NOISE)
    with pytest.raises(ValueError, match="model_output must have the shape"):
        scheduler.step([NOISE, NOISE[:3]], scheduler.timesteps[0], NOISE)
    with pytest.raises(ValueError, match="log_densities"):
        _ = SuperDiffScheduler().log_densities
    with pytest.raises(ValueError, match="lift"):
        SuperDiffScheduler(models=3, lift=[1.0])
    with pytest.raises(TypeError, match="exponents"):
        FKCScheduler(exponents=3.0)
    with pytest.raises(ValueError, match="active_t_max"):
        FKCScheduler(active_t_min=0.5, active_t_max=0.2)


SPECIMENS = {
    "FKCScheduler": Specimen(
        FKCScheduler,
        lambda: {
            "num_train_timesteps": 100,
            "beta_start": 0.001,
            "beta_end": 0.02,
            "beta_schedule": "linear",
            "prediction_type": "epsilon",
            "flow_shift": 1.0,
            "exponents": (1.0, 1.0),
            "spacing": "uniform",
            "noise_scale": 1.0,
            "last_step_noise": True,
            "resampling": "systematic",
            "ess_threshold": 0.5,
            "clip_increment": 1.0,
            "active_t_min": 0.1,
            "active_t_max": 0.9,
        },
        accepts={"resampling": ("none",), "ess_threshold": ("none",), "clip_increment": ("none",)},
    ),
    "SuperDiffScheduler": Specimen(
        SuperDiffScheduler,
        lambda: {
            "num_train_timesteps": 100,
            "beta_start": 0.001,
            "beta_end": 0.02,
            "beta_schedule": "linear",
            "prediction_type": "epsilon",
            "flow_shift": 1.0,
            "models": 2,
            "mode": "or",
            "temperature": 1.0,
            "log_prior": np.zeros(2),
            "lift": np.zeros(1),
            "spacing": "uniform",
        },
        accepts={"lift": ("one element",)},
    ),
    "FKCScheduler.set_timesteps": Specimen(lambda **arguments: FKCScheduler().set_timesteps(**arguments), lambda: {"num_inference_steps": 5}),
}
