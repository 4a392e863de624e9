"""DEIS: the noise prediction extrapolated by a polynomial, all else in the probability-flow ODE solved exactly.

Zhang and Chen, "Fast Sampling of Diffusion Models with Exponential Integrator", ICLR 2023, arXiv:2204.13902, sections 3-4 and appendix B.

In the frame y = x / alpha, rho = sigma / alpha, the ODE is ``dy/drho = eps(y, rho)``. Over a step from t_i to t_{i+1} the noise prediction is taken
for the polynomial through its values at the newest nodes t_i, t_{i-1}, .., t_{i-r}, with Lagrange's basis L_j, so that

    y_{i+1} = y_i + sum_j C_ij eps_{i-j},     C_ij = int_{rho_i}^{rho_{i+1}} L_j drho,

where degree r = 0 is DDIM. The variants differ in the variable of the polynomials: the time t (tAB), rho (rhoAB), or the number of the step, whatever
the grid (iPNDM, the classical Adams-Bashforth weights). rhoRK are the classical Runge-Kutta methods on the same ODE, at several calls per step.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import numpy as np
import torch

from ritz.core import array, choice, integer, to_numpy
from ritz.diffusion.denoisers import Denoiser, check_callable
from ritz.diffusion.exponential_integrator import LinearStepSolver, LinearUpdate, NoisePrediction, check_start, run_solver
from ritz.diffusion.samples import Samples
from ritz.diffusion.schedules import NoiseSchedule, Spacing, check_schedule, timesteps

MultistepVariant = Literal["tab", "rho_ab", "ipndm"]
Variant = Literal["tab", "rho_ab", "rho_rk", "ipndm"]
MULTISTEP_VARIANTS: tuple[MultistepVariant, ...] = ("tab", "rho_ab", "ipndm")
VARIANTS: tuple[Variant, ...] = ("tab", "rho_ab", "rho_rk", "ipndm")

TABLEAUX: dict[str, tuple[tuple[tuple[float, ...], ...], tuple[float, ...]]] = {
    "euler": ((), (1.0,)),
    "heun2": (((1.0,),), (1 / 2, 1 / 2)),
    "kutta3": (((1 / 2,), (-1.0, 2.0)), (1 / 6, 4 / 6, 1 / 6)),
    "ralston3": (((1 / 2,), (0.0, 3 / 4)), (2 / 9, 1 / 3, 4 / 9)),
    "heun3": (((1 / 3,), (0.0, 2 / 3)), (1 / 4, 0.0, 3 / 4)),
    "vdhouwen3": (((8 / 15,), (1 / 4, 5 / 12)), (1 / 4, 0.0, 3 / 4)),
    "ssprk3": (((1.0,), (1 / 4, 1 / 4)), (1 / 6, 1 / 6, 2 / 3)),
    "rk4": (((1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6)),
}
"""Of each Runge-Kutta method the rows a of its later stages, whose sums are their nodes c, and the weights b."""


def deis_sample(
    denoiser: Denoiser,
    x_T: torch.Tensor,
    schedule: NoiseSchedule,
    *,
    steps: int = 10,
    variant: Variant = "tab",
    order: int = 3,
    rk: str = "kutta3",
    spacing: Spacing = "quadratic",
    t_start: float | None = None,
    t_end: float | None = None,
) -> Samples:
    """Sample with DEIS.

    Parameters
    ----------
    denoiser : callable
        ``D(x, sigma)``, called with sigma a float.
    x_T : Tensor (batch, *shape)
        Starting points in the frame y = x / alpha: noise of deviation ``schedule.rho(t_start)``.
    schedule : NoiseSchedule
        Gives the times, in which "tab" extrapolates.
    steps : int
        Number of steps. "rho_rk" calls the denoiser once per stage of each, the others once per step.
    variant : {"tab", "rho_ab", "rho_rk", "ipndm"}
        Polynomials in t, which the authors find best; polynomials in rho; Runge-Kutta methods in rho; the weights of a uniform grid on any grid.
    order : int
        Degree of the polynomials, 0 to 4; 0 is DDIM. The first steps have as many nodes as there are. Not used by "rho_rk".
    rk : {"euler", "heun2", "kutta3", "ralston3", "heun3", "vdhouwen3", "ssprk3", "rk4"}
        The Runge-Kutta method of "rho_rk".
    spacing : {"logsnr", "uniform", "quadratic", "karras"}
        The grid of times, see `timesteps`. It matters: high degrees on the uniform grid can be worse than DDIM.
    t_start, t_end : float, optional
        First and last time; the schedule's range by default. The authors end at 1e-3 for variance-preserving schedules up to 15 steps, 1e-4 beyond.

    Returns
    -------
    Samples
        In the frame y = x / alpha, at t_end.

    Raises
    ------
    TypeError, ValueError
        For a bad argument, or if the denoiser returns another shape or something not finite (the message names the step).

    Notes
    -----
    A step costs ``order + 2`` multiply-adds of the size of x_T beside the denoiser's call, and memory for ``order + 1`` noise predictions. The order
    is not lowered at the last steps. The noise prediction is ``(y - D) / sigma``, whose cancellation at small sigma is harmless: it is multiplied by
    the change of sigma again.

    Examples
    --------
    >>> from ritz.diffusion import GaussianMixtureDenoiser, VPLinear
    >>> denoiser, schedule = GaussianMixtureDenoiser([1.0], [[1.0, -1.0]], [1e-6]), VPLinear()
    >>> x_T = torch.full((1, 2), schedule.rho(1.0))
    >>> deis_sample(denoiser, x_T, schedule, steps=5).x.round(decimals=1)
    tensor([[ 1., -1.]])
    """
    check_callable(denoiser, "denoiser")
    x_T = check_start(x_T, "x_T")
    integer(steps, "steps", at_least=1)
    stages = calls_per_step(variant, order, rk)
    times = timesteps(schedule, steps, spacing, t_start=t_start, t_end=t_end)
    return run_solver(denoiser, x_T, deis_solver(schedule, times, variant, order, rk), calls_per_step=stages)


def deis_coefficients(schedule: NoiseSchedule, times, *, variant: MultistepVariant = "tab", order: int = 3) -> np.ndarray:
    """The coefficients C_ij of DEIS.

    Parameters
    ----------
    schedule : NoiseSchedule
        Relates times and noise levels.
    times : array (steps + 1,)
        Decreasing times, from `timesteps`.
    variant : {"tab", "rho_ab", "ipndm"}
        As in `deis_sample`.
    order : int
        Degree of the polynomials, 0 to 4.

    Returns
    -------
    ndarray (steps, order + 1) float64
        Row i holds the weights of the noise predictions at the newest node i, the one before, and so on; zero for nodes that do not exist yet.
        A row sums to ``rho_{i+1} - rho_i``. Read-only: the tables of recent grids are kept.

    Raises
    ------
    TypeError, ValueError
        For a bad argument, or if the times do not fall strictly.

    Notes
    -----
    "tab" integrates over lam = -log rho by 32 Gauss-Legendre points a step, to rounding on smooth schedules; a `Discrete` one has kinks.

    Examples
    --------
    >>> from ritz.diffusion import EDM
    >>> deis_coefficients(EDM(), [4.0, 2.0, 1.0], order=1)
    array([[-2.  ,  0.  ],
           [-1.25,  0.25]])
    """
    check_schedule(schedule)
    choice(variant, "variant", MULTISTEP_VARIANTS)
    integer(order, "order", at_least=0, at_most=MAX_ORDER)
    times = to_numpy(array(times, "times", ndim=1)).astype(np.float64)
    if len(times) < 2 or not (np.all(np.diff(times) < 0) and times[-1] > 0):
        raise ValueError(f"times must fall strictly over at least two entries and stay positive, got {times.tolist()}")
    return _coefficients(schedule, tuple(times.tolist()), variant, order)


MAX_ORDER = 4
_NOISE = NoisePrediction()


def calls_per_step(variant: Variant, order: int, rk: str) -> int:
    """How often a step calls the denoiser; refuses options that are none."""
    choice(variant, "variant", VARIANTS)
    integer(order, "order", at_least=0, at_most=MAX_ORDER)
    choice(rk, "rk", TABLEAUX)
    return len(TABLEAUX[rk][1]) if variant == "rho_rk" else 1


def evaluation_times(schedule: NoiseSchedule, times: np.ndarray, variant: Variant, rk: str) -> np.ndarray:
    """The times of all denoiser calls, and the last one."""
    return schedule.inverse_lam(-np.log(_stage_levels(schedule.rho(times), rk))) if variant == "rho_rk" else times


def deis_solver(
    schedule: NoiseSchedule, times: np.ndarray, variant: Variant, order: int, rk: str, prediction: NoisePrediction = _NOISE
) -> LinearStepSolver:
    """A fresh solver over these times; `prediction` says how it gets the noise from what it is told at a node."""
    if variant == "rho_rk":
        levels = schedule.rho(times)
        lam, updates = -np.log(_stage_levels(levels, rk)), _runge_kutta_updates(levels, rk)
    else:
        lam, updates = schedule.lam(times), _multistep_updates(deis_coefficients(schedule, times, variant=variant, order=order))
    return LinearStepSolver(lam.tolist(), ["noise"] * len(updates), [(update, None) for update in updates], {"noise": prediction})


class GivenNoise(NoisePrediction):
    """The noise prediction for a solver that is told the noise in the place of the data."""

    def value(self, y: torch.Tensor, data: torch.Tensor, lam: float) -> torch.Tensor:
        return data


def _multistep_updates(coefficients: np.ndarray) -> list[LinearUpdate]:
    return [LinearUpdate(-1, 1.0, {-1 - j: weight for j, weight in enumerate(row[: i + 1])}) for i, row in enumerate(coefficients.tolist())]


def _runge_kutta_updates(levels: np.ndarray, rk: str) -> list[LinearUpdate]:
    """Of each step the ways to its later stages and to its end, all from its start and over the noise predictions of the stages so far."""
    stages, weights = TABLEAUX[rk]
    return [
        LinearUpdate(-len(row), 1.0, {k - len(row): h * weight for k, weight in enumerate(row)})
        for h in np.diff(levels).tolist()
        for row in (*stages, weights)
    ]


def _stage_levels(levels: np.ndarray, rk: str) -> np.ndarray:
    """The noise levels rho of all stages of all steps, and the last one."""
    nodes = np.array([0.0, *map(sum, TABLEAUX[rk][0])])
    return np.append(levels[:-1, None] + np.diff(levels)[:, None] * nodes, levels[-1])


@lru_cache(maxsize=64)
def _coefficients(schedule: NoiseSchedule, times: tuple[float, ...], variant: MultistepVariant, order: int) -> np.ndarray:
    integrals = {"tab": _integrals_in_time, "rho_ab": _integrals_in_level, "ipndm": _integrals_in_steps}[variant]
    t, rho = np.array(times), schedule.rho(np.array(times))
    table = np.zeros((len(t) - 1, order + 1))
    for i in range(len(table)):
        newest_first = slice(i, None if i < order + 1 else i - order - 1, -1)
        table[i, : min(i, order) + 1] = integrals(schedule, t[newest_first], rho[newest_first], rho[i + 1])
    table.flags.writeable = False
    return table


def _integrals_in_time(schedule: NoiseSchedule, t: np.ndarray, rho: np.ndarray, target: float) -> np.ndarray:
    """``-int e^{-lam} L_j(t(lam)) dlam`` over the step."""
    lam, weights = _quadrature(-math.log(rho[0]), -math.log(target))
    return -_lagrange(schedule.inverse_lam(lam), t) @ (weights * np.exp(-lam))


def _integrals_in_level(schedule: NoiseSchedule, t: np.ndarray, rho: np.ndarray, target: float) -> np.ndarray:
    at, weights = _quadrature(rho[0], target)
    return _lagrange(at, rho) @ weights


def _integrals_in_steps(schedule: NoiseSchedule, t: np.ndarray, rho: np.ndarray, target: float) -> np.ndarray:
    at, weights = _quadrature(0.0, 1.0)
    return (target - rho[0]) * (_lagrange(at, -np.arange(len(rho))) @ weights)


def _quadrature(start: float, end: float) -> tuple[np.ndarray, np.ndarray]:
    half = 0.5 * (end - start)
    return start + half * (_POINTS + 1), half * _WEIGHTS


_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(32)


def _lagrange(at: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """Lagrange's basis polynomials of the nodes at these points, (nodes, points)."""
    return np.array([np.prod([(at - node) / (own - node) for node in nodes if node != own], axis=0) * np.ones_like(at) for own in nodes])
