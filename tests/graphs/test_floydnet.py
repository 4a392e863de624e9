"""FloydNet is indifferent to order and padding, and a fresh block changes nothing."""

import pytest
import torch
from graphs.invariances import assert_pair_equivariant, random_order, relabelled
from specimens import Specimen

from ritz.graphs import FloydBlock, FloydNet

NODES = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
EDGES = torch.tensor([[0, 1, 1, 2, 3, 4, 5, 6, 6, 7], [1, 0, 2, 1, 4, 3, 6, 5, 7, 6]])
BATCH = torch.tensor([0] * 5 + [1] * 3)

SPECIMENS = {
    "FloydBlock": Specimen(
        lambda dim, heads, **options: FloydBlock(dim, heads, **options),
        lambda: {
            "dim": 6,
            "heads": 2,
            "ffn_expansion": 2,
            "norm": "layernorm",
            "norm_position": "post",
            "symmetric_mix": True,
            "bias": False,
            "act": "silu",
            "dropout": 0.1,
        },
        accepts={"norm": ("none",)},
    ),
    "FloydNet": Specimen(
        lambda dim, heads, depth, **options: FloydNet(dim, heads, depth, **options),
        lambda: {"dim": 6, "heads": 2, "depth": 1, "node_types": 3, "edge_dim": 2, "supernode": True, "out_channels": 2, "level": "node"},
        accepts={"node_types": ("none",), "edge_dim": ("none",)},
    ),
}


def _shaken(module: torch.nn.Module) -> torch.nn.Module:
    torch.manual_seed(0)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return module.eval()


@pytest.mark.parametrize("options", [{}, {"norm": None}, {"norm": "affine", "symmetric_mix": False}, {"norm": "rmsnorm", "bias": True}])
def test_a_fresh_block_is_the_identity(options):
    pairs = torch.randn(2, 5, 5, 6) * (NODES.unsqueeze(1) & NODES.unsqueeze(2)).unsqueeze(-1)
    assert torch.equal(FloydBlock(6, 2, **options)(pairs, NODES), pairs)


@pytest.mark.parametrize("position", ["pre", "post"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_blocks_commute_with_permutations_and_ignore_padding(dtype, tolerance, position):
    block = _shaken(FloydBlock(6, 2, norm_position=position)).to(dtype)
    every = torch.ones(2, 5, dtype=torch.bool)
    pairs = torch.randn(2, 5, 5, 6, dtype=dtype)
    assert_pair_equivariant(lambda pairs: block(pairs, every), pairs, tolerance=tolerance)
    mask = (NODES.unsqueeze(1) & NODES.unsqueeze(2)).unsqueeze(-1)
    together = block(pairs * mask, NODES)
    assert torch.all(together[~mask.squeeze(-1)] == 0)
    alone = block(pairs[1:, :3, :3], torch.ones(1, 3, dtype=torch.bool))
    torch.testing.assert_close(together[1:, :3, :3], alone, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("supernode", [False, True])
@pytest.mark.parametrize("level", ["graph", "node", "edge"])
def test_networks_are_indifferent_to_order_and_company(level, supernode):
    network = _shaken(FloydNet(8, 2, 2, node_types=4, edge_dim=2, supernode=supernode, out_channels=3, level=level)).double()
    x, attributes = torch.randint(0, 4, (8,)), torch.randn(10, 2, dtype=torch.float64)
    outputs = network(x, EDGES, attributes, BATCH)
    first = EDGES[:, :6], attributes[:6]
    alone = network(x[:5], *first)
    order = random_order(5)
    permuted = network(x[:5][order], relabelled(first[0], order), first[1])
    if level == "graph":
        torch.testing.assert_close(outputs[:1], alone)
        torch.testing.assert_close(permuted, alone)
    elif level == "node":
        torch.testing.assert_close(outputs[:5], alone)
        torch.testing.assert_close(permuted, alone[order])
    else:
        torch.testing.assert_close(outputs[:1], alone)
        torch.testing.assert_close(permuted, alone[:, order][:, :, order])
        assert torch.all(outputs[1, 3:] == 0)


def test_features_edges_and_types_are_seen():
    network = _shaken(FloydNet(8, 2, 2, node_dim=2, edge_types=3, out_channels=1)).double()
    x, types = torch.randn(8, 2, dtype=torch.float64), torch.randint(0, 3, (10,))
    before = network(x, EDGES, types, BATCH)
    assert (network(x + 1, EDGES, types, BATCH) - before).abs().min() > 1e-6
    assert (network(x, EDGES, (types + 1) % 3, BATCH) - before).abs().min() > 1e-6
    assert (network(x, EDGES[:, :-2], types[:-2], BATCH) - before)[1].abs() > 1e-6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": None}, "x must be given if and only if"),
        ({"x": torch.full((8,), 9)}, "x must hold types from 0 to 3"),
        ({"x": torch.randn(8)}, "x must hold one type"),
        ({"edge_attr": torch.randn(10, 3)}, "edge_attr must have shape"),
        ({"edge_attr": None}, "edge_attr must be given if and only if"),
        ({"edge_index": torch.zeros(3, 2)}, "edge_index must have shape"),
    ],
)
def test_input_that_does_not_fit_is_refused(arguments, message):
    valid = {"x": torch.randint(0, 4, (8,)), "edge_index": EDGES, "edge_attr": torch.randn(10, 2), "batch": BATCH}
    with pytest.raises(ValueError, match=message):
        FloydNet(8, 2, 1, node_types=4, edge_dim=2, out_channels=1)(**(valid | arguments))


def test_options_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="heads must divide dim"):
        FloydBlock(6, 4)
    with pytest.raises(ValueError, match="node_types and node_dim"):
        FloydNet(8, 2, 1, node_types=4, node_dim=2, out_channels=1)
    with pytest.raises(ValueError, match="batch must be given"):
        FloydNet(8, 2, 1, out_channels=1)(None, EDGES)
    with pytest.raises(ValueError, match="pairs must have shape"):
        FloydBlock(6, 2)(torch.ones(1, 3, 3, 5), torch.ones(1, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="act"):
        FloydBlock(6, 2, act="nothing of the kind")
