"""Proximities against their definitions, and the properties that Chebotarev proves of them."""

import networkx as nx
import numpy as np
import pytest
import scipy.linalg
import torch
from specimens import Specimen

from ritz.graphs import proximity, proximity_distance, shortest_path_commute
from ritz.graphs.proximity import KINDS

BARBELL = nx.to_numpy_array(nx.barbell_graph(4, 2))
WEIGHTED = nx.to_numpy_array(nx.gnp_random_graph(15, 0.4, seed=1)) * np.random.default_rng(0).uniform(0.5, 2, (15, 15))
WEIGHTED = np.tril(WEIGHTED) + np.tril(WEIGHTED).T
TWO_PARTS = nx.to_numpy_array(nx.disjoint_union(nx.path_graph(4), nx.cycle_graph(3)))
WITH_PARAMETER = [kind for kind in KINDS if kind != "commute"]
SYMMETRIC = [kind for kind in WITH_PARAMETER if kind not in ("ppr", "heat_ppr")]

SPECIMENS = {
    "proximity": Specimen(proximity, lambda: {"adjacency": BARBELL.copy(), "kind": "forest", "t": 0.5, "log": True, "scale": "unit"}),
}


def radius(A):
    return np.linalg.eigvalsh(A)[-1]


def definition(A, kind, t):
    degrees = A.sum(axis=1)
    I, D, P = np.eye(len(A)), np.diag(degrees), A / degrees[:, None]
    L = D - A
    return {
        "walk": lambda: np.linalg.inv(I - t * A),
        "forest": lambda: np.linalg.inv(I + t * L),
        "communicability": lambda: scipy.linalg.expm(t * A),
        "heat": lambda: scipy.linalg.expm(-t * L),
        "normalized_heat": lambda: scipy.linalg.expm(-t * L / np.sqrt(np.outer(degrees, degrees))),
        "ppr": lambda: np.linalg.inv(I - t * P),
        "modified_ppr": lambda: np.linalg.inv(I - t * P) @ np.linalg.inv(D),
        "heat_ppr": lambda: scipy.linalg.expm(-t * (I - P)),
    }[kind]()


@pytest.mark.parametrize("A", [BARBELL, WEIGHTED], ids=["barbell", "weighted"])
@pytest.mark.parametrize("kind", WITH_PARAMETER)
def test_equals_its_definition_and_its_logarithm(A, kind):
    t = 0.6 / radius(A) if kind == "walk" else 0.6
    expected = definition(A, kind, t)
    K = proximity(A, kind, t, scale="raw")
    np.testing.assert_allclose(K, expected, rtol=1e-9)
    np.testing.assert_allclose(proximity(A, kind, t, scale="raw", log=True), np.log(expected), atol=1e-9)
    assert (K > 0).all()


def test_commute_is_the_pseudo_inverse():
    L = np.diag(WEIGHTED.sum(axis=1)) - WEIGHTED
    np.testing.assert_allclose(proximity(WEIGHTED, "commute"), np.linalg.pinv(L), atol=1e-10)


@pytest.mark.parametrize("kind", WITH_PARAMETER)
def test_the_unit_scale_and_a_grid(kind):
    x = np.array([0.1, 0.5, 0.9])
    raw = {"walk": x / radius(BARBELL), "ppr": x, "modified_ppr": x}.get(kind, 0.5 * x / (1 - x))
    grid = proximity(BARBELL, kind, x)
    assert grid.shape == (3, 10, 10)
    for K, one, t in zip(grid, x, raw):
        np.testing.assert_array_equal(K, proximity(BARBELL, kind, float(one)))
        np.testing.assert_allclose(K, proximity(BARBELL, kind, float(t), scale="raw"), rtol=1e-12)


