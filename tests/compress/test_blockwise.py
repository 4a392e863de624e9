"""Calibration block by block."""

import pytest
import torch
from specimens import Specimen
from torch import nn

from ritz.compress import blockwise, collect_statistics, replace_modules

pytestmark = pytest.mark.filterwarnings("ignore:.*fewer tokens than they have inputs")

SPECIMENS = {
    "blockwise": Specimen(
        blockwise, lambda: {"model": nn.Sequential(nn.Linear(3, 2)), "blocks": None, "batches": [torch.randn(9, 3)], "visit": lambda *_: None}
    ),
}


class Attention(nn.Module):
    """Query and key share their input, value has its own."""

    def __init__(self, width=6):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))

    def forward(self, x, scale=1.0):
        return x + torch.tanh(self.query(x) * self.key(x)) * self.value(x * scale)


class Network(nn.Module):
    def __init__(self, width=6):
        super().__init__()
        self.blocks = nn.ModuleList(Attention(width) for _ in range(3))
        self.head = nn.Linear(width, 4)

    def forward(self, x):
        for position, block in enumerate(self.blocks):
            x = block(x, scale=1.0 + position)
        return self.head(x)


def network():
    torch.manual_seed(0)
    return Network().double()


def test_without_changes_it_sees_what_one_pass_sees():
    model, batches = network(), [torch.randn(2, 20, 6, dtype=torch.float64) for _ in range(2)]
    found = {}
    blockwise(model, None, batches, lambda _, seen: found.update(seen))
    expected = collect_statistics(model, batches)
    assert set(found) == set(expected)
    for name, seen in found.items():
        assert torch.allclose(seen.gram(), expected[name].gram(), rtol=1e-12)


def test_later_blocks_see_the_changed_ones():
    model, batches, found = network(), [torch.randn(30, 6, dtype=torch.float64)], {}

    def visit(name, seen):
        found.update(seen)
        replace_modules(model, {f"{name}.value": nn.Linear(6, 6).double()})

    blockwise(model, None, batches, visit)
    expected = collect_statistics(model, batches)
    for name in found:
        assert torch.allclose(found[name].gram(), expected[name].gram(), rtol=1e-10)


def test_every_block_keeps_its_own_further_arguments():
    model, found = network(), []
    batch = torch.randn(30, 6, dtype=torch.float64)
    blockwise(model, None, [batch], lambda name, seen: found.append(seen[f"{name}.value"]), modules=lambda name, _: name.endswith("value"))
    assert torch.allclose(found[0].gram(), batch.T @ batch / 30, rtol=1e-10)
    scaled = 3.0 * model.blocks[1](model.blocks[0](batch), 2.0).detach()
    assert torch.allclose(found[2].gram(), scaled.T @ scaled / 30, rtol=1e-10)


def test_blocks_that_work_in_place_or_take_keywords_see_what_they_would():
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.up = nn.Linear(6, 6).double()

        def forward(self, hidden_states):
            hidden_states += torch.tanh(self.up(hidden_states))
            return (hidden_states,)

    class Chain(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList(InPlace() for _ in range(3))

        def forward(self, x):
            for block in self.blocks:
                x = block(hidden_states=x)[0]
            return x

    model, batch, found = Chain(), torch.randn(30, 6, dtype=torch.float64), {}
    blockwise(model, None, [batch.clone()], lambda _, seen: found.update(seen))
    expected = collect_statistics(model, [batch.clone()])
    assert len(found) == 3
    for name, seen in found.items():
        assert torch.allclose(seen.gram(), expected[name].gram(), rtol=1e-12)


def test_layers_outside_the_blocks_are_refused():
    with pytest.raises(ValueError, match="'head' lies in none of the blocks"):
        blockwise(network(), None, [torch.randn(9, 6).double()], print, modules=["head"])


def test_blocks_that_do_not_feed_each_other_are_refused():
    with pytest.raises(ValueError, match=r"'blocks.2' is not fed directly by 'blocks.0'"):
        blockwise(network(), ["blocks.0", "blocks.2"], [torch.randn(9, 6).double()], print)
    with pytest.raises(ValueError, match=r"'blocks.0' ran where 'blocks.1' was expected"):
        blockwise(network(), ["blocks.1", "blocks.0"], [torch.randn(9, 6).double()], print)
