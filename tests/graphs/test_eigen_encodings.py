"""Eigenpairs of Laplacians as attributes, padded, zeros included."""

import networkx as nx
import numpy as np
import pytest
import torch
from graphs.invariances import edges_of
from specimens import Specimen
from torch_geometric.data import Batch, Data

from ritz.graphs import LaplacianEigenpairs, laplacian
from ritz.graphs.eigen_encodings import smallest_eigenpairs

SPECIMENS = {
    "LaplacianEigenpairs": Specimen(LaplacianEigenpairs, lambda: {"k": 3, "normalization": "sym"}),
}


def _data(graph: nx.Graph) -> Data:
    return Data(edge_index=edges_of(graph), num_nodes=len(graph))


@pytest.mark.parametrize("normalization", ["sym", "comb"])
def test_pairs_solve_the_eigenproblem_zeros_included(normalization):
    graph = nx.disjoint_union(nx.cycle_graph(5), nx.path_graph(4))
    data = LaplacianEigenpairs(4, normalization)(_data(graph))
    L = torch.from_numpy(laplacian(graph, normalization).toarray()).float()
    assert data.eigval.shape == (1, 4)
    assert data.eigval[0, :2].tolist() == [0, 0]
    torch.testing.assert_close(L @ data.eigvec, data.eigvec * data.eigval, atol=1e-6, rtol=0)
    torch.testing.assert_close(data.eigvec.T @ data.eigvec, torch.eye(4), atol=1e-6, rtol=0)


def test_small_graphs_are_padded_and_batches_form():
    transform = LaplacianEigenpairs(6)
    batch = Batch.from_data_list([transform(_data(nx.path_graph(n))) for n in (2, 8)])
    assert batch.eigval.shape == (2, 6)
    assert batch.eigvec.shape == (10, 6)
    assert torch.all(batch.eigval[0, 2:] == 0)
    assert torch.all(batch.eigvec[:2, 2:] == 0)


def test_an_isolated_node_has_eigenvalue_zero():
    graph = nx.path_graph(3)
    graph.add_node(3)
    assert (LaplacianEigenpairs(4)(_data(graph)).eigval == 0).sum() == 2


def test_large_graphs_take_the_iterative_route():
    L = laplacian(nx.cycle_graph(1600), "sym")
    values, vectors = smallest_eigenpairs(L, 5)
    np.testing.assert_allclose(values, 1 - np.cos(2 * np.pi * np.array([0, 1, 1, 2, 2]) / 1600), atol=1e-9)
    np.testing.assert_allclose(L @ vectors, vectors * values, atol=1e-7)


def test_a_collection_at_once_equals_graph_by_graph():
    graphs = [nx.cycle_graph(5), nx.path_graph(7), nx.star_graph(4), nx.path_graph(2)]
    transform = LaplacianEigenpairs(4)
    for data, graph in zip(transform.for_all([_data(graph) for graph in graphs]), graphs):
        alone = transform(_data(graph))
        torch.testing.assert_close(data.eigval, alone.eigval)
        torch.testing.assert_close(
            data.eigvec @ torch.diag(data.eigval[0]) @ data.eigvec.T, alone.eigvec @ torch.diag(alone.eigval[0]) @ alone.eigvec.T
        )


def test_a_directed_graph_is_refused():
    with pytest.raises(ValueError, match="symmetric"):
        LaplacianEigenpairs(2)(Data(edge_index=torch.tensor([[0], [1]]), num_nodes=2))
