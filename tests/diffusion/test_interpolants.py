"""Stochastic interpolants: the exact mixture against itself, transport in both directions, losses, likelihoods, and what is refused."""

import math

import numpy as np
import pytest
import torch
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
    schrodinger_bridge_interpolant,
)

DOUBLE = torch.float64
SQUARES = InterpolantPath(lambda t: 1 - t**2, lambda t: t**2, lambda t: -2 * t, lambda t: 2 * t)
BUMP = InterpolantNoise(lambda t: 0.5 * t * (1 - t), lambda t: 0.25 * t * (1 - t) * (1 - 2 * t))
TWO_SIDED = [(path, gamma) for path in ("linear", "trig", "encdec") for gamma in ("brownian", "bsquared", "sinesquared", "sigmoid")]
TWO_SIDED = [pair for pair in TWO_SIDED if pair != ("trig", "sinesquared")] + [(SQUARES, BUMP), ("linear", "zero")]
ONE_SIDED = [("one_sided_linear", "zero"), ("one_sided_trig", "zero")]


def _normal(*shape: int, seed: int = 0, dtype=DOUBLE) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def _zero(x, t):
    return torch.zeros_like(x)


SPECIMENS = {
    "Interpolant": Specimen(Interpolant, lambda: {"path": "linear", "gamma": "brownian", "a": 1.0}, accepts={"gamma": ["none"]}),
    "InterpolantPath": Specimen(
        InterpolantPath,
        lambda: {"alpha": SQUARES.alpha, "beta": SQUARES.beta, "d_alpha": SQUARES.d_alpha, "d_beta": SQUARES.d_beta},
    ),
    "InterpolantNoise": Specimen(InterpolantNoise, lambda: {"gamma": BUMP.gamma, "gg_dot": BUMP.gg_dot}),
    "interpolant_losses": Specimen(
        lambda antithetic: interpolant_losses(Interpolant(), _normal(3, 2), _normal(3, 2), b=_zero, antithetic=antithetic, generator=0),
        lambda: {"antithetic": True},
    ),
    "VelocityFromParts": Specimen(lambda: VelocityFromParts(_zero, _zero, Interpolant()), dict),
    "ScoreFromDenoiser": Specimen(lambda: ScoreFromDenoiser(_zero, Interpolant()), dict),
    "interpolant_flow": Specimen(
        lambda x0, **options: interpolant_flow(_zero, x0, **options),
        lambda: {
            "x0": _normal(3, 2),
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
        lambda x0, **options: interpolant_sde(_zero, _zero, x0, generator=0, **options),
        lambda: {
            "x0": _normal(3, 2),
            "epsilon": 0.5,
            "steps": 2,
            "method": "heun",
            "reverse": True,
            "log_prob": False,
            "t_eps": 0.0,
        },
        spare=frozenset({"x0"}),
    ),
    "GaussianMixtureInterpolant": Specimen(
        lambda **parts: GaussianMixtureInterpolant(**parts, interpolant=Interpolant()),
        lambda: {
            "weights0": np.ones(2),
            "means0": np.array([[0.0, 1.0], [1.0, 0.0]]),
            "covs0": np.ones(2),
            "weights1": np.ones(1),
            "means1": np.zeros((1, 2)),
            "covs1": np.ones((1, 2)),
        },
    ),
    "schrodinger_bridge_interpolant": Specimen(
        lambda **options: schrodinger_bridge_interpolant(lambda n: torch.zeros(n, 1), lambda n: torch.ones(n, 1), generator=0, **options),
        lambda: {"epsilon": 0.5, "steps": 1, "drift_steps": 1, "batch_size": 4, "width": 4, "lr": 1e-3},
    ),
}


def _mixture(d: int, interpolant: Interpolant) -> GaussianMixtureInterpolant:
    rng = np.random.default_rng(0)
    two = [0.3, 0.7], rng.normal(size=(2, d)), 0.1 + rng.random((2, d))
    first = ([1.0], np.zeros((1, d)), [1.0]) if interpolant.one_sided else two
    A = rng.normal(size=(2, d, d))
    second = [0.4, 0.6], 1.5 * rng.normal(size=(2, d)), 0.2 * A @ A.transpose(0, 2, 1) + 0.2 * np.eye(d)
    return GaussianMixtureInterpolant(*first, *second, interpolant)


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


@pytest.mark.parametrize(("path", "gamma"), [*TWO_SIDED, *ONE_SIDED], ids=str)
def test_factors_have_their_derivatives_and_ends(path, gamma):
    interpolant = Interpolant(path, gamma)
    t = torch.linspace(0.02, 0.98, 25, dtype=DOUBLE)
    t = t[(t - 0.5).abs() > 1e-3]
    h = 1e-6
    for value, slope in zip((interpolant.alpha, interpolant.beta), interpolant.slopes(t)):
        torch.testing.assert_close((value(t + h) - value(t - h)) / (2 * h), slope, atol=1e-7, rtol=1e-7)
    difference = (interpolant.gamma(t + h) - interpolant.gamma(t - h)) / (2 * h)
    torch.testing.assert_close(interpolant.gamma(t) * difference, interpolant.gg_dot(t), atol=1e-7, rtol=1e-7)
    x0, x1, z = _normal(3, 2), _normal(3, 2, seed=1), _normal(3, 2, seed=2)
    torch.testing.assert_close(interpolant.sample(x0, x1, 0.0, z), x0, atol=1e-9, rtol=0)
    torch.testing.assert_close(interpolant.sample(x0, x1, 1.0, z), x1, atol=1e-9, rtol=0)


def test_brownian_noise_is_scaled_and_its_product_is_finite_at_the_ends():
    interpolant = Interpolant(a=2.0)
    assert interpolant.gamma(0.5).item() == pytest.approx(math.sqrt(0.5))
    assert interpolant.gg_dot(torch.tensor([0.0, 1.0])).tolist() == [1.0, -1.0]


@pytest.mark.parametrize(("path", "gamma"), [*TWO_SIDED, *ONE_SIDED], ids=str)
def test_exact_velocity_score_and_density_belong_together(path, gamma):
    interpolant = Interpolant(path, gamma)
    mixture, x = _mixture(2, interpolant), 1.5 * _normal(20, 2)
    for t in (0.2, 0.7):
        b, v, s = (getattr(mixture, name)(x, t) for name in ("b", "v", "s"))
        torch.testing.assert_close(b, v - interpolant.gg_dot(t) * s, atol=1e-10, rtol=1e-10)
        torch.testing.assert_close(mixture.eta(x, t), -interpolant.gamma(t) * s, atol=1e-10, rtol=1e-10)
        moving = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(mixture.log_prob(moving, t).sum(), moving)
        torch.testing.assert_close(s, gradient, atol=1e-10, rtol=1e-10)
        h = 1e-5  # the continuity equation, d log rho / dt = -div b - b s
        change = (mixture.log_prob(x, t + h) - mixture.log_prob(x, t - h)) / (2 * h)
        divergence = torch.func.vmap(lambda y, t=t: torch.func.jacfwd(lambda y: mixture.b(y[None], t)[0])(y).trace())(x)
        torch.testing.assert_close(change, -divergence - (b * s).sum(1), atol=1e-5, rtol=1e-5)
    each = torch.linspace(0.1, 0.9, 20, dtype=DOUBLE)
    torch.testing.assert_close(mixture.b(x, each)[3:4], mixture.b(x[3:4], float(each[3])))
    if gamma != "zero" or interpolant.one_sided:
        derived = VelocityFromParts(mixture.v, ScoreFromDenoiser(mixture.eta, interpolant), interpolant)
        torch.testing.assert_close(derived(x, each), mixture.b(x, each), atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize(
    ("path", "gamma", "d"),
    [(*pair, 1) for pair in [*TWO_SIDED, *ONE_SIDED]] + [("linear", "brownian", 2), ("trig", "sigmoid", 2), (*ONE_SIDED[1], 2)],
)
def test_the_flow_carries_each_density_to_the_other(path, gamma, d):
    mixture = _mixture(d, Interpolant(path, gamma))
    steps = 100 if path == "encdec" else 30
    there = interpolant_flow(mixture.b, mixture.sample(4000, 0, 0), steps=steps)
    _assert_law(there.x, mixture, 1, slack=0.01)
    assert there.nfe == 2 * steps
    _assert_law(interpolant_flow(mixture.b, mixture.sample(4000, 1, 1), steps=steps, reverse=True).x, mixture, 0, slack=0.01)


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 1.0, 5.0])
@pytest.mark.parametrize(("path", "gamma"), [("linear", "brownian"), ("trig", "bsquared"), ("linear", "sinesquared"), ("one_sided_linear", "zero")])
def test_diffusions_of_any_strength_do_too(path, gamma, epsilon):
    mixture, steps = _mixture(1, Interpolant(path, gamma)), 100 + int(60 * epsilon)
    options = {"epsilon": epsilon, "t_eps": 1e-3, "generator": 4}
    for reverse in (False, True):
        moved = interpolant_sde(mixture.b, mixture.s, mixture.sample(4000, int(reverse), 3), steps=steps, reverse=reverse, **options)
        _assert_law(moved.x, mixture, 1 - int(reverse), slack=0.03)
    plain = interpolant_sde(mixture.b, mixture.s, mixture.sample(4000, 0, 3), steps=2 * steps, method="euler", **options)
    _assert_law(plain.x, mixture, 1, slack=0.05)


