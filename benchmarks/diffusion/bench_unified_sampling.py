"""The unified sampling framework: the time of a search, and the steps of a plan without a network against those of UniPC in diffusers."""

import torch
from diffusers import UniPCMultistepScheduler

from ritz.diffusion import GaussianMixtureDenoiser, SamplingPlan, SolverSearch, USFScheduler, VPLinear, timesteps, unipc_plan
from ritz.studies.timing import Comparison, benchmark, compare, within


@benchmark
def search() -> list[Comparison]:
    """400 evaluations of 256 samples in R^8 at 5 calls on one thread (two make such small products slower), the fine reference included."""
    generator, schedule = torch.Generator().manual_seed(0), VPLinear()
    means = torch.randn(10, 8, generator=generator, dtype=torch.float64)
    denoiser = GaussianMixtureDenoiser(torch.ones(10), means, 0.01 + 0.05 * torch.rand(10, 8, generator=generator, dtype=torch.float64))
    starts = schedule.rho(1.0) * torch.randn(256, 8, generator=generator, dtype=torch.float64)

    def run(predictor: bool) -> None:
        SolverSearch(denoiser, starts, schedule, nfe=5, evaluations=400, predictor=predictor).run()

    return [
        within("400 evaluations, every child tried", lambda: run(False), limit=15.0),
        within("400 evaluations, chosen by the predictor", lambda: run(True), limit=15.0),
    ]


@benchmark
def step() -> Comparison:
    """Ten steps of UniPC-3 as a plan; setting the timesteps is timed on neither side."""
    ours, theirs = USFScheduler(), UniPCMultistepScheduler(solver_order=3)
    plan = SamplingPlan.on(timesteps(ours.schedule, 10), unipc_plan(10))
    ours.set_timesteps(10, plan=plan)
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


def _run(scheduler, sample: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    scheduler._step_index = None
    if isinstance(scheduler, UniPCMultistepScheduler):
        scheduler.model_outputs, scheduler.lower_order_nums, scheduler.last_sample = [None] * 3, 0, None
    for timestep in scheduler.timesteps:
        sample = scheduler.step(output, timestep, sample).prev_sample
    return sample
