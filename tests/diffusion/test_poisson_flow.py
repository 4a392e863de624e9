"""The kernel of PFGM++ against its densities and limits, the exact field against electrostatics, samples against the masses of the data."""

import math
from functools import partial

import numpy as np
import pytest
import scipy.stats
import torch
from specimens import Specimen

from ritz.diffusion import (
    EDMDenoiser,
    EmpiricalDenoiser,
    PoissonFlow,
    pfgmpp_field,
    pfgmpp_loss,
    pfgmpp_sample,
)

DOUBLE = torch.float64


def _normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def _field(flow: PoissonFlow, data: torch.Tensor):
    return partial(_at, EmpiricalDenoiser(data), flow)


def _at(data, flow, x, sigma):
    return pfgmpp_field(data, x, sigma, flow)


SPECIMENS = {
    "PoissonFlow": Specimen(PoissonFlow, lambda: {"D": 64.0, "data_dim": 3}, accepts={"D": ["inf"]}),
    "PoissonFlow.perturb": Specimen(
        lambda x0, sigma, clip: PoissonFlow(64, 3).perturb(x0, sigma, 0, clip=clip),
        lambda: {"x0": _normal(4, 3), "sigma": 0.5, "clip": 1e-3},
        spare=frozenset({"x0"}),
    ),
    "PoissonFlow.prior": Specimen(lambda n, sigma_max: PoissonFlow(64, 3).prior(n, sigma_max, 0), lambda: {"n": 4, "sigma_max": 80.0}),
    "PoissonFlow.radius_log_prob": Specimen(
        lambda R, sigma: PoissonFlow(64, 3).radius_log_prob(R, sigma), lambda: {"R": torch.ones(4), "sigma": 0.5}, spare=frozenset({"R"})
    ),
    "pfgmpp_loss": Specimen(
        lambda x0, **options: pfgmpp_loss(EDMDenoiser(lambda x, time: x), x0, PoissonFlow(64, 3), generator=0, **options),
        lambda: {"x0": _normal(4, 3), "P_mean": -1.2, "P_std": 1.2, "sigma_data": 0.5},
        spare=frozenset({"x0"}),
    ),
    "pfgmpp_field": Specimen(
        lambda data, x, sigma: pfgmpp_field(data, x, sigma, PoissonFlow(64, 3)),
        lambda: {"data": _normal(5, 3), "x": _normal(4, 3), "sigma": 0.5},
        spare=frozenset({"x"}),
    ),
    "pfgmpp_sample": Specimen(
        lambda **options: pfgmpp_sample(lambda x, sigma: 0 * x, PoissonFlow(64, 3), (2, 3), generator=0, **options),
        lambda: {
            "steps": 3,
            "sigma_min": 0.002,
            "sigma_max": 80.0,
            "rho": 7.0,
            "churn": 0.0,
            "churn_min": 0.0,
            "churn_max": 50.0,
            "churn_noise": 1.0,
            "noise_alpha": 0.0,
        },
        accepts={"churn_max": ["none"]},
    ),
}


@pytest.mark.parametrize("D", [3.0, 8.0, 128.0])
def test_radii_and_directions(D):
    N, sigma, count = 5, 0.7, 200_000
    flow = PoissonFlow(D, N)
    x = flow.perturb(torch.zeros(count, N, dtype=DOUBLE), sigma, 0)
    squared = x.square().sum(1)
    r2 = flow.r_from_sigma(sigma) ** 2
    assert r2 == pytest.approx(sigma**2 * D)
    if D > 4:  # a finite variance of R^2 to judge its mean by
        assert squared.mean() == pytest.approx(r2 * N / (D - 2), rel=0.01)
    assert scipy.stats.kstest((squared / (squared + r2))[:50_000], scipy.stats.beta(N / 2, D / 2).cdf).pvalue > 0.01
    assert (x / x.norm(dim=1, keepdim=True)).mean(0).norm() < 4 / math.sqrt(count)


