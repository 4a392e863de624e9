"""How noisy is this sample? The posterior of the noise level given a noised sample, exact for mixtures, learned by a classifier for all else.

With the prior p(sigma) proportional to 1 / sigma, which is uniform on levels spaced evenly in their logarithm, the posterior of level j at x is
``softmax_j log p_sigma_j(x)``: what a classifier of levels learns from data noised at levels drawn uniformly.

Kim and Ye, "Denoising MCMC for Accelerating Diffusion-Based Generative Models", ICML 2023, arXiv:2209.14593, section 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ritz.core import Result, array, integer, positive, progress, real, torch_generator
from ritz.diffusion.analytic import GaussianMixtureDenoiser
from ritz.diffusion.denoisers import per_sample
from ritz.diffusion.exponential_integrator import check_start


def noise_level_grid(levels: int = 1000, sigma_min: float = 0.01, sigma_max: float = 50.0) -> torch.Tensor:
    """Return the levels (levels,), float64, that noise posteriors tell apart: falling, even in the logarithm, from sigma_max to just above sigma_min.

    Level j is ``sigma_min (sigma_max / sigma_min)^t_j`` with t_j from 1 to 0.001, as the authors have it.

    Raises
    ------
    TypeError, ValueError
        For a bad argument.

    Examples
    --------
    >>> noise_level_grid(3, 0.1, 10.0).round(decimals=3)
    tensor([10.0000,  1.0020,  0.1000], dtype=torch.float64)
    """
    levels = integer(levels, "levels", at_least=2)
    sigma_min = positive(sigma_min, "sigma_min")
    sigma_max = real(sigma_max, "sigma_max", above=sigma_min)
    return sigma_min * (sigma_max / sigma_min) ** torch.linspace(1, 1e-3, levels, dtype=torch.float64)


class AnalyticNoisePosterior:
    """The exact noise posterior of a Gaussian mixture: logits ``log p_sigma_j(x)`` (batch, levels) of x (batch, d).

    Parameters
    ----------
    mixture : GaussianMixtureDenoiser
        The clean data.
    sigmas : Tensor (levels,)
        The levels, positive; `noise_level_grid`.

    Raises
    ------
    TypeError, ValueError
        For a bad argument, and on a call if x does not fit the mixture.

    Examples
    --------
    >>> mixture = GaussianMixtureDenoiser([1.0], [[0.0, 0.0]], [0.01])
    >>> posterior = AnalyticNoisePosterior(mixture, [10.0, 1.0, 0.1])
    >>> posterior(torch.tensor([[9.0, 9.0], [0.1, -0.1]])).argmax(dim=1)
    tensor([0, 2])
    """

    def __init__(self, mixture: GaussianMixtureDenoiser, sigmas):
        if not isinstance(mixture, GaussianMixtureDenoiser):
            raise TypeError(f"mixture must be a GaussianMixtureDenoiser, got {type(mixture).__name__}")
        self.mixture = mixture
        self.sigmas = torch.as_tensor(array(sigmas, "sigmas", ndim=1))
        if not bool((self.sigmas > 0).all()):
            raise ValueError("sigmas must be positive")

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self.mixture.log_prob_at(x, self.sigmas)


class NoiseClassifier(nn.Module):
    """A small network that tells noise levels apart: logits (batch, levels) of samples (batch, *shape).

    Images (channels, height, width) pass through four 3 x 3 convolutions of `width` to 8 `width` channels, each halved by averaging, and flat
    samples (d,) through a perceptron of two layers of 8 `width`. It is told nothing about the level, and costs about a hundredth of a usual denoiser.

    Parameters
    ----------
    shape : sequence of int
        Of a sample: (d,) or (channels, height, width), height and width of at least 16.
    levels : int
        Number of levels.
    sigma_min, sigma_max : float
        Range of `noise_level_grid`; `sigmas` holds the grid.
    width : int
        Channels of the first layer.

    Raises
    ------
    TypeError, ValueError
        For a bad argument, and on a call if samples have another shape.

    Notes
    -----
    Inputs pass through asinh, which leaves data as it is and takes the logarithm of large noise, so that one network serves levels from 0.01 to 50.

    Examples
    --------
    >>> NoiseClassifier((3, 32, 32), levels=100, width=4)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 100])
    """

    def __init__(self, shape: Sequence[int], levels: int = 1000, sigma_min: float = 0.01, sigma_max: float = 50.0, width: int = 32):
        super().__init__()
        self.register_buffer("sigmas", noise_level_grid(levels, sigma_min, sigma_max))
        self.shape = tuple(integer(size, "shape", at_least=1) for size in (shape if isinstance(shape, Sequence) else (shape,)))
        width = integer(width, "width", at_least=1)
        if len(self.shape) == 1:
            layers = [nn.Linear(self.shape[0], 8 * width), nn.SiLU(), nn.Linear(8 * width, 8 * width), nn.SiLU()]
            features = 8 * width
        elif len(self.shape) == 3 and min(self.shape[1:]) >= 16:
            channels = [self.shape[0], width, 2 * width, 4 * width, 8 * width]
            layers = [part for into, out in pairwise(channels) for part in (nn.Conv2d(into, out, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2))]
            layers.append(nn.Flatten())
            features = channels[-1] * (self.shape[1] // 16) * (self.shape[2] // 16)
        else:
            raise ValueError(f"shape must be (d,) or (channels, height, width) of at least 16 x 16 pixels, got {self.shape}")
        self.layers = nn.Sequential(*layers, nn.Linear(features, levels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        if tuple(x.shape[1:]) != self.shape:
            raise ValueError(f"x must have shape (batch, {', '.join(map(str, self.shape))}), got {tuple(x.shape)}")
        return self.layers(torch.asinh(x))


@dataclass(frozen=True, eq=False, repr=False)
class NoiseClassifierTraining(Result):
    """What `train_noise_classifier` returns: the trained `classifier`, and the cross-entropies `losses` (steps,) on the way."""

    classifier: NoiseClassifier
    losses: np.ndarray


def train_noise_classifier(
    data: torch.Tensor,
    levels: int = 1000,
    *,
    sigma_min: float = 0.01,
    sigma_max: float = 50.0,
    width: int = 32,
    steps: int = 10_000,
    batch_size: int = 100,
    lr: float = 1e-3,
    generator: torch.Generator | int | None = None,
) -> NoiseClassifierTraining:
    """Train a classifier of noise levels on data noised at levels drawn uniformly, by cross-entropy and Adam.

    Parameters
    ----------
    data : Tensor (n, *shape)
        Clean samples, flat or images.
    levels, sigma_min, sigma_max, width
        As for `NoiseClassifier`.
    steps, batch_size, lr
        Of Adam; the rate falls linearly to zero.
    generator : torch.Generator, int or None
        Where initial weights, batches, levels and noise come from.

    Returns
    -------
    NoiseClassifierTraining

    Raises
    ------
    TypeError, ValueError
        For a bad argument.

    Examples
    --------
    >>> train_noise_classifier(torch.randn(40, 2), levels=8, steps=3, generator=0).losses.shape
    (3,)
    """
    data = check_start(data, "data")
    generator = torch_generator(generator, data.device)
    classifier = NoiseClassifier(data.shape[1:], levels, sigma_min, sigma_max, width)
    steps, batch_size = integer(steps, "steps", at_least=1), integer(batch_size, "batch_size", at_least=1)
    lr = positive(lr, "lr")
    classifier = classifier.to(data.device)
    _initialize(classifier, generator)
    classifier.layers.to(data.dtype)
    optimizer = torch.optim.Adam(classifier.parameters(), lr=lr)
    falling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    sigmas, losses = classifier.sigmas.to(data.dtype), []
    for _ in progress(range(steps), "training the noise classifier"):
        x0 = data[torch.randint(len(data), (batch_size,), generator=generator, device=data.device)]
        level = torch.randint(levels, (batch_size,), generator=generator, device=data.device)
        noise = torch.randn(x0.shape, generator=generator, dtype=x0.dtype, device=x0.device)
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(classifier(x0 + per_sample(sigmas[level], x0) * noise), level)
        loss.backward()
        optimizer.step()
        falling.step()
        losses.append(loss.detach())
    return NoiseClassifierTraining(classifier.eval().requires_grad_(False), torch.stack(losses).numpy(force=True))


def _initialize(classifier: NoiseClassifier, generator: torch.Generator) -> None:
    """torch's own initial weights, but drawn from the generator."""
    for layer in classifier.layers:
        if isinstance(layer, nn.Linear | nn.Conv2d):
            bound = layer.weight[0].numel() ** -0.5
            nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
            nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