@pytest.mark.parametrize("kind", ["forest", "walk", "ppr", "modified_ppr"])
def test_log_distances_are_additive_over_cutpoints_and_only_there(kind):
    t = 0.9 / radius(BARBELL) if kind == "walk" else 0.7
    d = proximity_distance(proximity(BARBELL, kind, t, scale="raw", log=True))
    graph = nx.from_numpy_array(BARBELL)
    for j in range(10):
        parts = nx.number_connected_components(nx.subgraph_view(graph, filter_node=lambda node, j=j: node != j))
        for i in range(10):
            for k in range(10):
                if len({i, j, k}) < 3:
                    continue
                defect = d[i, j] + d[j, k] - d[i, k]
                if parts > 1 and not nx.has_path(nx.subgraph_view(graph, filter_node=lambda node, j=j: node != j), i, k):
                    assert abs(defect) < 1e-14
                else:
                    assert defect > 1e-3


@pytest.mark.parametrize(("kind", "expected"), [("communicability", -2.0), ("heat", -1.6)])
def test_log_communicability_and_log_heat_can_violate_the_triangle_inequality(kind, expected):
    d = proximity_distance(proximity(BARBELL, kind, 0.7, scale="raw", log=True))
    defects = d[:, :, None] + d[None, :, :] - d[:, None, :]
    assert defects.min() < expected


def scaled(D):
    return D / D.sum()


@pytest.mark.parametrize(("t", "lam", "tolerance"), [(1e-6, 1.0, 8e-10), (1e6, 0.0, 7e-8)])
def test_limits_of_the_log_forest_distance(t, lam, tolerance):
    d = proximity_distance(proximity(BARBELL, "forest", t, scale="raw", log=True))
    np.testing.assert_allclose(scaled(d), scaled(shortest_path_commute(BARBELL, lam)), atol=tolerance)


def test_limits_of_the_walk_distance():
    near_zero = proximity_distance(proximity(BARBELL, "walk", 1e-6, log=True))
    np.testing.assert_allclose(scaled(near_zero), scaled(shortest_path_commute(BARBELL, 1.0)), atol=8e-10)
    perron = np.abs(np.linalg.eigh(BARBELL)[1][:, -1])
    resistance = shortest_path_commute(BARBELL * np.outer(perron, perron), 0.0)
    near_radius = proximity_distance(proximity(BARBELL, "walk", 1 - 1e-7, log=True))
    np.testing.assert_allclose(scaled(near_radius), scaled(resistance), atol=7e-8)


@pytest.mark.parametrize("A", [BARBELL, WEIGHTED, TWO_PARTS], ids=["barbell", "weighted", "disconnected"])
def test_forest_is_stochastic_positive_and_dominated_by_its_diagonal(A):
    for t in (1e-8, 0.3, 10.0, 1e4):
        K = proximity(A, "forest", t, scale="raw")
        np.testing.assert_allclose(K.sum(axis=1), 1, atol=1e-10)
        assert np.linalg.eigvalsh(K).min() > 0
        assert (K.diagonal()[:, None] >= K).all()
        assert (K[K != 0] > 0).all()


def test_rows_of_ppr_sum_to_the_length_of_the_walk():
    for A in (BARBELL, WEIGHTED, TWO_PARTS, np.zeros((3, 3))):
        np.testing.assert_allclose(proximity(A, "ppr", 0.8).sum(axis=1), 5.0, rtol=1e-12)


