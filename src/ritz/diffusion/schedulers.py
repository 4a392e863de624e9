"""Samplers as schedulers of `diffusers`: drop them into a pipeline with ``pipeline.scheduler = S.from_config(pipeline.scheduler.config)``.

Each does one step of the sampler of the same name whenever it is told what the network said. Needs the extra ``diffusers``.
"""

from __future__ import annotations

import numpy as np
import torch

from ritz.core import flag, integer, optional_import, real
from ritz.diffusion.dpm_solver_v3 import corrected_nodes, dpm_solver_v3_plan, dpm_solver_v3_solver, sampling_nodes
from ritz.diffusion.exponential_integrator import MultistepSolver
from ritz.diffusion.model_statistics import EMS
from ritz.diffusion.scheduler_interface import SolverScheduler

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


def _check_path(path: object, name: str) -> None:
    if path is not None and not isinstance(path, str):
        raise TypeError(f"{name} must be a string or None, got {type(path).__name__}")
