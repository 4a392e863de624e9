"""Feynman-Kac correctors: reductions, weights that do not depend on the noise, closed forms of Gaussians, a mixture by quadrature, refusals."""

import math

import numpy as np
import pytest
import torch
from specimens import Specimen

from ritz.diffusion import (
    EDM,
    GaussianMixtureDenoiser,
    VPLinear,
    WeightedSamples,
    anneal,
    euler_maruyama_sample,
    fkc_sample,
    geometric_average,
    product,
    tilt,
    timesteps,
)
from ritz.diffusion.feynman_kac import BirthDeathClocks, ParticleSolver

SCHEDULE = VPLinear()
NARROW = EDM(0.05, 5.0)
MIXTURE = GaussianMixtureDenoiser(torch.tensor([0.3, 0.7]), torch.tensor([[1.0, -0.5], [-1.0, 0.8]], dtype=torch.float64), torch.tensor([0.2, 0.4]))
OTHER = GaussianMixtureDenoiser(torch.tensor([0.5, 0.5]), torch.tensor([[0.5, 0.5], [-0.5, 0.0]], dtype=torch.float64), torch.tensor([0.3, 0.2]))
MODES = [None, "systematic", "birth_death"]


def _starts(n, dimension=2, total=1.0, seed=0, schedule=SCHEDULE):
    generator = torch.Generator().manual_seed(seed)
    return schedule.rho(schedule.t_max) / math.sqrt(total) * torch.randn(n, dimension, generator=generator, dtype=torch.float64)


def _gaussian(mean, variance, dimension=1):
    return GaussianMixtureDenoiser([1.0], torch.full((1, dimension), mean, dtype=torch.float64), [variance])


def _within(result, mean, variance):
    """Weighted mean and variance of every coordinate within three standard errors."""
    first = result.mean()
    assert bool(((first - mean).abs() < 3 * result.standard_error()).all())
    second, error = result.mean(lambda x: (x - mean) ** 2), result.standard_error(lambda x: (x - mean) ** 2)
    assert bool(((second - variance).abs() < 3 * error).all())
    assert float(result.standard_error().max()) < 0.25 * math.sqrt(variance)


def test_one_model_with_exponent_one_is_the_plain_sampler():
    y = _starts(50)
    ours = fkc_sample([MIXTURE], [1.0], y, SCHEDULE, steps=40, resampling=None, generator=1)
    plain = euler_maruyama_sample(MIXTURE, y, SCHEDULE.rho(timesteps(SCHEDULE, 40, "uniform")), generator=1)
    assert torch.equal(ours.log_weights, torch.zeros(50, dtype=torch.float64))
    assert torch.allclose(ours.x, plain.x, rtol=1e-12, atol=1e-12)
    assert ours.log_normalizer == 0
    assert ours.unique_ancestors == 50
    resampled = fkc_sample([MIXTURE], [1.0], y, SCHEDULE, steps=40, ess_threshold=0.5, generator=1)
    assert torch.equal(resampled.x, ours.x)


def test_exponents_zero_and_one_are_the_second_model_alone():
    y = _starts(20)
    both = fkc_sample([OTHER, MIXTURE], [0.0, 1.0], y, SCHEDULE, steps=30, resampling=None, generator=1)
    alone = fkc_sample([MIXTURE], [1.0], y, SCHEDULE, steps=30, resampling=None, generator=1)
    assert torch.equal(both.x, alone.x)
    assert torch.equal(both.log_weights, torch.zeros(20, dtype=torch.float64))
    assert both.nfe == 60


def test_a_model_split_into_two_copies_is_itself():
    y = _starts(20)
    split = fkc_sample([MIXTURE, MIXTURE], [0.4, 0.6], y, SCHEDULE, steps=30, resampling=None, generator=1)
    whole = fkc_sample([MIXTURE], [1.0], y, SCHEDULE, steps=30, resampling=None, generator=1)
    assert torch.allclose(split.x, whole.x, rtol=1e-11, atol=1e-11)
    assert float(split.log_weights.abs().max()) < 1e-11


