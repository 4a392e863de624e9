"""Walk probabilities are powers of the transition matrix; where they become positive is the distance."""

import networkx as nx
import numpy as np
import pytest
import torch
from graphs.invariances import edges_of
from specimens import Specimen
from torch_geometric.data import Batch, Data
from torch_geometric.transforms import AddRandomWalkPE

from ritz.graphs import AddRRWP, transition

SPECIMENS = {
    "AddRRWP": Specimen(
        lambda walk_length, attr_abs, spd, tolerance: AddRRWP(walk_length, attr_abs, spd=spd, tolerance=tolerance),
        lambda: {"walk_length": 3, "attr_abs": "rrwp", "spd": True, "tolerance": 0.0},
    ),
}


def _data(graph: nx.Graph) -> Data:
    return Data(edge_index=edges_of(graph), num_nodes=len(graph))


def _dense(data: Data, K: int) -> torch.Tensor:
    P = torch.zeros(data.num_nodes, data.num_nodes, K)
    P[data.rrwp_index[1], data.rrwp_index[0]] = data.rrwp_val
    return P


def test_powers_rows_and_diagonals():
    graph = nx.gnp_random_graph(15, 0.2, seed=1)
    graph.add_node(15)  # isolated
    data = AddRRWP(8)(_data(graph))
    P = _dense(data, 8)
    torch.testing.assert_close(P[..., 0], torch.eye(16))
    M = torch.from_numpy(transition(graph).toarray()).float()
    for k in range(8):
        torch.testing.assert_close(P[..., k], torch.linalg.matrix_power(M, k), atol=1e-6, rtol=0)
    reached = torch.tensor([degree > 0 for _, degree in graph.degree])
    torch.testing.assert_close(P[..., 1:].sum(1)[reached], torch.ones(int(reached.sum()), 7))
    assert torch.all(P[15, :, 1:] == 0)
    torch.testing.assert_close(data.rrwp, P.diagonal().T)
    torch.testing.assert_close(data.rrwp[:, 1:], AddRandomWalkPE(7)(_data(graph)).random_walk_pe)
    torch.testing.assert_close(data.log_deg, torch.log1p(torch.tensor([float(degree) for _, degree in graph.degree])))


def test_the_first_positive_power_is_the_distance():
    graph = nx.connected_watts_strogatz_graph(30, 4, 0.2, seed=0)
    data = AddRRWP(6, spd=True)(_data(graph))
    distances = dict(nx.all_pairs_shortest_path_length(graph))
    found = {(int(j), int(i)): int(d) for (j, i), d in zip(data.rrwp_index.T.tolist(), data.rrwp_spd)}
    expected = {(j, i): d for j, row in distances.items() for i, d in row.items() if d < 6}
    assert found == expected


def test_pairs_run_from_source_to_target_and_walks_back():
    data = AddRRWP(2)(Data(edge_index=torch.tensor([[0], [1]]), num_nodes=2))  # one directed edge: from node 0 a walk reaches 1
    pairs = dict(zip(map(tuple, data.rrwp_index.T.tolist()), data.rrwp_val.tolist()))
    assert pairs[1, 0] == [0, 1]  # source 1, target 0: from the target to the source
    assert (0, 1) not in pairs


def test_large_graphs_have_sparse_powers():
    graph = nx.cycle_graph(600)
    data = AddRRWP(4)(_data(graph))
    assert data.rrwp_val.shape == (600 * 7, 4)
    small = AddRRWP(4)(_data(nx.cycle_graph(100)))
    torch.testing.assert_close(data.rrwp[0], small.rrwp[0])
    dropped = AddRRWP(4, tolerance=0.3)(_data(graph))
    assert len(dropped.rrwp_val) < len(data.rrwp_val)


def test_a_collection_at_once_equals_graph_by_graph_and_batches_form():
    graphs = [nx.path_graph(5), nx.cycle_graph(8), nx.star_graph(3), nx.cycle_graph(510)]
    transform = AddRRWP(5, spd=True)
    together = transform.for_all([_data(graph) for graph in graphs])
    for data, graph in zip(together, graphs):
        alone = transform(_data(graph))
        for name in ("rrwp", "rrwp_index", "rrwp_val", "rrwp_spd", "log_deg"):
            torch.testing.assert_close(data[name], alone[name])
    batch = Batch.from_data_list(together[:3])
    assert batch.rrwp_index.max() == 16
    assert np.array_equal(batch.batch[batch.rrwp_index[0]], batch.batch[batch.rrwp_index[1]])


def test_negative_weights_and_odd_names_are_refused():
    with pytest.raises(ValueError, match="no negative weight"):
        AddRRWP(2)(Data(edge_index=torch.tensor([[0, 1], [1, 0]]), edge_weight=torch.tensor([-1.0, -1.0]), num_nodes=2))
    with pytest.raises(ValueError, match="attr_rel must be an attribute's name"):
        AddRRWP(2, attr_rel="no name")
