"""Sampled digraphs: no edge comes twice, no class and no degree is exceeded, and rescaled counts are what they should be."""

import networkx as nx
import numpy as np
import pytest
import scipy.sparse
from specimens import Specimen

from ritz.graphs import (
    DirectedSample,
    construct_directed_graph,
    degree_correlation_matrix,
    degree_distance,
    joint_degree_matrix,
    sample_directed_graph,
)

RING = np.roll(np.eye(12), 1, axis=1)
ER = nx.to_scipy_sparse_array(nx.gnp_random_graph(200, 5 / 200, seed=0, directed=True), dtype=float, format="csr")
HUBS = scipy.sparse.csr_array(
    nx.to_scipy_sparse_array(nx.DiGraph([(u, v) for u, v in nx.scale_free_graph(300, seed=1).edges() if u != v]), dtype=float, format="csr")
)

SPECIMENS = {
    "sample_directed_graph": Specimen(
        sample_directed_graph,
        lambda: {"graph": RING.copy(), "ratio": 0.5, "rounding": "nearest", "simple": True, "complete": False, "rng": 0},
        accepts={"rng": ("none",)},
    ),
    "construct_directed_graph": Specimen(
        construct_directed_graph,
        lambda: {"jdm": np.array([[0, 0], [0, 3]]), "dcm": np.array([[0, 0], [0, 3]]), "rng": 0},
        accepts={"rng": ("none",)},
    ),
    "DirectedSample": Specimen(
        DirectedSample,
        lambda: {
            "adjacency": RING,
            "target_jdm": RING,
            "target_dcm": RING,
            "realized_edges": 12,
            "dropped_edges": 0,
            "num_duplicates": 0,
            "num_self_loops": 0,
        },
        spare=frozenset({"adjacency", "target_jdm", "target_dcm", "realized_edges", "dropped_edges", "num_duplicates", "num_self_loops"}),
    ),
}


def assigned_degrees(sample: DirectedSample) -> tuple[np.ndarray, np.ndarray]:
    """The out- and in-degree that each node was given: nodes are numbered class by class."""
    dcm = sample.target_dcm
    order = np.lexsort((dcm.col, dcm.row))
    return np.repeat(dcm.row[order], dcm.data[order]), np.repeat(dcm.col[order], dcm.data[order])


def realized_classes(sample: DirectedSample) -> np.ndarray:
    """The edges counted by the degrees that their ends were given."""
    out_degrees, in_degrees = assigned_degrees(sample)
    counts = np.zeros(sample.target_jdm.shape, dtype=int)
    sources, targets = sample.adjacency.nonzero()
    np.add.at(counts, (out_degrees[sources], in_degrees[targets]), 1)
    return counts


