"""The matching is greedy's, and weighs at least half of the best."""

import networkx as nx
import numpy as np
import pytest
from specimens import Specimen

from ritz.graphs import greedy_matching

SPECIMENS = {"greedy_matching": Specimen(greedy_matching, lambda: {"adjacency": np.array([[0, 2.0, 0], [2.0, 0, 1.0], [0, 1.0, 0]])})}


def weighted(n, probability, seed, values):
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.choice(values, size=(n, n)) * (rng.random((n, n)) < probability), k=1)
    return upper + upper.T


def sorted_greedy(A):
    mates = np.full(len(A), -1)
    rows, columns = np.nonzero(np.triu(A, k=1))
    for _, i, j in sorted(zip(-A[rows, columns], rows, columns)):
        if mates[i] < 0 and mates[j] < 0:
            mates[i], mates[j] = j, i
    return mates


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("values", [np.linspace(0.1, 5, 1000), [1.0], [1.0, 2.0]], ids=["distinct", "equal", "ties"])
def test_equals_greedy_by_sorting_and_weighs_half_of_the_best(seed, values):
    A = weighted(30, 0.2, seed, values)
    mates = greedy_matching(A)
    np.testing.assert_array_equal(mates, sorted_greedy(A))
    best = sum(A[edge] for edge in nx.max_weight_matching(nx.from_numpy_array(A)))
    pairs = np.flatnonzero(mates >= 0)
    assert A[pairs, mates[pairs]].sum() / 2 >= best / 2


def test_partners_are_mutual_and_the_matching_is_maximal():
    A = weighted(200, 0.02, 0, [1.0, 3.0])
    mates = greedy_matching(A)
    matched = mates >= 0
    np.testing.assert_array_equal(mates[mates[matched]], np.flatnonzero(matched))
    assert not A[np.ix_(~matched, ~matched)].any()


def test_loops_are_no_partners_and_isolated_nodes_stay_alone():
    assert greedy_matching([[5.0, 0, 0], [0, 9.0, 1.0], [0, 1.0, 0]]).tolist() == [-1, 2, 1]


def test_directed_graphs_are_refused():
    with pytest.raises(ValueError, match="adjacency must be symmetric"):
        greedy_matching([[0, 1.0], [0, 0]])
