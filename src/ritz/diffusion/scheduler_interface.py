"""What all our schedulers for `diffusers` share: the training schedule of a configuration, the walk over timesteps, the way between x and y.

A scheduler is told what the network said at each timestep and answers with the next sample. Ours do one step of a solver in the frame y = x / alpha,
and return alpha y: a sampler becomes a scheduler by saying which solver it is. Needs the extra ``diffusers``.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Protocol

import numpy as np
import torch

from ritz.core import array, choice, integer, optional_import, real
from ritz.diffusion.denoisers import Prediction, data_prediction
from ritz.diffusion.schedules import SPACINGS, Discrete, Flow, NoiseSchedule, timesteps

_diffusers = optional_import("diffusers", extra="diffusers")
_schedulers = optional_import("diffusers.schedulers.scheduling_utils", extra="diffusers")

PREDICTION_TYPES: dict[str, Prediction] = {"epsilon": "noise", "sample": "data", "v_prediction": "velocity", "flow_prediction": "flow"}
BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")


def training_schedule(
    num_train_timesteps: int, beta_start: float, beta_end: float, beta_schedule: str, trained_betas, prediction_type: str, flow_shift: float
) -> NoiseSchedule:
    """The noise schedule that a `diffusers` configuration describes."""
    integer(num_train_timesteps, "num_train_timesteps", at_least=2)
    real(beta_end, "beta_end", above=real(beta_start, "beta_start", above=0, below=1), below=1)
    choice(beta_schedule, "beta_schedule", BETA_SCHEDULES)
    choice(prediction_type, "prediction_type", PREDICTION_TYPES)
    flow = Flow(shift=real(flow_shift, "flow_shift", above=0))
    if prediction_type == "flow_prediction":
        return flow
    if trained_betas is not None:
        betas = np.asarray(array(trained_betas, "trained_betas", shape=(num_train_timesteps,)), dtype=np.float64)
        if not (betas.min() > 0 and betas.max() < 1):
            raise ValueError(f"trained_betas must lie inside (0, 1), got values from {betas.min()} to {betas.max()}")
    elif beta_schedule == "linear":
        betas = np.linspace(beta_start, beta_end, num_train_timesteps)
    elif beta_schedule == "scaled_linear":
        betas = np.linspace(math.sqrt(beta_start), math.sqrt(beta_end), num_train_timesteps) ** 2
    else:
        ends = np.cos((np.arange(num_train_timesteps + 1) / num_train_timesteps + 0.008) / 1.008 * math.pi / 2) ** 2
        betas = np.minimum(1 - ends[1:] / ends[:-1], 0.999)
    return Discrete(np.cumprod(1 - betas))


class Solver(Protocol):
    """What takes the steps: told the state and the denoiser's estimate at a node, it returns the state at the next."""

    def step(self, y: torch.Tensor, data: torch.Tensor) -> torch.Tensor: ...