def test_a_diffusion_that_changes_with_time():
    mixture = _mixture(2, Interpolant())
    start = mixture.sample(4000, 0, 3)
    moved = interpolant_sde(mixture.b, mixture.s, start, epsilon=lambda t: 4 * t * (1 - t), steps=150, generator=4)
    _assert_law(moved.x, mixture, 1, slack=0.02)


@pytest.mark.parametrize(("path", "gamma"), [("linear", "brownian"), ("trig", "bsquared"), ("one_sided_trig", "zero")])
def test_likelihoods_along_the_flow_are_exact(path, gamma):
    mixture = _mixture(2, Interpolant(path, gamma))
    x1 = mixture.sample(50, 1, 5)
    for options in ({"method": "rk4", "steps": 200}, {"method": "dopri5", "rtol": 1e-7}):
        back = interpolant_flow(mixture.b, x1, reverse=True, log_prob=True, **options)
        likelihood = mixture.log_prob(back.x, 0.0) - back.log_ratio
        torch.testing.assert_close(likelihood, mixture.log_prob(x1, 1.0), atol=1e-4, rtol=0)


def test_likelihoods_along_the_diffusion_are_right_on_average():
    mixture = _mixture(1, Interpolant())
    x1 = torch.tensor([[-1.0], [0.5], [2.0]], dtype=DOUBLE)
    many = x1.repeat_interleave(2000, 0)
    back = interpolant_sde(mixture.b, mixture.s, many, epsilon=0.5, steps=200, reverse=True, log_prob=True, generator=0)
    found = (mixture.log_prob(back.x, 0.0) - back.log_ratio).reshape(3, -1)
    expected = mixture.log_prob(x1, 1.0)
    assert ((found.mean(1) - expected).abs() < 4 * found.std(1) / math.sqrt(2000) + 0.03).all()