def test_heat_is_a_semigroup():
    for kind in ("heat", "normalized_heat", "heat_ppr"):
        first, second, both = (proximity(WEIGHTED, kind, t, scale="raw") for t in (0.3, 0.5, 0.8))
        np.testing.assert_allclose(first @ second, both, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_relabelling_the_nodes_permutes_the_matrix(kind):
    order = np.random.default_rng(0).permutation(15)
    t = None if kind == "commute" else 0.4
    K = proximity(WEIGHTED, kind, t)
    np.testing.assert_allclose(proximity(WEIGHTED[np.ix_(order, order)], kind, t), K[np.ix_(order, order)], atol=1e-10)


@pytest.mark.parametrize("kind", [kind for kind in WITH_PARAMETER if kind != "modified_ppr"])
def test_unconnected_nodes_have_proximity_zero_and_no_logarithm(kind):
    graph = np.pad(TWO_PARTS, (0, 1))  # and an isolated node
    K = proximity(graph, kind, 0.3)
    joined = scipy.linalg.block_diag(np.ones((4, 4)), np.ones((3, 3)), np.ones((1, 1)))
    np.testing.assert_array_equal(K != 0, joined != 0)
    with pytest.raises(ValueError, match="adjacency must be a connected graph, got 3 components"):
        proximity(graph, kind, 0.3, log=True)


def test_log_communicability_does_not_overflow():
    A = 1e3 * BARBELL
    with pytest.raises(ValueError, match="t must be at most 709 / rho"):
        proximity(A, "communicability", 1.0, scale="raw")
    H = proximity(A, "communicability", 1.0, scale="raw", log=True)
    values, vectors = np.linalg.eigh(A)
    leading = values[-1] + np.log(np.outer(vectors[:, -1], vectors[:, -1]))
    assert np.isfinite(H).all()
    np.testing.assert_allclose(H[:4, :4], leading[:4, :4] + np.log(2), rtol=1e-3)  # the two cliques' eigenvalues almost coincide


@pytest.mark.parametrize(
    ("kind", "t", "scale", "message"),
    [
        ("walk", 1.0, "unit", "t must be a finite number above 0 and below 1"),
        ("heat", 0.0, "unit", "t must be a finite number above 0 and below 1"),
        ("forest", 0.0, "raw", "t must be a finite number above 0, got 0"),
        ("walk", 0.5, "raw", r"t must lie in the open interval from 0 to 1/rho = 0\.31\d+ for kind 'walk', got 0\.5"),
        ("ppr", 1.0, "raw", "t must lie in the open interval from 0 to 1 for kind 'ppr', got 1"),
        ("modified_ppr", 1.5, "raw", "open interval from 0 to 1"),
        ("walk", None, "unit", "t must be"),
        ("commute", 0.5, "unit", "t must be None for kind 'commute'"),
    ],
)
def test_t_outside_its_open_interval_is_refused(kind, t, scale, message):
    with pytest.raises((ValueError, TypeError), match=message):
        proximity(BARBELL, kind, t, scale=scale)


def test_graphs_that_do_not_fit_are_refused():
    for kind in KINDS:
        t = None if kind == "commute" else 0.5
        with pytest.raises(ValueError, match="adjacency must have no negative weight"):
            proximity(-BARBELL, kind, t)
        with pytest.raises(ValueError, match="adjacency must be symmetric"):
            proximity(np.triu(BARBELL), kind, t)
    with pytest.raises(ValueError, match="adjacency must be a connected graph, got 2 components"):
        proximity(TWO_PARTS, "commute")
    with pytest.raises(ValueError, match="log must be False for kind 'commute'"):
        proximity(BARBELL, "commute", log=True)
    with pytest.raises(ValueError, match="no isolated node"):
        proximity(np.zeros((2, 2)), "modified_ppr", 0.5)
    with pytest.raises(ValueError, match="adjacency must have an edge"):
        proximity(np.zeros((2, 2)), "walk", 0.5)
    with pytest.raises(ValueError, match="underflow to 0"):
        proximity(nx.path_graph(60), "forest", 1e-8, scale="raw", log=True)


def test_torch_in_torch_out_and_other_graphs():
    K = proximity(torch.from_numpy(BARBELL), "heat", 0.5)
    assert isinstance(K, torch.Tensor)
    np.testing.assert_array_equal(K.numpy(), proximity(nx.barbell_graph(4, 2), "heat", 0.5))
    np.testing.assert_array_equal(proximity([[0.0]], "heat", 0.5, log=True), [[0.0]])
