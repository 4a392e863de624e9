"""Weighted particles: unbiased resampling, averages against sums by hand, weights of zero."""

import math

import pytest
import torch
from specimens import Specimen

from ritz.diffusion import WeightedParticles

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(20, 3, generator=GENERATOR, dtype=torch.float64)
LOG_WEIGHTS = 2 * torch.randn(20, generator=GENERATOR, dtype=torch.float64)
PARTICLES = WeightedParticles(X, LOG_WEIGHTS)


def test_averages_and_effective_size_are_the_sums_by_hand():
    w = LOG_WEIGHTS.exp() / LOG_WEIGHTS.exp().sum()
    assert torch.allclose(PARTICLES.mean(), w @ X)
    assert torch.allclose(PARTICLES.mean(lambda x: x.square().sum(1)), (w * X.square().sum(1)).sum())
    assert PARTICLES.ess() == pytest.approx(1 / float(w.square().sum()))


def test_a_common_constant_changes_nothing_however_large():
    shifted = WeightedParticles(X, LOG_WEIGHTS - 5000.0)
    assert torch.allclose(shifted.mean(), PARTICLES.mean())
    assert shifted.ess() == pytest.approx(PARTICLES.ess())
    assert torch.equal(shifted.resample(generator=0).x, PARTICLES.resample(generator=0).x)


@pytest.mark.parametrize("scheme", ["systematic", "stratified", "multinomial"])
def test_resampling_is_unbiased(scheme):
    labels = WeightedParticles(torch.arange(20.0)[:, None], LOG_WEIGHTS)
    runs, generator, counts = 4000, torch.Generator().manual_seed(1), []
    for _ in range(runs):
        drawn = labels.resample(scheme, generator=generator).x[:, 0].long()
        counts.append(torch.bincount(drawn, minlength=20).double())
    counts, expected = torch.stack(counts), 20 * labels.weights
    error = (counts.mean(0) - expected).abs() / (counts.std(0) / math.sqrt(runs) + 1e-3)
    assert float(error.max()) < 4
    if scheme == "systematic":
        assert bool(((counts >= expected.floor()) & (counts <= expected.ceil())).all())


@pytest.mark.parametrize("scheme", ["systematic", "stratified", "multinomial"])
def test_particles_of_weight_zero_are_never_drawn(scheme):
    log_weights = torch.zeros(6, dtype=torch.float64)
    log_weights[[0, 3, 5]] = -math.inf
    particles = WeightedParticles(torch.arange(6.0)[:, None], log_weights)
    for seed in range(50):
        drawn = particles.resample(scheme, generator=seed)
        assert set(drawn.x[:, 0].tolist()) <= {1.0, 2.0, 4.0}
        assert drawn.ess() == pytest.approx(6)
    assert particles.ess() == pytest.approx(3)
    assert particles.mean() == pytest.approx(7 / 3)


def test_equal_weights_are_resampled_to_themselves():
    even = WeightedParticles(X, torch.full((20,), 7.0, dtype=torch.float64))
    assert torch.equal(even.resample(generator=0).x, X)


def test_the_seed_decides():
    assert torch.equal(PARTICLES.resample(generator=3).x, PARTICLES.resample(generator=3).x)


@pytest.mark.parametrize(
    ("x", "log_weights", "name"),
    [
        (X, torch.zeros(19), "log_weights must have one entry"),
        (X, torch.zeros(20, 1), "log_weights"),
        (X, torch.full((20,), -math.inf), "log_weights"),
        (X, torch.full((20,), math.nan), "log_weights"),
        (X, torch.full((20,), math.inf), "log_weights"),
        (X[:, 0], torch.zeros(20), "x must have shape"),
    ],
)
def test_refusals(x, log_weights, name):
    with pytest.raises(ValueError, match=name):
        WeightedParticles(x, log_weights)


def test_what_cannot_be_averaged_is_refused():
    with pytest.raises(TypeError, match="function"):
        PARTICLES.mean(3)


SPECIMENS = {
    "WeightedParticles": Specimen(
        WeightedParticles, lambda: {"x": X.clone(), "log_weights": LOG_WEIGHTS.clone()}, accepts={"x": ("more dimensions",)}
    ),
    "WeightedParticles.resample": Specimen(PARTICLES.resample, lambda: {"scheme": "stratified", "generator": 0}, accepts={"generator": ("none",)}),
}
