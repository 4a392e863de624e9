"""GRIT's layer is its formula, in lists of pairs as in padded tensors; the network is as strong as its encodings."""

import networkx as nx
import pytest
import torch
from graphs.invariances import bicyclopentyl, decalin, edges_of, random_order, relabelled, rook, shrikhande, two_triangles
from specimens import Specimen
from torch_geometric.data import Batch, Data

from ritz.graphs import AddRRWP, Grit, GritLayer
from ritz.graphs.grit import signed_root

SPECIMENS = {
    "GritLayer": Specimen(
        lambda dim, heads, **options: GritLayer(dim, heads, **options),
        lambda: {
            "dim": 6,
            "heads": 2,
            "dropout": 0.1,
            "attn_dropout": 0.1,
            "norm": "batch",
            "clamp": 5.0,
            "update_edges": True,
            "edge_enhance": True,
            "degree_scaler": True,
            "act": "relu",
        },
    ),
    "Grit": Specimen(
        lambda **options: Grit(**options),
        lambda: {
            "in_channels": 2,
            "edge_channels": 2,
            "dim": 6,
            "num_layers": 1,
            "heads": 2,
            "walk_length": 3,
            "out_channels": 2,
            "level": "node",
            "pooling": "mean",
            "full_attention": True,
            "mlp_head_layers": 1,
            "dropout": 0.1,
            "attn_dropout": 0.1,
            "norm": "layer",
        },
        accepts={"in_channels": ("none",), "edge_channels": ("none",)},
    ),
}


def _layer(**options) -> GritLayer:
    torch.manual_seed(0)
    layer = GritLayer(6, 2, **options).double().eval()
    for norm in layer.modules():
        if isinstance(norm, torch.nn.BatchNorm1d):
            torch.nn.init.normal_(norm.running_mean)
            torch.nn.init.uniform_(norm.running_var, 0.5, 2)
    return layer


def _all_pairs(n: int) -> torch.Tensor:
    return torch.cartesian_prod(torch.arange(n), torch.arange(n)).T


def _by_the_formula(layer: GritLayer, x, pair_index, pair_attr, log_deg):
    heads, width = layer.heads, layer.dim // layer.heads
    new_pairs, received = torch.zeros_like(pair_attr), torch.zeros_like(x)
    for h in range(heads):
        part = slice(h * width, (h + 1) * width)
        logits = {}
        for p, (j, i) in enumerate(pair_index.T.tolist()):
            both = layer.pair(pair_attr[p])
            s = (layer.query(x[i]) + layer.key(x[j]))[part] * both[: layer.dim][part]
            s = torch.relu(signed_root(s) + both[layer.dim :][part])
            new_pairs[p, part] = s
            logits[p] = (s @ layer.logit[h]).clamp(-layer.clamp, layer.clamp)
        for i in range(len(x)):
            own = [p for p in logits if pair_index[1, p] == i]
            weights = torch.softmax(torch.stack([logits[p] for p in own]), 0)
            for w, p in zip(weights, own):
                extra = 0 if layer.enhance is None else new_pairs[p, part] @ layer.enhance[h]
                received[i, part] += w * (layer.value(x[pair_index[0, p]])[part] + extra)
    if layer.scaler is not None:
        received = received * layer.scaler[0] + received * log_deg[:, None] * layer.scaler[1]
    h = layer.norms[0](x + layer.out(received))
    h = layer.norms[1](h + layer.mix(h))
    return h, pair_attr if layer.pair_out is None else layer.pair_norm(pair_attr + layer.pair_out(new_pairs))


