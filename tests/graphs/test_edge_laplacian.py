"""The torch Laplacian equals the SciPy one."""

import numpy as np
import pytest
import torch

from ritz.graphs import laplacian
from ritz.graphs.edge_laplacian import edge_laplacian, inverse_degrees, normalized_edge_weights

SPECIMENS = {}


def _graph(seed: int):
    rng = np.random.default_rng(seed)
    A = np.triu(rng.random((20, 20)) * (rng.random((20, 20)) < 0.2), 1)
    A[:, 7] = A[7] = 0  # an isolated node
    return A + A.T


@pytest.mark.parametrize("kind", ["comb", "sym", "rw"])
@pytest.mark.parametrize("weighted", [True, False])
def test_equals_scipy(kind, weighted):
    A = _graph(0)
    A = A if weighted else (A > 0).astype(float)
    source, target = np.nonzero(A)
    edges, weights = edge_laplacian(
        torch.from_numpy(np.stack([source, target])), 20, torch.from_numpy(A[source, target]) if weighted else None, kind=kind
    )
    dense = torch.sparse_coo_tensor(edges, weights, (20, 20)).to_dense()
    np.testing.assert_allclose(dense, laplacian(A, kind).toarray(), atol=1e-6)


def test_gradients_with_respect_to_weights_are_finite_beside_an_isolated_node():
    weights = torch.ones(2, requires_grad=True)
    normalized_edge_weights(torch.tensor([[0, 1], [1, 0]]), 3, weights).sum().backward()
    assert torch.isfinite(weights.grad).all()
    assert inverse_degrees(torch.tensor([0.0, 4.0]), 0.5).tolist() == [0.0, 0.5]
