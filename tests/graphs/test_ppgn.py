"""The pair network is indifferent to order and padding, and multiplies matrices."""

import pytest
import torch
from graphs.invariances import assert_pair_equivariant, random_order
from specimens import Specimen

from ritz.graphs import PPGNPlus

NODES = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])

SPECIMENS = {
    "PPGNPlus": Specimen(PPGNPlus, lambda: {"in_channels": 2, "hidden": 4, "out_channels": 3, "depth": 2, "readout": "node"}),
}


def _pairs() -> torch.Tensor:
    torch.manual_seed(1)
    mask = NODES.unsqueeze(1) & NODES.unsqueeze(2)
    return torch.randn(2, 5, 5, 2, dtype=torch.float64) * mask.unsqueeze(-1)


def _model(readout: str) -> PPGNPlus:
    torch.manual_seed(0)
    return PPGNPlus(2, 6, 3, depth=3, readout=readout).double()


@pytest.mark.parametrize("readout", ["graph", "node", "pair"])
def test_order_changes_nothing_but_the_order(readout):
    model = _model(readout)
    every = torch.ones(2, 5, dtype=torch.bool)
    assert_pair_equivariant(lambda pairs: model(pairs, every), torch.randn(2, 5, 5, 2, dtype=torch.float64), tolerance=1e-10)


@pytest.mark.parametrize("readout", ["graph", "node", "pair"])
def test_padding_stays_out_and_comes_out_as_zero(readout):
    pairs, model = _pairs(), _model(readout)
    together = model(pairs, NODES)
    for i, n in enumerate((5, 3)):
        alone = model(pairs[i : i + 1, :n, :n], torch.ones(1, n, dtype=torch.bool))[0]
        own = together[i] if readout == "graph" else together[i][:n] if readout == "node" else together[i][:n, :n]
        torch.testing.assert_close(own, alone, rtol=1e-10, atol=1e-10)
    spoiled = pairs + torch.randn_like(pairs) * ~(NODES.unsqueeze(1) & NODES.unsqueeze(2)).unsqueeze(-1)
    torch.testing.assert_close(model(spoiled, NODES), together)
    if readout != "graph":
        mask = NODES if readout == "node" else NODES.unsqueeze(1) & NODES.unsqueeze(2)
        assert torch.all(together[~mask] == 0)


def test_a_transposed_input_is_seen():
    pairs, every = torch.randn(1, 4, 4, 2, dtype=torch.float64), torch.ones(1, 4, dtype=torch.bool)
    model = _model("graph")
    assert (model(pairs, every) - model(pairs.transpose(1, 2), every)).abs().max() > 1e-6
    order = random_order(4)
    torch.testing.assert_close(model(pairs[:, order][:, :, order], every), model(pairs, every))


@pytest.mark.parametrize(
    ("pairs", "nodes", "message"),
    [
        (torch.ones(2, 5, 4, 2), NODES, "pairs must have shape"),
        (torch.ones(2, 5, 5, 1), NODES, "pairs must have shape"),
        (torch.ones(2, 5, 5, 2), NODES.float(), "nodes must be a mask"),
        (torch.ones(2, 5, 5, 2), NODES[:, :4], "nodes must be a mask"),
    ],
)
def test_shapes_that_disagree_are_refused(pairs, nodes, message):
    with pytest.raises(ValueError, match=message):
        PPGNPlus(2, 4, 3)(pairs, nodes)
