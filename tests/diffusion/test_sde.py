"""Stochastic samplers: exact moments on Gaussians, reductions to each other and to DDIM, levels per sample, orders of convergence."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from specimens import Specimen

from ritz.diffusion import (
    EDM,
    GaussianMixtureDenoiser,
    VPLinear,
    ancestral_sample,
    dpm_solver_plan,
    dpm_solver_pp_sample,
    euler_maruyama_sample,
    heun_sample,
    multistep,
    timesteps,
    unipc_plan,
)

MIXTURE = GaussianMixtureDenoiser(torch.tensor([0.3, 0.7]), torch.tensor([[1.0, -0.5], [-1.0, 0.8]], dtype=torch.float64), torch.tensor([0.2, 0.4]))
SCHEDULE = EDM(sigma_min=0.02, sigma_max=20.0)
SAMPLERS = [ancestral_sample, dpm_solver_pp_sample, euler_maruyama_sample, heun_sample]
NOISY = [
    (ancestral_sample, {"eta": 0.7}),
    (euler_maruyama_sample, {"zeta": 1.5}),
    (heun_sample, {"churn": 8.0, "churn_min": 0.05, "churn_max": 5.0, "churn_noise": 1.003}),
]


def _levels(steps, spacing="logsnr"):
    return SCHEDULE.rho(timesteps(SCHEDULE, steps, spacing))


def _starts(n, seed=0):
    return 20.0 * torch.randn(n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_without_noise_ancestral_sampling_is_ddim():
    lam, y = np.linspace(-3.0, 3.0, 13), _starts(5)
    ddim = multistep(MIXTURE, y, lam, dpm_solver_plan(12, order=1))
    ours = ancestral_sample(MIXTURE, y, np.exp(-lam), eta=0.0)
    assert torch.allclose(ours.x, ddim.x, rtol=1e-12, atol=1e-13)
    assert ours.nfe == ddim.nfe == 12


def test_dpm_solver_pp_is_the_multistep_solver_on_shared_levels():
    lam, y = np.array([-3.0, -2.6, -1.9, -1.0, 0.4, 1.0, 2.5]), _starts(5)
    plan = unipc_plan(6, order=2, variant="bh2", corrector=False, lower_order_final=False)
    ours = dpm_solver_pp_sample(MIXTURE, y, np.exp(-lam))
    assert torch.allclose(ours.x, multistep(MIXTURE, y, lam, plan).x, rtol=1e-12, atol=1e-12)
    assert ours.nfe == 6


def test_euler_without_noise_is_eulers_method_in_the_variance():
    levels, y = _levels(6), _starts(4)
    ours = euler_maruyama_sample(MIXTURE, y, levels, zeta=0.0).x
    for s, t in pairwise(levels):
        y = y + 0.5 * (s**2 - t**2) * MIXTURE.score(y, s)
    assert torch.allclose(ours, y, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("sample", "options"), [*NOISY, (ancestral_sample, {"eta": 1.0}), (euler_maruyama_sample, {"zeta": 0.3})])
def test_every_amount_of_noise_keeps_the_law_of_a_gaussian(sample, options):
    """The variance after many steps is that of the data, whatever the noise on the way."""
    gaussian = GaussianMixtureDenoiser([1.0], [[0.5, -1.0]], [0.3])
    n, levels = 20_000, _levels(400)
    y = torch.tensor([0.5, -1.0], dtype=torch.float64) + math.sqrt(0.3 + 20.0**2) / 20.0 * _starts(n)
    x = sample(gaussian, y, levels, generator=1, **options).x
    assert torch.allclose(x.mean(0), torch.tensor([0.5, -1.0], dtype=torch.float64), atol=4 * math.sqrt(0.3 / n) + 0.003)
    assert torch.allclose(x.var(0), torch.full((2,), 0.3 + 0.02**2, dtype=torch.float64), rtol=0.04)


@pytest.mark.parametrize(("sample", "options"), NOISY)
def test_masses_of_a_mixture(sample, options):
    levels = _levels(150)
    x = sample(MIXTURE, _starts(10_000), levels, generator=0, **options).x
    distance = torch.cdist(x, MIXTURE.means)
    responsibilities = torch.softmax(MIXTURE.weights.log() - distance**2 / (2 * MIXTURE.variances[:, 0]) - MIXTURE.variances[:, 0].log(), 1)
    assert responsibilities.mean(0)[0] == pytest.approx(0.3, abs=0.03)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_an_ancestral_step_is_exact_for_a_constant_denoiser(eta):
    """y at level s from one clean point: the law at level t is exact in one step."""
    y = 3.0 * torch.randn(200_000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = ancestral_sample(lambda y, sigma: torch.zeros_like(y), y, [3.0, 1.2], eta=eta, generator=1).x
    assert float(x.var()) == pytest.approx(1.2**2, rel=0.01)


def test_heun_converges_to_second_order_and_euler_to_first():
    y = _starts(32)
    reference = multistep(MIXTURE, y, -np.log(_levels(2000)), dpm_solver_plan(2000, order=3)).x

    def error(sample, steps, **options):
        return float((sample(MIXTURE, y, _levels(steps), **options).x - reference).norm(dim=1).median())

    for sample, options, order in ((heun_sample, {}, 2), (euler_maruyama_sample, {"zeta": 0.0}, 1), (ancestral_sample, {"eta": 0.0}, 1)):
        slope = math.log2(error(sample, 100, **options) / error(sample, 200, **options))
        assert slope >= order - 0.15


@pytest.mark.parametrize("sample", SAMPLERS)
def test_a_step_to_zero_returns_the_denoised_state_without_noise(sample):
    levels = np.append(_levels(5), 0.0)
    result = sample(MIXTURE, _starts(6), levels, keep_trajectory=True, generator=3)
    assert torch.allclose(result.x, MIXTURE(result.trajectory[-2], float(levels[-2])), rtol=1e-12, atol=1e-12)
    assert result.nfe == (11 if sample is heun_sample else 6)
    assert result.trajectory.shape == (7, 6, 2)
    assert torch.equal(result.trajectory[-1], result.x)


@pytest.mark.parametrize(("sample", "options"), [*NOISY, (dpm_solver_pp_sample, {})])
def test_levels_per_sample_equal_separate_runs(sample, options):
    """Without noise a batch of different levels is its samples one by one; with equal columns it is the run with shared levels, noise and all."""
    quiet = {name: 0.0 for name in options if name in ("eta", "zeta", "churn")}
    columns = np.stack([np.append(np.geomspace(start, 0.05, 6), 0.0) for start in (0.3, 2.0, 15.0)], axis=1)
    y = _starts(3)
    together = sample(MIXTURE, y, columns, **quiet).x
    for i in range(3):
        alone = sample(MIXTURE, y[i : i + 1], columns[:, i], **quiet).x
        assert torch.allclose(together[i : i + 1], alone, rtol=1e-12, atol=1e-12)
    same = np.repeat(columns[:, 1:2], 3, axis=1)
    assert torch.allclose(sample(MIXTURE, y, same, generator=0, **options).x, sample(MIXTURE, y, same[:, 0], generator=0, **options).x, atol=1e-12)


@pytest.mark.parametrize(("sample", "options"), NOISY)
def test_calls_are_counted_the_seed_decides_and_the_dtype_is_kept(sample, options):
    calls = []

    def counted(y, sigma):
        calls.append(sigma)
        return MIXTURE(y, sigma)

    y = _starts(4).float()
    first = sample(counted, y, _levels(7), generator=5, **options)
    assert len(calls) == first.nfe
    assert all(isinstance(sigma, float) for sigma in calls)
    assert torch.equal(first.x, sample(MIXTURE, y, _levels(7), generator=5, **options).x)
    assert not torch.equal(first.x, sample(MIXTURE, y, _levels(7), generator=6, **options).x)
    assert first.x.dtype == torch.float32
    columns = np.repeat(_levels(7)[:, None], 4, axis=1)
    assert sample(MIXTURE, y, columns, generator=5, **options).x.dtype == torch.float32


def test_any_schedule_gives_its_levels():
    schedule = VPLinear()
    levels = schedule.rho(timesteps(schedule, 200, "uniform"))
    y = levels[0] * torch.randn(4000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = euler_maruyama_sample(MIXTURE, y, levels, generator=0).x
    assert torch.allclose(x.mean(0), MIXTURE.weights.double() @ MIXTURE.means, atol=0.08)


@pytest.mark.parametrize("sample", SAMPLERS)
@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"sigmas": [1.0]}, "sigmas"),
        ({"sigmas": [1.0, 2.0]}, "sigmas"),
        ({"sigmas": [1.0, 0.5, -0.1]}, "sigmas"),
        ({"sigmas": np.ones((3, 2))}, "sigmas"),
        ({"sigmas": np.array([[2.0, 2.0, 2.0], [1.0, 1.0, 1.0], [0.0, 0.5, 0.0]])}, "sigmas"),
        ({"y": torch.zeros(3)}, "y must have shape"),
        ({"denoiser": lambda y, sigma: y[:1]}, "denoiser must return the shape"),
        ({"denoiser": lambda y, sigma: y / 0}, "not finite at step 1"),
    ],
)
def test_refusals(sample, change, name):
    with pytest.raises(ValueError, match=name):
        sample(**({"denoiser": MIXTURE, "y": _starts(3), "sigmas": [2.0, 1.0, 0.5]} | change))


@pytest.mark.parametrize(
    ("sample", "options", "name"),
    [
        (ancestral_sample, {"eta": 1.1}, "eta"),
        (euler_maruyama_sample, {"zeta": -0.1}, "zeta"),
        (heun_sample, {"churn": -1.0}, "churn"),
        (heun_sample, {"churn_min": 2.0, "churn_max": 1.0}, "churn_max"),
    ],
)
def test_amounts_of_noise_out_of_range(sample, options, name):
    with pytest.raises(ValueError, match=name):
        sample(MIXTURE, _starts(3), [2.0, 1.0], **options)


def _specimen(sample, **options):
    return Specimen(
        lambda **arguments: sample(lambda y, sigma: y / 2, **arguments),
        lambda: {"y": _starts(2), "sigmas": np.array([2.0, 1.0, 0.5]), "keep_trajectory": False, "generator": 0} | options,
        accepts={"y": ("more dimensions",), "generator": ("none",), "churn_max": ("none",)},
    )


SPECIMENS = {
    "ancestral_sample": _specimen(ancestral_sample, eta=0.5),
    "dpm_solver_pp_sample": _specimen(dpm_solver_pp_sample),
    "euler_maruyama_sample": _specimen(euler_maruyama_sample, zeta=0.5),
    "heun_sample": _specimen(heun_sample, churn=1.0, churn_min=0.1, churn_max=3.0, churn_noise=1.0),
}