@pytest.mark.parametrize("zeta", [0.0, 1 / 3, 1.0, 2.5])
def test_weights_on_a_common_path_do_not_depend_on_the_noise(zeta):
    levels = SCHEDULE.rho(timesteps(SCHEDULE, 12, "uniform")).tolist()
    path = [y.double() for y in torch.randn(12, 9, 2, generator=torch.Generator().manual_seed(0))]
    generator, increments = torch.Generator().manual_seed(0), []
    for noise_scale in (1.0, zeta):
        solver = ParticleSolver(levels, np.tile([2.0, -0.5], (13, 1)), path[0], noise_scale=noise_scale, resampling=None)
        for y, level in zip(path, levels):
            solver.step(y, [MIXTURE(y, level), OTHER(y, level)], generator)
        increments.append(solver.log_weights)
    assert torch.allclose(*increments, rtol=1e-12, atol=1e-12)
    assert float(increments[0].std()) > 0


def _run(models, exponents, *, n=2000, seed=1, dimension=1, **options):
    """From exact draws of the target at noise level 5 down to level 0.05; models are pairs (mean, variance)."""
    weights = [b / (variance + NARROW.sigma_max**2) for (_, variance), b in zip(models, exponents)]
    mean = sum(weight * m for weight, (m, _) in zip(weights, models)) / sum(weights)
    noise = torch.randn(n, dimension, generator=torch.Generator().manual_seed(100 + seed), dtype=torch.float64)
    denoisers = [_gaussian(m, variance, dimension) for m, variance in models]
    options = {"steps": 200, "spacing": "logsnr", "generator": seed} | options
    return fkc_sample(denoisers, exponents, mean + noise / math.sqrt(sum(weights)), NARROW, **options)


@pytest.mark.parametrize("resampling", MODES)
@pytest.mark.parametrize("zeta", [1.0, 0.5])
def test_an_annealed_gaussian(resampling, zeta):
    """N(m, v) to the power 2 is N(m, v / 2)."""
    _within(_run([(1.0, 0.5)], [2.0], noise_scale=zeta, resampling=resampling), 1.0, (0.5 + 0.05**2) / 2)


@pytest.mark.parametrize("resampling", [None, "systematic"])
def test_an_annealed_gaussian_in_three_dimensions(resampling):
    _within(_run([(-0.5, 0.8)], [1.5], dimension=3, resampling=resampling), -0.5, 0.8 / 1.5)


@pytest.mark.parametrize("resampling", MODES)
def test_a_product_of_gaussians(resampling):
    """N(0, 1) N(2, .5) is N(4/3, 1/3)."""
    _within(_run([(0.0, 1.0), (2.0, 0.5)], [1.0, 1.0], resampling=resampling), 4 / 3, 1 / 3)


@pytest.mark.parametrize("resampling", [None, "systematic"])
def test_a_geometric_average_of_gaussians(resampling):
    """Exponents -1 and 2 of N(0, 1) and N(1, .5): precision 4 - 1 = 3, mean 4/3."""
    _within(_run([(0.0, 1.0), (1.0, 0.5)], [-1.0, 2.0], resampling=resampling), 4 / 3, 1 / 3)


@pytest.mark.parametrize("zeta", [1.0, 0.4])
@pytest.mark.parametrize("resampling", MODES)
def test_a_linear_reward_shifts_a_gaussian(resampling, zeta):
    result = _run([(0.5, 0.6)], [1.0], reward=lambda x: 1.5 * x[:, 0], noise_scale=zeta, resampling=resampling, steps=400)
    _within(result, 0.5 + 0.6 * 1.5, 0.6)


def test_exponents_and_reward_together():
    """N(0, 1)^2 e^{x} = N(1/2, 1/2)."""
    _within(_run([(0.0, 1.0)], [2.0], reward=lambda x: x[:, 0]), 0.5, 0.5)