@pytest.mark.parametrize("graph", [ER, HUBS], ids=["ER", "hubs"])
@pytest.mark.parametrize("ratio", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
@pytest.mark.parametrize("simple", [True, False])
def test_no_edge_twice_and_nothing_is_exceeded(graph, ratio, rounding, simple):
    for seed in range(5):
        sample = sample_directed_graph(graph, ratio, rounding=rounding, simple=simple, rng=seed)
        A = sample.adjacency
        assert sample.num_duplicates == 0
        assert np.all(A.data == 1)
        assert A.nnz == sample.realized_edges == sample.target_jdm.sum() - sample.dropped_edges
        assert sample.num_self_loops == np.count_nonzero(A.diagonal())
        assert not (simple and sample.num_self_loops)
        out_degrees, in_degrees = assigned_degrees(sample)
        assert np.all(A.sum(axis=1) <= out_degrees)
        assert np.all(A.sum(axis=0) <= in_degrees)
        assert np.all(realized_classes(sample) <= sample.target_jdm.toarray())


def test_loops_occur_when_they_may():
    loops = sum(sample_directed_graph(ER, 0.5, simple=False, rng=seed).num_self_loops for seed in range(20))
    assert loops > 0


def test_a_class_is_left_unfilled_only_for_want_of_free_ends():
    for seed in range(5):
        sample = sample_directed_graph(HUBS, 0.5, rounding="stochastic", rng=seed)
        out_degrees, in_degrees = assigned_degrees(sample)
        A, missing = sample.adjacency, sample.target_jdm.toarray() - realized_classes(sample)
        free_out, free_in = out_degrees > A.sum(axis=1), in_degrees > A.sum(axis=0)
        for o, i in zip(*np.nonzero(missing)):
            sources, targets = np.flatnonzero(free_out & (out_degrees == o)), np.flatnonzero(free_in & (in_degrees == i))
            pairs = A[np.ix_(sources, targets)].toarray() + (sources[:, None] == targets[None, :])
            assert pairs.all()  # whoever is free on both sides is joined already, or one and the same


def test_the_whole_of_a_random_digraph_loses_one_edge_in_a_hundred_at_most():
    for seed in range(20):
        graph = nx.gnp_random_graph(200, 5 / 200, seed=seed, directed=True)
        sample = sample_directed_graph(nx.to_scipy_sparse_array(graph, dtype=float), 1.0, rng=seed)
        assert sample.dropped_edges <= 0.01 * graph.number_of_edges()
        np.testing.assert_array_equal(sample.target_jdm.toarray(), joint_degree_matrix(graph).toarray())
        np.testing.assert_array_equal(sample.target_dcm.toarray(), degree_correlation_matrix(graph).toarray())


def test_where_nothing_is_lost_the_whole_graph_has_its_own_matrices():
    graphs = [nx.gnp_random_graph(40, 2 / 40, seed=seed, directed=True) for seed in range(60)]
    samples = [sample_directed_graph(nx.to_scipy_sparse_array(graph, dtype=float), 1.0, rng=0) for graph in graphs]
    whole = [(graph, sample.adjacency) for graph, sample in zip(graphs, samples) if sample.dropped_edges == 0]
    assert len(whole) >= 5
    for graph, sampled in whole:
        np.testing.assert_array_equal(joint_degree_matrix(sampled).toarray(), joint_degree_matrix(graph).toarray())
        np.testing.assert_array_equal(degree_correlation_matrix(sampled).toarray(), degree_correlation_matrix(graph).toarray())


def test_a_regular_digraph_stays_regular():
    n = 40
    circulant = sum(np.roll(np.eye(n), shift, axis=1) for shift in (1, 2, 5))
    for seed in range(10):
        sample = sample_directed_graph(circulant, 0.5, rng=seed)
        A = sample.adjacency
        assert A.shape == (20, 20)
        for axis in (0, 1):
            assert np.abs(A.sum(axis=axis) - 3).sum() == sample.dropped_edges
            assert A.sum(axis=axis).max() <= 3


def test_rounding_to_nearest_takes_halves_up():
    sample = sample_directed_graph(RING, 0.125, rng=0)
    assert sample.target_dcm.sum() == sample.target_jdm.sum() == 2
    singletons = np.array([[0, 1.0], [0, 0]])
    assert sample_directed_graph(singletons, 0.5, rng=0).realized_edges == 1


def test_stochastic_rounding_is_unbiased():
    graph, ratio, seeds = ER, 0.37, 1000
    jdm, dcm = joint_degree_matrix(graph).toarray(), degree_correlation_matrix(graph).toarray()
    nodes, edges = np.zeros(seeds), np.zeros((seeds, *jdm.shape))
    for seed in range(seeds):
        sample = sample_directed_graph(graph, ratio, rounding="stochastic", rng=seed)
        nodes[seed], edges[seed] = sample.target_dcm.sum(), sample.target_jdm.toarray()
    fractions = [matrix * ratio - np.floor(matrix * ratio) for matrix in (dcm, jdm)]
    spread = np.sqrt((fractions[0] * (1 - fractions[0])).sum() / seeds)
    assert abs(nodes.mean() - ratio * 200) <= 5 * spread
    assert np.all(np.abs(edges.mean(axis=0) - ratio * jdm) <= 5 * np.sqrt(fractions[1] * (1 - fractions[1]) / seeds) + 1e-9)
    assert abs(edges.sum(axis=(1, 2)).mean() - ratio * graph.nnz) <= 5 * np.sqrt((fractions[1] * (1 - fractions[1])).sum() / seeds)


@pytest.mark.parametrize("graph", [ER, HUBS], ids=["ER", "hubs"])
@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.8, 1.0])
def test_the_error_of_rounding_to_nearest_is_bounded(graph, ratio):
    dcm = degree_correlation_matrix(graph)
    for seed in range(5):
        sample = sample_directed_graph(graph, ratio, rng=seed)
        A, size = sample.adjacency, sample.adjacency.shape[0]
        for axis, assigned in zip((1, 0), assigned_degrees(sample)):
            before, after = graph.sum(axis=axis).astype(int), A.sum(axis=axis).astype(int)
            shares = [np.bincount(d, minlength=before.max() + 1) / len(d) for d in (before, after)]
            unused = np.count_nonzero(after < assigned)
            assert np.abs(shares[0] - shares[1]).sum() / 2 <= dcm.nnz / (2 * size) + unused / size


def test_completion_adds_edges_between_free_ends_only():
    for seed in range(5):
        plain, complete = (sample_directed_graph(HUBS, 0.5, rounding="stochastic", complete=c, rng=seed) for c in (False, True))
        assert complete.realized_edges > plain.realized_edges
        assert complete.dropped_edges == plain.dropped_edges
        assert complete.num_duplicates == complete.num_self_loops == 0
        assert (plain.adjacency - complete.adjacency).max() <= 0
        out_degrees, in_degrees = assigned_degrees(complete)
        assert np.all(complete.adjacency.sum(axis=1) <= out_degrees)
        assert np.all(complete.adjacency.sum(axis=0) <= in_degrees)
        assert degree_distance(HUBS, complete.adjacency)["ks_out"] <= degree_distance(HUBS, plain.adjacency)["ks_out"]


