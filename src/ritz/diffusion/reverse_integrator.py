"""Samplers that start each sample of a batch at a noise level of its own: the grid of Karras et al., from that level down.

Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models", NeurIPS 2022, arXiv:2206.00364, eq. 5 (the grid); used for states
of a Markov chain, each at its own level, by Kim and Ye, "Denoising MCMC for Accelerating Diffusion-Based Generative Models", ICML 2023,
arXiv:2209.14593.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from ritz.core import array, integer, positive, to_numpy
from ritz.diffusion.denoisers import Denoiser, check_callable
from ritz.diffusion.exponential_integrator import check_start
from ritz.diffusion.samples import Samples
from ritz.diffusion.sde import heun_sample

_EXPONENT = 7.0


@dataclass(frozen=True)
class ReverseIntegrator:
    """Denoise a batch whose samples have noise levels of their own, with one of the room's samplers.

    The levels of a sample run from its own to `sigma_min`, evenly spaced in ``sigma^(1/7)``, and end in a step to zero.

    Parameters
    ----------
    sampler : callable
        ``sampler(denoiser, x, sigmas, generator=generator) -> Samples`` with sigmas (nodes, batch): `heun_sample`, `ancestral_sample`,
        `euler_maruyama_sample` or `dpm_solver_pp_sample`, with options by `functools.partial`.
    nodes : int
        Number of levels, the zero at the end included: ``nodes - 1`` steps, which cost Heun's method ``2 (nodes - 1) - 1`` calls.
    sigma_min : float
        The last level above zero.
    tweedie : float, optional
        A level at which the denoiser is called once more on the result, as a last correction; the authors take 1e-2 or 1e-3. None for no such call.

    Raises
    ------
    TypeError, ValueError
        For a bad argument, and on a call if a level is not above `sigma_min`.

    Examples
    --------
    >>> from ritz.diffusion import GaussianMixtureDenoiser
    >>> denoiser = GaussianMixtureDenoiser([1.0], [[1.0, -1.0]], [1e-6])
    >>> ReverseIntegrator(nodes=5)(denoiser, torch.full((2, 2), 3.0), torch.tensor([0.5, 2.0])).round(decimals=2)
    tensor([[ 1., -1.],
            [ 1., -1.]])
    """

    sampler: Callable[..., Samples] = heun_sample
    nodes: int = 20
    sigma_min: float = 0.01
    tweedie: float | None = None

    def __post_init__(self):
        check_callable(self.sampler, "sampler")
        integer(self.nodes, "nodes", at_least=2)
        positive(self.sigma_min, "sigma_min")
        if self.tweedie is not None:
            positive(self.tweedie, "tweedie")

    def __call__(
        self, denoiser: Denoiser, x: torch.Tensor, sigma_start: torch.Tensor, generator: torch.Generator | int | None = None
    ) -> torch.Tensor:
        """Return clean samples (batch, *shape) from states x at levels sigma_start (batch,)."""
        check_callable(denoiser, "denoiser")
        x, sigma_start = check_start(x, "x"), array(sigma_start, "sigma_start", ndim=1)
        if len(sigma_start) != len(x):
            raise ValueError(f"sigma_start must have a level for each of the {len(x)} samples of x, got {len(sigma_start)}")
        clean = self.sampler(denoiser, x, self.levels(sigma_start), generator=generator).x
        return clean if self.tweedie is None else denoiser(clean, clean.new_full((len(clean),), self.tweedie))

    def levels(self, sigma_start) -> np.ndarray:
        """Return the levels (nodes, batch), float64, of samples that start at sigma_start (batch,)."""
        start = np.asarray(to_numpy(sigma_start), dtype=np.float64)
        if not (start > self.sigma_min).all():
            raise ValueError(f"sigma_start must be above sigma_min, {self.sigma_min:g}, got {start.min():g}")
        part = np.linspace(0, 1, self.nodes - 1)[:, None]
        first, last = start ** (1 / _EXPONENT), self.sigma_min ** (1 / _EXPONENT)
        falling = (first + part * (last - first)) ** _EXPONENT
        return np.concatenate([falling, np.zeros_like(start)[None]])
