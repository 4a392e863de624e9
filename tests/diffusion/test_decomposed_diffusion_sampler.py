"""Conjugate gradients against direct solutions, the sampler against its limits and reductions, total variation across slices."""

from contextlib import nullcontext
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from specimens import Specimen

from ritz.core import ConvergenceWarning
from ritz.diffusion import (
    VE,
    DataConsistency,
    GaussianMixtureDenoiser,
    Inpainting,
    MaskedFourier,
    VPLinear,
    conjugate_gradient,
    data_consistent_sample,
    dds_sample,
    dds_tv3d_sample,
    timesteps,
)
from ritz.diffusion.decomposed_diffusion_sampler import slice_differences, slice_differences_adjoint
from ritz.linalg import cg

SCHEDULE = VPLinear()
DOUBLE = torch.float64


def _normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


MIXTURE = GaussianMixtureDenoiser(torch.ones(3), _normal(3, 12, seed=9), torch.tensor([0.02, 0.1, 0.05], dtype=DOUBLE))
MATRIX = _normal(5, 12, seed=1)
Y = MIXTURE.sample(4, 0) @ MATRIX.T


def _image_denoiser(x, sigma):
    return MIXTURE(x.flatten(1), sigma).reshape(x.shape)


SPECIMENS = {
    "dds_sample": Specimen(
        lambda **options: dds_sample(MIXTURE, operator=MATRIX, schedule=SCHEDULE, shape=(4, 12), **options),
        lambda: {
            "y": Y,
            "steps": 3,
            "eta": 0.5,
            "cg_iterations": 2,
            "gamma": 1.0,
            "noise_std": 0.1,
            "spacing": "uniform",
            "clip": 3.0,
            "generator": 0,
        },
        accepts={"gamma": ("none",), "clip": ("none",), "generator": ("none",)},
    ),
    "dds_tv3d_sample": Specimen(
        lambda **options: dds_tv3d_sample(_image_denoiser, operator=MATRIX, schedule=SCHEDULE, shape=(4, 1, 3, 4), **options),
        lambda: {
            "y": Y,
            "rho": 1.0,
            "lam": 0.1,
            "admm_iterations": 1,
            "cg_iterations": 2,
            "slice_batch": 3,
            "steps": 3,
            "eta": 0.5,
            "spacing": "uniform",
            "clip": 3.0,
            "generator": 0,
        },
        accepts={"clip": ("none",), "generator": ("none",)},
    ),
    "data_consistent_sample": Specimen(
        lambda **options: data_consistent_sample(MIXTURE, lambda x: x, SCHEDULE, shape=(4, 12), **options),
        lambda: {"steps": 3, "eta": 0.5, "spacing": "uniform", "clip": 3.0, "generator": 0},
        accepts={"clip": ("none",), "generator": ("none",)},
    ),
    "DataConsistency": Specimen(
        lambda **options: DataConsistency(MATRIX, shape=(4, 12), **options),
        lambda: {"y": Y, "cg_iterations": 2, "gamma": 1.0, "noise_std": 0.1},
        accepts={"gamma": ("none",)},
    ),
    "conjugate_gradient": Specimen(
        lambda **arguments: conjugate_gradient(lambda x: x, **arguments),
        lambda: {"b": _normal(2, 3), "x0": _normal(2, 3, seed=1), "iterations": 2, "tol": 1e-10},
        accepts={"b": ("more dimensions",), "x0": ("more dimensions",)},
    ),
}


def test_many_steps_are_the_direct_solution():
    estimate = _normal(4, 12, seed=3)
    noiseless = DataConsistency(MATRIX, Y, (4, 12), cg_iterations=12)(estimate)
    torch.testing.assert_close(noiseless, estimate + (Y - estimate @ MATRIX.T) @ torch.linalg.pinv(MATRIX).T, rtol=1e-6, atol=1e-6)
    noisy = DataConsistency(MATRIX, Y, (4, 12), cg_iterations=12, gamma=3.0, noise_std=0.1)(estimate)
    normal = torch.eye(12, dtype=DOUBLE) + 3 * MATRIX.T @ MATRIX
    torch.testing.assert_close(noisy, torch.linalg.solve(normal, (estimate + 3 * Y @ MATRIX).T).T, rtol=1e-6, atol=1e-6)


