"""Log-densities of a diffusion model: by the change of variables along its probability-flow ODE, or along noisy paths without derivatives.

Along ``dy/dlog sigma = y - D(y, sigma)`` the density of the noisy data changes by ``d log q / dlog sigma = -(d - tr dD/dy)``; the trace is taken
exactly, by one derivative per coordinate, or estimated without bias from random signs (Hutchinson; Song et al., ICLR 2021, arXiv:2011.13456,
appendix D.2).
Along a noisy path, followed from noise to data, Itô's formula needs the score alone: ``d log q = <dy, s> - |s|^2 dq / 2`` (Skreta et al., ICLR 2025,
arXiv:2412.17762, theorem 1, in the frame y = x / alpha, where the drift vanishes).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import torch

from ritz.core import choice, integer, torch_generator
from ritz.diffusion.denoisers import Denoiser, check_callable
from ritz.diffusion.exponential_integrator import check_answer, check_start
from ritz.diffusion.schedules import NoiseSchedule, Spacing, timesteps

LogDensity = Callable[[torch.Tensor, float], torch.Tensor]


def log_likelihood(
    denoiser: Denoiser,
    x0: torch.Tensor,
    schedule: NoiseSchedule,
    *,
    method: Literal["ode", "ito"] = "ode",
    probes: int | Literal["exact"] = 1,
    steps: int = 200,
    spacing: Spacing = "logsnr",
    t_start: float | None = None,
    t_end: float | None = None,
    log_prior: LogDensity | None = None,
    generator: torch.Generator | int | None = None,
) -> torch.Tensor:
    """Return the log-density (batch,) of data points under a diffusion model, in nats.

    Parameters
    ----------
    denoiser : callable
        ``D(x, sigma)``, called with sigma a float and differentiated forward.
    x0 : Tensor (batch, *shape)
        The data points.
    schedule : NoiseSchedule
        Its last time says how much noise the density is smoothed with: it is that of ``x_0 + rho(t_end) n``.
    method : {"ode", "ito"}
        Along the probability-flow ODE, by Heun steps in log sigma; or Itô's formula along one noisy path per point: one call per step and no
        derivative, with a random error that halves when the steps are multiplied by four.
    probes : int or "exact"
        For "ode": number of random signs that estimate the trace, the same along the whole path; "exact" takes one derivative per coordinate.
    steps : int
        Number of steps.
    spacing, t_start, t_end
        The grid of times, as in `timesteps`; t_start is the noisiest.
    log_prior : callable, optional
        ``log_prior(y, sigma)`` (batch,), the log-density at the noisiest level; that of N(0, sigma^2 I) by default.
    generator : torch.Generator, int or None
        Where the signs, or the noise of the path, come from.

    Returns
    -------
    Tensor (batch,)

    Raises
    ------
    TypeError, ValueError
        For a bad argument, or if the denoiser returns another shape or something not finite.

    Notes
    -----
    Cost of "ode": 2 steps calls of the denoiser, each with `probes` (or as many as a sample has coordinates) forward derivatives.
    Of "ito": steps calls.

    Examples
    --------
    >>> from ritz.diffusion import GaussianMixtureDenoiser, VPLinear
    >>> normal = GaussianMixtureDenoiser([1.0], [[0.0, 0.0]], [1.0])
    >>> x0 = torch.zeros(1, 2, dtype=torch.float64)
    >>> log_likelihood(normal, x0, VPLinear(), probes="exact").round(decimals=2)
    tensor([-1.8400], dtype=torch.float64)
    """
    check_callable(denoiser, "denoiser")
    y = check_start(x0, "x0")
    choice(method, "method", ("ode", "ito"))
    if probes != "exact":
        integer(probes, "probes", at_least=1)
    integer(steps, "steps", at_least=1)
    lam = [float(value) for value in schedule.lam(timesteps(schedule, steps, spacing, t_start=t_start, t_end=t_end))]
    log_prior = normal_log_density if log_prior is None else log_prior
    check_callable(log_prior, "log_prior")
    logarithms = [-value for value in reversed(lam)]
    if method == "ode":
        y, change = _along_the_flow(denoiser, y, logarithms, probe_directions(y, probes, generator))
    else:
        y, change = _along_a_noisy_path(denoiser, y, logarithms, torch_generator(generator, y.device))
    return log_prior(y, math.exp(logarithms[-1])) + change


def normal_log_density(y: torch.Tensor, sigma: float) -> torch.Tensor:
    """Log-density (batch,) of N(0, sigma^2 I) at y (batch, *shape)."""
    flat = y.flatten(1)
    return -0.5 * (flat / sigma).square().sum(1) - flat.shape[1] * (math.log(sigma) + 0.5 * math.log(2 * math.pi))


def probe_directions(y: torch.Tensor, probes: int | Literal["exact"], generator) -> tuple[torch.Tensor, ...]:
    """Directions v (batch, *shape) with E or sum of ``v . J v`` equal to the trace of J, already weighted."""
    if probes == "exact":
        basis = torch.eye(y[0].numel(), dtype=y.dtype, device=y.device)
        return tuple(row.reshape(1, *y.shape[1:]).expand_as(y) for row in basis)
    generator = torch_generator(generator, y.device)
    signs = torch.randint(0, 2, (probes, *y.shape), generator=generator, device=y.device).to(y.dtype)
    return tuple((2 * signs - 1) / math.sqrt(probes))


def value_and_trace(denoiser: Denoiser, y: torch.Tensor, sigma: float, directions: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """D(y, sigma), and the trace (batch,) of its derivative in y from the given directions."""
    trace = torch.zeros(len(y), dtype=y.dtype, device=y.device)
    for v in directions:
        data, change = torch.func.jvp(lambda y: denoiser(y, sigma), (y,), (v,))
        trace = trace + (v * change).flatten(1).sum(1)
    return data, trace


def _along_the_flow(denoiser: Denoiser, y: torch.Tensor, logarithms: list[float], directions) -> tuple[torch.Tensor, torch.Tensor]:
    """Heun's method from the data to the noise: the end point, and the integral of d - tr dD/dy over log sigma."""
    dimension = y[0].numel()
    change = torch.zeros(len(y), dtype=y.dtype, device=y.device)

    def slopes(y: torch.Tensor, logarithm: float) -> tuple[torch.Tensor, torch.Tensor]:
        data, trace = value_and_trace(denoiser, y, math.exp(logarithm), directions)
        check_answer(data, y, "a step of the flow", math.exp(logarithm))
        return y - data, dimension - trace

    for here, there in pairwise(logarithms):
        h = there - here
        velocity, rate = slopes(y, here)
        velocity_ahead, rate_ahead = slopes(y + h * velocity, there)
        y = y + 0.5 * h * (velocity + velocity_ahead)
        change = change + 0.5 * h * (rate + rate_ahead)
    return y, change


def _along_a_noisy_path(
    denoiser: Denoiser, y: torch.Tensor, logarithms: list[float], generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Brownian motion from the data to the noise, read backwards: its end point, and the log-density's gain by Itô's formula."""
    change = torch.zeros(len(y), dtype=y.dtype, device=y.device)
    for here, there in pairwise(logarithms):
        sigma = math.exp(there)
        dq = sigma**2 - math.exp(2 * here)
        noisier = y + math.sqrt(dq) * torch.randn(y.shape, generator=generator, dtype=y.dtype, device=y.device)
        data = denoiser(noisier, sigma)
        check_answer(data, noisier, "a step of the path", sigma)
        change = change + ito_increment(y - noisier, (data - noisier) / sigma**2, dq)
        y = noisier
    return y, change


def ito_increment(dy: torch.Tensor, score: torch.Tensor, dq: float) -> torch.Tensor:
    """What log q (batch,) gains over a step dy towards the data in which the noise variance falls by dq, with the score where the step starts."""
    return ((dy - 0.5 * dq * score) * score).flatten(1).sum(1)
