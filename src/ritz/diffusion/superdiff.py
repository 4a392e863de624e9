"""Superposition of diffusion models: sample what any of them, or all of them, find likely, from their log-densities along the sampling path.

Skreta, Atanackovic, Bose, Tong, Neklyudov, "The Superposition of Diffusion Models Using the Itô Density Estimator", ICLR 2025, arXiv:2412.17762,
theorem 1 and algorithm 1. In the frame y = x / alpha the log-density of a model along *any* path with the noise of its own reverse process gains

    d log q = <dy, s> - |s|^2 dq / 2,      dq = sigma^2 lost in the step, score s where the step starts,

so M models are followed at the cost of their forward passes alone, while ``dy = dq sum_i kappa_i s_i + sqrt(dq) z`` moves by a mixture of scores.
The weights kappa, with sum 1, are those of the mixture of densities ("or"), or such that all log-densities gain alike ("and").
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from ritz.core import Result, array, choice, flag, integer, real, to_numpy, torch_generator
from ritz.diffusion.denoisers import Denoiser, check_callable
from ritz.diffusion.exponential_integrator import check_answer, check_start
from ritz.diffusion.feynman_kac import check_models
from ritz.diffusion.log_density import ito_increment, normal_log_density, probe_directions, value_and_trace
from ritz.diffusion.schedules import NoiseSchedule, Spacing, check_schedule, timesteps

Mode = Literal["or", "and", "average"]
MODES: tuple[Mode, ...] = ("or", "and", "average")
SAME_SCORE = 1e-12
"""Models whose scores differ by less (squared) are not told apart: kappa is 1 / M there."""


@dataclass(frozen=True, eq=False, repr=False)
class SuperDiffResult(Result):
    """What `superdiff` returns.

    Attributes
    ----------
    x : Tensor (n, *shape)
        The samples, in the frame y = x / alpha: near the data.
    log_densities : Tensor (n, M) float64
        Estimated log-density of each sample under each model, at the last noise level.
    weights : Tensor (steps, n, M)
        The kappa of each step.
    nfe : int
        Number of denoiser calls, those of all models together, each on the whole batch.
    """

    x: torch.Tensor
    log_densities: torch.Tensor
    weights: torch.Tensor
    nfe: int


class ItoDensity:
    """The log-density of a model along a path that is still being walked.

    Parameters
    ----------
    denoiser : callable
        ``D(x, sigma)``.
    y : Tensor (n, *shape)
        The first state, in the frame y = x / alpha.
    sigma : float
        Its noise level.
    log_density : Tensor (n,), optional
        Log-density there; that of N(0, sigma^2 I) by default, which is the same for all models.

    Raises
    ------
    TypeError, ValueError
        For a bad argument.

    Examples
    --------
    >>> from ritz.diffusion import GaussianMixtureDenoiser
    >>> density = ItoDensity(GaussianMixtureDenoiser([1.0], [[0.0]], [1e-9]), torch.tensor([[2.0]]), 2.0)
    >>> density.update(torch.tensor([[1.9]]), 1.9)
    tensor([...])
    """

    def __init__(self, denoiser: Denoiser, y: torch.Tensor, sigma: float, log_density: torch.Tensor | None = None):
        check_callable(denoiser, "denoiser")
        self.denoiser, self.y = denoiser, check_start(y, "y")
        self.sigma = real(sigma, "sigma", above=0)
        self.log_density = normal_log_density(self.y, self.sigma) if log_density is None else array(log_density, "log_density", shape=(len(y),))

    def update(self, y: torch.Tensor, sigma: float) -> torch.Tensor:
        """Go on to state y (n, *shape) at a lower noise level sigma, and return the log-density (n,) there.

        Raises
        ------
        TypeError, ValueError
            If y has another shape or is not finite, or the level does not fall.
        """
        y = check_start(y, "y")
        if y.shape != self.y.shape:
            raise ValueError(f"y must have the shape of the state before, {tuple(self.y.shape)}, got {tuple(y.shape)}")
        sigma = real(sigma, "sigma", at_least=0, below=self.sigma)
        data = self.denoiser(self.y, self.sigma)
        check_answer(data, self.y, "an update", self.sigma)
        score = (data - self.y) / self.sigma**2
        self.log_density = self.log_density + ito_increment(y - self.y, score, self.sigma**2 - sigma**2)
        self.y, self.sigma = y, sigma
        return self.log_density


def ito_log_density(
    denoiser: Denoiser, x_start: torch.Tensor, log_q_start: torch.Tensor | None, path: torch.Tensor, schedule: NoiseSchedule, *, times=None
) -> torch.Tensor:
    """Return the log-density (n,) of a model at the end of a given path from noise to data, without any derivative.

    Parameters
    ----------
    denoiser : callable
        ``D(x, sigma)``, called once per step.
    x_start : Tensor (n, *shape)
        The first states, in the frame y = x / alpha.
    log_q_start : Tensor (n,) or None
        The log-density there; that of pure noise if None.
    path : Tensor (steps, n, *shape)
        The states after each step. Any path with the noise of the schedule's own SDE is right, whatever its drift.
    schedule : NoiseSchedule
        The schedule of the path.
    times : array (steps + 1,), optional
        The falling times of the states; uniform in t over the schedule's range by default.

    Raises
    ------
    TypeError, ValueError
        For a bad argument.

    Notes
    -----
    The estimate is unbiased as the steps become small: its mean error is proportional to the step, its root-mean-square error to the square root of
    the step. With 1,000 uniform steps of the linear schedule in two dimensions they are 0.08, the same for all models, and 0.4.

    Examples
    --------
    >>> from ritz.diffusion import GaussianMixtureDenoiser, VPLinear, euler_maruyama_sample, timesteps
    >>> q, schedule = GaussianMixtureDenoiser([1.0], [[0.0, 0.0]], [1.0]), VPLinear()
    >>> start = schedule.rho(1.0) * torch.randn(100, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> levels = schedule.rho(timesteps(schedule, 500, "uniform"))
    >>> walk = euler_maruyama_sample(q, start, levels, keep_trajectory=True, generator=0).trajectory
    >>> error = ito_log_density(q, start, None, walk[1:], schedule) - q.log_prob(walk[-1], float(levels[-1]))
    >>> bool(error.mean().abs() < 0.2)
    True
    """
    check_schedule(schedule)
    states = array(path, "path")
    if not isinstance(states, torch.Tensor) or states.ndim < 3:
        raise ValueError(f"path must be a tensor (steps, n, *shape), got {type(path).__name__} of shape {tuple(states.shape)}")
    start, steps = check_start(x_start, "x_start"), len(states)
    if start.shape != states.shape[1:]:
        raise ValueError(f"x_start must have the shape of a state of path, {tuple(states.shape[1:])}, got {tuple(start.shape)}")
    if log_q_start is not None:
        array(log_q_start, "log_q_start", shape=(len(start),))
    grid = timesteps(schedule, steps, "uniform") if times is None else to_numpy(array(times, "times", shape=(steps + 1,)))
    if not (np.diff(grid) < 0).all() or grid[-1] <= 0:
        raise ValueError("times must fall strictly, and stay positive: paths go from noise to data")
    levels = schedule.rho(grid).tolist()
    density = ItoDensity(denoiser, start, levels[0], log_q_start)
    for y, sigma in zip(states, levels[1:]):
        density.update(y, sigma)
    return density.log_density


def superdiff(
    denoisers: Sequence[Denoiser],
    x_T: torch.Tensor,
    schedule: NoiseSchedule,
    *,
    mode: Mode = "or",
    steps: int = 1000,
    spacing: Spacing = "uniform",
    temperature: float = 1.0,
    log_prior=None,
    lift=None,
    stochastic: bool = True,
    probes: int | Literal["exact"] = 1,
    t_start: float | None = None,
    t_end: float | None = None,
    generator: torch.Generator | int | None = None,
) -> SuperDiffResult:
    """Sample from a superposition of diffusion models.

    Parameters
    ----------
    denoisers : sequence of M callables
        ``D_i(x, sigma)`` of models of the same space, called with sigma a float. With classifier-free guidance, the guided denoisers.
    x_T : Tensor (n, *shape)
        Starting points in the frame y = x / alpha: noise of deviation ``schedule.rho(t_start)``.
    schedule : NoiseSchedule
        Gives the times.
    mode : {"or", "and", "average"}
        Or: kappa = softmax(temperature * log q_i + log_prior_i), which at temperature 1 is exactly the mixture of the densities. And: kappa such that
        all log q_i gain alike in the step, noise included (it may leave [0, 1]). Average: kappa = 1 / M, the baseline.
    steps, spacing, t_start, t_end
        The grid of times, as in `timesteps`; at least two steps.
    temperature : float
        Of "or": large values (1e6 for images, say the authors) choose the likeliest model.
    log_prior : array (M,), optional
        Of "or": logarithms of the mixture's weights; equal by default.
    lift : array (M - 1,), optional
        Of "and": wanted ``log q_i - log q_M`` at the end, approached in equal parts over the steps; 0 by default.
    stochastic : bool
        Whether to follow the SDE with Itô's estimator; else the ODE by Heun's method, with the traces of the denoisers' derivatives, at twice the
        calls.
    probes : int or "exact"
        Of the ODE: how traces are taken, see `log_likelihood`. Random signs are shared by all models.
    generator : torch.Generator, int or None
        Where the noise, or the signs, come from.

    Returns
    -------
    SuperDiffResult

    Raises
    ------
    TypeError, ValueError
        For a bad argument; denoisers that carry different schedules, or another one than `schedule`; one that answers another shape or not finite.

    Notes
    -----
    A stochastic step costs M calls and M (M + 3) / 2 inner products of the size of x_T. "And" solves a system of M - 1 equations per sample.

    Examples
    --------
    >>> from ritz.diffusion import GaussianMixtureDenoiser, VPLinear
    >>> models, schedule = [GaussianMixtureDenoiser([1.0], [[mean]], [0.1]) for mean in (-2.0, 2.0)], VPLinear()
    >>> x_T = schedule.rho(1.0) * torch.randn(500, 1, generator=torch.Generator().manual_seed(0))
    >>> either = superdiff(models, x_T, schedule, mode="or", log_prior=[math.log(0.8), math.log(0.2)], steps=200, generator=0)
    >>> 0.7 < float((either.x < 0).float().mean()) < 0.9
    True
    """
    denoisers = check_models(denoisers)
    _check_schedules(denoisers, schedule)
    y = check_start(x_T, "x_T")
    integer(steps, "steps", at_least=2)
    flag(stochastic, "stochastic")
    levels = schedule.rho(timesteps(schedule, steps, spacing, t_start=t_start, t_end=t_end)).tolist()
    generator = torch_generator(generator, y.device)
    solver = SuperposedSolver(levels, y, len(denoisers), mode=mode, temperature=temperature, log_prior=log_prior, lift=lift)
    if stochastic:
        for i in range(steps):
            answers = [denoiser(y, levels[i]) for denoiser in denoisers]
            for data in answers:
                check_answer(data, y, f"step {i + 1}", levels[i])
            y = solver.step(y, answers, generator)
    else:
        if probes != "exact":
            integer(probes, "probes", at_least=1)
        directions = probe_directions(y, probes, generator)
        for _ in range(steps):
            y = solver.heun_step(y, denoisers, directions)
    nfe = len(denoisers) * (steps if stochastic else 2 * steps)
    return SuperDiffResult(y, solver.log_densities, torch.stack(solver.weights), nfe)


class SuperposedSolver:
    """Moves by a mixture of M scores and follows all log-densities.

    All is computed from the inner products of the pulls ``D_i - y``, sigma^2 times the scores, with each other and with the noise.

    Parameters
    ----------
    levels : list of float
        Falling noise levels of the steps + 1 nodes.
    y : Tensor (n, *shape)
        The states at the first node.
    models : int
        M.
    mode, temperature, log_prior, lift
        As in `superdiff`.
    """

    def __init__(self, levels: list[float], y: torch.Tensor, models: int, *, mode: Mode = "or", temperature: float = 1.0, log_prior=None, lift=None):
        self.levels, self.models, self.index = levels, models, 0
        self.mode = choice(mode, "mode", MODES)
        self.temperature = real(temperature, "temperature", at_least=0)
        options = {"dtype": torch.float64, "device": y.device}
        self.log_prior = torch.zeros(models, **options) if log_prior is None else _vector(log_prior, "log_prior", models).to(**options)
        lift = torch.zeros(models - 1, **options) if lift is None else _vector(lift, "lift", models - 1).to(**options)
        self.lift = lift / (len(levels) - 1)
        self.log_densities = normal_log_density(y, levels[0]).double()[:, None].repeat(1, models)
        self.weights: list[torch.Tensor] = []

    def step(self, y: torch.Tensor, answers: list[torch.Tensor], generator: torch.Generator) -> torch.Tensor:
        """One step of the SDE from node `index`, told what each model answered there."""
        variance = self.levels[self.index] ** 2
        dq = variance - self.levels[self.index + 1] ** 2
        noise = math.sqrt(dq) * torch.randn(y.shape, generator=generator, dtype=y.dtype, device=y.device)
        pulls = torch.stack([data - y for data in answers], dim=1)
        flat = pulls.flatten(2)
        products = (flat @ flat.mT).double() / variance**2
        along_noise = (flat @ noise.flatten(1)[..., None])[..., 0].double() / variance
        squares = products.diagonal(dim1=1, dim2=2)
        kappa = self._kappa(dq * products, along_noise - 0.5 * dq * squares, dq)
        self.log_densities = self.log_densities + dq * (products @ kappa[..., None])[..., 0] + along_noise - 0.5 * dq * squares
        self._advance(kappa, y.dtype)
        return y + (dq / variance) * _mixed(kappa, pulls) + noise

    def heun_step(self, y: torch.Tensor, denoisers: list[Denoiser], directions: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """One step of Heun's method for the ODE in lam = -log sigma, from node `index`."""
        here, there = self.levels[self.index], self.levels[self.index + 1]
        h = math.log(here / there)
        velocity, rates, kappa = self._flow(y, here, h, denoisers, directions)
        start = self.log_densities
        self.log_densities = start + h * rates
        velocity_ahead, rates_ahead, _ = self._flow(y + h * velocity, there, h, denoisers, directions)
        self.log_densities = start + 0.5 * h * (rates + rates_ahead)
        self._advance(kappa, y.dtype)
        return y + 0.5 * h * (velocity + velocity_ahead)

    def _flow(self, y: torch.Tensor, sigma: float, h: float, denoisers, directions) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """dy/dlam, dlog q_i/dlam (n, M) and kappa at a state: the log-densities gain <s_i, dy> - |pull_i|^2 / sigma^2 + d - tr D_i'."""
        pairs = [value_and_trace(denoiser, y, sigma, directions) for denoiser in denoisers]
        for data, _ in pairs:
            check_answer(data, y, f"step {self.index + 1}", sigma)
        pulls = torch.stack([data - y for data, _ in pairs], dim=1)
        divergence = torch.stack([trace for _, trace in pairs], dim=1).double() - y[0].numel()
        flat = pulls.flatten(2)
        products = (flat @ flat.mT).double() / sigma**2
        alone = -divergence - products.diagonal(dim1=1, dim2=2)
        kappa = self._kappa(h * products, h * alone, h * sigma**2)
        return _mixed(kappa, pulls), (products @ kappa[..., None])[..., 0] + alone, kappa

    def _kappa(self, products: torch.Tensor, alone: torch.Tensor, dq: float) -> torch.Tensor:
        """Weights (n, M), where in this step log q_i gains ``(products @ kappa)_i + alone_i``; the products are those of the scores times dq."""
        if self.mode == "or":
            return torch.softmax(self.temperature * self.log_densities + self.log_prior, dim=1)
        equal = torch.full_like(alone, 1 / self.models)
        if self.mode == "average" or self.models == 1:
            return equal
        # With differences to the last model: sum_j <s_j - s_M, s_i - s_M> kappa_j = lift_i - (gain of i less that of M at kappa_M = 1).
        differences = products - products[:, -1:]
        matrix = (differences - differences[..., -1:])[:, :-1, :-1]
        right = self.lift - differences[:, :-1, -1] - (alone - alone[:, -1:])[:, :-1]
        scale = matrix.diagonal(dim1=1, dim2=2).amax(1)
        told_apart = scale > SAME_SCORE * dq
        kappa = _least_squares(matrix, right, told_apart)
        kappa = torch.cat([kappa, 1 - kappa.sum(1, keepdim=True)], dim=1)
        return torch.where(told_apart[:, None], kappa, equal)

    def _advance(self, kappa: torch.Tensor, dtype: torch.dtype) -> None:
        self.weights.append(kappa.to(dtype))
        self.index += 1


def _least_squares(matrix: torch.Tensor, right: torch.Tensor, solvable: torch.Tensor) -> torch.Tensor:
    """Solutions (n, m) of small least-squares problems (n, m, m); a division where m is 1."""
    if matrix.shape[1] == 1:
        return right / torch.where(solvable[:, None], matrix[:, :, 0], 1.0)
    return (torch.linalg.pinv(matrix, rtol=1e-10, hermitian=True) @ right[..., None])[..., 0]


def _mixed(kappa: torch.Tensor, pulls: torch.Tensor) -> torch.Tensor:
    kappa = kappa.to(pulls.dtype)
    return sum(kappa[:, i].reshape(-1, *(1,) * (pulls.ndim - 2)) * pulls[:, i] for i in range(pulls.shape[1]))


def _vector(value, name: str, length: int) -> torch.Tensor:
    return torch.from_numpy(to_numpy(array(value, name, shape=(length,), allow_empty=length == 0)).copy())


def _check_schedules(denoisers: list[Denoiser], schedule: NoiseSchedule) -> None:
    check_schedule(schedule)
    times = timesteps(schedule, 4, "uniform")
    for denoiser in denoisers:
        own = getattr(denoiser, "schedule", schedule)
        if isinstance(own, NoiseSchedule) and not np.allclose(own.lam(times), schedule.lam(times), rtol=1e-6, atol=1e-6):
            raise ValueError(f"denoisers must have been trained under schedule, {schedule}, but one under {own}: their noise levels would not match")
