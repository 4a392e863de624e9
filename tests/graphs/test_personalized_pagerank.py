"""Personalized PageRank against linear solves and networkx, and its estimates against it."""

import networkx as nx
import numpy as np
import pytest
import scipy.sparse
from specimens import Specimen

from ritz.graphs import personalized_pagerank, transition

RING = np.roll(np.eye(5), 1, axis=1) + np.diag([0.5, 0, 0, 0, 2.0])

SPECIMENS = {
    "personalized_pagerank": Specimen(
        personalized_pagerank,
        lambda: {
            "adjacency": RING.copy(),
            "sources": np.array([0, 3]),
            "restart_prob": 0.2,
            "method": "walk_full",
            "tol": 1e-8,
            "n_walks": 5,
            "max_steps": 7,
            "iterations": 3,
            "threshold": 1e-6,
            "dangling": "self",
            "rng": 0,
        },
        accepts={"max_steps": ("none",), "rng": ("none",)},
    ),
}


def random_digraph(n: int, *, degree: float = 4.0, weighted: bool = True, dangling: int = 0, seed: int = 0) -> np.ndarray:
    """Weights of a random directed graph; the last `dangling` nodes have no outgoing edge, every other has one."""
    rng = np.random.default_rng(seed)
    A = (rng.random((n, n)) < degree / n) * (rng.integers(1, 5, size=(n, n)) if weighted else 1.0)
    A[np.arange(n), (np.arange(n) + 1) % n] += 1
    A[n - dangling :] = 0
    return A.astype(float)


def exact_vectors(A: np.ndarray, c: float, dangling: str = "self") -> np.ndarray:
    """Row u is c (I - (1 - c) W^T)^-1 e_u, by a dense solve."""
    W = transition(A).toarray()
    empty = A.sum(axis=1) == 0
    W[empty] = np.eye(len(A))[empty] if dangling == "self" else 1 / len(A)
    return c * np.linalg.inv(np.eye(len(A)) - (1 - c) * W)


@pytest.mark.parametrize("c", [0.05, 0.15, 0.7])
@pytest.mark.parametrize("dangling", ["self", "uniform"])
def test_power_iteration_equals_the_linear_solve(c, dangling):
    A = random_digraph(60, dangling=7)
    found = personalized_pagerank(A, np.arange(60), restart_prob=c, dangling=dangling, tol=1e-10)
    assert np.abs(found.toarray() - exact_vectors(A, c, dangling)).sum(axis=1).max() <= 1e-10
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)


def test_power_iteration_equals_networkx():
    A = random_digraph(80)
    graph = nx.from_numpy_array(A, create_using=nx.DiGraph)
    found = personalized_pagerank(A, [3, 41], restart_prob=0.2, tol=1e-12).toarray()
    for row, source in zip(found, (3, 41)):
        theirs = nx.pagerank(graph, alpha=0.8, personalization={source: 1}, tol=1e-14, max_iter=1000)
        np.testing.assert_allclose(row, [theirs[node] for node in range(80)], atol=1e-8)


@pytest.mark.parametrize("method", ["walk_full", "walk_end"])
@pytest.mark.parametrize("dangling", ["self", "uniform"])
def test_walks_estimate_without_bias(method, dangling):
    A, c, walks = random_digraph(12, dangling=2), 0.3, 60_000
    exact = exact_vectors(A, c, dangling)
    found = personalized_pagerank(A, [0, 5, 11], restart_prob=c, method=method, n_walks=walks, dangling=dangling, rng=1).toarray()
    # Ends are independent; the visits of one walk are not, so that its share of a node varies with its length too: at most 2 / c in all.
    deviation = np.sqrt(exact * (1 - exact) / walks) if method == "walk_end" else np.sqrt(2 / c * exact / walks)
    assert np.all(np.abs(found - exact[[0, 5, 11]]) <= 5 * deviation[[0, 5, 11]] + 1e-15)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)


def test_counting_all_visits_beats_counting_ends():
    A = random_digraph(200, seed=3)
    exact = exact_vectors(A, 0.15)
    full, ends = (personalized_pagerank(A, np.arange(200), method=m, n_walks=50, rng=0).toarray() for m in ("walk_full", "walk_end"))
    assert np.abs(full - exact).sum() < 0.9 * np.abs(ends - exact).sum()


def test_many_visits_of_one_node_do_not_overflow():
    found = personalized_pagerank(np.ones((1, 1)), [0], method="walk_full", n_walks=70_000, restart_prob=0.2, rng=0)
    assert found.toarray() == [[1.0]]


@pytest.mark.parametrize("method", ["power", "walk_full", "walk_end", "decompose"])
def test_certain_restart_stays_at_the_source(method):
    found = personalized_pagerank(random_digraph(9, dangling=1), [8, 2, 2], restart_prob=1.0, method=method, rng=0)
    np.testing.assert_array_equal(found.toarray(), np.eye(9)[[8, 2, 2]])


def test_a_walk_cut_short_goes_no_farther_and_has_no_end():
    ring = np.roll(np.eye(30), 1, axis=1)
    full = personalized_pagerank(ring, [4], method="walk_full", restart_prob=0.01, n_walks=300, max_steps=3, rng=0).toarray()[0]
    np.testing.assert_array_equal(np.flatnonzero(full), [4, 5, 6, 7])
    ends = personalized_pagerank(ring, [4], method="walk_end", restart_prob=0.5, n_walks=300, max_steps=2, rng=0).toarray()[0]
    assert set(np.flatnonzero(ends)) == {4, 5, 6}
    at_once = personalized_pagerank(ring, [4], method="walk_full", max_steps=0, rng=0).toarray()[0]
    np.testing.assert_array_equal(at_once, np.eye(30)[4])


def test_decomposition_without_an_index_is_power_iteration():
    A, c = random_digraph(40, dangling=3), 0.15
    W = transition(A).toarray() + np.diag(A.sum(axis=1) == 0)
    x = np.eye(40)
    for _ in range(5):
        x = c * np.eye(40) + (1 - c) * x @ W
    found = personalized_pagerank(A, np.arange(40), method="decompose", iterations=5)
    np.testing.assert_allclose(found.toarray(), x, atol=1e-14)


@pytest.mark.parametrize("method", ["power", "walk_full", "decompose"])
def test_no_mass_leaves_a_component(method):
    two = scipy.sparse.block_diag([random_digraph(20), random_digraph(15, seed=1)]).toarray()
    found = personalized_pagerank(two, [0, 19, 20], method=method, rng=0).toarray()
    assert not found[:2, 20:].any()
    assert not found[2, :20].any()


def test_nobody_asks():
    for method in ("power", "walk_full", "decompose"):
        assert personalized_pagerank(RING, [], method=method).shape == (0, 5)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"restart_prob": 0.0}, "restart_prob"),
        ({"restart_prob": 1.1}, "restart_prob"),
        ({"adjacency": -RING}, "adjacency"),
        ({"adjacency": np.zeros((0, 0))}, "adjacency"),
        ({"sources": [5]}, "sources"),
        ({"sources": [-1]}, "sources"),
        ({"n_walks": 0}, "n_walks"),
        ({"max_steps": -1}, "max_steps"),
        ({"dangling": "source"}, "dangling"),
    ],
)
def test_bad_input_is_refused(arguments, name):
    with pytest.raises(ValueError, match=name):
        personalized_pagerank(**({"adjacency": RING, "sources": [0], "method": "walk_full"} | arguments))
