"""DPM-Solver-v3: sampling with the parameterization that a model's own statistics say is best.

Zheng et al., "DPM-Solver-v3: Improved Diffusion ODE Solver with Empirical Model Statistics", NeurIPS 2023, arXiv:2310.13268, sections 3.1-3.4.

With the statistics l, s, b of `ritz.diffusion.model_statistics`, L = int l, S = int s over lam, and f = rho eps - l y, the function

    g(lam) = e^{S_s - S(lam)} f(lam) - int_s^lam e^{S_s - S} b

is nearly constant along the model's trajectories (s marks the node where a step starts), and in terms of it the probability-flow ODE has the solution

    y_t = e^{L_s - L_t} ( y_s - sum_k g^(k)(lam_s) int_s^t e^{(L + S)(lam) - (L + S)_s} (lam - lam_s)^k / k! dlam
                              - int_s^t e^{(L + S)(lam) - (L + S)_s} (int_s^lam e^{S_s - S} b) dlam ).

The derivatives of g are estimated from earlier nodes, and a corrector redoes a step once its end has been evaluated, at no further call.
"""

from __future__ import annotations

import math
import weakref

import numpy as np
import torch

from ritz.core import choice, flag, integer, real
from ritz.diffusion.denoisers import Denoiser, check_callable
from ritz.diffusion.exponential_integrator import Coefficient, MultistepSolver, check_start, compile_plan, run_solver
from ritz.diffusion.model_statistics import EMS
from ritz.diffusion.samples import Samples
from ritz.diffusion.schedules import SPACINGS, NoiseSchedule, Spacing, check_schedule, timesteps
from ritz.diffusion.solver_plan import PlanStep, SolverPlan, Update, corrector_nodes, older_nodes, warm_up_orders


def dpm_solver_v3_sample(
    denoiser: Denoiser,
    x_T: torch.Tensor,
    schedule: NoiseSchedule,
    ems: EMS,
    *,
    steps: int = 10,
    order: int = 3,
    spacing: Spacing = "logsnr",
    corrector: bool = True,
    pseudo_predictor: bool = False,
    pseudo_corrector: bool = False,
    lower_order_final: bool = True,
    corrector_t_max: float | None = None,
    t_start: float | None = None,
    t_end: float | None = None,
) -> Samples:
    """Sample with DPM-Solver-v3.

    Parameters
    ----------
    denoiser : callable
        ``D(x, sigma)``, called once per step with sigma a float.
    x_T : Tensor (batch, *shape)
        Starting points in the frame y = x / alpha: noise of deviation ``schedule.rho(t_start)``.
    schedule : NoiseSchedule
        Gives the times, which are moved to the nearest nodes of the statistics' grid.
    ems : EMS
        The model's statistics, from `compute_ems`.
    steps : int
        Number of steps, and of denoiser calls. The paper is about 5 to 20.
    order : int
        1, 2 or 3. The authors recommend 3 for unconditional and 2 for guided sampling.
    spacing : {"logsnr", "uniform", "quadratic", "karras"}
        The grid of times, see `timesteps`.
    corrector : bool
        Redo each step but the last with its end's evaluation, to the order of its predictor.
    pseudo_predictor : bool
        Estimate the predictor's derivatives by divided differences, each by itself to first order; the authors use it for 5 steps on CIFAR-10.
    pseudo_corrector : bool
        The same for the corrector, which then is of one order more than its predictor.
    lower_order_final : bool
        Lower the order at the last steps.
    corrector_t_max : float, optional
        Correct only nodes of time t <= corrector_t_max; 0.5 is the authors' half-corrector for large guidance. (So says their documentation;
        their released code corrects the other half, t > 0.5.)
    t_start, t_end : float, optional
        First and last time; those of the statistics by default.

    Returns
    -------
    Samples
        In the frame y = x / alpha, at t_end.

    Raises
    ------
    TypeError, ValueError
        For a bad argument; statistics that were made for another shape or reach beyond the schedule; t_start or t_end outside the statistics;
        two times that move to the same node of their grid; a denoiser that returns another shape or something not finite.

    Notes
    -----
    A step costs ``order + 2`` multiply-adds of the size of x_T beside the denoiser's call. The coefficients of the steps, ``order + 2`` of one
    sample's size each, are computed once per statistics and grid.

    Examples
    --------
    >>> from ritz.diffusion import GaussianMixtureDenoiser, VPLinear, compute_ems
    >>> denoiser, schedule = GaussianMixtureDenoiser([1.0], [[1.0, -1.0]], [1e-6]), VPLinear()
    >>> ems = compute_ems(denoiser, schedule, (2,), samples=8, generator=0)
    >>> x_T = torch.full((1, 2), schedule.rho(1.0))
    >>> dpm_solver_v3_sample(denoiser, x_T, schedule, ems, steps=5).x.round(decimals=1)
    tensor([[ 1., -1.]])
    """
    check_callable(denoiser, "denoiser")
    x_T = check_start(x_T, "x_T")
    nodes = sampling_nodes(ems, schedule, steps, spacing, t_start, t_end)
    if ems.shape not in ((), tuple(x_T.shape[1:])):
        raise ValueError(f"ems was made for samples of shape {ems.shape}, but x_T holds samples of shape {tuple(x_T.shape[1:])}")
    corrected = corrected_nodes(schedule.inverse_lam(ems.lam[nodes].numpy(force=True)), corrector, corrector_t_max)
    plan = dpm_solver_v3_plan(
        corrected, order=order, pseudo_predictor=pseudo_predictor, pseudo_corrector=pseudo_corrector, lower_order_final=lower_order_final
    )
    return run_solver(denoiser, x_T, dpm_solver_v3_solver(ems, nodes, plan, x_T))