def test_there_and_back_again():
    mixture, x0 = _mixture(2, Interpolant("linear", "bsquared")), _normal(30, 2)
    there = interpolant_flow(mixture.b, x0, steps=200, method="rk4").x
    assert (there - x0).abs().max() > 0.1
    torch.testing.assert_close(interpolant_flow(mixture.b, there, steps=200, method="rk4", reverse=True).x, x0, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("path", "gamma"), [("linear", "brownian"), ("encdec", "sinesquared"), ("mirror", "brownian")])
def test_equal_densities_keep_their_law(path, gamma):
    parts = [0.4, 0.6], [[-1.0], [2.0]], [0.3, 0.5]
    mixture = GaussianMixtureInterpolant(*parts, *parts, Interpolant(path, gamma))
    moved = interpolant_flow(mixture.b, mixture.sample(4000, 0, 0), steps=100)
    _assert_law(moved.x, mixture, 1, slack=0.01)


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
    interpolant, x0, x1, z = Interpolant(), _normal(50_000, 1), _normal(50_000, 1, seed=1), _normal(50_000, 1, seed=2)
    t = torch.tensor(1e-3, dtype=DOUBLE)

    def b(x):
        return torch.tanh(x)

    def loss(sign: float) -> torch.Tensor:
        said = b(interpolant.sample(x0, x1, t, sign * z))
        return 0.5 * said**2 - (interpolant.dt(x0, x1, t) + interpolant.gamma_dot(t) * sign * z) * said

    assert (0.5 * (loss(1.0) + loss(-1.0))).var() < loss(1.0).var() / 50