@pytest.mark.parametrize("resampling", [None, "systematic"])
def test_exponents_that_change_with_time(resampling):
    """From q at the start to q^2 at the end: the log-density comes from Itô's formula along the path."""
    schedule = EDM(0.05, 20.0)
    starts, exponents = _starts(2000, 1, schedule=schedule), [lambda t: 2.0 - t / 20.0]
    options = {"steps": 600, "spacing": "logsnr", "resampling": resampling, "generator": 1}
    _within(fkc_sample([_gaussian(1.0, 0.5)], exponents, starts, schedule, **options), 1.0, (0.5 + 0.05**2) / 2)


def test_named_fronts_call_the_one_sampler():
    options = {"schedule": SCHEDULE, "shape": (2,), "steps": 20, "noise_scale": 0.7, "resampling": "birth_death", "generator": 1}

    def reward(x):
        return x[:, 0]

    pairs = [
        (anneal(MIXTURE, 2.0, 50, **options), fkc_sample([MIXTURE], [2.0], 50, **options)),
        (product([MIXTURE, OTHER], 50, **options), fkc_sample([MIXTURE, OTHER], [1.0, 1.0], 50, **options)),
        (geometric_average(MIXTURE, OTHER, 3.0, 50, **options), fkc_sample([MIXTURE, OTHER], [-2.0, 3.0], 50, **options)),
        (tilt(MIXTURE, reward, 50, **options), fkc_sample([MIXTURE], [1.0], 50, reward=reward, **options)),
    ]
    for front, direct in pairs:
        assert torch.equal(front.x, direct.x)
    cold = anneal(_gaussian(2.0, 0.5), 2.0, 2000, SCHEDULE, shape=(1,), generator=1)
    _within(cold, 2.0, 0.25)


@pytest.mark.parametrize("resampling", [None, "systematic"])
def test_the_normalizer_of_an_annealed_gaussian(resampling):
    """Z(rho) = integral of N(y; m, v + rho^2)^b = (2 pi (v + rho^2))^((1 - b) / 2) / sqrt(b)."""
    v, b = 0.5, 2.0
    exact = 0.5 * (1 - b) * math.log((v + 0.05**2) / (v + 25.0))
    estimates = torch.tensor([_run([(0.0, v)], [b], n=500, seed=seed, resampling=resampling).log_normalizer for seed in range(12)])
    assert float((estimates.mean() - exact).abs()) < 3 * float(estimates.std()) / math.sqrt(12)


def test_masses_of_an_annealed_mixture():
    """Weights .1 .2 .3 .4 to the power 3 by quadrature: .056 .028 .024 .893; without weights the sampler misses them."""
    modes = torch.tensor([[2.0, 2.0], [2.0, -2.0], [-2.0, 2.0], [-2.0, -2.0]], dtype=torch.float64)
    weights, variances = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64), torch.tensor([0.05, 0.2, 0.4, 0.1], dtype=torch.float64)
    q = GaussianMixtureDenoiser(weights, modes, variances)
    line = torch.linspace(-6, 6, 601, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line)
    density = torch.exp(3 * q.log_prob(grid, SCHEDULE.rho(SCHEDULE.t_min)))
    exact = torch.zeros(4, dtype=torch.float64).index_add_(0, torch.cdist(grid, modes).argmin(1), density) / density.sum()
    assert torch.allclose(exact, torch.tensor([0.056, 0.028, 0.024, 0.893], dtype=torch.float64), atol=0.002)

    def miss(result):
        masses = torch.zeros(4, dtype=torch.float64).index_add_(0, torch.cdist(result.x, modes).argmin(1), result.weights)
        return float(0.5 * (masses - exact).abs().sum())

    ours = fkc_sample([q], [3.0], _starts(4000, 2, 3.0), SCHEDULE, generator=0)
    without = fkc_sample([q], [3.0], _starts(4000, 2, 3.0), SCHEDULE, active=(2.0, 3.0), generator=0)
    assert miss(ours) < 0.08
    assert miss(without) > 0.15


def test_outside_the_active_times_nothing_is_weighed():
    y = _starts(30, total=2.0)
    result = fkc_sample([MIXTURE], [2.0], y, SCHEDULE, steps=20, active=(0.3, 0.6), resampling=None, generator=0)
    times = timesteps(SCHEDULE, 20, "uniform")[:-1]
    active = [i for i, t in enumerate(times) if 0.3 <= t <= 0.6]
    assert torch.allclose(result.ess_history[: active[0]], torch.full((active[0],), 30.0, dtype=torch.float64))
    assert bool((torch.diff(result.ess_history[active]) != 0).all())
    assert len({float(value) for value in result.ess_history[active[-1] :]}) == 1


