"""Attributes join as nodes, names of categories do not matter, and good attributes decide where edges are ambiguous."""

import networkx as nx
import numba
import numpy as np
import pytest
import scipy.linalg
from sklearn.base import clone
from sklearn.metrics import normalized_mutual_info_score
from specimens import Specimen

from ritz.graphs import AttributedSpectralClustering, attribute_entropy, augment_with_attributes, laplacian, modularity
from ritz.studies.data.graphs import planted_partition

KARATE = nx.to_numpy_array(nx.karate_club_graph())
SIDES = np.arange(34) % 2
OPTIONS = {"n_clusters": 2, "tol": 0.5, "n_restarts": 2, "max_iter": 3, "aggregation_sweeps": 1, "distance": "block", "embedding": "eigen"}

SPECIMENS = {
    "AttributedSpectralClustering": Specimen(
        lambda **options: AttributedSpectralClustering(rng=0, **options).fit(KARATE, SIDES),
        lambda: dict(OPTIONS),
    ),
    "AttributedSpectralClustering.fit": Specimen(
        lambda adjacency, attributes: AttributedSpectralClustering(2, tol=0.5, n_restarts=2, rng=0).fit(adjacency, attributes),
        lambda: {"adjacency": KARATE.copy(), "attributes": np.stack([SIDES, SIDES // 3], axis=1)},
    ),
    "AttributedSpectralClustering.fit_predict": Specimen(
        lambda adjacency, attributes: AttributedSpectralClustering(2, tol=0.5, n_restarts=2, rng=0).fit_predict(adjacency, attributes),
        lambda: {"adjacency": KARATE.copy(), "attributes": SIDES.copy()},
    ),
    "augment_with_attributes": Specimen(augment_with_attributes, lambda: {"adjacency": KARATE.copy(), "attributes": SIDES.copy(), "weight": 2.0}),
}


def shuffled_blocks(sizes, inside, between, seed):
    graph = planted_partition(sizes, inside, between, rng=seed)
    order = np.random.default_rng(seed).permutation(len(graph.labels))
    return graph.adjacency[order][:, order], graph.labels[order]


def test_augmentation_adds_a_node_for_each_category():
    attributes = np.array([[9, 5, 1], [7, 5, 1], [9, 5, 2]])
    path = np.array([[0, 2.0, 0], [2.0, 0, 1.0], [0, 1.0, 0]])
    graph, columns = augment_with_attributes(path, attributes, 0.5)
    dense = graph.toarray()
    np.testing.assert_array_equal(columns, [[3, 5], [4, 5], [3, 6]])
    np.testing.assert_array_equal(dense, dense.T)
    np.testing.assert_array_equal(dense[:3, :3], path)
    assert not dense[3:, 3:].any()
    np.testing.assert_array_equal(dense[:3, 3:], 0.5 * np.array([[1, 0, 1, 0], [0, 1, 1, 0], [1, 0, 0, 1]]))


def test_attributes_without_choice_change_nothing():
    graph, _ = shuffled_blocks([30, 30], 0.4, 0.05, 0)
    model = AttributedSpectralClustering(2, n_restarts=20, rng=0)
    plain, constant = clone(model).fit(graph), clone(model).fit(graph, np.full((60, 2), 3))
    np.testing.assert_array_equal(plain.labels_, constant.labels_)
    np.testing.assert_array_equal(plain.embedding_, constant.embedding_)
    assert plain.entropy_ == constant.entropy_ == 0


@pytest.mark.parametrize("embedding", ["amg", "eigen"])
def test_names_of_categories_do_not_matter(embedding):
    graph, truth = shuffled_blocks([30, 30, 30], 0.3, 0.1, 1)
    rng = np.random.default_rng(2)
    attributes = np.stack([truth, rng.integers(3, size=90)], axis=1)
    renamed = np.stack([np.array([40, -1, 7])[attributes[:, 0]], 2 - attributes[:, 1]], axis=1)
    model = AttributedSpectralClustering(3, n_restarts=20, embedding=embedding, rng=0)
    np.testing.assert_array_equal(clone(model).fit_predict(graph, attributes), clone(model).fit_predict(graph, renamed))


@pytest.mark.parametrize("seed", range(3))
def test_attributes_that_are_the_truth_decide(seed):
    graph, truth = shuffled_blocks([100] * 4, 0.06, 0.03, seed)
    alone = AttributedSpectralClustering(4, n_restarts=30, rng=seed).fit_predict(graph)
    informed = AttributedSpectralClustering(4, n_restarts=30, rng=seed).fit_predict(graph, truth)
    assert normalized_mutual_info_score(truth, alone) < 0.3
    assert normalized_mutual_info_score(truth, informed) >= 0.95


def test_without_attributes_eigenvectors_are_those_of_spectral_clustering():
    graph, truth = shuffled_blocks([30, 30, 30], 0.5, 0.05, 3)
    model = AttributedSpectralClustering(3, embedding="eigen", distance="plain", rng=0).fit(graph)
    lowest = np.linalg.eigh(laplacian(graph, "comb").toarray())[1][:, :3]
    assert scipy.linalg.subspace_angles(model.embedding_[:, 0], lowest).max() < 1e-6
    assert normalized_mutual_info_score(truth, model.labels_) == pytest.approx(1)


def test_blocks_are_a_node_and_its_categories():
    graph, truth = shuffled_blocks([30, 30], 0.4, 0.05, 4)
    attributes = np.stack([truth, np.arange(60) % 3], axis=1)
    block = AttributedSpectralClustering(2, n_restarts=10, rng=0).fit(graph, attributes)
    plain = AttributedSpectralClustering(2, n_restarts=10, distance="plain", rng=0).fit(graph, attributes)
    assert block.embedding_.shape[:2] == (60, 3)
    np.testing.assert_array_equal(block.embedding_[:, :1], plain.embedding_)
    for p in (0, 1):
        for category in np.unique(attributes[:, p]):
            assert np.ptp(block.embedding_[attributes[:, p] == category, p + 1], axis=0).max() == 0


def test_scores_are_those_of_the_labels():
    graph, truth = shuffled_blocks([30, 30], 0.4, 0.05, 5)
    attributes = np.stack([truth, np.arange(60) % 3], axis=1)
    model = AttributedSpectralClustering(2, n_restarts=10, rng=0).fit(graph, attributes)
    assert model.modularity_ == pytest.approx(modularity(graph, model.labels_), abs=1e-12)
    assert model.entropy_ == attribute_entropy(model.labels_, attributes)
    assert set(model.labels_) <= {0, 1}


def test_more_restarts_never_lose_modularity_and_threads_change_nothing():
    graph, truth = shuffled_blocks([30, 30, 30], 0.3, 0.1, 6)
    before, found = numba.get_num_threads(), []
    try:
        for threads in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
            numba.set_num_threads(threads)
            found.append(AttributedSpectralClustering(3, n_restarts=40, rng=0).fit(graph, truth % 2))
    finally:
        numba.set_num_threads(before)
    np.testing.assert_array_equal(found[0].labels_, found[1].labels_)
    assert AttributedSpectralClustering(3, n_restarts=4, rng=0).fit(graph, truth % 2).modularity_ <= found[0].modularity_


def test_attributes_can_join_what_edges_do_not():
    two_parts = np.kron(np.eye(2), np.ones((6, 6)) - np.eye(6))
    attributes = np.arange(12) % 2
    with pytest.raises(ValueError, match="2 components"):
        AttributedSpectralClustering(2).fit(two_parts)
    with pytest.raises(ValueError, match="joined by its attributes, got 2 components"):
        AttributedSpectralClustering(2).fit(two_parts, np.repeat([0, 1], 6))
    assert AttributedSpectralClustering(2, distance="plain", rng=0).fit(two_parts, attributes).modularity_ > 0.2


@pytest.mark.parametrize(
    ("adjacency", "attributes", "n_clusters", "message"),
    [
        (np.triu(np.ones((4, 4)), 1), None, 2, "adjacency must be symmetric"),
        (-KARATE, None, 2, "adjacency must have no negative weight"),
        (KARATE, SIDES[:-1], 2, "attributes must have one row for each of the 34 nodes of adjacency, got 33"),
        (KARATE, np.where(SIDES, np.nan, 1.0), 2, "attributes must be integers, got nan"),
        (KARATE, SIDES / 2, 2, "attributes must be integers, got 0.5"),
        (KARATE, None, 1, "n_clusters"),
        (KARATE, None, 35, "n_clusters"),
    ],
)
def test_bad_input_is_refused(adjacency, attributes, n_clusters, message):
    with pytest.raises(ValueError, match=message):
        AttributedSpectralClustering(n_clusters).fit(adjacency, attributes)
