"""Networks as denoisers: whatever a network was trained to predict, samplers see ``D(x, sigma)``, its estimate of the clean data.

The denoiser of the whole room is a callable ``D(x, sigma) -> x0``: x (batch, *shape) is data plus noise of standard deviation sigma (the frame
y = x_t / alpha_t of `ritz.diffusion.schedules`), sigma a float or a tensor (batch,). From it follow the noise ``(x - D) / sigma`` and the score
``(D - x) / sigma^2``. Sources of the parameterizations: Salimans and Ho, ICLR 2022, arXiv:2202.00512 (velocity); Karras et al., NeurIPS 2022,
arXiv:2206.00364, table 1 (preconditioning); Ho and Salimans, arXiv:2207.12598 (classifier-free guidance); Dhariwal and Nichol, NeurIPS 2021,
arXiv:2105.05233 (classifier guidance); Saharia et al., NeurIPS 2022, arXiv:2205.11487, section 2.3 (dynamic thresholding).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from ritz.core import choice, positive, real
from ritz.diffusion.schedules import Discrete, NoiseSchedule, check_schedule

Denoiser = Callable[[torch.Tensor, float | torch.Tensor], torch.Tensor]
Prediction = Literal["noise", "data", "velocity", "score", "flow"]
PREDICTIONS: tuple[Prediction, ...] = ("noise", "data", "velocity", "score", "flow")
TimeInput = Literal["t", "1000t", "timestep", "c_noise", "1000sigma"]


def per_sample(value: float | torch.Tensor, x: torch.Tensor) -> float | torch.Tensor:
    """Shape a value per sample (batch,) so that it multiplies x (batch, *shape); a float stays as it is."""
    return value.reshape(-1, *(1,) * (x.ndim - 1)) if isinstance(value, torch.Tensor) and value.ndim else value


def data_prediction(output: torch.Tensor, x: torch.Tensor, alpha, sigma, prediction: Prediction) -> torch.Tensor:
    """Turn what a network says at ``x = alpha x_0 + sigma n`` into its estimate of x_0.

    "noise": n; "data": x_0; "velocity": alpha n - sigma x_0; "score": -n / sigma; "flow": n - x_0, the time derivative of (1 - t) x_0 + t n.
    """
    if prediction == "noise":
        return (x - sigma * output) / alpha
    if prediction == "data":
        return output
    if prediction == "velocity":
        return (alpha * x - sigma * output) / (alpha**2 + sigma**2)
    if prediction == "score":
        return (x + sigma**2 * output) / alpha
    return (x - sigma * output) / (alpha + sigma)


def noise_prediction(output: torch.Tensor, x: torch.Tensor, alpha, sigma, prediction: Prediction) -> torch.Tensor:
    """Turn what a network says at ``x = alpha x_0 + sigma n`` into its estimate of n; see `data_prediction`."""
    if prediction == "noise":
        return output
    if prediction == "velocity":
        return (sigma * x + alpha * output) / (alpha**2 + sigma**2)
    if prediction == "score":
        return -sigma * output
    if prediction == "data":
        return (x - alpha * output) / sigma
    return (x + alpha * output) / (alpha + sigma)


@dataclass(frozen=True)
class NetworkDenoiser:
    """The denoiser of a network ``network(x_t, time)`` trained under a noise schedule.

    Parameters
    ----------
    network : callable
        Takes x_t (batch, *shape) and times (batch,), returns what it predicts, of x_t's shape.
    schedule : NoiseSchedule
        The schedule it was trained under.
    prediction : {"noise", "data", "velocity", "score", "flow"}
        What it predicts: n, x_0, alpha n - sigma x_0, -n / sigma or n - x_0 for x_t = alpha x_0 + sigma n.
    time_input : {"t", "1000t", "timestep", "c_noise", "1000sigma"}
        What it is told about the time: t, 1000 t, the index N t - 1 of one of N training steps (N = 1000 unless the schedule is `Discrete`),
        log(rho) / 4, or 1000 sigma(t), the convention of flow-matching networks in `diffusers`.

    Raises
    ------
    TypeError, ValueError
        For a bad argument, and on a call whose sigma is neither a float nor of shape (batch,).

    Examples
    --------
    >>> from ritz.diffusion import VPLinear
    >>> denoiser = NetworkDenoiser(lambda x, time: 0 * x, VPLinear())     # a network that sees no noise
    >>> denoiser(torch.ones(1, 2), 0.5)
    tensor([[1., 1.]])
    """

    network: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    schedule: NoiseSchedule
    prediction: Prediction = "noise"
    time_input: TimeInput = "t"

    def __post_init__(self):
        check_callable(self.network, "network")
        check_schedule(self.schedule)
        choice(self.prediction, "prediction", PREDICTIONS)
        choice(self.time_input, "time_input", _TIME_INPUTS)

    def __call__(self, x: torch.Tensor, sigma: float | torch.Tensor) -> torch.Tensor:
        check_level(x, sigma)
        log = torch.log if isinstance(sigma, torch.Tensor) else math.log
        t = self.schedule.inverse_lam(-log(sigma))
        alpha, noise = (per_sample(value, x) for value in (self.schedule.alpha(t), self.schedule.sigma(t)))
        time = _TIME_INPUTS[self.time_input](self.schedule, t)
        time = time.to(x.dtype) if isinstance(time, torch.Tensor) else torch.full((len(x),), time, dtype=x.dtype, device=x.device)
        return data_prediction(self.network(alpha * x, time), alpha * x, alpha, noise, self.prediction)


def _timestep(schedule: NoiseSchedule, t):
    steps = schedule.steps if isinstance(schedule, Discrete) else 1000
    return steps * t - 1


_TIME_INPUTS: dict[str, Callable] = {
    "t": lambda schedule, t: t,
    "1000t": lambda schedule, t: 1000 * t,
    "timestep": _timestep,
    "c_noise": lambda schedule, t: -schedule.lam(t) / 4,
    "1000sigma": lambda schedule, t: 1000 * schedule.sigma(t),
}


@dataclass(frozen=True)
class EDMDenoiser:
    """The preconditioned denoiser ``D(x, s) = c_skip x + c_out network(c_in x, log(s) / 4)`` of Karras et al., for data of deviation `sigma_data`.

    ``c_skip = d^2 / (s^2 + d^2)``, ``c_out = s d / sqrt(s^2 + d^2)``, ``c_in = 1 / sqrt(s^2 + d^2)`` with d = sigma_data: the network sees and
    predicts signals of unit variance at every noise level s.

    Raises
    ------
    TypeError, ValueError
        For a bad argument, and on a call whose sigma is neither a float nor of shape (batch,).

    Examples
    --------
    >>> denoiser = EDMDenoiser(lambda x, time: 0 * x)
    >>> denoiser(torch.ones(1, 2), 0.5)
    tensor([[0.5000, 0.5000]])
    """

    network: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    sigma_data: float = 0.5

    def __post_init__(self):
        check_callable(self.network, "network")
        positive(self.sigma_data, "sigma_data")

    def __call__(self, x: torch.Tensor, sigma: float | torch.Tensor) -> torch.Tensor:
        check_level(x, sigma)
        sigma = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).expand(len(x))
        level = per_sample(sigma, x)
        total = level**2 + self.sigma_data**2
        output = self.network(x / total.sqrt(), sigma.log() / 4)
        return self.sigma_data**2 / total * x + level * self.sigma_data / total.sqrt() * output

    def loss(self, x0: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """Return the training loss on clean data x0 (batch, *shape): log sigma ~ N(-1.2, 1.2^2), squared errors weighted by 1 / c_out^2.

        Raises
        ------
        ValueError
            If x0 has no batch of data.
        """
        if x0.ndim < 2 or not len(x0):
            raise ValueError(f"x0 must have shape (batch, *shape), got {tuple(x0.shape)}")

        def perturb(x0: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
            return x0 + per_sample(sigma, x0) * torch.randn(x0.shape, generator=generator, dtype=x0.dtype, device=x0.device)

        return denoising_losses(self, x0, perturb, sigma_data=self.sigma_data, generator=generator).mean()


def denoising_losses(
    denoiser: Denoiser,
    x0: torch.Tensor,
    perturb: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    *,
    P_mean: float = -1.2,
    P_std: float = 1.2,
    sigma_data: float = 0.5,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """The mean squared errors (batch,) of a denoiser at levels log sigma ~ N(P_mean, P_std^2), weighted by (sigma^2 + d^2) / (sigma d)^2."""
    sigma = torch.exp(P_mean + P_std * torch.randn(len(x0), generator=generator, dtype=x0.dtype, device=x0.device))
    weight = (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2
    return weight * (denoiser(perturb(x0, sigma), sigma) - x0).square().flatten(1).mean(1)


@dataclass(frozen=True)
class ClassifierFreeGuidance:
    """The denoiser ``D_u + scale (D_c - D_u)`` of a conditional and an unconditional one (scale 1: conditional, above: sharpened).

    Raises
    ------
    TypeError, ValueError
        For a bad argument.

    Examples
    --------
    >>> guided = ClassifierFreeGuidance(lambda x, sigma: x, lambda x, sigma: 0 * x, 3.0)
    >>> guided(torch.ones(1, 2), 0.5)
    tensor([[3., 3.]])
    """

    conditional: Denoiser
    unconditional: Denoiser
    scale: float

    def __post_init__(self):
        check_callable(self.conditional, "conditional")
        check_callable(self.unconditional, "unconditional")
        real(self.scale, "scale")

    def __call__(self, x: torch.Tensor, sigma: float | torch.Tensor) -> torch.Tensor:
        return torch.lerp(self.unconditional(x, sigma), self.conditional(x, sigma), self.scale)


@dataclass(frozen=True)
class ClassifierGuidance:
    """The denoiser ``D + scale sigma^2 grad_x log p(c | x, sigma)``.

    Parameters
    ----------
    denoiser : callable
        The unguided denoiser D(x, sigma).
    log_probability : callable
        ``log_probability(x, sigma)`` (batch,): the logarithm of the wanted class's probability at noise level sigma.
    scale : float
        1 is Bayes' rule.

    Raises
    ------
    TypeError, ValueError
        For a bad argument.

    Examples
    --------
    >>> guided = ClassifierGuidance(lambda x, sigma: x, lambda x, sigma: x.sum(1), scale=2.0)
    >>> guided(torch.zeros(1, 2), 0.5)
    tensor([[0.5000, 0.5000]])
    """

    denoiser: Denoiser
    log_probability: Denoiser
    scale: float = 1.0

    def __post_init__(self):
        check_callable(self.denoiser, "denoiser")
        check_callable(self.log_probability, "log_probability")
        real(self.scale, "scale")

    def __call__(self, x: torch.Tensor, sigma: float | torch.Tensor) -> torch.Tensor:
        gradient = torch.func.grad(lambda x: self.log_probability(x, sigma).sum())(x)
        return self.denoiser(x, sigma) + self.scale * per_sample(sigma, x) ** 2 * gradient


@dataclass(frozen=True)
class DynamicThresholding:
    """A denoiser whose output is clamped to its own `quantile` of absolute values, sample by sample, and divided down to [-limit, limit].

    Raises
    ------
    TypeError, ValueError
        For a bad argument.

    Examples
    --------
    >>> clamped = DynamicThresholding(lambda x, sigma: x, quantile=1.0)
    >>> clamped(torch.tensor([[4.0, 2.0], [0.5, 0.25]]), 0.1)
    tensor([[1.0000, 0.5000],
            [0.5000, 0.2500]])
    """

    denoiser: Denoiser
    quantile: float = 0.995
    limit: float = 1.0

    def __post_init__(self):
        check_callable(self.denoiser, "denoiser")
        real(self.quantile, "quantile", above=0, at_most=1)
        positive(self.limit, "limit")

    def __call__(self, x: torch.Tensor, sigma: float | torch.Tensor) -> torch.Tensor:
        data = self.denoiser(x, sigma)
        threshold = torch.quantile(data.abs().flatten(1), self.quantile, dim=1).clamp(min=self.limit)
        threshold = per_sample(threshold, data)
        return data.clamp(-threshold, threshold) * (self.limit / threshold)


def check_callable(value: object, name: str) -> None:
    """Refuse what cannot be called."""
    if not callable(value):
        raise TypeError(f"{name} must be callable, got {type(value).__name__}")


def check_level(x: torch.Tensor, sigma: float | torch.Tensor) -> None:
    """Refuse a noise level that is neither a number nor one per sample."""
    if isinstance(sigma, torch.Tensor) and sigma.ndim and tuple(sigma.shape) != (len(x),):
        raise ValueError(f"sigma must be a number or have shape ({len(x)},), one per sample of x, got {tuple(sigma.shape)}")
