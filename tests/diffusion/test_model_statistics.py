"""Empirical model statistics: exact for Gaussian data, finite for anything, whole on disk."""

import math

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from specimens import Specimen

from ritz.diffusion import EDM, EMS, GaussianMixtureDenoiser, NetworkDenoiser, VPLinear, compute_ems

SCHEDULE = VPLinear()
MEAN = torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64)
VARIANCE = torch.tensor([[0.5, 0.1, 2.0]], dtype=torch.float64)
GAUSSIAN = GaussianMixtureDenoiser([1.0], MEAN, VARIANCE)
MIXTURE = GaussianMixtureDenoiser(
    torch.ones(4),
    torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64),
    0.05 * torch.ones(4),
)


def _ems(denoiser, **options):
    options = {"samples": 64, "generator": 0, "dtype": torch.float64} | options
    return compute_ems(denoiser, options.pop("schedule", SCHEDULE), options.pop("shape", (3,)), **options)


def _noise_variance(ems):
    return torch.exp(-2 * ems.lam)[:, None]


@pytest.fixture(scope="module")
def gaussian():
    return _ems(GAUSSIAN)


@pytest.fixture(scope="module")
def mixture():
    return _ems(MIXTURE, samples=256, probes=2)


def test_l_of_gaussian_data_is_exact(gaussian):
    noise = _noise_variance(gaussian)
    assert torch.allclose(gaussian.l, noise / (VARIANCE + noise), rtol=0, atol=1e-10)


def test_f_of_gaussian_data_does_not_vary_so_s_is_zero_and_b_its_derivative(gaussian):
    """f = -l m. s is zero up to rounding of f over the ridge; b is exact up to that and the square of the spacing of the differences of l."""
    assert gaussian.s.abs().max() < 1e-3
    noise = _noise_variance(gaussian)
    dl = -2 * VARIANCE * noise / (VARIANCE + noise) ** 2
    assert (gaussian.b + dl * MEAN).abs().max() < 1e-2
    errors = []
    for grid_size in (120, 240):
        ems = gaussian if grid_size == 120 else _ems(GAUSSIAN, grid_size=grid_size)
        stride = grid_size // 120
        mean_derivative = (ems.b - ems.s * ems.l * MEAN)[::stride]
        errors.append((mean_derivative + dl * MEAN)[1:-1].abs().max().item())
    assert errors[0] / errors[1] > 3.5


def test_l_of_gaussian_data_falls_from_one_in_lam(gaussian):
    assert (torch.diff(gaussian.l, dim=0) < 0).all()
    assert (gaussian.l[0] > 0.95).all()


@pytest.mark.parametrize("schedule", [VPLinear(), EDM()], ids=repr)
def test_l_of_any_data_starts_near_one_and_all_is_finite(schedule):
    ems = _ems(MIXTURE, schedule=schedule)
    assert (ems.l[0] > 0.95).all()
    assert all(torch.isfinite(table).all() for table in (ems.l, ems.s, ems.b))


def test_l_is_the_mean_diagonal_of_the_jacobian(mixture):
    """Against full Jacobians at the same states, drawn anew: within four standard errors almost everywhere."""
    exact = _ems_l_from_jacobians(mixture.lam)
    assert (mixture.l - exact).abs().max() < 0.12
    assert (mixture.l - exact).abs().mean() < 0.02


