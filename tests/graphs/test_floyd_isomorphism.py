"""Random attention tells apart what refinement of pairs does, and no more."""

import networkx as nx
import numpy as np
import pytest
from graphs.invariances import bicyclopentyl, decalin, rook, shrikhande, two_triangles
from specimens import Specimen

from ritz.graphs import Distinguished, floyd_isomorphism_test
from ritz.studies.data import MissingData
from ritz.studies.data.graph_collections import brec_pairs

SPECIMENS = {
    "floyd_isomorphism_test": Specimen(
        floyd_isomorphism_test,
        lambda: {"G1": nx.to_numpy_array(nx.cycle_graph(4)), "G2": nx.to_numpy_array(nx.cycle_graph(4)), "order": 2, "depth": 1, "seed": 0},
    ),
    "Distinguished": Specimen(
        Distinguished,
        lambda: {"distinguished": True, "distance": 1.0, "noise": 0.0},
        spare=frozenset({"distinguished", "distance", "noise"}),
    ),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("first", "second"), [(nx.cycle_graph(6), two_triangles()), (decalin(), bicyclopentyl())])
def test_what_colour_refinement_confuses_is_told_apart(first, second, seed):
    result = floyd_isomorphism_test(first, second, seed=seed)
    assert result
    assert result.distance > 1e-3
    assert result.noise < 1e-10


def test_a_reordered_copy_is_not_told_apart():
    graph = nx.karate_club_graph()
    copy = nx.relabel_nodes(graph, dict(zip(graph, np.random.default_rng(0).permutation(34).tolist())))
    result = floyd_isomorphism_test(nx.to_numpy_array(graph, nodelist=sorted(graph)), nx.to_numpy_array(copy, nodelist=sorted(copy)))
    assert not result
    assert result.distance < 1e-10


def test_strongly_regular_graphs_need_triples():
    result = floyd_isomorphism_test(rook(), shrikhande(), depth=4)
    assert not result
    assert result.distance < 1e-12
    assert floyd_isomorphism_test(rook(), shrikhande(), order=3, depth=2)


def test_numbers_of_nodes_and_edges_are_looked_at_first():
    assert floyd_isomorphism_test(nx.path_graph(3), nx.path_graph(4)).distance == float("inf")
    assert floyd_isomorphism_test(nx.path_graph(3), nx.cycle_graph(3))


@pytest.mark.parametrize(("part", "step"), [("basic", 7), ("regular", 7)])
def test_pairs_of_brec(part, step):
    try:
        pairs = brec_pairs(part)[::step]
    except MissingData as missing:
        pytest.skip(str(missing))
    results = [floyd_isomorphism_test(*pair) for pair in pairs]
    assert all(results)
    assert min(result.distance for result in results) > 0.01
    assert max(result.noise for result in results) < 1e-9
