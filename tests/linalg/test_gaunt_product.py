"""The Gaunt tensor product: pointwise products, three backends, equivariance, weights."""

import copy
import math

import numpy as np
import pytest
import scipy.spatial.transform
import torch
from specimens import Specimen

from ritz.linalg import GauntTensorProduct, gaunt_coefficients, real_spherical_harmonics, wigner_d_real
from ritz.linalg.gaunt_product import BACKENDS
from ritz.linalg.sphere_grid import DirectTransform, SeparableTransform, SphereGrid

SPECIMENS = {
    "GauntTensorProduct": Specimen(
        GauntTensorProduct,
        lambda: {"l1": 2, "l2": 1, "l_out": 2, "backend": "grid", "weights": True, "channels": 3, "normalization": "norm"},
        accepts={"l_out": ("none",), "channels": ("none",)},
    ),
}


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def randomized(module, seed=0):
    with torch.no_grad():
        for i, weight in enumerate(module.parameters()):
            weight.copy_(draw(*weight.shape, seed=seed + i))
    return module


@pytest.mark.parametrize("normalization", ["orthonormal", "norm", "component"])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("l1", "l2"), [(0, 0), (3, 2), (0, 4), (5, 5), (9, 7)])
def test_the_product_is_pointwise(l1, l2, backend, normalization):
    x, y, u = draw(5, (l1 + 1) ** 2), draw(5, (l2 + 1) ** 2, seed=1), draw(8, 3, seed=2)
    z = GauntTensorProduct(l1, l2, backend=backend, normalization=normalization)(x, y)
    Y = real_spherical_harmonics(l1 + l2, u, normalization=normalization)
    f, g, h = (c @ Y[:, : c.shape[-1]].T for c in (x, y, z))
    torch.testing.assert_close(h, f * g, rtol=0, atol=1e-12 * float((f * g).abs().max().clamp(min=1)))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("l", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
def test_backends_agree(l, dtype, tolerance):
    x, y = (draw(4, (l + 1) ** 2, seed=seed) / (l + 1) for seed in (0, 1))  # unit mean square, so that products have entries of order one
    exact = GauntTensorProduct(l, l, backend="dense")(x, y)
    for backend in BACKENDS:
        found = GauntTensorProduct(l, l, backend=backend)(x.to(dtype), y.to(dtype))
        assert found.dtype == dtype
        torch.testing.assert_close(found.double(), exact, rtol=0, atol=tolerance)


def test_fourier_agrees_with_grid_to_rounding_at_degree_four():
    x, y = draw(10, 25), draw(10, 25, seed=1)
    difference = GauntTensorProduct(4, 4, backend="fourier")(x, y) - GauntTensorProduct(4, 4)(x, y)
    assert difference.abs().max() < 4e-14


@pytest.mark.parametrize("l_max", [0, 1, 4, 9])
def test_both_forms_of_the_grid_transform_agree(l_max):
    grid, x, factors = SphereGrid(2 * l_max + 1), draw(6, (l_max + 1) ** 2), np.arange(1.0, (l_max + 1) ** 2 + 1)
    direct, separable = DirectTransform(grid, l_max, factors), SeparableTransform(grid, l_max, factors)
    torch.testing.assert_close(separable.evaluate(x).permute(1, 2, 0).flatten(1), direct.evaluate(x), rtol=1e-12, atol=1e-10)
    for transform in (direct, separable):
        torch.testing.assert_close(transform.project(transform.evaluate(x)), x, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("weights", [False, True])
def test_equivariance_under_rotation_and_inversion(backend, weights):
    product = randomized(GauntTensorProduct(4, 3, 6, backend=backend, weights=weights))
    x, y = draw(5, 25), draw(5, 16, seed=1)
    for rotation in scipy.spatial.transform.Rotation.random(3, random_state=1).as_matrix():
        D = torch.from_numpy(wigner_d_real(6, rotation)).to(x)
        torch.testing.assert_close(product(x @ D[:25, :25].T, y @ D[:16, :16].T), product(x, y) @ D.T, rtol=0, atol=1e-11)
    sign = torch.from_numpy(np.repeat((-1.0) ** np.arange(7), 2 * np.arange(7) + 1))
    torch.testing.assert_close(product(x * sign[:25], y * sign[:16]), product(x, y) * sign, rtol=0, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_commutative_bilinear_with_a_unit(backend):
    product, mirrored = GauntTensorProduct(3, 3, backend=backend), GauntTensorProduct(3, 0, backend=backend)
    x, y, w = (draw(4, 16, seed=seed) for seed in range(3))
    torch.testing.assert_close(product(x, y), product(y, x), rtol=0, atol=1e-13)
    torch.testing.assert_close(product(x, 2 * y - 3 * w), 2 * product(x, y) - 3 * product(x, w), rtol=0, atol=1e-12)
    torch.testing.assert_close(mirrored(x, torch.full((1, 1), math.sqrt(4 * math.pi), dtype=x.dtype)), x, rtol=0, atol=1e-13)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_lower_output_degree_truncates(backend):
    x, y = draw(3, 16), draw(3, 25, seed=1)
    full = GauntTensorProduct(3, 4, backend=backend)(x, y)
    for l_out in range(7):
        kept = GauntTensorProduct(3, 4, l_out, backend=backend)(x, y)
        torch.testing.assert_close(kept, full[:, : (l_out + 1) ** 2], rtol=0, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_cross_product_is_absent(backend):
    x, y = torch.zeros(6, 4, dtype=torch.float64), torch.zeros(6, 4, dtype=torch.float64)
    x[:, 1:], y[:, 1:] = draw(6, 3), draw(6, 3, seed=1)
    assert GauntTensorProduct(1, 1, 1, backend=backend)(x, y)[:, 1:].abs().max() < 1e-14


@pytest.mark.parametrize("backend", BACKENDS)
def test_weights_scale_paths(backend):
    product = randomized(GauntTensorProduct(2, 3, backend=backend, weights=True))
    a, b, c = (module.weight.detach() for module in (product.first_weights, product.second_weights, product.out_weights))
    degree = [np.sqrt(np.arange((l + 1) ** 2)).astype(int) for l in (2, 3, 5)]
    G = torch.from_numpy(gaunt_coefficients(2, 3, 5)) * a[degree[0]][:, None, None] * b[degree[1]][:, None] * c[degree[2]]
    x, y = draw(4, 9), draw(4, 16, seed=1)
    torch.testing.assert_close(product(x, y).detach(), torch.einsum("bi,bj,ijk->bk", x, y, G), rtol=0, atol=1e-6)


def test_each_channel_has_its_weights():
    product = randomized(GauntTensorProduct(2, 2, weights=True, channels=3))
    single = GauntTensorProduct(2, 2, weights=True)
    x, y = draw(4, 3, 9), draw(3, 9, seed=1)
    for channel in range(3):
        single.load_state_dict({name: weight[channel] for name, weight in product.state_dict().items()})
        torch.testing.assert_close(product(x, y)[:, channel], single(x[:, channel], y[channel]))
    assert torch.equal(GauntTensorProduct(2, 2, weights=True, channels=3)(x, y), GauntTensorProduct(2, 2)(x, y))
    with pytest.raises(ValueError, match=r"x must have shape \(..., 3, 9\)"):
        product(draw(4, 9), y)


@pytest.mark.parametrize("backend", BACKENDS)
def test_leading_dimensions_broadcast_and_pieces_are_rows(backend, monkeypatch):
    x, y = draw(5, 1, 7, 9), draw(3, 1, 4, seed=1)
    product = GauntTensorProduct(2, 1, backend=backend)
    z = product(x, y)
    assert z.shape == (5, 3, 7, 16)
    torch.testing.assert_close(z[4, 2, 6], product(x[4, 0, 6], y[2, 0]), rtol=0, atol=1e-13)
    monkeypatch.setattr("ritz.linalg.gaunt_product.CACHED", 1)
    torch.testing.assert_close(product(x, y), z, rtol=0, atol=1e-13)
    assert product(x[:0], y).shape == (0, 3, 7, 16)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("l", [2, 8])
def test_gradients(backend, l):
    count = (l + 1) ** 2 if l < 8 else 4
    product = GauntTensorProduct(l, int(count**0.5) - 1, 1, backend=backend, weights=True).double()
    inputs = draw(2, (l + 1) ** 2).requires_grad_(), draw(2, count, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(product, inputs)
    product(*inputs).sum().backward()
    assert all(weight.grad is not None for weight in product.parameters())


def test_constants_are_no_state_and_survive_copies():
    product = GauntTensorProduct(2, 2)
    assert product.state_dict() == {}
    x = draw(3, 9)
    assert torch.equal(copy.deepcopy(product.float())(x, x), product(x, x))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((torch.ones(8), torch.ones(4)), ValueError, r"x must have shape \(..., 9\), got \(8,\)"),
        ((torch.ones(9), torch.ones(9)), ValueError, r"y must have shape \(..., 4\)"),
        ((torch.ones(9, dtype=torch.int64), torch.ones(4)), TypeError, "x must be a float32 or float64 tensor"),
        ((torch.ones(9), torch.ones(4).half()), TypeError, "y must be a float32 or float64 tensor"),
        ((np.ones(9), torch.ones(4)), TypeError, "x must be a float32 or float64 tensor, got ndarray"),
    ],
)
def test_bad_inputs_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        GauntTensorProduct(2, 1)(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"l1": -1, "l2": 0}, "l1 must be"),
        ({"l1": 1, "l2": 1, "l_out": 3}, "l_out must be an integer of at least 0 and at most 2"),
        ({"l1": 1, "l2": 1, "channels": 2}, "channels must be None without weights"),
    ],
)
def test_bad_degrees_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        GauntTensorProduct(**arguments)