def sampling_nodes(
    ems: EMS, schedule: NoiseSchedule, steps: int, spacing: Spacing, t_start: float | None = None, t_end: float | None = None
) -> list[int]:
    """Positions in the statistics' grid nearest to the times of a sampler of `steps` steps."""
    check_schedule(schedule)
    integer(steps, "steps", at_least=1)
    choice(spacing, "spacing", SPACINGS)
    if not isinstance(ems, EMS):
        raise TypeError(f"ems must be an EMS, got {type(ems).__name__}")
    first, last, spread = float(ems.lam[0]), float(ems.lam[-1]), float(ems.lam[-1] - ems.lam[0])
    slack = 1e-6 * spread
    if first < schedule.lam(schedule.t_max) - slack or last > schedule.lam(schedule.t_min) + slack:
        raise ValueError(f"ems covers lam from {first:.4g} to {last:.4g}, which reaches beyond the schedule; was it made for another one?")
    start = schedule.inverse_lam(first) if t_start is None else real(t_start, "t_start", above=0)
    end = schedule.inverse_lam(last) if t_end is None else real(t_end, "t_end", above=0, below=start)
    if schedule.lam(start) < first - slack or schedule.lam(end) > last + slack:
        name = "t_end" if schedule.lam(end) > last + slack else "t_start"
        raise ValueError(f"{name} lies outside the range of ems, {schedule.inverse_lam(last):.4g} to {schedule.inverse_lam(first):.4g}")
    lam = schedule.lam(timesteps(schedule, steps, spacing, t_start=start, t_end=end))
    nodes = np.clip(np.rint(ems.grid_size * (lam - first) / spread), 0, ems.grid_size).astype(int).tolist()
    if len(set(nodes)) < len(nodes):
        raise ValueError(
            f"steps: two of {steps + 1} times fall on one node of the grid of ems; enlarge its grid_size ({ems.grid_size}) or take fewer steps"
        )
    return nodes


def corrected_nodes(times: np.ndarray, corrector: bool, t_max: float | None) -> list[bool]:
    """Which of the nodes after the first are corrected; the last one is never evaluated, so never corrected."""
    flag(corrector, "corrector")
    limit = math.inf if t_max is None else real(t_max, "corrector_t_max", above=0)
    return [bool(corrector and t <= limit) for t in times[1:-1]] + [False]


def dpm_solver_v3_plan(corrected: list[bool], *, order: int, pseudo_predictor: bool, pseudo_corrector: bool, lower_order_final: bool) -> SolverPlan:
    """The plan of DPM-Solver-v3 with one step per entry of `corrected`, which says whether the step's end is corrected."""
    integer(order, "order", at_least=1, at_most=3)
    flag(pseudo_predictor, "pseudo_predictor")
    flag(pseudo_corrector, "pseudo_corrector")
    steps = []
    for p, correct in zip(warm_up_orders(len(corrected), order, flag(lower_order_final, "lower_order_final")), corrected):
        redo = p + 1 if pseudo_corrector else p
        predictor = Update.over(p, older_nodes(p), estimator="divided" if pseudo_predictor else "taylor")
        corrector = Update.over(redo, corrector_nodes(redo), start=-2, estimator="divided" if pseudo_corrector else "taylor")
        steps.append(PlanStep(predictor, corrector if correct and redo > 1 else None, "ems"))
    return SolverPlan(tuple(steps))


