"""SPEN equals its plain form, ego network by ego network, is indifferent to order, and sees what its ego networks show."""

import networkx as nx
import pytest
import torch
from graphs.invariances import bicyclopentyl, decalin, edges_of, random_order, relabelled, two_triangles
from specimens import Specimen
from torch_geometric.data import Batch, Data

from ritz.graphs import SPEN, EgoBatch, SPENConv, ego_networks, equivariant_basis, whole_graphs
from ritz.graphs.spen import normalized_adjacency

PATH = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
DOUBLE = torch.float64
TOLERANCES = [(torch.float32, 1e-5), (torch.float64, 1e-10)]
SOME = {"size_buckets": (2, 3, 5)}

SPECIMENS = {
    "SPENConv": Specimen(
        SPENConv,
        lambda: {"in_reps": {2: 2}, "out_reps": {2: 3}, "k": 1, "size_buckets": [2, 3], "bias": True, "strict_sizes": True},
        spare=frozenset({"in_reps", "out_reps"}),
    ),
    "SPEN": Specimen(
        SPEN,
        lambda: {"in_channels": 3, "hidden": 4, "num_classes": 2, "num_layers": 2, "k": 1, "dropout": 0.1, "edge_dim": 2, "strict_sizes": False},
        accepts={"edge_dim": ("none",)},
    ),
    "SPEN.forward": Specimen(
        lambda **data: SPEN(3, 4, num_classes=2, num_layers=2, edge_dim=2)(**data),
        lambda: {"x": torch.ones(3, 3), "edge_index": PATH.clone(), "edge_attr": torch.ones(4, 2), "batch": torch.tensor([0, 0, 0])},
        spare=frozenset({"batch"}),
        accepts={"edge_attr": ("integers",), "x": ("integers",)},
    ),
}


