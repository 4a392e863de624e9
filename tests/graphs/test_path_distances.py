"""Distances between shortest path and commute time, against their definitions and limits."""

import networkx as nx
import numpy as np
import pytest
import torch
from scipy.sparse.csgraph import shortest_path
from specimens import Specimen

from ritz.graphs import (
    distance_to_kernel,
    free_energy,
    laplacian_pseudoinverse,
    proximity,
    proximity_distance,
    randomized_shortest_path,
    shortest_path_commute,
)

GRAPH = nx.to_numpy_array(nx.barbell_graph(4, 2))
WEIGHTED = GRAPH * np.add.outer(np.arange(10), np.arange(10)) / 7.0
PATH = nx.to_numpy_array(nx.path_graph(4))

SPECIMENS = {
    "shortest_path_commute": Specimen(shortest_path_commute, lambda: {"adjacency": GRAPH.copy(), "lam": 0.5}),
    "randomized_shortest_path": Specimen(randomized_shortest_path, lambda: {"adjacency": GRAPH.copy(), "beta": 0.5}),
    "free_energy": Specimen(free_energy, lambda: {"adjacency": GRAPH.copy(), "beta": 0.5}),
}


def costs(A):
    return np.divide(1, A, where=A > 0, out=np.zeros_like(A))


def walk_weights(A, beta):
    W = A / A.sum(axis=1)[:, None] * np.where(A > 0, np.exp(-beta * costs(A)), 0)
    return W, np.linalg.inv(np.eye(len(A)) - W)


@pytest.mark.parametrize("A", [GRAPH, WEIGHTED], ids=["barbell", "weighted"])
@pytest.mark.parametrize("beta", [0.05, 1.0, 4.0])
def test_equal_their_definitions(A, beta):
    W, Z = walk_weights(A, beta)
    S = (Z @ (costs(A) * W) @ Z) / Z
    expected = S - S.diagonal()[None, :]
    np.testing.assert_allclose(randomized_shortest_path(A, beta), (expected + expected.T) / 2 * (1 - np.eye(10)), atol=1e-9)
    phi = -np.log(Z / Z.diagonal()[None, :]) / beta
    np.testing.assert_allclose(free_energy(A, beta), (phi + phi.T) / 2, atol=1e-9)


@pytest.mark.parametrize("function", [randomized_shortest_path, free_energy])
def test_limits(function):
    resistance, vol = shortest_path_commute(GRAPH, 0.0), GRAPH.sum()
    np.testing.assert_allclose(function(GRAPH, 1e-7), vol * resistance / 2, rtol=1e-5)
    tolerance = {randomized_shortest_path: 1e-9, free_energy: 0.06}[function]  # the free energy approaches as log(degree) / beta
    np.testing.assert_allclose(function(GRAPH, 100.0), shortest_path_commute(GRAPH, 1.0), atol=tolerance)


def test_free_energy_is_additive_over_cutpoints_and_a_metric():
    d = free_energy(WEIGHTED, 0.7)
    assert abs(d[0, 4] + d[4, 9] - d[0, 9]) < 1e-13
    assert (d[:, :, None] + d[None, :, :] - d[:, None, :]).min() > -1e-13


def test_free_energy_of_equal_weights_is_a_log_distance_of_pagerank():
    beta = 0.8
    log_distance = proximity_distance(proximity(GRAPH, "modified_ppr", np.exp(-beta).item(), scale="raw", log=True))
    np.testing.assert_allclose(free_energy(GRAPH, beta), log_distance / beta, atol=1e-12)


def test_shortest_path_and_resistance_agree_on_the_path_of_four():
    np.testing.assert_allclose(shortest_path_commute(PATH, 1.0), np.abs(np.subtract.outer(range(4), range(4))), atol=1e-12)
    np.testing.assert_allclose(shortest_path_commute(PATH, 0.0), shortest_path_commute(PATH, 1.0), atol=1e-12)


@pytest.mark.parametrize("lam", [0.0, 0.3, 1.0])
def test_the_mixture_and_its_kernel(lam):
    shortest = shortest_path(costs(WEIGHTED), directed=False)
    kernel = laplacian_pseudoinverse(WEIGHTED)
    resistance = kernel.diagonal()[:, None] + kernel.diagonal()[None, :] - 2 * kernel
    D = shortest_path_commute(WEIGHTED, lam)
    np.testing.assert_allclose(D, lam * shortest + (1 - lam) * resistance, atol=1e-12)
    np.testing.assert_allclose(distance_to_kernel(D), lam * distance_to_kernel(shortest) + (1 - lam) * 2 * kernel, atol=1e-12)
    vol = WEIGHTED.sum()
    P = WEIGHTED / WEIGHTED.sum(axis=1)[:, None]
    hitting = np.linalg.solve(np.eye(9) - P[:-1, :-1], np.ones(9))  # of the last node
    back = np.linalg.solve(np.eye(9) - P[1:, 1:], np.ones(9))  # of the first
    assert vol * resistance[0, -1] == pytest.approx(hitting[0] + back[-1], rel=1e-10)


@pytest.mark.parametrize("function", [randomized_shortest_path, free_energy, shortest_path_commute])
def test_relabelling_and_refusals(function):
    order = np.random.default_rng(0).permutation(10)
    np.testing.assert_allclose(function(WEIGHTED[np.ix_(order, order)], 0.6), function(WEIGHTED, 0.6)[np.ix_(order, order)], atol=1e-10)
    assert isinstance(function(torch.from_numpy(WEIGHTED), 0.6), torch.Tensor)
    np.testing.assert_array_equal(function(np.zeros((1, 1)), 0.6), [[0.0]])
    with pytest.raises(ValueError, match="connected graph, got 2 components"):
        function(np.kron(np.eye(2), PATH), 0.5)
    with pytest.raises(ValueError, match="adjacency must be symmetric"):
        function(np.triu(PATH), 0.5)


def test_parameters_out_of_range_are_refused():
    for function in (randomized_shortest_path, free_energy):
        with pytest.raises(ValueError, match="beta must be smaller"):
            function(GRAPH, 400.0)
        with pytest.raises(ValueError, match="beta must be larger"):
            function(GRAPH, 1e-300)
        with pytest.raises(ValueError, match="beta must be a finite number above 0"):
            function(GRAPH, 0.0)
    with pytest.raises(ValueError, match="lam must be a finite number"):
        shortest_path_commute(GRAPH, 1.1)
