"""Clustering by proximities: against the pieces it is made of, and on graphs with clear clusters."""

import networkx as nx
import numpy as np
import pytest
from scipy.cluster.hierarchy import cut_tree, linkage
from scipy.spatial.distance import squareform
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from specimens import Specimen

from ritz.graphs import ProximityClustering, as_adjacency, proximity, proximity_distance
from ritz.graphs.proximity import KINDS
from ritz.graphs.proximity_clustering import kernel_kmeans, modularity, spectral_clusters, ward_clusters

KARATE = nx.to_numpy_array(nx.karate_club_graph(), weight=None)
CLUB = np.array([nx.karate_club_graph().nodes[node]["club"] == "Officer" for node in range(34)])
PLANTED = nx.planted_partition_graph(3, 20, 0.6, 0.05, seed=0)
TRUTH = np.repeat(range(3), 20)

SPECIMENS = {
    "ProximityClustering": Specimen(
        lambda **options: ProximityClustering(**options).fit(KARATE),
        lambda: {"n_clusters": 2, "kind": "forest", "log": True, "t": 0.5, "method": "ward"},
    ),
    "ProximityClustering.fit": Specimen(lambda adjacency: ProximityClustering(1).fit(adjacency), lambda: {"adjacency": KARATE.copy()}),
}


@pytest.mark.parametrize("method", ["ward", "kernel_kmeans", "spectral"])
@pytest.mark.parametrize("kind", KINDS)
def test_clear_clusters_are_found(kind, method):
    logs = [False] if kind == "commute" else [False, True]
    for log in logs:
        model = ProximityClustering(3, kind=kind, log=log, method=method, rng=0).fit(PLANTED)
        # plain forest and heat kernels split off single nodes under Ward's method: what the logarithm mends
        floor = 0.9 if log or kind not in ("forest", "heat", "commute") or method == "spectral" else 0.0
        assert adjusted_rand_score(TRUTH, model.labels_) >= floor
        assert set(model.labels_) == {0, 1, 2}


def test_karate_club():
    labels = ProximityClustering(2).fit_predict(KARATE)
    assert adjusted_rand_score(CLUB, labels) > 0.85


def test_auto_takes_the_parameter_of_best_modularity():
    model = ProximityClustering(3, kind="heat").fit(PLANTED)
    assert len(model.grid_) == len(model.modularities_) == 20
    fixed = [clone(model).set_params(t=float(x)).fit(PLANTED) for x in model.grid_]
    np.testing.assert_allclose([one.modularity_ for one in fixed], model.modularities_, atol=1e-12)
    best = int(np.argmax(model.modularities_))
    assert model.t_ == model.grid_[best]
    assert model.modularity_ == model.modularities_[best]
    np.testing.assert_array_equal(model.labels_, fixed[best].labels_)
    communities = [set(np.flatnonzero(model.labels_ == c).tolist()) for c in range(3)]
    assert model.modularity_ == pytest.approx(nx.community.modularity(PLANTED, communities), abs=1e-12)


def test_modularity_of_weighted_graphs():
    A = KARATE * np.add.outer(np.arange(34), np.arange(34))
    labels = np.arange(34) % 3
    communities = [set(np.flatnonzero(labels == c).tolist()) for c in range(3)]
    expected = nx.community.modularity(nx.from_numpy_array(A), communities)
    assert modularity(as_adjacency(A).matrix, labels) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("n_clusters", [1, 2, 5, 33, 34])
def test_ward_is_scipys(n_clusters):
    K = proximity(KARATE, "communicability", 0.4, log=True)
    tree = linkage(squareform(proximity_distance(K, sqrt=True), checks=False), "ward")
    labels = ward_clusters(K, n_clusters)
    assert len(set(labels)) == n_clusters
    assert adjusted_rand_score(cut_tree(tree, n_clusters).ravel(), labels) == 1.0


def test_kernel_kmeans_of_a_linear_kernel_is_kmeans():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 2)) + np.repeat([[0, 0], [3, 0], [0, 3]], 20, axis=0)
    labels = kernel_kmeans(X @ X.T, 3, np.random.default_rng(1))
    reference = KMeans(3, n_init=20, random_state=0).fit(X)
    inertia = sum(((X[labels == c] - X[labels == c].mean(axis=0)) ** 2).sum() for c in range(3))
    assert inertia == pytest.approx(reference.inertia_, rel=1e-6)


def test_kernel_methods_cope_with_equal_points():
    K = np.ones((5, 5))
    for method in (kernel_kmeans, spectral_clusters):
        assert len(method(K, 2, np.random.default_rng(0))) == 5
    assert set(kernel_kmeans(K, 5, np.random.default_rng(0))) == set(range(5))


@pytest.mark.parametrize("method", ["ward", "kernel_kmeans", "spectral"])
def test_same_seed_same_labels_and_relabelling(method):
    model = ProximityClustering(3, t=0.5, method=method, rng=7)
    labels = model.fit_predict(PLANTED)
    np.testing.assert_array_equal(clone(model).fit_predict(PLANTED), labels)
    order = np.random.default_rng(0).permutation(60)
    permuted = clone(model).fit_predict(nx.to_numpy_array(PLANTED)[np.ix_(order, order)])
    assert adjusted_rand_score(permuted, labels[order]) == 1.0


def test_small_graphs():
    np.testing.assert_array_equal(ProximityClustering(1).fit_predict([[0.0]]), [0])
    for method in ("ward", "kernel_kmeans", "spectral"):
        assert set(ProximityClustering(2, method=method, rng=0).fit_predict([[0, 1], [1, 0]])) == {0, 1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_clusters": 0}, "n_clusters must be an integer of at least 1 and at most 34"),
        ({"n_clusters": 35}, "n_clusters"),
        ({"t": 1.0}, "t must be a finite number above 0 and below 1"),
        ({"t": "best"}, "t must be one of 'auto'"),
        ({"kind": "katz"}, "kind must be one of"),
        ({"method": "single"}, "method must be one of"),
        ({"kind": "commute", "log": True}, "log must be False for kind 'commute'"),
        ({"kind": "commute", "log": False, "t": 0.5}, "t must be 'auto' for kind 'commute'"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ProximityClustering(**({"n_clusters": 2} | options)).fit(KARATE)


def test_disconnected_and_directed_graphs_are_refused():
    with pytest.raises(ValueError, match="connected graph, got 2 components"):
        ProximityClustering(2, log=False).fit(np.kron(np.eye(2), KARATE))
    with pytest.raises(ValueError, match="adjacency must be symmetric"):
        ProximityClustering(2).fit(np.triu(KARATE))
