"""Graph data for studies, and the loops that train networks on it."""

import networkx as nx
import numpy as np
import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.nn import global_mean_pool
from torch_geometric.utils import to_networkx

from ritz.studies.data import MissingData
from ritz.studies.data.graph_collections import (
    as_data,
    brec_pairs,
    counted_regular_graphs,
    counting_graphs,
    random_regular_graphs,
    strongly_regular_family,
    tu_collection,
    web_graph,
)
from ritz.studies.data.graphs import attributed_graph, community_graph, heat_labels, planted_partition, wiki_vote
from ritz.studies.graph_training import fit_graph_model, fit_node_classifier, fold_splits, graph_accuracy


def _or_skip(read, *arguments):
    try:
        return read(*arguments)
    except MissingData as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize(
    ("name", "count", "larger"), [("MUTAG", 188, 125), ("PTC_MR", 344, 192), ("PROTEINS", 1113, 663), ("IMDB-BINARY", 1000, 500)]
)
def test_tu_collections_have_their_published_sizes_and_folds(name, count, larger):
    graphs, folds = _or_skip(tu_collection, name)
    assert len(graphs) == count
    assert max(np.bincount([graph.y.item() for graph in graphs])) == larger
    assert all(graph.is_undirected() for graph in graphs)
    tested = np.concatenate([test for _, test in folds])
    assert len(folds) == 10
    assert len(set(tested)) == len(tested) >= count - 9  # the published folds are of even sizes: what is left over is never tested
    for train, validation, test in fold_splits(folds):
        assert sorted(np.concatenate([train, validation, test])) == list(range(count))


def test_brec_pairs_have_equal_degrees_and_are_not_isomorphic():
    assert [len(_or_skip(brec_pairs, part)) for part in ("basic", "regular", "extension")] == [60, 50, 100]
    first, second = brec_pairs("regular")[0]
    assert sorted(dict(first.degree).values()) == sorted(dict(second.degree).values())
    assert not nx.is_isomorphic(first, second)


def test_families_are_strongly_regular():
    for name, count in (("sr16622", 2), ("sr251256", 15), ("sr261034", 10)):
        family = _or_skip(strongly_regular_family, name)
        assert len(family) == count
        assert all(nx.is_strongly_regular(graph) for graph in family)


def test_counting_graphs_and_their_split():
    graphs = _or_skip(counting_graphs)
    assert len(graphs.adjacencies) == 5000
    assert sorted(np.concatenate([graphs.train, graphs.val, graphs.test])) == list(range(5000))
    assert all(np.array_equal(A, A.T) and not A.diagonal().any() for A in graphs.adjacencies[:50])


@pytest.mark.parametrize("name", ["texas", "cornell"])
def test_web_graphs_have_ten_splits(name):
    data, splits = _or_skip(web_graph, name)
    assert data.x.shape == (183, 1703)
    assert data.is_undirected()
    assert not data.has_self_loops()
    assert len(splits) == 10
    assert all(torch.equal(sum(mask.int() for mask in split), torch.ones(183, dtype=torch.int32)) for split in splits)


def test_real_node_graphs():
    votes = _or_skip(wiki_vote)
    assert votes.shape == (7115, 7115)
    assert votes.nnz == 103_689
    assert (votes.sum(axis=1) == 0).sum() == 1005
    football = community_graph("football")
    assert football.adjacency.shape == (115, 115)
    assert len(np.unique(football.labels)) == 12
    adjacency, attributes = attributed_graph("lawyers-advice")
    assert attributes.shape == (36, 7)
    assert adjacency.shape == (36, 36)


def test_generators_are_seeded_and_have_their_shape():
    first, again = (planted_partition([20, 30], 0.5, 0.05, rng=1) for _ in range(2))
    assert abs(first.adjacency - again.adjacency).nnz == 0
    assert np.bincount(first.labels).tolist() == [20, 30]
    inside = first.adjacency[:20, :20].sum() / (20 * 19)
    assert abs(inside - 0.5) < 0.2
    labels = heat_labels(first.adjacency, 3, rng=0)
    joined = first.adjacency.tocoo()
    assert np.mean(labels[joined.row] == labels[joined.col]) > 0.6
    assert all(set(dict(graph.degree).values()) == {4} for graph in random_regular_graphs(3, 12, 4, rng=0))
    counted = counted_regular_graphs(30, 10, 4, rng=0)
    graphs = [to_networkx(data, to_undirected=True) for data in counted]
    for column, length in enumerate((3, 4)):
        exact = np.array([sum(1 for _ in nx.simple_cycles(graph, length_bound=length)) for graph in graphs], dtype=float)
        if length == 4:
            exact -= [sum(1 for _ in nx.simple_cycles(graph, length_bound=3)) for graph in graphs]
        found = np.array([data.y[0, column].item() for data in counted])
        np.testing.assert_allclose(found, (exact - exact.mean()) / exact.std(), atol=1e-5)


def test_a_node_classifier_learns_and_stops_by_validation():
    y = torch.arange(40) % 2
    x = torch.nn.functional.one_hot(y, 2).float()
    masks = [torch.arange(40) // 10 % 4 == part for part in (0, 1, 2)]
    model = torch.nn.Linear(2, 2)
    found = fit_node_classifier(model, lambda: model(x), y, masks, epochs=100, patience=5)
    assert found.test == found.validation == 1.0


def test_a_graph_model_learns_in_its_best_state():
    graphs = [
        Data(x=torch.full((n, 1), float(n % 2)), edge_index=as_data(nx.path_graph(n)).edge_index, y=torch.tensor([n % 2])) for n in range(2, 42)
    ]

    class Mean(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(1, 2)

        def forward(self, batch):
            return self.linear(global_mean_pool(batch.x, batch.batch))

    model = fit_graph_model(Mean(), graphs, np.arange(20), np.arange(20, 30), epochs=60, batch_size=10, learning_rate=0.05)
    assert graph_accuracy(model, graphs, np.arange(30, 40)) == 1.0
