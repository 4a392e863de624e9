"""Schedulers of `diffusers` for samplers that follow several models at once: `step` takes a list of what the networks said.

Needs the extra ``diffusers``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch

from ritz.core import integer, optional_import, real, torch_generator
from ritz.diffusion.denoisers import data_prediction
from ritz.diffusion.feynman_kac import ParticleSolver, exponent_table
from ritz.diffusion.scheduler_interface import PREDICTION_TYPES, SolverScheduler
from ritz.diffusion.superdiff import SuperposedSolver

_register_to_config = optional_import("diffusers.configuration_utils", extra="diffusers").register_to_config


class MultiModelSolver(Protocol):
    """What takes the steps: told the state and every model's estimate there, it returns the next state."""

    def step(self, y: torch.Tensor, answers: list[torch.Tensor], generator: torch.Generator) -> torch.Tensor: ...


class MultiModelScheduler(SolverScheduler):
    """A stochastic sampler of several models as a scheduler; a subclass says which solver it is, and how many models it wants."""

    models: int
    _solver: MultiModelSolver

    def step(
        self,
        model_output: torch.Tensor | Sequence[torch.Tensor],
        timestep: float | torch.Tensor,
        sample: torch.Tensor,
        return_dict: bool = True,
        generator: torch.Generator | int | None = None,
    ):
        """Return the sample at the next timestep.

        Parameters
        ----------
        model_output : sequence of M Tensors (batch, *shape)
            What each network said at `sample`; one alone need not be in a list.
        timestep : float or Tensor
            The current entry of `timesteps`; read at the first step only.
        sample : Tensor (batch, *shape)
            The current sample x.
        return_dict : bool
            Return a SchedulerOutput, else a tuple.
        generator : torch.Generator, int or None
            Where the noise comes from.

        Raises
        ------
        ValueError
            Before `set_timesteps`, after the last step, or if number or shapes of the outputs do not fit.
        """
        outputs = [model_output] if isinstance(model_output, torch.Tensor) else list(model_output)
        if len(outputs) != self.models:
            raise ValueError(f"model_output must hold {self.models} tensor(s), one per model, got {len(outputs)}")
        for output in outputs:
            if output.shape != sample.shape:
                raise ValueError(f"model_output must have the shape of sample, {tuple(sample.shape)}, got {tuple(output.shape)}")
        self._outputs, self._generator = outputs, torch_generator(generator, sample.device)
        return super().step(outputs[0], timestep, sample, return_dict)

    def _advance(self, i: int, x: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        kind = PREDICTION_TYPES[self.config.prediction_type]
        answers = [data_prediction(output.to(x.dtype), x, self._alphas[i], self._sigmas[i], kind) for output in self._outputs]
        return self._solver.step(x / self._alphas[i], answers, self._generator)

    def _levels_from(self, first: int) -> list[float]:
        return self.schedule.rho(self._times[first:]).tolist()


class FKCScheduler(MultiModelScheduler):
    """Feynman-Kac correctors (Skreta et al., ICML 2025, arXiv:2503.02819) for `diffusers`: the batch is the particles; see `fkc_sample`.

    Parameters
    ----------
    num_train_timesteps, beta_start, beta_end, beta_schedule, trained_betas, prediction_type, flow_shift
        The training schedule and the networks' output, as in `DPMSolverV3Scheduler`.
    exponents : sequence of float
        The exponents b_i of the models; [1 - w, w] is classifier-free guidance of scale w.
    spacing : {"logsnr", "uniform", "quadratic", "karras"}
        The grid of times.
    noise_scale, last_step_noise, resampling, ess_threshold, clip_increment
        As in `fkc_sample`.
    active_t_min, active_t_max : float
        Times between which weights are accumulated.

    Raises
    ------
    TypeError, ValueError
        For a bad argument.

    Notes
    -----
    `step` resamples inside the batch, so samples of one batch may be copies of each other: take the weights from `log_weights` at the end, and
    do not mix prompts in a batch.

    Examples
    --------
    >>> scheduler = FKCScheduler(exponents=[-2.0, 3.0])
    >>> scheduler.set_timesteps(5)
    >>> sample = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    >>> for timestep in scheduler.timesteps:
    ...     sample = scheduler.step([0 * sample, 0.1 * sample], timestep, sample).prev_sample
    >>> scheduler.log_weights.shape
    torch.Size([4])
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
        exponents: tuple[float, ...] = (1.0,),
        spacing: str = "uniform",
        noise_scale: float = 1.0,
        last_step_noise: bool = True,
        resampling: str | None = "systematic",
        ess_threshold: float | None = None,
        clip_increment: float | None = None,
        active_t_min: float = 0.0,
        active_t_max: float = 1.0,
    ):
        super().__init__()
        if isinstance(exponents, str) or not hasattr(exponents, "__len__") or not len(exponents):
            raise TypeError(f"exponents must be a sequence of one number or more, got {exponents!r:.60}")
        self.models = len(exponents)
        exponent_table(exponents, self.models, np.ones(1))
        real(active_t_max, "active_t_max", at_least=real(active_t_min, "active_t_min"))
        self._solver_over([1.0, 0.5], torch.zeros(2, 1))  # refuses bad options now rather than at the first step

    @property
    def log_weights(self) -> torch.Tensor:
        """Logarithms of the particles' weights (batch,) as they stand.

        Raises
        ------
        ValueError
            Before the first step.
        """
        if self._solver is None:
            raise ValueError("step must be called before there are log_weights")
        return self._solver.log_weights

    def _solver_from(self, first: int, like: torch.Tensor) -> ParticleSolver:
        active = [self.config.active_t_min <= t <= self.config.active_t_max for t in self._times[first:-1]]
        return self._solver_over(self._levels_from(first), like, active)

    def _solver_over(self, levels: list[float], like: torch.Tensor, active_steps: list[bool] | None = None) -> ParticleSolver:
        names = ("noise_scale", "last_step_noise", "resampling", "ess_threshold", "clip_increment")
        exponents = np.tile(np.asarray(self.config.exponents, dtype=np.float64), (len(levels), 1))
        return ParticleSolver(levels, exponents, like, active_steps=active_steps, **{name: self.config[name] for name in names})


class SuperDiffScheduler(MultiModelScheduler):
    """Superposition of models (Skreta et al., ICLR 2025, arXiv:2412.17762) for `diffusers`: `step` takes one output per model; see `superdiff`.

    Parameters
    ----------
    num_train_timesteps, beta_start, beta_end, beta_schedule, trained_betas, prediction_type, flow_shift
        The training schedule and the networks' output, as in `DPMSolverV3Scheduler`.
    models : int
        How many models there are, or prompts of one model, each with its own classifier-free guidance.
    mode, temperature, log_prior, lift
        As in `superdiff`.
    spacing : {"logsnr", "uniform", "quadratic", "karras"}
        The grid of times.

    Raises
    ------
    TypeError, ValueError
        For a bad argument.

    Examples
    --------
    >>> scheduler = SuperDiffScheduler(models=2, mode="and")
    >>> scheduler.set_timesteps(5)
    >>> sample = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    >>> for timestep in scheduler.timesteps:
    ...     sample = scheduler.step([0 * sample, 0.1 * sample], timestep, sample, generator=0).prev_sample
    >>> scheduler.log_densities.shape
    torch.Size([4, 2])
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
        models: int = 2,
        mode: str = "and",
        temperature: float = 1.0,
        log_prior: tuple[float, ...] | None = None,
        lift: tuple[float, ...] | None = None,
        spacing: str = "uniform",
    ):
        super().__init__()
        self.models = integer(models, "models", at_least=1)
        self._solver_over([1.0, 0.5], torch.zeros(1, 1))  # refuses bad options now rather than at the first step

    @property
    def log_densities(self) -> torch.Tensor:
        """Estimated log-density (batch, M) of each sample under each model as they stand.

        Raises
        ------
        ValueError
            Before the first step.
        """
        if self._solver is None:
            raise ValueError("step must be called before there are log_densities")
        return self._solver.log_densities

    def _solver_from(self, first: int, like: torch.Tensor) -> SuperposedSolver:
        return self._solver_over(self._levels_from(first), like / self._alphas[first])

    def _solver_over(self, levels: list[float], y: torch.Tensor) -> SuperposedSolver:
        return SuperposedSolver(levels, y, self.models, **{name: self.config[name] for name in ("mode", "temperature", "log_prior", "lift")})
