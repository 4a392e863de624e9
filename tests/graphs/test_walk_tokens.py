"""Tokens are unions of walks: they hold their owner, stay inside its ball, fill it in the end, and depend on a node's own stream only."""

import itertools

import networkx as nx
import numba
import numpy as np
import pytest
import scipy.sparse
import torch
from graphs.invariances import random_order
from specimens import Specimen
from torch_geometric.data import Batch, Data

from ritz.graphs import WalkTokens, walk_tokens
from ritz.graphs.random_walks import WalkTable
from ritz.graphs.walk_tokens import Tokens, token_sets
from ritz.studies.data.graph_collections import as_data

SPECIMENS = {
    "WalkTokens": Specimen(
        WalkTokens, lambda: {"walk_length": 3, "walks_per_token": 2, "repeats": 2, "rng": 0, "keep_walks": True}, accepts={"rng": ("none",)}
    ),
    "WalkTokens.tokens": Specimen(
        lambda data: WalkTokens(2, 2, 1, rng=0).tokens(data), lambda: {"data": scipy.sparse.csr_array(nx.to_numpy_array(nx.path_graph(4)))}
    ),
}


def _sets(tokens: Tokens) -> list[list[int]]:
    return [part.tolist() for part in tokens.nodes.split(tokens.sizes.tolist())]


def _lengths(m: int, s: int) -> list[int]:
    return [length for length in range(m, 0, -1) for _ in range(s)] + [0]


@pytest.mark.parametrize(("m", "M", "s"), [(0, 0, 0), (1, 1, 1), (4, 3, 2), (6, 1, 3)])
def test_a_token_holds_its_owner_and_what_so_many_steps_can_meet(m, M, s):
    graph = nx.karate_club_graph()
    n, lengths = len(graph), _lengths(m, s)
    tokens = WalkTokens(m, M, s, rng=0).tokens(nx.to_scipy_sparse_array(graph, weight=None))
    assert tokens.owner.tolist() == np.repeat(np.arange(n), len(lengths)).tolist()
    assert tokens.order.tolist() == np.tile(np.arange(len(lengths)), n).tolist()
    distance = dict(nx.all_pairs_shortest_path_length(graph))
    for members, owner, place in zip(_sets(tokens), tokens.owner.tolist(), tokens.order.tolist()):
        length = lengths[place]
        assert members[0] == owner
        assert len(set(members)) == len(members) <= M * length + 1
        assert all(distance[owner][node] <= length for node in members)
        assert length or members == [owner]


def test_many_walks_fill_the_ball():
    """A walk of exactly so many steps passes nodes of either parity: nothing of the ball is left out."""
    graph = nx.cycle_graph(9)
    graph.add_edge(0, 4)
    tokens = WalkTokens(3, 400, 1, rng=0).tokens(graph)
    lengths = _lengths(3, 1)
    for members, owner, place in zip(_sets(tokens), tokens.owner.tolist(), tokens.order.tolist()):
        assert set(members) == set(nx.single_source_shortest_path_length(graph, owner, cutoff=lengths[place]))


def test_tokens_are_the_unions_of_the_walks_that_are_kept_and_walks_follow_edges():
    graph = nx.gnp_random_graph(20, 0.15, seed=0)
    tokens = WalkTokens(4, 3, 2, rng=0, keep_walks=True).tokens(graph)
    A = nx.to_numpy_array(graph)
    sets, lengths, first = _sets(tokens), _lengths(4, 2), 0
    for place, length in enumerate(lengths[:-1]):
        for v in range(20):
            walks = tokens.walks[v, first : first + 3 * (length + 1)].view(3, length + 1)
            assert sets[v * len(lengths) + place] == list(dict.fromkeys(walks.T.flatten().tolist()))
            for walk in walks.tolist():
                assert walk[0] == v
                assert all(A[a, b] or (a == b and not A[a].any()) for a, b in itertools.pairwise(walk))
        first += 3 * (length + 1)
    assert first == tokens.walks.shape[1]