def dpm_solver_v3_solver(ems: EMS, nodes: list[int], plan: SolverPlan, like: torch.Tensor) -> MultistepSolver:
    """A solver over these nodes of the statistics' grid, its coefficients in the dtype and on the device of `like`, and kept for the next time."""
    lam = ems.lam[nodes].tolist()
    kept = _COMPILED.setdefault(ems, {})
    key = (tuple(nodes), plan, like.dtype, like.device)
    if key not in kept:
        if len(kept) >= _KEPT_GRIDS:
            kept.clear()
        predictions = {"ems": EMSPrediction(ems)}
        compiled = [(predictor.to(like), corrector and corrector.to(like)) for predictor, corrector in compile_plan(plan, lam, predictions)]
        kept[key] = compiled, {"ems": predictions["ems"].at(nodes, like)}
    compiled, predictions = kept[key]
    return MultistepSolver(plan, lam, predictions, compiled)


_COMPILED: weakref.WeakKeyDictionary[EMS, dict] = weakref.WeakKeyDictionary()
_KEPT_GRIDS = 8


class EMSPrediction:
    """F = f = rho eps - l y, integrated by the trapezoidal rule on the grid of the statistics.

    All integrals are relative to the start of the step and span only its part of the grid: nothing overflows, and no table of the whole is made.
    """

    sign = -1

    def __init__(self, ems: EMS):
        self.ems = ems
        self.first, self.spacing = float(ems.lam[0]), float(ems.lam[-1] - ems.lam[0]) / ems.grid_size

    def value(self, y: torch.Tensor, data: torch.Tensor, lam: float) -> torch.Tensor:
        return (1 - self.ems.l[self._node(lam)]).to(y) * y - data

    def integrals(self, lam_s: float, lam_t: float, order: int) -> tuple[Coefficient, list[Coefficient], Coefficient]:
        part = slice(self._node(lam_s), self._node(lam_t) + 1)
        lam, l, s, b = self._part(part)
        L, S = cumulative_trapezoid(l, lam), cumulative_trapezoid(s, lam)
        largest = (L + S).amax(0)
        weight, scale = torch.exp(L + S - largest), torch.exp(largest - L[-1])
        factors = [-scale * torch.trapezoid(weight * (lam - lam[0]) ** k / math.factorial(k), lam, dim=0) for k in range(order)]
        drift = cumulative_trapezoid(torch.exp(-S) * b, lam)
        return torch.exp(-L[-1]), factors, -scale * torch.trapezoid(weight * drift, lam, dim=0)

    def relative(self, lam: float, lam_s: float) -> tuple[Coefficient, Coefficient]:
        node, start = self._node(lam), self._node(lam_s)
        grid, _, s, b = self._part(slice(min(node, start), max(node, start) + 1))
        S = cumulative_trapezoid(s, grid)
        from_start = S if node >= start else S - S[-1]
        drift = torch.trapezoid(torch.exp(-from_start) * b, grid, dim=0)
        return torch.exp(S[0] - S[-1] if node >= start else S[-1] - S[0]), -drift if node >= start else drift

    def at(self, nodes: list[int], like: torch.Tensor) -> _ValuesAtNodes:
        """What is left of the statistics once the steps are compiled: 1 - l at the nodes of a sampler."""
        return _ValuesAtNodes({float(self.ems.lam[node]): (1 - self.ems.l[node]).to(like) for node in nodes})

    def _node(self, lam: float) -> int:
        return round((lam - self.first) / self.spacing)

    def _part(self, part: slice) -> list[torch.Tensor]:
        lam, l, s, b = (table[part].double() for table in (self.ems.lam, self.ems.l, self.ems.s, self.ems.b))
        return [lam.reshape(-1, *(1,) * len(self.ems.shape)).to(l), l, s, b]


class _ValuesAtNodes:
    def __init__(self, one_minus_l: dict[float, torch.Tensor]):
        self.one_minus_l = one_minus_l

    def value(self, y: torch.Tensor, data: torch.Tensor, lam: float) -> torch.Tensor:
        return torch.addcmul(-data, self.one_minus_l[lam], y)


def cumulative_trapezoid(values: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Integral of values (n, *shape) over x (n, 1..) from the first node to each, 0 at the first."""
    return torch.cat([torch.zeros_like(values[:1]), torch.cumulative_trapezoid(values, x, dim=0)])
