"""Counted visits against a plain walk with the same random numbers."""

import collections

import numpy as np
import pytest
import scipy.sparse
from graphs.test_personalized_pagerank import random_digraph

from ritz.graphs.personalized_pagerank import walk_graph
from ritz.graphs.random_walks import advanced, step, stream_of, unit
from ritz.graphs.ray_tasks import Placed
from ritz.graphs.walk_visits import ENDLESS, _digits, _radix_sorted, visit_shares

SEED = np.uint64(12345)


def _plain_walk(graph, start, walks, max_steps, c, ends_only) -> collections.Counter:
    """All walks of a start, side by side, in plain Python."""
    n, counter = len(graph.indptr) - 1, stream_of(SEED, start)
    standing, met = [start] * walks, collections.Counter()
    if not ends_only:
        met[start] = walks
    for t in range(max_steps + 1):
        going = []
        for node in standing:
            counter = advanced(np.uint64(counter))
            uniform = unit(np.uint64(counter))
            if uniform < c:
                met[node] += ends_only
            elif t < max_steps:
                uniform = (uniform - c) / (1 - c)
                jumps = graph.indptr[node] == graph.indptr[node + 1]
                going.append(int(uniform * n) if jumps else int(step(graph.indptr, graph.indices, graph.cumulative, node, uniform)))
                met[going[-1]] += not ends_only
        standing = going
    return met


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("ends_only", [True, False])
@pytest.mark.parametrize(("dangling", "max_steps"), [("self", 200), ("uniform", 200), ("self", 4)])
def test_visits_are_those_of_a_plain_walk(weighted, ends_only, dangling, max_steps):
    A = random_digraph(30, weighted=weighted, dangling=4)
    graph = Placed(walk_graph(scipy.sparse.csr_array(A), dangling)).value
    starts = np.array([0, 7, 29, 7])
    options = 40, max_steps, 0.2, SEED, ends_only, np.dtype(np.float64)
    sizes, nodes, shares, _ = visit_shares(graph.indptr, graph.indices, graph.cumulative, starts, *options)
    for start, last, size in zip(starts, np.cumsum(sizes), sizes):
        expected = _plain_walk(graph, start, 40, max_steps, 0.2, ends_only)
        own = slice(last - size, last)
        expected = {node: count for node, count in expected.items() if count}
        assert nodes[own].tolist() == sorted(expected)
        np.testing.assert_allclose(shares[own], [expected[node] / sum(expected.values()) for node in sorted(expected)], rtol=1e-15)


def test_the_number_of_steps_is_that_of_geometric_walks():
    graph = Placed(walk_graph(scipy.sparse.csr_array(random_digraph(100)), "self")).value
    c, walks = 0.15, 200
    steps = visit_shares(graph.indptr, graph.indices, graph.cumulative, np.arange(100), walks, ENDLESS, c, SEED, False, np.dtype(np.float32))[3]
    mean, deviation = 100 * walks * (1 - c) / c, np.sqrt(100 * walks * (1 - c)) / c
    assert abs(steps - mean) <= 5 * deviation


@pytest.mark.parametrize("n", [1, 2, 257, 5000, 2**23, 2**30])
def test_numbers_are_sorted(n):
    values = np.random.default_rng(0).integers(n, size=1000).astype(np.int32)
    np.testing.assert_array_equal(_radix_sorted(values.copy(), np.empty_like(values), *_digits(n)), np.sort(values))
