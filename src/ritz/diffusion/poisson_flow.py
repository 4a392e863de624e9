"""PFGM++: generative flows along the field of charged data in D further dimensions, from Poisson flows (D = 1) to diffusion models (D infinite).

Xu, Liu, Tian, Tong, Tegmark and Jaakkola, "PFGM++: Unlocking the Potential of Physics-Inspired Generative Models", ICML 2023, arXiv:2302.04265.

Let r be the norm of the D further variables, and r = sigma sqrt(D). Data y is perturbed with density ~ (|x - y|^2 + r^2)^{-(N + D) / 2}, a
multivariate Student distribution with D degrees of freedom and scale sigma, which is Gaussian for D = infinity. The flow along the field is
``dx / dsigma = (x - D(x, sigma)) / sigma`` with the posterior mean D: samplers, preconditioning and weights of diffusion models stay as they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ritz.core import integer, positive, real, torch_generator
from ritz.diffusion.analytic import EmpiricalDenoiser
from ritz.diffusion.denoisers import Denoiser, check_callable, check_level, denoising_losses, per_sample
from ritz.diffusion.samples import Samples
from ritz.diffusion.schedules import EDM, timesteps
from ritz.diffusion.sde import heun_sample

CHUNK_NUMBERS = 4_000_000  # distances between queries and data that are held at once


@dataclass(frozen=True)
class PoissonFlow:
    """The perturbation of PFGM++ with D further dimensions.

    Parameters
    ----------
    D : float
        Number of further dimensions, above 0, whole or not; ``math.inf`` is the Gaussian kernel of diffusion models. The paper recommends 64 to 2048.
    data_dim : int
        Dimension N of one sample.

    Raises
    ------
    TypeError, ValueError
        For a bad argument.

    Notes
    -----
    The radius R = |x - y| has R^2 / (R^2 + r^2) ~ Beta(N / 2, D / 2). As R^2 / r^2 is a quotient of Gamma variables of which that of N / 2 belongs
    to a normal vector, ``x = y + sigma n / sqrt(G / (D / 2))`` with n normal and G ~ Gamma(D / 2): one Gamma draw a sample, and no division by 1 - B.

    Examples
    --------
    >>> flow = PoissonFlow(D=128, data_dim=2)
    >>> flow.perturb(torch.zeros(3, 2), 0.5, torch.Generator().manual_seed(0)).shape
    torch.Size([3, 2])
    """

    D: float
    data_dim: int

    def __post_init__(self):
        if math.inf != self.D:
            real(self.D, "D", above=0)
        integer(self.data_dim, "data_dim", at_least=1)

    @property
    def is_gaussian(self) -> bool:
        """Whether D is infinite."""
        return math.inf == self.D

    def r_from_sigma(self, sigma: float | torch.Tensor) -> float | torch.Tensor:
        """Return r = sigma sqrt(D), the norm of the further variables that matches a noise level."""
        return sigma * math.sqrt(self.D)

    def perturb(
        self, x0: torch.Tensor, sigma: float | torch.Tensor, generator: torch.Generator | int | None = None, *, clip: float = 0.0
    ) -> torch.Tensor:
        """Draw x (batch, *shape) around data x0 at a noise level, a float or a tensor (batch,).

        With `clip`, R^2 / (R^2 + r^2) is kept in [clip, 1 - clip], as in the authors' code, which takes 1e-3.

        Raises
        ------
        TypeError, ValueError
            If samples have not `data_dim` numbers, or sigma is not positive or of another shape.
        """
        self._check(x0, sigma)
        real(clip, "clip", at_least=0, below=0.5)
        generator = torch_generator(generator, x0.device)
        noise = torch.randn(x0.shape, generator=generator, dtype=x0.dtype, device=x0.device)
        return x0 + per_sample(sigma, x0) * (noise if self.is_gaussian else per_sample(self._stretch(noise, clip, generator), x0) * noise)

    def prior(self, n: int, sigma_max: float, generator: torch.Generator | int | None = None, *, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Draw n starting points (n, data_dim): the kernel around 0 at the largest noise level, on the generator's device."""
        generator = torch_generator(generator)
        shape = integer(n, "n", at_least=1), self.data_dim
        return self.perturb(torch.zeros(shape, dtype=dtype, device=generator.device), positive(sigma_max, "sigma_max"), generator)

    def log_kernel(self, x: torch.Tensor, x0: torch.Tensor, sigma: float | torch.Tensor) -> torch.Tensor:
        """Return the logarithm (batch,) of the density of x (batch, *shape) around x0, of the same shape."""
        self._check(x, sigma)
        if x0.shape != x.shape:
            raise ValueError(f"x0 must have the shape of x, {tuple(x.shape)}, got {tuple(x0.shape)}")
        squared, N = (x - x0).double().square().flatten(1).sum(1), self.data_dim
        sigma = torch.as_tensor(sigma, dtype=torch.float64, device=x.device)
        if self.is_gaussian:
            return (-0.5 * squared / sigma**2 - N * (sigma.log() + 0.5 * math.log(2 * math.pi))).to(x.dtype)
        r = self.r_from_sigma(sigma)
        constant = math.lgamma((N + self.D) / 2) - math.lgamma(self.D / 2) - 0.5 * N * math.log(math.pi)
        return (constant - N * r.log() - 0.5 * (N + self.D) * torch.log1p(squared / r**2)).to(x.dtype)

    def radius_log_prob(self, R: torch.Tensor, sigma: float) -> torch.Tensor:
        """Return the logarithm of the density of the radius |x - y| at positive R, of any shape."""
        R, sigma, N = torch.as_tensor(R), positive(sigma, "sigma"), self.data_dim
        if not bool((R > 0).all()):
            raise ValueError("R must be positive")
        log_sphere = math.log(2) + 0.5 * N * math.log(math.pi) - math.lgamma(N / 2)
        radius = R.double().reshape(-1, 1)
        point = torch.cat([radius, radius.new_zeros(len(radius), N - 1)], dim=1)
        return (log_sphere + (N - 1) * R.double().log() + self.log_kernel(point, 0 * point, sigma).reshape(R.shape)).to(R.dtype)

    def _stretch(self, noise: torch.Tensor, clip: float, generator: torch.Generator) -> torch.Tensor:
        """What a normal vector is multiplied by, (batch,), to give a Student one."""
        shape = noise.new_full((len(noise),), self.D / 2, dtype=torch.float64)
        gamma = torch._standard_gamma(shape, generator=generator)
        if not clip:
            return (gamma / (self.D / 2)).rsqrt().to(noise.dtype)
        half_square = 0.5 * noise.double().square().flatten(1).sum(1)
        share = (half_square / (half_square + gamma)).clamp(clip, 1 - clip)
        return (0.5 * self.D * share / (1 - share) / half_square).sqrt().to(noise.dtype)

    def _check(self, x: torch.Tensor, sigma: float | torch.Tensor) -> None:
        if not isinstance(x, torch.Tensor) or not x.is_floating_point():
            raise TypeError(f"x0 must be a floating-point tensor (batch, *shape), got {type(x).__name__}")
        if x.ndim < 2 or x[:1].numel() != self.data_dim:
            raise ValueError(f"x0 must hold samples of data_dim = {self.data_dim} numbers, got shape {tuple(x.shape)}")
        check_level(x, sigma)
        if isinstance(sigma, torch.Tensor):
            if not bool((sigma > 0).all()):
                raise ValueError("sigma must be positive for every sample")
        else:
            positive(sigma, "sigma")


