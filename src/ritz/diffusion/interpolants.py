"""Stochastic interpolants: one random path between any two densities, whose velocity drives a flow and whose score turns it into diffusions.

Albergo, Boffi and Vanden-Eijnden, "Stochastic Interpolants: A Unifying Framework for Flows and Diffusions", arXiv:2303.08797.

    x_t = alpha(t) x_0 + beta(t) x_1 + gamma(t) z,   z normal,   t from 0 to 1

has the velocity ``b = E[d x_t / dt | x_t]``, the velocity without noise ``v = E[alpha' x_0 + beta' x_1 | x_t]``, the denoiser ``eta = E[z | x_t]``
and the score ``s = -eta / gamma``, with ``b = v - gamma gamma' s``. One-sided interpolants start from normal x_0, which is then their z, and alpha is
called gamma.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ritz.core import choice, flag, positive, torch_generator
from ritz.diffusion.denoisers import check_callable, per_sample

Network = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Function = Callable[[torch.Tensor], torch.Tensor]

BOUNDARY_TOLERANCE = 1e-6
LEAST_TIME = 1e-6  # random times keep so far from the ends, where gamma' may be infinite


@dataclass(frozen=True)
class InterpolantPath:
    """The two factors of a path of one's own, and their derivatives: functions of a tensor of times, elementwise.

    Raises
    ------
    TypeError, ValueError
        If one is not callable, or unless alpha falls from 1 to 0 and beta rises from 0 to 1 (at the ends, to 1e-6).

    Examples
    --------
    >>> squares = InterpolantPath(lambda t: 1 - t**2, lambda t: t**2, lambda t: -2 * t, lambda t: 2 * t)
    """

    alpha: Function
    beta: Function
    d_alpha: Function
    d_beta: Function

    def __post_init__(self):
        for name in ("alpha", "beta", "d_alpha", "d_beta"):
            check_callable(getattr(self, name), name)
        _check_ends(self.alpha, "alpha", 1.0, 0.0)
        _check_ends(self.beta, "beta", 0.0, 1.0)


@dataclass(frozen=True)
class InterpolantNoise:
    """The noise of a path of one's own: gamma, and the product of gamma with its derivative, which stays finite where gamma' does not.

    Raises
    ------
    TypeError, ValueError
        If one is not callable, or unless gamma vanishes at both ends (to 1e-6).

    Examples
    --------
    >>> halved = InterpolantNoise(lambda t: 0.5 * t * (1 - t), lambda t: 0.25 * t * (1 - t) * (1 - 2 * t))
    """

    gamma: Function
    gg_dot: Function

    def __post_init__(self):
        for name in ("gamma", "gg_dot"):
            check_callable(getattr(self, name), name)
        _check_ends(self.gamma, "gamma", 0.0, 0.0)


class Interpolant:
    """The path x_t between x_0 and x_1.

    Parameters
    ----------
    path : str or InterpolantPath
        "linear": (1 - t, t). "trig": sqrt(1 - gamma^2) (cos, sin)(pi t / 2). "encdec": cos^2(pi t) of x_0 in the first half, of x_1 in the second.
        "one_sided_linear" and "one_sided_trig": x_0 is standard normal and there is no other noise, factors (1 - t, t) or (cos, sin)(pi t / 2).
        "mirror": x_1 + gamma z, from a density back to itself.
    gamma : str or InterpolantNoise, optional
        "brownian", the default: sqrt(a t (1 - t)). "bsquared": t (1 - t). "sinesquared": sin^2(pi t). "sigmoid": a smooth window around 1/2. "zero",
        the only choice on one-sided paths, which have their own noise.
    a : float
        Of "brownian"; the paper also takes 2.

    Raises
    ------
    TypeError, ValueError
        For a bad argument, or if gamma exceeds 1 on the path "trig".

    Examples
    --------
    >>> interpolant = Interpolant("linear", "brownian")
    >>> interpolant.sample(torch.zeros(1, 2), torch.ones(1, 2), 0.5, torch.ones(1, 2))
    tensor([[1., 1.]])
    """

    def __init__(self, path: str | InterpolantPath = "linear", gamma: str | InterpolantNoise | None = None, a: float = 1.0):
        self.path = path if isinstance(path, InterpolantPath) else choice(path, "path", [*_PATHS, "trig", *_ONE_SIDED])
        gamma = ("zero" if self.one_sided else "brownian") if gamma is None else gamma
        self.noise = gamma if isinstance(gamma, InterpolantNoise) else choice(gamma, "gamma", [*_NOISES, "brownian"])
        self.a = positive(a, "a")
        if self.one_sided and gamma != "zero":
            raise ValueError(f"gamma must be 'zero' for the one-sided path '{path}', whose noise is x0, got {gamma!r}")
        if path == "mirror" and gamma == "zero":
            raise ValueError("gamma must not be 'zero' for the path 'mirror', which would stand still")
        if path == "trig" and bool((self.gamma(torch.linspace(0, 1, 101, dtype=torch.float64)) >= 1).any()):
            raise ValueError("gamma must give values below 1 for the path 'trig'")

    def __repr__(self) -> str:
        return f"Interpolant({self.path!r}, {self.noise!r}, a={self.a:g})"

    @property
    def one_sided(self) -> bool:
        """Whether x_0 is the noise."""
        return isinstance(self.path, str) and self.path in _ONE_SIDED

    def alpha(self, t: float | torch.Tensor) -> torch.Tensor:
        """The factor of x_0, 0 where x_0 is the noise."""
        return self._factors(t)[0]

    def beta(self, t: float | torch.Tensor) -> torch.Tensor:
        """The factor of x_1."""
        return self._factors(t)[1]

    def slopes(self, t: float | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The derivatives of alpha and beta."""
        return self._factors(t)[2:]

    def gamma(self, t: float | torch.Tensor) -> torch.Tensor:
        """The factor of the noise."""
        return self._noise(_time(t))[0]

    def gg_dot(self, t: float | torch.Tensor) -> torch.Tensor:
        """gamma gamma', finite everywhere."""
        return self._noise(_time(t))[1]

    def gamma_dot(self, t: float | torch.Tensor) -> torch.Tensor:
        """gamma', infinite where gamma has a root's end."""
        gamma, product = self._noise(_time(t))
        return torch.where(product == 0, torch.zeros_like(gamma), product / gamma)

    def sample(self, x0: torch.Tensor, x1: torch.Tensor, t: float | torch.Tensor, z: torch.Tensor | None = None) -> torch.Tensor:
        """Return x_t (batch, *shape) at a time, a float or a tensor (batch,); z is the noise, x0 itself on one-sided paths.

        Raises
        ------
        ValueError
            If shapes differ, or z is missing where there is noise.
        """
        z = self._checked(x0, x1, z)
        alpha, beta, *_ = self._factors(t)
        return _times(alpha, x0) + _times(beta, x1) + _times(self.gamma(t), z)

    def dt(self, x0: torch.Tensor, x1: torch.Tensor, t: float | torch.Tensor) -> torch.Tensor:
        """Return alpha' x_0 + beta' x_1, the velocity of the path without its noise."""
        self._checked(x0, x1, x0)
        d_alpha, d_beta = self.slopes(t)
        return _times(d_alpha, x0) + _times(d_beta, x1)

    def _checked(self, x0: torch.Tensor, x1: torch.Tensor, z: torch.Tensor | None) -> torch.Tensor:
        if x0.shape != x1.shape:
            raise ValueError(f"x1 must have the shape of x0, {tuple(x0.shape)}, got {tuple(x1.shape)}")
        if self.one_sided:
            return x0
        if z is None:
            if self.noise != "zero":
                raise ValueError("z must be given: the path has noise")
            return torch.zeros_like(x0)
        if z.shape != x0.shape:
            raise ValueError(f"z must have the shape of x0, {tuple(x0.shape)}, got {tuple(z.shape)}")
        return z

    def _factors(self, t: float | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        t = _time(t)
        if isinstance(self.path, InterpolantPath):
            return self.path.alpha(t), self.path.beta(t), self.path.d_alpha(t), self.path.d_beta(t)
        if self.one_sided:
            _, beta, _, d_beta = _ONE_SIDED[self.path](t)
            return torch.zeros_like(t), beta, torch.zeros_like(t), d_beta
        if self.path != "trig":
            return _PATHS[self.path](t)
        cosine, sine, d_cosine, d_sine = _circle(t)
        gamma, product = self._noise(t)
        left = (1 - gamma**2).sqrt()
        d_left = -product / left
        return left * cosine, left * sine, d_left * cosine + left * d_cosine, d_left * sine + left * d_sine

    def _noise(self, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.one_sided:
            alpha, _, d_alpha, _ = _ONE_SIDED[self.path](t)
            return alpha, alpha * d_alpha
        if isinstance(self.noise, InterpolantNoise):
            return self.noise.gamma(t), self.noise.gg_dot(t)
        if self.noise == "brownian":
            return (self.a * (t * (1 - t)).clamp(min=0)).sqrt(), self.a * (1 - 2 * t) / 2
        gamma, gamma_dot = _NOISES[self.noise](t)
        return gamma, gamma * gamma_dot


def _line(t: torch.Tensor):
    one = torch.ones_like(t)
    return 1 - t, t, -one, one


def _circle(t: torch.Tensor):
    angle = 0.5 * math.pi * t
    cosine, sine = torch.cos(angle), torch.sin(angle)
    return cosine, sine, -0.5 * math.pi * sine, 0.5 * math.pi * cosine


def _encode_decode(t: torch.Tensor):
    square, slope = torch.cos(math.pi * t) ** 2, -math.pi * torch.sin(2 * math.pi * t)
    early, zero = t <= 0.5, torch.zeros_like(t)
    return torch.where(early, square, zero), torch.where(early, zero, square), torch.where(early, slope, zero), torch.where(early, zero, slope)


def _still(t: torch.Tensor):
    zero = torch.zeros_like(t)
    return zero, torch.ones_like(t), zero, zero


def _sigmoid_window(t: torch.Tensor, steepness: float = 10.0):
    rising, falling = torch.sigmoid(steepness * (t - 0.5) + 1), torch.sigmoid(steepness * (t - 0.5) - 1)
    ends = torch.sigmoid(t.new_tensor([1 - steepness / 2, -1 - steepness / 2]))
    return rising - falling - ends[0] + ends[1], steepness * (rising * (1 - rising) - falling * (1 - falling))


_PATHS = {"linear": _line, "encdec": _encode_decode, "mirror": _still}
_ONE_SIDED = {"one_sided_linear": _line, "one_sided_trig": _circle}
_NOISES = {
    "zero": lambda t: (torch.zeros_like(t), torch.zeros_like(t)),
    "bsquared": lambda t: (t * (1 - t), 1 - 2 * t),
    "sinesquared": lambda t: (torch.sin(math.pi * t) ** 2, math.pi * torch.sin(2 * math.pi * t)),
    "sigmoid": _sigmoid_window,
}


def interpolant_losses(
    interpolant: Interpolant,
    x0: torch.Tensor,
    x1: torch.Tensor,
    *,
    b: Network | None = None,
    v: Network | None = None,
    s: Network | None = None,
    eta: Network | None = None,
    antithetic: bool = True,
    generator: torch.Generator | int | None = None,
) -> dict[str, torch.Tensor]:
    """Return the losses (batch,) of networks of the velocity, the noiseless velocity, the score and the denoiser, whichever are given.

    All see the same x_t at times drawn uniformly. With I' the velocity without noise, L_b = ``|b|^2 / 2 - (I' + gamma' z) b``,
    L_v = ``|v|^2 / 2 - I' v``, L_s = ``|s|^2 / 2 + z s / gamma`` and L_eta = ``|eta|^2 / 2 - z eta``; each is least for the conditional expectation.

    Parameters
    ----------
    interpolant : Interpolant
        The path.
    x0, x1 : Tensor (batch, *shape)
        Coupled samples of the two densities, independent ones as a rule; x0 is normal on one-sided paths.
    b, v, s, eta : callable, optional
        ``network(x, t)`` with times (batch,).
    antithetic : bool
        Average over z and -z; without it L_b and L_s have no finite variance near the ends of paths with Brownian noise.
    generator : torch.Generator, int or None
        Where times and noise come from.

    Returns
    -------
    dict
        Keys "b", "v", "s", "eta".

    Raises
    ------
    TypeError, ValueError
        If no network is given, shapes differ, or the score or the denoiser of a path without noise is asked for.

    Examples
    --------
    >>> losses = interpolant_losses(Interpolant(), torch.zeros(3, 2), torch.ones(3, 2), b=lambda x, t: x, generator=0)
    >>> losses["b"].shape
    torch.Size([3])
    """
    networks = {name: network for name, network in {"b": b, "v": v, "s": s, "eta": eta}.items() if network is not None}
    if not networks:
        raise ValueError("b, v, s and eta are all missing: give at least one network")
    for name, network in networks.items():
        check_callable(network, name)
    if interpolant.noise == "zero" and not interpolant.one_sided and networks.keys() & {"s", "eta"}:
        raise ValueError("s and eta are not defined on a path without noise")
    flag(antithetic, "antithetic")
    generator = torch_generator(generator, x0.device)
    t = LEAST_TIME + (1 - 2 * LEAST_TIME) * torch.rand(len(x0), generator=generator, dtype=torch.float64, device=x0.device)
    z = x0 if interpolant.one_sided else torch.randn(x0.shape, generator=generator, dtype=x0.dtype, device=x0.device)
    velocity, steepness, gamma = interpolant.dt(x0, x1, t), interpolant.gamma_dot(t), interpolant.gamma(t)
    losses: dict[str, torch.Tensor] = {}
    signs = (1.0, -1.0) if antithetic else (1.0,)
    for sign in signs:
        noise = sign * z
        x = interpolant.sample(x0 if not interpolant.one_sided else noise, x1, t, noise)
        targets = {"b": velocity + _times(steepness, noise), "v": velocity, "s": -_times(1 / gamma, noise), "eta": noise}
        for name, network in networks.items():
            said = network(x, t.to(x.dtype))
            if said.shape != x.shape:
                raise ValueError(f"{name} must return the shape of its input, {tuple(x.shape)}, got {tuple(said.shape)}")
            loss = (0.5 * said**2 - targets[name] * said).flatten(1).sum(1)
            losses[name] = losses.get(name, 0) + loss / len(signs)
    return losses


@dataclass(frozen=True)
class VelocityFromParts:
    """The velocity ``b = v - gamma gamma' s`` of two networks.

    Examples
    --------
    >>> b = VelocityFromParts(lambda x, t: x, lambda x, t: 0 * x, Interpolant())
    >>> b(torch.ones(1, 2), torch.tensor([0.3]))
    tensor([[1., 1.]])
    """

    v: Network
    s: Network
    interpolant: Interpolant

    def __post_init__(self):
        check_callable(self.v, "v")
        check_callable(self.s, "s")
        check_interpolant(self.interpolant)

    def __call__(self, x: torch.Tensor, t: float | torch.Tensor) -> torch.Tensor:
        return self.v(x, t) - _times(self.interpolant.gg_dot(t), self.s(x, t))


@dataclass(frozen=True)
class ScoreFromDenoiser:
    """The score ``s = -eta / gamma`` of a denoiser; infinite where gamma is zero, so samplers should keep away from the ends (their t_eps).

    Examples
    --------
    >>> s = ScoreFromDenoiser(lambda x, t: x, Interpolant())
    >>> s(torch.ones(1, 2), torch.tensor([0.5]))
    tensor([[-2., -2.]])
    """

    eta: Network
    interpolant: Interpolant

    def __post_init__(self):
        check_callable(self.eta, "eta")
        check_interpolant(self.interpolant)

    def __call__(self, x: torch.Tensor, t: float | torch.Tensor) -> torch.Tensor:
        return -_times(1 / self.interpolant.gamma(t), self.eta(x, t))


def check_interpolant(value: object) -> None:
    """Refuse what is no interpolant."""
    if not isinstance(value, Interpolant):
        raise TypeError(f"interpolant must be an Interpolant, got {type(value).__name__}")


def _time(t: float | torch.Tensor) -> torch.Tensor:
    """Times in double precision, where 1 - 2 t and roots of t (1 - t) lose nothing."""
    return torch.as_tensor(t, dtype=torch.float64)


def _times(factor: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return per_sample(factor.to(x), x) * x


def _check_ends(function: Function, name: str, first: float, last: float) -> None:
    ends = function(torch.tensor([0.0, 1.0], dtype=torch.float64))
    if not torch.allclose(ends, ends.new_tensor([first, last]), atol=BOUNDARY_TOLERANCE, rtol=0):
        raise ValueError(f"{name} must be {first:g} at time 0 and {last:g} at time 1, got {ends.tolist()}")
