"""HyperDrop keeps the right number of edges and learns from them; HyperCluster assigns edges and gives them back."""

import math

import networkx as nx
import pytest
import torch
from graphs.invariances import edges_of, random_order, relabelled
from specimens import Specimen
from torch_geometric.nn import HypergraphConv
from torch_geometric.utils import to_dense_batch

from ritz.graphs import HyperCluster, HyperDrop, dual_hypergraph

SIZES = (6, 11, 1)
BATCH = torch.tensor([0] * 7 + [1] * 8 + [2] * 2 + [3])


def _graphs() -> torch.Tensor:
    """Graphs of 6, 11, 1 and no undirected edges, both orientations."""
    parts = [nx.gnm_random_graph(7, SIZES[0], seed=1), nx.gnm_random_graph(8, SIZES[1], seed=2), nx.path_graph(2), nx.empty_graph(1)]
    return torch.cat([edges_of(graph) + start for graph, start in zip(parts, (0, 7, 15, 17))], dim=1)


EDGES = _graphs()
HALF = EDGES[:, EDGES[0] < EDGES[1]]


def _features(channels: int = 3, symmetric: bool = False) -> torch.Tensor:
    E = torch.randn(EDGES.shape[1], channels, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    if symmetric:
        _, pair = torch.unique(EDGES.sort(0).values, dim=1, return_inverse=True)
        E = E[pair]
    return E


def _cluster(**options) -> tuple[HyperCluster, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return (HyperCluster(6, options.pop("num_clusters", 4), **options).double(), *dual_hypergraph(HALF, BATCH))


def _half_features() -> torch.Tensor:
    return torch.randn(HALF.shape[1], 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


SPECIMENS = {
    "HyperDrop": Specimen(
        lambda edge_channels, ratio, **options: HyperDrop(edge_channels, ratio, **options),
        lambda: {
            "edge_channels": 3,
            "ratio": 0.5,
            "min_edges": 2,
            "nonlinearity": "tanh",
            "undirected": True,
            "min_weight": 0.1,
            "drop_in_eval": True,
        },
        accepts={"min_edges": ("none",)},
    ),
    "HyperDrop.forward": Specimen(
        lambda **tensors: HyperDrop(3).double()(**tensors),
        lambda: {"edge_index": EDGES, "edge_attr": _features(), "batch": BATCH},
    ),
    "HyperCluster": Specimen(
        HyperCluster,
        lambda: {"edge_channels": 6, "num_clusters": 3, "heads": 2, "layer_norm": True, "cluster_softmax": False},
    ),
    "HyperCluster.forward": Specimen(
        lambda **tensors: HyperCluster(6, 3).double()(**tensors),
        lambda: {"edge_attr": _half_features(), **dict(zip(("hyperedge_index", "edge_batch"), dual_hypergraph(HALF, BATCH)))},
    ),
}


@pytest.mark.parametrize("ratio", [0.05, 0.5, 0.65, 0.8, 1.0])
@pytest.mark.parametrize("undirected", [False, True])
def test_each_graph_keeps_its_share_of_edges(ratio, undirected):
    torch.manual_seed(0)
    kept, attributes, weights, perm = HyperDrop(3, ratio, undirected=undirected).double()(EDGES, _features(), BATCH)
    sizes = SIZES if undirected else [2 * size for size in SIZES]
    expected = [math.ceil(ratio * size) * (2 if undirected else 1) for size in sizes]
    assert torch.bincount(BATCH[kept[0]], minlength=4).tolist() == [*expected, 0]
    assert torch.equal(kept, EDGES[:, perm])
    assert torch.equal(attributes, _features()[perm])
    assert torch.all(perm.diff() > 0)
    assert weights.shape == perm.shape
    if undirected:
        assert sorted(kept.T.tolist()) == sorted(kept.flip(0).T.tolist())


def test_a_share_that_is_whole_but_for_rounding_is_not_rounded_up():
    path = edges_of(nx.path_graph(101))
    assert 0.07 * 100 > 7
    assert HyperDrop(1, 0.07)(path, torch.randn(200, 1))[0].shape == (2, 14)


@pytest.mark.parametrize("undirected", [False, True])
def test_the_edges_of_largest_score_are_kept(undirected):
    torch.manual_seed(0)
    layer, E = HyperDrop(3, 0.5, undirected=undirected).double(), _features(symmetric=undirected)
    score = torch.tanh(layer.score_conv(E, dual_hypergraph(EDGES, BATCH)[0]).squeeze(-1))
    _, _, weights, perm = layer(EDGES, E, BATCH)
    torch.testing.assert_close(weights, score[perm].clamp(0, 1))
    dropped = torch.ones(len(score), dtype=torch.bool).index_fill(0, perm, False)
    for graph in range(2):
        own = BATCH[EDGES[0]] == graph
        assert score[perm][own[perm]].min() >= score[own & dropped].max() - 1e-12


def test_all_edges_are_kept_at_ratio_one_with_clamped_scores():
    torch.manual_seed(0)
    layer = HyperDrop(3, 1).double()
    kept, _, weights, perm = layer(EDGES, _features(), BATCH)
    score = torch.tanh(HypergraphConv.forward(layer.score_conv, _features(), dual_hypergraph(EDGES, BATCH)[0])).squeeze(-1)
    assert torch.equal(kept, EDGES)
    assert torch.equal(perm, torch.arange(EDGES.shape[1]))
    assert torch.equal(weights, score.clamp(0, 1))
    assert (weights == 0).any()


def test_a_dual_at_hand_changes_nothing():
    layer = HyperDrop(3, 0.5).double()
    for alone, given in zip(layer(EDGES, _features(), BATCH), layer(EDGES, _features(), BATCH, dual=dual_hypergraph(EDGES, BATCH))):
        assert torch.equal(alone, given)


def test_order_of_nodes_and_edges_does_not_matter():
    torch.manual_seed(0)
    layer, E = HyperDrop(3, 0.5).double(), _features()
    nodes = torch.cat([random_order(7, 1), random_order(8, 2) + 7, torch.tensor([16, 15, 17])])
    edges = random_order(EDGES.shape[1], 3)
    kept, _, weights, perm = layer(EDGES, E, BATCH)
    permuted, _, permuted_weights, permuted_perm = layer(relabelled(EDGES, nodes)[:, edges], E[edges], BATCH[nodes])
    places = edges[permuted_perm].argsort()
    assert torch.equal(edges[permuted_perm][places], perm)
    assert torch.equal(nodes[permuted][:, places], kept)
    torch.testing.assert_close(permuted_weights[places], weights, rtol=0, atol=1e-12)


def test_ties_between_orientations_keep_both_unless_they_are_ranked_apart():
    """Three edges of one path, all alike at its ends: 3 of 6 orientations cannot come in pairs."""
    path, E = edges_of(nx.path_graph(4)), torch.ones(6, 1)
    together, *_ = HyperDrop(1, 0.5)(path, E)
    apart, *_ = HyperDrop(1, 0.5, undirected=False)(path, E)
    assert sorted(together.T.tolist()) == sorted(together.flip(0).T.tolist())
    assert apart.shape[1] == 3


def test_gradient_reaches_the_scores_through_the_weights():
    torch.manual_seed(0)
    layer = HyperDrop(3, 0.5).double()
    weights = layer(EDGES, _features(), BATCH)[2]
    weights.sum().backward()
    assert layer.score_conv.lin.weight.grad.abs().sum() > 0


def test_variants_for_nodes_keep_edges_in_evaluation_and_weights_above_zero():
    torch.manual_seed(0)
    layer = HyperDrop(3, 0.5, min_weight=1e-4, drop_in_eval=False).double()
    assert layer(EDGES, _features(), BATCH)[0].shape[1] < EDGES.shape[1]
    kept, _, weights, _ = layer.eval()(EDGES, _features(), BATCH)
    assert torch.equal(kept, EDGES)
    assert weights.min() == 1e-4


def test_options_of_scores():
    layer = HyperDrop(3, 0.1, min_edges=4, nonlinearity="sigmoid", score_conv=HypergraphConv(3, 1, bias=False)).double()
    kept, _, weights, _ = layer(EDGES, _features(), BATCH)
    assert torch.bincount(BATCH[kept[0]], minlength=4).tolist() == [8, 8, 2, 0]
    assert layer.score_conv.bias is None
    assert torch.all(weights > 0)


def test_no_edges_are_pooled_to_none():
    none = torch.empty(2, 0, dtype=torch.long)
    kept, attributes, weights, perm = HyperDrop(3)(none, torch.empty(0, 3), torch.zeros(4, dtype=torch.long))
    assert (kept.shape, attributes.shape, weights.shape, perm.shape) == ((2, 0), (0, 3), (0,), (0,))
    cluster = HyperCluster(6, 3)
    pooled, attention = cluster(torch.empty(0, 6), none, none[0], batch_size=2)
    assert (pooled.shape, attention.shape) == ((2, 3, 6), (2, 3, 0))
    assert cluster.unpool(pooled, attention, torch.ones(2, 0, dtype=torch.bool)).shape == (0, 6)


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("num_clusters", [2, 20])
@pytest.mark.parametrize("cluster_softmax", [True, False])
def test_weights_sum_to_one_and_padding_gets_none(cluster_softmax, num_clusters, heads):
    cluster, hyperedge_index, edge_batch = _cluster(cluster_softmax=cluster_softmax, num_clusters=num_clusters, heads=heads)
    _, mask = to_dense_batch(_half_features(), edge_batch, batch_size=4)
    pooled, attention = cluster(_half_features(), hyperedge_index, edge_batch, batch_size=4)
    assert pooled.shape == (4, num_clusters, 6)
    assert attention.shape == (4, num_clusters, 11)
    assert torch.all(attention.transpose(1, 2)[~mask] == 0)
    sums = attention.sum(1)[mask] if cluster_softmax else attention.sum(2)[mask.any(1)]
    torch.testing.assert_close(sums, torch.ones_like(sums))
    assert cluster.unpool(pooled, attention, mask).shape == (HALF.shape[1], 6)


@pytest.mark.parametrize("options", [{}, {"heads": 2, "layer_norm": True}, {"cluster_softmax": False}])
def test_clustering_is_the_attention_it_says(options):
    """Graph by graph, head by head, against the formulas."""
    cluster, hyperedge_index, edge_batch = _cluster(**options)
    E = _half_features()
    pooled, attention = cluster(E, hyperedge_index, edge_batch, batch_size=4)
    mask = to_dense_batch(E, edge_batch, batch_size=4)[1]
    unpooled, heads = cluster.unpool(pooled, attention, mask), options.get("heads", 1)
    for graph in range(3):
        own = edge_batch == graph
        K, V = cluster.key(E, hyperedge_index)[own], cluster.value(E, hyperedge_index)[own]
        parts = [part.chunk(heads, -1) for part in (cluster.query(cluster.queries), K, V)]
        A = [torch.softmax(q @ k.T / 6**0.5, 0 if options.get("cluster_softmax", True) else 1) for q, k in zip(*parts[:2])]
        O = cluster.norms[0](torch.cat([q + a @ v for q, a, v in zip(parts[0], A, parts[2])], -1))
        O = cluster.norms[1](O + torch.relu(cluster.out(O)))
        torch.testing.assert_close(pooled[graph], O)
        torch.testing.assert_close(attention[graph][:, mask[graph]], sum(A) / heads)
        torch.testing.assert_close(unpooled[own], (sum(A) / heads).T @ O)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"edge_attr": torch.zeros(5, 3)}, "edge_attr must have shape"),
        ({"edge_attr": torch.full((EDGES.shape[1], 3), torch.nan)}, "edge_attr must be finite"),
        ({"edge_index": HALF, "edge_attr": torch.zeros(HALF.shape[1], 3)}, "both orientations"),
        ({"edge_index": EDGES[:, 1:], "edge_attr": torch.zeros(EDGES.shape[1] - 1, 3)}, "both orientations"),
    ],
)
def test_edges_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        HyperDrop(3)(**({"edge_index": EDGES, "edge_attr": torch.zeros(EDGES.shape[1], 3), "batch": BATCH} | arguments))


def test_options_and_clusters_that_do_not_fit_are_refused():
    for ratio in (0, -0.5, 1.5):
        with pytest.raises(ValueError, match="ratio"):
            HyperDrop(3, ratio)
    with pytest.raises(TypeError, match="score_conv"):
        HyperDrop(3, score_conv=3)
    with pytest.raises(ValueError, match="heads must divide"):
        HyperCluster(6, 2, heads=4)
    cluster, hyperedge_index, edge_batch = _cluster()
    with pytest.raises(ValueError, match="edge_batch"):
        cluster(_half_features(), hyperedge_index, edge_batch.flip(0))
    pooled, attention = cluster(_half_features(), hyperedge_index, edge_batch)
    with pytest.raises(ValueError, match="mask"):
        cluster.unpool(pooled, attention, torch.ones(3, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="attention"):
        cluster.unpool(pooled, attention[:, 1:], torch.ones(3, 11, dtype=torch.bool))