def _shaken(module: torch.nn.Module) -> torch.nn.Module:
    """The module with random biases as well."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return module.eval()


def _random_graph(n: int = 9, seed: int = 3) -> torch.Tensor:
    return edges_of(nx.gnp_random_graph(n, 0.3, seed=seed))


def _features(egos, reps, dtype=DOUBLE) -> dict[int, torch.Tensor]:
    rows = {2: egos.pairs.shape[1], 1: egos.num_nodes}
    return {order: torch.randn(rows[order], channels, dtype=dtype) for order, channels in reps.items()}


def _plain(conv: SPENConv, features, egos) -> dict[int, torch.Tensor]:
    """Every map of the basis on every ego network, one after the other, then the means."""
    outputs = {order: [] for order in conv.out_reps}
    for in_order, T in features.items():
        layer = conv.maps[str(in_order)]
        for order, channels in conv.out_reps.items():
            rows = {2: egos.pairs.shape[1], 1: egos.num_nodes, 0: len(egos.sizes)}[order]
            total, count = T.new_zeros(rows, channels), T.new_zeros(rows, 1)
            for m, group in egos.groups().items():
                bucket = 0 if conv.size_buckets is None else min(range(len(conv.size_buckets)), key=lambda b: abs(conv.size_buckets[b] - m))
                for ego, nodes, pairs in zip(*group):
                    dense = T[pairs if in_order == 2 else nodes].movedim(-1, 0)
                    images = torch.stack([function(dense) for function in equivariant_basis(in_order, order, m)])
                    image = torch.einsum("cob,bc...->...o", layer.theta[str(order)][bucket], images)
                    if conv.maps[str(in_order)].bias:
                        bias = layer.bias[str(order)][bucket]
                        image = image + (bias[0] + torch.eye(m, dtype=T.dtype)[..., None] * bias[1] if order == 2 else bias[0])
                    index = {2: pairs, 1: nodes, 0: ego}[order].reshape(-1)
                    total = total.index_add(0, index, image.reshape(len(index), channels))
                    count = count.index_add(0, index, torch.ones(len(index), 1, dtype=T.dtype))
            outputs[order].append(total / count)
    return {order: torch.cat(parts, dim=1) for order, parts in outputs.items()}


@pytest.mark.parametrize("in_reps", [{2: 2}, {1: 3}, {2: 2, 1: 3}])
@pytest.mark.parametrize("options", [{}, {"k": 2}, SOME, {"bias": False, "size_buckets": (1, 4)}])
def test_a_layer_equals_its_plain_form(in_reps, options):
    edges = _random_graph()
    egos = ego_networks(edges, 9, options.get("k", 1))
    conv = _shaken(SPENConv(in_reps, {2: 2, 1: 3, 0: 4}, **options)).double()
    features = _features(egos, in_reps)
    outputs, expected = conv(features, edges, 9), _plain(conv, features, egos)
    for order, channels in conv.out_channels.items():
        assert outputs[order].shape[1] == channels
        torch.testing.assert_close(outputs[order], expected[order], atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("options", [{}, SOME])
def test_gradients(options):
    edges = _random_graph(5)
    egos = ego_networks(edges, 5)
    conv = _shaken(SPENConv({2: 1, 1: 1}, {2: 1, 1: 1, 0: 1}, **options)).double()
    features = [T.requires_grad_() for T in _features(egos, {2: 1, 1: 1}).values()]
    function = lambda pairs, nodes, *_: tuple(conv({2: pairs, 1: nodes}, edges, 5).values())  # noqa: E731
    assert torch.autograd.gradcheck(function, (*features, *conv.parameters()), fast_mode=True)


@pytest.mark.parametrize("graph", [nx.cycle_graph(5), nx.gnp_random_graph(8, 0.5, seed=0), nx.path_graph(2)])
def test_far_enough_a_layer_is_the_global_one(graph):
    n = len(graph)
    edges, k = edges_of(graph), max(1, nx.diameter(graph))
    conv = _shaken(SPENConv({2: 2, 1: 3}, {2: 4, 1: 2, 0: 2}, k=k)).double()
    T, x = torch.randn(n, n, 2, dtype=DOUBLE), torch.randn(n, 3, dtype=DOUBLE)
    outputs = conv({2: T.flatten(0, 1), 1: x}, edges, n)
    for order, values in outputs.items():
        parts = []
        for in_order, features in ((2, T.movedim(-1, 0)), (1, x.T)):
            layer = conv.maps[str(in_order)]
            images = torch.stack([function(features) for function in equivariant_basis(in_order, order, n)])
            image = torch.einsum("cob,bc...->...o", layer.theta[str(order)][0], images) + layer.bias[str(order)][0, 0]
            parts.append(image + torch.eye(n, dtype=DOUBLE)[..., None] * layer.bias["2"][0, 1] if order == 2 else image)
        expected = torch.cat(parts, dim=-1)
        expected = expected.flatten(0, 1) if order == 2 else expected.expand(n, -1)
        torch.testing.assert_close(values, expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
@pytest.mark.parametrize("options", [{}, {"k": 2}, SOME])
def test_a_layer_commutes_with_permutations(dtype, tolerance, options):
    edges, order = _random_graph(), random_order(9)
    conv = _shaken(SPENConv({2: 2, 1: 3}, {2: 2, 1: 3, 0: 2}, **options)).to(dtype)
    k = options.get("k", 1)
    egos, turned = ego_networks(edges, 9, k), ego_networks(relabelled(edges, order), 9, k)
    features = _features(egos, {2: 2, 1: 3}, dtype)
    moved = egos.pair_numbers(order[turned.pairs])  # the pair that each pair of the relabelled graph was
    outputs = conv(features, edges, 9)
    permuted = conv({2: features[2][moved], 1: features[1][order]}, relabelled(edges, order), 9)
    for rank, where in ((2, moved), (1, order), (0, order)):
        expected = outputs[rank][where]
        torch.testing.assert_close(permuted[rank], expected, rtol=0, atol=tolerance * float(expected.detach().abs().max()))


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
def test_networks_are_indifferent_to_order_and_company(dtype, tolerance):
    """With edges in one direction only, and features on them."""
    edges = _random_graph(10)
    edges = edges[:, torch.randperm(edges.shape[1])[: edges.shape[1] * 2 // 3]]
    x, attributes, order = torch.randn(10, 3, dtype=dtype), torch.randn(edges.shape[1], 2, dtype=dtype), random_order(10)
    network = _shaken(SPEN(3, 4, num_classes=2, num_layers=3, edge_dim=2, **SOME)).to(dtype)
    alone = network(x, edges, attributes)
    permuted = network(x[order], relabelled(edges, order), attributes)
    limit = {"rtol": 0, "atol": tolerance * max(1.0, float(alone.detach().abs().max()))}
    torch.testing.assert_close(permuted, alone, **limit)
    others = torch.randn(3, 3, dtype=dtype), torch.randn(4, 2, dtype=dtype)
    together = network(
        torch.cat([others[0], x]), torch.cat([PATH, edges + 3], dim=1), torch.cat([others[1], attributes]), torch.tensor([0] * 3 + [1] * 10)
    )
    torch.testing.assert_close(together[1:], alone, **limit)
    assert (network(x, edges.flip(0), attributes) - alone).abs().max() > 1e-4


def test_a_transposed_input_and_swapped_coefficients_give_the_transposed_output():
    edges = _random_graph()
    egos = ego_networks(edges, 9)
    conv, swapped = (SPENConv({2: 2}, {2: 3, 1: 2}).double() for _ in range(2))
    both_sides = [0, 1, 3, 2, 4, 8, 7, 6, 5, 9, 10, 12, 11, 13, 14]
    with torch.no_grad():
        swapped.maps["2"].theta["2"].copy_(conv.maps["2"].theta["2"][..., both_sides])
        swapped.maps["2"].theta["1"].copy_(conv.maps["2"].theta["1"][..., [0, 1, 3, 2, 4]])
    T = _features(egos, {2: 2})[2]
    outputs, transposed = conv({2: T}, edges, 9), swapped({2: T[egos.reverse]}, edges, 9)
    torch.testing.assert_close(transposed[2], outputs[2][egos.reverse], atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(transposed[1], outputs[1], atol=1e-12, rtol=1e-12)


def test_stored_ego_networks_change_nothing():
    transform, network = EgoBatch(1), _shaken(SPEN(2, 4, num_classes=2, num_layers=3)).double()
    graphs = [Data(x=torch.randn(n, 2, dtype=DOUBLE), edge_index=edges_of(nx.gnp_random_graph(n, 0.4, seed=n))) for n in (5, 1, 8)]
    batch = Batch.from_data_list([transform(data) for data in graphs])
    fresh = network(batch.x, batch.edge_index, batch=batch.batch)
    assert torch.equal(network(batch.x, batch.edge_index, batch=batch.batch, egos=transform.networks(batch)), fresh)
    whole = network(batch.x, batch.edge_index, batch=batch.batch, egos=whole_graphs(batch.batch))
    assert whole.shape == fresh.shape
    assert (whole - fresh).abs().max() > 1e-4


@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize("layers", [1, 3])
def test_nodes_without_edges_work(n, layers):
    network = _shaken(SPEN(2, 4, num_classes=3, num_layers=layers)).double()
    outputs = network(torch.ones(n, 2, dtype=DOUBLE), torch.zeros(2, 0, dtype=torch.long))
    assert torch.isfinite(outputs).all()
    expected = network(torch.ones(1, 2, dtype=DOUBLE), torch.zeros(2, 0, dtype=torch.long))
    if layers == 1:  # later layers see the graph's mean through the normalization, of equal nodes all the same
        torch.testing.assert_close(outputs, expected)
    outputs.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


class _Unchanged(torch.nn.Module):
    """In the place of a normalization."""

    def forward(self, T, *_):
        return T


def _difference(first: nx.Graph, second: nx.Graph, k: int, layers: int = 3, *, normalized: bool = True) -> float:
    """The relative difference of a random network's outputs on two graphs."""
    torch.manual_seed(0)
    network = _shaken(SPEN(0, 8, num_classes=4, num_layers=layers, k=k)).double()
    if not normalized:
        network.norms = torch.nn.ModuleList(torch.nn.ModuleDict({"2": _Unchanged(), "1": _Unchanged()}) for _ in network.norms)
    with torch.no_grad():
        outputs = [network(None, edges_of(graph), batch=torch.zeros(len(graph), dtype=torch.long)) for graph in (first, second)]
    return float((outputs[0] - outputs[1]).norm() / outputs[0].norm())


