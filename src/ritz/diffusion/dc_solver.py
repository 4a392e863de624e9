"""DC-Solver: UniPC whose newest stored prediction is moved along the trajectory, by one searched number per step.

Zhao et al., "DC-Solver: Improving Predictor-Corrector Diffusion Sampler via Dynamic Compensation", ECCV 2024, arXiv:2409.03755, section 3.

A predictor-corrector stores what the network said at the predicted point, but goes on from the corrected one; with much guidance that misalignment
hurts. Before each step the newest stored prediction is replaced by the value at the time ``t* = r t_newest + (1 - r) t_previous`` of the polynomial
through the newest K + 1 stored predictions. The compensation ratio r is 1 for no change; the one that brings the next state nearest to a fine
reference trajectory is searched by gradient descent, step by step, on about ten samples, and then serves all others.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import numpy as np
import torch

from ritz.core import array, choice, flag, integer, positive, progress, to_numpy
from ritz.diffusion.compensation import MAX_DC_ORDER, VARIANTS, Compensation
from ritz.diffusion.denoisers import ClassifierFreeGuidance, Denoiser, check_callable
from ritz.diffusion.exponential_integrator import LinearUpdate, MultistepSolver, check_answer, check_start, multistep, run_solver
from ritz.diffusion.samples import Samples
from ritz.diffusion.schedules import NoiseSchedule, Spacing, timesteps
from ritz.diffusion.solver_plan import dpm_solver_plan, unipc_plan

Reference = tuple[np.ndarray, torch.Tensor]
"""Falling times (m,), and the states (m, batch, *shape) of trajectories there, in the frame y = x / alpha."""


def dc_sample(denoiser: Denoiser, x_T: torch.Tensor, schedule: NoiseSchedule, compensation: Compensation, *, corrector: bool = True) -> Samples:
    """Sample with DC-Solver.

    Parameters
    ----------
    denoiser : callable
        ``D(x, sigma)``, called once per step with sigma a float.
    x_T : Tensor (batch, *shape)
        Starting points in the frame y = x / alpha: noise of deviation ``schedule.rho(schedule.t_max)``.
    schedule : NoiseSchedule
        Gives the times.
    compensation : Compensation
        Ratios and settings, from `search_compensation` or `CascadePolynomial.predict`. With all ratios 1 this is UniPC.
    corrector : bool
        Redo each step but the last with its end's evaluation; as in the search.

    Returns
    -------
    Samples
        In the frame y = x / alpha, at the schedule's smallest time.

    Raises
    ------
    TypeError, ValueError
        For a bad argument, a compensation that was made for other times, or a denoiser that returns another shape or something not finite.

    Notes
    -----
    Cost: that of UniPC, and a weighted sum of ``dc_order + 1`` tensors before each step.

    Examples
    --------
    >>> from ritz.diffusion import GaussianMixtureDenoiser, VPLinear
    >>> denoiser, schedule = GaussianMixtureDenoiser([1.0], [[1.0, -1.0]], [1e-6]), VPLinear()
    >>> x_T = torch.full((1, 2), schedule.rho(1.0))
    >>> compensation = Compensation([1.0, 1.0, 0.9, 1.05, 1.0], spacing="logsnr")
    >>> dc_sample(denoiser, x_T, schedule, compensation).x.round(decimals=1)
    tensor([[ 1., -1.]])
    """
    check_callable(denoiser, "denoiser")
    x_T = check_start(x_T, "x_T")
    check_compensation(compensation)
    times = compensation.grid(schedule)
    return run_solver(denoiser, x_T, CompensatedSolver(schedule, times, compensation, compensation.ratios, flag(corrector, "corrector")))


def search_compensation(
    denoiser: Denoiser,
    x_T: torch.Tensor,
    schedule: NoiseSchedule,
    *,
    steps: int,
    order: int = 3,
    variant: str = "bh1",
    dc_order: int = 2,
    corrector: bool = True,
    spacing: Spacing = "uniform",
    reference_steps: int = 999,
    iterations: int = 40,
    lr: float = 0.1,
    reference: Reference | None = None,
) -> Compensation:
    """Search the compensation ratios of a sampler of this many steps.

    Parameters
    ----------
    denoiser : callable
        ``D(x, sigma)``, differentiable in x; of a `ClassifierFreeGuidance` the scale is remembered.
    x_T : Tensor (batch, *shape)
        Starting points in the frame y = x / alpha. The authors take 10.
    schedule : NoiseSchedule
        Gives the times, in which the stored predictions are interpolated.
    steps : int
        Number of steps, at least `order`.
    order : int
        Order of UniPC, 1 to 3.
    variant : {"bh1", "bh2"}
        Its B(h).
    dc_order : int
        Degree K of the polynomial, 1 to 3.
    corrector : bool
        Search for UniPC; without it for its predictor alone, where only the reference calls the denoiser with gradients off.
    spacing : {"logsnr", "uniform", "quadratic", "karras"}
        The grid of times.
    reference_steps : int
        Steps of DDIM on the uniform grid that make the reference trajectory.
    iterations : int
        Steps of AdamW on each ratio, from 1.
    lr : float
        Its learning rate.
    reference : tuple of (times, states), optional
        A reference trajectory from `x_T` instead of DDIM's: times (m,) that fall from the first to the last of the sampler's and states
        (m, batch, *shape) in the frame y = x / alpha. Between its times the state is interpolated linearly in sigma / alpha.

    Returns
    -------
    Compensation
        Of every ratio the best iterate, so the loss after its step is at most that of ratio 1.

    Raises
    ------
    TypeError, ValueError
        For a bad argument, a reference that does not reach over the sampler's times, or a loss that is not finite (the message names the step).

    Notes
    -----
    Cost: ``reference_steps`` calls, and for each of the last ``steps - dc_order`` steps about `iterations` calls with a gradient.
    The search is greedy: each ratio minimizes the mean squared distance from the reference right after its step, corrected. It compares states at
    equal times, interpolating the reference as a DDIM step does; taking the nearest of the reference's times instead, as the released code does,
    would have the ratios make up for the difference of the times.
    The weight decay of AdamW is 0.01. There is no bound on the ratios.

    Examples
    --------
    >>> from ritz.diffusion import GaussianMixtureDenoiser, VPLinear
    >>> denoiser, schedule = GaussianMixtureDenoiser([1.0, 1.0], [[1.0], [-1.0]], [0.1, 0.1]), VPLinear()
    >>> x_T = schedule.rho(1.0) * torch.randn(8, 1, generator=torch.Generator().manual_seed(0))
    >>> search_compensation(denoiser, x_T, schedule, steps=4, reference_steps=100, iterations=5)
    Compensation(ratios=float64[4], spacing='uniform', order=3, variant='bh1', dc_order=2, guidance=None, times=float64[5], losses=float64[4])
    """
    check_callable(denoiser, "denoiser")
    x_T = check_start(x_T, "x_T")
    integer(order, "order", at_least=1, at_most=3)
    integer(steps, "steps", at_least=order)
    choice(variant, "variant", VARIANTS)
    integer(dc_order, "dc_order", at_least=1, at_most=MAX_DC_ORDER)
    flag(corrector, "corrector")
    integer(iterations, "iterations", at_least=1)
    positive(lr, "lr")
    times = timesteps(schedule, steps, spacing)
    if reference is None:
        reference = _ddim_trajectory(denoiser, x_T, schedule, integer(reference_steps, "reference_steps", at_least=steps))
    targets = _states_at(times, *_checked_reference(reference, times, x_T), schedule)
    settings = Compensation(np.ones(steps), spacing, order, variant, dc_order)
    solver = CompensatedSolver(schedule, times, settings, [1.0] * steps, corrector)
    losses = _Search(denoiser, solver, targets, iterations, lr).run(x_T)
    guidance = denoiser.scale if isinstance(denoiser, ClassifierFreeGuidance) else None
    return Compensation(np.array(solver.ratios), spacing, order, variant, dc_order, guidance, times, np.array(losses))


class CompensatedSolver(MultistepSolver):
    """UniPC that replaces the newest stored prediction before it predicts, and so for all later steps.

    `ratios` holds one number per step from the first of `times`; those of the first `dc_order` steps are not used, for lack of history.
    """

    def __init__(self, schedule: NoiseSchedule, times: np.ndarray, settings: Compensation, ratios: Sequence[float], corrector: bool):
        plan = unipc_plan(len(times) - 1, order=settings.order, variant=settings.variant, corrector=corrector)
        super().__init__(plan, schedule.lam(times).tolist())
        self.times, self.ratios, self.dc_order = times.tolist(), list(ratios), settings.dc_order
        self._kept_values["data"] = max(self._kept_values["data"], self.dc_order + 1)

    def predict(self) -> torch.Tensor:
        """Return the state at the next node, from a compensated history."""
        ratio = self.ratios[self.position]
        if self.compensates(self.position) and not (isinstance(ratio, float) and ratio == 1):
            newest_first = range(self.position, self.position - self.dc_order - 1, -1)
            weights = lagrange_weights(ratio, [self.times[node] for node in newest_first])
            values = self.values["data"]
            values[-1] = LinearUpdate(-1, weights[0], {-1 - k: weight for k, weight in enumerate(weights) if k})(values, values)
        return super().predict()

    def compensates(self, position: int) -> bool:
        """Whether the history is long enough before this step."""
        return position >= self.dc_order

    def fork(self) -> CompensatedSolver:
        """A copy that goes its own way."""
        fork = copy.copy(self)
        fork.states, fork.values, fork.ratios = list(self.states), {"data": list(self.values["data"])}, list(self.ratios)
        return fork


def lagrange_weights(ratio: float | torch.Tensor, times: Sequence[float]) -> list[float | torch.Tensor]:
    """Weights, newest first, of the polynomial through the values at `times` (newest first), at ``ratio times[0] + (1 - ratio) times[1]``."""
    at = ratio * times[0] + (1 - ratio) * times[1]
    return [math.prod((at - other) / (own - other) for j, other in enumerate(times) if j != k) for k, own in enumerate(times)]


def check_compensation(compensation: object) -> None:
    """Refuse what is no compensation."""
    if not isinstance(compensation, Compensation):
        raise TypeError(f"compensation must be a Compensation, got {type(compensation).__name__}")


class _Search:
    """Walks a solver over its steps, and finds the ratio of each before it is taken."""

    def __init__(self, denoiser: Denoiser, solver: CompensatedSolver, targets: torch.Tensor, iterations: int, lr: float):
        self.denoiser, self.solver, self.targets = denoiser, solver, targets
        self.iterations, self.lr = iterations, lr

    def run(self, y: torch.Tensor) -> list[float]:
        """Set all ratios; return the losses of the steps."""
        losses = []
        for i in progress(range(len(self.targets) - 1), "searching compensation"):
            with torch.no_grad():
                self.solver.record(y, self._ask(y, i))
                self.solver.correct()
            if self.solver.compensates(i):
                self.solver.ratios[i], loss = self._best_ratio(i)
            else:
                with torch.no_grad():
                    loss = float(self._loss(1.0, i))
            losses.append(loss)
            with torch.no_grad():
                y = self.solver.predict()
        return losses

    def _best_ratio(self, i: int) -> tuple[float, float]:
        ratio = torch.ones((), dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.AdamW([ratio], lr=self.lr, weight_decay=0.01)
        best, least = 1.0, math.inf
        for iteration in range(self.iterations + 1):
            with torch.set_grad_enabled(iteration < self.iterations):
                loss = self._loss(ratio, i)
            if loss.item() < least:
                best, least = ratio.item(), loss.item()
            if iteration < self.iterations:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return best, least

    def _loss(self, ratio: float | torch.Tensor, i: int) -> torch.Tensor:
        """Mean squared distance from the reference after step i, corrected where the solver corrects."""
        trial = self.solver.fork()
        trial.ratios[i] = ratio
        y = trial.predict()
        if trial.compiled[i][1] is not None:
            trial.record(y, self._ask(y, i + 1))
            trial.correct()
            y = trial.states[-1]
        loss = torch.mean((y - self.targets[i + 1]) ** 2)
        if not bool(torch.isfinite(loss)):
            raise ValueError(f"the loss is not finite at step {i + 1}: lr is too large, or denoiser is not finite there")
        return loss

    def _ask(self, y: torch.Tensor, i: int) -> torch.Tensor:
        sigma = math.exp(-self.solver.lam[i])
        data = self.denoiser(y, sigma)
        check_answer(data, y, f"step {i + 1}", sigma)
        return data


def _ddim_trajectory(denoiser: Denoiser, x_T: torch.Tensor, schedule: NoiseSchedule, steps: int) -> Reference:
    times = timesteps(schedule, steps, "uniform")
    with torch.no_grad():
        return times, multistep(denoiser, x_T, schedule.lam(times), dpm_solver_plan(steps, order=1), keep_trajectory=True).trajectory


def _checked_reference(reference: object, times: np.ndarray, x_T: torch.Tensor) -> Reference:
    if not isinstance(reference, tuple) or len(reference) != 2:
        raise TypeError("reference must be a tuple of times and states")
    at = to_numpy(array(reference[0], "reference times", ndim=1)).astype(np.float64)
    states = array(reference[1], "reference states", shape=(len(at), *x_T.shape))
    if not isinstance(states, torch.Tensor):
        raise TypeError(f"reference states must be a tensor, got {type(states).__name__}")
    slack = 1e-9 * times[0]
    if len(at) < 2 or np.any(np.diff(at) >= 0) or at[0] < times[0] - slack or at[-1] > times[-1] + slack:
        raise ValueError(
            f"reference must fall in time from {times[0]:.4g} to {times[-1]:.4g}, the range of the sampler, got {at[0]:.4g} to {at[-1]:.4g}"
        )
    return at, states.to(x_T)


def _states_at(times: np.ndarray, at: np.ndarray, states: torch.Tensor, schedule: NoiseSchedule) -> torch.Tensor:
    """The reference at the sampler's times: linear in rho between its own."""
    rho, wanted = schedule.rho(at), schedule.rho(np.clip(times, at[-1], at[0]))
    right = np.clip(np.searchsorted(-rho, -wanted), 1, len(rho) - 1)
    share = (rho[right - 1] - wanted) / (rho[right - 1] - rho[right])
    share = torch.from_numpy(share).to(states).reshape(-1, *(1,) * (states.ndim - 1))
    return torch.lerp(states[right - 1], states[right], share)
