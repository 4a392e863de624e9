"""Stochastic samplers: from noise to data over given noise levels, with as much fresh noise on the way as one likes.

In the frame y = x / alpha the forward process is Brownian motion in the variance q = sigma^2, so with the score ``s = (D - y) / sigma^2`` of a
denoiser D all of these equations have the marginals of the forward process:

    dy = (1 + zeta) / 2 s |dq| + sqrt(zeta |dq|) dW,    zeta >= 0        (zeta = 0: probability-flow ODE, 1: reverse-time SDE)

Beside them stands DPM-Solver++(2M), a multistep solver of the ODE. A sampler takes the noise levels of its nodes, falling, as one number per node or
as one column per sample: samples of a batch may start at levels of their own. The last level may be zero; a step to zero adds no noise.

Sources: Song et al., ICLR 2021, arXiv:2011.13456 (reverse SDE, Euler-Maruyama); Ho et al., NeurIPS 2020, arXiv:2006.11239 and Song et al., DDIM,
ICLR 2021, arXiv:2010.02502, eq. 16 (ancestral sampling and its eta); Karras et al., NeurIPS 2022, arXiv:2206.00364, algorithm 2 (Heun with churn);
Lu et al., DPM-Solver++, arXiv:2211.01095, algorithm 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from ritz.core import array, flag, real, to_numpy, torch_generator
from ritz.diffusion.denoisers import Denoiser, check_callable, per_sample
from ritz.diffusion.exponential_integrator import check_answer, check_start
from ritz.diffusion.samples import Samples

Factor = float | torch.Tensor


def ancestral_sample(
    denoiser: Denoiser,
    y: torch.Tensor,
    sigmas,
    *,
    eta: float = 1.0,
    keep_trajectory: bool = False,
    generator: torch.Generator | int | None = None,
) -> Samples:
    """Sample with DDIM and noise eta: exact for a denoiser that does not change with the level.

    From level s to t: ``y = D + sqrt(t^2 - tau^2) eps + tau z`` with ``tau = eta t sqrt(1 - t^2 / s^2)`` and ``eps = (y - D) / s``.

    Parameters
    ----------
    denoiser : callable
        ``D(x, sigma)``; sigma is a float, or a tensor (batch,) where the levels are given per sample.
    y : Tensor (batch, *shape)
        The state at the first level, in the frame y = x / alpha: noise of deviation ``sigmas[0]`` around the data.
    sigmas : array (steps + 1,) or (steps + 1, batch)
        Falling noise levels: ``schedule.rho(timesteps(schedule, steps))``; the last may be zero.
    eta : float
        0 is DDIM (no noise), 1 ancestral sampling; at most 1.
    keep_trajectory : bool
        Return the states at all nodes too.
    generator : torch.Generator, int or None
        Where the noise comes from.

    Returns
    -------
    Samples

    Raises
    ------
    TypeError, ValueError
        For a bad argument, or if the denoiser returns another shape or something not finite (the message names the step).

    Examples
    --------
    >>> from ritz.diffusion import GaussianMixtureDenoiser
    >>> denoiser = GaussianMixtureDenoiser([1.0], [[1.0, -1.0]], [1e-6])
    >>> ancestral_sample(denoiser, torch.full((1, 2), 80.0), [80.0, 3.0, 0.1, 0.0], generator=0).x.round(decimals=2)
    tensor([[ 1., -1.]])
    """
    eta = real(eta, "eta", at_least=0, at_most=1)
    check_callable(denoiser, "denoiser")
    y = check_start(y, "y")
    levels = NoiseLevels(sigmas, y)
    s, t = levels.values[:-1], levels.values[1:]
    tau = eta * t * np.sqrt(1 - (t / s) ** 2)
    kept = np.sqrt(t**2 - tau**2) / s

    def step(i: int, y: torch.Tensor, data: torch.Tensor, noise: Noise) -> torch.Tensor:
        y = data + levels.factor(kept, i) * (y - data)
        return y + levels.factor(tau, i) * noise() if tau[i].any() else y

    return _one_call_per_step(denoiser, y, levels, step, keep_trajectory, generator)


def euler_maruyama_sample(
    denoiser: Denoiser,
    y: torch.Tensor,
    sigmas,
    *,
    zeta: float = 1.0,
    keep_trajectory: bool = False,
    generator: torch.Generator | int | None = None,
) -> Samples:
    """Sample by Euler-Maruyama steps of the reverse SDE with stochasticity zeta.

    From level s to t with dq = s^2 - t^2: ``y = y + (1 + zeta) / 2 dq score + sqrt(zeta dq) z``. A step to level zero returns the denoiser's answer.

    Parameters
    ----------
    denoiser, y, sigmas, keep_trajectory, generator
        As in `ancestral_sample`.
    zeta : float
        0 is Euler's method for the probability-flow ODE, 1 the reverse-time SDE; larger values are allowed and want smaller steps.

    Returns
    -------
    Samples

    Raises
    ------
    TypeError, ValueError
        For a bad argument, or if the denoiser returns another shape or something not finite (the message names the step).

    Examples
    --------
    >>> from ritz.diffusion import EDM, GaussianMixtureDenoiser, timesteps
    >>> denoiser = GaussianMixtureDenoiser([1.0], [[1.0, -1.0]], [1e-6])
    >>> sigmas = EDM().rho(timesteps(EDM(), 50))
    >>> euler_maruyama_sample(denoiser, torch.full((1, 2), 80.0), sigmas, generator=0).x.round(decimals=1)
    tensor([[ 1., -1.]])
    """
    zeta = real(zeta, "zeta", at_least=0)
    check_callable(denoiser, "denoiser")
    y = check_start(y, "y")
    levels = NoiseLevels(sigmas, y)
    variance = levels.values**2
    dq = variance[:-1] - variance[1:]
    pull = 0.5 * (1 + zeta) * dq / variance[:-1]
    spread = np.sqrt(zeta * dq)
    if levels.ends_at_zero:
        pull[-1], spread[-1] = 1.0, 0.0

    def step(i: int, y: torch.Tensor, data: torch.Tensor, noise: Noise) -> torch.Tensor:
        y = y + levels.factor(pull, i) * (data - y)
        return y + levels.factor(spread, i) * noise() if spread[i].any() else y

    return _one_call_per_step(denoiser, y, levels, step, keep_trajectory, generator)


def heun_sample(
    denoiser: Denoiser,
    y: torch.Tensor,
    sigmas,
    *,
    churn: float = 0.0,
    churn_min: float = 0.0,
    churn_max: float | None = None,
    churn_noise: float = 1.0,
    keep_trajectory: bool = False,
    generator: torch.Generator | int | None = None,
) -> Samples:
    """Sample with Heun's method of second order, and noise added before each step (the EDM sampler).

    Before a step from level s the noise is raised to ``s (1 + gamma)``, ``gamma = min(churn / steps, sqrt(2) - 1)``. A step to level zero is Euler's.

    Parameters
    ----------
    denoiser, y, sigmas, keep_trajectory, generator
        As in `ancestral_sample`.
    churn : float
        How much noise is added in all; 0 solves the probability-flow ODE.
    churn_min, churn_max : float
        Noise is added only at levels between these; no upper limit by default.
    churn_noise : float
        Deviation of the added noise, relative to what the level asks for; the authors take up to 1.007.

    Returns
    -------
    Samples
        With two calls per step, one in a step to zero.

    Raises
    ------
    TypeError, ValueError
        For a bad argument, or if the denoiser returns another shape or something not finite (the message names the step).

    Examples
    --------
    >>> from ritz.diffusion import EDM, GaussianMixtureDenoiser, timesteps
    >>> denoiser = GaussianMixtureDenoiser([1.0], [[1.0, -1.0]], [1e-6])
    >>> sigmas = np.append(timesteps(EDM(), 17, "karras"), 0.0)
    >>> heun_sample(denoiser, torch.full((1, 2), 80.0), sigmas)
    Samples(x=float32[1, 2], nfe=35, trajectory=None)
    """
    churn, churn_min = real(churn, "churn", at_least=0), real(churn_min, "churn_min", at_least=0)
    churn_max = math.inf if churn_max is None else real(churn_max, "churn_max", at_least=churn_min)
    churn_noise = real(churn_noise, "churn_noise", at_least=0)
    check_callable(denoiser, "denoiser")
    y = check_start(y, "y")
    levels, keep = NoiseLevels(sigmas, y), flag(keep_trajectory, "keep_trajectory")
    noise = _noise_like(y, generator)
    s, t = levels.values[:-1], levels.values[1:]
    gamma = np.where((s >= churn_min) & (s <= churn_max), min(churn / len(s), math.sqrt(2) - 1), 0.0)
    raised = s * (1 + gamma)
    added, dt = churn_noise * np.sqrt(raised**2 - s**2), t - raised
    trajectory, nfe = [y], 0
    for i in range(len(s)):
        y = y + levels.factor(added, i) * noise() if gamma[i].any() else y
        slope = (y - _answer(denoiser, y, levels, raised[i], i)) / levels.factor(raised, i)
        ahead = y + levels.factor(dt, i) * slope
        if t[i].any():
            slope_ahead = (ahead - _answer(denoiser, ahead, levels, t[i], i)) / levels.factor(t, i)
            ahead = y + levels.factor(dt, i) * (0.5 * (slope + slope_ahead))
        y, nfe = ahead, nfe + (2 if t[i].any() else 1)
        trajectory = [*trajectory, y] if keep else trajectory
    return Samples(y, nfe, torch.stack(trajectory) if keep else None)


def dpm_solver_pp_sample(
    denoiser: Denoiser,
    y: torch.Tensor,
    sigmas,
    *,
    keep_trajectory: bool = False,
    generator: torch.Generator | int | None = None,
) -> Samples:
    """Sample with DPM-Solver++(2M): second order at one call per step, from levels that may differ within the batch.

    From level s to t with ``h = log(s / t)``: ``y = t / s y + (1 - t / s) (D + (D - D_before) h / (2 h_before))``; the first step and one to zero
    take D alone. For levels common to the batch and other orders see `dpm_solver_plan`.

    Parameters
    ----------
    denoiser, y, sigmas, keep_trajectory
        As in `ancestral_sample`.
    generator : torch.Generator, int or None
        Not used: the method is deterministic.

    Returns
    -------
    Samples

    Raises
    ------
    TypeError, ValueError
        For a bad argument, or if the denoiser returns another shape or something not finite (the message names the step).

    Examples
    --------
    >>> from ritz.diffusion import EDM, GaussianMixtureDenoiser, timesteps
    >>> denoiser = GaussianMixtureDenoiser([1.0], [[1.0, -1.0]], [1e-6])
    >>> dpm_solver_pp_sample(denoiser, torch.full((1, 2), 80.0), timesteps(EDM(), 20)).x.round(decimals=1)
    tensor([[ 1., -1.]])
    """
    check_callable(denoiser, "denoiser")
    y = check_start(y, "y")
    levels = NoiseLevels(sigmas, y)
    ratio = levels.values[1:] / levels.values[:-1]
    widths = -np.log(ratio, where=ratio > 0, out=np.full_like(ratio, -np.inf))
    slope = np.zeros_like(ratio)
    slope[1:] = 0.5 * widths[1:] / widths[:-1]
    if levels.ends_at_zero:
        slope[-1] = 0.0
    before = y

    def step(i: int, y: torch.Tensor, data: torch.Tensor, noise: Noise) -> torch.Tensor:
        nonlocal before
        ahead = data + levels.factor(slope, i) * (data - before) if slope[i].any() else data
        before = data
        return ahead + levels.factor(ratio, i) * (y - ahead)

    return _one_call_per_step(denoiser, y, levels, step, keep_trajectory, generator)


Noise = Callable[[], torch.Tensor]


class NoiseLevels:
    """The noise levels of a sampler's nodes, in float64: one number per node, or one per node and sample."""

    def __init__(self, sigmas, y: torch.Tensor):
        values = np.array(to_numpy(array(sigmas, "sigmas", ndim=(1, 2))), dtype=np.float64)
        if len(values) < 2 or (values.ndim == 2 and values.shape[1] != len(y)):
            raise ValueError(f"sigmas must have shape (steps + 1,) or (steps + 1, {len(y)}) with a step or more, got {values.shape}")
        if not (np.diff(values, axis=0) < 0).all():
            raise ValueError("sigmas must fall strictly from node to node: samplers go from noise to data")
        if not ((values[-1] > 0).all() or (values[-1] == 0).all()):
            raise ValueError("sigmas must be positive; only the last may be zero, and then for all samples")
        self.values, self._y = values, y

    @property
    def shared(self) -> bool:
        """Whether all samples have the same levels."""
        return self.values.ndim == 1

    @property
    def ends_at_zero(self) -> bool:
        """Whether the last level is zero."""
        return not self.values[-1].any()

    def factor(self, table: np.ndarray, i: int) -> Factor:
        """Entry i of a table with one row per step, as it multiplies the state."""
        if self.shared:
            return float(table[i])
        return per_sample(torch.from_numpy(table[i]).to(self._y), self._y)

    def level(self, row: np.ndarray) -> Factor:
        """A row of levels as a denoiser takes it."""
        return float(row) if self.shared else torch.from_numpy(row).to(self._y)


def _one_call_per_step(denoiser, y, levels: NoiseLevels, step: Callable, keep_trajectory: bool, generator) -> Samples:
    keep, noise = flag(keep_trajectory, "keep_trajectory"), _noise_like(y, generator)
    steps, trajectory = len(levels.values) - 1, [y]
    for i in range(steps):
        y = step(i, y, _answer(denoiser, y, levels, levels.values[i], i), noise)
        if keep:
            trajectory.append(y)
    return Samples(y, steps, torch.stack(trajectory) if keep else None)


def _answer(denoiser: Denoiser, y: torch.Tensor, levels: NoiseLevels, row: np.ndarray, i: int) -> torch.Tensor:
    data = denoiser(y, levels.level(row))
    check_answer(data, y, f"step {i + 1}", float(np.max(row)))
    return data


def _noise_like(y: torch.Tensor, generator) -> Noise:
    generator = torch_generator(generator, y.device)
    return lambda: torch.randn(y.shape, generator=generator, dtype=y.dtype, device=y.device)