def pfgmpp_loss(
    net: Denoiser,
    x0: torch.Tensor,
    flow: PoissonFlow,
    *,
    P_mean: float = -1.2,
    P_std: float = 1.2,
    sigma_data: float = 0.5,
    generator: torch.Generator | int | None = None,
) -> torch.Tensor:
    """Return the weighted losses (batch,) of a denoiser on clean data, which it minimizes by the posterior mean under the kernel of PFGM++.

    Parameters
    ----------
    net : callable
        ``D(x, sigma)``, usually an `EDMDenoiser` around the network.
    x0 : Tensor (batch, *shape)
        Clean data.
    flow : PoissonFlow
        The perturbation.
    P_mean, P_std : float
        log sigma is normal with this mean and deviation.
    sigma_data : float
        Deviation of the data; squared errors, averaged over coordinates, are weighted by ``(sigma^2 + sigma_data^2) / (sigma sigma_data)^2``.
    generator : torch.Generator, int or None
        Where levels and perturbations come from.

    Raises
    ------
    TypeError, ValueError
        For a bad argument.

    Examples
    --------
    >>> from ritz.diffusion import EDMDenoiser
    >>> pfgmpp_loss(EDMDenoiser(lambda x, time: x), torch.ones(3, 2), PoissonFlow(64, 2), generator=0).shape
    torch.Size([3])
    """
    check_callable(net, "net")
    _check_flow(flow)
    generator = torch_generator(generator, x0.device if isinstance(x0, torch.Tensor) else "cpu")
    flow._check(x0, 1.0)
    options = {"P_mean": real(P_mean, "P_mean"), "P_std": real(P_std, "P_std", at_least=0), "sigma_data": positive(sigma_data, "sigma_data")}
    return denoising_losses(net, x0, lambda x0, sigma: flow.perturb(x0, sigma, generator), generator=generator, **options)