def test_gamma_is_one_where_there_is_noise():
    estimate = _normal(4, 12, seed=3)
    named = DataConsistency(MATRIX, Y, (4, 12), gamma=1.0, noise_std=0.1)(estimate)
    assert torch.equal(DataConsistency(MATRIX, Y, (4, 12), noise_std=0.1)(estimate), named)
    assert torch.equal(DataConsistency(MATRIX, Y, (4, 12), gamma=1.0)(estimate), named)


@pytest.mark.parametrize("iterations", [1, 3, 6])
def test_steps_are_those_of_ritz_linalg(iterations):
    normal, b, x0 = torch.eye(12, dtype=DOUBLE) + MATRIX.T @ MATRIX, _normal(4, 12), _normal(4, 12, seed=5)
    with pytest.warns(ConvergenceWarning) if iterations < 6 else nullcontext():
        expected = cg(normal, b.T, x0=x0.T, tol=1e-9, max_iterations=iterations).x.T
    torch.testing.assert_close(conjugate_gradient(lambda x: x @ normal, b, x0, iterations), expected, rtol=1e-7, atol=1e-7)


def test_complex_systems():
    root = torch.complex(_normal(4, 4), _normal(4, 4, seed=1))
    normal, b = root @ root.mH + torch.eye(4), torch.complex(_normal(3, 4, seed=2), _normal(3, 4, seed=3))
    x = conjugate_gradient(lambda x: x @ normal.T, b, torch.zeros_like(b), 8)
    torch.testing.assert_close(x @ normal.T, b, rtol=1e-8, atol=1e-8)


def test_converged_and_zero_samples_rest():
    b = torch.tensor([[0.0, 0.0], [2.0, 0.0], [1.0, 1.0]], dtype=DOUBLE)
    x = conjugate_gradient(lambda x: x * torch.tensor([1.0, 3.0], dtype=DOUBLE), b, torch.zeros_like(b), 50)
    torch.testing.assert_close(x, b / torch.tensor([1.0, 3.0], dtype=DOUBLE), rtol=1e-9, atol=1e-12)


def test_residuals_fall_and_iterates_stay_in_the_krylov_space():
    estimate = _normal(1, 12, seed=3)
    iterates = [DataConsistency(MATRIX, Y[:1], (1, 12), cg_iterations=m)(estimate) for m in range(1, 5)]
    residuals = [float((Y[:1] - x @ MATRIX.T).norm()) for x in [estimate, *iterates]]
    assert all(after <= before * (1 + 1e-12) for before, after in pairwise(residuals))
    vector, krylov = (Y[:1] - estimate @ MATRIX.T) @ MATRIX, []
    for x in iterates:
        krylov.append(vector / vector.norm())
        space = torch.cat(krylov).T
        change = (x - estimate).T
        projected = space @ torch.linalg.lstsq(space, change).solution
        torch.testing.assert_close(projected, change, rtol=1e-6, atol=1e-8)
        vector = vector @ MATRIX.T @ MATRIX


ORTHONORMAL = {
    "inpainting": Inpainting(_normal(1, 3, 4, seed=2) > 0),
    "fourier": MaskedFourier(_normal(2, 3, seed=2) > 0),
}


