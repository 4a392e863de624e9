"""RQGNN: indifferent to order and company, every filter trained; the detector finds alternating graphs among smooth ones."""

import networkx as nx
import numpy as np
import pytest
import torch
from graphs.invariances import edges_of, random_order, relabelled
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import f1_score
from specimens import Specimen
from torch_geometric.data import Batch, Data

from ritz.graphs import RQGNN, RayleighQuotient, RQGNNDetector
from ritz.graphs.rqgnn import best_threshold


def _graphs(count: int, features: int = 3) -> list[Data]:
    drawn = [nx.gnp_random_graph(6 + i % 5, 0.4, seed=i) for i in range(count)]
    return [
        Data(x=torch.randn(len(graph), features, generator=torch.Generator().manual_seed(i)), edge_index=edges_of(graph))
        for i, graph in enumerate(drawn)
    ]


def _alternating(count: int) -> tuple[list[Data], np.ndarray]:
    """Even cycles; every fourth alternates between two classes, the others change once."""
    y = (np.arange(count) % 4 == 0).astype(int)
    graphs = []
    for i in range(count):
        n = 8 + 2 * (i % 5)
        side = torch.arange(n) % 2 if y[i] else torch.arange(n) // (n // 2)
        graphs.append(Data(x=torch.nn.functional.one_hot(side, 2).float(), edge_index=edges_of(nx.cycle_graph(n))))
    return graphs, y


SMALL = {"hidden": 8, "width": 2, "depth": 3, "epochs": 15, "batch_size": 32}

SPECIMENS = {
    "RQGNN": Specimen(
        RQGNN,
        lambda: {
            "in_channels": 3,
            "hidden": 8,
            "width": 2,
            "depth": 3,
            "dropout": 0.1,
            "batch_norm": True,
            "normalize_rq": True,
            "train_filters": True,
        },
    ),
    "RQGNNDetector.fit": Specimen(
        lambda **options: RQGNNDetector(**options).fit(*_alternating(20)),
        lambda: (
            SMALL
            | {
                "dropout": 0.1,
                "normalize_rq": True,
                "beta": 0.9,
                "gamma": 1.0,
                "patience": 5,
                "learning_rate": 0.01,
                "validation_fraction": 0.4,
                "seed": 0,
            }
        ),
    ),
    "RQGNNDetector": Specimen(lambda y: RQGNNDetector(**SMALL).fit(_alternating(20)[0], y), lambda: {"y": _alternating(20)[1]}),
}


def _model(**options) -> RQGNN:
    torch.manual_seed(0)
    return RQGNN(3, 8, 2, 3, **options).eval()