def _ems_l_from_jacobians(lam):
    from ritz.diffusion import dpm_solver_plan, multistep

    start = math.exp(-lam[0]) * torch.randn(256, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    states = multistep(MIXTURE, start, lam.numpy(), dpm_solver_plan(len(lam) - 1, order=2), keep_trajectory=True).trajectory
    tables = []
    for y, at in zip(states, lam.tolist()):
        jacobian = torch.func.jacrev(lambda y, at=at: MIXTURE(y, math.exp(-at)).sum(0))(y)
        tables.append(1 - torch.diagonal(jacobian, dim1=0, dim2=2).mean(0))
    return torch.stack(tables)


def test_s_and_b_are_the_least_squares_of_the_derivative_of_f_along_the_model(mixture):
    """f' by differences of f along fine trajectories, regressed anew."""
    from ritz.diffusion import dpm_solver_plan, multistep

    refine = 8
    lam = np.linspace(float(mixture.lam[0]), float(mixture.lam[-1]), 120 * refine + 1)
    start = math.exp(-lam[0]) * torch.randn(2048, 3, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    states = multistep(MIXTURE, start, lam, dpm_solver_plan(len(lam) - 1, order=2), keep_trajectory=True).trajectory
    l = torch.stack([torch.from_numpy(np.interp(lam, mixture.lam.numpy(), mixture.l[:, j].numpy())) for j in range(3)], dim=1)
    data = torch.stack([MIXTURE(y, math.exp(-at)) for y, at in zip(states, lam)])
    f = states - data - l[:, None] * states
    df = (f[refine::refine][1:] - f[::refine][:-2]) / (2 * refine * (lam[1] - lam[0]))
    f = f[refine::refine][:-1]
    center_f, center_df = f - f.mean(1, keepdim=True), df - df.mean(1, keepdim=True)
    s = (center_f * center_df).mean(1) / (center_f**2).mean(1)
    b = df.mean(1) - s * f.mean(1)
    middle = slice(30, 90)
    assert (mixture.s[1:-1] - s)[middle].abs().mean() < 0.15
    assert (mixture.b[1:-1] - b)[middle].abs().mean() < 0.03


def test_constant_coordinates_stay_finite():
    flat = GaussianMixtureDenoiser(torch.ones(2), [[0.5, 1.0, 0.0], [-0.5, 1.0, 0.0]], [[0.1, 0.0, 0.0], [0.2, 0.0, 0.0]])
    for dtype in (torch.float32, torch.float64):
        ems = _ems(flat, dtype=dtype)
        assert all(torch.isfinite(table).all() for table in (ems.l, ems.s, ems.b))
        assert torch.allclose(ems.l[:, 1:], torch.ones((), dtype=dtype))


def test_batches_only_split_the_work():
    """One batch or several: the same starts, so the same l, s and b, exact probes granted by a diagonal Jacobian."""
    diagonal = GaussianMixtureDenoiser([1.0], MEAN, VARIANCE)

    def bent(y, sigma):
        level = sigma[:, None] if isinstance(sigma, torch.Tensor) else sigma
        return diagonal(y, sigma) + 0.1 * torch.tanh(y / (1 + level))

    whole, parts = (_ems(bent, samples=50, batch_size=size) for size in (50, 16))
    for name in ("l", "s", "b"):
        assert torch.allclose(getattr(whole, name), getattr(parts, name), rtol=1e-8, atol=1e-9)


def test_the_same_seed_gives_the_same_statistics():
    first, second = (_ems(MIXTURE, samples=20, grid_size=30) for _ in range(2))
    assert all(torch.equal(getattr(first, name), getattr(second, name)) for name in ("lam", "l", "s", "b"))


def test_calls_are_counted_as_documented():
    calls = []

    def counted(y, sigma):
        calls.append(len(y))
        return GAUSSIAN(y, sigma)

    _ems(counted, grid_size=10, samples=12, probes=3, batch_size=6)
    assert sum(calls) == 11 * 12 * (3 + 2)


def test_a_network_with_parameters_is_measured_without_a_graph():
    torch.manual_seed(0)
    network = torch.nn.Linear(3, 3)
    ems = compute_ems(NetworkDenoiser(lambda x, time: network(x), SCHEDULE), SCHEDULE, (3,), grid_size=10, samples=16, generator=0)
    assert ems.l.dtype == torch.float32
    assert not ems.l.requires_grad
    assert all(parameter.grad is None for parameter in network.parameters())


def test_range_of_times():
    ems = _ems(GAUSSIAN, grid_size=10, t_start=0.9, t_end=0.01)
    assert float(ems.lam[0]) == pytest.approx(SCHEDULE.lam(0.9))
    assert float(ems.lam[-1]) == pytest.approx(SCHEDULE.lam(0.01))


def test_save_and_load(tmp_path, mixture):
    path = tmp_path / "model.safetensors"
    mixture.save(path)
    loaded = EMS.load(path)
    assert all(torch.equal(getattr(mixture, name), getattr(loaded, name)) for name in ("lam", "l", "s", "b"))
    assert loaded.shape == (3,)


def test_files_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match="path"):
        EMS.load(tmp_path / "absent.safetensors")
    with pytest.raises(ValueError, match="path"):
        EMS.load(tmp_path / "model.npz")
    with pytest.raises(ValueError, match="path"):
        EMS.degenerate("data", [0.0, 1.0]).save(tmp_path / "model.npz")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not a file of tensors")
    with pytest.raises(ValueError, match="path"):
        EMS.load(broken)
    other = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(2)}, str(other))
    with pytest.raises(ValueError, match="path"):
        EMS.load(other)


