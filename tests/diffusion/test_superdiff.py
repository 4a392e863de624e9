"""Superposition of models: log-densities against exact ones, masses of mixtures, equal densities, reductions, both frames, refusals."""

import math

import numpy as np
import pytest
import torch
from specimens import Specimen

from ritz.diffusion import (
    EDM,
    GaussianMixtureDenoiser,
    ItoDensity,
    NetworkDenoiser,
    SuperDiffResult,
    VPCosine,
    VPLinear,
    euler_maruyama_sample,
    ito_log_density,
    superdiff,
    timesteps,
)
from ritz.diffusion.superdiff import SuperposedSolver

SCHEDULE = VPLinear()
LEVEL = SCHEDULE.rho(SCHEDULE.t_min)
UP = GaussianMixtureDenoiser([0.5, 0.5], torch.tensor([[-2.0, 2.0], [2.0, 2.0]], dtype=torch.float64), [0.3, 0.3])
DOWN = GaussianMixtureDenoiser([0.5, 0.5], torch.tensor([[-2.0, -2.0], [2.0, -2.0]], dtype=torch.float64), [0.3, 0.3])
LEFT = GaussianMixtureDenoiser([0.7, 0.3], torch.tensor([[-1.0, 0.5], [1.5, 1.0]], dtype=torch.float64), [0.5, 0.8])


