"""DEIS: the steps of a sampler without a network against those of DPM-Solver++ in diffusers."""

import torch
from diffusers import DPMSolverMultistepScheduler

from ritz.diffusion import DEISScheduler
from ritz.studies.timing import Comparison, benchmark, compare


@benchmark
def step() -> list[Comparison]:
    """Ten steps, 64 x 3 x 64 x 64 in single precision; setting the timesteps is timed on neither side."""
    return [_comparison(order, solver_order) for order, solver_order in ((3, 3), (3, 2), (1, 2))]


def _comparison(order: int, solver_order: int) -> Comparison:
    ours, theirs = DEISScheduler(order=order), DPMSolverMultistepScheduler(solver_order=solver_order)
    ours.set_timesteps(10)
    theirs.set_timesteps(10)
    sample, output = torch.randn(2, 64, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    return compare(
        f"10 steps, degree {order}",
        lambda: _run(ours, sample, output),
        lambda: _run(theirs, sample, output),
        peer_name=f"diffusers DPMSolverMultistepScheduler, order {solver_order}",
        target=1 / 0.7,
        pairs=9,
    )


def _run(scheduler, sample: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    scheduler._step_index = None
    if isinstance(scheduler, DPMSolverMultistepScheduler):
        scheduler.model_outputs, scheduler.lower_order_nums = [None] * scheduler.config.solver_order, 0
    for timestep in scheduler.timesteps:
        sample = scheduler.step(output, timestep, sample).prev_sample
    return sample