def test_the_kernel_is_a_student_density_and_the_radius_has_its_law():
    flow = PoissonFlow(6.5, 2)
    x, x0 = _normal(5, 2), _normal(5, 2, seed=1)
    expected = [
        scipy.stats.multivariate_t(center.numpy(), 0.4**2 * np.eye(2), df=6.5).logpdf(point.numpy()) for point, center in zip(x, x0, strict=True)
    ]
    np.testing.assert_allclose(flow.log_kernel(x, x0, 0.4), expected, atol=1e-10)
    R = torch.linspace(1e-4, 60, 400_001, dtype=DOUBLE)
    assert float(torch.trapezoid(flow.radius_log_prob(R, 0.4).exp(), R)) == pytest.approx(1, abs=1e-6)
    gaussian = PoissonFlow(math.inf, 3)
    np.testing.assert_allclose(gaussian.radius_log_prob(R[1:1000], 0.4), scipy.stats.chi(3, scale=0.4).logpdf(R[1:1000]), atol=1e-9)


def test_infinitely_many_dimensions_are_gaussian_and_very_many_nearly():
    many, gaussian = PoissonFlow(1e8, 2), PoissonFlow(math.inf, 2)
    data, x = _normal(30, 2), _normal(40, 2, seed=1)
    for sigma in (0.05, 0.5, 5.0):
        assert (pfgmpp_field(data, x, sigma, many) - pfgmpp_field(data, x, sigma, gaussian)).abs().max() < 1e-5
        torch.testing.assert_close(pfgmpp_field(data, x, sigma, gaussian), EmpiricalDenoiser(data)(x, sigma))
        np.testing.assert_allclose(many.log_kernel(x, 0 * x, sigma), gaussian.log_kernel(x, 0 * x, sigma), rtol=1e-4, atol=1e-4)
    radii = [flow.prior(100_000, 2.0, seed).norm(dim=1) for seed, flow in enumerate((many, gaussian))]
    assert scipy.stats.ks_2samp(*radii).statistic < 0.01
    torch.testing.assert_close(many.perturb(x, 0.3, 5), gaussian.perturb(x, 0.3, 5), atol=1e-3, rtol=0)
    samples = [pfgmpp_sample(_field(flow, data.float()), flow, (500, 2), generator=3).x for flow in (many, gaussian)]
    assert ((samples[0] - samples[1]).norm(dim=1) < 0.05).float().mean() > 0.99


