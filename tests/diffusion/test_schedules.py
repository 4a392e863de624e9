"""Noise schedules: their definitions, inverses and derivatives, and the grids of times."""

import math

import numpy as np
import pytest
import torch
from specimens import Specimen

from ritz.diffusion import EDM, VE, Discrete, Flow, VPCosine, VPLinear, timesteps

BETAS = np.linspace(1e-4, 0.02, 1000)
ALPHAS_CUMPROD = np.cumprod(1 - BETAS)
SCHEDULES = [VPLinear(), VPCosine(), VE(), EDM(), Flow(), Flow(shift=3.0), Discrete(ALPHAS_CUMPROD)]
named = pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)


def _grid(schedule, n=50):
    return timesteps(schedule, n)[1:-1]


@named
def test_inverse_lam_inverts_lam(schedule):
    t = timesteps(schedule, 200)
    assert np.max(np.abs(schedule.inverse_lam(schedule.lam(t)) / t - 1)) < 1e-11


@named
def test_lam_and_rho_are_ratios_of_alpha_and_sigma(schedule):
    t = _grid(schedule)
    assert np.allclose(schedule.rho(t), schedule.sigma(t) / schedule.alpha(t), rtol=1e-11, atol=0)
    assert np.allclose(schedule.lam(t), np.log(schedule.alpha(t) / schedule.sigma(t)), rtol=0, atol=1e-11)
    assert np.allclose(schedule.alpha(t), np.exp(schedule.log_alpha(t)), rtol=1e-13, atol=0)


@named
def test_drift_and_diffusion_are_derivatives(schedule):
    t = torch.from_numpy(_grid(schedule) * (1 + 1e-9))  # off the kinks of a piecewise linear schedule
    one = torch.ones_like(t)
    _, dlog_alpha = torch.func.jvp(schedule.log_alpha, (t,), (one,))
    _, dlam = torch.func.jvp(schedule.lam, (t,), (one,))
    assert torch.allclose(schedule.dlog_alpha(t), dlog_alpha, rtol=1e-11, atol=1e-13)
    assert torch.allclose(schedule.g2(t), -2 * schedule.sigma(t) ** 2 * dlam, rtol=1e-11, atol=0)


@named
def test_floats_arrays_and_tensors_agree(schedule):
    t = _grid(schedule, 6)
    for method in ("log_alpha", "alpha", "sigma", "rho", "lam", "dlog_alpha", "g2", "inverse_lam"):
        function = getattr(schedule, method)
        values = function(t)
        assert isinstance(values, np.ndarray)
        assert isinstance(function(float(t[0])), float)
        assert np.allclose([function(float(time)) for time in t], values, rtol=1e-13, atol=1e-14)
        tensor = function(torch.from_numpy(t))
        assert isinstance(tensor, torch.Tensor)
        assert np.allclose(tensor.numpy(), values, rtol=1e-12, atol=1e-13)


def test_variance_preserving_schedules_keep_their_precision_at_small_times():
    schedule = VPLinear()
    t = 1e-9
    exact = math.sqrt(-math.expm1(2 * (-0.25 * 19.9 * t**2 - 0.05 * t)))
    assert schedule.sigma(t) == pytest.approx(exact, rel=1e-14)
    assert schedule.inverse_lam(schedule.lam(t)) == pytest.approx(t, rel=1e-7)


def test_definitions():
    t = 0.37
    assert VPLinear(0.1, 20.0).g2(t) == pytest.approx(0.1 + 19.9 * t, rel=1e-13)
    assert VPCosine(0.008).alpha(t) == pytest.approx(math.cos((t + 0.008) / 1.008 * math.pi / 2) / math.cos(0.008 / 1.008 * math.pi / 2), rel=1e-13)
    assert VE(0.01, 50.0).sigma(t) == pytest.approx(0.01 * 5000**t, rel=1e-13)
    assert EDM().sigma(t) == t
    assert EDM().g2(t) == 2 * t
    shifted = 3 * t / (1 + 2 * t)
    assert Flow(3.0).sigma(t) == pytest.approx(shifted, rel=1e-13)
    assert Flow(3.0).alpha(t) == pytest.approx(1 - shifted, rel=1e-13)


