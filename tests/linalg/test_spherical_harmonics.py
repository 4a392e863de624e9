"""Real spherical harmonics: orthonormal, ordered and signed as documented, smooth at the poles."""

import numpy as np
import pytest
import scipy.special
import torch
from specimens import Specimen

from ritz.linalg import real_spherical_harmonics
from ritz.linalg.sphere_grid import SphereGrid

RNG = np.random.default_rng(0)

SPECIMENS = {
    "real_spherical_harmonics": Specimen(
        real_spherical_harmonics,
        lambda: {"l_max": 3, "directions": RNG.standard_normal((4, 3)), "convention": "e3nn", "normalization": "norm"},
        accepts={"directions": ("more dimensions",)},
    ),
}


@pytest.mark.parametrize("l_max", [0, 1, 5, 14])
def test_orthonormal_on_the_quadrature_grid(l_max):
    grid = SphereGrid(2 * l_max)
    Y = real_spherical_harmonics(l_max, grid.directions, convention="physics")
    np.testing.assert_allclose(Y.T @ (Y * grid.weights[:, None]), np.eye((l_max + 1) ** 2), atol=1e-13)


def test_values_are_those_of_complex_harmonics():
    u = RNG.standard_normal((6, 3))
    t, p = np.arccos(u[:, 2] / np.linalg.norm(u, axis=1)), np.arctan2(u[:, 1], u[:, 0])
    Y = real_spherical_harmonics(5, u, convention="physics")
    for l in range(6):
        for m in range(1, l + 1):
            complex_value = (-1) ** m * scipy.special.sph_harm_y(l, m, t, p)  # undo the Condon-Shortley phase
            np.testing.assert_allclose(Y[:, l * l + l + m], np.sqrt(2) * complex_value.real, atol=1e-13)
            np.testing.assert_allclose(Y[:, l * l + l - m], np.sqrt(2) * complex_value.imag, atol=1e-13)
        np.testing.assert_allclose(Y[:, l * l + l], scipy.special.sph_harm_y(l, 0, t, p).real, atol=1e-13)


def test_conventions_order_degree_one_and_two():
    x, y, z = u = np.array([0.48, 0.6, 0.64])
    e3nn, physics = (real_spherical_harmonics(2, u, convention=name, normalization="norm") for name in ("e3nn", "physics"))
    np.testing.assert_allclose(e3nn[1:4], [x, y, z], atol=1e-15)
    np.testing.assert_allclose(physics[1:4], [y, z, x], atol=1e-15)
    root = 3**0.5
    np.testing.assert_allclose(
        e3nn[4:], [root * x * z, root * x * y, y * y - (x * x + z * z) / 2, root * y * z, root / 2 * (z * z - x * x)], atol=1e-15
    )


def test_normalizations_fix_the_sum_of_squares_and_parity_the_sign():
    u = 7.0 * RNG.standard_normal((5, 3))
    for name, size in (("orthonormal", 1 / (4 * np.pi)), ("component", 1.0), ("norm", None)):
        Y = real_spherical_harmonics(4, u, normalization=name)
        opposite = real_spherical_harmonics(4, -u, normalization=name)
        for l in range(5):
            part = slice(l * l, (l + 1) ** 2)
            np.testing.assert_allclose(np.sum(Y[:, part] ** 2, axis=1), 1.0 if size is None else size * (2 * l + 1), rtol=1e-13)
            np.testing.assert_allclose(opposite[:, part], (-1) ** l * Y[:, part], atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_torch_gives_the_same_and_keeps_the_dtype(dtype):
    u = torch.from_numpy(RNG.standard_normal((3, 2, 3))).to(dtype)
    found = real_spherical_harmonics(6, u)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, real_spherical_harmonics(6, u.numpy().astype(float)), atol=2e-6 if dtype == torch.float32 else 1e-14)
    assert real_spherical_harmonics(2, u[:0]).shape == (0, 2, 9)


def test_gradients_are_right_at_the_poles_too():
    u = torch.tensor([[0.0, 2.0, 0.0], [0.0, -1.0, 0.0], [0.3, 0.2, -0.5]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda u: real_spherical_harmonics(3, u), u)


def test_directions_of_any_length_but_zero():
    u = np.array([1.0, 2.0, 3.0])
    for length in (1e-300, 1e300):
        np.testing.assert_allclose(real_spherical_harmonics(3, length * u), real_spherical_harmonics(3, u), rtol=1e-13)
    with pytest.raises(ValueError, match="directions must not have vectors of length zero, got 1"):
        real_spherical_harmonics(3, [u, 0 * u])
    with pytest.raises(ValueError, match=r"directions must have shape \(..., 3\)"):
        real_spherical_harmonics(3, [1.0, 2.0])
    with pytest.raises(ValueError, match="l_max must be"):
        real_spherical_harmonics(-1, u)
