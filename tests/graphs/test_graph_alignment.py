"""Alignment with a reference: the same whatever nodes are called, symmetric graphs included; assignment solvers against SciPy's."""

import networkx as nx
import numpy as np
import pytest
import scipy.optimize
from specimens import Specimen

from ritz.graphs import align_to_reference, as_adjacency, gaussian_graph_distance
from ritz.graphs.graph_alignment import padded
from ritz.graphs.linear_assignment import assign
from ritz.graphs.quadratic_assignment import match_graphs

REFERENCE = nx.to_numpy_array(nx.barabasi_albert_graph(40, 3, seed=5))
SMALL = nx.to_numpy_array(nx.gnp_random_graph(8, 0.5, seed=1))

SPECIMENS = {
    "align_to_reference": Specimen(
        lambda **options: align_to_reference(rng=0, **options),
        lambda: {"A": SMALL.copy(), "A_ref": np.pad(SMALL, (0, 1)), "method": "faq", "n_init": 2},
    ),
}


def aligned(A, reference, **options):
    order = align_to_reference(A, reference, **options)
    assert sorted(order) == list(range(len(reference)))
    return padded(as_adjacency(A), len(reference)).matrix.toarray()[np.ix_(order, order)]


def relabelled(A, seed):
    order = np.random.default_rng(seed).permutation(len(A))
    return A[np.ix_(order, order)]


def asymmetric_graphs():
    """Twenty random graphs with 35 nodes."""
    makers = (
        lambda seed: nx.gnp_random_graph(35, 0.15, seed=seed),
        lambda seed: nx.barabasi_albert_graph(35, 2, seed=seed),
        lambda seed: nx.planted_partition_graph(2, 17, 0.3, 0.05, seed=seed),
        lambda seed: nx.barabasi_albert_graph(35, 3, seed=100 + seed),
    )
    return [nx.to_numpy_array(make(seed)) for seed in range(5) for make in makers]


def test_a_relabelled_copy_gets_the_same_aligned_matrix():
    for seed, A in enumerate(asymmetric_graphs()):
        first, second = aligned(A, REFERENCE), aligned(relabelled(A, seed), REFERENCE)
        assert gaussian_graph_distance(first, second) <= 1e-8


SYMMETRIC = {
    "cycle of 12": nx.cycle_graph(12),
    "star": nx.star_graph(11),
    "Petersen": nx.petersen_graph(),
    "cube": nx.hypercube_graph(4),
    "rook": nx.cartesian_product(nx.complete_graph(4), nx.complete_graph(4)),
    "two pentagons": nx.disjoint_union(nx.cycle_graph(5), nx.cycle_graph(5)),
    "binary tree": nx.balanced_tree(2, 4),
    "no edge": nx.empty_graph(6),
}


@pytest.mark.parametrize("graph", SYMMETRIC.values(), ids=SYMMETRIC)
@pytest.mark.parametrize("method", ["signature", "faq"])
def test_ties_of_symmetric_graphs_are_broken_alike(graph, method):
    A = nx.to_numpy_array(graph)
    expected = aligned(A, REFERENCE, method=method, n_init=2, rng=0)
    for seed in range(6):
        found = aligned(relabelled(A, seed), REFERENCE, method=method, n_init=2, rng=0)
        assert gaussian_graph_distance(found, expected) <= 1e-8


def test_weighted_graphs_and_padding():
    weights = np.random.default_rng(0).uniform(0.5, 2, (35, 35))
    A = asymmetric_graphs()[0] * (weights + weights.T)
    first, second = aligned(A, REFERENCE), aligned(relabelled(A, 3), REFERENCE)
    np.testing.assert_array_equal(first, second)
    assert sorted(first.sum(axis=0)) == pytest.approx(sorted(np.pad(A.sum(axis=0), (0, 5))))


def test_faq_recovers_isomorphisms():
    recovered = 0
    for seed in range(20):
        A = nx.to_numpy_array(nx.gnp_random_graph(30, 0.3, seed=seed))
        B = relabelled(A, seed)
        recovered += np.array_equal(aligned(A, B, method="faq", n_init=30, rng=seed), B)
    assert recovered >= 18


def test_sinkhorn_brings_signals_together():
    A = nx.to_numpy_array(nx.gnp_random_graph(7, 0.5, seed=4))
    B = relabelled(A, 0)
    found = gaussian_graph_distance(aligned(A, B, method="sinkhorn", n_init=3, rng=0), B)
    rng = np.random.default_rng(0)
    chance = [gaussian_graph_distance(A[np.ix_(order, order)], B) for order in (rng.permutation(7) for _ in range(200))]
    assert found <= np.quantile(chance, 0.05)


def test_sinkhorn_is_indifferent_to_names(monkeypatch):
    monkeypatch.setattr("ritz.graphs.sinkhorn_alignment.STEPS", 50)
    first, second = (aligned(A, SMALL, method="sinkhorn", n_init=2, rng=0) for A in (SMALL, relabelled(SMALL, 1)))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("n", [1, 2, 3, 10, 60])
def test_linear_assignment_is_optimal_from_any_prices(n):
    rng = np.random.default_rng(n)
    for costs in (rng.random((n, n)), rng.integers(0, 3, (n, n)).astype(float), np.zeros((n, n)), -(rng.random((n, n)) ** 8) * 1e3):
        best = costs[scipy.optimize.linear_sum_assignment(costs)].sum()
        for prices in (np.zeros(n), 10 * rng.standard_normal(n)):
            column = np.empty(n, dtype=np.int64)
            assign(costs, prices, column)
            assert sorted(column) == list(range(n))
            assert costs[np.arange(n), column].sum() == pytest.approx(best, abs=1e-9 * max(1, abs(best)))
            reduced = costs - prices[None, :]
            np.testing.assert_allclose(reduced[np.arange(n), column], reduced.min(axis=1), atol=1e-9 * max(1, np.abs(costs).max()))


def test_quadratic_assignment_is_no_worse_than_scipys():
    ours, theirs = [], []
    for seed in range(10):
        A, B = (nx.to_numpy_array(nx.gnp_random_graph(25, 0.25, seed=seed + shift)) for shift in (0, 50))
        order = match_graphs(A, B, 10, np.random.default_rng(seed))
        ours.append(np.vdot(B, A[np.ix_(order, order)]))
        options = [{"maximize": True, "P0": start, "rng": np.random.default_rng(i)} for i, start in enumerate(["barycenter"] + 9 * ["randomized"])]
        theirs.append(max(scipy.optimize.quadratic_assignment(A, B, options=option).fun for option in options))
    assert np.mean(ours) >= 0.99 * np.mean(theirs)


def test_refusals():
    with pytest.raises(ValueError, match="A_ref must have at least the 40 nodes of A, got 8"):
        align_to_reference(REFERENCE, SMALL)
    with pytest.raises(ValueError, match="A must be symmetric"):
        align_to_reference(np.triu(SMALL), REFERENCE)
    with pytest.raises(ValueError, match="A_ref must have no negative weight"):
        align_to_reference(SMALL, -REFERENCE)
    with pytest.raises(ValueError, match="method must be one of"):
        align_to_reference(SMALL, REFERENCE, method="hungarian")
