"""SINC equals its formula with every aggregation, reduces to known layers, and stores little."""

import itertools

import pytest
import torch
from graphs.invariances import random_order, relabelled
from specimens import Specimen
from torch.nn import functional as F

from ritz.graphs import SINCGCN, SINCConv, SIRConv

AGGREGATIONS = ("sum", "mean", "max", "sym")
OPTIONS = {"in_channels": 3, "hidden_channels": 4, "out_channels": 2, "activation": "relu", "aggr": "mean", "dropout": 0.1}
BIASES = {"inner_bias": True, "outer_bias": False}

SPECIMENS = {
    "SIRConv": Specimen(SIRConv, lambda: OPTIONS | BIASES, spare=frozenset({"activation"})),
    "SINCConv": Specimen(SINCConv, lambda: OPTIONS | BIASES | {"context_aggr": "max"}, spare=frozenset({"activation"})),
    "SINCGCN": Specimen(
        SINCGCN,
        lambda: {
            "in_channels": 3,
            "hidden": 4,
            "out_channels": 2,
            "num_layers": 2,
            "norm": "batch",
            "residual": True,
            "jk": "cat",
            "dropout": 0.1,
            "aggr": "sum",
            "context_aggr": "mean",
            "readout": "sum",
        },
        accepts={"norm": ("none",), "jk": ("none",), "readout": ("none",)},
    ),
}


def _graph(seed: int, n: int = 12):
    generator = torch.Generator().manual_seed(seed)
    edges = torch.randint(0, n - 1, (2, 30), generator=generator)  # the last node is isolated; edges may repeat
    return torch.randn(n, 3, dtype=torch.float64, generator=generator), edges


def _gather(values: list, how: str, size: int, weights: list):
    if not values:
        return torch.zeros(size, dtype=torch.float64)
    if how == "max":
        return torch.stack(values).amax(0)
    if how == "sym":
        return sum(w * v for w, v in zip(weights, values))
    return torch.stack(values).mean(0) if how == "mean" else torch.stack(values).sum(0)


def _by_the_formula(conv: SINCConv, x: torch.Tensor, edges: torch.Tensor, with_context: bool = True) -> torch.Tensor:
    """Explicit loops over a node, its neighbors, and its neighbors again."""
    pairs = edges.T.tolist()
    indegree = [max(1, sum(v == u for _, v in pairs)) for u in range(len(x))]
    outdegree = [max(1, sum(v == u for v, _ in pairs)) for u in range(len(x))]
    rows = []
    for u in range(len(x)):
        neighbors = [v for v, target in pairs if target == u]
        weights = [(indegree[u] * outdegree[v]) ** -0.5 for v in neighbors]
        q = conv.query(x[u])
        if with_context:
            q = q + conv.neighborhood(_gather([x[w] for w in neighbors], conv.context_how, x.shape[1], weights))
        messages = [conv.activation(q + conv.key(x[v])) for v in neighbors]
        if conv.how == "max":
            h = _gather([conv.value(message) for message in messages], "max", conv.value.out_features, weights)
        else:
            h = conv.value(_gather(messages, conv.how, conv.value.in_features, weights))
        rows.append(h + conv.bias)
    return torch.stack(rows)