def test_clipped_increments_are_centered_and_bounded():
    y = _starts(30, total=3.0)
    result = fkc_sample([MIXTURE], [3.0], y, SCHEDULE, steps=1, clip_increment=0.01, resampling=None, t_start=0.3, generator=0)
    assert float(result.log_weights.abs().max()) <= 0.01
    assert float(result.log_weights.max()) == 0.01


def test_the_last_step_may_be_without_noise():
    y, calls = _starts(5), []

    def recorded(y, sigma):
        calls.append(y)
        return MIXTURE(y, sigma)

    result = fkc_sample([recorded], [1.0], y, SCHEDULE, steps=5, last_step_noise=False, resampling=None, generator=0)
    s, t = SCHEDULE.rho(timesteps(SCHEDULE, 5, "uniform")[-2:])
    expected = calls[-1] + (s**2 - t**2) * MIXTURE.score(calls[-1], s)
    assert torch.allclose(result.x, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("resampling", MODES)
def test_a_dead_end_particle_spoils_nothing(resampling):
    """One region is forbidden outright, another by a reward of -1e30: weights stay finite where anybody lives."""

    def reward(x):
        return torch.where(x[:, 0] > 0.3, -1e30, 0.0) + 0 * x[:, 0]

    result = tilt(_gaussian(0.0, 1.0), reward, _starts(200, 1), SCHEDULE, steps=100, resampling=resampling, generator=0)
    assert bool(torch.isfinite(result.mean()).all())
    assert math.isfinite(result.ess())


@pytest.mark.parametrize("resampling", MODES)
def test_the_seed_decides(resampling):
    def run(seed):
        return fkc_sample([MIXTURE], [2.0], 40, SCHEDULE, shape=(2,), steps=30, resampling=resampling, generator=seed)

    assert torch.equal(run(0).x, run(0).x)
    assert torch.equal(run(0).log_weights, run(0).log_weights)
    assert not torch.equal(run(0).x, run(1).x)
    assert isinstance(run(0), WeightedSamples)
    assert run(0).ess_history.shape == (30,)


def test_births_and_deaths_replace_weights_to_first_order():
    """The expected share of a group of particles after one small step is its normalized weight."""
    group = torch.arange(4).repeat_interleave(50_000)
    increment = torch.tensor([-0.1, -0.03, 0.03, 0.1], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    ancestors = BirthDeathClocks(len(group), torch.device("cpu"), generator).ancestors(increment[group], generator)
    shares = torch.bincount(group[ancestors], minlength=4) / 50_000
    assert torch.allclose(shares.double(), 1 + increment, rtol=0, atol=0.007)


def test_the_standard_error_is_the_spread_over_runs():
    """Of a resampled run, where particles are related; and plain independent draws have the textbook one."""
    runs = [_run([(1.0, 0.5)], [2.0], n=300, steps=60, seed=seed) for seed in range(40)]
    spread = torch.stack([run.mean() for run in runs]).std()
    claimed = torch.stack([run.standard_error() for run in runs]).mean()
    assert 0.6 < float(claimed / spread) < 1.6
    x = torch.randn(4000, 1, generator=torch.Generator().manual_seed(0))
    plain = WeightedSamples(x, torch.zeros(4000), torch.zeros(0), torch.arange(4000), 0.0, 0)
    assert float(plain.standard_error()) == pytest.approx(float(x.std()) / math.sqrt(4000), rel=1e-3)


def test_images_are_particles_too():
    shrink = _gaussian(0.0, 1.0, 12)

    def denoiser(y, sigma):
        return shrink(y.flatten(1), sigma).reshape(y.shape)

    result = fkc_sample([denoiser], [2.0], 16, SCHEDULE, shape=(3, 2, 2), steps=10, generator=0)
    assert result.x.shape == (16, 3, 2, 2)
    assert result.x.dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"exponents": [1.0, 2.0]}, "exponents"),
        ({"exponents": [-1.0]}, "exponents must have a positive sum"),
        ({"exponents": [math.nan]}, "exponents"),
        ({"x_T": torch.zeros(1, 2)}, "x_T must hold two particles"),
        ({"x_T": 1}, "x_T must hold two particles"),
        ({"x_T": 0}, "x_T"),
        ({"resampling": "residual"}, "resampling"),
        ({"noise_scale": -1.0}, "noise_scale"),
        ({"ess_threshold": 1.5}, "ess_threshold"),
        ({"active": (0.5, 0.1)}, "active"),
        ({"clip_increment": 0.0}, "clip_increment"),
        ({"steps": 0}, "steps"),
        ({"reward": lambda x: x}, "reward must return shape"),
        ({"reward": lambda x: x[:, 0], "reward_schedule": lambda t: 1.0}, "reward_schedule"),
        ({"reward": lambda x: x[:, 0] / 0 * 0}, "NaN"),
        ({"denoisers": [lambda y, sigma: y[:1]]}, "denoiser must return the shape"),
    ],
)
def test_refusals(change, name):
    with pytest.raises(ValueError, match=name):
        fkc_sample(**({"denoisers": [MIXTURE], "exponents": [1.0], "x_T": 4, "schedule": SCHEDULE, "shape": (2,), "steps": 3} | change))


