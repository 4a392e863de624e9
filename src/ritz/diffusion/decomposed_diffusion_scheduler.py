"""Decomposed diffusion sampling as a scheduler of `diffusers`. Needs the extra ``diffusers``."""

from __future__ import annotations

import numpy as np
import torch

from ritz.core import optional_import, real
from ritz.diffusion.decomposed_diffusion_sampler import Correction, renoised
from ritz.diffusion.denoisers import check_callable
from ritz.diffusion.scheduler_interface import SolverScheduler

_register_to_config = optional_import("diffusers.configuration_utils", extra="diffusers").register_to_config


class DDSScheduler(SolverScheduler):
    """DDS (Chung, Lee and Ye, ICLR 2024, arXiv:2303.05754) for `diffusers` pipelines; see `dds_sample`.

    Parameters
    ----------
    num_train_timesteps, beta_start, beta_end, beta_schedule, trained_betas, prediction_type, flow_shift
        As in `DPMSolverV3Scheduler`.
    eta : float
        Share of fresh noise.
    clip : float, optional
        Estimates are clamped to [-clip, clip] before they are corrected.
    spacing : {"logsnr", "uniform", "quadratic", "karras"}
        The grid of times.

    Raises
    ------
    TypeError, ValueError
        For a bad argument.

    Notes
    -----
    The last step ends at zero noise. The timesteps are not whole numbers.

    Examples
    --------
    >>> from ritz.diffusion import DataConsistency, Inpainting
    >>> correct = DataConsistency(Inpainting(torch.tensor([True, False])), torch.tensor([[3.0]]), (1, 2))
    >>> scheduler = DDSScheduler(prediction_type="sample")
    >>> scheduler.set_timesteps(5)
    >>> sample = torch.randn(1, 2)
    >>> for timestep in scheduler.timesteps:
    ...     sample = scheduler.step(torch.ones(1, 2), timestep, sample, data_consistency=correct).prev_sample
    >>> sample
    tensor([[3., 1.]])
    """

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
        eta: float = 0.85,
        clip: float | None = None,
        spacing: str = "uniform",
    ):
        super().__init__()
        real(eta, "eta", at_least=0, at_most=1)
        if clip is not None:
            real(clip, "clip", above=0)

    def set_timesteps(self, num_inference_steps: int, device: str | torch.device | None = None) -> None:
        """Choose the timesteps and forget all that was done before.

        Parameters
        ----------
        num_inference_steps : int
            Number of steps.
        device : str or torch.device, optional
            Where the timesteps go.

        Raises
        ------
        TypeError, ValueError
            If it is no positive integer.
        """
        super().set_timesteps(num_inference_steps, device)
        self._alphas[-1], self._sigmas[-1] = 1.0, 0.0

    def step(
        self,
        model_output: torch.Tensor,
        timestep: float | torch.Tensor,
        sample: torch.Tensor,
        return_dict: bool = True,
        generator: torch.Generator | None = None,
        data_consistency: Correction | None = None,
    ):
        """Return the sample at the next timestep.

        Parameters
        ----------
        model_output, timestep, sample, return_dict
            As in `DPMSolverV3Scheduler`.
        generator : torch.Generator, optional
            Where fresh noise comes from.
        data_consistency : callable, optional
            Maps estimates of the clean sample to corrected ones: `DataConsistency`. None leaves them as they are.

        Raises
        ------
        TypeError, ValueError
            Before `set_timesteps`, after the last step, or for a bad argument.
        """
        if data_consistency is not None:
            check_callable(data_consistency, "data_consistency")
        self._correction, self._generator = data_consistency or _unchanged, generator
        return super().step(model_output, timestep, sample, return_dict)

    def _solver_from(self, first: int, like: torch.Tensor) -> _Step:
        return _Step(self, first)


class _Step:
    """Steps from one level of a scheduler to the next."""

    def __init__(self, scheduler: DDSScheduler, first: int):
        self.scheduler, self.position = scheduler, first
        self.levels = [sigma / alpha for sigma, alpha in zip(scheduler._sigmas, scheduler._alphas)]

    def step(self, y: torch.Tensor, data: torch.Tensor) -> torch.Tensor:
        level, following = self.levels[self.position : self.position + 2]
        self.position += 1
        config = self.scheduler.config
        return renoised(y, data, self.scheduler._correction, level, following, config.eta, config.clip, self.scheduler._generator)


def _unchanged(x: torch.Tensor) -> torch.Tensor:
    return x