def _circulant(*steps: int) -> nx.Graph:
    return nx.circulant_graph(11, steps)


def test_graphs_that_differ_in_triangles_are_told_apart():
    assert _difference(nx.cycle_graph(6), two_triangles(), 1) > 1e-6
    assert sum(nx.triangles(_circulant(1, 2)).values()) != sum(nx.triangles(_circulant(1, 3)).values())
    assert _difference(_circulant(1, 2), _circulant(1, 3), 1) > 1e-6  # skip links, like CSL


@pytest.mark.parametrize("layers", [1, 2, 5])
def test_graphs_with_alike_ego_networks_are_not(layers):
    """But for the normalization, which counts the pair that two ego networks of a cycle of four share once."""
    long, unequal = nx.disjoint_union(nx.cycle_graph(6), nx.cycle_graph(6)), nx.disjoint_union(nx.cycle_graph(4), nx.cycle_graph(8))
    assert _difference(long, unequal, 1, layers, normalized=False) < 1e-12
    assert _difference(long, unequal, 2, layers, normalized=False) > 1e-6
    assert _difference(long, unequal, 2, layers) > 1e-6


def test_rings_of_five_and_six_are_told_apart_by_three_hops():
    assert _difference(decalin(), bicyclopentyl(), 3) > 1e-6


