"""The dual hypergraph is the graph again, transposed; convolutions on it are averages."""

import networkx as nx
import pytest
import torch
from graphs.invariances import edges_of
from specimens import Specimen
from torch_geometric.data import Batch, Data
from torch_geometric.nn import HypergraphConv

from ritz.graphs import DualHypergraph, dual_hypergraph
from ritz.graphs.dual_hypergraph import edge_pairs

PATHS = torch.tensor([[0, 1, 3], [1, 2, 4]])
BATCH = torch.tensor([0, 0, 0, 1, 1, 2])

SPECIMENS = {
    "dual_hypergraph": Specimen(
        lambda edge_index, batch, **options: dual_hypergraph(edge_index, batch, **options),
        lambda: {"edge_index": torch.cat([PATHS, PATHS.flip(0)], 1), "batch": BATCH, "add_loops": True, "undirected": True},
    ),
    "DualHypergraph": Specimen(lambda: DualHypergraph(), dict),
}


def _random_edges(undirected: bool = True, seed: int = 0) -> torch.Tensor:
    edges = edges_of(nx.gnm_random_graph(12, 25, seed=seed))
    return edges if undirected else edges[:, : edges.shape[1] // 2]


def _incidence(edge_index: torch.Tensor, nodes: int) -> torch.Tensor:
    """M (nodes, edges), entry by entry."""
    M = torch.zeros(nodes, edge_index.shape[1], dtype=torch.float64)
    for edge, (u, v) in enumerate(edge_index.T.tolist()):
        M[u, edge] = M[v, edge] = 1
    return M


def _dense(hyperedge_index: torch.Tensor, edges: int, hyperedges: int) -> torch.Tensor:
    return torch.zeros(edges, hyperedges, dtype=torch.float64).index_put_(tuple(hyperedge_index), torch.ones(1, dtype=torch.float64))


@pytest.mark.parametrize("undirected", [False, True])
def test_the_dual_is_the_transposed_incidence_and_the_dual_of_the_dual_the_graph(undirected):
    edges = _random_edges(undirected)
    hyperedge_index, edge_batch = dual_hypergraph(edges, add_loops=False)
    m = edges.shape[1]
    assert hyperedge_index.shape == (2, 2 * m)
    assert torch.equal(edge_batch, torch.zeros(m, dtype=torch.long))
    dual = _dense(hyperedge_index, m, 12)
    assert torch.equal(dual, _incidence(edges, 12).T)
    assert torch.equal(_dense(hyperedge_index.flip(0), 12, m).T, dual)
    assert torch.equal(hyperedge_index[1].view(m, 2).T, edges)
    assert torch.equal(dual.sum(1), torch.full((m,), 2.0, dtype=torch.float64))


def test_a_hyperedge_is_as_large_as_the_degree_of_its_node():
    graph = nx.gnm_random_graph(12, 25, seed=0)
    hyperedge_index, _ = dual_hypergraph(edges_of(graph), add_loops=False, undirected=True)
    assert torch.bincount(hyperedge_index[1], minlength=12).tolist() == [degree for _, degree in graph.degree]
    both, _ = dual_hypergraph(edges_of(graph), add_loops=False)
    assert torch.bincount(both[1], minlength=12).tolist() == [2 * degree for _, degree in graph.degree]


def test_one_node_for_an_undirected_edge_stands_where_its_smaller_source_does():
    edges = _random_edges()[:, torch.randperm(50, generator=torch.Generator().manual_seed(1))]
    hyperedge_index, edge_batch = dual_hypergraph(edges, add_loops=False, undirected=True)
    upwards = edges[:, edges[0] < edges[1]]
    assert torch.equal(hyperedge_index[1].view(-1, 2).T, upwards)
    assert edge_batch.shape == (25,)


def test_pairs_are_the_two_orientations_even_of_parallel_edges():
    ends = torch.tensor([[0, 0, 1, 2], [1, 1, 2, 0]])
    edges = torch.cat([ends, ends.flip(0)], 1)[:, torch.randperm(8, generator=torch.Generator().manual_seed(0))]
    first, second = edge_pairs(edges)
    assert torch.equal(edges[:, first], edges[:, second].flip(0))
    assert torch.all(edges[0, first] < edges[1, first])
    assert sorted(torch.cat([first, second]).tolist()) == list(range(8))


def test_loops_replace_hyperedges_with_one_member():
    hyperedge_index, edge_batch = dual_hypergraph(PATHS, BATCH)
    assert hyperedge_index.tolist() == [[0, 1, 0, 1, 2], [1, 1, 5, 6, 7]]
    assert edge_batch.tolist() == [0, 0, 1]


def test_no_edges_have_an_empty_dual():
    hyperedge_index, edge_batch = dual_hypergraph(torch.empty(2, 0, dtype=torch.long), BATCH)
    assert hyperedge_index.shape == (2, 0)
    assert edge_batch.shape == (0,)
    assert HypergraphConv(3, 4)(torch.empty(0, 3), hyperedge_index).shape == (0, 4)


@pytest.mark.parametrize("add_loops", [False, True])
def test_convolution_on_the_dual_is_the_dense_formula(add_loops):
    torch.manual_seed(0)
    edges = _random_edges(undirected=False)
    hyperedge_index, _ = dual_hypergraph(edges, add_loops=add_loops)
    conv, E = HypergraphConv(3, 4).double(), torch.randn(25, 3, dtype=torch.float64)
    torch.nn.init.normal_(conv.bias)
    H = _dense(hyperedge_index, 25, int(hyperedge_index[1].max()) + 1)
    inverse_degrees, inverse_sizes = ((1 / H.sum(dim)).nan_to_num(posinf=0) for dim in (1, 0))
    expected = inverse_degrees[:, None] * (H @ (inverse_sizes[:, None] * (H.T @ E))) @ conv.lin.weight.T + conv.bias
    torch.testing.assert_close(conv(E, hyperedge_index), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("add_loops", [False, True])
def test_convolution_on_the_dual_keeps_constants(add_loops):
    conv = HypergraphConv(2, 2, bias=False).double()
    conv.lin.weight.data = torch.eye(2, dtype=torch.float64)
    constant = torch.tensor([[1.0, -3.0]], dtype=torch.float64).expand(25, 2)
    hyperedge_index, _ = dual_hypergraph(_random_edges(undirected=False), add_loops=add_loops)
    torch.testing.assert_close(conv(constant, hyperedge_index), constant, rtol=0, atol=1e-12)


def test_orientations_with_equal_features_get_equal_representations():
    torch.manual_seed(0)
    edges = _random_edges()
    features = torch.randn(25, 3, dtype=torch.float64).repeat(2, 1)
    conv = HypergraphConv(3, 4).double()
    forward, backward = conv(features, dual_hypergraph(edges)[0]).chunk(2)
    torch.testing.assert_close(forward, backward, rtol=0, atol=1e-12)


def test_a_batch_of_transformed_graphs_is_their_duals_side_by_side():
    graphs = [Data(edge_index=edges_of(nx.star_graph(3)), num_nodes=4), Data(edge_index=torch.empty(2, 0, dtype=torch.long), num_nodes=2)]
    graphs += [Data(edge_index=torch.tensor([[0, 2], [2, 1]]), num_nodes=5, x=torch.ones(5, 1))]
    transformed = [DualHypergraph()(data) for data in graphs]
    assert torch.equal(transformed[2].x, graphs[2].x)
    batch = Batch.from_data_list([data if data.x is not None else data.update({"x": torch.zeros(data.num_nodes, 1)}) for data in transformed])
    assert batch.edge_batch.tolist() == [0] * 6 + [2] * 2
    alone = [dual_hypergraph(data.edge_index)[0] for data in graphs]
    E = torch.arange(16.0).view(8, 2)
    conv = HypergraphConv(2, 3)
    expected = torch.cat([conv(part, index) for part, index in zip(E.split([6, 0, 2]), alone)])
    torch.testing.assert_close(conv(E, batch.hyperedge_index), expected)
    again = DualHypergraph()(batch)
    torch.testing.assert_close(conv(E, again.hyperedge_index), expected)
    assert torch.equal(again.edge_batch, batch.edge_batch)


@pytest.mark.parametrize(
    ("edges", "batch", "message"),
    [
        ([[0, 1], [1, 2]], None, "both orientations"),
        ([[0, 1, 1], [1, 0, 2]], None, "both orientations"),
        ([[0, 1, 0, 0], [1, 0, 1, 1]], None, "both orientations"),
        ([[0, 1, 1], [1, 0, 1]], None, "both orientations"),
        ([[0, 1, -1]], None, "shape"),
        ([[0, -1], [-1, 0]], None, "edge_index"),
        ([[0, 1], [1, 0]], [0], "batch"),
        ([[0, 1], [1, 0]], [[0, 0]], "batch"),
    ],
)
def test_what_is_no_undirected_graph_is_refused(edges, batch, message):
    with pytest.raises(ValueError, match=message):
        dual_hypergraph(torch.tensor(edges), None if batch is None else torch.tensor(batch), undirected=True)
