"""The unified sampling framework: every decision of a multistep solver, step by step, in one plan.

Liu et al., "A Unified Sampling Framework for Solver Searching of Diffusion Probabilistic Models", ICLR 2024, arXiv:2312.07243, sections 3-4.

What a solver of the probability-flow ODE decides at a step is the time it leads to, what is integrated (noise, data, or the prediction of
DPM-Solver-v3), the order, the node it starts from, which earlier values estimate which derivative, how much the first derivative is relaxed, and
whether it is corrected. A `SamplingPlan` writes it all down, goes to a file, and is carried out by `usf_sample`; `SolverSearch` finds good ones.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import torch

from ritz.core import array, choice, real
from ritz.diffusion.denoisers import Denoiser, check_callable
from ritz.diffusion.dpm_solver_v3 import EMSPrediction
from ritz.diffusion.exponential_integrator import PLAIN_PREDICTIONS, MultistepSolver, check_start, run_solver
from ritz.diffusion.json_files import read_settings, write_settings
from ritz.diffusion.model_statistics import EMS
from ritz.diffusion.samples import Samples
from ritz.diffusion.schedules import NoiseSchedule, check_schedule
from ritz.diffusion.solver_plan import PlanStep, SolverPlan, Update

PREDICTED = ("noise", "data", "ems")
FIRST_STEPS = ("network", "zero", "mean")


@dataclass(frozen=True)
class SamplingPlan:
    """A `SolverPlan` with its times, and with what is taken for the denoiser's answer at the first of them.

    Parameters
    ----------
    times : tuple of float
        n + 1 falling times for n steps.
    steps : tuple of PlanStep
        One per step, with prediction "noise", "data" or "ems".
    first_step : {"network", "zero", "mean"}
        Call the denoiser at the first time, or save that call and take 0 or the mean of the data.

    Raises
    ------
    TypeError, ValueError
        If the times do not fall, do not fit the steps, or a step looks back at nodes that do not exist.

    Examples
    --------
    >>> from ritz.diffusion import VPLinear, timesteps, unipc_plan
    >>> plan = SamplingPlan.on(timesteps(VPLinear(), 4), unipc_plan(4, order=2))
    >>> plan.orders, plan.calls
    ((1, 2, 2, 1), 4)
    >>> SamplingPlan.from_json(plan.to_json()) == plan
    True
    """

    times: tuple[float, ...]
    steps: tuple[PlanStep, ...]
    first_step: Literal["network", "zero", "mean"] = "network"

    def __post_init__(self):
        object.__setattr__(self, "times", tuple(real(time, "times", above=0) for time in _sequence(self.times, "times")))
        object.__setattr__(self, "steps", SolverPlan(tuple(_sequence(self.steps, "steps"))).steps)
        choice(self.first_step, "first_step", FIRST_STEPS)
        for step in self.steps:
            choice(step.prediction, "steps: prediction", PREDICTED)
        if len(self.times) != len(self.steps) + 1 or any(b >= a for a, b in pairwise(self.times)):
            raise ValueError(f"times must be {len(self.steps) + 1} falling times for {len(self.steps)} steps, got {self.times}")

    @classmethod
    def on(cls, times: Sequence[float] | np.ndarray, plan: SolverPlan, first_step: str = "network") -> SamplingPlan:
        """A plan on these times (steps + 1,)."""
        if not isinstance(plan, SolverPlan):
            raise TypeError(f"plan must be a SolverPlan, got {type(plan).__name__}")
        return cls(tuple(array(times, "times", ndim=1).tolist()), plan.steps, first_step)

    @property
    def orders(self) -> tuple[int, ...]:
        """Order of each step's predictor."""
        return tuple(step.predictor.order for step in self.steps)

    @property
    def correctors(self) -> tuple[str, ...]:
        """For each step "none", "pseudo" (corrected with the evaluation there is) or "implicit" (and evaluated again)."""
        return tuple("implicit" if step.implicit else "pseudo" if step.corrector else "none" for step in self.steps)

    @property
    def calls(self) -> int:
        """How often the denoiser is called."""
        return SolverPlan(self.steps).calls - (self.first_step != "network")

    def after(self, node: int) -> SamplingPlan:
        """The rest of the plan from a node on, where nothing that was before is known; orders are as high as the new history allows."""
        steps = []
        for known, step in enumerate(self.steps[node:], start=1):
            corrector = step.corrector and _within(step.corrector, known + 1)
            steps.append(PlanStep(_within(step.predictor, known), corrector, step.prediction, step.implicit))
        return SamplingPlan(self.times[node:], tuple(steps))

    def to_json(self) -> str:
        """The plan as JSON text, from which `from_json` makes an equal one."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> SamplingPlan:
        """Read what `to_json` wrote.

        Raises
        ------
        TypeError, ValueError
            If the text is no such plan.
        """
        if not isinstance(text, str):
            raise TypeError(f"text must be a string, got {type(text).__name__}")
        return cls._from_fields(json.loads(text), "text")

    def save(self, path: str | os.PathLike) -> None:
        """Write the plan to a ``.json`` file, whole or not at all."""
        write_settings(path, asdict(self))

    @classmethod
    def load(cls, path: str | os.PathLike) -> SamplingPlan:
        """Read what `save` wrote.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        TypeError, ValueError
            If it is no such file, or spoiled.
        """
        return cls._from_fields(read_settings(path, ("times", "steps", "first_step")), "path")

    @classmethod
    def _from_fields(cls, fields: object, name: str) -> SamplingPlan:
        try:
            steps = tuple(
                PlanStep(_update(step["predictor"]), step["corrector"] and _update(step["corrector"]), step["prediction"], step["implicit"])
                for step in fields["steps"]
            )
            return cls(tuple(fields["times"]), steps, fields["first_step"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"{name} holds no sampling plan: {error!r}") from error


def plan_nfe(plan: SamplingPlan) -> int:
    """How often a plan calls the denoiser: once per step, once more for an implicit corrector, once less for an analytic first step.

    Raises
    ------
    TypeError
        If `plan` is no SamplingPlan.

    Examples
    --------
    >>> from ritz.diffusion import dpm_solver_plan
    >>> plan_nfe(SamplingPlan.on([1.0, 0.5, 0.1], dpm_solver_plan(2), "zero"))
    1
    """
    return check_sampling_plan(plan).calls


def usf_sample(
    denoiser: Denoiser,
    x_T: torch.Tensor,
    schedule: NoiseSchedule,
    plan: SamplingPlan,
    *,
    ems: EMS | None = None,
    mean_x0: torch.Tensor | None = None,
) -> Samples:
    """Sample as a plan says.

    Parameters
    ----------
    denoiser : callable
        ``D(x, sigma)``, called with sigma a float.
    x_T : Tensor (batch, *shape)
        Starting points in the frame y = x / alpha: noise of deviation ``schedule.rho(plan.times[0])``.
    schedule : NoiseSchedule
        Where the plan's times live.
    plan : SamplingPlan
        What to do.
    ems : EMS, optional
        The model's statistics, for plans with prediction "ems"; all times are then moved to the nearest nodes of its grid.
    mean_x0 : Tensor (*shape,), optional
        The mean of the data, for plans with first step "mean".

    Returns
    -------
    Samples
        In the frame y = x / alpha, at the plan's last time.

    Raises
    ------
    TypeError, ValueError
        For a bad argument, a plan that needs statistics or a mean that are not given, or a denoiser that returns another shape or nothing finite.

    Notes
    -----
    A step costs as many multiply-adds of the size of x_T as it looks at nodes, beside the denoiser's call. Time-dependent weights on a network's skip
    connections, which the released code also searches, are no part of a plan.

    Examples
    --------
    >>> from ritz.diffusion import GaussianMixtureDenoiser, VPLinear, timesteps, unipc_plan
    >>> denoiser, schedule = GaussianMixtureDenoiser([1.0], [[1.0, -1.0]], [1e-6]), VPLinear()
    >>> plan = SamplingPlan.on(timesteps(schedule, 5), unipc_plan(5), first_step="zero")
    >>> result = usf_sample(denoiser, torch.full((1, 2), schedule.rho(1.0)), schedule, plan)
    >>> result.x.round(decimals=1), result.nfe
    (tensor([[ 1., -1.]]), 4)
    """
    check_callable(denoiser, "denoiser")
    x_T = check_start(x_T, "x_T")
    check_schedule(schedule)
    check_sampling_plan(plan)
    mean_x0 = checked_mean(mean_x0, x_T)
    solver = plan_solver(plan, schedule, tuple(x_T.shape[1:]), ems)
    if plan.first_step == "mean" and mean_x0 is None:
        raise ValueError('mean_x0 must be given for a plan whose first step is "mean"')
    if plan.first_step != "network":
        data = torch.zeros_like(x_T) if plan.first_step == "zero" else mean_x0.expand_as(x_T)
        x_T = solver.step(x_T, data)
    return run_solver(denoiser, x_T, solver)


def plan_solver(plan: SamplingPlan, schedule: NoiseSchedule, shape: tuple[int, ...], ems: EMS | None = None) -> MultistepSolver:
    """A fresh solver for samples of this shape."""
    lam, predictions = schedule.lam(np.array(plan.times)).tolist(), dict(PLAIN_PREDICTIONS)
    if any(step.prediction == "ems" for step in plan.steps):
        if not isinstance(ems, EMS):
            raise TypeError(f'ems must be an EMS for a plan with prediction "ems", got {type(ems).__name__}')
        if ems.shape not in ((), shape):
            raise ValueError(f"ems was made for samples of shape {ems.shape}, but x_T holds samples of shape {shape}")
        lam, predictions["ems"] = _on_grid(lam, ems), EMSPrediction(ems)
    return MultistepSolver(SolverPlan(plan.steps), lam, predictions)


def checked_mean(mean_x0: object, x_T: torch.Tensor) -> torch.Tensor | None:
    """Return the mean of the data, if there is one, as a tensor like x_T."""
    if mean_x0 is None:
        return None
    mean_x0 = torch.as_tensor(array(mean_x0, "mean_x0")).to(x_T)
    if mean_x0.shape != x_T.shape[1:]:
        raise ValueError(f"mean_x0 must have the shape of one sample of x_T, {tuple(x_T.shape[1:])}, got {tuple(mean_x0.shape)}")
    return mean_x0


def check_sampling_plan(plan: object) -> SamplingPlan:
    """Refuse what is no sampling plan."""
    if not isinstance(plan, SamplingPlan):
        raise TypeError(f"plan must be a SamplingPlan, got {type(plan).__name__}")
    return plan


def _on_grid(lam: list[float], ems: EMS) -> list[float]:
    grid = ems.lam.numpy(force=True)
    slack = 0.5 * (grid[1] - grid[0])
    if lam[0] < grid[0] - slack or lam[-1] > grid[-1] + slack:
        raise ValueError(f"ems covers lam from {grid[0]:.4g} to {grid[-1]:.4g}, but plan goes from {lam[0]:.4g} to {lam[-1]:.4g}")
    nodes = np.clip(np.rint((np.array(lam) - grid[0]) / (grid[1] - grid[0])), 0, len(grid) - 1).astype(int)
    if np.any(np.diff(nodes) <= 0):
        raise ValueError("plan: two of its times fall on one node of the grid of ems")
    return grid[nodes].tolist()


def _within(update: Update, known: int) -> Update:
    """The update with the nodes there are, of an order that they allow."""
    if update.start < -known:
        return Update(1)
    points = tuple(tuple(node for node in nodes if node >= -known) for nodes in update.points)
    order = 1
    while order < update.order and len(points[order - 1]) >= order:
        order += 1
    return Update(order, points[: order - 1], update.start, update.relaxation, update.estimator)


def _update(fields: dict) -> Update:
    return Update(**fields | {"points": tuple(tuple(nodes) for nodes in fields["points"])})


def _sequence(value: object, name: str) -> Sequence:
    if not isinstance(value, tuple | list):
        raise TypeError(f"{name} must be a tuple, got {type(value).__name__}")
    return value
