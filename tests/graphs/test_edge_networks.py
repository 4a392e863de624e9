"""Networks on edges: the classifiers are the layers they say, indifferent to order and company; the autoencoder gives back what it was given."""

import networkx as nx
import pytest
import torch
from graphs.invariances import edges_of, random_order, relabelled
from specimens import Specimen
from torch.nn import functional as F
from torch_geometric.nn import GCNConv

from ritz.graphs import EdgeAutoencoder, EHGNNClassifier, HyperDropGCN, dual_hypergraph

FIRST, SECOND = edges_of(nx.gnm_random_graph(8, 13, seed=3)), edges_of(nx.gnm_random_graph(6, 7, seed=4))
EDGES = torch.cat([FIRST, SECOND + 8], 1)
BATCH = torch.tensor([0] * 8 + [1] * 6 + [2])
X = torch.randn(15, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
E = torch.randn(40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

SPECIMENS = {
    "EHGNNClassifier": Specimen(
        lambda in_channels, edge_channels, **options: EHGNNClassifier(in_channels, edge_channels, **options),
        lambda: {
            "in_channels": 4,
            "edge_channels": 3,
            "num_classes": 2,
            "hidden": 8,
            "num_layers": 3,
            "ratio": 0.5,
            "dropout": 0.1,
            "undirected": True,
        },
    ),
    "EHGNNClassifier.forward": Specimen(
        lambda **tensors: EHGNNClassifier(4, 3, num_classes=2, hidden=8).double()(**tensors),
        lambda: {"x": X, "edge_index": EDGES, "edge_attr": E, "batch": BATCH},
    ),
    "HyperDropGCN": Specimen(
        lambda in_channels, **options: HyperDropGCN(in_channels, **options),
        lambda: {"in_channels": 4, "num_classes": 2, "hidden": 8, "num_layers": 3, "ratio": 0.5, "dropout": 0.1, "undirected": True},
    ),
    "HyperDropGCN.forward": Specimen(
        lambda **tensors: HyperDropGCN(4, num_classes=2, hidden=8).double()(**tensors),
        lambda: {"x": X, "edge_index": EDGES},
    ),
    "EdgeAutoencoder": Specimen(
        lambda edge_channels, **options: EdgeAutoencoder(edge_channels, **options),
        lambda: {
            "edge_channels": 3,
            "average_edges": 20.0,
            "hidden": 6,
            "ratio": 0.2,
            "num_layers": 1,
            "heads": 2,
            "layer_norm": False,
            "cluster_softmax": True,
        },
    ),
    "EdgeAutoencoder.forward": Specimen(
        lambda **tensors: EdgeAutoencoder(3, average_edges=20.0).double()(**tensors),
        lambda: {"edge_attr": E, "edge_index": EDGES, "batch": BATCH},
    ),
}


def _classifier(**options) -> EHGNNClassifier:
    torch.manual_seed(0)
    return EHGNNClassifier(4, 3, num_classes=2, hidden=8, **({"ratio": 0.5} | options)).double().eval()


def _autoencoder(**options) -> EdgeAutoencoder:
    torch.manual_seed(0)
    return EdgeAutoencoder(3, average_edges=20, **({"ratio": 0.2} | options)).double()


def test_the_classifier_is_convolutions_drops_and_readouts():
    network = _classifier(num_layers=2)
    x = F.relu(network.convs[0](X[:8], FIRST))
    read = torch.cat([x.max(0).values, x.mean(0), x.sum(0)])
    e = F.relu(network.edge_convs[0](E[:26], dual_hypergraph(FIRST)[0]))
    edges, _, weights, perm = network.drops[0](FIRST, e)
    assert len(perm) == 14
    x = F.relu(network.convs[1](x, edges, weights))
    read = read + torch.cat([x.max(0).values, x.mean(0), x.sum(0)])
    torch.testing.assert_close(network(X[:8], FIRST, E[:26])[0], network.classify(read))


def test_the_classifier_is_indifferent_to_order_and_company():
    network = _classifier()
    together = network(X, EDGES, E, BATCH)
    torch.testing.assert_close(network(X[:8], FIRST, E[:26]), together[:1])
    nodes, edges = random_order(8), random_order(26, 1)
    torch.testing.assert_close(network(X[:8][nodes], relabelled(FIRST, nodes)[:, edges], E[:26][edges]), together[:1])


def test_graphs_without_edges_are_classified():
    none = torch.empty(2, 0, dtype=torch.long)
    network = _classifier()
    alone = network(X[14:], none, torch.empty(0, 3, dtype=torch.float64))
    assert torch.isfinite(alone).all()
    torch.testing.assert_close(network(X, EDGES, E, BATCH)[2:], alone)


def test_edges_are_ones_where_there_are_no_features():
    torch.manual_seed(0)
    network = EHGNNClassifier(4, 1, num_classes=2, hidden=8).double().eval()
    assert torch.equal(network(X, EDGES, batch=BATCH), network(X, EDGES, torch.ones(40, 1, dtype=torch.float64), BATCH))


def test_every_parameter_of_the_classifiers_learns():
    torch.manual_seed(0)
    for network, outputs in [
        (graphs := _classifier().train(), graphs(X, EDGES, E, BATCH)),
        (nodes := HyperDropGCN(4, num_classes=3, hidden=8, num_layers=8, dropout=0.0).double(), nodes(X, EDGES)),
    ]:
        outputs.square().sum().backward()
        assert [name for name, p in network.named_parameters() if p.grad is None] == []
        assert all(drop.score_conv.lin.weight.grad.abs().sum() > 0 for drop in _drops(network))


def _drops(network) -> list:
    return [drop for name, drop in network.named_modules() if type(drop).__name__ == "HyperDrop"]


def test_the_network_for_nodes_drops_in_the_second_of_four_layers():
    network = HyperDropGCN(4, num_classes=3, hidden=8, num_layers=8).double()
    assert list(network.drops) == ["1", "5"]
    seen = []
    for conv in network.convs:
        conv.register_forward_hook(lambda _, inputs, __: seen.append((inputs[1].shape[1], inputs[2])))
    network(X, EDGES)
    assert [count for count, _ in seen] == [40] * 2 + [32] * 4 + [26] * 2
    assert seen[1][1] is None
    assert all(weights.detach().min() >= 1e-4 and weights.detach().max() <= 1 for _, weights in seen[2:])
    seen.clear()
    network.eval()(X, EDGES)
    assert [count for count, _ in seen] == [40] * 8
    assert seen[-1][1].shape == (40,)


def test_the_network_for_nodes_begins_with_the_features_of_the_ends():
    torch.manual_seed(0)
    network = HyperDropGCN(4, num_classes=3, hidden=8, num_layers=3).double().eval()
    x = F.relu(network.convs[0](X, EDGES))
    e = torch.cat([x[EDGES[0]], x[EDGES[1]]], dim=1)
    for conv in network.edge_convs:
        e = F.relu(conv(e, dual_hypergraph(EDGES)[0]))
    weights = network.drops["1"](EDGES, e)[2]
    x = F.relu(network.convs[1](x, EDGES))
    assert isinstance(network.convs[2], GCNConv)
    torch.testing.assert_close(network(X, EDGES), network.convs[2](x, EDGES, weights))


@pytest.mark.parametrize("options", [{}, {"heads": 2, "layer_norm": True}, {"cluster_softmax": False, "num_layers": 1}])
def test_the_autoencoder_is_indifferent_to_company_and_orientation(options):
    network = _autoencoder(**options)
    assert network.pool.queries.shape[0] == 4
    together = network(E, EDGES, BATCH)
    assert together.shape == E.shape
    torch.testing.assert_close(network(E[26:], SECOND), together[26:])
    torch.testing.assert_close(network(E, EDGES.flip(0), BATCH), together)
    pooled, attention = network.encode(E, EDGES, BATCH)
    assert pooled.shape == (3, 4, 32)
    assert torch.equal(network.decode(pooled, attention, EDGES, BATCH), together)


def test_the_autoencoder_of_no_edges_is_empty():
    none = torch.empty(2, 0, dtype=torch.long)
    assert _autoencoder()(torch.empty(0, 3, dtype=torch.float64), none).shape == (0, 3)
    assert _autoencoder()(torch.empty(0, 3, dtype=torch.float64), none, BATCH).shape == (0, 3)


def test_the_autoencoder_learns_the_types_of_a_path():
    torch.manual_seed(0)
    types = torch.tensor([0, 1, 2, 1, 0, 2, 2, 0])
    network = EdgeAutoencoder(3, average_edges=8, ratio=0.5, hidden=16)
    path = torch.stack([torch.arange(8), torch.arange(1, 9)])
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        F.cross_entropy(network(F.one_hot(types, 3).float(), path), types).backward()
        optimizer.step()
    assert torch.equal(network(F.one_hot(types, 3).float(), path).argmax(-1), types)


def test_input_that_does_not_fit_is_refused():
    network = _classifier()
    with pytest.raises(ValueError, match="edge_attr must have shape"):
        network(X, EDGES, batch=BATCH)
    with pytest.raises(ValueError, match="x must have shape"):
        network(X[:, 1:], EDGES, E, BATCH)
    with pytest.raises(ValueError, match="x must be finite"):
        network(X * torch.nan, EDGES, E, BATCH)
    with pytest.raises(ValueError, match="batch must have shape"):
        network(X, EDGES, E, BATCH.repeat(2))
    with pytest.raises(ValueError, match="num_layers"):
        HyperDropGCN(4, num_classes=2, num_layers=2)
    with pytest.raises(ValueError, match="heads must divide hidden"):
        _autoencoder(heads=5)