def test_degenerate_statistics():
    data, noise = EMS.degenerate("data", np.linspace(-1, 1, 5)), EMS.degenerate("noise", np.linspace(-1, 1, 5))
    assert data.shape == ()
    assert data.grid_size == 4
    assert torch.equal(data.l - data.s, torch.ones(5, dtype=torch.float64))
    assert torch.equal(noise.l - noise.s, torch.ones(5, dtype=torch.float64))
    assert torch.equal(noise.s, -torch.ones(5, dtype=torch.float64))


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: _ems(lambda y, sigma: y[:, :1]), "denoiser"),
        (lambda: _ems(lambda y, sigma: y / 0), "not finite at node 0"),
        (lambda: _ems(GAUSSIAN, samples=1), "samples"),
        (lambda: _ems(GAUSSIAN, t_start=0.1, t_end=0.2), "t_end"),
        (lambda: EMS([0.0, 1.0, 3.0], [1.0] * 3, [0.0] * 3, [0.0] * 3), "lam"),
        (lambda: EMS([1.0, 0.0], [1.0] * 2, [0.0] * 2, [0.0] * 2), "lam"),
        (lambda: EMS([0.0, 1.0], [1.0] * 2, [0.0] * 3, [0.0] * 2), "s must"),
        (lambda: EMS([0.0, 1.0], [1.0] * 3, [0.0] * 3, [0.0] * 3), "l must"),
    ],
)
def test_refusals(make, name):
    with pytest.raises(ValueError, match=name):
        make()


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: _ems("network"), "denoiser"),
        (lambda: _ems(GAUSSIAN, schedule="vp"), "schedule"),
        (lambda: _ems(GAUSSIAN, shape=3), "shape"),
        (lambda: _ems(GAUSSIAN, dtype=torch.float16), "dtype"),
    ],
)
def test_wrong_types(make, name):
    with pytest.raises(TypeError, match=name):
        make()


def _fields():
    return {name: np.linspace(0.0, 1.0, 5) for name in ("lam", "l", "s", "b")}


SPECIMENS = {
    "EMS": Specimen(EMS, _fields),
    "EMS.degenerate": Specimen(EMS.degenerate, lambda: {"prediction": "data", "lam": np.linspace(0.0, 1.0, 5)}),
    "compute_ems": Specimen(
        lambda **arguments: compute_ems(GAUSSIAN, SCHEDULE, (3,), **arguments),
        lambda: {"grid_size": 4, "samples": 4, "probes": 1, "batch_size": 4, "t_start": 0.9, "t_end": 0.1, "generator": 0},
        accepts={"t_start": ("none",), "t_end": ("none",), "generator": ("none",)},
    ),
}
