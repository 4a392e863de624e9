"""Sampling directed graphs: ten million edges, the same algorithm in plain Python, and networkx's exact construction."""

import random
import warnings

import networkx as nx
import numpy as np
import scipy.sparse

from ritz.graphs import construct_directed_graph, degree_correlation_matrix, joint_degree_matrix, sample_directed_graph
from ritz.studies import benchmark, compare, within
from ritz.studies.data import MissingData
from ritz.studies.data.graphs import rmat, scale_free_digraph, wiki_vote


@benchmark
def ten_million_edges():
    """Half of a graph of 10^7 edges: at most 10 seconds on one core."""
    graph = scipy.sparse.csr_array(rmat(20, 5_300_000, rng=0).astype(np.float64))
    sample_directed_graph(graph[:1000, :1000], 0.9, rounding="stochastic", rng=0)
    return within(f"{graph.nnz / 1e6:.1f} million edges, ratio 0.5", lambda: sample_directed_graph(graph, 0.5, rng=0), limit=10.0)


@benchmark
def against_plain_python():
    """The same algorithm on wiki-Vote by networkx, SciPy's dictionaries of keys and lists that shrink by searching."""
    name, graph = _votes()
    drawn = nx.from_scipy_sparse_array(graph, create_using=nx.DiGraph)
    return compare(
        f"{name}, ratio 0.5",
        lambda: sample_directed_graph(graph, 0.5, rng=0),
        lambda: _plain_sample(drawn, 0.5),
        peer_name="plain Python: networkx, dok_array, lists",
        target=50.0,
        pairs=3,
    )


@benchmark
def against_networkx():
    """A graph from its matrices; networkx's construction is exact, ours leaves out what finds no free ends."""
    yield _against_networkx(500, 2_000, target=100.0)
    yield _against_networkx(12_500, 50_000, target=None)


def _against_networkx(n: int, m: int, *, target: float | None):
    graph = nx.gnm_random_graph(n, m, seed=0, directed=True)
    jdm, dcm = joint_degree_matrix(graph), degree_correlation_matrix(graph)
    counts = {}
    for u, v in graph.edges:
        row = counts.setdefault(graph.out_degree(u), {})
        row[graph.in_degree(v)] = row.get(graph.in_degree(v), 0) + 1
    sequences = [degree for _, degree in graph.in_degree], [degree for _, degree in graph.out_degree]

    def ours():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return construct_directed_graph(jdm, dcm, rng=0)

    return compare(
        f"{m} edges from their joint degrees",
        ours,
        lambda: nx.directed_joint_degree_graph(*sequences, counts, seed=0),
        peer_name="networkx.directed_joint_degree_graph",
        target=target,
        extra={"edges left out": m - ours().nnz},
    )


def _plain_sample(graph: nx.DiGraph, ratio: float) -> nx.DiGraph:
    rng = random.Random(0)
    shape = max(d for _, d in graph.out_degree) + 1, max(d for _, d in graph.in_degree) + 1
    edges, nodes = scipy.sparse.dok_array(shape, dtype=int), scipy.sparse.dok_array(shape, dtype=int)
    for u, v in graph.edges:
        edges[graph.out_degree(u), graph.in_degree(v)] += 1
    for v in graph:
        nodes[graph.out_degree(v), graph.in_degree(v)] += 1
    sampled, ends, by_out, by_in = nx.DiGraph(), {}, {}, {}
    for (o, i), count in nodes.items():
        for _ in range(int(ratio * count + 0.5)):
            node = len(ends)
            ends[node] = [o, i]
            sampled.add_node(node)
            by_out.setdefault(o, []).append(node)
            by_in.setdefault(i, []).append(node)
    for (o, i), count in sorted(edges.items(), key=lambda item: -item[1]):
        quota, sources, targets = int(ratio * count + 0.5), by_out.get(o, []), list(by_in.get(i, []))
        rng.shuffle(targets)
        for target in targets:
            candidates = [source for source in sources if source != target]
            taken = min(quota, ends[target][1], len(candidates))
            for source in rng.sample(candidates, taken):
                sampled.add_edge(source, target)
                ends[source][0] -= 1
                if ends[source][0] == 0:
                    sources.remove(source)
            ends[target][1] -= taken
            if ends[target][1] == 0:
                by_in[i].remove(target)
            quota -= taken
            if quota == 0 or not sources:
                break
    return sampled


def _votes():
    try:
        return "wiki-Vote", wiki_vote()
    except MissingData:
        return "scale-free digraph", scale_free_digraph(7000, rng=0)
