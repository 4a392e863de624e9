"""Feynman-Kac correctors: weighing and resampling against the same SDE alone, and resampling a large population."""

import torch

from ritz.diffusion import GaussianMixtureDenoiser, VPLinear, anneal, euler_maruyama_sample, timesteps
from ritz.diffusion.particles import resampled_indices
from ritz.studies.timing import Comparison, benchmark, compare

MEANS = torch.tensor([[2.0, 2.0], [2.0, -2.0], [-2.0, 2.0], [-2.0, -2.0]], dtype=torch.float64)
LIMIT = 5e-3


@benchmark
def weighing() -> Comparison:
    mixture, schedule = GaussianMixtureDenoiser([0.1, 0.2, 0.3, 0.4], MEANS, [0.05, 0.2, 0.4, 0.1]), VPLinear()
    starts = schedule.rho(1.0) / 3**0.5 * torch.randn(4000, 2, generator=torch.Generator().manual_seed(0))
    levels = schedule.rho(timesteps(schedule, 500, "uniform"))
    return compare(
        "annealing, 500 steps, 4,000 particles, resampled every step",
        lambda: anneal(mixture, 3.0, starts, schedule, steps=500, generator=0),
        lambda: euler_maruyama_sample(mixture, starts, levels, generator=0),
        peer_name="the SDE without weights",
        target=0.5,
        pairs=5,
    )


@benchmark
def resampling() -> list[Comparison]:
    """Systematic resampling of 1e5 particles: sorting out by counting, against a search for every particle; it is to take 5 ms at most."""
    log_weights, generator = torch.randn(100_000, generator=torch.Generator().manual_seed(0)), torch.Generator().manual_seed(1)

    def searched() -> torch.Tensor:
        cumulative = torch.softmax(log_weights.double(), 0).cumsum(0)
        points = (torch.arange(100_000, dtype=torch.float64) + torch.rand(1, generator=generator, dtype=torch.float64)) / 100_000
        return torch.searchsorted(cumulative, points)

    measured = compare(
        "systematic resampling, 1e5 particles",
        lambda: resampled_indices(log_weights, "systematic", generator),
        searched,
        peer_name="torch.searchsorted",
        pairs=9,
    )
    limit = Comparison(
        "systematic resampling, 1e5 particles, in 5 ms",
        "limit of 0.005 s",
        LIMIT / measured.seconds,
        measured.seconds,
        LIMIT,
        9,
        measured.threads,
        1.0,
    )
    return [measured, limit]
