"""Laplacians against their definitions, isolated nodes included."""

import networkx as nx
import numpy as np
import pytest
from specimens import Specimen

from ritz.graphs import laplacian, laplacian_pseudoinverse, transition

GRAPH = nx.to_numpy_array(nx.karate_club_graph())

SPECIMENS = {
    "transition": Specimen(transition, lambda: {"adjacency": GRAPH.copy()}),
    "laplacian": Specimen(laplacian, lambda: {"adjacency": GRAPH.copy(), "kind": "sym"}),
    "laplacian_pseudoinverse": Specimen(laplacian_pseudoinverse, lambda: {"adjacency": GRAPH.copy()}),
}


def test_laplacians_equal_networkx():
    graph = nx.karate_club_graph()
    np.testing.assert_allclose(laplacian(graph, "comb").toarray(), nx.laplacian_matrix(graph).toarray(), atol=1e-13)
    np.testing.assert_allclose(laplacian(graph, "sym").toarray(), nx.normalized_laplacian_matrix(graph).toarray(), atol=1e-13)


def test_random_walk_laplacian_is_one_minus_the_transition():
    np.testing.assert_allclose(laplacian(GRAPH, "rw").toarray(), np.eye(34) - transition(GRAPH).toarray(), atol=1e-14)
    np.testing.assert_allclose(transition(GRAPH).sum(axis=1), 1, atol=1e-14)


@pytest.mark.parametrize("kind", ["comb", "sym", "rw"])
def test_isolated_nodes_give_zero_rows(kind):
    A = np.array([[0, 1.0, 0], [1.0, 0, 0], [0, 0, 0]])
    L = laplacian(A, kind).toarray()
    assert np.isfinite(L).all()
    np.testing.assert_array_equal(L[2], 0)
    np.testing.assert_array_equal(transition(A).toarray()[2], 0)


def test_a_directed_graph_has_a_transition_but_no_laplacian():
    A = [[0, 1.0], [0, 0]]
    assert transition(A).toarray().tolist() == [[0, 1], [0, 0]]
    with pytest.raises(ValueError, match="symmetric"):
        laplacian(A)


@pytest.mark.parametrize("scale", [1.0, 1e6])
@pytest.mark.parametrize(
    "graph", [nx.karate_club_graph(), nx.disjoint_union(nx.path_graph(5), nx.cycle_graph(4)), nx.empty_graph(3), nx.empty_graph(1)]
)
def test_pseudoinverse_equals_that_of_lapack(graph, scale):
    A = scale * nx.to_numpy_array(graph)
    expected = np.linalg.pinv(laplacian(A, "comb").toarray(), hermitian=True)
    np.testing.assert_allclose(scale * laplacian_pseudoinverse(A), scale * expected, atol=1e-12)
