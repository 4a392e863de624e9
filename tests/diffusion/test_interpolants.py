"""Paths of stochastic interpolants, their factors and ends, and the losses."""

import math

import pytest
import torch
from diffusion.interpolant_cases import BUMP, DOUBLE, ONE_SIDED, SQUARES, TWO_SIDED, case_name, normal, zero
from specimens import Specimen

from ritz.diffusion import (
    GaussianMixtureInterpolant,
    Interpolant,
    InterpolantNoise,
    InterpolantPath,
    ScoreFromDenoiser,
    VelocityFromParts,
    interpolant_flow,
    interpolant_losses,
    interpolant_sde,
)

SPECIMENS = {
    "Interpolant": Specimen(Interpolant, lambda: {"path": "linear", "gamma": "brownian", "a": 1.0}, accepts={"gamma": ["none"]}),
    "InterpolantPath": Specimen(
        InterpolantPath,
        lambda: {"alpha": SQUARES.alpha, "beta": SQUARES.beta, "d_alpha": SQUARES.d_alpha, "d_beta": SQUARES.d_beta},
    ),
    "InterpolantNoise": Specimen(InterpolantNoise, lambda: {"gamma": BUMP.gamma, "gg_dot": BUMP.gg_dot}),
    "interpolant_losses": Specimen(
        lambda antithetic: interpolant_losses(Interpolant(), normal(3, 2), normal(3, 2), b=zero, antithetic=antithetic, generator=0),
        lambda: {"antithetic": True},
    ),
    "VelocityFromParts": Specimen(lambda: VelocityFromParts(zero, zero, Interpolant()), dict),
    "ScoreFromDenoiser": Specimen(lambda: ScoreFromDenoiser(zero, Interpolant()), dict),
}


@pytest.mark.parametrize(("path", "gamma"), [*TWO_SIDED, *ONE_SIDED], ids=case_name)
def test_factors_have_their_derivatives_and_ends(path, gamma):
    interpolant = Interpolant(path, gamma)
    t = torch.linspace(0.02, 0.98, 25, dtype=DOUBLE)
    t = t[(t - 0.5).abs() > 1e-3]
    h = 1e-6
    for value, slope in zip((interpolant.alpha, interpolant.beta), interpolant.slopes(t)):
        torch.testing.assert_close((value(t + h) - value(t - h)) / (2 * h), slope, atol=1e-7, rtol=1e-7)
    difference = (interpolant.gamma(t + h) - interpolant.gamma(t - h)) / (2 * h)
    torch.testing.assert_close(interpolant.gamma(t) * difference, interpolant.gg_dot(t), atol=1e-7, rtol=1e-7)
    x0, x1, z = normal(3, 2), normal(3, 2, seed=1), normal(3, 2, seed=2)
    torch.testing.assert_close(interpolant.sample(x0, x1, 0.0, z), x0, atol=1e-9, rtol=0)
    torch.testing.assert_close(interpolant.sample(x0, x1, 1.0, z), x1, atol=1e-9, rtol=0)


def test_brownian_noise_is_scaled_and_its_product_is_finite_at_the_ends():
    interpolant = Interpolant(a=2.0)
    assert interpolant.gamma(0.5).item() == pytest.approx(math.sqrt(0.5))
    assert interpolant.gg_dot(torch.tensor([0.0, 1.0])).tolist() == [1.0, -1.0]


def test_the_least_losses_are_those_of_the_exact_functions():
    """Gaussian ends make all four linear in x at a given time: least squares on samples finds them."""
    interpolant = Interpolant()
    mixture = GaussianMixtureInterpolant([1.0], [[1.0]], [0.5], [1.0], [[-2.0]], [1.5], interpolant)
    generator = torch.Generator().manual_seed(0)
    x0, x1 = mixture.sample(100_000, 0, generator), mixture.sample(100_000, 1, generator)
    exact = {name: getattr(mixture, name) for name in ("b", "v", "s", "eta")}
    least = {name: float(loss.mean()) for name, loss in interpolant_losses(interpolant, x0, x1, **exact, generator=1).items()}
    for name in exact:
        for change in (0.1, -0.1):
            other = exact | {name: lambda x, t, name=name, change=change: exact[name](x, t) * (1 + change)}
            assert float(interpolant_losses(interpolant, x0, x1, **other, generator=1)[name].mean()) > least[name]
    t, z = torch.tensor(0.4, dtype=DOUBLE), torch.randn(100_000, 1, generator=generator, dtype=DOUBLE)
    x = torch.cat([interpolant.sample(x0, x1, t, sign * z) for sign in (1, -1)])
    velocity, noise = interpolant.dt(x0, x1, t).repeat(2, 1), torch.cat([z, -z])
    targets = {"b": velocity + interpolant.gamma_dot(t) * noise, "v": velocity, "s": -noise / interpolant.gamma(t), "eta": noise}
    features = torch.cat([x, torch.ones_like(x)], dim=1)
    grid = torch.linspace(-3, 3, 7, dtype=DOUBLE)[:, None]
    for name, target in targets.items():
        line = torch.linalg.lstsq(features, target).solution
        found = grid * line[0] + line[1]
        torch.testing.assert_close(found, exact[name](grid, float(t)), atol=0.03, rtol=0.01)