@pytest.mark.parametrize(
    ("change", "name"), [({"denoisers": MIXTURE}, "denoisers"), ({"shape": None}, "shape"), ({"active": 0.5}, "active"), ({"reward": 3}, "reward")]
)
def test_wrong_types(change, name):
    with pytest.raises(TypeError, match=name):
        fkc_sample(**({"denoisers": [MIXTURE], "exponents": [1.0], "x_T": 4, "schedule": SCHEDULE, "shape": (2,), "steps": 3} | change))


def _shrink(y, sigma):
    return y / (1 + sigma**2)


def _front(call, **options):
    common = {"steps": 3, "noise_scale": 0.5, "resampling": "systematic", "ess_threshold": 0.5, "generator": 0}
    return Specimen(
        lambda **arguments: call(schedule=SCHEDULE, **arguments),
        lambda: options | {"x_T": torch.ones(4, 2)} | common,
        accepts={"generator": ("none",), "ess_threshold": ("none",), "resampling": ("none",), "x_T": ("more dimensions",)},
    )


SPECIMENS = {
    "fkc_sample": Specimen(
        lambda **arguments: fkc_sample([_shrink], [2.0], schedule=SCHEDULE, reward=lambda x: x.flatten(1).sum(1), **arguments),
        lambda: {
            "x_T": torch.ones(4, 2),
            "steps": 3,
            "spacing": "logsnr",
            "t_start": 0.9,
            "t_end": 0.1,
            "noise_scale": 1.0,
            "last_step_noise": True,
            "resampling": "systematic",
            "ess_threshold": 0.5,
            "clip_increment": 1.0,
            "generator": 0,
        },
        accepts={
            "generator": ("none",),
            "t_start": ("none",),
            "t_end": ("none",),
            "ess_threshold": ("none",),
            "clip_increment": ("none",),
            "resampling": ("none",),
            "x_T": ("more dimensions",),
        },
    ),
    "anneal": _front(lambda **arguments: anneal(_shrink, **arguments), beta=2.0),
    "product": _front(lambda **arguments: product([_shrink, _shrink], **arguments)),
    "geometric_average": _front(lambda **arguments: geometric_average(_shrink, _shrink, **arguments), guidance=2.0),
    "tilt": _front(lambda **arguments: tilt(_shrink, lambda x: x.flatten(1).sum(1), **arguments)),
    "WeightedSamples": Specimen(
        lambda x, log_weights: WeightedSamples(x, log_weights, torch.ones(2), torch.arange(4), 0.0, 2),
        lambda: {"x": torch.ones(4, 2), "log_weights": torch.zeros(4)},
        accepts={"x": ("more dimensions",)},
    ),
}
