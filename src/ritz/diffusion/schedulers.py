"""Samplers as schedulers of `diffusers`: drop them into a pipeline with ``pipeline.scheduler = S.from_config(pipeline.scheduler.config)``.

Each does one step of the sampler of the same name whenever it is told what the network said. Needs the extra ``diffusers``.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from ritz.core import choice, flag, integer, optional_import, real
from ritz.diffusion.compensation import VARIANTS, Compensation
from ritz.diffusion.dc_solver import CompensatedSolver, check_compensation
from ritz.diffusion.deis import GivenNoise, calls_per_step, deis_solver, evaluation_times
from ritz.diffusion.denoisers import noise_prediction
from ritz.diffusion.dpm_solver_v3 import corrected_nodes, dpm_solver_v3_plan, dpm_solver_v3_solver, sampling_nodes
from ritz.diffusion.exponential_integrator import LinearStepSolver, MultistepSolver
from ritz.diffusion.model_statistics import EMS
from ritz.diffusion.scheduler_interface import PREDICTION_TYPES, SolverScheduler
from ritz.diffusion.schedules import timesteps
from ritz.diffusion.solver_plan import unipc_plan
from ritz.diffusion.unified_sampling import SamplingPlan, check_sampling_plan, plan_solver

_register_to_config = optional_import("diffusers.configuration_utils", extra="diffusers").register_to_config


class DPMSolverV3Scheduler(SolverScheduler):
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
        super().__init__()
        integer(solver_order, "solver_order", at_least=1, at_most=3)
        for name in ("corrector", "pseudo_predictor", "pseudo_corrector", "lower_order_final"):
            flag(self.config[name], name)
        if corrector_t_max is not None:
            real(corrector_t_max, "corrector_t_max", above=0)
        _check_path(ems_path, "ems_path")
        self.ems: EMS | None = None

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
        if ems is None and self.ems is None and self.config.ems_path is None:
            raise ValueError("ems must be given to set_timesteps, or a file of it named by ems_path in the configuration: DPM-Solver-v3 needs it")
        self.ems = ems or self.ems or EMS.load(self.config.ems_path)
        super().set_timesteps(num_inference_steps, device)

    def _evaluation_times(self, steps: int) -> np.ndarray:
        self._nodes = sampling_nodes(self.ems, self.schedule, steps, self.config.spacing)
        return self.schedule.inverse_lam(self.ems.lam[self._nodes].numpy(force=True))

    def _solver_from(self, first: int, like: torch.Tensor) -> MultistepSolver:
        if self.ems.shape not in ((), tuple(like.shape[1:])):
            raise ValueError(f"sample holds samples of shape {tuple(like.shape[1:])}, but ems was made for shape {self.ems.shape}")
        corrected = corrected_nodes(self._times[first:], self.config.corrector, self.config.corrector_t_max)
        plan = dpm_solver_v3_plan(
            corrected,
            order=self.config.solver_order,
            pseudo_predictor=self.config.pseudo_predictor,
            pseudo_corrector=self.config.pseudo_corrector,
            lower_order_final=self.config.lower_order_final,
        )
        return dpm_solver_v3_solver(self.ems, self._nodes[first:], plan, like)


class DEISScheduler(SolverScheduler):
    """DEIS (Zhang and Chen, ICLR 2023, arXiv:2204.13902) for `diffusers` pipelines; see `deis_sample`.

    Parameters
    ----------
    num_train_timesteps, beta_start, beta_end, beta_schedule, trained_betas, prediction_type, flow_shift
        As in `DPMSolverV3Scheduler`.
    variant : {"tab", "rho_ab", "rho_rk", "ipndm"}
        As in `deis_sample`. With "rho_rk" the timesteps are those of all stages, several per step.
    order : int
        Degree of the polynomials, 0 to 4: one less than what `diffusers` calls the order of its DEISMultistepScheduler, which extrapolates in
        log rho and so is another member of the family. (The attribute `order` of a scheduler is its number of calls per step.)
    rk : str
        The Runge-Kutta method of "rho_rk".
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
    >>> scheduler = DEISScheduler(order=2)
    >>> scheduler.set_timesteps(5)
    >>> sample = torch.randn(1, 2, 4, 4)
    >>> for timestep in scheduler.timesteps:
    ...     sample = scheduler.step(0 * sample, timestep, sample).prev_sample
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
        variant: str = "tab",
        order: int = 3,
        rk: str = "kutta3",
        spacing: str = "quadratic",
    ):
        super().__init__()
        self.order = calls_per_step(variant, order, rk)

    def _evaluation_times(self, steps: int) -> np.ndarray:
        self._step_times = super()._evaluation_times(steps)
        return evaluation_times(self.schedule, self._step_times, self.config.variant, self.config.rk)

    def _solver_from(self, first: int, like: torch.Tensor) -> LinearStepSolver:
        times, options = self._step_times[first // self.order :], self.config
        return deis_solver(self.schedule, times, options.variant, options.order, options.rk, GivenNoise())

    def _advance(self, i: int, x: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        noise = noise_prediction(output, x, self._alphas[i], self._sigmas[i], PREDICTION_TYPES[self.config.prediction_type])
        return self._solver.step(x / self._alphas[i], noise)


class DCSolverScheduler(SolverScheduler):
    """DC-Solver (Zhao et al., ECCV 2024, arXiv:2409.03755) for `diffusers` pipelines; see `dc_sample`.

    Parameters
    ----------
    num_train_timesteps, beta_start, beta_end, beta_schedule, trained_betas, prediction_type, flow_shift
        As in `DPMSolverV3Scheduler`.
    solver_order, unipc_variant, dc_order, spacing
        As in `search_compensation` (solver_order is its order, unipc_variant its variant).
    corrector : bool
        As in `dc_sample`.
    ratios : list of float, optional
        The compensation ratios of the steps, for one number of steps. Without them, and without a file, this is UniPC.
    compensation_path : str, optional
        A ``.json`` file of `Compensation.save`, whose settings take the place of solver_order, unipc_variant, dc_order and spacing.

    Raises
    ------
    TypeError, ValueError
        For a bad argument.

    Notes
    -----
    Sampling ends at the smallest noise level of the training schedule, not at zero. The timesteps are not whole numbers.

    Examples
    --------
    >>> scheduler = DCSolverScheduler(ratios=[1.0, 1.0, 0.9, 1.1, 1.0])
    >>> scheduler.set_timesteps(5)
    >>> sample = torch.randn(1, 2, 4, 4)
    >>> for timestep in scheduler.timesteps:
    ...     sample = scheduler.step(0 * sample, timestep, sample).prev_sample
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
        solver_order: int = 3,
        unipc_variant: str = "bh1",
        dc_order: int = 2,
        spacing: str = "uniform",
        corrector: bool = True,
        ratios: list[float] | None = None,
        compensation_path: str | None = None,
    ):
        super().__init__()
        integer(solver_order, "solver_order", at_least=1, at_most=3)
        choice(unipc_variant, "unipc_variant", VARIANTS)
        flag(corrector, "corrector")
        _check_path(compensation_path, "compensation_path")
        self._settings = Compensation([1.0] if ratios is None else ratios, spacing, solver_order, unipc_variant, dc_order)
        self.compensation: Compensation | None = None if ratios is None else self._settings

    def set_timesteps(self, num_inference_steps: int, device: str | torch.device | None = None, compensation: Compensation | None = None) -> None:
        """Choose the timesteps and forget all that was done before.

        Parameters
        ----------
        num_inference_steps : int
            Number of steps.
        device : str or torch.device, optional
            Where the timesteps go.
        compensation : Compensation, optional
            Ratios and settings; by default those of the last call, of the configuration or of its file.

        Raises
        ------
        TypeError, ValueError
            If the compensation was made for another number of steps or another schedule.
        """
        if compensation is not None:
            check_compensation(compensation)
        elif self.compensation is None and self.config.compensation_path is not None:
            compensation = Compensation.load(self.config.compensation_path)
        self.compensation = compensation or self.compensation
        super().set_timesteps(num_inference_steps, device)

    def _evaluation_times(self, steps: int) -> np.ndarray:
        if self.compensation is None:
            return timesteps(self.schedule, steps, self.config.spacing)
        if self.compensation.steps != steps:
            raise ValueError(f"num_inference_steps is {steps}, but compensation was made for {self.compensation.steps} steps")
        return self.compensation.grid(self.schedule)

    def _solver_from(self, first: int, like: torch.Tensor) -> CompensatedSolver:
        settings = self.compensation or self._settings
        ratios = np.ones(len(self._times) - 1) if self.compensation is None else self.compensation.ratios
        return CompensatedSolver(self.schedule, self._times[first:], settings, ratios[first:], self.config.corrector)


class USFScheduler(SolverScheduler):
    """The unified sampling framework (Liu et al., ICLR 2024, arXiv:2312.07243) for `diffusers` pipelines; see `usf_sample`.

    Parameters
    ----------
    num_train_timesteps, beta_start, beta_end, beta_schedule, trained_betas, prediction_type, flow_shift
        As in `DPMSolverV3Scheduler`.
    spacing : {"logsnr", "uniform", "quadratic", "karras"}
        The grid of times where there is no plan.
    plan : str, optional
        A plan as text (`SamplingPlan.to_json`). Without it, and without a file, this is UniPC of order 3.
    plan_path : str, optional
        A ``.json`` file of `SamplingPlan.save`, read by `set_timesteps`.
    ems_path : str, optional
        A ``.safetensors`` file of the model's statistics (`EMS.save`), for plans with prediction "ems".

    Raises
    ------
    TypeError, ValueError
        For a bad argument.

    Notes
    -----
    The number of inference steps of a plan is its number of network calls, `plan_nfe`. A plan whose first step is "zero" starts at its second time,
    with noise that `init_noise_sigma` has scaled; one whose first step is "mean" is refused, since a scheduler cannot add the mean before the
    network's first call. The timesteps are not whole numbers.

    Examples
    --------
    >>> from ritz.diffusion import SamplingPlan, dpm_solver_plan
    >>> plan = SamplingPlan.on([1.0, 0.6, 0.3, 0.001], dpm_solver_plan(3))
    >>> scheduler = USFScheduler(plan=plan.to_json())
    >>> scheduler.set_timesteps(3)
    >>> sample = torch.randn(1, 2, 4, 4)
    >>> for timestep in scheduler.timesteps:
    ...     sample = scheduler.step(0 * sample, timestep, sample).prev_sample
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
        spacing: str = "logsnr",
        plan: str | None = None,
        plan_path: str | None = None,
        ems_path: str | None = None,
    ):
        super().__init__()
        _check_path(plan_path, "plan_path")
        _check_path(ems_path, "ems_path")
        self.plan: SamplingPlan | None = None if plan is None else SamplingPlan.from_json(plan)
        self.ems: EMS | None = None

    def set_timesteps(
        self, num_inference_steps: int, device: str | torch.device | None = None, plan: SamplingPlan | None = None, ems: EMS | None = None
    ) -> None:
        """Choose the timesteps and forget all that was done before.

        Parameters
        ----------
        num_inference_steps : int
            Number of network calls; the plan's own if there is a plan.
        device : str or torch.device, optional
            Where the timesteps go.
        plan : SamplingPlan, optional
            What to do; by default that of the last call, of the configuration or of its file.
        ems : EMS, optional
            The model's statistics; by default those of the last call or of the file `ems_path`.

        Raises
        ------
        TypeError, ValueError
            If the plan calls the network another number of times, needs statistics that are not there, or begins with the mean.
        """
        if plan is not None:
            check_sampling_plan(plan)
        elif self.plan is None and self.config.plan_path is not None:
            plan = SamplingPlan.load(self.config.plan_path)
        self.plan = plan or self.plan
        if ems is None and self.ems is None and self.config.ems_path is not None:
            ems = EMS.load(self.config.ems_path)
        self.ems = ems or self.ems
        super().set_timesteps(num_inference_steps, device)

    def _evaluation_times(self, steps: int) -> np.ndarray:
        self._plan = self.plan or SamplingPlan.on(timesteps(self.schedule, steps, self.config.spacing), unipc_plan(steps))
        if self._plan.calls != steps:
            raise ValueError(f"num_inference_steps must be {self._plan.calls}, the network calls of the plan, got {steps}")
        if self._plan.first_step == "mean":
            raise ValueError('plan has the first step "mean", which a scheduler cannot take')
        lam = plan_solver(self._plan, self.schedule, self.ems.shape if self.ems else (), self.ems).lam
        times = self.schedule.inverse_lam(np.array(lam))
        self._analytic, self._start_level, self.init_noise_sigma = self._plan.first_step == "zero", math.exp(-lam[0]), 1.0
        if self._analytic:
            self.init_noise_sigma = self.schedule.sigma(float(times[1])) / self.schedule.sigma(float(times[0]))
        return times[int(self._analytic) :]

    def _solver_from(self, first: int, like: torch.Tensor) -> MultistepSolver:
        shape = tuple(like.shape[1:])
        if first and "implicit" in self._plan.correctors:
            raise ValueError("a plan with implicit correctors cannot start in the middle")
        if first:
            return plan_solver(self._plan.after(first + self._analytic), self.schedule, shape, self.ems)
        solver = plan_solver(self._plan, self.schedule, shape, self.ems)
        if self._analytic:
            solver.step(like * (self._start_level / self._sigmas[0]), torch.zeros_like(like))
        return solver


def _check_path(path: object, name: str) -> None:
    if path is not None and not isinstance(path, str):
        raise TypeError(f"{name} must be a string or None, got {type(path).__name__}")