class SolverScheduler(_schedulers.SchedulerMixin, _diffusers.ConfigMixin):
    """A deterministic solver of the probability-flow ODE as a scheduler.

    A subclass registers its configuration, which holds `spacing` and the arguments of `training_schedule`, calls this constructor, and defines
    `_solver_from`. One whose nodes are not simply those of the grid also defines `_evaluation_times`.
    """

    _compatibles = [kind.name for kind in _schedulers.KarrasDiffusionSchedulers]  # noqa: RUF012 (the interface wants a list)
    order = 1

    def __init__(self):
        described = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "prediction_type", "flow_shift")
        self.schedule = training_schedule(*(self.config[name] for name in described))
        choice(self.config.spacing, "spacing", SPACINGS)
        self.init_noise_sigma = 1.0
        self.num_inference_steps: int | None = None
        self.timesteps = torch.arange(self.config.num_train_timesteps - 1, -1, -1, dtype=torch.float32)
        self._begin_index: int | None = None
        self._step_index: int | None = None
        self._solver: Solver | None = None

    @abstractmethod
    def _solver_from(self, first: int, like: torch.Tensor) -> Solver:
        """A fresh solver that starts at node `first`, for samples with the shape, dtype and device of `like`."""

    def _evaluation_times(self, steps: int) -> np.ndarray:
        """The times at which the network is called, and the last one, at which it is not."""
        return timesteps(self.schedule, steps, self.config.spacing)

    @property
    def begin_index(self) -> int | None:
        """The position at which `step` starts, if a pipeline has set one."""
        return self._begin_index

    @property
    def step_index(self) -> int | None:
        """The position of the next call of `step`; None before the first."""
        return self._step_index

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Start at this position of the timesteps instead of the one found from the first timestep."""
        self._begin_index = integer(begin_index, "begin_index", at_least=0)

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
            If the solver cannot take so many steps.
        """
        self._times = self._evaluation_times(integer(num_inference_steps, "num_inference_steps", at_least=1))
        self._alphas, self._sigmas = self.schedule.alpha(self._times).tolist(), self.schedule.sigma(self._times).tolist()
        self.timesteps = torch.from_numpy(self._to_timesteps(self._times[:-1])).to(device=device, dtype=torch.float32)
        self.num_inference_steps = num_inference_steps
        self._step_index = self._begin_index = self._solver = None

    def scale_model_input(self, sample: torch.Tensor, *args, **kwargs) -> torch.Tensor:
        """Return the sample as it is: the network sees x."""
        return sample

    def step(
        self,
        model_output: torch.Tensor,
        timestep: float | torch.Tensor,
        sample: torch.Tensor,
        return_dict: bool = True,
        generator: torch.Generator | None = None,
    ):
        """Return the sample at the next timestep.

        Parameters
        ----------
        model_output : Tensor (batch, *shape)
            What the network said at `sample`.
        timestep : float or Tensor
            The current entry of `timesteps`; read at the first step only.
        sample : Tensor (batch, *shape)
            The current sample x.
        return_dict : bool
            Return a SchedulerOutput, else a tuple.
        generator : torch.Generator, optional
            Not used: the method is deterministic.

        Raises
        ------
        ValueError
            Before `set_timesteps`, after the last step, or if the shapes do not fit together or to the solver.
        """
        if self.num_inference_steps is None:
            raise ValueError("set_timesteps must be called before step")
        if model_output.shape != sample.shape:
            raise ValueError(f"model_output must have the shape of sample, {tuple(sample.shape)}, got {tuple(model_output.shape)}")
        dtype = sample.dtype if sample.dtype == torch.float64 else torch.float32
        if self._step_index is None:
            first = self._first_index(timestep)
            self._solver, self._step_index = self._solver_from(first, sample.to(dtype)), first
        i = self._step_index
        if i >= len(self.timesteps):
            raise ValueError(f"step was called {i + 1} times, but set_timesteps made {len(self.timesteps)} timesteps")
        y = self._advance(i, sample.to(dtype), model_output.to(dtype))
        self._step_index += 1
        previous = (self._alphas[i + 1] * y).to(sample.dtype)
        return _schedulers.SchedulerOutput(prev_sample=previous) if return_dict else (previous,)

    def add_noise(self, original_samples: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """Return ``alpha x_0 + sigma n`` at the timesteps (batch,), one per sample."""
        t = self._from_timesteps(timesteps.double().reshape(-1))
        column = (-1, *(1,) * (original_samples.ndim - 1))
        alpha, sigma = (value.reshape(column).to(original_samples) for value in (self.schedule.alpha(t), self.schedule.sigma(t)))
        return alpha * original_samples + sigma * noise

    def __len__(self) -> int:
        return self.config.num_train_timesteps

    def _advance(self, i: int, x: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """The state y at node i + 1 from the sample x at node i and what the network said there."""
        data = data_prediction(output, x, self._alphas[i], self._sigmas[i], PREDICTION_TYPES[self.config.prediction_type])
        return self._solver.step(x / self._alphas[i], data)

    def _first_index(self, timestep: float | torch.Tensor) -> int:
        """Where the walk begins: a sampler may start in the middle, but only at the first of the network calls of a step."""
        if self._begin_index is not None:
            return self._begin_index
        return self.order * int(torch.argmin((self.timesteps[:: self.order].cpu() - float(timestep)).abs()))

    def _to_timesteps(self, times: np.ndarray) -> np.ndarray:
        steps = self.config.num_train_timesteps
        return steps * self.schedule.sigma(times) if isinstance(self.schedule, Flow) else steps * times - 1

    def _from_timesteps(self, timesteps: torch.Tensor) -> torch.Tensor:
        steps = self.config.num_train_timesteps
        if not isinstance(self.schedule, Flow):
            return (timesteps + 1) / steps
        sigma = timesteps / steps
        return sigma / (self.schedule.shift - (self.schedule.shift - 1) * sigma)
