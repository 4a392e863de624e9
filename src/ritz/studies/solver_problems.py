"""Problems and competitors of the studies of ODE solvers: an exact mixture, fine references, and the solvers of `diffusers` on exactly our grids."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from ritz.core import optional_import
from ritz.diffusion import GaussianMixtureDenoiser, NoiseSchedule, SolverPlan, deis_sample, dpm_solver_plan, multistep, timesteps
from ritz.studies.run import Run

Sampler = Callable[[Callable, torch.Tensor, NoiseSchedule, int, str], torch.Tensor]
"""From denoiser, starting points, schedule, number of denoiser calls and name of the grid to endpoints."""


@dataclass(frozen=True)
class Problem:
    """A denoiser, starting points (batch, *shape), and where the fine reference takes them."""

    denoiser: Callable
    schedule: NoiseSchedule
    starts: torch.Tensor
    endpoints: torch.Tensor

    @classmethod
    def with_reference(cls, run: Run, denoiser: Callable, schedule: NoiseSchedule, starts: torch.Tensor) -> Problem:
        """The endpoints of 4000 steps of third order."""
        steps = run.pick(smoke=200, default=4000)
        endpoints = multistep(denoiser, starts, schedule.lam(timesteps(schedule, steps)), dpm_solver_plan(steps, order=3)).x
        return cls(denoiser, schedule, starts, endpoints)

    def errors(self, sample: Sampler, grid: str, calls: int) -> torch.Tensor:
        """Distance (batch,) of each endpoint from the reference."""
        x = sample(self.denoiser, self.starts, self.schedule, calls, grid)
        return (x - self.endpoints).flatten(1).norm(dim=1).double().cpu()


def ten_gaussians(generator: torch.Generator) -> GaussianMixtureDenoiser:
    """Ten Gaussians of equal weight in R^8, centers N(0, I) and variances uniform in [0.01, 0.06]."""
    means = torch.randn(10, 8, generator=generator, dtype=torch.float64)
    variances = 0.01 + 0.05 * torch.rand(10, 8, generator=generator, dtype=torch.float64)
    return GaussianMixtureDenoiser(torch.ones(10), means, variances)


def noise(schedule: NoiseSchedule, count: int, shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype) -> torch.Tensor:
    """Starting points (count, *shape) at the noisiest time."""
    return schedule.rho(schedule.t_max) * torch.randn(count, *shape, generator=generator, dtype=dtype, device=generator.device)


def planned(plan: Callable[[int], SolverPlan]) -> Sampler:
    """The sampler of a plan for each number of steps."""

    def sample(denoiser, y, schedule, calls: int, grid: str) -> torch.Tensor:
        return multistep(denoiser, y, schedule.lam(timesteps(schedule, calls, grid)), plan(calls)).x

    return sample


def deis(**options) -> Sampler:
    """`deis_sample` with these options."""

    def sample(denoiser, y, schedule, calls: int, grid: str) -> torch.Tensor:
        return deis_sample(denoiser, y, schedule, steps=calls, spacing=grid, **options).x

    return sample


def of_diffusers(kind: str, **options) -> Sampler:
    """A scheduler of `diffusers` by its class's name, on exactly our times, in its variance-preserving frame."""
    scheduler_class = getattr(optional_import("diffusers", extra="diffusers"), kind)
    if kind != "DEISMultistepScheduler":  # which has no such option
        options = {"final_sigmas_type": "sigma_min"} | options

    def sample(denoiser, y, schedule, calls: int, grid: str) -> torch.Tensor:
        rho = torch.from_numpy(schedule.rho(timesteps(schedule, calls, grid)))
        scheduler = scheduler_class(prediction_type="sample", **options)
        scheduler.set_timesteps(calls)
        scheduler.sigmas, scheduler.timesteps = rho, torch.arange(calls)
        scheduler.set_begin_index(0)
        alphas = (1 / torch.sqrt(1 + rho**2)).tolist()
        x = alphas[0] * y
        for i in range(calls):
            x = scheduler.step(denoiser(x / alphas[i], float(rho[i])), i, x).prev_sample
        return x / alphas[-1]

    return sample


def solvers_of_diffusers(order: int) -> dict[str, Sampler]:
    """Multistep DPM-Solver++ of order 2 and of this order, and UniPC of this order with both of its B(h)."""
    return {
        "DPM-Solver++(2M)": of_diffusers("DPMSolverMultistepScheduler", solver_order=2),
        f"DPM-Solver++({order}M)": of_diffusers("DPMSolverMultistepScheduler", solver_order=order),
        f"UniPC-{order} bh1": of_diffusers("UniPCMultistepScheduler", solver_type="bh1", solver_order=order),
        f"UniPC-{order} bh2": of_diffusers("UniPCMultistepScheduler", solver_type="bh2", solver_order=order),
    }


def taylor_solvers(order: int) -> dict[str, Sampler]:
    """Multistep DPM-Solver++ of this order with all its terms, which diffusers does not have above order 2."""
    return {f"DPM-Solver++({order}M) in Taylor form": planned(partial(dpm_solver_plan, order=order))}