def test_steps_are_uniform_over_neighbors_and_weights_count():
    star = np.zeros((4, 4))
    star[0, 1:] = 1
    weighted = star.copy()
    weighted[0] = [0, 6, 3, 1]
    for adjacency, expected in ((star, [1 / 3] * 3), (weighted, [0.6, 0.3, 0.1])):
        tokens = WalkTokens(1, 1, 20_000, rng=0, keep_walks=True).tokens(adjacency)
        shares = np.bincount(tokens.walks[0].view(-1, 2)[:, 1], minlength=4)[1:] / 20_000
        np.testing.assert_allclose(shares, expected, atol=0.015)


def test_seeds_reproduce_threads_and_blocks_change_nothing(monkeypatch):
    graph = nx.to_scipy_sparse_array(nx.gnp_random_graph(60, 0.1, seed=1))
    first = WalkTokens(5, 3, 2, rng=7).tokens(graph)
    numba.set_num_threads(min(2, numba.config.NUMBA_NUM_THREADS))
    monkeypatch.setattr(walk_tokens, "_BLOCK", 7)
    second = WalkTokens(5, 3, 2, rng=7).tokens(graph)
    assert all(torch.equal(a, b) for a, b in zip(first[:4], second[:4]))
    assert not torch.equal(first.nodes, WalkTokens(5, 3, 2, rng=8).tokens(graph).nodes[: len(first.nodes)])


def test_relabelled_nodes_with_their_streams_have_relabelled_tokens():
    A = scipy.sparse.csr_array(nx.to_scipy_sparse_array(nx.gnp_random_graph(30, 0.15, seed=2)))
    order = random_order(30).numpy()
    new = np.argsort(order)  # node v is called new[v]; each row keeps the order of its neighbors
    rows = [new[A.indices[A.indptr[v] : A.indptr[v + 1]]] for v in order]
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    seed = np.uint64(5)
    nodes, sizes, _ = token_sets(WalkTable(A.indptr, A.indices, np.zeros(0)), np.arange(30), 4, 2, 2, seed, False)
    table = WalkTable(indptr, np.concatenate(rows).astype(A.indices.dtype), np.zeros(0))
    relabelled, new_sizes, _ = token_sets(table, order, 4, 2, 2, seed, False)
    assert np.array_equal(new_sizes, sizes[order])
    of_node = np.split(nodes, np.cumsum(sizes.sum(axis=1))[:-1])
    assert np.array_equal(relabelled, np.concatenate([new[of_node[v]] for v in order]))


def test_batches_carry_the_tokens_of_their_graphs():
    transform = WalkTokens(3, 2, 2, rng=0, keep_walks=True)
    graphs = [transform(as_data(graph)) for graph in (nx.path_graph(4), nx.cycle_graph(5), nx.empty_graph(1))]
    batch = Tokens.of(Batch.from_data_list(graphs))
    sets, owners = [], []
    for data, first in zip(graphs, (0, 4, 9)):
        own = Tokens.of(data)
        sets += [[node + first for node in members] for members in _sets(own)]
        owners += (own.owner + first).tolist()
    assert _sets(batch) == sets
    assert batch.owner.tolist() == owners
    assert batch.walks[9].unique().tolist() == [9]


def test_edge_features_are_no_weights_and_bad_numbers_are_refused():
    data = as_data(nx.path_graph(3), edge_attr=torch.tensor([[-1.0], [2.0], [0.0], [1.0]]))
    assert torch.equal(WalkTokens(2, 2, 1, rng=0)(data).token_nodes, WalkTokens(2, 2, 1, rng=0)(as_data(nx.path_graph(3))).token_nodes)
    for name in ("walk_length", "walks_per_token", "repeats"):
        with pytest.raises(ValueError, match=f"{name} must be an integer of at least"):
            WalkTokens(**{name: -1})
    with pytest.raises(ValueError, match="walks_per_token must be an integer of at least 1, got 0"):
        WalkTokens(1, 0, 1)
    with pytest.raises(ValueError, match="data must have at least one node"):
        WalkTokens(1, 1, 1)(Data(edge_index=torch.zeros(2, 0, dtype=torch.long), num_nodes=0))
    with pytest.raises(ValueError, match="pass each graph through WalkTokens first"):
        Tokens.of(data)
