"""PFGM++ as a scheduler of `diffusers`: Heun's method, and a prior of its own. Needs the extra ``diffusers``."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from ritz.core import integer, optional_import, real, torch_generator
from ritz.diffusion.deis import deis_solver, evaluation_times
from ritz.diffusion.exponential_integrator import LinearStepSolver
from ritz.diffusion.poisson_flow import PoissonFlow
from ritz.diffusion.scheduler_interface import SolverScheduler

_register_to_config = optional_import("diffusers.configuration_utils", extra="diffusers").register_to_config


class PFGMPPHeunScheduler(SolverScheduler):
    """PFGM++ (Xu et al., ICML 2023, arXiv:2302.04265) for `diffusers` pipelines; see `pfgmpp_sample`.

    Steps are those of Heun's method for a diffusion model, two calls each; what differs is where samples start: draw the latents of a pipeline with
    `sample_prior`.

    Parameters
    ----------
    num_train_timesteps, beta_start, beta_end, beta_schedule, trained_betas, prediction_type, flow_shift
        As in `DPMSolverV3Scheduler`.
    D : float, optional
        Number of further dimensions the network was trained with; None for infinitely many, a diffusion model.
    spacing : {"logsnr", "uniform", "quadratic", "karras"}
        The grid of times.

    Raises
    ------
    TypeError, ValueError
        For a bad argument.

    Notes
    -----
    Sampling ends at the smallest noise level of the training schedule, not at zero. The timesteps are not whole numbers.

    Examples
    --------
    >>> scheduler = PFGMPPHeunScheduler(D=128)
    >>> scheduler.set_timesteps(5)
    >>> sample = scheduler.sample_prior((1, 2, 4, 4), torch.Generator().manual_seed(0))
    >>> for timestep in scheduler.timesteps:
    ...     sample = scheduler.step(0 * sample, timestep, sample).prev_sample
    """

    order = 2

    @_register_to_config
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.0001,
        beta_end: float = 0.02,
        beta_schedule: str = "linear",
        trained_betas: np.ndarray | list[float] | None = None,
        prediction_type: str = "epsilon",
        flow_shift: float = 1.0,
        D: float | None = None,
        spacing: str = "karras",
    ):
        super().__init__()
        if D is not None:
            real(D, "D", above=0)

    def sample_prior(self, shape: Sequence[int], generator: torch.Generator | int | None = None) -> torch.Tensor:
        """Return starting samples of a shape (batch, *shape): the kernel around 0 at the schedule's largest noise level, on the generator's device.

        Raises
        ------
        ValueError
            If the shape has no batch of samples.
        """
        shape = tuple(integer(size, "shape", at_least=1) for size in shape)
        if len(shape) < 2:
            raise ValueError(f"shape must be (batch, *shape), got {shape}")
        flow = PoissonFlow(math.inf if self.config.D is None else self.config.D, math.prod(shape[1:]))
        t, generator = self.schedule.t_max, torch_generator(generator)
        return self.schedule.alpha(t) * flow.prior(shape[0], self.schedule.rho(t), generator).reshape(shape)

    def _evaluation_times(self, steps: int) -> np.ndarray:
        self._step_times = super()._evaluation_times(steps)
        return evaluation_times(self.schedule, self._step_times, "rho_rk", "heun2")

    def _solver_from(self, first: int, like: torch.Tensor) -> LinearStepSolver:
        return deis_solver(self.schedule, self._step_times[first // self.order :], "rho_rk", 0, "heun2")