def test_same_seed_same_graph():
    first, second, other = (sample_directed_graph(HUBS, 0.5, rounding="stochastic", complete=True, rng=seed).adjacency for seed in (3, 3, 4))
    assert (first != second).nnz == 0
    assert first.shape != other.shape or (first != other).nnz > 0


def test_networkx_comes_back_as_networkx():
    graph = nx.gnp_random_graph(60, 0.1, seed=5, directed=True)
    sampled = sample_directed_graph(graph, 0.5, rng=0)
    matrix = sample_directed_graph(nx.to_scipy_sparse_array(graph, dtype=float), 0.5, rng=0).adjacency
    assert isinstance(sampled.adjacency, nx.DiGraph)
    np.testing.assert_array_equal(nx.to_numpy_array(sampled.adjacency, nodelist=range(len(sampled.adjacency))), matrix.toarray())


def test_loops_of_the_input_are_left_out():
    with_loops = (ER + scipy.sparse.eye_array(200) > 0).astype(float)
    without = ER.copy()
    np.testing.assert_array_equal(
        sample_directed_graph(with_loops, 0.5, rng=1).adjacency.toarray(), sample_directed_graph(without, 0.5, rng=1).adjacency.toarray()
    )


def test_matrices_of_networkx_are_realized():
    # the example of networkx.directed_joint_degree_graph
    in_degrees, out_degrees, nkk = [0, 1, 1, 2], [1, 1, 1, 1], {1: {1: 2, 2: 2}}
    assert nx.is_valid_directed_joint_degree(in_degrees, out_degrees, nkk)
    jdm, dcm = np.zeros((2, 3), dtype=int), np.zeros((2, 3), dtype=int)
    np.add.at(dcm, (out_degrees, in_degrees), 1)
    jdm[1, [1, 2]] = nkk[1][1], nkk[1][2]
    whole = [A for A in (_constructed(jdm, dcm, seed) for seed in range(20)) if A.nnz == 4]
    assert whole
    for A in whole:
        assert sorted(zip(A.sum(axis=1).tolist(), A.sum(axis=0).tolist())) == [(1, 0), (1, 1), (1, 1), (1, 2)]
        np.testing.assert_array_equal(joint_degree_matrix(A).toarray(), jdm)


@pytest.mark.filterwarnings("ignore:.*found no free ends")
def test_matrices_of_random_graphs_are_realized_up_to_few_edges():
    for seed in range(5):
        graph = nx.gnp_random_graph(150, 0.04, seed=seed, directed=True)
        A = construct_directed_graph(joint_degree_matrix(graph), degree_correlation_matrix(graph), rng=seed)
        assert A.shape == (150, 150)
        assert graph.number_of_edges() * 0.99 <= A.nnz <= graph.number_of_edges()
        assert not A.diagonal().any()


def _constructed(jdm, dcm, seed):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return construct_directed_graph(jdm, dcm, rng=seed)


def test_edges_left_out_are_warned():
    # two nodes that may only point to themselves
    with pytest.warns(UserWarning, match="1 of 1 edges found no free ends"):
        construct_directed_graph(np.array([[0, 0], [0, 1]]), np.array([[0, 0], [0, 1]]), rng=0)


@pytest.mark.parametrize(
    ("jdm", "dcm", "message"),
    [
        ([[0, 0], [0, 2]], [[0, 0], [0, 3]], "2 edges of out-degree 1, and dcm 3 nodes of it, which have 3"),
        ([[0, 0], [0, 2]], [[1, 1], [2, 0]], "2 edges of in-degree 1, and dcm 1 nodes of it, which have 1"),
        ([[1, 0], [0, 0]], [[1, 0], [0, 0]], "1 edges of out-degree 0"),
        ([[0, 0.5]], [[1, 0]], "jdm must hold counts"),
        ([[0, 0]], [[-1, 0]], "dcm must hold counts"),
        ([[0]], [[0]], "dcm must have at least one node"),
    ],
)
def test_inconsistent_matrices_are_refused(jdm, dcm, message):
    with pytest.raises(ValueError, match=message):
        construct_directed_graph(np.array(jdm, dtype=float), np.array(dcm, dtype=float))


@pytest.mark.parametrize(
    ("graph", "options", "message"),
    [
        (nx.path_graph(4), {}, "graph must be a directed graph"),
        (2 * RING, {}, "graph must have no weights"),
        (RING, {"ratio": 0.0}, "ratio"),
        (RING, {"ratio": 1.01}, "ratio"),
        (RING, {"rounding": "even"}, "rounding"),
        (RING, {"ratio": 0.01}, "ratio 0.01 with rounding 'nearest' leaves no node"),
        (np.array([[0, 1.0, 1], [0, 0, 1], [0, 0, 0]]), {"ratio": 0.4}, "leaves no node"),
        (nx.DiGraph([(0, 3), (1, 4), (2, 4), (2, 5)]), {"ratio": 0.4}, "leaves no edge of the 6 nodes and 4 edges"),
    ],
)
def test_what_cannot_be_sampled_is_refused(graph, options, message):
    with pytest.raises(ValueError, match=message):
        sample_directed_graph(graph, **({"ratio": 0.5, "rng": 0} | options))
