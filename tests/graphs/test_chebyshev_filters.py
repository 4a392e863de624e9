"""The shared basis is the polynomials, and each filter is PyG's ChebConv."""

import networkx as nx
import numpy as np
import pytest
import torch
from graphs.invariances import edges_of
from torch_geometric.nn import ChebConv

from ritz.graphs import laplacian
from ritz.graphs.chebyshev_filters import ChebyshevFilters, chebyshev_basis

SPECIMENS = {}


def test_the_basis_is_that_of_the_shifted_laplacian():
    graph = nx.karate_club_graph()
    x = torch.randn(34, 3, dtype=torch.float64)
    shifted = laplacian(nx.to_numpy_array(graph, weight=None), "sym").toarray() - np.eye(34)
    values, vectors = np.linalg.eigh(shifted)
    basis = chebyshev_basis(x, edges_of(graph), 6)
    for k in range(6):
        T = vectors @ np.diag(np.cos(k * np.arccos(values.clip(-1, 1)))) @ vectors.T
        np.testing.assert_allclose(basis[:, k], T @ x.numpy(), atol=1e-12)


@pytest.mark.parametrize("terms", [1, 2, 5])
def test_each_filter_equals_pygs_convolution(terms):
    graph = nx.karate_club_graph()
    graph.add_node(34)  # isolated
    x = torch.randn(35, 4)
    filters = ChebyshevFilters(4, 6, terms, 3)
    torch.nn.init.normal_(filters.bias)
    found = filters(x, edges_of(graph)).view(35, 3, 6)
    for number in range(3):
        peer = ChebConv(4, 6, terms)
        with torch.no_grad():
            peer.bias.copy_(filters.bias[number])
            for k in range(terms):
                peer.lins[k].weight.copy_(filters.weight[number, k].T)
        torch.testing.assert_close(found[:, number], peer(x, edges_of(graph), lambda_max=2.0), atol=1e-5, rtol=1e-5)