def _starts(n, seed=0, schedule=SCHEDULE, dimension=2):
    noise = torch.randn(n, dimension, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return schedule.rho(schedule.t_max) * noise


def _errors(steps, n=800):
    """What the estimate along plain sampling misses."""
    levels = SCHEDULE.rho(timesteps(SCHEDULE, steps, "uniform"))
    start = _starts(n)
    walk = euler_maruyama_sample(UP, start, levels, keep_trajectory=True, generator=1).trajectory
    estimate = ito_log_density(UP, start, UP.log_prob(start, levels[0]), walk[1:], SCHEDULE)
    return estimate - UP.log_prob(walk[-1], LEVEL)


def test_the_estimate_tracks_the_density_and_its_error_halves_with_four_times_the_steps():
    errors = {steps: _errors(steps) for steps in (250, 1000)}
    spread = {steps: float(error.square().mean().sqrt()) for steps, error in errors.items()}
    assert float(errors[1000].mean().abs()) < 0.1
    assert spread[1000] < 0.5
    assert spread[250] / spread[1000] == pytest.approx(2, rel=0.2)
    assert float(_errors(2000, 800).mean().abs()) < 0.06


def test_the_estimate_holds_for_any_drift():
    """The path follows another model; only its noise is that of the schedule."""
    levels, start = SCHEDULE.rho(timesteps(SCHEDULE, 1000, "uniform")), _starts(1000)
    walk = euler_maruyama_sample(LEFT, start, levels, keep_trajectory=True, generator=1).trajectory
    error = ito_log_density(UP, start, UP.log_prob(start, levels[0]), walk[1:], SCHEDULE) - UP.log_prob(walk[-1], LEVEL)
    assert float(error.median().abs()) < 0.15
    assert float(error.abs().quantile(0.9)) < 1.5


def test_the_deterministic_estimate_with_exact_traces():
    schedule = EDM(0.02, 50.0)
    start = _starts(10, schedule=schedule)
    result = superdiff([UP], start, schedule, mode="or", steps=1000, spacing="logsnr", stochastic=False, probes="exact")
    gained = result.log_densities[:, 0] - SuperposedSolver([50.0, 1.0], start, 1).log_densities[:, 0]
    exact = UP.log_prob(result.x, 0.02) - UP.log_prob(start, 50.0)
    assert float((gained - exact).abs().max()) < 1e-3
    assert result.nfe == 2000


def test_one_model_is_the_plain_sampler_bit_for_bit():
    start, levels = _starts(50), SCHEDULE.rho(timesteps(SCHEDULE, 60, "uniform"))
    plain = euler_maruyama_sample(UP, start, levels, generator=3)
    for mode in ("or", "and", "average"):
        ours = superdiff([UP], start, SCHEDULE, mode=mode, steps=60, generator=3)
        assert torch.equal(ours.x, plain.x)
        assert torch.equal(ours.weights, torch.ones(60, 50, 1, dtype=torch.float64))


def _masses(x):
    modes = torch.cat([UP.means, DOWN.means])
    return torch.bincount(torch.cdist(x, modes).argmin(1), minlength=4) / len(x)


@pytest.mark.parametrize("stochastic", [True, False])
def test_or_has_the_masses_of_the_mixture(stochastic):
    options = {"steps": 400} if stochastic else {"steps": 30, "spacing": "logsnr", "probes": "exact"}
    result = superdiff([UP, DOWN], _starts(8000), SCHEDULE, mode="or", stochastic=stochastic, generator=1, **options)
    assert 0.5 * float((_masses(result.x) - 0.25).abs().sum()) < 0.03


def test_or_follows_its_prior():
    result = superdiff([UP, DOWN], _starts(4000), SCHEDULE, mode="or", steps=300, log_prior=[math.log(0.8), math.log(0.2)], generator=1)
    assert float(_masses(result.x)[:2].sum()) == pytest.approx(0.8, abs=0.025)


def test_or_of_identical_models_is_one_model():
    many = superdiff([UP, UP, UP], _starts(200), SCHEDULE, mode="or", steps=50, generator=1)
    one = superdiff([UP], _starts(200), SCHEDULE, mode="or", steps=50, generator=1)
    assert torch.allclose(many.x, one.x, rtol=1e-10, atol=1e-10)
    assert torch.allclose(many.weights, torch.full_like(many.weights, 1 / 3))


def test_a_large_temperature_chooses_one_model():
    result = superdiff([UP, DOWN], _starts(100), SCHEDULE, mode="or", steps=100, temperature=1e6, generator=1)
    assert float((result.weights[50:].amax(2) == 1).double().mean()) > 0.99


def test_and_makes_the_densities_equal_and_averaging_does_not():
    gaps = {}
    for mode in ("and", "average"):
        x = superdiff([UP, DOWN], _starts(500), SCHEDULE, mode=mode, steps=1000, generator=1).x
        gaps[mode] = float((UP.log_prob(x, LEVEL) - DOWN.log_prob(x, LEVEL)).abs().median())
    assert gaps["and"] <= 0.1
    assert gaps["average"] > 1


@pytest.mark.parametrize("stochastic", [True, False])
def test_and_keeps_the_estimated_densities_together_for_many_models(stochastic):
    result = superdiff([UP, DOWN, LEFT], _starts(50), SCHEDULE, mode="and", steps=100, stochastic=stochastic, probes="exact", generator=1)
    spread = result.log_densities.amax(1) - result.log_densities.amin(1)
    # With two dimensions and three models two equations fix kappa; the ODE keeps them to the order of its step.
    assert float(spread.median()) < (1e-6 if stochastic else 0.5)
    assert torch.allclose(result.weights.sum(2), torch.ones(100, 50, dtype=torch.float64))


def test_and_reaches_the_lift():
    result = superdiff([UP, LEFT], _starts(50), SCHEDULE, mode="and", steps=200, lift=[1.5], generator=1)
    assert torch.allclose(result.log_densities[:, 0] - result.log_densities[:, 1], torch.full((50,), 1.5, dtype=torch.float64), atol=1e-6)


def test_and_is_the_closed_form_for_two_models():
    start, generator = _starts(20), torch.Generator().manual_seed(1)
    levels = SCHEDULE.rho(timesteps(SCHEDULE, 10, "uniform")).tolist()
    solver = SuperposedSolver(levels, start, 2, mode="and", lift=[0.7])
    s, dq = levels[0], levels[0] ** 2 - levels[1] ** 2
    solver.step(start, [UP(start, s), LEFT(start, s)], generator)
    noise = math.sqrt(dq) * torch.randn(start.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    first, second = UP.score(start, s), LEFT.score(start, s)
    difference, base = first - second, dq * second + noise
    bracket = (base * difference).sum(1) - 0.5 * dq * (first.square().sum(1) - second.square().sum(1)) - 0.7 / 10
    assert torch.allclose(solver.weights[0][:, 0], -bracket / (dq * difference.square().sum(1)), rtol=1e-8)


@pytest.mark.parametrize("mode", ["or", "and"])
def test_the_order_of_the_models_does_not_matter(mode):
    models, order = [UP, DOWN, LEFT], [2, 0, 1]
    first = superdiff(models, _starts(30), SCHEDULE, mode=mode, steps=20, generator=1)
    second = superdiff([models[i] for i in order], _starts(30), SCHEDULE, mode=mode, steps=20, generator=1)
    assert torch.allclose(first.weights[..., order], second.weights, rtol=1e-6, atol=1e-6)
    assert torch.allclose(first.x, second.x, rtol=1e-6, atol=1e-6)


def test_models_that_agree_are_averaged():
    result = superdiff([UP, UP], _starts(10), SCHEDULE, mode="and", steps=20, generator=1)
    assert torch.allclose(result.weights, torch.full_like(result.weights, 0.5))


def test_both_frames_give_the_same_differences_of_log_densities():
    """The x-frame formula of the paper, with drift, on the same step; what is left is of the order of the step."""
    t, step = 0.5, 1e-7
    after = t - step
    alpha, alpha_after = SCHEDULE.alpha(t), SCHEDULE.alpha(after)
    rho, rho_after = SCHEDULE.rho(t), SCHEDULE.rho(after)
    y = _starts(30) / SCHEDULE.rho(1.0) * rho
    dy = math.sqrt(rho**2 - rho_after**2) * torch.randn(30, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    x, dx, a, g2 = alpha * y, alpha_after * (y + dy) - alpha * y, SCHEDULE.dlog_alpha(t), SCHEDULE.g2(t)

    def gain_x(model):
        s = model.score(y, rho) / alpha
        return (dx * s).sum(1) + step * (2 * a + a * (x * s).sum(1) - 0.5 * g2 * s.square().sum(1))

    def gain_y(model):
        density = ItoDensity(model, y, rho, torch.zeros(30, dtype=torch.float64))
        return density.update(y + dy, rho_after)

    assert torch.allclose(gain_x(UP) - gain_x(LEFT), gain_y(UP) - gain_y(LEFT), rtol=0, atol=1e-8)
    offset = -2 * (SCHEDULE.log_alpha(after) - SCHEDULE.log_alpha(t))
    assert torch.allclose(gain_x(UP), gain_y(UP) + offset, rtol=0, atol=1e-8)


def test_images_dtype_seed_and_calls():
    calls = []

    def denoiser(y, sigma):
        calls.append(sigma)
        return y / (1 + sigma**2)

    start = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    result = superdiff([denoiser, denoiser], start, SCHEDULE, mode="or", steps=10, generator=2)
    assert result.x.shape == start.shape
    assert result.x.dtype == torch.float32
    assert result.nfe == len(calls) == 20
    assert torch.equal(result.x, superdiff([denoiser, denoiser], start, SCHEDULE, mode="or", steps=10, generator=2).x)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"steps": 1}, "steps"),
        ({"mode": "xor"}, "mode"),
        ({"mode": "and", "lift": [1.0, 2.0]}, "lift"),
        ({"log_prior": [0.0]}, "log_prior"),
        ({"temperature": -1.0}, "temperature"),
        ({"x_T": torch.zeros(3)}, "x_T"),
        ({"denoisers": [UP, lambda y, sigma: y[:, :1]]}, "denoiser must return the shape"),
        ({"denoisers": [UP, NetworkDenoiser(lambda x, t: x, VPCosine())]}, "denoisers must have been trained under schedule"),
        ({"stochastic": False, "probes": 0}, "probes"),
    ],
)
def test_refusals(change, name):
    with pytest.raises(ValueError, match=name):
        superdiff(**({"denoisers": [UP, DOWN], "x_T": _starts(4), "schedule": SCHEDULE, "steps": 5} | change))


