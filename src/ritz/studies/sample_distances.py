"""How far samples are from those they should be like: distances between two sets of points, each in all coordinates at once.

All take samples x (n, *shape) and y (m, *shape), flattened to points, and return a float. Energy distance and MMD are unbiased: between two samples
of one distribution they scatter around zero, and are at times negative; `noise_floor` says how far. Sources: Szekely and Rizzo, J. Stat. Plan.
Inference 143, 2013 (energy distance); Gretton et al., JMLR 13, 2012 (MMD); Bonneel et al., J. Math. Imaging Vis. 51, 2015 (sliced Wasserstein).
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from ritz.diffusion import GaussianMixtureDenoiser

Distance = Callable[[torch.Tensor, torch.Tensor], float]


def energy_distance(x: torch.Tensor, y: torch.Tensor) -> float:
    """``2 E|x - y| - E|x - x'| - E|y - y'|`` with x', y' independent copies, unbiased; in units of the data, zero for equal distributions.

    Examples
    --------
    >>> energy_distance(torch.tensor([[0.0], [2.0]]), torch.tensor([[0.0], [2.0]]))
    -2.0
    """
    x, y = _points(x, y)
    return float(2 * torch.cdist(x, y).mean() - _mean_of_pairs(torch.cdist(x, x)) - _mean_of_pairs(torch.cdist(y, y)))


def squared_mmd(x: torch.Tensor, y: torch.Tensor, *, bandwidth: float | None = None) -> float:
    """Squared maximum mean discrepancy, unbiased, with the kernel ``exp(-|x - y|^2 / (2 bandwidth^2))``; by default the median distance within y.

    Examples
    --------
    >>> round(squared_mmd(torch.zeros(2, 1), torch.full((2, 1), 100.0), bandwidth=1.0), 6)
    2.0
    """
    x, y = _points(x, y)
    bandwidth = float(torch.pdist(y).median()) if bandwidth is None else bandwidth

    def kernel(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.exp(-0.5 * (torch.cdist(a, b) / bandwidth) ** 2)

    return float(_mean_of_pairs(kernel(x, x)) + _mean_of_pairs(kernel(y, y)) - 2 * kernel(x, y).mean())


def sliced_wasserstein(x: torch.Tensor, y: torch.Tensor, *, directions: int = 128, generator: torch.Generator | int = 0) -> float:
    """Root mean square, over random directions, of the 2-Wasserstein distance between the samples projected on the direction.

    Examples
    --------
    >>> sliced_wasserstein(torch.zeros(3, 1), torch.full((2, 1), 4.0))
    4.0
    """
    x, y = _points(x, y)
    generator = generator if isinstance(generator, torch.Generator) else torch.Generator().manual_seed(generator)
    axes = torch.randn(x.shape[1], directions, generator=generator, dtype=x.dtype).to(x.device)
    axes = axes / axes.norm(dim=0)
    levels = torch.cat([torch.arange(1, len(points) + 1, dtype=torch.float64) / len(points) for points in (x, y)]).sort().values
    widths = torch.diff(levels, prepend=levels.new_zeros(1))
    middles = levels - 0.5 * widths
    quantiles = [(points @ axes).sort(dim=0).values[(middles * len(points)).long().clamp(max=len(points) - 1)] for points in (x, y)]
    return float((widths.to(x) @ (quantiles[0] - quantiles[1]) ** 2).mean().sqrt())


def mode_mass_error(x: torch.Tensor, mixture: GaussianMixtureDenoiser) -> float:
    """Total variation between the mixture's weights and the masses that the samples (n, d) give its components, in [0, 1].

    A sample counts for each component with its posterior probability, so overlapping components cause no bias.

    Examples
    --------
    >>> mode_mass_error(torch.tensor([[-1.0], [-1.0]]), GaussianMixtureDenoiser([0.5, 0.5], [[-1.0], [1.0]], [1e-4, 1e-4]))
    0.5
    """
    masses = mixture.responsibilities(x, 0.0).mean(0)
    return float(0.5 * (masses - mixture.weights.to(masses)).abs().sum())


def noise_floor(distance: Distance, reference: torch.Tensor, *, repeats: int = 10, generator: torch.Generator | int = 0) -> float:
    """Root mean square of the distance between two halves of true samples (n, *shape), split at random `repeats` times.

    A distance below it cannot be told from zero with half as many samples as the reference has.

    Examples
    --------
    >>> noise_floor(energy_distance, torch.zeros(8, 2))
    0.0
    """
    generator = generator if isinstance(generator, torch.Generator) else torch.Generator().manual_seed(generator)
    halves = (reference[torch.randperm(len(reference), generator=generator)].tensor_split(2) for _ in range(repeats))
    return float(torch.tensor([distance(*pair) for pair in halves], dtype=torch.float64).square().mean().sqrt())


def _points(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both as (n, d) in double precision; differences of nearly equal means need it."""
    if x.shape[1:] != y.shape[1:] or min(len(x), len(y)) < 2 or x.ndim < 2:
        raise ValueError(f"x and y must be two samples or more (n, *shape) of one shape, got {tuple(x.shape)} and {tuple(y.shape)}")
    return x.flatten(1).double(), y.flatten(1).double()


def _mean_of_pairs(values: torch.Tensor) -> torch.Tensor:
    """Mean over the entries off the diagonal."""
    return (values.sum() - values.diagonal().sum()) / (len(values) * (len(values) - 1))