@pytest.mark.parametrize(("aggr", "context_aggr"), list(itertools.product(AGGREGATIONS, AGGREGATIONS)))
@pytest.mark.parametrize("activation", ["relu", F.softplus], ids=["relu", "softplus"])
def test_equals_loops_over_neighbors_and_their_neighborhood(aggr, context_aggr, activation):
    for seed in range(3):
        torch.manual_seed(seed)
        conv = SINCConv(3, 5, 4, activation, aggr=aggr, context_aggr=context_aggr).double()
        torch.nn.init.normal_(conv.bias)
        x, edges = _graph(seed)
        torch.testing.assert_close(conv(x, edges), _by_the_formula(conv, x, edges), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("aggr", AGGREGATIONS)
def test_without_context_it_is_sir(aggr):
    sinc, sir = SINCConv(3, 5, 4, aggr=aggr).double(), SIRConv(3, 5, 4, aggr=aggr).double()
    torch.nn.init.zeros_(sinc.neighborhood.weight)
    sir.load_state_dict({name: value for name, value in sinc.state_dict().items() if "neighborhood" not in name})
    x, edges = _graph(0)
    assert torch.equal(sinc(x, edges), sir(x, edges))
    torch.testing.assert_close(sir(x, edges), _by_the_formula(sir, x, edges, with_context=False), rtol=1e-12, atol=1e-12)


def test_without_an_activation_it_is_linear():
    conv = SINCConv(3, 5, 4, lambda x: x, inner_bias=False).double()
    x, edges = _graph(1)
    A = torch.zeros(12, 12, dtype=torch.float64).index_put_((edges[1], edges[0]), torch.ones(30, dtype=torch.float64), accumulate=True)
    D = A.sum(1, keepdim=True)
    inside = D * conv.query(x) + conv.key(A @ x) + D * conv.neighborhood(A @ x)
    torch.testing.assert_close(conv(x, edges), conv.value(inside) + conv.bias)
    torch.nn.init.zeros_(conv.query.weight)
    torch.nn.init.zeros_(conv.neighborhood.weight)
    torch.testing.assert_close(conv(x, edges), conv.value(conv.key(A @ x)) + conv.bias)  # a graph convolution


def test_order_isolated_nodes_bipartite_graphs_and_the_number_of_parameters():
    conv = SINCConv(3, 5, 4).double()
    torch.nn.init.normal_(conv.bias)
    x, edges = _graph(2)
    order = random_order(12)
    torch.testing.assert_close(conv(x[order], relabelled(edges, order)), conv(x, edges)[order])
    torch.testing.assert_close(conv(x, edges)[11], conv.bias)
    pair = SINCConv((3, 2), 5, 4).double()
    targets = torch.randn(4, 2, dtype=torch.float64)
    assert pair((x, targets), torch.stack([edges[0], edges[1] % 4])).shape == (4, 4)
    classifier = 16
    assert sum(p.numel() for p in SINCConv(1, 16, 16).parameters()) + classifier == 352
    assert sum(p.numel() for p in SIRConv(1, 16, 16).parameters()) + classifier == 336


def test_edge_features_enter_the_activation():
    conv = SINCConv(3, 5, 4, edge_dim=2).double()
    x, edges = _graph(3)
    plain = SINCConv(3, 5, 4).double()
    plain.load_state_dict({name: value for name, value in conv.state_dict().items() if "edge" not in name})
    torch.testing.assert_close(conv(x, edges, torch.zeros(30, 2, dtype=torch.float64)), plain(x, edges))
    assert (conv(x, edges, torch.ones(30, 2, dtype=torch.float64)) - plain(x, edges)).abs().max() > 1e-3


@pytest.mark.parametrize("aggr", AGGREGATIONS)
def test_gradients(aggr):
    conv = SINCConv(3, 4, 2, F.softplus, aggr=aggr).double()
    x, edges = _graph(4)
    parameters = [p.detach().clone().requires_grad_() for p in conv.parameters()]
    names = [name for name, _ in conv.named_parameters()]

    def outputs(x, *values):
        return torch.func.functional_call(conv, dict(zip(names, values)), (x, edges))

    assert torch.autograd.gradcheck(outputs, (x.requires_grad_(), *parameters))


def test_new_edges_in_the_same_tensor_are_seen():
    conv = SINCConv(3, 5, 4).double()
    x, edges = _graph(5)
    before = conv(x, edges)
    edges[1] = edges[1].flip(0)
    after = conv(x, edges)
    torch.testing.assert_close(after, conv(x, edges.clone()))
    assert (after - before).abs().max() > 1e-6


def test_half_precision_takes_plain_torch():
    x, edges = _graph(0)
    conv = SINCConv(3, 5, 4)
    expected = conv(x.float(), edges)
    torch.testing.assert_close(conv.bfloat16()(x.bfloat16(), edges).float(), expected, atol=0.1, rtol=0.1)


def test_nothing_is_stored_for_each_edge_and_channel():
    """Peak memory of forward and backward stays below 2.2 numbers for each edge and message channel (it is far below: only nodes have channels)."""
    n, edges, hidden = 300, 40_000, 64
    conv = SINCConv(32, hidden, 32)
    x, edge_index = torch.randn(n, 32), torch.randint(0, n, (2, edges))
    conv(x, edge_index).sum().backward()  # compile, and sort the edges
    with torch.profiler.profile(profile_memory=True) as profile:
        conv(x, edge_index).sum().backward()
    allocated = sum(max(0, event.self_cpu_memory_usage) for event in profile.key_averages())
    assert allocated <= 2.2 * edges * hidden * 4


@pytest.mark.parametrize("options", [{}, {"residual": True}, {"jk": "cat"}, {"jk": "last"}, {"jk": "max", "norm": None}])
def test_stacks_learn_on_nodes_and_graphs(options):
    torch.manual_seed(0)
    x, edges = torch.randn(8, 3), torch.randint(0, 8, (2, 20))
    model = SINCGCN(3, 6, 2, 3, **options)
    assert model(x, edges).shape == (8, 2)
    model(x, edges).square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    graphs = SINCGCN(3, 6, 2, 3, readout="mean", **options)
    assert graphs(x, edges, torch.tensor([0] * 5 + [1] * 3)).shape == (2, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": torch.ones(4, 2)}, "x must have shape"),
        ({"edge_index": torch.zeros(3, 2, dtype=torch.long)}, "edge_index must have shape"),
        ({"edge_attr": torch.ones(2, 1)}, "edge_attr must be given if and only if"),
    ],
)
def test_shapes_that_disagree_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SINCConv(3, 4, 2)(**({"x": torch.ones(4, 3), "edge_index": torch.tensor([[0, 1], [1, 2]])} | arguments))


def test_activations_that_nobody_knows_are_refused():
    with pytest.raises(ValueError, match="activation"):
        SINCConv(3, 4, 2, "nothing of the kind")
    with pytest.raises(TypeError, match="activation"):
        SINCConv(3, 4, 2, 3)
