"""Weighted particles: averages, effective sample size and resampling, all from logarithms of weights.

Resampling schemes as in Douc and Cappé, "Comparison of resampling schemes for particle filtering", ISPA 2005, arXiv:cs/0507025: every scheme draws
particle i on average n W_i times; the systematic one, from a single uniform number, draws it floor(n W_i) or ceil(n W_i) times.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from ritz.core import Result, array, choice, torch_generator
from ritz.diffusion.denoisers import check_callable, per_sample
from ritz.diffusion.exponential_integrator import check_start

Scheme = Literal["systematic", "stratified", "multinomial"]
SCHEMES: tuple[Scheme, ...] = ("systematic", "stratified", "multinomial")


@dataclass(frozen=True, eq=False, repr=False)
class WeightedParticles(Result):
    """Particles with logarithms of their weights, which need not be normalized.

    Parameters
    ----------
    x : Tensor (n, *shape)
        The particles.
    log_weights : Tensor (n,)
        Logarithms of the weights, up to a common constant; -inf is a particle of weight zero.

    Raises
    ------
    TypeError, ValueError
        If x is not finite, or log_weights do not fit it, hold NaN or +inf, or are all -inf.

    Examples
    --------
    >>> particles = WeightedParticles(torch.tensor([[0.0], [1.0]]), torch.tensor([0.0, 0.0]).log_softmax(0))
    >>> particles.ess(), particles.mean()
    (2.0, tensor([0.5000]))
    """

    x: torch.Tensor
    log_weights: torch.Tensor

    def __post_init__(self):
        check_start(self.x, "x")
        check_log_weights(self.log_weights)
        if len(self.log_weights) != len(self.x):
            raise ValueError(f"log_weights must have one entry per particle of x, {len(self.x)}, got {len(self.log_weights)}")

    @property
    def weights(self) -> torch.Tensor:
        """The weights (n,), with sum 1."""
        return torch.softmax(self.log_weights, dim=0)

    def ess(self) -> float:
        """Effective sample size ``1 / sum W_i^2``: n for equal weights, 1 if one particle has all."""
        return effective_sample_size(self.log_weights)

    def mean(self, function: Callable[[torch.Tensor], torch.Tensor] | None = None) -> torch.Tensor:
        """Weighted average of the particles, or of ``function(x)`` (n, *any).

        Raises
        ------
        TypeError
            If function cannot be called.
        """
        values = self.values(function)
        return (per_sample(self.weights.to(values.dtype), values) * values).sum(0)

    def values(self, function: Callable[[torch.Tensor], torch.Tensor] | None = None) -> torch.Tensor:
        """``function(x)`` (n, *any), or the particles themselves.

        Raises
        ------
        TypeError
            If function cannot be called.
        """
        if function is None:
            return self.x
        check_callable(function, "function")
        return function(self.x)

    def resample(self, scheme: Scheme = "systematic", *, generator: torch.Generator | int | None = None) -> WeightedParticles:
        """Draw n particles by their weights, with replacement; the drawn ones have equal weights.

        Parameters
        ----------
        scheme : {"systematic", "stratified", "multinomial"}
            One uniform number for all draws, one per stratum, or independent ones: all unbiased, with falling variance from last to first.
        generator : torch.Generator, int or None
            Where the uniform numbers come from.

        Raises
        ------
        TypeError, ValueError
            For an unknown scheme.
        """
        ancestors = resampled_indices(self.log_weights, choice(scheme, "scheme", SCHEMES), torch_generator(generator, self.log_weights.device))
        return WeightedParticles(self.x[ancestors], torch.zeros_like(self.log_weights))


def check_log_weights(log_weights: object) -> None:
    """Refuse what are no logarithms of weights."""
    if not isinstance(log_weights, torch.Tensor) or not log_weights.is_floating_point():
        raise TypeError(f"log_weights must be a floating-point tensor (n,), got {type(log_weights).__name__}")
    if log_weights.ndim != 1:
        raise ValueError(f"log_weights must have shape (n,), got {tuple(log_weights.shape)}")
    alive = log_weights[log_weights != float("-inf")]
    if not len(alive):
        raise ValueError("log_weights must not all be -inf, nor empty")
    array(alive, "log_weights")


def effective_sample_size(log_weights: torch.Tensor) -> float:
    """``(sum w)^2 / sum w^2`` from logarithms of weights (n,)."""
    return float(torch.exp(2 * torch.logsumexp(log_weights, 0) - torch.logsumexp(2 * log_weights, 0)))


def resampled_indices(log_weights: torch.Tensor, scheme: Scheme, generator: torch.Generator) -> torch.Tensor:
    """Indices (n,) of the drawn particles, rising: where uniform numbers fall among the cumulative weights."""
    n, options = len(log_weights), {"generator": generator, "dtype": torch.float64, "device": log_weights.device}
    cumulative = torch.softmax(log_weights.double(), dim=0).cumsum(0)
    cumulative[-1] = 1.0  # rounding must not leave a gap at the end
    if scheme == "systematic":
        # Point j is (j + u) / n, so particle i lies at or before the points from ceil(n C_i - u) on: counting is faster than searching.
        first = torch.ceil(n * cumulative - torch.rand(1, **options)).long().clamp(0, n)
        return torch.bincount(first, minlength=n + 1)[:n].cumsum(0)
    if scheme == "multinomial":
        points = torch.rand(n, **options).sort().values
    else:
        points = (torch.arange(n, dtype=torch.float64, device=log_weights.device) + torch.rand(n, **options)) / n
    return torch.searchsorted(cumulative, points, right=True).clamp(max=n - 1)
