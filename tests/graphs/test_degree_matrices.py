"""Matrices of degrees are counts that add up, and do not know labels."""

import networkx as nx
import numpy as np
import pytest
from specimens import Specimen

from ritz.graphs import degree_correlation_matrix, degree_distance, joint_degree_matrix

SMALL = np.array([[0, 1.0, 1, 0], [0, 0, 1, 0], [1, 0, 0, 0], [1, 1, 0, 0]])

SPECIMENS = {
    "joint_degree_matrix": Specimen(joint_degree_matrix, lambda: {"A": SMALL.copy()}),
    "degree_correlation_matrix": Specimen(degree_correlation_matrix, lambda: {"A": SMALL.copy()}),
    "degree_distance": Specimen(degree_distance, lambda: {"A": SMALL.copy(), "B": SMALL.T.copy()}),
}


def test_entries_are_counts_of_edges_and_nodes():
    graph = nx.gnp_random_graph(60, 0.08, seed=1, directed=True)
    jdm, dcm = joint_degree_matrix(graph).toarray(), degree_correlation_matrix(graph).toarray()
    expected_jdm, expected_dcm = np.zeros_like(jdm), np.zeros_like(dcm)
    for u, v in graph.edges:
        expected_jdm[graph.out_degree(u), graph.in_degree(v)] += 1
    for v in graph:
        expected_dcm[graph.out_degree(v), graph.in_degree(v)] += 1
    np.testing.assert_array_equal(jdm, expected_jdm)
    np.testing.assert_array_equal(dcm, expected_dcm)


@pytest.mark.parametrize("graph", [nx.gnp_random_graph(80, 0.05, seed=0, directed=True), SMALL, np.zeros((3, 3))])
def test_rows_and_columns_add_up(graph):
    jdm, dcm = joint_degree_matrix(graph), degree_correlation_matrix(graph)
    assert jdm.shape == dcm.shape
    out_degrees, in_degrees = (np.arange(size) for size in jdm.shape)
    np.testing.assert_array_equal(jdm.sum(axis=1), out_degrees * dcm.sum(axis=1))
    np.testing.assert_array_equal(jdm.sum(axis=0), in_degrees * dcm.sum(axis=0))


def test_labels_do_not_matter():
    A = nx.to_numpy_array(nx.gnp_random_graph(50, 0.1, seed=2, directed=True))
    order = np.random.default_rng(0).permutation(50)
    for matrix in (joint_degree_matrix, degree_correlation_matrix):
        np.testing.assert_array_equal(matrix(A).toarray(), matrix(A[np.ix_(order, order)]).toarray())
    assert set(degree_distance(A, A[np.ix_(order, order)]).values()) == {0.0}


def test_loops_do_not_count():
    np.testing.assert_array_equal(joint_degree_matrix(SMALL + np.eye(4)).toarray(), joint_degree_matrix(SMALL).toarray())


def test_distances_are_those_of_the_distributions():
    A, B = nx.to_numpy_array(nx.gnp_random_graph(40, 0.1, seed=3, directed=True)), SMALL
    found = degree_distance(A, B)
    for key, axis in (("ks_out", 1), ("ks_in", 0)):
        a, b = A.sum(axis=axis), B.sum(axis=axis)
        assert found[key] == pytest.approx(max(abs(np.mean(a <= d) - np.mean(b <= d)) for d in range(20)))
    padded = np.zeros((20, 20))
    shares = []
    for graph in (A, B):
        jdm = joint_degree_matrix(graph).toarray()
        share = padded.copy()
        share[: jdm.shape[0], : jdm.shape[1]] = jdm / jdm.sum()
        shares.append(share)
    assert found["jdm_l1"] == pytest.approx(np.abs(shares[0] - shares[1]).sum())
    assert degree_distance(np.zeros((3, 3)), SMALL)["jdm_l1"] == 1.0


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (nx.path_graph(3), "A must be a directed graph"),
        (2 * SMALL, "A must have no weights other than 1"),
        (nx.MultiDiGraph([(0, 1), (0, 1)]), "A must have no weights other than 1"),
        (np.zeros((0, 0)), "A must have at least one node"),
    ],
)
def test_other_graphs_are_refused(graph, message):
    with pytest.raises(ValueError, match=message):
        joint_degree_matrix(graph)
    with pytest.raises(ValueError, match=message):
        degree_correlation_matrix(graph)
