"""The convolution on edges equals the product with the edges' harmonics, at the poles too."""

import numpy as np
import pytest
import scipy.spatial.transform
import torch
from specimens import Specimen

from ritz.linalg import GauntConvolution, GauntTensorProduct, real_spherical_harmonics, wigner_d_real

SPECIMENS = {
    "GauntConvolution": Specimen(
        GauntConvolution, lambda: {"l_in": 2, "l_filter": 1, "l_out": 2, "weights": True, "convention": "e3nn", "normalization": "norm"}
    ),
    "GauntConvolution.forward": Specimen(
        lambda edge_vectors: GauntConvolution(1, 1, 1)(torch.ones(2, 4), edge_vectors), lambda: {"edge_vectors": torch.ones(2, 3)}
    ),
}
POLES = torch.tensor([[0, 0, 1.0], [0, 0, -2], [0, 3.0, 0], [0, -1.0, 0], [1.0, 0, 0], [1e-9, 1.0, 0]], dtype=torch.float64)


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


EDGES = torch.cat([draw(5, 3), POLES])


@pytest.mark.parametrize("convention", ["e3nn", "physics"])
@pytest.mark.parametrize("normalization", ["orthonormal", "norm", "component"])
@pytest.mark.parametrize("degrees", [(0, 0, 0), (3, 2, 5), (2, 4, 1), (0, 3, 2), (3, 0, 3), (6, 6, 6)])
def test_it_is_the_product_with_the_edges_harmonics(degrees, normalization, convention):
    l_in, l_filter, _ = degrees
    convolution = GauntConvolution(*degrees, convention=convention, normalization=normalization)
    product = GauntTensorProduct(*degrees, weights=True, normalization=normalization)
    with torch.no_grad():
        for i, (weight, same) in enumerate(
            (
                (convolution.in_weights.weight, product.first_weights.weight),
                (convolution.filter_weights, product.second_weights.weight),
                (convolution.out_weights.weight, product.out_weights.weight),
            )
        ):
            weight.copy_(draw(len(weight), seed=i))
            same.copy_(weight)
    x = draw(len(EDGES), 2, (l_in + 1) ** 2, seed=1)
    Y = real_spherical_harmonics(l_filter, EDGES, convention=convention, normalization=normalization)
    torch.testing.assert_close(convolution(x, EDGES), product(x, Y[:, None]), rtol=0, atol=1e-10)


def test_without_weights_it_has_no_parameters():
    convolution = GauntConvolution(3, 2, 4, weights=False)
    assert not list(convolution.parameters())
    x = draw(len(EDGES), 16)
    expected = GauntTensorProduct(3, 2, 4)(x, real_spherical_harmonics(2, EDGES))
    torch.testing.assert_close(convolution(x, EDGES), expected, rtol=0, atol=1e-12)
    assert convolution(x[:0], EDGES[:0]).shape == (0, 25)


def test_equivariance():
    convolution, x = GauntConvolution(3, 3, 4), draw(len(EDGES), 16)
    R = scipy.spatial.transform.Rotation.random(random_state=2).as_matrix()
    D = torch.from_numpy(wigner_d_real(4, R))
    turned = convolution(x @ D[:16, :16].T, EDGES @ torch.from_numpy(R).T)
    torch.testing.assert_close(turned, convolution(x, EDGES) @ D.T, rtol=0, atol=1e-12)


def test_gradients_with_respect_to_features_and_edges_at_the_poles_too():
    convolution = GauntConvolution(2, 2, 2).double()
    edges = EDGES[[0, 1, 5, 7, 8, 9]].clone().requires_grad_()
    assert torch.autograd.gradcheck(convolution, (draw(6, 9).requires_grad_(), edges))


def test_single_precision():
    convolution, x = GauntConvolution(4, 4, 4), draw(len(EDGES), 25)
    torch.testing.assert_close(convolution(x.float(), EDGES.float()).double(), convolution(x, EDGES), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("x", "edges", "error", "message"),
    [
        (torch.ones(2, 4), torch.zeros(2, 3), ValueError, "edge_vectors must not have vectors of length zero, got 2"),
        (torch.ones(2, 4), torch.ones(3, 3), ValueError, r"edge_vectors must have shape \(E, 3\)"),
        (torch.ones(4), torch.ones(4, 3), ValueError, r"edge_vectors must have shape \(E, 3\)"),
        (torch.ones(2, 5), torch.ones(2, 3), ValueError, r"x must have shape \(..., 4\)"),
        (torch.ones(2, 4), np.ones((2, 3)), TypeError, "edge_vectors must be a torch tensor"),
    ],
)
def test_bad_inputs_are_refused(x, edges, error, message):
    with pytest.raises(error, match=message):
        GauntConvolution(1, 1, 1)(x, edges)


def test_bad_degrees_are_refused():
    with pytest.raises(ValueError, match="l_out must be"):
        GauntConvolution(1, 1, 3)
