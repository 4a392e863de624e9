"""Ego networks found for all nodes at once are those found one by one, and batches of stored ones equal fresh ones."""

import networkx as nx
import pytest
import torch
from graphs.invariances import edges_of
from specimens import Specimen
from torch_geometric.data import Batch, Data

from ritz.graphs import EgoBatch, EgoNetworks, ego_networks, whole_graphs
from ritz.graphs.ego_networks import Links

PATH = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
FIELDS = ("members", "sizes", "pairs", "slots", "reverse")

SPECIMENS = {
    "ego_networks": Specimen(ego_networks, lambda: {"edge_index": PATH.clone(), "num_nodes": 3, "k": 1}),
    "whole_graphs": Specimen(whole_graphs, lambda: {"batch": torch.tensor([0, 0, 1])}),
    "EgoNetworks": Specimen(EgoNetworks, lambda: ego_networks(PATH, 3).as_dict(), spare=frozenset({"num_nodes", *FIELDS})),
    "EgoBatch": Specimen(EgoBatch, lambda: {"k": 2}),
}


def _graphs() -> list[nx.Graph]:
    lonely = nx.path_graph(3)
    lonely.add_node(3)
    return [nx.cycle_graph(6), nx.gnp_random_graph(12, 0.3, seed=1), lonely, nx.star_graph(5), nx.empty_graph(1)]


def _same(first: EgoNetworks, second: EgoNetworks) -> bool:
    return first.num_nodes == second.num_nodes and all(torch.equal(getattr(first, name), getattr(second, name)) for name in FIELDS)


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("graph", _graphs())
def test_ego_networks_are_those_of_networkx(graph, k):
    egos = ego_networks(edges_of(graph), len(graph), k)
    pairs = set()
    for center, members in enumerate(egos.members.split(egos.sizes.tolist())):
        expected = set(nx.ego_graph(graph, center, radius=k))
        assert members[0] == center
        assert members[1:].tolist() == sorted(expected - {center})
        pairs |= {(i, j) for i in expected for j in expected}
    assert egos.pairs.T.tolist() == [list(pair) for pair in sorted(pairs)]
    assert torch.equal(egos.pairs[:, egos.reverse], egos.pairs.flip(0))
    assert torch.equal(egos.pairs[:, egos.diagonal], torch.arange(len(graph)).repeat(2, 1))


def test_groups_hold_the_pairs_of_their_nodes():
    graph = _graphs()[1]
    egos = ego_networks(edges_of(graph), len(graph))
    groups = egos.groups()
    assert sorted(v for group in groups.values() for v in group.egos.tolist()) == list(range(len(graph)))
    for m, group in groups.items():
        assert group.nodes.shape == (len(group.egos), m)
        assert torch.equal(group.nodes[:, 0], group.egos)
        assert torch.equal(egos.pairs[0][group.pairs], group.nodes[:, :, None].expand(-1, -1, m))
        assert torch.equal(egos.pairs[1][group.pairs], group.nodes[:, None, :].expand(-1, m, -1))


def test_directions_and_parallel_edges_change_nothing():
    edges = edges_of(_graphs()[1])
    one_way = edges[:, edges[0] < edges[1]]
    assert _same(ego_networks(torch.cat([one_way, one_way, torch.tensor([[3], [3]])], dim=1), 12, 2), ego_networks(edges, 12, 2))


def test_far_enough_an_ego_network_is_the_whole_graph():
    graph = nx.cycle_graph(7)
    egos, whole = ego_networks(edges_of(graph), 7, 3), whole_graphs(torch.zeros(7, dtype=torch.long))
    assert egos.sizes.tolist() == [7] * 7
    assert torch.equal(egos.pairs, whole.pairs)
    assert len(whole.sizes) == 1


@pytest.mark.parametrize("k", [1, 2])
def test_stored_ego_networks_of_a_batch_equal_fresh_ones(k):
    transform = EgoBatch(k)
    graphs = [Data(x=torch.ones(len(graph), 2), edge_index=edges_of(graph), y=torch.tensor([1])) for graph in _graphs()]
    batch = Batch.from_data_list([transform(data) for data in graphs])
    assert _same(transform.networks(batch), ego_networks(batch.edge_index, batch.num_nodes, k))
    assert _same(transform.networks(batch[1]), ego_networks(graphs[1].edge_index, 12, k))
    assert not hasattr(graphs[0], "ego_slots")
    with pytest.raises(ValueError, match="data must carry its ego networks"):
        transform.networks(graphs[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_means_over_links(dtype):
    sources, targets = torch.tensor([0, 1, 1, 2]), torch.tensor([0, 0, 2, 2])
    x = torch.tensor([[1.0], [3.0], [5.0]], dtype=dtype)
    assert Links(sources, targets, 3, 3).mean(x).flatten().tolist() == [2, 0, 4]


def test_edges_outside_are_refused():
    for edges in (torch.tensor([[0], [3]]), torch.tensor([[-1], [0]])):
        with pytest.raises(ValueError, match="edge_index must number nodes from 0 to 2"):
            ego_networks(edges, 3)
    with pytest.raises(ValueError, match="batch must hold"):
        whole_graphs(torch.tensor([0, 2]))
    with pytest.raises(ValueError, match="k must be"):
        ego_networks(PATH, 3, 0)
    with pytest.raises(ValueError, match="k must be"):
        EgoBatch(0)
    with pytest.raises(ValueError, match="edges that no subgraph holds"):
        ego_networks(PATH[:, :2], 3).pair_numbers(PATH)
