"""Graph Mamba is its stages one after the other, indifferent to numbering and company, not to the order of tokens, and linear in the nodes."""

import itertools
import time

import networkx as nx
import pytest
import torch
from graphs.invariances import random_order, relabelled
from specimens import Specimen
from torch_geometric.data import Batch

from ritz.graphs import AddRRWP, GraphMamba, LaplacianEigenpairs, WalkTokens
from ritz.graphs.node_order import node_order
from ritz.graphs.walk_tokens import Tokens
from ritz.studies.data.graph_collections import as_data
from ritz.studies.data.graphs import sparse_partition

SPECIMENS = {
    "GraphMamba": Specimen(
        GraphMamba,
        lambda: {
            "in_channels": 3,
            "hidden": 4,
            "out_channels": 2,
            "walk_length": 2,
            "walks_per_token": 2,
            "repeats": 1,
            "token_encoder": "gin",
            "num_layers": 1,
            "node_layers": 1,
            "mpnn": "gin",
            "pe": "rwse",
            "pe_channels": 3,
            "node_order": "degree",
            "task": "graph",
            "pooling": "sum",
            "edge_channels": 2,
            "dropout": 0.1,
        },
        accepts={"mpnn": ("none",), "pe": ("none",), "edge_channels": ("none",)},
    ),
}
ENCODERS = ["gated_gcn", "gin", "mean", "rwf"]


def _model(dtype=torch.float64, **options) -> GraphMamba:
    torch.manual_seed(0)
    return GraphMamba(3, 8, 2, **{"walk_length": 3, "walks_per_token": 2, "repeats": 2, "num_layers": 2} | options).to(dtype).eval()


def _data(graph: nx.Graph, *, seed: int = 0, keep_walks: bool = False):
    generator = torch.Generator().manual_seed(seed)
    data = as_data(graph, x=torch.randn(len(graph), 3, generator=generator, dtype=torch.float64))
    data.edge_attr = torch.randn(data.num_edges, 2, generator=generator, dtype=torch.float64)
    return WalkTokens(3, 2, 2, rng=seed, keep_walks=keep_walks)(data)


def _asymmetric(n: int = 16) -> nx.Graph:
    """A connected graph in which no two nodes have equal PageRank."""
    for seed in range(1000):
        graph = nx.gnp_random_graph(n, 0.25, seed=seed)
        if nx.is_connected(graph) and len({round(value, 8) for value in nx.pagerank(graph, tol=1e-12, max_iter=1000).values()}) == n:
            return graph
    raise AssertionError("no such graph among the first thousand")


@pytest.mark.parametrize("mpnn", [None, "gin", "gated_gcn"])
def test_without_walks_it_is_blocks_over_the_sequence_of_nodes(mpnn):
    model, data = _model(walk_length=0, node_layers=2, mpnn=mpnn), _data(_asymmetric())
    h = model.enter(data.x)
    order = node_order("degree", data.edge_index, torch.zeros(16, dtype=torch.long), shuffled=False).nodes
    y = h[order][None]
    for block in model.node_blocks:
        y = y + block(y)
    y = y[0, torch.argsort(order)]
    if mpnn:
        messages = h
        for layer, norm in zip(model.messages, model.message_norms):
            messages = messages + torch.relu(layer(norm(messages), data.edge_index))
        y = y + messages
    torch.testing.assert_close(model(data.x, data.edge_index), model.head(model.norm(y)))
    single = _model(walk_length=0, node_layers=0)
    torch.testing.assert_close(single(data.x, data.edge_index), single.head(single.norm(single.enter(data.x))))


def test_a_node_is_the_last_place_of_its_tokens_longest_walks_first():
    model, data = _model(node_layers=0, token_encoder="mean"), _data(_asymmetric())
    h, tokens = model.enter(data.x), Tokens.of(data)
    means = torch.stack([h[members].mean(0) for members in tokens.nodes.split(tokens.sizes.tolist())])
    for v in range(16):
        sequence = means[tokens.owner == v]
        torch.testing.assert_close(sequence[-1], h[v])
        y = sequence[None]
        for block in model.token_blocks:
            y = y + block(y)
        torch.testing.assert_close(model(data.x, data.edge_index, tokens=data)[v], model.head(model.norm(y[0, -1])))


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("task", ["node", "graph"])
def test_networks_are_indifferent_to_company(encoder, task):
    model = _model(token_encoder=encoder, task=task, mpnn="gin", edge_channels=2)
    graphs = [_data(graph, seed=i, keep_walks=encoder == "rwf") for i, graph in enumerate((nx.path_graph(4), _asymmetric(), nx.empty_graph(1)))]
    alone = torch.cat([model.from_data(data) for data in graphs])
    torch.testing.assert_close(model.from_data(Batch.from_data_list(graphs)), alone)


