"""DEIS: its reductions to DDIM and to each other, what it integrates exactly, its orders, and its coefficients."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from specimens import Specimen

from ritz.diffusion import (
    EDM,
    VE,
    Discrete,
    Flow,
    GaussianMixtureDenoiser,
    VPCosine,
    VPLinear,
    deis_coefficients,
    deis_sample,
    dpm_solver_plan,
    multistep,
    timesteps,
)
from ritz.diffusion.deis import MULTISTEP_VARIANTS, TABLEAUX, evaluation_times

VP = VPLinear()
SCHEDULES = [VP, VPCosine(), VE(), EDM(), Flow(), Flow(shift=3.0), Discrete(np.cumprod(1 - np.linspace(1e-4, 0.02, 1000)))]
SPACINGS = ["logsnr", "uniform", "quadratic", "karras"]
MIXTURE = GaussianMixtureDenoiser([1.0, 1.0], torch.tensor([[0.5, 0.0], [-0.5, 0.3]], dtype=torch.float64), torch.tensor([0.3, 0.5]))
MEAN, VARIANCE = torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64), torch.tensor([[0.5, 0.1, 2.0]], dtype=torch.float64)
GAUSSIAN = GaussianMixtureDenoiser([1.0], MEAN, VARIANCE)
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)
every_variant = pytest.mark.parametrize(
    "options",
    [{"variant": variant, "order": order} for variant in MULTISTEP_VARIANTS for order in range(5)]
    + [{"variant": "rho_rk", "rk": rk} for rk in TABLEAUX],
    ids=lambda options: "-".join(map(str, options.values())),
)


def _starts(schedule, d=2, n=16, seed=0):
    return schedule.rho(schedule.t_max) * torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _relative(found, expected):
    return float((found - expected).norm() / expected.norm())


@every_schedule
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("variant", MULTISTEP_VARIANTS)
def test_degree_zero_is_ddim(variant, spacing, schedule):
    starts = _starts(schedule)
    lam = schedule.lam(timesteps(schedule, 8, spacing))
    ddim = multistep(MIXTURE, starts, lam, dpm_solver_plan(8, order=1)).x
    assert _relative(deis_sample(MIXTURE, starts, schedule, steps=8, variant=variant, order=0, spacing=spacing).x, ddim) < 1e-12


@every_variant
@pytest.mark.parametrize("spacing", SPACINGS)
def test_a_constant_noise_prediction_is_integrated_exactly(options, spacing):
    c = torch.tensor([[0.3, -1.7]], dtype=torch.float64)
    starts = _starts(EDM())
    result = deis_sample(lambda y, rho: y - rho * c, starts, EDM(), steps=6, spacing=spacing, **options)
    assert _relative(result.x, starts + (0.002 - 80) * c) < 1e-12


@every_schedule
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_tab_integrates_polynomials_in_time_exactly_after_warm_up(order, schedule):
    """The noise prediction is a polynomial of t of degree `order`: from the first full row on, a step is its integral in rho."""
    scale = schedule.t_max

    def noise(t):
        return (0.3 + t / scale) ** order

    times = timesteps(schedule, 8, "quadratic")
    coefficients = deis_coefficients(schedule, times, variant="tab", order=order)
    tolerance, quad_tolerance = (1e-5, 1e-7) if isinstance(schedule, Discrete) else (1e-10, 1e-12)  # a table's kinks are beyond Gauss' rule
    for i in range(order, 8):
        found = coefficients[i] @ noise(times[i - order : i + 1][::-1])
        ends = schedule.lam(times[i : i + 2])
        exact = -quad(lambda lam: math.exp(-lam) * noise(schedule.inverse_lam(lam)), *ends, epsabs=0, epsrel=quad_tolerance, limit=400)[0]
        assert found == pytest.approx(exact, rel=tolerance)


@every_schedule
@pytest.mark.parametrize("order", [1, 2, 3])
def test_rho_ab_and_ipndm_integrate_polynomials_of_their_own_variable(order, schedule):
    times = timesteps(schedule, 8, "logsnr")
    rho = schedule.rho(times)
    table = deis_coefficients(schedule, times, variant="rho_ab", order=order)
    for i in range(order, 8):
        found = table[i] @ (0.3 + rho[i - order : i + 1][::-1] / rho[i]) ** order
        exact = rho[i] * ((0.3 + rho[i + 1] / rho[i]) ** (order + 1) - 1.3 ** (order + 1)) / (order + 1)
        assert found == pytest.approx(exact, rel=1e-9)
    row = deis_coefficients(schedule, times, variant="ipndm", order=order)[-1] / (rho[-1] - rho[-2])
    classical = {1: [3 / 2, -1 / 2], 2: [23 / 12, -16 / 12, 5 / 12], 3: [55 / 24, -59 / 24, 37 / 24, -9 / 24]}[order]
    assert np.allclose(row, classical, rtol=1e-12)


@every_schedule
@pytest.mark.parametrize("variant", MULTISTEP_VARIANTS)
@pytest.mark.parametrize("order", range(5))
@pytest.mark.parametrize("spacing", SPACINGS)
def test_coefficients_of_a_step_sum_to_its_length(order, variant, spacing, schedule):
    times = timesteps(schedule, 7, spacing)
    coefficients = deis_coefficients(schedule, times, variant=variant, order=order)
    assert coefficients.shape == (7, order + 1)
    assert np.all(np.abs(coefficients.sum(1) - np.diff(schedule.rho(times))) <= 1e-12 * np.abs(coefficients).sum(1))
    assert np.all(coefficients[np.arange(order + 1)[None] > np.arange(7)[:, None]] == 0)


def test_tab_on_edm_is_rho_ab():
    for order in range(5):
        times = timesteps(EDM(), 9, "karras")
        tab, rho_ab = (deis_coefficients(EDM(), times, variant=variant, order=order) for variant in ("tab", "rho_ab"))
        assert np.max(np.abs(tab - rho_ab) / np.abs(tab).sum(1, keepdims=True)) < 1e-12
        samples = [
            deis_sample(MIXTURE, _starts(EDM()), EDM(), steps=9, variant=variant, order=order, spacing="karras").x for variant in ("tab", "rho_ab")
        ]
        assert _relative(*samples) < 1e-12


@pytest.mark.parametrize("options", [{"variant": "rho_ab", "order": 3}, *({"variant": "rho_rk", "rk": rk} for rk in TABLEAUX)], ids=str)
def test_variants_in_rho_do_not_know_the_schedule(options):
    ends = VP.rho(1.0), VP.rho(1e-3)
    edm = EDM(sigma_min=ends[1], sigma_max=ends[0])
    one, other = (deis_sample(MIXTURE, _starts(VP), schedule, steps=8, spacing="logsnr", **options).x for schedule in (VP, edm))
    assert _relative(one, other) < 1e-10


def _gaussian_slope(**options):
    """The exact path keeps (y - m) / sqrt(v + rho^2)."""
    starts = _starts(VP, 3, 64)
    exact = MEAN + (starts - MEAN) * torch.sqrt((VARIANCE + VP.rho(1e-3) ** 2) / (VARIANCE + VP.rho(1.0) ** 2))
    errors = [(deis_sample(GAUSSIAN, starts, VP, steps=n, **options).x - exact).norm(dim=1).median().item() for n in (40, 80, 160)]
    return math.log2(errors[0] / errors[-1]) / 2


@pytest.mark.parametrize("order", [1, 2])
def test_order_of_convergence_of_tab(order):
    assert _gaussian_slope(variant="tab", order=order) >= order + 0.8


@pytest.mark.parametrize(("rk", "order"), [("euler", 1), ("heun2", 2), *((rk, 3) for rk in TABLEAUX if rk.endswith("3")), ("rk4", 4)])
def test_order_of_convergence_of_runge_kutta(rk, order):
    assert _gaussian_slope(variant="rho_rk", rk=rk) >= order - 0.2


@pytest.mark.parametrize("rk", TABLEAUX)
def test_runge_kutta_steps_are_those_of_a_plain_loop(rk):
    stages, weights = TABLEAUX[rk]
    times = timesteps(VP, 5, "quadratic")
    y, calls = _starts(VP), []
    for start, end in pairwise(VP.rho(times)):
        noises = []
        for row in ((), *stages):
            at = y + (end - start) * sum((a * noise for a, noise in zip(row, noises)), torch.zeros_like(y))
            rho = start + sum(row) * (end - start)
            calls.append(rho)
            noises.append((at - MIXTURE(at, rho)) / rho)
        y = y + (end - start) * sum(b * noise for b, noise in zip(weights, noises))
    seen = []
    result = deis_sample(lambda y, rho: seen.append(rho) or MIXTURE(y, rho), _starts(VP), VP, steps=5, variant="rho_rk", rk=rk)
    assert _relative(result.x, y) < 1e-11
    assert np.allclose(seen, calls, rtol=1e-12)
    assert result.nfe == 5 * len(weights)
    assert np.allclose(VP.rho(evaluation_times(VP, times, "rho_rk", rk))[:-1], calls, rtol=1e-9)


@every_variant
def test_calls_are_counted(options):
    calls = []
    result = deis_sample(lambda y, sigma: calls.append(sigma) or MIXTURE(y, sigma), _starts(VP), VP, steps=7, **options)
    stages = len(TABLEAUX[options["rk"]][1]) if "rk" in options else 1
    assert len(calls) == result.nfe == 7 * stages
    assert min(calls) >= VP.rho(VP.t_min) * (1 - 1e-12)


def test_coefficients_are_kept_and_cannot_be_spoiled():
    times = timesteps(VP, 10, "quadratic")
    first = deis_coefficients(VP, times)
    assert deis_coefficients(VP, times.copy()) is first
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0] = 1.0


def test_single_precision_is_kept():
    double = deis_sample(MIXTURE, _starts(VP), VP, steps=10).x
    single = deis_sample(MIXTURE, _starts(VP).float(), VP, steps=10).x
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), double, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"order": 5}, "order"),
        ({"order": -1}, "order"),
        ({"steps": 0}, "steps"),
        ({"variant": "ab"}, "variant"),
        ({"rk": "rk5"}, "rk"),
        ({"t_end": 0.0}, "t_end"),
        ({"t_end": -0.1}, "t_end"),
        ({"t_start": 0.2, "t_end": 0.3}, "t_end"),
        ({"x_T": torch.zeros(2)}, "x_T"),
        ({"denoiser": lambda y, sigma: y if sigma > 10 else y / 0}, "not finite at step 3"),
        ({"denoiser": lambda y, sigma: y if sigma > 10 else y / 0, "variant": "rho_rk"}, "not finite at step 2"),
        ({"denoiser": lambda y, sigma: y[:1]}, "step 1"),
    ],
)
def test_refusals(change, name):
    with pytest.raises(ValueError, match=name):
        deis_sample(**{"denoiser": MIXTURE, "x_T": _starts(VP), "schedule": VP, "steps": 10} | change)


@pytest.mark.parametrize("times", [[0.5, 0.5, 0.1], [0.1, 0.5], [0.5], [0.5, 0.0]])
def test_times_must_fall_strictly(times):
    with pytest.raises(ValueError, match="times"):
        deis_coefficients(VP, times)


SPECIMENS = {
    "deis_sample": Specimen(
        lambda **arguments: deis_sample(lambda y, sigma: y / (1 + sigma**2), schedule=VP, **arguments),
        lambda: {
            "x_T": torch.ones(2, 3, dtype=torch.float64),
            "steps": 4,
            "variant": "tab",
            "order": 2,
            "rk": "heun2",
            "spacing": "quadratic",
            "t_start": 1.0,
            "t_end": 0.01,
        },
        accepts={"t_start": ("none",), "t_end": ("none",), "x_T": ("more dimensions",)},
    ),
    "deis_coefficients": Specimen(
        lambda **arguments: deis_coefficients(VP, **arguments),
        lambda: {"times": np.linspace(1.0, 0.1, 5), "variant": "tab", "order": 2},
    ),
}
