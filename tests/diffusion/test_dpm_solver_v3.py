"""DPM-Solver-v3: its two degenerate cases, exactness on Gaussian data, order, corrector, and the tables of the paper."""

import math

import numpy as np
import pytest
import torch
from specimens import Specimen

import ritz.diffusion.dpm_solver_v3 as module
from ritz.diffusion import (
    EDM,
    EMS,
    GaussianMixtureDenoiser,
    VPLinear,
    compute_ems,
    dpm_solver_plan,
    dpm_solver_v3_sample,
    multistep,
)
from ritz.diffusion.exponential_integrator import compile_update
from ritz.diffusion.solver_plan import Update

SCHEDULE = VPLinear()
RANGE = (SCHEDULE.lam(1.0), SCHEDULE.lam(1e-3))
SMOOTH = GaussianMixtureDenoiser([1.0, 1.0], torch.tensor([[0.5, 0.0], [-0.5, 0.3]], dtype=torch.float64), torch.tensor([0.3, 0.5]))
STARTS = SCHEDULE.rho(1.0) * torch.randn(48, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
MEAN, VARIANCE = torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64), torch.tensor([[0.5, 0.01, 2.0]], dtype=torch.float64)
GAUSSIAN = GaussianMixtureDenoiser([1.0], MEAN, VARIANCE)


def _degenerate(prediction, grid_size=120):
    return EMS.degenerate(prediction, np.linspace(*RANGE, grid_size + 1))


@pytest.fixture(scope="module")
def smooth_ems():
    return compute_ems(SMOOTH, SCHEDULE, (2,), grid_size=1200, samples=48, generator=0, dtype=torch.float64)


@pytest.fixture(scope="module")
def small_ems():
    return compute_ems(SMOOTH, SCHEDULE, (2,), samples=64, generator=0, dtype=torch.float64)


@pytest.fixture(scope="module")
def endpoints():
    return multistep(SMOOTH, STARTS, np.linspace(*RANGE, 3001), dpm_solver_plan(3000)).x