def _renumbered(tokens: Tokens, order: torch.Tensor) -> Tokens:
    """The tokens of the graph whose node i is node order[i] of the given one."""
    new, places = torch.argsort(order), len(tokens.owner) // len(order)
    of_node = tokens.nodes.split(tokens.sizes.view(len(order), places).sum(1).tolist())
    nodes = torch.cat([new[of_node[v]] for v in order.tolist()])
    ptr = torch.nn.functional.pad(tokens.sizes.view(len(order), places)[order].flatten().cumsum(0), (1, 0))
    return Tokens(nodes, ptr, tokens.owner, tokens.order, None if tokens.walks is None else new[tokens.walks[order]])


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("pooling", ["mean", "sum"])
def test_renumbered_nodes_change_nothing(encoder, pooling):
    graph, order = _asymmetric(), random_order(16)
    data = _data(graph, keep_walks=encoder == "rwf")
    tokens, edges = _renumbered(Tokens.of(data), order), relabelled(data.edge_index, order)
    for task in ("graph", "node"):
        model = _model(torch.float32, token_encoder=encoder, task=task, pooling=pooling, mpnn="gated_gcn")
        expected = model(data.x.float(), data.edge_index, tokens=data)
        found = model(data.x.float()[order], edges, tokens=tokens)
        torch.testing.assert_close(found, expected if task == "graph" else expected[order], atol=1e-4, rtol=1e-4)


