"""DPM-Solver-v3: the statistics against backward-mode derivatives, the sampler's step against that of UniPC in diffusers."""

import math

import numpy as np
import torch
from diffusers import UniPCMultistepScheduler

from ritz.diffusion import EMS, DPMSolverV3Scheduler, GaussianMixtureDenoiser, VPLinear, compute_ems, dpm_solver_plan, timesteps
from ritz.diffusion.exponential_integrator import MultistepSolver
from ritz.studies.timing import Comparison, benchmark, compare

GRID, SAMPLES, BATCH = 120, 512, 256


def _mixture(dimension: int) -> GaussianMixtureDenoiser:
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(10, dimension, generator=generator, dtype=torch.float64)
    return GaussianMixtureDenoiser(torch.ones(10), means, 0.01 + 0.05 * torch.rand(10, dimension, generator=generator, dtype=torch.float64))


def _backward_statistics(mixture: GaussianMixtureDenoiser, schedule: VPLinear) -> torch.Tensor:
    """The same two walks with all derivatives by a loop of backward passes, one per coordinate, through the plain formula of the posterior mean."""
    lam = schedule.lam(timesteps(schedule, GRID)).tolist()
    starts = math.exp(-lam[0]) * torch.randn(SAMPLES, mixture.dimension, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    plan, total = dpm_solver_plan(GRID, order=2), 0.0

    def denoise(y, sigma):
        return mixture.posterior_mean(y, sigma.reshape(-1, 1, 1) ** 2)

    for walk in ("l", "s and b"):
        for y in starts.split(BATCH):
            solver = MultistepSolver(plan, lam)
            for node, at in enumerate(lam):
                sigma = torch.full((len(y),), math.exp(-at), dtype=y.dtype)
                data = denoise(y, sigma)
                if walk == "l":
                    rows = torch.autograd.functional.jacobian(lambda y, sigma=sigma: denoise(y, sigma).sum(0), y)
                    total = total + torch.diagonal(rows, dim1=0, dim2=2).mean()
                else:
                    rows, change = torch.autograd.functional.jacobian(lambda y, sigma: denoise(y, sigma).sum(0), (y, sigma))
                    total = total + (torch.einsum("ibj,bj->bi", rows, data - y) - (change * sigma).T).mean()
                if node < GRID:
                    y = solver.step(y, data)
    return total


@benchmark
def statistics() -> Comparison:
    schedule, mixture = VPLinear(), _mixture(8)
    return compare(
        f"compute_ems, mixture in R^8, N = {GRID}, K = {SAMPLES}",
        lambda: compute_ems(mixture, schedule, (8,), grid_size=GRID, samples=SAMPLES, batch_size=BATCH, generator=0, dtype=torch.float64),
        lambda: _backward_statistics(mixture, schedule),
        peer_name="torch.autograd.functional.jacobian",
        target=3.0,
        pairs=5,
    )


@benchmark
def step() -> list[Comparison]:
    """Ten steps without a network: setting the timesteps is not timed, as a pipeline does it once per batch of samples."""
    return [_step_comparison(shape) for shape in ((16, 4, 64, 64), (64, 3, 32, 32))]


def _step_comparison(shape: tuple[int, ...]) -> Comparison:
    ours = DPMSolverV3Scheduler(spacing="uniform")
    lam = np.linspace(ours.schedule.lam(ours.schedule.t_max), ours.schedule.lam(ours.schedule.t_min), 121)
    generator = torch.Generator().manual_seed(0)
    l, s, b = 0.5 + 0.1 * torch.randn(3, 121, *shape[1:], generator=generator)
    ours.set_timesteps(10, ems=EMS(torch.from_numpy(lam), l, s - 0.5, b - 0.5))
    theirs = UniPCMultistepScheduler(solver_order=3, solver_type="bh2")
    theirs.set_timesteps(10)
    sample, output = torch.randn(2, *shape, generator=generator)
    return compare(
        f"10 steps, {' x '.join(map(str, shape))} float32",
        lambda: _restarted(ours, sample, output),
        lambda: _restarted(theirs, sample, output),
        peer_name="diffusers UniPCMultistepScheduler",
        target=1 / 1.5,
        pairs=9,
    )


def _restarted(scheduler, sample: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    scheduler._step_index = None
    if not isinstance(scheduler, DPMSolverV3Scheduler):
        scheduler.model_outputs, scheduler.lower_order_nums, scheduler.last_sample = [None] * 3, 0, None
    for timestep in scheduler.timesteps:
        sample = scheduler.step(output, timestep, sample).prev_sample
    return sample