def test_the_adjacency_is_normalized():
    A = torch.zeros(3, 3, dtype=DOUBLE).index_put_(tuple(PATH), normalized_adjacency(PATH, 3, torch.ones(1, dtype=DOUBLE)).squeeze(1))
    half = 2**-0.5
    torch.testing.assert_close(A, torch.tensor([[0, half, 0], [half, 0, half], [0, half, 0]], dtype=DOUBLE))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": None}, "x must have shape"),
        ({"x": None, "batch": None}, "x must be given where there is no batch"),
        ({"x": torch.full((3, 3), float("nan"))}, "x must be finite"),
        ({"x": torch.ones(3, 2)}, "x must have shape"),
        ({"edge_index": torch.tensor([[0, 1, 2, 3], [1, 0, 1, 2]])}, "edge_index must number nodes from 0 to 2"),
        ({"edge_attr": torch.full((4, 2), float("inf"))}, "edge_attr must be finite"),
        ({"edge_attr": None}, "edge_attr must have shape"),
        ({"batch": torch.tensor([0, 0])}, "x must have shape"),
        ({"batch": torch.zeros(3, 1)}, "batch must hold the graph of each node"),
        ({"batch": torch.tensor([0, 1, 0])}, "batch must be in order"),
    ],
)
def test_input_that_does_not_fit_is_refused(arguments, message):
    valid = {"x": torch.ones(3, 3), "edge_index": PATH, "edge_attr": torch.ones(4, 2), "batch": torch.tensor([0, 0, 0])}
    with pytest.raises(ValueError, match=message):
        SPEN(3, 4, num_classes=2, num_layers=2, edge_dim=2)(**(valid | arguments))


def test_options_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="k must be"):
        SPENConv({2: 1}, {2: 1}, k=0)
    with pytest.raises(ValueError, match="in_reps must give channels for orders"):
        SPENConv({0: 1}, {2: 1})
    with pytest.raises(TypeError, match="out_reps must be a dict"):
        SPENConv({2: 1}, 3)
    with pytest.raises(ValueError, match="size_buckets must hold different sizes"):
        SPENConv({2: 1}, {2: 1}, size_buckets=[2, 2])
    with pytest.raises(ValueError, match=r"features\[2\] must have shape \(9, 1\), got None"):
        SPENConv({2: 1}, {2: 1})({}, PATH, 3)
    star = edges_of(nx.star_graph(4))
    with pytest.raises(ValueError, match=r"size_buckets must hold the size of every ego network.*sizes \[5\]"):
        SPEN(0, 2, num_classes=2, size_buckets=[2, 3], strict_sizes=True)(None, star, batch=torch.zeros(5, dtype=torch.long))
    assert SPEN(0, 2, num_classes=2, size_buckets=[2, 3])(None, star, batch=torch.zeros(5, dtype=torch.long)).shape == (1, 2)
