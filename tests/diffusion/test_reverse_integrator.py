"""Each sample from a level of its own: the grid, and a batch against its samples one by one."""

from functools import partial

import numpy as np
import pytest
import torch
from specimens import Specimen

from ritz.diffusion import (
    GaussianMixtureDenoiser,
    ReverseIntegrator,
    ancestral_sample,
    dpm_solver_pp_sample,
    euler_maruyama_sample,
    heun_sample,
)

MIXTURE = GaussianMixtureDenoiser([0.3, 0.7], [[1.0, -0.5], [-1.0, 0.8]], [0.2, 0.4])
QUIET = [heun_sample, partial(ancestral_sample, eta=0.0), partial(euler_maruyama_sample, zeta=0.0), dpm_solver_pp_sample]
NOISY = [*QUIET, ancestral_sample, euler_maruyama_sample, partial(heun_sample, churn=80.0, churn_min=0.05, churn_max=1.0, churn_noise=1.007)]


def _states(n: int) -> torch.Tensor:
    return 2 * torch.randn(n, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


SPECIMENS = {
    "ReverseIntegrator": Specimen(ReverseIntegrator, lambda: {"nodes": 3, "sigma_min": 0.01, "tweedie": 0.01}, accepts={"tweedie": ("none",)}),
    "ReverseIntegrator.__call__": Specimen(
        lambda x, sigma_start: ReverseIntegrator(nodes=3)(MIXTURE, x, sigma_start),
        lambda: {"x": _states(3), "sigma_start": np.array([0.5, 1.0, 2.0])},
    ),
}


def test_levels_are_even_in_the_seventh_root_and_end_at_zero():
    levels = ReverseIntegrator(nodes=6, sigma_min=0.02).levels(torch.tensor([0.5, 3.0], dtype=torch.float64))
    assert levels.shape == (6, 2)
    np.testing.assert_allclose(levels[[0, -2, -1]], [[0.5, 3.0], [0.02, 0.02], [0.0, 0.0]], rtol=1e-12)
    np.testing.assert_allclose(np.diff(levels[:-1] ** (1 / 7), n=2, axis=0), 0, atol=1e-12)


@pytest.mark.parametrize("sampler", NOISY)
def test_equal_levels_are_the_sampler_on_a_shared_grid(sampler):
    x, integrate = _states(4), ReverseIntegrator(sampler, nodes=8)
    ours = integrate(MIXTURE, x, torch.full((4,), 3.0, dtype=torch.float64), 0)
    shared = integrate.levels(torch.tensor([3.0], dtype=torch.float64))[:, 0]
    torch.testing.assert_close(ours, sampler(MIXTURE, x, shared, generator=0).x, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("sampler", QUIET)
def test_a_batch_equals_separate_runs(sampler):
    x, sigma, integrate = _states(4), torch.tensor([0.02, 0.3, 1.0, 40.0], dtype=torch.float64), ReverseIntegrator(sampler, nodes=8)
    alone = torch.cat([integrate(MIXTURE, x[i : i + 1], sigma[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(integrate(MIXTURE, x, sigma), alone, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("options", "calls"), [({"nodes": 2}, 1), ({"nodes": 4}, 5), ({"nodes": 4, "tweedie": 0.01}, 6)])
def test_heuns_calls(options, calls):
    seen = []

    def denoiser(x, sigma):
        seen.append(sigma)
        return MIXTURE(x, sigma)

    ReverseIntegrator(**options)(denoiser, _states(2), torch.tensor([1.0, 2.0]))
    assert len(seen) == calls
    assert all(sigma.shape == (2,) for sigma in seen)


def test_levels_below_the_last_are_refused():
    with pytest.raises(ValueError, match="sigma_start must be above sigma_min"):
        ReverseIntegrator()(MIXTURE, _states(2), torch.tensor([1.0, 0.01]))
