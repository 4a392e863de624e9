"""Every kind of graph becomes the same canonical CSR matrix, and what is no graph is refused."""

import networkx as nx
import numpy as np
import pytest
import scipy.sparse
import torch
from specimens import Specimen

from ritz.graphs import Adjacency, as_adjacency, symmetrized

DENSE = np.array([[0.0, 2.0, 0.0], [2.0, 0.0, 1.0], [0.0, 1.0, 0.0]])

SPECIMENS = {
    "Adjacency": Specimen(Adjacency, lambda: {"matrix": scipy.sparse.csr_array(DENSE), "nodes": np.arange(3)}, spare=frozenset({"matrix", "nodes"})),
    "as_adjacency": Specimen(
        lambda adjacency, **options: as_adjacency(adjacency, **options),
        lambda: {"adjacency": DENSE.copy(), "directed": False, "weighted": True, "allow_loops": False, "connected": True},
    ),
    "symmetrized": Specimen(symmetrized, lambda: {"matrix": scipy.sparse.csr_array(DENSE)}, spare=frozenset({"matrix"})),
}


def _pyg():
    torch_geometric = pytest.importorskip("torch_geometric")
    row, column = np.nonzero(DENSE)
    return torch_geometric.data.Data(
        edge_index=torch.from_numpy(np.stack([row, column])), edge_weight=torch.from_numpy(DENSE[row, column]), num_nodes=3
    )


KINDS = {
    "list": lambda: DENSE.tolist(),
    "dense": lambda: DENSE,
    "integers": lambda: DENSE.astype(np.int8),
    "fortran": lambda: np.asfortranarray(DENSE),
    "view": lambda: np.kron(DENSE, np.ones((2, 2)))[::2, ::2],
    "csr": lambda: scipy.sparse.csr_array(DENSE),
    "csc matrix": lambda: scipy.sparse.csc_matrix(DENSE),
    "coo": lambda: scipy.sparse.coo_array(DENSE),
    "torch": lambda: torch.from_numpy(DENSE),
    "torch sparse": lambda: torch.from_numpy(DENSE).to_sparse(),
    "torch csr": lambda: torch.from_numpy(DENSE).to_sparse_csr(),
    "networkx": lambda: nx.from_numpy_array(DENSE),
    "pyg": _pyg,
    "adjacency": lambda: as_adjacency(DENSE),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_graph_gives_the_same_matrix(kind):
    graph = as_adjacency(KINDS[kind]())
    assert graph.matrix.format == "csr"
    assert graph.matrix.dtype == np.float64
    assert graph.matrix.has_sorted_indices
    np.testing.assert_array_equal(graph.matrix.toarray(), DENSE)
    assert list(graph.nodes) == [0, 1, 2]


def test_labels_of_networkx_nodes_are_kept_in_order():
    graph = nx.Graph([("b", "a"), ("a", "c")])
    adjacency = as_adjacency(graph)
    assert list(adjacency.nodes) == ["b", "a", "c"]
    np.testing.assert_array_equal(adjacency.matrix.toarray(), [[0, 1, 0], [1, 0, 1], [0, 1, 0]])


def test_tuples_as_labels_survive():
    assert list(as_adjacency(nx.grid_2d_graph(2, 2)).nodes) == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_parallel_edges_are_summed_and_stored_zeros_dropped():
    doubled = scipy.sparse.coo_array(([1.0, 2.0, 0.0], ([0, 0, 1], [1, 1, 0])), shape=(2, 2))
    matrix = as_adjacency(doubled).matrix
    np.testing.assert_array_equal(matrix.toarray(), [[0, 3], [0, 0]])
    assert matrix.nnz == 1


def test_the_input_is_not_changed():
    unsorted = scipy.sparse.csr_array((np.array([1.0, 2.0]), np.array([1, 0]), np.array([0, 2, 2])), shape=(2, 2))
    as_adjacency(unsorted)
    assert unsorted.indices.tolist() == [1, 0]


def test_symmetrized_takes_the_larger_weight():
    np.testing.assert_array_equal(symmetrized(scipy.sparse.csr_array([[0, 3.0], [1.0, 0]])).toarray(), [[0, 3], [3, 0]])


def test_a_chain_of_directed_edges_is_connected():
    assert as_adjacency([[0, 1, 0], [0, 0, 0], [0, 1, 0]], connected=True).n == 3


def test_nodes_of_a_heterogeneous_graph_are_numbered_type_by_type():
    torch_geometric = pytest.importorskip("torch_geometric")
    data = torch_geometric.data.HeteroData()
    data["author"].num_nodes, data["paper"].num_nodes = 2, 1
    data["author", "writes", "paper"].edge_index = torch.tensor([[0, 1], [0, 0]])
    data["paper", "cites", "paper"].edge_index = torch.tensor([[0], [0]])
    data["paper", "cites", "paper"].edge_weight = torch.tensor([3.0])
    graph = as_adjacency(data)
    assert list(graph.nodes) == [("author", 0), ("author", 1), ("paper", 0)]
    np.testing.assert_array_equal(graph.matrix.toarray(), [[0, 0, 1], [0, 0, 1], [0, 0, 3]])


@pytest.mark.parametrize(
    ("graph", "options", "message"),
    [
        (np.ones((2, 3)), {}, "must be square"),
        (np.array([[0, -1.0], [-1.0, 0]]), {}, "no negative weight"),
        (np.array([[0, np.nan], [1, 0]]), {}, "must be finite"),
        (np.array([[0, np.inf], [1, 0]]), {}, "must be finite"),
        (np.array([[0, 1.0], [0, 0]]), {"directed": False}, "must be symmetric"),
        (np.array([[1.0, 1.0], [1.0, 0]]), {"allow_loops": False}, "self-loops, got 1"),
        (np.array([[0, 2.0], [2.0, 0]]), {"weighted": False}, "no weights other than 1, got 2"),
        (np.zeros((3, 3)), {"connected": True}, "connected graph, got 3 components"),
        (scipy.sparse.csr_array((0, 0)), {}, "at least one node"),
        (nx.Graph(), {}, "at least one node"),
        (np.ones(3), {}, "must be a matrix"),
    ],
)
def test_what_is_no_such_graph_is_refused(graph, options, message):
    with pytest.raises(ValueError, match=message):
        as_adjacency(graph, **options)


def test_what_is_no_graph_at_all_is_refused():
    with pytest.raises(TypeError, match="adjacency"):
        as_adjacency(object())