def test_antithetic_noise_tames_the_losses_near_the_ends():
    """The spread of the velocity's loss at t = 0.001 falls to a fiftieth and less."""
    interpolant, x0, x1, z = Interpolant(), normal(50_000, 1), normal(50_000, 1, seed=1), normal(50_000, 1, seed=2)
    t = torch.tensor(1e-3, dtype=DOUBLE)

    def b(x):
        return torch.tanh(x)

    def loss(sign: float) -> torch.Tensor:
        said = b(interpolant.sample(x0, x1, t, sign * z))
        return 0.5 * said**2 - (interpolant.dt(x0, x1, t) + interpolant.gamma_dot(t) * sign * z) * said

    assert (0.5 * (loss(1.0) + loss(-1.0))).var() < loss(1.0).var() / 50


def test_one_sided_lines_are_flow_matching():
    interpolant = Interpolant("one_sided_linear")
    x0, x1, t = normal(5, 2), normal(5, 2, seed=1), torch.linspace(0.1, 0.9, 5, dtype=DOUBLE)
    torch.testing.assert_close(interpolant.sample(x0, x1, t), (1 - t[:, None]) * x0 + t[:, None] * x1)
    seen = {}

    def b(x, t):
        seen["x"], seen["t"] = x, t
        return torch.ones_like(x)

    losses = interpolant_losses(interpolant, x0, x1, b=b, antithetic=False, generator=0)
    torch.testing.assert_close(seen["x"], (1 - seen["t"][:, None]) * x0 + seen["t"][:, None] * x1)
    torch.testing.assert_close(losses["b"], (0.5 - (x1 - x0)).sum(1))


def test_what_is_refused():
    with pytest.raises(ValueError, match="alpha must be 1 at time 0"):
        InterpolantPath(lambda t: t, lambda t: t, lambda t: t, lambda t: t)
    with pytest.raises(ValueError, match="gamma must be 0 at time 0"):
        InterpolantNoise(lambda t: t, lambda t: t)
    with pytest.raises(ValueError, match="gamma must be 'zero' for the one-sided path"):
        Interpolant("one_sided_trig", "brownian")
    with pytest.raises(ValueError, match="below 1"):
        Interpolant("trig", "brownian", a=4.0)
    with pytest.raises(ValueError, match="x1 must have the shape of x0"):
        interpolant_losses(Interpolant(), torch.zeros(3, 2), torch.zeros(3, 1), b=zero)
    with pytest.raises(ValueError, match="at least one network"):
        interpolant_losses(Interpolant(), torch.zeros(3, 2), torch.zeros(3, 2))
    with pytest.raises(ValueError, match="not defined on a path without noise"):
        interpolant_losses(Interpolant("linear", "zero"), torch.zeros(3, 2), torch.zeros(3, 2), s=zero)
    with pytest.raises(ValueError, match="epsilon"):
        interpolant_sde(zero, zero, torch.zeros(3, 2), epsilon=-1.0)
    with pytest.raises(TypeError, match="s must be callable"):
        interpolant_sde(zero, None, torch.zeros(3, 2))
    with pytest.raises(ValueError, match="log_prob is there for reverse=True only"):
        interpolant_sde(zero, zero, torch.zeros(3, 2), log_prob=True)
    with pytest.raises(ValueError, match="one standard normal component"):
        GaussianMixtureInterpolant([1.0], [[1.0]], [1.0], [1.0], [[0.0]], [1.0], Interpolant("one_sided_linear"))
    with pytest.raises(ValueError, match="not finite at t"):
        interpolant_flow(lambda x, t: x / 0, torch.ones(1, 2))
