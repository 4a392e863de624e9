"""Samplers as schedulers of `diffusers`: drop them into a pipeline with ``pipeline.scheduler = S.from_config(pipeline.scheduler.config)``.

A scheduler is told what the network said at each timestep and answers with the next sample; it does one step of the sampler of the same name, in the
frame y = x / alpha, and returns alpha y. Needs the extra ``diffusers``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from ritz.core import array, choice, flag, integer, optional_import, real
from ritz.diffusion.denoisers import Prediction, data_prediction
from ritz.diffusion.dpm_solver_v3 import corrected_nodes, dpm_solver_v3_plan, dpm_solver_v3_solver, sampling_nodes
from ritz.diffusion.model_statistics import EMS
from ritz.diffusion.schedules import SPACINGS, Discrete, Flow, NoiseSchedule

if TYPE_CHECKING:
    from ritz.diffusion.exponential_integrator import MultistepSolver

_diffusers = optional_import("diffusers", extra="diffusers")
_schedulers = optional_import("diffusers.schedulers.scheduling_utils", extra="diffusers")
_register_to_config = optional_import("diffusers.configuration_utils", extra="diffusers").register_to_config

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


class DPMSolverV3Scheduler(_schedulers.SchedulerMixin, _diffusers.ConfigMixin):
    """DPM-Solver-v3 (Zheng et al., NeurIPS 2023, arXiv:2310.13268) for `diffusers` pipelines; see `dpm_solver_v3_sample`.

    Parameters
    ----------
    num_train_timesteps, beta_start, beta_end, beta_schedule, trained_betas, prediction_type
        The training schedule and the network's output, as in the schedulers of `diffusers`. With "flow_prediction" the betas are ignored and the
        schedule is the straight path, shifted by `flow_shift`.
    flow_shift : float
        Time shift of the straight path.
    solver_order, corrector, pseudo_predictor, pseudo_corrector, lower_order_final, corrector_t_max
        As in `dpm_solver_v3_sample` (solver_order is its order).
    spacing : {"logsnr", "uniform", "quadratic", "karras"}
        The grid of times; the authors take "uniform" for Stable Diffusion.
    ems_path : str, optional
        A ``.safetensors`` file of the model's statistics (`EMS.save`), read by `set_timesteps` unless it is given statistics.

    Raises
    ------
    TypeError, ValueError
        For a bad argument.

    Notes
    -----
    Sampling ends at the smallest noise level of the statistics, not at zero. The timesteps are those of the statistics' grid, so not whole numbers.

    Examples
    --------
    >>> scheduler = DPMSolverV3Scheduler(solver_order=2, spacing="uniform")
    >>> ems = EMS.degenerate("data", np.linspace(scheduler.schedule.lam(1.0), scheduler.schedule.lam(0.001), 121))
    >>> scheduler.set_timesteps(5, ems=ems)
    >>> sample = torch.randn(1, 2, 4, 4)
    >>> for timestep in scheduler.timesteps:
    ...     sample = scheduler.step(0 * sample, timestep, sample).prev_sample
    """

    _compatibles = [kind.name for kind in _schedulers.KarrasDiffusionSchedulers]  # noqa: RUF012 (the interface wants a list)
    order = 1

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
        solver_order: int = 3,
        spacing: str = "logsnr",
        corrector: bool = True,
        pseudo_predictor: bool = False,
        pseudo_corrector: bool = False,
        lower_order_final: bool = True,
        corrector_t_max: float | None = None,
        ems_path: str | None = None,
    ):
        self.schedule = training_schedule(num_train_timesteps, beta_start, beta_end, beta_schedule, trained_betas, prediction_type, flow_shift)
        integer(solver_order, "solver_order", at_least=1, at_most=3)
        choice(spacing, "spacing", SPACINGS)
        for name, value in {
            "corrector": corrector,
            "pseudo_predictor": pseudo_predictor,
            "pseudo_corrector": pseudo_corrector,
            "lower_order_final": lower_order_final,
        }.items():
            flag(value, name)
        if corrector_t_max is not None:
            real(corrector_t_max, "corrector_t_max", above=0)
        if ems_path is not None and not isinstance(ems_path, str):
            raise TypeError(f"ems_path must be a string or None, got {type(ems_path).__name__}")
        self.init_noise_sigma = 1.0
        self.num_inference_steps: int | None = None
        self.ems: EMS | None = None
        self.timesteps = torch.arange(num_train_timesteps - 1, -1, -1, dtype=torch.float32)
        self._begin_index: int | None = None
        self._step_index: int | None = None
        self._solver: MultistepSolver | None = None

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

    def set_timesteps(self, num_inference_steps: int, device: str | torch.device | None = None, ems: EMS | None = None) -> None:
        """Choose the timesteps and forget all that was done before.

        Parameters
        ----------
        num_inference_steps : int
            Number of steps.
        device : str or torch.device, optional
            Where the timesteps go.
        ems : EMS, optional
            The model's statistics; by default those of the last call, or those of the file `ems_path`.

        Raises
        ------
        TypeError, ValueError
            If there are no statistics, or they do not fit the schedule or the number of steps.
        """
        integer(num_inference_steps, "num_inference_steps", at_least=1)
        if ems is None and self.ems is None and self.config.ems_path is None:
            raise ValueError("ems must be given to set_timesteps, or a file of it named by ems_path in the configuration: DPM-Solver-v3 needs it")
        self.ems = ems or self.ems or EMS.load(self.config.ems_path)
        self._nodes = sampling_nodes(self.ems, self.schedule, num_inference_steps, self.config.spacing)
        lam = self.ems.lam[self._nodes].numpy(force=True)
        self._times = self.schedule.inverse_lam(lam)
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
            Before `set_timesteps`, after the last step, or if the shapes do not fit together or to the statistics.
        """
        if self.num_inference_steps is None:
            raise ValueError("set_timesteps must be called before step")
        if model_output.shape != sample.shape:
            raise ValueError(f"model_output must have the shape of sample, {tuple(sample.shape)}, got {tuple(model_output.shape)}")
        if self._step_index is None:
            self._start(timestep, sample)
        i = self._step_index
        if i >= self.num_inference_steps:
            raise ValueError(f"step was called {i + 1} times, but set_timesteps asked for {self.num_inference_steps}")
        kind = PREDICTION_TYPES[self.config.prediction_type]
        x, output = sample.to(self._dtype), model_output.to(self._dtype)
        data = data_prediction(output, x, self._alphas[i], self._sigmas[i], kind)
        y = self._solver.step(x / self._alphas[i], data)
        self._step_index += 1
        previous = (self._alphas[i + 1] * y).to(sample.dtype)
        return _schedulers.SchedulerOutput(prev_sample=previous) if return_dict else (previous,)

    def add_noise(self, original_samples: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """Return ``alpha x_0 + sigma n`` at the timesteps (batch,), one per sample."""
        t = (timesteps.double().reshape(-1) + 1) / self.config.num_train_timesteps
        if isinstance(self.schedule, Flow):
            sigma = timesteps.double().reshape(-1) / self.config.num_train_timesteps
            t = sigma / (self.schedule.shift - (self.schedule.shift - 1) * sigma)
        column = (-1, *(1,) * (original_samples.ndim - 1))
        alpha, sigma = (value.reshape(column).to(original_samples) for value in (self.schedule.alpha(t), self.schedule.sigma(t)))
        return alpha * original_samples + sigma * noise

    def __len__(self) -> int:
        return self.config.num_train_timesteps

    def _to_timesteps(self, times: np.ndarray) -> np.ndarray:
        steps = self.config.num_train_timesteps
        return steps * self.schedule.sigma(times) if isinstance(self.schedule, Flow) else steps * times - 1

    def _start(self, timestep: float | torch.Tensor, sample: torch.Tensor) -> None:
        """Build the solver from the first timestep on; a sampler that starts in the middle warms up there."""
        if self.ems.shape not in ((), tuple(sample.shape[1:])):
            raise ValueError(f"sample holds samples of shape {tuple(sample.shape[1:])}, but ems was made for shape {self.ems.shape}")
        nearest = int(torch.argmin((self.timesteps.cpu() - float(timestep)).abs()))
        self._step_index = nearest if self._begin_index is None else self._begin_index
        self._dtype = sample.dtype if sample.dtype == torch.float64 else torch.float32
        corrected = corrected_nodes(self._times[self._step_index :], self.config.corrector, self.config.corrector_t_max)
        plan = dpm_solver_v3_plan(
            corrected,
            order=self.config.solver_order,
            pseudo_predictor=self.config.pseudo_predictor,
            pseudo_corrector=self.config.pseudo_corrector,
            lower_order_final=self.config.lower_order_final,
        )
        self._solver = dpm_solver_v3_solver(self.ems, self._nodes[self._step_index :], plan, torch.empty(0, dtype=self._dtype, device=sample.device))
