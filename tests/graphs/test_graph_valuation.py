"""The valuation protocol: what messages hold, what values depend on, and what they do not."""

import dataclasses
import io

import networkx as nx
import numpy as np
import pytest
from specimens import Specimen

from ritz.graphs import (
    BuyerMessage,
    GraphValuer,
    SellerMessage,
    Valuation,
    align_to_reference,
    gaussian_graph_distance,
    rank_sellers,
    relevance_diversity,
)
from ritz.graphs.adjacency import as_adjacency
from ritz.graphs.matched_samples import matched_samples

RNG = np.random.default_rng(0)
GRAPH = nx.to_numpy_array(nx.barabasi_albert_graph(25, 2, seed=0))
OTHER = nx.to_numpy_array(nx.gnp_random_graph(20, 0.25, seed=1))
X, Y = RNG.standard_normal((25, 5)) * [3, 2, 1, 1, 1], RNG.standard_normal((20, 5))
VALUER = GraphValuer(30, n_components=3)
OURS, THEIRS = VALUER.buyer_message(GRAPH, X), VALUER.seller_message(OTHER, Y, np.eye(5)[:3])
OPTIONS = {
    "n_components": 2,
    "hops": 1,
    "method": "faq",
    "squared": False,
    "regularization": 0.1,
    "threshold": 0.01,
    "seller_norm": "quadratic",
    "sample_subgraphs": 8,
    "seed": 1,
}

SPECIMENS = {
    "GraphValuer": Specimen(GraphValuer, lambda: {"proxy_size": 25, "proxy": GRAPH.copy(), **OPTIONS}, accepts={"sample_subgraphs": ["none"]}),
    "GraphValuer.buyer_message": Specimen(
        lambda adjacency, X: VALUER.buyer_message(adjacency, X), lambda: {"adjacency": GRAPH.copy(), "X": X.copy()}
    ),
    "GraphValuer.seller_message": Specimen(
        lambda adjacency, X, query: VALUER.seller_message(adjacency, X, query),
        lambda: {"adjacency": OTHER.copy(), "X": Y.copy(), "query": np.eye(5)[:3]},
    ),
    "rank_sellers": Specimen(
        lambda **options: rank_sellers((GRAPH, X), [(OTHER, Y)], **options),
        lambda: {"by": "diversity", "proxy_size": 25, "proxy": "barabasi_albert", **OPTIONS},
        accepts={"sample_subgraphs": ["none"], "proxy_size": ["none"]},
    ),
    "BuyerMessage": Specimen(BuyerMessage, lambda: OURS.as_dict(), spare=frozenset(OURS.as_dict())),
    "SellerMessage": Specimen(SellerMessage, lambda: THEIRS.as_dict(), spare=frozenset(THEIRS.as_dict())),
    "Valuation": Specimen(
        Valuation,
        lambda: {"structural_disparity": 1.0, "relevance": 1.0, "diversity": 0.0},
        spare=frozenset({"structural_disparity", "relevance", "diversity"}),
    ),
}


def relabelled(A, seed=0):
    order = np.random.default_rng(seed).permutation(len(A))
    return A[np.ix_(order, order)]


def value(valuer, buyer, seller):
    ours = valuer.buyer_message(*buyer)
    return valuer.value(ours, valuer.seller_message(*seller, ours.query))


@pytest.mark.parametrize("proxy", ["erdos_renyi", "barabasi_albert", nx.powerlaw_cluster_graph(30, 3, 0.5, seed=0)])
def test_is_the_distance_of_aligned_graphs_and_the_comparison_of_features(proxy):
    valuer = GraphValuer(30, proxy=proxy, n_components=3, seed=4)
    found = value(valuer, (GRAPH, X), (OTHER, Y))
    aligned = []
    for A in (GRAPH, OTHER):
        order = align_to_reference(A, valuer.proxy)
        aligned.append(np.pad(A, (0, 30 - len(A)))[np.ix_(order, order)])
    assert found.structural_disparity == pytest.approx(gaussian_graph_distance(*aligned), abs=1e-9)
    assert (found.relevance, found.diversity) == pytest.approx(relevance_diversity(X, Y, 3)[:2], abs=1e-12)
    assert found.structural_spread is None


