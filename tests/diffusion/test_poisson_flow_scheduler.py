"""PFGM++'s scheduler: Heun's steps from its own prior. What all schedulers share is in test_scheduler_interface.py."""

import math

import pytest
import torch
from specimens import Specimen

from ritz.diffusion import DEISScheduler, PFGMPPHeunScheduler, PoissonFlow, deis_sample

SPECIMENS = {
    "PFGMPPHeunScheduler": Specimen(PFGMPPHeunScheduler, lambda: {"D": 64.0, "spacing": "karras"}, accepts={"D": ["none"]}),
}


def test_the_scheduler_is_heun_from_another_prior():
    scheduler, heun = PFGMPPHeunScheduler(D=32.0), DEISScheduler(variant="rho_rk", rk="heun2", spacing="karras")
    start = scheduler.sample_prior((3, 2, 2), torch.Generator().manual_seed(0))
    flow = PoissonFlow(32.0, 4)
    level = scheduler.schedule.rho(scheduler.schedule.t_max)
    torch.testing.assert_close(start.flatten(1) / scheduler.schedule.alpha(scheduler.schedule.t_max), flow.prior(3, level, 0))
    for one in (scheduler, heun):
        one.set_timesteps(5)
    assert torch.equal(scheduler.timesteps, heun.timesteps)
    samples = []
    for one in (scheduler, heun):
        sample = start
        for timestep in one.timesteps:
            sample = one.step(0.1 * sample, timestep, sample).prev_sample
        samples.append(sample)
    torch.testing.assert_close(*samples)
    direct = deis_sample(
        lambda x, sigma: x - sigma * 0.1 * x / math.sqrt(1 + sigma**2),
        start / scheduler.schedule.alpha(scheduler.schedule.t_max),
        scheduler.schedule,
        steps=5,
        variant="rho_rk",
        rk="heun2",
        spacing="karras",
    ).x
    torch.testing.assert_close(samples[0], direct * scheduler.schedule.alpha(scheduler.schedule.t_min), atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="D must be a finite number above 0"):
        PFGMPPHeunScheduler(D=-1.0)
