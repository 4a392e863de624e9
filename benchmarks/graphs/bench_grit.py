"""GRIT: padded tensors against lists of pairs, and walk probabilities of many molecules at once."""

import networkx
import numpy as np
from torch_geometric.data import Batch, Data

from ritz.graphs import AddRRWP, Grit, transition
from ritz.studies import benchmark, compare, within
from ritz.studies.data.graph_collections import as_data

K = 21


def _molecules(count: int) -> list[Data]:
    """Trees of 20 to 28 nodes with three extra bonds."""
    rng = np.random.default_rng(0)
    graphs = []
    for _ in range(count):
        n = int(rng.integers(20, 29))
        graph = networkx.random_labeled_tree(n, seed=int(rng.integers(2**31)))
        graph.add_edges_from(rng.choice(n, 2, replace=False).tolist() for _ in range(3))
        graphs.append(as_data(graph))
    return graphs


@benchmark(threads=2)
def padded_against_lists():
    """Forward and backward of two layers on 32 graphs; with 29 steps every pair of a list is joined, so both do the same sums."""
    batch = Batch.from_data_list(AddRRWP(29).for_all(_molecules(32)))
    dense, listed = (Grit(dim=64, num_layers=2, walk_length=29, full_attention=full) for full in (True, False))
    return compare(
        "two layers, 32 graphs",
        lambda: dense(batch).sum().backward(),
        lambda: listed(batch).sum().backward(),
        peer_name="gather and scatter",
        target=2.0,
    )


@benchmark(threads=2)
def walks_of_many_molecules():
    """Ten thousand molecules, 21 powers; and a thousand against sparse powers, graph by graph."""
    graphs = _molecules(10_000)
    yield within("10,000 molecules, 21 powers", lambda: AddRRWP(K).for_all(graphs), limit=5.0)
    some = graphs[:1000]

    def sparse():
        for data in some:
            M = transition(data)
            power = M
            for _ in range(K - 2):
                power = power @ M

    yield compare("1,000 molecules", lambda: AddRRWP(K).for_all(some), sparse, peer_name="sparse powers, one by one", target=20.0)