@pytest.mark.parametrize("method", ["signature", "faq"])
def test_a_renamed_copy_is_no_new_structure(method):
    found = value(GraphValuer(30, n_components=3, method=method), (GRAPH, X), (relabelled(GRAPH), X))
    assert found.structural_disparity <= 1e-8
    assert found.relevance == pytest.approx(1, abs=1e-12)
    assert found.diversity == pytest.approx(0, abs=1e-12)


def test_structure_and_features_are_disentangled():
    plain = value(VALUER, (GRAPH, X), (OTHER, Y))
    other_features = value(VALUER, (GRAPH, X), (OTHER, Y[:, ::-1] * 7))
    other_graph = value(VALUER, (GRAPH, X), (nx.to_numpy_array(nx.path_graph(20)), Y))
    assert other_features.structural_disparity == plain.structural_disparity
    assert (other_graph.relevance, other_graph.diversity) == (plain.relevance, plain.diversity)
    assert other_features.relevance != plain.relevance
    assert other_graph.structural_disparity != plain.structural_disparity


def test_messages_hold_neither_features_nor_the_graph_under_its_names():
    assert {field.name for field in dataclasses.fields(BuyerMessage)} == {"query", "variances", "structure"}
    assert {field.name for field in dataclasses.fields(SellerMessage)} == {"variances", "structure"}
    for message, A, features in ((OURS, GRAPH, X), (THEIRS, OTHER, Y)):
        for array in message.as_dict().values():
            assert isinstance(array, np.ndarray)
            assert array.shape != features.shape
            if array.ndim == 3:
                assert array.shape == (1, 30, 30)
                assert not any(np.array_equal(array[0][: len(A), : len(A)] != 0, pattern) for pattern in (A != 0, A + np.eye(len(A)) != 0))


def test_the_size_of_messages_depends_on_the_proxy_alone():
    for n in (10, 30):
        message = VALUER.seller_message(nx.path_graph(n), RNG.standard_normal((n, 5)), OURS.query)
        assert message.variances.shape == (3,)
        assert message.structure.shape == (1, 30, 30)
    many_rows = np.repeat(Y, 5, axis=0)
    large = GraphValuer(100, n_components=3).seller_message(nx.path_graph(100), many_rows, OURS.query)
    assert large.variances.shape == (3,)


def test_messages_survive_a_file():
    file = io.BytesIO()
    np.savez(file, **THEIRS.as_dict())
    file.seek(0)
    with np.load(file, allow_pickle=False) as held:
        read = SellerMessage(**held)
    assert VALUER.value(OURS, read).as_dict() == VALUER.value(OURS, THEIRS).as_dict()


def test_parties_need_only_the_seed():
    other = GraphValuer(30, n_components=3)
    assert (
        other.value(VALUER.buyer_message(GRAPH, X), other.seller_message(OTHER, Y, OURS.query)).as_dict()
        == value(VALUER, (GRAPH, X), (OTHER, Y)).as_dict()
    )


def test_hops_average_over_neighbors():
    degrees = GRAPH.sum(axis=1)
    N = GRAPH / np.sqrt(np.outer(degrees, degrees))
    propagated = value(GraphValuer(30, n_components=3, hops=2), (GRAPH, X), (GRAPH, X[:, ::-1]))
    by_hand = value(VALUER, (GRAPH, N @ N @ X), (GRAPH, N @ N @ X[:, ::-1]))
    assert propagated.relevance == pytest.approx(by_hand.relevance, rel=1e-10)


def test_options_reach_their_parts():
    plain = value(VALUER, (GRAPH, X), (OTHER, Y))
    root = value(GraphValuer(30, n_components=3, squared=False), (GRAPH, X), (OTHER, Y))
    assert root.structural_disparity == pytest.approx(np.sqrt(plain.structural_disparity))
    quadratic = value(GraphValuer(30, n_components=3, seller_norm="quadratic", threshold=2.0), (GRAPH, X), (OTHER, Y))
    expected = relevance_diversity(X, Y, 3, seller_norm="quadratic", threshold=2.0)
    assert (quadratic.relevance, quadratic.diversity) == pytest.approx(expected[:2])
    assert value(GraphValuer(30, n_components=3, regularization=0.5), (GRAPH, X), (OTHER, Y)).structural_disparity != plain.structural_disparity