@pytest.mark.parametrize("prediction", ["data", "noise"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_degenerate_statistics_give_dpm_solver_up_to_the_trapezoid(order, prediction):
    """Steps 12 divide every grid, so nothing is moved and only the quadrature differs."""
    errors = []
    for grid_size in (120, 240):
        ours = dpm_solver_v3_sample(SMOOTH, STARTS, SCHEDULE, _degenerate(prediction, grid_size), steps=12, order=order, corrector=False).x
        theirs = multistep(SMOOTH, STARTS, np.linspace(*RANGE, 13), dpm_solver_plan(12, order=order, prediction=prediction)).x
        errors.append(((ours - theirs).norm() / theirs.norm()).item())
    assert errors[0] < 1e-2
    assert errors[0] / errors[1] >= 3.5


@pytest.mark.parametrize("prediction", ["data", "noise"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_degenerate_statistics_with_exact_tables_give_dpm_solver(order, prediction, monkeypatch):
    monkeypatch.setattr(module.EMSPrediction, "integrals", _exact_integrals)
    monkeypatch.setattr(module.EMSPrediction, "relative", _exact_relative)
    ours = dpm_solver_v3_sample(SMOOTH, STARTS, SCHEDULE, _degenerate(prediction), steps=12, order=order, corrector=False).x
    theirs = multistep(SMOOTH, STARTS, np.linspace(*RANGE, 13), dpm_solver_plan(12, order=order, prediction=prediction)).x
    assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-10)


def _exact_integrals(self, lam_s, lam_t, order):
    """L and S are linear here, so the integrals are those of an exponential times a power: 48 Gauss points are exact to rounding."""
    l, s = float(self.ems.l[0]), float(self.ems.s[0])
    x, weights = np.polynomial.legendre.leggauss(48)
    h = lam_t - lam_s
    at, weights = 0.5 * h * (x + 1), 0.5 * h * weights
    scale = math.exp(-l * h)
    return scale, [-scale * float(weights @ (np.exp((l + s) * at) * at**k / math.factorial(k))) for k in range(order)], 0.0


def _exact_relative(self, lam, lam_s):
    return math.exp(float(self.ems.s[0]) * (lam_s - lam)), 0.0


def test_one_first_order_step_on_gaussian_data_is_exact_up_to_quadrature():
    y = STARTS[:16, :1].expand(-1, 3).contiguous()
    errors = {}
    for grid_size in (600, 1200):
        ems = compute_ems(GAUSSIAN, SCHEDULE, (3,), grid_size=grid_size, samples=8, generator=0, dtype=torch.float64)
        for start, end in ((0.0, 0.5), (0.25, 1.0), (0.0, 1.0)):
            lam_s, lam_t = (RANGE[0] + part * (RANGE[1] - RANGE[0]) for part in (start, end))
            here = MEAN + (y / math.exp(-RANGE[0])) * torch.sqrt(VARIANCE + math.exp(-2 * lam_s))
            there = MEAN + (y / math.exp(-RANGE[0])) * torch.sqrt(VARIANCE + math.exp(-2 * lam_t))
            t_start, t_end = SCHEDULE.inverse_lam(lam_s), SCHEDULE.inverse_lam(lam_t)
            ours = dpm_solver_v3_sample(GAUSSIAN, here, SCHEDULE, ems, steps=1, order=1, t_start=t_start, t_end=t_end).x
            errors[grid_size, start, end] = ((ours - there).norm() / there.norm()).item()
    for (grid_size, start, end), error in errors.items():
        if grid_size == 1200:
            assert error < 1e-3
            assert errors[600, start, end] / error == pytest.approx(4, rel=0.15)


@pytest.mark.parametrize("corrector", [True, False])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_order_of_convergence(order, corrector, smooth_ems, endpoints):
    errors = []
    for steps in (20, 40, 80):
        options = {"steps": steps, "order": order, "corrector": corrector, "lower_order_final": False}
        errors.append((dpm_solver_v3_sample(SMOOTH, STARTS, SCHEDULE, smooth_ems, **options).x - endpoints).norm(dim=1).median().item())
    assert math.log2(errors[0] / errors[-1]) / 2 >= order - 0.2


@pytest.mark.parametrize("options", [{}, {"pseudo_corrector": True}, {"pseudo_predictor": True}, {"corrector": False}, {"corrector_t_max": 0.5}])
def test_every_variant_makes_one_call_per_step(options, small_ems):
    calls = []
    result = dpm_solver_v3_sample(lambda y, sigma: calls.append(sigma) or SMOOTH(y, sigma), STARTS, SCHEDULE, small_ems, steps=9, **options)
    assert len(calls) == result.nfe == 9
    assert all(isinstance(sigma, float) for sigma in calls)


def test_the_variants_differ_where_they_should(small_ems):
    def sample(**options):
        return dpm_solver_v3_sample(SMOOTH, STARTS, SCHEDULE, small_ems, steps=8, **options).x

    base = sample()
    for options in ({"pseudo_corrector": True}, {"pseudo_predictor": True}, {"corrector": False}, {"lower_order_final": False}, {"order": 2}):
        assert not torch.allclose(base, sample(**options), rtol=1e-6, atol=1e-8)
    assert torch.equal(sample(corrector_t_max=1.0), base)
    assert torch.equal(sample(corrector_t_max=1e-6), sample(corrector=False))
    half = sample(corrector_t_max=0.5)
    assert not torch.equal(half, base)
    assert not torch.equal(half, sample(corrector=False))


def test_coefficients_are_those_of_the_tables_of_the_paper(small_ems):
    """The formulas of the paper with cumulative tables L, S, I, B, C over the whole grid, written out for a third-order step."""
    lam, l, s, b = (table.numpy() for table in (small_ems.lam, small_ems.l, small_ems.s, small_ems.b))

    def cumulative(values):
        parts = 0.5 * np.diff(lam)[:, None] * (values[1:] + values[:-1])
        return np.concatenate([np.zeros((1, 2)), np.cumsum(parts, axis=0)])

    L, S = cumulative(l), cumulative(s)
    I, B = cumulative(np.exp(L + S)), cumulative(np.exp(-S) * b)
    C = cumulative(np.exp(L + S) * B)
    older, oldest, start, end = 60, 48, 75, 90
    rng = np.random.default_rng(0)
    y, f = rng.normal(size=2), {node: rng.normal(size=2) for node in (oldest, older, start)}

    def g(node):
        return np.exp(S[start] - S[node]) * f[node] - np.exp(S[start]) * (B[node] - B[start])

    expected = np.exp(L[start] - L[end]) * y - np.exp(-L[end] - S[start]) * (I[end] - I[start]) * g(start)
    expected -= np.exp(-L[end]) * (C[end] - C[start] - B[start] * (I[end] - I[start]))
    offsets = lam[[older, oldest]] - lam[start]
    derivatives = np.linalg.solve(np.stack([offsets, offsets**2 / 2], axis=1), np.stack([g(older) - g(start), g(oldest) - g(start)]))
    for k in (1, 2):
        part = slice(start, end + 1)
        weight = np.exp((L + S)[part] - (L + S)[start]) * ((lam[part] - lam[start]) ** k / math.factorial(k))[:, None]
        expected -= np.exp(L[start] - L[end]) * np.trapezoid(weight, lam[part], axis=0) * derivatives[k - 1]

    nodes = [float(lam[node]) for node in (oldest, older, start)]
    update = compile_update(Update.over(3, (-2, -3)), nodes, float(lam[end]), module.EMSPrediction(small_ems))
    values = [torch.from_numpy(f[node]) for node in (oldest, older, start)]
    ours = update([None, None, torch.from_numpy(y)], values)
    assert np.allclose(ours.numpy(), expected, rtol=1e-10, atol=1e-12)


def test_the_corrector_keeps_f_and_not_the_noise_prediction(small_ems):
    """Written out for two steps: the second step starts at the corrected state with the f of the predicted one."""
    nodes = [0, 60, 120]
    lam = small_ems.lam[nodes].tolist()
    prediction = module.EMSPrediction(small_ems)
    first = compile_update(Update(1), lam[:1], lam[1], prediction)
    redo = compile_update(Update.over(2, (-1,), start=-2), lam[:2], lam[1], prediction)
    last = compile_update(Update(1), lam[:2], lam[2], prediction)
    f0 = prediction.value(STARTS, SMOOTH(STARTS, math.exp(-lam[0])), lam[0])
    predicted = first([STARTS], [f0])
    f1 = prediction.value(predicted, SMOOTH(predicted, math.exp(-lam[1])), lam[1])
    corrected = redo([STARTS, predicted], [f0, f1])
    expected = last([STARTS, corrected], [f0, f1])
    ours = dpm_solver_v3_sample(SMOOTH, STARTS, SCHEDULE, small_ems, steps=2, order=1, pseudo_corrector=True).x
    assert torch.allclose(ours, expected, rtol=1e-12, atol=1e-12)


def test_permuting_coordinates_permutes_the_samples_exactly():
    ems = compute_ems(GAUSSIAN, SCHEDULE, (3,), samples=16, generator=0, dtype=torch.float64)
    order, back = torch.tensor([2, 0, 1]), torch.tensor([1, 2, 0])
    y = STARTS[:, :1] + torch.arange(3.0, dtype=torch.float64)
    permuted_ems = EMS(ems.lam, ems.l[:, order], ems.s[:, order], ems.b[:, order])

    def permuted(y, sigma):
        return GAUSSIAN(y[:, back], sigma)[:, order]

    plain = dpm_solver_v3_sample(GAUSSIAN, y, SCHEDULE, ems, steps=7).x
    assert torch.equal(dpm_solver_v3_sample(permuted, y[:, order], SCHEDULE, permuted_ems, steps=7).x, plain[:, order])


def test_times_move_to_the_nearest_node(small_ems):
    from ritz.diffusion import timesteps

    seen = []
    dpm_solver_v3_sample(
        lambda y, sigma: seen.append(-math.log(sigma)) or SMOOTH(y, sigma), STARTS, SCHEDULE, small_ems, steps=7, spacing="quadratic"
    )
    wanted = SCHEDULE.lam(timesteps(SCHEDULE, 7, "quadratic"))[:-1]
    grid = small_ems.lam.numpy()
    assert np.allclose(seen, [grid[np.argmin(np.abs(grid - lam))] for lam in wanted], atol=1e-9)


def test_images_and_single_precision(small_ems):
    ems = compute_ems(
        lambda y, sigma: SMOOTH(y.reshape(-1, 2), sigma.repeat_interleave(6) if isinstance(sigma, torch.Tensor) else sigma).reshape(y.shape),
        SCHEDULE,
        (3, 2, 2),
        samples=16,
        generator=0,
    )
    y = STARTS.reshape(8, 3, 2, 2).float()
    double = dpm_solver_v3_sample(_image, y.double(), SCHEDULE, ems, steps=8).x
    single = dpm_solver_v3_sample(_image, y, SCHEDULE, ems, steps=8).x
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), double, rtol=1e-3, atol=1e-4)


def _image(y, sigma):
    return SMOOTH(y.reshape(-1, 2), sigma).reshape(y.shape)


def test_the_sampler_is_a_plan_like_any_other(small_ems):
    """The same steps through the one loop of the room."""
    plan = module.dpm_solver_v3_plan([True] * 5 + [False], order=3, pseudo_predictor=False, pseudo_corrector=False, lower_order_final=True)
    lam = small_ems.lam[::20].numpy()
    result = multistep(SMOOTH, STARTS, lam, plan, predictions={"ems": module.EMSPrediction(small_ems)})
    assert torch.allclose(result.x, dpm_solver_v3_sample(SMOOTH, STARTS, SCHEDULE, small_ems, steps=6).x, rtol=1e-12, atol=1e-12)


def test_a_second_call_uses_the_same_coefficients(small_ems):
    first = dpm_solver_v3_sample(SMOOTH, STARTS, SCHEDULE, small_ems, steps=6).x
    kept = len(module._COMPILED[small_ems])
    assert torch.equal(dpm_solver_v3_sample(SMOOTH, STARTS, SCHEDULE, small_ems, steps=6).x, first)
    assert len(module._COMPILED[small_ems]) == kept


def test_large_exponents_do_not_overflow():
    """e^L alone would exceed double precision here."""
    ems = EMS(np.linspace(-4.0, 6.0, 1201), 100 * np.ones(1201), np.zeros(1201), np.ones(1201))
    result = dpm_solver_v3_sample(SMOOTH, STARTS, EDM(), ems, steps=1, order=1)
    assert torch.isfinite(result.x).all()


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"ems": EMS(np.linspace(*RANGE, 121), *np.zeros((3, 121, 5)))}, "ems was made for samples of shape"),
        ({"schedule": EDM()}, "ems covers lam"),
        ({"t_start": 1.5}, "t_start"),
        ({"t_end": 1e-4}, "t_end"),
        ({"t_start": 0.2, "t_end": 0.3}, "t_end"),
        ({"steps": 100, "spacing": "quadratic"}, "grid_size"),
        ({"order": 4}, "order"),
        ({"order": 0}, "order"),
        ({"spacing": "cosine"}, "spacing"),
        ({"corrector_t_max": -1.0}, "corrector_t_max"),
        ({"x_T": torch.zeros(2)}, "x_T"),
        ({"denoiser": lambda y, sigma: y / 0}, "not finite at step 1"),
    ],
)
def test_refusals(change, name, small_ems):
    arguments = {"denoiser": SMOOTH, "x_T": STARTS, "schedule": SCHEDULE, "ems": small_ems} | change
    with pytest.raises(ValueError, match=name):
        dpm_solver_v3_sample(**arguments)


@pytest.mark.parametrize(("change", "name"), [({"ems": "ems.npz"}, "ems"), ({"schedule": "vp"}, "schedule"), ({"denoiser": None}, "denoiser")])
def test_wrong_types(change, name, small_ems):
    arguments = {"denoiser": SMOOTH, "x_T": STARTS, "schedule": SCHEDULE, "ems": small_ems} | change
    with pytest.raises(TypeError, match=name):
        dpm_solver_v3_sample(**arguments)


SPECIMENS = {
    "dpm_solver_v3_sample": Specimen(
        lambda **arguments: dpm_solver_v3_sample(lambda y, sigma: y / (1 + sigma**2), schedule=SCHEDULE, ems=_degenerate("data"), **arguments),
        lambda: {
            "x_T": STARTS[:2].clone(),
            "steps": 4,
            "order": 2,
            "spacing": "quadratic",
            "corrector": True,
            "pseudo_predictor": False,
            "pseudo_corrector": False,
            "lower_order_final": True,
            "corrector_t_max": 0.5,
            "t_start": 1.0,
            "t_end": 0.01,
        },
        accepts={"corrector_t_max": ("none",), "t_start": ("none",), "t_end": ("none",), "x_T": ("more dimensions",)},
    ),
}