@pytest.mark.parametrize("name", ORTHONORMAL)
def test_with_orthonormal_rows_one_step_projects_and_the_sampler_is_ddnm(name):
    operator = ORTHONORMAL[name]
    shape = (4, 1, 3, 4) if name == "inpainting" else (4, 2, 2, 3)
    y = operator.forward(MIXTURE.sample(4, 0).reshape(shape))
    ours = dds_sample(_image_denoiser, y, operator, SCHEDULE, shape=shape, steps=8, cg_iterations=1, generator=0).x

    def project(x):
        return x + operator.adjoint(y - operator.forward(x))

    ddnm = data_consistent_sample(_image_denoiser, project, SCHEDULE, shape=shape, steps=8, dtype=DOUBLE, generator=0).x
    torch.testing.assert_close(ours, ddnm, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(operator.forward(ours), y, rtol=1e-9, atol=1e-9)


def test_nothing_measured_is_unconditional_sampling_bit_for_bit():
    plain = data_consistent_sample(MIXTURE, lambda x: x, SCHEDULE, shape=(4, 12), steps=7, dtype=DOUBLE, generator=0).x
    zero = dds_sample(MIXTURE, torch.zeros_like(Y), torch.zeros_like(MATRIX), SCHEDULE, shape=(4, 12), steps=7, generator=0).x
    weightless = dds_sample(MIXTURE, Y, MATRIX, SCHEDULE, shape=(4, 12), steps=7, gamma=0.0, generator=0).x
    assert torch.equal(zero, plain)
    assert torch.equal(weightless, plain)


@pytest.mark.parametrize("schedule", [SCHEDULE, VE()])
def test_the_loop_is_the_papers(schedule):
    """The paper's recursion in its own frame x = alpha x_0 + sigma n."""
    t = timesteps(schedule, 6, "uniform")
    generator = torch.Generator().manual_seed(0)
    x = schedule.sigma(t[0]) * torch.randn(4, 12, generator=generator, dtype=DOUBLE)
    for now, after in zip(t[:-1], [*t[1:-1], None]):
        alpha, sigma = schedule.alpha(now), schedule.sigma(now)
        estimate = MIXTURE(x / alpha, float(sigma / alpha))
        x, noise = DataConsistency(MATRIX, Y, (4, 12), cg_iterations=3)(estimate), (x - alpha * estimate) / sigma
        if after is not None:
            fresh = torch.randn(4, 12, generator=generator, dtype=DOUBLE)
            x = schedule.alpha(after) * x + schedule.sigma(after) * (0.6 * fresh + 0.8 * noise)
    ours = dds_sample(MIXTURE, Y, MATRIX, schedule, shape=(4, 12), steps=6, eta=0.6, cg_iterations=3, generator=0)
    torch.testing.assert_close(ours.x, x, rtol=1e-8, atol=1e-8)
    assert ours.nfe == 6


def test_everything_measured_returns_the_measurements():
    y = _normal(4, 12, seed=4)
    torch.testing.assert_close(dds_sample(MIXTURE, y, torch.eye(12, dtype=DOUBLE), SCHEDULE, shape=(4, 12), steps=4, generator=0).x, y)


def test_a_batch_is_separate_problems():
    """Without fresh noise and from given starts: each problem alone, or all at once."""
    correct = partial(DataConsistency, MATRIX)
    estimates = _normal(4, 12, seed=3) * torch.tensor([1.0, 1e3, 1e-3, 0.0], dtype=DOUBLE)[:, None]
    together = correct(Y, (4, 12))(estimates)
    alone = torch.cat([correct(Y[i : i + 1], (1, 12))(estimates[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-9)


def test_no_gradient_is_recorded_and_none_is_needed():
    weight = torch.ones(1, requires_grad=True, dtype=DOUBLE)

    def by_numpy(x, sigma):
        assert not (weight * x).requires_grad
        return torch.from_numpy(MIXTURE(x, sigma).numpy().copy())

    assert not dds_sample(by_numpy, Y, MATRIX, SCHEDULE, shape=(4, 12), steps=3, generator=0).x.requires_grad


def test_estimates_are_clipped_before_they_are_corrected():
    seen = []

    def correction(x):
        seen.append(float(x.abs().max()))
        return x

    data_consistent_sample(lambda x, sigma: 0 * x + 5, correction, SCHEDULE, shape=(2, 3), steps=3, clip=1.5, generator=0)
    assert seen == [1.5] * 3


def test_slice_differences_have_their_adjoint_and_a_positive_square():
    x, d = _normal(5, 1, 2, 3), _normal(5, 1, 2, 3, seed=1)
    torch.testing.assert_close((slice_differences(x) * d).sum(), (x * slice_differences_adjoint(d)).sum(), rtol=1e-12, atol=1e-12)
    basis = torch.eye(5, dtype=DOUBLE)
    square = slice_differences_adjoint(slice_differences(basis))
    torch.testing.assert_close(square, square.T)
    assert torch.linalg.eigvalsh(square).min() > -1e-12


def test_weak_total_variation_is_none():
    shape = (4, 1, 3, 4)
    options = {"shape": shape, "steps": 6, "generator": 0, "cg_iterations": 60}
    weak = dds_tv3d_sample(_image_denoiser, Y, MATRIX, SCHEDULE, rho=1e-9, lam=0.0, slice_batch=3, **options).x
    none = dds_sample(_image_denoiser, Y, MATRIX, SCHEDULE, **options).x
    torch.testing.assert_close(weak, none, rtol=1e-5, atol=1e-5)


def test_strong_total_variation_makes_slices_alike():
    shape, options = (4, 1, 3, 4), {"steps": 20, "generator": 0}
    seen = MATRIX[:2]
    y = MIXTURE.sample(1, 3).expand(4, 12) @ seen.T
    rough, smooth = (dds_tv3d_sample(_image_denoiser, y, seen, SCHEDULE, shape=shape, lam=lam, **options).x for lam in (1e-6, 5.0))
    assert slice_differences(smooth).norm() < 0.5 * slice_differences(rough).norm()


def test_admm_approaches_the_minimum_of_its_objective():
    """One step of the diffusion with many iterations of ADMM solves its total variation problem: no neighbor is better, and the dual is feasible."""
    y, shape = _normal(4, 12, seed=6), (4, 1, 3, 4)
    options = {"steps": 1, "rho": 1.0, "lam": 0.3, "admm_iterations": 400, "generator": 0}
    result = dds_tv3d_sample(lambda x, sigma: 0 * x, y, torch.eye(12, dtype=DOUBLE), SCHEDULE, shape=shape, **options).x

    def objective(x):
        return float(0.5 * (x.flatten(1) - y).square().sum() + 0.3 * slice_differences(x).abs().sum())

    best = objective(result)
    for seed in range(20):
        assert best <= objective(result + 0.05 * _normal(4, 1, 3, 4, seed=seed)) + 1e-9
    dual = torch.linalg.lstsq(slice_differences_adjoint(torch.eye(4, dtype=DOUBLE))[:, :3], y - result.flatten(1)).solution
    assert dual.abs().max() <= 0.3 + 1e-6


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"shape": (4, 11)}, "operator"),
        ({"shape": (3, 12)}, "y must be real of shape"),
        ({"y": Y[:, :4]}, "y must be real of shape"),
        ({"y": Y.to(torch.complex128)}, "y must be real"),
        ({"y": Y * float("nan")}, "y must be finite"),
        ({"gamma": 0.0, "noise_std": 0.1}, "gamma"),
        ({"gamma": -1.0}, "gamma"),
        ({"cg_iterations": 0}, "cg_iterations"),
        ({"steps": 0}, "steps"),
        ({"eta": 1.5}, "eta"),
        ({"shape": (12,)}, "shape"),
        ({"operator": Inpainting(torch.ones(5, dtype=torch.bool))}, "operator does not measure"),
        ({"denoiser": lambda x, sigma: x[:1]}, "denoiser must return the shape"),
    ],
)
def test_refusals(change, name):
    with pytest.raises(ValueError, match=name):
        dds_sample(**({"denoiser": MIXTURE, "y": Y, "operator": MATRIX, "schedule": SCHEDULE, "shape": (4, 12), "steps": 2} | change))


def test_other_refusals():
    with pytest.raises(TypeError, match="y must be a tensor"):
        dds_sample(MIXTURE, np.zeros((4, 5)), MATRIX, SCHEDULE, shape=(4, 12))
    with pytest.raises(ValueError, match="b and x0"):
        conjugate_gradient(lambda x: x, torch.zeros(2, 3), torch.zeros(2, 2), 1)
