"""DC-Solver: its steps without a network against those of UniPC in diffusers, and the time of a search."""

import torch
from diffusers import UniPCMultistepScheduler

from ritz.diffusion import ClassifierFreeGuidance, DCSolverScheduler, GaussianMixtureDenoiser, VPLinear, search_compensation
from ritz.studies.timing import Comparison, benchmark, compare, within


@benchmark
def step() -> Comparison:
    """Ten steps, all that can be compensated; setting the timesteps is timed on neither side."""
    ours = DCSolverScheduler(ratios=[1.0, 1.0, *[0.9] * 8])
    theirs = UniPCMultistepScheduler(solver_order=3, solver_type="bh1")
    ours.set_timesteps(10)
    theirs.set_timesteps(10)
    sample, output = torch.randn(2, 16, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    return compare(
        "10 steps, 16 x 4 x 64 x 64 float32",
        lambda: _run(ours, sample, output),
        lambda: _run(theirs, sample, output),
        peer_name="diffusers UniPCMultistepScheduler",
        target=1 / 1.3,
        pairs=9,
    )


@benchmark
def search() -> Comparison:
    """Ten starts, five steps, on a guided mixture in R^8, the reference of 999 steps included."""
    generator, schedule = torch.Generator().manual_seed(0), VPLinear()
    means = torch.randn(10, 8, generator=generator, dtype=torch.float64)
    mixture = GaussianMixtureDenoiser(torch.ones(10), means, torch.full((10,), 0.03))
    guided = ClassifierFreeGuidance(GaussianMixtureDenoiser([1.0], means[:1], [0.03]), mixture, 7.5)
    starts = schedule.rho(1.0) * torch.randn(10, 8, generator=generator, dtype=torch.float64)
    search_compensation(guided, starts, schedule, steps=5, reference_steps=10, iterations=1)
    return within("search, 10 starts, 5 steps, mixture in R^8", lambda: search_compensation(guided, starts, schedule, steps=5), limit=3.0)


def _run(scheduler, sample: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    scheduler._step_index = None
    if isinstance(scheduler, UniPCMultistepScheduler):
        scheduler.model_outputs, scheduler.lower_order_nums, scheduler.last_sample = [None] * 3, 0, None
    for timestep in scheduler.timesteps:
        sample = scheduler.step(output, timestep, sample).prev_sample
    return sample
