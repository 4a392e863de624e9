"""The Schrodinger bridge as the best of all interpolants: the path itself is learned, so that its flow moves as little as possible.

Albergo, Boffi and Vanden-Eijnden, arXiv:2303.08797, section 3.4. With ``gamma^2 = 2 epsilon t (1 - t)`` the drift u = b + epsilon s of the forward
equation minimizes ``L = E[ |u|^2 / 2 - (I' + (gamma' - epsilon / gamma) z) u ]``, whose least value is minus half the mean of |u|^2. The path that
makes this value largest is the Schrodinger bridge's. Path and drift are improved in turns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ritz.core import Result, integer, positive, progress, torch_generator
from ritz.diffusion.exponential_integrator import check_start
from ritz.diffusion.interpolant_samplers import TransportedSamples, interpolant_sde
from ritz.diffusion.interpolants import LEAST_TIME, Interpolant


@dataclass(frozen=True, eq=False, repr=False)
class SchrodingerInterpolant(Result):
    """A learned bridge.

    Attributes
    ----------
    drift : Module
        u(x, t) of the forward equation ``dx = u dt + sqrt(2 epsilon) dW``.
    path : Module
        What is added to the straight line, divided by t (1 - t): a function of (x0, x1, t).
    epsilon : float
        Half the variance that the equation's noise gathers.
    losses : ndarray (steps,)
        L before each improvement of the drift.
    """

    drift: nn.Module
    path: nn.Module
    epsilon: float
    losses: np.ndarray

    def sample(self, x0: torch.Tensor, *, steps: int = 100, generator: torch.Generator | int | None = None) -> TransportedSamples:
        """Carry samples (batch, d) of the first density to the second by the forward equation."""
        with torch.no_grad():
            return interpolant_sde(
                self.drift, lambda x, t: torch.zeros_like(x), x0, epsilon=self.epsilon, steps=steps, method="euler", generator=generator
            )


def schrodinger_bridge_interpolant(
    draw0: Callable[[int], torch.Tensor],
    draw1: Callable[[int], torch.Tensor],
    *,
    epsilon: float,
    steps: int = 2000,
    drift_steps: int = 4,
    batch_size: int = 512,
    width: int = 64,
    lr: float = 2e-3,
    generator: torch.Generator | int | None = None,
) -> SchrodingerInterpolant:
    """Learn the Schrodinger bridge between two densities of low dimension, with perceptrons of two hidden layers.

    Parameters
    ----------
    draw0, draw1 : callable
        ``draw(n)`` returns n samples (n, d).
    epsilon : float
        The bridge is that of ``sqrt(2 epsilon) W``.
    steps : int
        Improvements of the path.
    drift_steps : int
        Improvements of the drift before each of the path.
    batch_size, width, lr
        Of both networks and their Adam.
    generator : torch.Generator, int or None
        Where weights, times and noise come from.

    Raises
    ------
    TypeError, ValueError
        For a bad argument, or if the two densities have different dimensions.

    Notes
    -----
    The problem is a saddle, with which gradient steps have to be careful: use it in a few dimensions, and `LightSchrodingerBridge` elsewhere.

    Examples
    --------
    >>> draw = lambda n: torch.randn(n, 2)
    >>> bridge = schrodinger_bridge_interpolant(draw, draw, epsilon=0.5, steps=2, generator=0)
    >>> bridge.sample(torch.zeros(3, 2), steps=5, generator=0).x.shape
    torch.Size([3, 2])
    """
    epsilon, steps, drift_steps = positive(epsilon, "epsilon"), integer(steps, "steps", at_least=1), integer(drift_steps, "drift_steps", at_least=1)
    batch_size, width = integer(batch_size, "batch_size", at_least=1), integer(width, "width", at_least=1)
    first, last = check_start(draw0(2), "draw0"), check_start(draw1(2), "draw1")
    if first.shape[1:] != last.shape[1:] or first.ndim != 2:
        raise ValueError(f"draw0 and draw1 must return points (n, d) of one dimension, got {tuple(first.shape)} and {tuple(last.shape)}")
    generator, d = torch_generator(generator), first.shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        drift, path = _Perceptron(d, d, width), _Perceptron(2 * d, d, width)
    nn.init.zeros_(path.layers[-1].weight)
    nn.init.zeros_(path.layers[-1].bias)
    optimizers = torch.optim.Adam(drift.parameters(), lr=positive(lr, "lr")), torch.optim.Adam(path.parameters(), lr=lr / 4)
    interpolant, losses = Interpolant("linear", "brownian", a=2 * epsilon), []

    def loss() -> torch.Tensor:
        x0, x1 = draw0(batch_size), draw1(batch_size)
        t = (LEAST_TIME + (1 - 2 * LEAST_TIME) * torch.rand(batch_size, 1, generator=generator)).to(x0)
        z = torch.randn(x0.shape, generator=generator).to(x0)
        bend, bend_slope = torch.func.jvp(lambda t: t * (1 - t) * path(torch.cat([x0, x1], dim=1), t[:, 0]), (t,), (torch.ones_like(t),))
        gamma = interpolant.gamma(t[:, 0].double()).to(x0)[:, None]
        kick = (interpolant.gg_dot(t[:, 0].double()).to(x0)[:, None] - epsilon) / gamma
        value = x0.new_zeros(())
        for sign in (1.0, -1.0):
            u = drift((1 - t) * x0 + t * x1 + bend + sign * gamma * z, t[:, 0])
            value = value + 0.5 * (0.5 * u**2 - (x1 - x0 + bend_slope + sign * kick * z) * u).sum(1).mean()
        return value

    for _ in progress(range(steps), "Schrodinger bridge"):
        for _ in range(drift_steps):
            optimizers[0].zero_grad(set_to_none=True)
            least = loss()
            least.backward()
            optimizers[0].step()
        losses.append(float(least.detach()))
        optimizers[1].zero_grad(set_to_none=True)
        (-loss()).backward()
        optimizers[1].step()
    return SchrodingerInterpolant(drift.eval(), path.eval(), epsilon, np.array(losses))


class _Perceptron(nn.Module):
    """Two hidden layers on points and times."""

    def __init__(self, inputs: int, outputs: int, width: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(inputs + 1, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, outputs)
        )

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return self.layers(torch.cat([x, t[:, None]], dim=1))
