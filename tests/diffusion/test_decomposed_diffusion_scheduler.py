"""The scheduler of `diffusers` against the sampler."""

import pytest
import torch
from specimens import Specimen

from ritz.diffusion import DataConsistency, DDSScheduler, DEISScheduler, Discrete, GaussianMixtureDenoiser, dds_sample, timesteps

MATRIX = torch.randn(3, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
MIXTURE = GaussianMixtureDenoiser(torch.ones(2), torch.randn(2, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64), [0.1, 0.05])
Y = MIXTURE.sample(4, 0) @ MATRIX.T

SPECIMENS = {
    "DDSScheduler": Specimen(
        DDSScheduler,
        lambda: {
            "num_train_timesteps": 1000,
            "beta_start": 1e-4,
            "beta_end": 0.02,
            "beta_schedule": "linear",
            "prediction_type": "epsilon",
            "flow_shift": 1.0,
            "eta": 0.85,
            "clip": 1.0,
            "spacing": "uniform",
        },
        accepts={"clip": ("none",)},
    )
}


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_the_scheduler_is_the_sampler(prediction):
    scheduler = DDSScheduler(prediction_type=prediction)
    scheduler.set_timesteps(12)
    schedule = scheduler.schedule
    assert isinstance(schedule, Discrete)
    expected = dds_sample(MIXTURE, Y, MATRIX, schedule, shape=(4, 6), steps=12, generator=5).x
    generator, correct = torch.Generator().manual_seed(5), DataConsistency(MATRIX, Y, (4, 6))
    t = timesteps(schedule, 12, "uniform")
    x = float(schedule.sigma(t[0])) * torch.randn(4, 6, generator=generator, dtype=torch.float64)
    for time, timestep in zip(t, scheduler.timesteps):
        alpha, sigma = float(schedule.alpha(time)), float(schedule.sigma(time))
        data = MIXTURE(x / alpha, sigma / alpha)
        noise = (x - alpha * data) / sigma
        output = {"epsilon": noise, "sample": data, "v_prediction": alpha * noise - sigma * data}[prediction]
        x = scheduler.step(output, timestep, x, generator=generator, data_consistency=correct).prev_sample
    torch.testing.assert_close(x, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(x @ MATRIX.T, Y, rtol=1e-6, atol=1e-6)


def test_without_a_correction_estimates_stay():
    scheduler = DDSScheduler(prediction_type="sample", eta=0.0)
    scheduler.set_timesteps(4)
    x = torch.randn(2, 3)
    for timestep in scheduler.timesteps:
        x = scheduler.step(torch.full((2, 3), 0.25), timestep, x).prev_sample
    assert (x == 0.25).all()


def test_configurations_go_both_ways():
    scheduler = DDSScheduler.from_config(DEISScheduler(beta_end=0.03).config)
    assert scheduler.config.beta_end == 0.03
    assert scheduler.config.eta == 0.85


def test_refusals():
    scheduler = DDSScheduler()
    with pytest.raises(ValueError, match="set_timesteps must be called"):
        scheduler.step(torch.zeros(1, 2), 3, torch.zeros(1, 2))
    scheduler.set_timesteps(2)
    with pytest.raises(TypeError, match="data_consistency must be callable"):
        scheduler.step(torch.zeros(1, 2), scheduler.timesteps[0], torch.zeros(1, 2), data_consistency=3)
