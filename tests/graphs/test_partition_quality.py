"""Modularity against networkx, entropy against its definition."""

import networkx as nx
import numpy as np
import pytest
from specimens import Specimen

from ritz.graphs import attribute_entropy, modularity

SPECIMENS = {
    "modularity": Specimen(modularity, lambda: {"adjacency": np.array([[0, 2.0], [2.0, 0]]), "labels": np.array([0, 1])}),
    "attribute_entropy": Specimen(attribute_entropy, lambda: {"labels": np.array([0, 0, 1]), "attributes": np.array([[0, 1], [1, 1], [0, 2]])}),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_modularity_equals_networkx(weighted, seed):
    rng = np.random.default_rng(seed)
    graph = nx.gnp_random_graph(40, 0.2, seed=seed)
    for edge in graph.edges:
        graph.edges[edge]["weight"] = float(rng.integers(1, 5)) if weighted else 1.0
    labels = rng.integers(-3, 4, size=40)
    communities = [set(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    assert modularity(graph, labels) == pytest.approx(nx.community.modularity(graph, communities), abs=1e-14)


def test_modularity_of_one_part_and_of_no_edge_is_zero():
    assert modularity(nx.karate_club_graph(), np.full(34, 7)) == pytest.approx(0, abs=1e-15)
    assert modularity(np.zeros((3, 3)), [0, 1, 2]) == 0


def test_entropy_by_its_definition():
    rng = np.random.default_rng(0)
    labels, attributes = rng.integers(4, size=300), rng.integers(3, size=(300, 2))
    expected = 0.0
    for label in range(4):
        inside = attributes[labels == label]
        for column in inside.T:
            shares = np.bincount(column) / len(column)
            expected -= len(inside) / 300 * np.sum(shares[shares > 0] * np.log2(shares[shares > 0]))
    assert attribute_entropy(labels, attributes) == pytest.approx(expected, abs=1e-12)


def test_entropy_is_zero_where_parts_are_pure_and_names_do_not_matter():
    labels = np.repeat([0, 1, 2], 10)
    assert attribute_entropy(labels, labels) == 0
    assert attribute_entropy(-labels, 5 * labels.astype(float)) == 0
    assert attribute_entropy(np.zeros(30), labels) == pytest.approx(np.log2(3))


@pytest.mark.parametrize("labels", [[0, 1], [0.5, 1, 2], [[0], [1], [2]], ["a", "b", "c"]])
def test_bad_labels_are_refused(labels):
    with pytest.raises((ValueError, TypeError), match="labels"):
        modularity(np.ones((3, 3)), labels)