@pytest.mark.parametrize("options", [{}, {"norm": "layer"}, {"update_edges": False, "edge_enhance": False, "degree_scaler": False}, {"clamp": 0.1}])
def test_lists_and_padded_tensors_equal_loops_over_pairs(options):
    layer = _layer(**options)
    x, log_deg = torch.randn(5, 6, dtype=torch.float64), torch.rand(5, dtype=torch.float64)
    index = _all_pairs(5)
    pairs = torch.randn(25, 6, dtype=torch.float64)
    expected = _by_the_formula(layer, x, index, pairs, log_deg)
    for found, wanted in zip(layer(x, index, pairs, log_deg), expected):
        torch.testing.assert_close(found, wanted, atol=1e-10, rtol=1e-10)
    nodes = torch.tensor([[True] * 5 + [False] * 2])
    padded = torch.zeros(1, 7, 7, 6, dtype=torch.float64)
    padded[0, index[1], index[0]] = pairs
    wide = [torch.nn.functional.pad(part[None], (0, 0, 0, 2)) for part in (x, log_deg[:, None])]
    h, e = layer.dense(wide[0], padded, nodes, wide[1].squeeze(-1))
    torch.testing.assert_close(h[0, :5], expected[0], atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(e[0, index[1], index[0]], expected[1], atol=1e-10, rtol=1e-10)
    assert torch.all(h[0, 5:] == 0)


def test_order_of_nodes_and_pairs_does_not_matter():
    layer = _layer()
    x, log_deg, pairs = torch.randn(5, 6, dtype=torch.float64), torch.rand(5, dtype=torch.float64), torch.randn(25, 6, dtype=torch.float64)
    index, order = _all_pairs(5), random_order(5)
    h, e = layer(x, index, pairs, log_deg)
    shuffled = random_order(25, seed=1)
    permuted, moved = layer(x[order], relabelled(index, order)[:, shuffled], pairs[shuffled], log_deg[order])
    torch.testing.assert_close(permuted, h[order])
    torch.testing.assert_close(moved, e[shuffled])


def test_silent_pairs_give_the_mean_and_the_scaler_may_be_the_identity():
    layer = _layer(edge_enhance=False)
    torch.nn.init.zeros_(layer.pair.weight)
    torch.nn.init.zeros_(layer.pair.bias)
    with torch.no_grad():
        layer.scaler.copy_(torch.stack([torch.ones(6), torch.zeros(6)]))
    x = torch.randn(5, 6, dtype=torch.float64)
    mean = layer.value(x).mean(0, keepdim=True).expand(5, -1)
    h = layer.norms[0](x + layer.out(mean))
    expected = layer.norms[1](h + layer.mix(h))
    found, _ = layer(x, _all_pairs(5), torch.randn(25, 6, dtype=torch.float64), torch.rand(5, dtype=torch.float64))
    torch.testing.assert_close(found, expected)


def test_logits_are_clamped_and_gradients_finite_at_zero():
    layer = _layer(clamp=0.5)
    with torch.no_grad():
        layer.logit.mul_(1e3)
    _, logits = layer._attended(torch.randn(40, 2, 3, dtype=torch.float64), torch.randn(40, 6, dtype=torch.float64))
    assert logits.abs().max() <= 0.5
    assert signed_root(torch.tensor([4.0, 0.0, -9.0])).tolist() == pytest.approx([2, 0, -3], abs=2e-4)
    layer = _layer().train()
    x, pairs = torch.zeros(5, 6, dtype=torch.float64, requires_grad=True), torch.zeros(25, 6, dtype=torch.float64, requires_grad=True)
    sum(part.square().sum() for part in layer(x, _all_pairs(5), pairs, torch.rand(5, dtype=torch.float64))).backward()
    assert torch.isfinite(x.grad).all()
    assert torch.isfinite(pairs.grad).all()


def _data(graph: nx.Graph, K: int = 6) -> Data:
    data = AddRRWP(K)(Data(edge_index=edges_of(graph), num_nodes=len(graph)))
    for name in ("rrwp", "rrwp_val", "log_deg"):
        data[name] = data[name].double()
    return data


def _network(**options) -> Grit:
    torch.manual_seed(0)
    return Grit(dim=8, num_layers=2, heads=2, walk_length=6, out_channels=3, mlp_head_layers=0, **options).double().eval()


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("level", ["graph", "node"])
def test_networks_are_indifferent_to_company_and_order(level, full):
    network = _network(level=level, full_attention=full, node_types=3, edge_channels=2)
    graphs = []
    for i, graph in enumerate((nx.path_graph(4), nx.karate_club_graph(), nx.cycle_graph(5))):
        data, generator = _data(graph), torch.Generator().manual_seed(i)
        data.x = torch.randint(0, 3, (len(graph),), generator=generator)
        data.edge_attr = torch.randn(data.num_edges, 2, generator=generator, dtype=torch.float64)
        graphs.append(data)
    alone = torch.cat([network(data) for data in graphs])
    torch.testing.assert_close(network(Batch.from_data_list(graphs)), alone)
    order = random_order(5)
    data = graphs[2].clone()
    data.x, data.rrwp, data.log_deg = data.x[order], data.rrwp[order], data.log_deg[order]
    data.edge_index, data.rrwp_index = relabelled(data.edge_index, order), relabelled(data.rrwp_index, order)
    expected = network(graphs[2])
    torch.testing.assert_close(network(data), expected if level == "graph" else expected[order])


def test_full_attention_with_all_pairs_joined_equals_the_list_of_pairs():
    graph = nx.complete_graph(5)
    dense, listed = _network(), _network(full_attention=False)
    torch.testing.assert_close(dense(_data(graph)), listed(_data(graph)))


def test_alike_nodes_stay_alike_and_degrees_are_counted():
    for graph in (nx.cycle_graph(7), nx.complete_graph(5)):
        outputs = _network(level="node")(_data(graph))
        torch.testing.assert_close(outputs, outputs[:1].expand_as(outputs))
    network = _network()
    results = []
    for graph in (nx.disjoint_union(nx.complete_graph(4), nx.complete_graph(4)), nx.complete_graph(8)):
        data = _data(graph)
        data.rrwp, data.rrwp_val = torch.zeros_like(data.rrwp), torch.zeros_like(data.rrwp_val)
        with torch.no_grad():
            for linear in (network.own, network.relative):
                linear.weight.fill_(1.0)
        for layer in network.layers:
            torch.nn.init.normal_(layer.norms[0].running_mean, generator=torch.Generator().manual_seed(0))
        results.append(network(data))
    assert (results[0] - results[1]).abs().max() > 1e-6


@pytest.mark.parametrize(("first", "second"), [(nx.cycle_graph(6), two_triangles()), (decalin(), bicyclopentyl())])
def test_what_colour_refinement_confuses_is_told_apart(first, second):
    network = _network()
    outputs = [network(_data(graph)) for graph in (first, second)]
    assert (outputs[0] - outputs[1]).norm() > 1e-4 * outputs[0].norm()


def test_strongly_regular_graphs_are_not():
    network = _network()
    outputs = [network(_data(graph)) for graph in (rook(), shrikhande())]
    assert (outputs[0] - outputs[1]).abs().max() < 1e-9


def test_missing_encodings_name_the_transform_and_odd_options_are_refused():
    with pytest.raises(ValueError, match=r"apply AddRRWP\(6\) first"):
        _network()(Data(edge_index=torch.zeros(2, 0, dtype=torch.long), num_nodes=2))
    with pytest.raises(ValueError, match="must have 6 columns, got 4"):
        _network()(_data(nx.path_graph(3), 4))
    with pytest.raises(ValueError, match="heads must divide dim"):
        GritLayer(6, 4)
    with pytest.raises(ValueError, match="pair_attr must have shape"):
        GritLayer(6, 2)(torch.ones(3, 6), _all_pairs(3), torch.ones(8, 6), torch.ones(3))
