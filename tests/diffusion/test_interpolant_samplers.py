"""Flows and diffusions of exact interpolants carry densities both ways; likelihoods."""

import math

import pytest
import torch
from diffusion.interpolant_cases import DOUBLE, ONE_SIDED, TWO_SIDED, mixture_between, normal, zero
from specimens import Specimen

from ritz.diffusion import (
    GaussianMixtureInterpolant,
    Interpolant,
    TransportedSamples,
    interpolant_flow,
    interpolant_losses,
    interpolant_sde,
)

SPECIMENS = {
    "TransportedSamples": Specimen(lambda: TransportedSamples(torch.zeros(1, 2), 3), dict),
    "interpolant_flow": Specimen(
        lambda x0, **options: interpolant_flow(zero, x0, **options),
        lambda: {
            "x0": normal(3, 2),
            "steps": 2,
            "rtol": 1e-3,
            "method": "heun",
            "reverse": False,
            "log_prob": False,
            "t_eps": 0.0,
        },
        spare=frozenset({"x0"}),
    ),
    "interpolant_sde": Specimen(
        lambda x0, **options: interpolant_sde(zero, zero, x0, generator=0, **options),
        lambda: {
            "x0": normal(3, 2),
            "epsilon": 0.5,
            "steps": 2,
            "method": "heun",
            "reverse": True,
            "log_prob": False,
            "t_eps": 0.0,
        },
        spare=frozenset({"x0"}),
    ),
}


def _moments(mixture: GaussianMixtureInterpolant, end: int) -> tuple[torch.Tensor, torch.Tensor]:
    weights, means, covariances = mixture._ends[end]
    mean = weights @ means
    centered = means - mean
    return mean, torch.einsum("k,kij->ij", weights, covariances + centered[:, :, None] * centered[:, None, :])


def _assert_law(x: torch.Tensor, mixture: GaussianMixtureInterpolant, end: int, slack: float = 0.0) -> None:
    """Mean and covariance within five standard errors, and what the integrator is allowed."""
    mean, covariance = _moments(mixture, end)
    scale = float(covariance.diagonal().sum())
    assert (x.mean(0) - mean).abs().max() < 5 * math.sqrt(scale / len(x)) + slack
    assert (x.T.cov().reshape(covariance.shape) - covariance).abs().max() < 10 * scale / math.sqrt(len(x)) + slack * scale


@pytest.mark.parametrize(
    ("path", "gamma", "d"),
    [(*pair, 1) for pair in [*TWO_SIDED, *ONE_SIDED]] + [("linear", "brownian", 2), ("trig", "sigmoid", 2), (*ONE_SIDED[1], 2)],
)
def test_the_flow_carries_each_density_to_the_other(path, gamma, d):
    mixture = mixture_between(d, Interpolant(path, gamma))
    steps = 100 if path == "encdec" else 30
    there = interpolant_flow(mixture.b, mixture.sample(4000, 0, 0), steps=steps)
    _assert_law(there.x, mixture, 1, slack=0.01)
    assert there.nfe == 2 * steps
    _assert_law(interpolant_flow(mixture.b, mixture.sample(4000, 1, 1), steps=steps, reverse=True).x, mixture, 0, slack=0.01)


@pytest.mark.parametrize(
    ("path", "gamma", "epsilon"),
    [("linear", "brownian", epsilon) for epsilon in (0.0, 0.5, 1.0, 5.0)]
    + [("trig", "bsquared", 0.5), ("linear", "sinesquared", 1.0), ("one_sided_linear", "zero", 1.0), ("encdec", "sigmoid", 0.5)],
)
def test_diffusions_of_any_strength_do_too(path, gamma, epsilon):
    mixture, steps = mixture_between(1, Interpolant(path, gamma)), 100 + int(30 * epsilon)
    options = {"epsilon": epsilon, "t_eps": 1e-3, "generator": 4}
    for reverse in (False, True):
        moved = interpolant_sde(mixture.b, mixture.s, mixture.sample(2000, int(reverse), 3), steps=steps, reverse=reverse, **options)
        _assert_law(moved.x, mixture, 1 - int(reverse), slack=0.03)
    plain = interpolant_sde(mixture.b, mixture.s, mixture.sample(2000, 0, 3), steps=2 * steps, method="euler", **options)
    _assert_law(plain.x, mixture, 1, slack=0.05)


