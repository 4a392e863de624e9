"""Nodes in the order of their scores, graph by graph, and PageRank as networkx has it."""

import networkx as nx
import pytest
import torch
from graphs.invariances import edges_of, random_order, relabelled

from ritz.graphs.node_order import node_order, pagerank


@pytest.mark.parametrize("graph", [nx.karate_club_graph(), nx.lollipop_graph(5, 4), nx.disjoint_union(nx.path_graph(4), nx.empty_graph(2))])
def test_pagerank_is_that_of_networkx(graph):
    ours = pagerank(edges_of(graph), len(graph))
    expected = torch.tensor(list(nx.pagerank(graph, weight=None, tol=1e-12, max_iter=1000).values()), dtype=torch.float64)
    torch.testing.assert_close(ours / ours.sum(), expected, atol=1e-7, rtol=0)


def test_degrees_rise_and_ties_go_by_pagerank_then_number():
    graph = nx.karate_club_graph()
    edges, degree = edges_of(graph), torch.tensor([d for _, d in graph.degree])
    order = node_order("degree", edges, torch.zeros(34, dtype=torch.long), shuffled=False)
    keys = list(zip(degree[order.nodes].tolist(), pagerank(edges, 34)[order.nodes].tolist(), order.nodes.tolist()))
    assert keys == sorted(keys)
    for kind in ("pagerank", lambda edge_index, n: -torch.bincount(edge_index[1], minlength=n)):
        score = pagerank(edges, 34) if kind == "pagerank" else -degree
        found = score[node_order(kind, edges, torch.zeros(34, dtype=torch.long), shuffled=True).nodes]
        assert torch.equal(found, found.sort().values)


def test_random_ties_change_from_call_to_call_but_degrees_do_not():
    edges, batch = edges_of(nx.path_graph(12)), torch.zeros(12, dtype=torch.long)
    first, second = (node_order("degree", edges, batch, shuffled=True).nodes for _ in range(2))
    assert not torch.equal(first, second)
    for order in (first, second):
        assert set(order[:2].tolist()) == {0, 11}


def test_graphs_are_sorted_as_they_are_alone_and_come_back_in_place():
    first, second = nx.lollipop_graph(4, 3), nx.karate_club_graph()
    batch = torch.tensor([0] * 7 + [1] * 34)
    order = node_order("degree", edges_of(nx.disjoint_union(first, second)), batch, shuffled=False)
    alone = [node_order("degree", edges_of(g), torch.zeros(len(g), dtype=torch.long), shuffled=False).nodes for g in (first, second)]
    assert torch.equal(order.nodes, torch.cat([alone[0], alone[1] + 7]))
    x = torch.randn(41, 3)
    sequences, mask = order.padded(x)
    assert mask.sum(1).tolist() == [7, 34]
    assert torch.equal(order.unpadded(sequences, mask), x)


def test_alike_nodes_stay_alike_however_they_are_numbered():
    graph, order = nx.cycle_graph(11), random_order(11)
    for edges in (edges_of(graph), relabelled(edges_of(graph), order)):
        assert len(pagerank(edges, 11).unique()) == 1


def test_scores_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"node_order must return a tensor of shape \(3,\)"):
        node_order(lambda _edges, _n: torch.zeros(2), edges_of(nx.path_graph(3)), torch.zeros(3, dtype=torch.long), shuffled=False)