def test_a_discrete_schedule_passes_through_its_table_and_drops_its_tail():
    schedule = Discrete(ALPHAS_CUMPROD)
    t = np.arange(1, 1001) / 1000
    assert np.allclose(schedule.alpha(t) ** 2, ALPHAS_CUMPROD, rtol=1e-12, atol=0)
    between = 0.5 * (np.log(ALPHAS_CUMPROD[10]) + np.log(ALPHAS_CUMPROD[11])) / 2
    assert schedule.log_alpha(0.0115) == pytest.approx(between, rel=1e-12)
    steep = Discrete(np.concatenate([ALPHAS_CUMPROD[:-2], [1e-6, 1e-9]]))
    assert steep.t_max == pytest.approx(0.998)
    assert steep.lam(steep.t_max) > -5.1


def test_grids_are_uniform_in_what_they_say():
    schedule = VPLinear()
    differences = {
        "logsnr": np.diff(schedule.lam(timesteps(schedule, 12))),
        "uniform": np.diff(timesteps(schedule, 12, "uniform")),
        "quadratic": np.diff(np.sqrt(timesteps(schedule, 12, "quadratic"))),
        "karras": np.diff(schedule.rho(timesteps(schedule, 12, "karras", rho=5.0)) ** 0.2),
    }
    for difference in differences.values():
        assert np.allclose(difference, difference[0], rtol=1e-8)


@named
@pytest.mark.parametrize("spacing", ["logsnr", "uniform", "quadratic", "karras"])
def test_grids_fall_from_start_to_end(schedule, spacing):
    t = timesteps(schedule, 9, spacing)
    assert t.shape == (10,)
    assert (t[0], t[-1]) == (schedule.t_max, schedule.t_min)
    assert np.all(np.diff(t) < 0)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: VPLinear(beta_min=2.0, beta_max=1.0), "beta_max"),
        (lambda: VE(sigma_min=0.0), "sigma_min"),
        (lambda: VPLinear(t_min=0.5, t_max=0.1), "t_max"),
        (lambda: VPCosine(t_max=1.5), "t_max"),
        (lambda: Flow(t_max=1.0), "t_max"),
        (lambda: Discrete([0.5, 0.7]), "alphas_cumprod"),
        (lambda: Discrete([0.5]), "alphas_cumprod"),
        (lambda: VPLinear().alpha(0.0), "t must be positive"),
        (lambda: VPLinear().alpha(np.array([0.1, -0.1])), "t must be positive"),
        (lambda: timesteps(VPLinear(), 5, t_start=0.1, t_end=0.2), "t_end"),
        (lambda: timesteps(VPLinear(), 5, t_end=0.0), "t_end"),
    ],
)
def test_refusals(make, name):
    with pytest.raises(ValueError, match=name):
        make()


def test_something_else_is_no_schedule():
    with pytest.raises(TypeError, match="schedule"):
        timesteps("vp", 5)


def _all_methods(schedule, t):
    return [getattr(schedule, name)(t) for name in ("alpha", "sigma", "lam", "g2")]


SPECIMENS = {
    "VPLinear": Specimen(VPLinear, lambda: {"beta_min": 0.1, "beta_max": 20.0, "t_min": 1e-3, "t_max": 1.0}),
    "VPCosine": Specimen(VPCosine, lambda: {"s": 0.008, "t_min": 1e-3, "t_max": 0.99}),
    "VE": Specimen(VE, lambda: {"sigma_min": 0.01, "sigma_max": 50.0, "t_min": 1e-5, "t_max": 1.0}),
    "EDM": Specimen(EDM, lambda: {"sigma_min": 0.002, "sigma_max": 80.0}),
    "Flow": Specimen(Flow, lambda: {"shift": 3.0, "t_min": 1e-3, "t_max": 0.99}),
    "Discrete": Specimen(Discrete, lambda: {"alphas_cumprod": ALPHAS_CUMPROD.copy()}),
    "NoiseSchedule": Specimen(
        lambda t: _all_methods(VPLinear(), t), lambda: {"t": np.array([0.1, 0.9])}, accepts={"t": ("more dimensions", "scalar")}
    ),
    "NoiseSchedule.inverse_lam": Specimen(VPLinear().inverse_lam, lambda: {"lam": 0.5}, accepts={"lam": ("list",)}),
    "timesteps": Specimen(
        timesteps,
        lambda: {"schedule": VPLinear(), "n": 5, "spacing": "karras", "rho": 7.0, "t_start": 0.9, "t_end": 0.01},
        accepts={"t_start": ("none",), "t_end": ("none",)},
    ),
}