def test_a_diffusion_that_changes_with_time():
    mixture = mixture_between(2, Interpolant())
    start = mixture.sample(4000, 0, 3)
    moved = interpolant_sde(mixture.b, mixture.s, start, epsilon=lambda t: 4 * t * (1 - t), steps=150, generator=4)
    _assert_law(moved.x, mixture, 1, slack=0.02)


@pytest.mark.parametrize(("path", "gamma"), [("linear", "brownian"), ("one_sided_trig", "zero")])
def test_likelihoods_along_the_flow_are_exact(path, gamma):
    mixture = mixture_between(2, Interpolant(path, gamma))
    x1 = mixture.sample(20, 1, 5)
    for options in ({"method": "rk4", "steps": 80}, {"method": "dopri5", "rtol": 1e-5}):
        back = interpolant_flow(mixture.b, x1, reverse=True, log_prob=True, **options)
        likelihood = mixture.log_prob(back.x, 0.0) - back.log_ratio
        torch.testing.assert_close(likelihood, mixture.log_prob(x1, 1.0), atol=1e-4, rtol=0)


def test_likelihoods_along_the_diffusion_are_right_on_average():
    mixture = mixture_between(1, Interpolant())
    x1 = torch.tensor([[-1.0], [0.5], [2.0]], dtype=DOUBLE)
    many = x1.repeat_interleave(1000, 0)
    back = interpolant_sde(mixture.b, mixture.s, many, epsilon=0.5, steps=200, reverse=True, log_prob=True, generator=0)
    found = (mixture.log_prob(back.x, 0.0) - back.log_ratio).reshape(3, -1)
    expected = mixture.log_prob(x1, 1.0)
    assert ((found.mean(1) - expected).abs() < 4 * found.std(1) / math.sqrt(1000) + 0.03).all()


def test_there_and_back_again():
    mixture, x0 = mixture_between(2, Interpolant("linear", "bsquared")), normal(30, 2)
    there = interpolant_flow(mixture.b, x0, steps=200, method="rk4").x
    assert (there - x0).abs().max() > 0.1
    torch.testing.assert_close(interpolant_flow(mixture.b, there, steps=200, method="rk4", reverse=True).x, x0, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("path", "gamma"), [("linear", "brownian"), ("encdec", "sinesquared"), ("mirror", "brownian")])
def test_equal_densities_keep_their_law(path, gamma):
    parts = [0.4, 0.6], [[-1.0], [2.0]], [0.3, 0.5]
    mixture = GaussianMixtureInterpolant(*parts, *parts, Interpolant(path, gamma))
    moved = interpolant_flow(mixture.b, mixture.sample(4000, 0, 0), steps=100)
    _assert_law(moved.x, mixture, 1, slack=0.01)


def test_same_seed_same_losses_and_samples():
    mixture, x0, x1 = mixture_between(2, Interpolant()), normal(6, 2), normal(6, 2, seed=1)
    losses = [interpolant_losses(Interpolant(), x0, x1, b=mixture.b, generator=seed)["b"] for seed in (3, 3, 4)]
    assert torch.equal(losses[0], losses[1])
    assert not torch.equal(losses[0], losses[2])
    moved = [interpolant_sde(mixture.b, mixture.s, x0, steps=5, generator=seed).x for seed in (3, 3, 4)]
    assert torch.equal(moved[0], moved[1])
    assert not torch.equal(moved[0], moved[2])