def pfgmpp_field(data, x: torch.Tensor, sigma: float | torch.Tensor, flow: PoissonFlow) -> torch.Tensor:
    """Return the exact posterior mean of a data set, the denoiser ``D(x, sigma)`` whose flow is that of the charged data.

    Data point i weighs ``(|x - y_i|^2 + r^2)^{-(N + D) / 2}``.

    Parameters
    ----------
    data : Tensor (n, *shape) or EmpiricalDenoiser
        The data set; pass the denoiser where the same data is asked again and again.
    x : Tensor (batch, *shape)
        Where the field is wanted.
    sigma : float or Tensor (batch,)
        The noise level.
    flow : PoissonFlow
        The perturbation.

    Returns
    -------
    Tensor (batch, *shape)

    Raises
    ------
    TypeError, ValueError
        For a bad argument.

    Notes
    -----
    Cost of a call: one product of a (batch, N) by an (N, n) matrix, in parts of the batch. Use float64 where sigma is below 1e-3 of the size of the
    data.

    Examples
    --------
    >>> data = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    >>> pfgmpp_field(data, torch.tensor([[0.0], [1.0]], dtype=torch.float64), 0.1, PoissonFlow(64, 1)).round(decimals=3)
    tensor([[0.],
            [1.]], dtype=torch.float64)
    """
    _check_flow(flow)
    empirical = data if isinstance(data, EmpiricalDenoiser) else EmpiricalDenoiser(data)
    flow._check(x, sigma)
    if empirical.shape != tuple(x.shape[1:]):
        raise ValueError(f"data must hold samples of the shape of x, {tuple(x.shape[1:])}, got {empirical.shape}")
    if flow.is_gaussian:
        return empirical(x, sigma)
    rows = max(1, CHUNK_NUMBERS // len(empirical.data))
    levels = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).expand(len(x))
    parts = zip(x.split(rows), levels.split(rows))
    return torch.cat([empirical.average(torch.softmax(_log_weights(empirical, part, level, flow), dim=1)) for part, level in parts])


def _log_weights(empirical: EmpiricalDenoiser, x: torch.Tensor, level: torch.Tensor, flow: PoissonFlow) -> torch.Tensor:
    r = flow.r_from_sigma(level)[:, None]
    return -0.5 * (flow.data_dim + flow.D) * torch.log1p(empirical.squared_distances(x).clamp(min=0) / r**2)


def pfgmpp_sample(
    denoiser: Denoiser,
    flow: PoissonFlow,
    shape: Sequence[int],
    *,
    steps: int = 18,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    rho: float = 7.0,
    churn: float = 0.0,
    churn_min: float = 0.0,
    churn_max: float | None = None,
    churn_noise: float = 1.0,
    noise_alpha: float = 0.0,
    generator: torch.Generator | int | None = None,
) -> Samples:
    """Sample with Heun's method from the prior of PFGM++ down to level zero, on the grid of Karras et al.

    Parameters
    ----------
    denoiser : callable
        ``D(x, sigma)``, trained with `pfgmpp_loss` for this flow.
    flow : PoissonFlow
        The perturbation, which gives the prior.
    shape : sequence of int
        (batch, *shape) of the samples, each of `flow.data_dim` numbers.
    steps : int
        Levels ``(sigma_max^(1/rho) + i / (steps - 1) (sigma_min^(1/rho) - sigma_max^(1/rho)))^rho``, then zero.
    sigma_min, sigma_max, rho : float
        Of that grid.
    churn, churn_min, churn_max, churn_noise : float
        Gaussian noise added before steps, as in `heun_sample`.
    noise_alpha : float
        Disturb the state before each step by noise of deviation noise_alpha sigma, without raising the level: the paper's test of robustness.
    generator : torch.Generator, int or None
        Where prior and noise come from, on whose device samples are made.

    Returns
    -------
    Samples

    Raises
    ------
    TypeError, ValueError
        For a bad argument.

    Examples
    --------
    >>> from functools import partial
    >>> data, flow = torch.tensor([[-1.0, 0.0], [1.0, 0.0]]), PoissonFlow(8, 2)
    >>> x = pfgmpp_sample(lambda x, sigma: pfgmpp_field(data, x, sigma, flow), flow, (100, 2), generator=0).x
    >>> x.abs().mean(0).round(decimals=2)
    tensor([1., 0.])
    """
    _check_flow(flow)
    check_callable(denoiser, "denoiser")
    shape = tuple(integer(size, "shape", at_least=1) for size in shape)
    if math.prod(shape[1:]) != flow.data_dim or len(shape) < 2:
        raise ValueError(f"shape must be (batch, *shape) with samples of data_dim = {flow.data_dim} numbers, got {shape}")
    steps, noise_alpha = integer(steps, "steps", at_least=2), real(noise_alpha, "noise_alpha", at_least=0)
    schedule = EDM(positive(sigma_min, "sigma_min"), real(sigma_max, "sigma_max", above=sigma_min))
    sigmas = np.append(timesteps(schedule, steps - 1, "karras", rho=positive(rho, "rho")), 0.0)
    generator = torch_generator(generator)
    x = flow.prior(shape[0], sigma_max, generator).reshape(shape)
    options = {"churn_min": churn_min, "churn_max": churn_max, "churn_noise": churn_noise, "generator": generator}
    if not noise_alpha:
        return heun_sample(denoiser, x, sigmas, churn=churn, **options)
    nfe = 0
    for i in range(steps):
        x = x + noise_alpha * sigmas[i] * torch.randn(shape, generator=generator, device=x.device)
        done = heun_sample(denoiser, x, sigmas[i : i + 2], churn=real(churn, "churn", at_least=0) / steps, **options)
        x, nfe = done.x, nfe + done.nfe
    return Samples(x, nfe)


def _check_flow(flow: PoissonFlow) -> None:
    if not isinstance(flow, PoissonFlow):
        raise TypeError(f"flow must be a PoissonFlow, got {type(flow).__name__}")