def test_samples_of_large_graphs():
    large = nx.to_scipy_sparse_array(nx.barabasi_albert_graph(1500, 3, seed=2), dtype=float, format="csr")
    order = np.random.default_rng(0).permutation(1500)
    renamed = large[order][:, order]
    features = np.random.default_rng(1).standard_normal((1500, 4))
    valuer = GraphValuer(50, n_components=2, sample_subgraphs=40)
    same, other = (value(valuer, (large, features), (graph, features)) for graph in (renamed, nx.cycle_graph(1500)))
    assert valuer.buyer_message(large, features).structure.shape == (8, 50, 50)
    assert same.structural_disparity < 0.2 * other.structural_disparity
    assert other.structural_spread >= 0
    samples = matched_samples(as_adjacency(large), 40, 8)
    assert all(len(set(nodes.tolist())) == 40 for nodes in samples)
    assert all(nx.is_connected(nx.from_scipy_sparse_array(large[nodes][:, nodes])) for nodes in samples)


def test_ranking():
    far = RNG.standard_normal((20, 5)) * [1, 1, 1, 1, 30]
    sellers = {"copy": (relabelled(GRAPH), X), "other": (OTHER, Y), "far": (OTHER, far)}
    by_relevance = rank_sellers((GRAPH, X), sellers, n_components=3)
    assert by_relevance[0]["seller"] == "copy"
    assert [row["relevance"] for row in by_relevance] == sorted((row["relevance"] for row in by_relevance), reverse=True)
    assert rank_sellers((GRAPH, X), sellers, by="structural_disparity", n_components=3)[0]["seller"] == "copy"
    assert rank_sellers((GRAPH, X), sellers, by="diversity", n_components=3)[-1]["seller"] == "copy"
    numbered = rank_sellers((GRAPH, X), list(sellers.values()), n_components=3, sample_subgraphs=10)
    assert {row["seller"] for row in numbered} == {0, 1, 2}
    assert all("structural_spread" in row for row in numbered)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: GraphValuer(10).buyer_message(GRAPH, X), "adjacency must have at most the proxy's 10 nodes"),
        (lambda: GraphValuer(30, n_components=6).buyer_message(GRAPH, X), "X must have at least the 6 columns of n_components, got 5"),
        (lambda: GraphValuer(30, n_components=0), "n_components must be an integer of at least 1"),
        (lambda: VALUER.buyer_message(GRAPH, X[:4]), "X must have a row for each of the 25 nodes of adjacency, got 4"),
        (lambda: VALUER.seller_message(OTHER, Y[:, :4], OURS.query), "X must have the 5 columns of query, got 4"),
        (lambda: VALUER.buyer_message(np.triu(GRAPH), X), "adjacency must be symmetric"),
        (lambda: VALUER.buyer_message(-GRAPH, X), "adjacency must have no negative weight"),
        (lambda: VALUER.buyer_message(GRAPH, np.full((25, 5), np.nan)), "X must be finite"),
        (lambda: VALUER.value(OURS, OURS), "seller_message must be a SellerMessage, got BuyerMessage"),
        (lambda: VALUER.value(OURS, SellerMessage(np.ones(2), THEIRS.structure)), "seller_message must come of the same options"),
        (lambda: GraphValuer(30, proxy=GRAPH), "proxy must have proxy_size = 30 nodes, got 25"),
        (lambda: GraphValuer(30, proxy="grid"), "proxy must be one of"),
        (lambda: GraphValuer(30, sample_subgraphs=31), "sample_subgraphs"),
        (lambda: rank_sellers((GRAPH, X), {}), "sellers must hold at least one"),
        (lambda: rank_sellers((GRAPH, X), {"a": GRAPH}, n_components=2), "must be a pair"),
        (lambda: rank_sellers((GRAPH, X), {"a": (OTHER, Y[:, :2])}, n_components=2), r"sellers\['a'\]: X must have the 5 columns of query"),
    ],
)
def test_refusals(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()