def test_one_further_dimension_is_electrostatics():
    """dx / dr is the ratio of the components of the field of charges in N + 1 dimensions."""
    data, x, flow = _normal(20, 3), _normal(10, 3, seed=1), PoissonFlow(1.0, 3)
    for r in (0.3, 2.0):
        offsets = torch.cat([x[:, None] - data, torch.full((10, 20, 1), r, dtype=DOUBLE)], dim=2)
        E = (offsets / offsets.norm(dim=2, keepdim=True) ** 4).sum(1)
        slope = (x - pfgmpp_field(data, x, r, flow)) / r
        torch.testing.assert_close(slope, E[:, :3] / E[:, 3:], atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("D", [1.0, 2.0, 8.0, 64.0, math.inf])
def test_masses_are_transported(D):
    """Field lines carry each point's charge: three tenths of the samples end at the first point."""
    data = torch.tensor([[0.0, 0.0]] * 3 + [[1.0, 0.0]] * 7)
    flow = PoissonFlow(D, 2)
    x = pfgmpp_sample(_field(flow, data), flow, (20_000, 2), steps=64, sigma_max=80.0, generator=0).x
    ends = torch.cdist(x, torch.tensor([[0.0, 0.0], [1.0, 0.0]])).min(1)
    assert (ends.values < 0.05).float().mean() > 0.98
    assert (ends.indices == 0).float().mean() == pytest.approx(0.3, abs=0.02)


def test_the_augmented_field_has_no_sources_outside_the_data():
    """Its flux through a sphere that holds no data is zero; in D = 1 the field is E = sum of offsets / distance^(N + 1)."""
    data = _normal(10, 2)
    directions = _normal(400_000, 3, seed=2)
    directions = directions / directions.norm(dim=1, keepdim=True)
    center = torch.tensor([4.0, 4.0, 1.5], dtype=DOUBLE)
    points = center + 1.2 * directions
    outward = torch.zeros(len(points), dtype=DOUBLE)
    magnitude = torch.zeros(len(points), dtype=DOUBLE)
    for y in data:
        offsets = points - torch.cat([y, y.new_zeros(1)])
        E = offsets / offsets.norm(dim=1, keepdim=True) ** 3
        outward += (E * directions).sum(1)
        magnitude += E.norm(dim=1)
    # the slope of our flow is that field: check it on the sphere, where r > 0
    above = points[:, 2] > 0.2
    x, r = points[above][:1000, :2], points[above][:1000, 2]
    offsets = torch.cat([x[:, None] - data, r[:, None, None].expand(-1, 10, 1)], dim=2)
    E = (offsets / offsets.norm(dim=2, keepdim=True) ** 3).sum(1)
    torch.testing.assert_close((x - pfgmpp_field(data, x, r, PoissonFlow(1.0, 2))) / r[:, None], E[:, :2] / E[:, 2:], atol=1e-9, rtol=1e-9)
    assert abs(outward.mean()) < 5e-3 * magnitude.mean()


def test_the_minimizer_of_the_loss_is_the_posterior_mean():
    """At one level, the mean of the data that led to an x in a small cell is the exact field there."""
    data, flow, sigma = torch.tensor([[-1.0], [0.5], [1.0]], dtype=DOUBLE), PoissonFlow(4.0, 1), 0.8
    generator = torch.Generator().manual_seed(0)
    chosen = data[torch.randint(3, (2_000_000,), generator=generator)]
    x = flow.perturb(chosen, sigma, generator)
    edges = torch.linspace(-2, 2, 41, dtype=DOUBLE)
    cell = torch.bucketize(x[:, 0].contiguous(), edges)
    inside = (cell > 0) & (cell < 41)
    sums = torch.zeros(42, dtype=DOUBLE).index_add(0, cell[inside], chosen[inside, 0])
    table = sums / torch.bincount(cell[inside], minlength=42)
    centers = 0.5 * (edges[1:] + edges[:-1])
    torch.testing.assert_close(table[1:41], pfgmpp_field(data, centers[:, None], sigma, flow)[:, 0], atol=0.02, rtol=0)


def test_the_loss_is_that_of_diffusion_models_for_infinite_d():
    x0 = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    denoiser = EDMDenoiser(lambda x, time: x * time[:, None])
    expected = denoiser.loss(x0, torch.Generator().manual_seed(1))
    losses = pfgmpp_loss(denoiser, x0, PoissonFlow(math.inf, 3), generator=1)
    assert losses.shape == (64,)
    assert float(losses.mean()) == pytest.approx(float(expected), rel=1e-6)
    exact = partial(_at, EmpiricalDenoiser(x0), PoissonFlow(8.0, 3))
    worse = pfgmpp_loss(lambda x, sigma: exact(x, sigma) + 0.05, x0, PoissonFlow(8.0, 3), generator=1).mean()
    assert pfgmpp_loss(exact, x0, PoissonFlow(8.0, 3), generator=1).mean() < worse


def test_the_prior_is_the_perturbation_of_zero():
    flow = PoissonFlow(16.0, 4)
    torch.testing.assert_close(flow.prior(7, 80.0, 3), flow.perturb(torch.zeros(7, 4), 80.0, 3))


def test_the_field_moves_with_the_data():
    data, x, flow = _normal(20, 3), _normal(10, 3, seed=1), PoissonFlow(8.0, 3)
    Q = torch.linalg.qr(_normal(3, 3, seed=2))[0]
    shift = torch.tensor([3.0, -1.0, 0.5], dtype=DOUBLE)
    moved = pfgmpp_field(data @ Q.T + shift, x @ Q.T + shift, 0.4, flow)
    torch.testing.assert_close(moved, pfgmpp_field(data, x, 0.4, flow) @ Q.T + shift, atol=1e-10, rtol=0)


@pytest.mark.parametrize("sigma", [0.002, 80.0])
def test_image_sized_data_neither_over_nor_underflows(sigma):
    flow = PoissonFlow(2048, 3072)
    data = 0.5 * _normal(20, 3072)
    x = flow.perturb(data, sigma, 0)
    found = pfgmpp_field(data, x, sigma, flow)
    assert torch.isfinite(found).all()
    assert torch.isfinite(flow.log_kernel(x, data, sigma)).all()
    if sigma < 1:
        torch.testing.assert_close(found, data)


def test_levels_per_sample_and_chunks_change_nothing(monkeypatch):
    data, x, flow = _normal(20, 2), _normal(9, 2, seed=1), PoissonFlow(8.0, 2)
    sigma = torch.linspace(0.1, 2.0, 9, dtype=DOUBLE)
    together = pfgmpp_field(data, x, sigma, flow)
    torch.testing.assert_close(together[4:5], pfgmpp_field(data, x[4:5], float(sigma[4]), flow))
    monkeypatch.setattr("ritz.diffusion.poisson_flow.CHUNK_NUMBERS", 40)
    torch.testing.assert_close(pfgmpp_field(data, x, sigma, flow), together)


def test_clipping_bounds_the_radius():
    flow, sigma = PoissonFlow(1.0, 2), 0.5
    x = flow.perturb(torch.zeros(100_000, 2, dtype=DOUBLE), sigma, 0, clip=1e-3)
    share = x.square().sum(1) / (x.square().sum(1) + flow.r_from_sigma(sigma) ** 2)
    assert share.min() >= 1e-3 * (1 - 1e-9)
    assert share.max() <= (1 - 1e-3) * (1 + 1e-9)
    assert flow.perturb(torch.zeros(100_000, 2, dtype=DOUBLE), sigma, 0).norm(dim=1).max() > x.norm(dim=1).max()


def test_sampling_is_reproducible_and_disturbed_samples_differ():
    data, flow = _normal(5, 2).float(), PoissonFlow(8.0, 2)
    denoiser = _field(flow, data)
    first, again = (pfgmpp_sample(denoiser, flow, (50, 2), generator=4) for _ in range(2))
    assert torch.equal(first.x, again.x)
    assert first.nfe == 35
    disturbed = pfgmpp_sample(denoiser, flow, (50, 2), noise_alpha=0.4, generator=4)
    assert disturbed.nfe == 35
    assert not torch.equal(first.x, disturbed.x)


def test_what_is_refused():
    with pytest.raises(ValueError, match="D"):
        PoissonFlow(0.0, 2)
    flow = PoissonFlow(8.0, 2)
    with pytest.raises(ValueError, match="data_dim = 2"):
        flow.perturb(torch.zeros(3, 3), 0.5)
    with pytest.raises(ValueError, match="sigma"):
        flow.perturb(torch.zeros(3, 2), 0.0)
    with pytest.raises(ValueError, match="sigma must be positive for every sample"):
        flow.perturb(torch.zeros(2, 2), torch.tensor([0.5, -1.0]))
    with pytest.raises(ValueError, match="data_dim = 2"):
        pfgmpp_sample(lambda x, sigma: x, flow, (4, 3))
    with pytest.raises(TypeError, match="flow"):
        pfgmpp_field(torch.zeros(3, 2), torch.zeros(1, 2), 0.5, 8.0)