def test_logits_do_not_depend_on_order_or_company():
    graphs, model = _graphs(5), _model()
    batch = Batch.from_data_list(graphs)
    together = model(batch.x, batch.edge_index, batch.batch)
    for data, logits in zip(graphs, together):
        zeros = torch.zeros(len(data.x), dtype=torch.long)
        torch.testing.assert_close(model(data.x, data.edge_index, zeros)[0], logits, atol=1e-5, rtol=1e-5)
        order = random_order(len(data.x))
        torch.testing.assert_close(model(data.x[order], relabelled(data.edge_index, order), zeros)[0], logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("normalize", [True, False])
def test_stored_quotients_give_the_same_logits(normalize):
    batch = Batch.from_data_list([RayleighQuotient(normalize)(data) for data in _graphs(4)])
    model = _model(normalize_rq=normalize)
    computed = model(batch.x, batch.edge_index, batch.batch)
    torch.testing.assert_close(model(batch.x, batch.edge_index, batch.batch, batch.rq), computed)


def test_every_filter_is_a_parameter_with_a_gradient_unless_frozen():
    batch = Batch.from_data_list(_graphs(6))
    for trained in (True, False):
        model = _model(train_filters=trained).train()
        model(batch.x, batch.edge_index, batch.batch).sum().backward()
        filters = dict(model.named_parameters())["filters.weight"]
        assert filters.shape == (2, 3, 3, 3)
        assert (filters.grad is not None) == trained
        if trained:
            assert (filters.grad.abs().sum(dim=(2, 3)) > 0).all()


def test_a_feature_that_is_absent_and_a_graph_of_one_node_are_finite():
    graphs = [Data(x=torch.tensor([[1.0, 0.0, 0.0]]), edge_index=torch.zeros(2, 0, dtype=torch.long)), *_graphs(2)]
    batch = Batch.from_data_list(graphs)
    model = _model().train()
    logits = model(batch.x, batch.edge_index, batch.batch)
    logits.sum().backward()
    assert torch.isfinite(logits).all()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_few_features_may_be_widened():
    model = RQGNN(3, 8, 2, 3, proj_channels=10)
    assert model.filters.weight.shape == (2, 3, 10, 10)


def test_features_of_another_length_are_refused():
    data = _graphs(1, features=4)[0]
    zeros = torch.zeros(len(data.x), dtype=torch.long)
    with pytest.raises(ValueError, match="x must have shape"):
        _model()(data.x, data.edge_index, zeros)
    with pytest.raises(ValueError, match="rq must have shape"):
        _model()(data.x[:, :3], data.edge_index, zeros, torch.zeros(1, 4))


def test_the_detector_finds_alternating_graphs_and_is_deterministic():
    graphs, y = _alternating(80)
    first, again = (RQGNNDetector(**SMALL | {"epochs": 30}, seed=1).fit(graphs[:60], y[:60]) for _ in range(2))
    np.testing.assert_array_equal(first.predict(graphs[60:]), y[60:])
    scores = first.decision_function(graphs[60:])
    np.testing.assert_array_equal(scores, again.decision_function(graphs[60:]))
    assert scores[y[60:] == 1].min() > scores[y[60:] == 0].max()
    assert clone(first).get_params() == first.get_params()


def test_graphs_without_features_are_told_by_degrees():
    graphs = [Data(edge_index=edges_of(nx.star_graph(6) if i % 3 == 0 else nx.cycle_graph(7)), num_nodes=7) for i in range(40)]
    y = np.array([i % 3 == 0 for i in range(40)])
    detector = RQGNNDetector(**SMALL).fit(graphs, y)
    np.testing.assert_array_equal(detector.predict([*graphs[:3], Data(edge_index=edges_of(nx.star_graph(9)), num_nodes=10)])[:3], [1, 0, 0])


def test_the_threshold_is_the_best_one():
    f1, threshold = best_threshold(np.array([0.1, 0.2, 0.8, 0.9]), np.array([0, 0, 1, 1]))
    assert f1 == 1
    assert 0.2 < threshold < 0.8
    rng = np.random.default_rng(0)
    for _ in range(20):
        y, scores = np.r_[0, 1, rng.integers(2, size=28)], rng.integers(12, size=30).astype(float)
        f1, threshold = best_threshold(scores, y)
        every = [f1_score(y, scores > level, average="macro", zero_division=0) for level in np.arange(-1.5, 13)]
        assert f1 == pytest.approx(max(every))
        assert f1_score(y, scores > threshold, average="macro", zero_division=0) == pytest.approx(f1)


def test_what_cannot_be_learned_from_is_refused():
    graphs, y = _alternating(20)
    with pytest.raises(ValueError, match="y must hold both classes"):
        RQGNNDetector(**SMALL).fit(graphs, np.zeros(20))
    with pytest.raises(ValueError, match="y must be made of zeros and ones"):
        RQGNNDetector(**SMALL).fit(graphs, np.arange(20))
    with pytest.raises(ValueError, match="finite features"):
        RQGNNDetector(**SMALL).fit([Data(x=graphs[0].x * float("nan"), edge_index=graphs[0].edge_index), *graphs[1:]], y)
    with pytest.raises(ValueError, match="of one length"):
        RQGNNDetector(**SMALL).fit([*graphs[:-1], Data(x=torch.ones(3, 5), edge_index=graphs[0].edge_index[:, :0])], y)
    with pytest.raises(NotFittedError):
        RQGNNDetector().predict(graphs)