def _shuffled(within_lengths: bool, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    if not within_lengths:
        return torch.cat([torch.randperm(6, generator=generator), torch.tensor([6])])
    return torch.cat([*(torch.randperm(2, generator=generator) + first for first in (0, 2, 4)), torch.tensor([6])])


@torch.no_grad()
def test_shuffled_lengths_matter_more_than_shuffled_tokens_of_one_length():
    model, data = _model(token_encoder="mean"), _data(_asymmetric())
    base, changes = model.from_data(data), {}
    for within_lengths in (True, False):
        changes[within_lengths] = 0.0
        for seed in range(20):
            moved = data.clone()
            moved.token_order = _shuffled(within_lengths, seed)[data.token_order]
            changes[within_lengths] += ((model.from_data(moved) - base).norm() / base.norm()).item() / 20
    assert changes[False] > 1e-3
    assert 0 < changes[True] < changes[False]


def test_training_moves_equal_lengths_only_and_turns_eigenvectors():
    model = _model(pe="laplacian", pe_channels=4)
    owner, order = torch.arange(3).repeat_interleave(7), torch.arange(7).repeat(3)
    moved = torch.stack([model._shuffled(owner, order).view(3, 7) for _ in range(20)])
    assert torch.equal(moved.div(2, rounding_mode="floor"), (order.view(1, 3, 7) // 2).expand(20, -1, -1))
    assert torch.equal(moved.sort(-1).values, torch.arange(7).expand(20, 3, 7))
    assert len(moved.flatten(0, 1).unique(dim=0)) == 8
    pe, batch = torch.randn(6, 4, dtype=torch.float64), torch.tensor([0, 0, 0, 1, 1, 1])
    assert torch.equal(model._signed(pe, batch), pe)
    turned = model.train()._signed(pe, batch)
    assert torch.equal(turned.abs(), pe.abs())
    ratio = turned / pe
    assert torch.equal(ratio[:3], ratio[:1].expand(3, -1))
    assert len({tuple(row) for _ in range(20) for row in (model._signed(pe, batch) / pe).tolist()}) > 4


@pytest.mark.parametrize(("pe", "transform"), [("laplacian", LaplacianEigenpairs(4)), ("rwse", AddRRWP(4))])
def test_positions_come_from_the_transforms(pe, transform):
    model, plain = _model(torch.float32, pe=pe, pe_channels=4), _data(_asymmetric())
    plain.x, plain.edge_attr = plain.x.float(), None
    with pytest.raises(ValueError, match=r"apply .*\(4\) first"):
        model.from_data(plain)
    data = transform(plain.clone())
    positions = data.eigvec if pe == "laplacian" else data.rrwp
    torch.testing.assert_close(model.from_data(data), model(plain.x, plain.edge_index, tokens=plain, pe=positions))


def test_missing_tokens_are_drawn_by_seed_zero():
    for encoder in ENCODERS:
        model, data = _model(token_encoder=encoder), _data(_asymmetric(), keep_walks=True)
        torch.testing.assert_close(model(data.x, data.edge_index), model(data.x, data.edge_index, tokens=data))


def test_every_weight_gets_a_gradient():
    for encoder in ENCODERS:
        model, data = _model(token_encoder=encoder, mpnn="gin", edge_channels=2).train(), _data(_asymmetric(), keep_walks=True)
        model.from_data(data).square().sum().backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def _kept_bytes(function) -> int:
    """The bytes that autograd keeps for the backward pass, each storage once."""
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = function()
    assert result.requires_grad
    return sum(kept.values())


def _processor_seconds(function) -> float:
    def once() -> float:
        start = time.process_time()
        function()
        return time.process_time() - start

    return min(once() for _ in range(4))


def test_time_and_memory_grow_with_the_nodes_and_attention_with_their_square():
    sizes, model = (1000, 2000, 4000), _model(torch.float32, token_encoder="mean", num_layers=1).train()
    query = torch.nn.Linear(16, 16)
    cost: dict[str, list] = {"bytes": [], "seconds": [], "attention bytes": [], "attention seconds": []}
    for n in sizes:
        A = sparse_partition(n, 4, 6, 0.5, rng=0).adjacency.tocoo()
        edge_index = torch.from_numpy(A.coords[0]).long(), torch.from_numpy(A.coords[1]).long()
        edge_index, x, wide = torch.stack(edge_index), torch.randn(n, 3), torch.randn(n, 16)
        tokens = WalkTokens(3, 2, 2, rng=0).tokens(A)
        forward = lambda x=x, edge_index=edge_index, tokens=tokens: model(x, edge_index, tokens=tokens)  # noqa: E731
        attend = lambda wide=wide: torch.softmax(query(wide) @ wide.T, -1) @ wide  # noqa: E731
        for name, function in (("", forward), ("attention ", attend)):
            cost[f"{name}bytes"].append(_kept_bytes(function))
            cost[f"{name}seconds"].append(_processor_seconds(function))
    growth = {name: [second / first for first, second in itertools.pairwise(values)] for name, values in cost.items()}
    assert max(growth["bytes"] + growth["seconds"]) <= 2.3
    assert growth["attention bytes"][-1] > 3.5
    assert growth["attention seconds"][-1] > 3.5


def test_bad_graphs_tokens_and_features_are_refused():
    model, data = _model(), _data(_asymmetric())
    with pytest.raises(ValueError, match="x must be finite"):
        model(data.x.log(), data.edge_index)
    with pytest.raises(ValueError, match="with at least one node"):
        model(data.x[:0], data.edge_index[:, :0])
    with pytest.raises(ValueError, match=r"tokens must be those of WalkTokens\(3, 2, 2\), 7 for each of 16 nodes, got 64 tokens"):
        model(data.x, data.edge_index, tokens=WalkTokens(3, 2, 1, rng=0)(data))
    with pytest.raises(ValueError, match="keep_walks=True"):
        _model(token_encoder="rwf")(data.x, data.edge_index, tokens=data)
    with pytest.raises(ValueError, match="edge_attr must be given if and only if"):
        model(data.x, data.edge_index, data.edge_attr)
    with pytest.raises(ValueError, match=r"pe must have shape \(16, 8\)"):
        _model(pe="rwse")(data.x, data.edge_index, pe=data.x)
    with pytest.raises(ValueError, match="walk_length must be an integer of at least 0, got -1"):
        GraphMamba(3, walk_length=-1)
    with pytest.raises(ValueError, match="walks_per_token must be an integer of at least 1, got 0"):
        GraphMamba(3, walk_length=1, walks_per_token=0)
