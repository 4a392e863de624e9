"""Flows and diffusions of a stochastic interpolant: from samples of one density to samples of the other, and their likelihoods.

Albergo, Boffi and Vanden-Eijnden, arXiv:2303.08797, sections 2.3 to 2.5. With the velocity b and the score s of the path all of

    dx = b dt,    dx = (b + epsilon s) dt + sqrt(2 epsilon) dW,    and backwards in time    dx = (b - epsilon s) dt + sqrt(2 epsilon) dW

have its densities; epsilon, which may change with the time, is chosen after training.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from scipy.integrate import solve_ivp

from ritz.core import Result, choice, flag, integer, positive, real, torch_generator
from ritz.diffusion.denoisers import check_callable
from ritz.diffusion.exponential_integrator import check_start
from ritz.diffusion.interpolants import Network
from ritz.diffusion.log_density import probe_directions, value_and_trace


@dataclass(frozen=True, eq=False, repr=False)
class TransportedSamples(Result):
    """Samples at the other end.

    Attributes
    ----------
    x : Tensor (batch, *shape)
        The end points.
    nfe : int
        Number of calls of the velocity on the whole batch.
    log_ratio : Tensor (batch,) or None
        What the log-density changed by on the way: log-density at the end less log-density at the start.
    """

    x: torch.Tensor
    nfe: int
    log_ratio: torch.Tensor | None = None


def interpolant_flow(
    b: Network,
    x0: torch.Tensor,
    *,
    steps: int = 100,
    rtol: float = 1e-5,
    method: str = "heun",
    reverse: bool = False,
    log_prob: bool = False,
    t_eps: float = 0.0,
) -> TransportedSamples:
    """Follow ``dx / dt = b(x, t)`` from time 0 to 1, or back.

    Parameters
    ----------
    b : callable
        The velocity ``b(x, t)`` with times (batch,).
    x0 : Tensor (batch, *shape)
        Where to start: samples of the density at time 0, or at time 1 if `reverse`.
    steps : int
        Of equal length, for "heun" and "rk4".
    rtol : float
        Relative tolerance of "dopri5"; the absolute one is a hundredth of it.
    method : {"heun", "rk4", "dopri5"}
        Heun's method, Runge and Kutta's, or SciPy's adaptive one of order 5, on the CPU.
    reverse : bool
        From time 1 to 0.
    log_prob : bool
        Also return the change of the log-density, minus the integral of the divergence of b: one derivative per coordinate and call.
    t_eps : float
        Keep so far from both ends, where learned velocities are steep.

    Returns
    -------
    TransportedSamples
        For the likelihood of x1 under a base density: ``back = interpolant_flow(b, x1, reverse=True, log_prob=True)`` and then
        ``log_base(back.x) - back.log_ratio``.

    Raises
    ------
    TypeError, ValueError
        For a bad argument, or if b returns another shape or something not finite.

    Examples
    --------
    >>> interpolant_flow(lambda x, t: torch.ones_like(x), torch.zeros(1, 2), steps=4).x
    tensor([[1., 1.]])
    """
    check_callable(b, "b")
    x = check_start(x0, "x0")
    steps, rtol = integer(steps, "steps", at_least=1), positive(rtol, "rtol")
    choice(method, "method", ["heun", "rk4", "dopri5"])
    times = _times(steps, flag(reverse, "reverse"), t_eps)
    velocity = _Velocity(b, probe_directions(x, "exact", None) if flag(log_prob, "log_prob") else ())
    state = (x, x.new_zeros(len(x)))
    if method == "dopri5":
        state = _adaptive(velocity, state, times[0], times[-1], rtol)
    else:
        step = {"heun": _heun, "rk4": _runge_kutta}[method]
        for t, later in pairwise(times):
            state = step(velocity, state, t, later - t)
    return TransportedSamples(state[0], velocity.calls, state[1] if log_prob else None)


def interpolant_sde(
    b: Network,
    s: Network,
    x0: torch.Tensor,
    *,
    epsilon: float | Callable[[float], float] = 1.0,
    steps: int = 200,
    method: str = "heun",
    reverse: bool = False,
    log_prob: bool = False,
    t_eps: float = 0.0,
    generator: torch.Generator | int | None = None,
) -> TransportedSamples:
    """Follow ``dx = (b + epsilon s) dt + sqrt(2 epsilon) dW`` from time 0 to 1, or the backward equation from 1 to 0.

    Parameters
    ----------
    b, s : callable
        Velocity and score, functions of x and times (batch,).
    x0 : Tensor (batch, *shape)
        Where to start.
    epsilon : float or callable
        Diffusion, 0 or more; a function of the time, a float, where it changes. 0 is the flow.
    steps : int
        Of equal length.
    method : {"heun", "euler"}
        Noise first and then Heun's step of the drift, or Euler and Maruyama's.
    reverse : bool
        From time 1 to 0.
    log_prob : bool
        Also return, for `reverse` only, an estimate of the change of the log-density whose mean over paths is exact for exact b and s: average
        ``log_base(x) - log_ratio`` over repetitions for the log-likelihood of a starting point.
    t_eps : float
        Keep so far from both ends; 1e-3 where the score is a learned denoiser over gamma.
    generator : torch.Generator, int or None
        Where the noise comes from.

    Returns
    -------
    TransportedSamples

    Raises
    ------
    TypeError, ValueError
        For a bad argument, or if b or s returns another shape or something not finite.

    Notes
    -----
    With errors of b_F = b + epsilon s of mean square e the divergence of the law of samples is at most e / (4 epsilon); no such bound holds for the
    flow.

    Examples
    --------
    >>> moved = interpolant_sde(lambda x, t: 0 * x, lambda x, t: -x, torch.zeros(20_000, 1), epsilon=2.0, generator=0)
    >>> moved.x.std().round(decimals=1)
    tensor(1.)
    """
    check_callable(b, "b")
    check_callable(s, "s")
    x = check_start(x0, "x0")
    constant = 0.0 if callable(epsilon) else real(epsilon, "epsilon", at_least=0)
    level = epsilon if callable(epsilon) else lambda _: constant
    steps = integer(steps, "steps", at_least=1)
    choice(method, "method", ["heun", "euler"])
    if flag(log_prob, "log_prob") and not reverse:
        raise ValueError("log_prob is there for reverse=True only: paths run back from the points whose density is wanted")
    times, generator = _times(steps, flag(reverse, "reverse"), t_eps), torch_generator(generator, x.device)
    direction = -1.0 if reverse else 1.0
    drift = _Velocity(lambda x, t: b(x, t) + direction * level(float(t[0])) * s(x, t))
    forward = _Velocity(lambda x, t: b(x, t) + level(float(t[0])) * s(x, t), probe_directions(x, "exact", None)) if log_prob else None
    change = x.new_zeros(len(x))
    for t, later in pairwise(times):
        h, spread = later - t, _level(level, 0.5 * (t + later))
        noise = math.sqrt(2 * spread * abs(h)) * torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device) if spread else 0.0
        if forward is not None:
            score = s(x, x.new_full((len(x),), t))
            change = change + abs(h) * (-forward(x, t)[1] + _level(level, t) * score.square().flatten(1).sum(1))
        x = x + noise
        if method == "heun":
            x, _ = _heun(drift, (x, x.new_zeros(len(x))), t, h)
        else:
            x = x + h * drift(x - noise, t)[0]
    return TransportedSamples(x, drift.calls, change if log_prob else None)


class _Velocity:
    """A velocity that is told one time for all samples, with minus its divergence from the directions given, zero without; counts its calls."""

    def __init__(self, b: Network, directions: tuple[torch.Tensor, ...] = ()):
        self.b, self.directions, self.calls = b, directions, 0

    def __call__(self, x: torch.Tensor, t: float) -> tuple[torch.Tensor, torch.Tensor]:
        self.calls += 1
        times = x.new_full((len(x),), t)
        if self.directions:
            slope, trace = value_and_trace(lambda x, _: self.b(x, times), x, t, self.directions)
        else:
            slope, trace = self.b(x, times), x.new_zeros(len(x))
        if slope.shape != x.shape:
            raise ValueError(f"b must return the shape of its input, {tuple(x.shape)}, got {tuple(slope.shape)}")
        if not bool(torch.isfinite(slope).all()):
            raise ValueError(f"b returned values that are not finite at t = {t:.4g}")
        return slope, -trace


State = tuple[torch.Tensor, torch.Tensor]


def _heun(velocity: _Velocity, state: State, t: float, h: float) -> State:
    first = velocity(state[0], t)
    second = velocity(state[0] + h * first[0], t + h)
    return tuple(value + 0.5 * h * (one + two) for value, one, two in zip(state, first, second))


def _runge_kutta(velocity: _Velocity, state: State, t: float, h: float) -> State:
    x = state[0]
    slopes = [velocity(x, t)]
    for part in (0.5, 0.5, 1.0):
        slopes.append(velocity(x + part * h * slopes[-1][0], t + part * h))
    return tuple(value + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4) for value, k1, k2, k3, k4 in zip(state, *slopes))


def _adaptive(velocity: _Velocity, state: State, first: float, last: float, rtol: float) -> State:
    """SciPy's RK45 on the states of all samples together."""
    x, change = state
    split = x.numel()

    def slope(t: float, flat: np.ndarray) -> np.ndarray:
        here = torch.from_numpy(flat[:split]).to(x).reshape(x.shape)
        return np.concatenate([part.double().numpy(force=True).ravel() for part in velocity(here, float(t))])

    start = np.concatenate([part.double().numpy(force=True).ravel() for part in state])
    found = solve_ivp(slope, (first, last), start, method="RK45", rtol=rtol, atol=rtol / 100)
    if not found.success:
        raise ValueError(f"b could not be followed: {found.message}")
    end = torch.from_numpy(found.y[:, -1])
    return end[:split].to(x).reshape(x.shape), end[split:].to(change)


def _times(steps: int, reverse: bool, t_eps: float) -> list[float]:
    ends = real(t_eps, "t_eps", at_least=0, below=0.5), 1 - t_eps
    return np.linspace(*(ends[::-1] if reverse else ends), steps + 1).tolist()


def _level(level: Callable[[float], float], t: float) -> float:
    return real(level(t), "epsilon", at_least=0)
