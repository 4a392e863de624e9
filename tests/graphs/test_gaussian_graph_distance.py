"""The Wasserstein distance of smooth signals: closed forms, metric axioms, scaling."""

import networkx as nx
import numpy as np
import pytest
import scipy.linalg
import torch
from specimens import Specimen

from ritz.graphs import gaussian_graph_distance

PATH, CYCLE = nx.to_numpy_array(nx.path_graph(6)), nx.to_numpy_array(nx.cycle_graph(6))

SPECIMENS = {
    "gaussian_graph_distance": Specimen(
        gaussian_graph_distance, lambda: {"A1": PATH.copy(), "A2": CYCLE.copy(), "squared": True, "regularization": 0.1}
    ),
}


def laplacian_of(A):
    return np.diag(A.sum(axis=1)) - A


def random_graph(rng, n=8, p=0.5, connected=True):
    while True:
        A = np.triu(rng.random((n, n)) < p, 1) * rng.uniform(0.5, 2, (n, n))
        A = A + A.T
        if not connected or nx.is_connected(nx.from_numpy_array(A)):
            return A


def by_square_roots(first, second):
    root = scipy.linalg.sqrtm(first).real
    return np.trace(first) + np.trace(second) - 2 * np.trace(scipy.linalg.sqrtm(root @ second @ root).real)


def test_path_and_cycle_of_six():
    assert gaussian_graph_distance(PATH, CYCLE) == pytest.approx(1.1125596, abs=1e-6)
    assert gaussian_graph_distance(PATH, CYCLE, squared=False) == pytest.approx(np.sqrt(1.1125596), abs=1e-6)


def test_equals_the_square_root_formula_with_the_constant_filled_in():
    rng = np.random.default_rng(0)
    for _ in range(20):
        A, B = random_graph(rng), random_graph(rng)
        filled = [np.linalg.inv(laplacian_of(M) + 1 / 8) for M in (A, B)]
        assert gaussian_graph_distance(A, B) == pytest.approx(by_square_roots(*filled), abs=1e-8)


def test_regularized_equals_the_square_root_formula():
    rng = np.random.default_rng(1)
    A, B = random_graph(rng, p=0.2, connected=False), random_graph(rng)
    inverses = [np.linalg.inv(laplacian_of(M) + 0.3 * np.eye(8)) for M in (A, B)]
    assert gaussian_graph_distance(A, B, regularization=0.3) == pytest.approx(by_square_roots(*inverses), abs=1e-8)


def test_is_a_metric():
    rng = np.random.default_rng(2)
    for _ in range(200):
        A, B, C = (random_graph(rng, p=0.35, connected=False) for _ in range(3))
        ab, bc, ac = (gaussian_graph_distance(*pair, squared=False) for pair in ((A, B), (B, C), (A, C)))
        assert ac <= ab + bc + 1e-9
        assert min(ab, bc, ac) >= 0
        assert gaussian_graph_distance(A, A) <= 1e-8
        assert gaussian_graph_distance(B, A, squared=False) == pytest.approx(ab, abs=1e-9)


@pytest.mark.parametrize("c", [1e-3, 0.4, 7.0])
def test_scaling_the_weights(c):
    assert gaussian_graph_distance(c * PATH, c * CYCLE) == pytest.approx(gaussian_graph_distance(PATH, CYCLE) / c, rel=1e-9)


def test_commuting_laplacians():
    first, second = (nx.to_numpy_array(nx.circulant_graph(9, jumps)) for jumps in ([1], [1, 3]))
    _, vectors = np.linalg.eigh(laplacian_of(first) + 0.1234 * laplacian_of(second))
    values = [np.einsum("ik,ij,jk->k", vectors, laplacian_of(A), vectors) for A in (first, second)]
    nonzero = values[0] > 1e-9
    expected = np.sum((values[0][nonzero] ** -0.5 - values[1][nonzero] ** -0.5) ** 2)
    assert gaussian_graph_distance(first, second) == pytest.approx(expected, abs=1e-9)


def test_relabelling_both_graphs_alike_changes_nothing():
    rng = np.random.default_rng(3)
    A, B = random_graph(rng), random_graph(rng)
    order = rng.permutation(8)
    both = gaussian_graph_distance(A[np.ix_(order, order)], B[np.ix_(order, order)])
    assert both == pytest.approx(gaussian_graph_distance(A, B), abs=1e-9)


def test_small_distances_are_accurate():
    # one weight changed by e: the distance is of order e^2, far below the rounding of its terms
    distances = []
    for e in (1e-6, 1e-7):
        changed = PATH.copy()
        changed[0, 1] = changed[1, 0] = 1 + e
        distances.append(gaussian_graph_distance(PATH, changed))
    assert distances[0] / distances[1] == pytest.approx(100, rel=0.01)


def test_padding_and_components():
    padded = np.pad(PATH, (0, 3))
    assert gaussian_graph_distance(padded, np.pad(CYCLE, (0, 3))) == pytest.approx(gaussian_graph_distance(PATH, CYCLE), abs=1e-9)
    assert gaussian_graph_distance(np.zeros((4, 4)), np.zeros((4, 4))) == 0
    assert gaussian_graph_distance([[0.0]], [[0.0]]) == 0
    assert gaussian_graph_distance(PATH, np.zeros((6, 6))) == pytest.approx(np.trace(np.linalg.pinv(laplacian_of(PATH))), abs=1e-9)
    assert gaussian_graph_distance(torch.from_numpy(PATH), nx.path_graph(6)) <= 1e-8


def test_refusals():
    with pytest.raises(ValueError, match="A2 must have the 6 nodes of A1, got 5"):
        gaussian_graph_distance(PATH, PATH[:5, :5])
    with pytest.raises(ValueError, match="A1 must be symmetric"):
        gaussian_graph_distance(np.triu(PATH), CYCLE)
    with pytest.raises(ValueError, match="A2 must have no negative weight"):
        gaussian_graph_distance(PATH, -CYCLE)
    with pytest.raises(ValueError, match="regularization must be"):
        gaussian_graph_distance(PATH, CYCLE, regularization=-1.0)
