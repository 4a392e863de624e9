"""The bases are complete: independent, equivariant, and as many as the commutant of the permutations has dimensions."""

import itertools

import numpy as np
import pytest
import torch
from specimens import Specimen

from ritz.graphs import equivariant_basis

SIZES = {(2, 2): 15, (2, 1): 5, (1, 2): 5, (1, 1): 2, (2, 0): 2, (1, 0): 1}
ORDERS = sorted(SIZES)

SPECIMENS = {"equivariant_basis": Specimen(equivariant_basis, lambda: {"in_order": 2, "out_order": 1, "m": 4})}


def _matrices(orders: tuple[int, int], m: int) -> torch.Tensor:
    """The maps as matrices (maps, m^q, m^p)."""
    units = torch.eye(m ** orders[0], dtype=torch.float64).reshape(-1, *[m] * orders[0])
    return torch.stack([function(units).reshape(len(units), -1).T for function in equivariant_basis(*orders, m)])


def _permutation(order: tuple[int, ...], rank: int) -> np.ndarray:
    """The matrix that permutes tensors of that rank."""
    P = np.eye(len(order))[list(order)]
    return {0: np.ones((1, 1)), 1: P, 2: np.kron(P, P)}[rank]


@pytest.mark.parametrize("orders", ORDERS)
def test_maps_commute_with_every_permutation(orders):
    matrices = _matrices(orders, 5).numpy()
    for order in itertools.permutations(range(5)):
        into, out = _permutation(order, orders[0]), _permutation(order, orders[1])
        assert np.abs(out @ matrices - matrices @ into).max() < 1e-14


@pytest.mark.parametrize("orders", ORDERS)
def test_maps_span_the_commutant(orders):
    m, wanted = 5, SIZES[orders]
    matrices = _matrices(orders, m)
    assert len(matrices) == wanted
    assert torch.linalg.matrix_rank(matrices.flatten(1)) == wanted
    generators = [(1, 0, 2, 3, 4), (1, 2, 3, 4, 0)]  # they generate all permutations
    into, out = ([_permutation(order, rank) for order in generators] for rank in orders)
    conditions = np.vstack([np.kron(Q, np.eye(m ** orders[0])) - np.kron(np.eye(m ** orders[1]), P.T) for P, Q in zip(into, out)])
    values, vectors = np.linalg.eigh(conditions.T @ conditions)
    assert np.sum(values < 1e-10) == wanted
    commutant = vectors[:, values < 1e-10]
    flat = matrices.flatten(1).numpy().T
    assert np.abs(flat - commutant @ (commutant.T @ flat)).max() < 1e-10


@pytest.mark.parametrize("orders", ORDERS)
def test_maps_average_over_nodes(orders):
    """On tensors of ones every map has entries 0 and 1, whatever the size."""
    for m in (1, 3, 8):
        ones = torch.ones([2] + [m] * orders[0], dtype=torch.float64)
        for function in equivariant_basis(*orders, m):
            image = function(ones)
            assert image.shape == (2, *[m] * orders[1])
            assert torch.all((image.abs() < 1e-12) | ((image - 1).abs() < 1e-12))


def test_a_transposed_tensor_swaps_maps():
    """f_b(T^T) = f_b'(T), and f_b(T)^T = f_b''(T): rows and columns change places."""
    T = torch.randn(4, 4, dtype=torch.float64)
    images = [function(T) for function in equivariant_basis(2, 2, 4)]
    of_transpose = [function(T.T) for function in equivariant_basis(2, 2, 4)]
    for b, swapped in enumerate([0, 1, 3, 2, 4, 6, 5, 8, 7, 10, 9, 11, 12, 13, 14]):
        torch.testing.assert_close(of_transpose[b], images[swapped])
    for b, swapped in enumerate([0, 1, 2, 3, 4, 7, 8, 5, 6, 10, 9, 12, 11, 13, 14]):
        torch.testing.assert_close(images[b].T, images[swapped])


def test_shapes_and_orders_are_refused():
    with pytest.raises(ValueError, match="T must end in 2 dimension"):
        equivariant_basis(2, 1, 4)[0](torch.ones(4, 3))
    with pytest.raises(ValueError, match="out_order must be"):
        equivariant_basis(2, 3, 4)
