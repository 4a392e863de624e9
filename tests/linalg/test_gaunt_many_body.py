"""Gaunt powers equal nested products without truncation."""

import numpy as np
import pytest
import scipy.spatial.transform
import torch
from specimens import Specimen

from ritz.linalg import GauntManyBody, GauntTensorProduct, real_spherical_harmonics, wigner_d_real

SPECIMENS = {
    "GauntManyBody": Specimen(GauntManyBody, lambda: {"l": 1, "order": 3, "l_out": 2, "weights": True, "normalization": "component"}),
}


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def only_power(nu, body):
    with torch.no_grad():
        body.powers.weight.zero_()
        body.powers.weight[nu - 1] = 1
    return body


@pytest.mark.parametrize("normalization", ["orthonormal", "component"])
@pytest.mark.parametrize("l", [0, 1, 2, 6])
def test_the_third_power_is_two_nested_products(l, normalization):
    x = draw(4, 3, (l + 1) ** 2) / (l + 1)
    square = GauntTensorProduct(l, l, normalization=normalization)(x, x)
    cube = GauntTensorProduct(2 * l, l, normalization=normalization)(square, x)
    for l_out in {0, l, 3 * l}:
        body = only_power(3, GauntManyBody(l, 3, l_out, normalization=normalization))
        torch.testing.assert_close(body(x), cube[..., : (l_out + 1) ** 2], rtol=0, atol=1e-12)


@pytest.mark.parametrize("order", [1, 2, 5])
def test_powers_are_pointwise_and_weighted_by_degree(order):
    x, u = draw(3, 4), draw(6, 3, seed=1)
    Y = real_spherical_harmonics(order, u)
    f = x @ Y[:, :4].T
    plain = GauntManyBody(1, order, order, weights=False)(x)
    torch.testing.assert_close(plain @ Y.T, sum(f**nu for nu in range(1, order + 1)), rtol=0, atol=1e-12)
    body = GauntManyBody(1, order, order)
    torch.testing.assert_close(body(x), plain, rtol=0, atol=1e-12)
    weights = draw(order, order + 1, seed=2).float()
    powers = [only_power(nu, body)(x).detach() for nu in range(1, order + 1)]
    with torch.no_grad():
        body.powers.weight.copy_(weights)
    degree = np.sqrt(np.arange((order + 1) ** 2)).astype(int)
    expected = sum(power * w[degree] for power, w in zip(powers, weights))
    torch.testing.assert_close(body(x).detach(), expected, rtol=0, atol=1e-6)


def test_equivariance_and_gradients():
    body, x = GauntManyBody(2, 3, 3).double(), draw(3, 9)
    D = torch.from_numpy(wigner_d_real(3, scipy.spatial.transform.Rotation.random(random_state=3).as_matrix()))
    torch.testing.assert_close(body(x @ D[:9, :9].T), body(x) @ D.T, rtol=0, atol=1e-12)
    assert torch.autograd.gradcheck(body, x.requires_grad_())


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="l_out must be"):
        GauntManyBody(1, 2, 3)
    with pytest.raises(ValueError, match=r"x must have shape \(..., 9\)"):
        GauntManyBody(2, 2, 2)(torch.ones(4))
    with pytest.raises(TypeError, match="x must be a float32 or float64 tensor"):
        GauntManyBody(2, 2, 2)(torch.ones(9, dtype=torch.int32))