def test_one_sided_lines_are_flow_matching():
    interpolant = Interpolant("one_sided_linear")
    x0, x1, t = _normal(5, 2), _normal(5, 2, seed=1), torch.linspace(0.1, 0.9, 5, dtype=DOUBLE)
    torch.testing.assert_close(interpolant.sample(x0, x1, t), (1 - t[:, None]) * x0 + t[:, None] * x1)
    seen = {}

    def b(x, t):
        seen["x"], seen["t"] = x, t
        return torch.ones_like(x)

    losses = interpolant_losses(interpolant, x0, x1, b=b, antithetic=False, generator=0)
    torch.testing.assert_close(seen["x"], (1 - seen["t"][:, None]) * x0 + seen["t"][:, None] * x1)
    torch.testing.assert_close(losses["b"], (0.5 - (x1 - x0)).sum(1))


def test_the_learned_path_is_the_bridge_between_gaussians():
    """From N(-1, 1/4) to N(1, 1/4) the bridge of sqrt(2 epsilon) W couples its ends by a known covariance."""
    generator = torch.Generator().manual_seed(0)

    def draw(center: float):
        return lambda n: center + 0.5 * torch.randn(n, 1, generator=generator)

    epsilon, variance = 0.25, 0.25
    bridge = schrodinger_bridge_interpolant(draw(-1.0), draw(1.0), epsilon=epsilon, steps=400, batch_size=256, width=32, generator=0)
    x0 = draw(-1.0)(10_000)
    x1 = bridge.sample(x0, steps=50, generator=1).x
    assert float(x1.mean()) == pytest.approx(1.0, abs=0.1)
    assert float(x1.std()) == pytest.approx(0.5, abs=0.08)
    exact = 0.5 * (math.sqrt(4 * variance**2 + (2 * epsilon) ** 2) - 2 * epsilon)
    independent = 0.0
    found = float(torch.cov(torch.cat([x0, x1], 1).T)[0, 1])
    assert abs(found - exact) < 0.5 * abs(exact - independent)


def test_same_seed_same_losses_and_samples():
    mixture, x0, x1 = _mixture(2, Interpolant()), _normal(6, 2), _normal(6, 2, seed=1)
    losses = [interpolant_losses(Interpolant(), x0, x1, b=mixture.b, generator=seed)["b"] for seed in (3, 3, 4)]
    assert torch.equal(losses[0], losses[1])
    assert not torch.equal(losses[0], losses[2])
    moved = [interpolant_sde(mixture.b, mixture.s, x0, steps=5, generator=seed).x for seed in (3, 3, 4)]
    assert torch.equal(moved[0], moved[1])
    assert not torch.equal(moved[0], moved[2])


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
        interpolant_losses(Interpolant(), torch.zeros(3, 2), torch.zeros(3, 1), b=_zero)
    with pytest.raises(ValueError, match="at least one network"):
        interpolant_losses(Interpolant(), torch.zeros(3, 2), torch.zeros(3, 2))
    with pytest.raises(ValueError, match="not defined on a path without noise"):
        interpolant_losses(Interpolant("linear", "zero"), torch.zeros(3, 2), torch.zeros(3, 2), s=_zero)
    with pytest.raises(ValueError, match="epsilon"):
        interpolant_sde(_zero, _zero, torch.zeros(3, 2), epsilon=-1.0)
    with pytest.raises(TypeError, match="s must be callable"):
        interpolant_sde(_zero, None, torch.zeros(3, 2))
    with pytest.raises(ValueError, match="log_prob is there for reverse=True only"):
        interpolant_sde(_zero, _zero, torch.zeros(3, 2), log_prob=True)
    with pytest.raises(ValueError, match="one standard normal component"):
        GaussianMixtureInterpolant([1.0], [[1.0]], [1.0], [1.0], [[0.0]], [1.0], Interpolant("one_sided_linear"))
    with pytest.raises(ValueError, match="not finite at t"):
        interpolant_flow(lambda x, t: x / 0, torch.ones(1, 2))