def test_paths_that_do_not_fit_are_refused():
    density = ItoDensity(UP, _starts(4), 2.0)
    with pytest.raises(ValueError, match="sigma"):
        density.update(_starts(4), 3.0)
    with pytest.raises(ValueError, match="y must have the shape"):
        density.update(_starts(3), 1.0)
    with pytest.raises(ValueError, match="path"):
        ito_log_density(UP, _starts(4), None, _starts(4), SCHEDULE)
    with pytest.raises(TypeError, match="denoisers"):
        superdiff(UP, _starts(4), SCHEDULE)


def _shrink(y, sigma):
    return y / (1 + sigma**2)


SPECIMENS = {
    "superdiff": Specimen(
        lambda **arguments: superdiff([_shrink, _shrink], schedule=SCHEDULE, **arguments),
        lambda: {
            "x_T": torch.ones(3, 2),
            "mode": "or",
            "steps": 3,
            "spacing": "uniform",
            "temperature": 1.0,
            "log_prior": np.zeros(2),
            "lift": np.zeros(1),
            "stochastic": False,
            "probes": 1,
            "t_start": 0.9,
            "t_end": 0.1,
            "generator": 0,
        },
        accepts={"generator": ("none",), "t_start": ("none",), "t_end": ("none",), "x_T": ("more dimensions",), "lift": ("one element",)},
    ),
    "ito_log_density": Specimen(
        lambda **arguments: ito_log_density(_shrink, schedule=SCHEDULE, **arguments),
        lambda: {"x_start": torch.ones(3, 2), "log_q_start": torch.zeros(3), "path": torch.ones(2, 3, 2), "times": np.array([0.9, 0.5, 0.1])},
    ),
    "ItoDensity": Specimen(
        lambda **arguments: ItoDensity(_shrink, **arguments),
        lambda: {"y": torch.ones(3, 2), "sigma": 2.0, "log_density": torch.zeros(3)},
        accepts={"y": ("more dimensions",)},
    ),
    "ItoDensity.update": Specimen(
        lambda **arguments: ItoDensity(_shrink, torch.ones(3, 2), 2.0).update(**arguments), lambda: {"y": torch.ones(3, 2), "sigma": 1.0}
    ),
    "SuperDiffResult": Specimen(lambda: SuperDiffResult(torch.zeros(1, 1), torch.zeros(1, 1), torch.zeros(1, 1, 1), 1), dict),
}
