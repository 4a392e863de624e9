"""The block is its recurrence written out in both directions; padding and company change nothing."""

import pytest
import torch
from specimens import Specimen
from torch.nn import functional as F

from ritz.graphs import BidirectionalMamba
from ritz.graphs.bidirectional_mamba import CausalConvolution

SPECIMENS = {"BidirectionalMamba": Specimen(BidirectionalMamba, lambda: {"dim": 4, "state_dim": 3, "conv_width": 2, "expand": 2})}


def _block(dim: int = 6, dtype=torch.float64, **options) -> BidirectionalMamba:
    torch.manual_seed(0)
    return BidirectionalMamba(dim, **options).to(dtype)


def _branch_step_by_step(branch, x):
    """One sequence (T, dim), one place and one channel's state at a time."""
    A, width = -branch.log_rate.exp(), len(branch.conv.weight)
    h, past, outputs = torch.zeros_like(A), [], []
    for place in x:
        normal = branch.norm(place)
        past.append(branch.enter(normal))
        seen = branch.conv.bias.clone()
        for lag in range(min(width, len(past))):
            seen = seen + branch.conv.weight[width - 1 - lag] * past[-1 - lag]
        seen = F.silu(seen)
        low, B, C = branch.select(seen).split([branch.rank, branch.state_dim, branch.state_dim])
        delta = F.softplus(branch.step(low))
        h = torch.exp(delta[:, None] * A) * h + (delta * seen)[:, None] * B
        outputs.append(branch.leave((h @ C + branch.skip * seen) * F.silu(branch.gate(normal))))
    return torch.stack(outputs)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("options", [{}, {"state_dim": 2, "conv_width": 1, "expand": 1}])
def test_it_is_the_recurrence_of_two_directions(dtype, tolerance, options):
    block, x = _block(dtype=dtype, **options), torch.randn(3, 37, 6, dtype=dtype)
    for ours, own in zip(block(x), x):
        expected = block.out(_branch_step_by_step(block.ahead, own) + _branch_step_by_step(block.back, own.flip(0)).flip(0))
        assert (ours - expected).abs().max() <= tolerance * expected.abs().max().clamp(min=1)


def test_reversed_input_and_swapped_branches_reverse_the_output():
    block, x = _block(dtype=torch.float32), torch.randn(2, 20, 6)
    y = block(x)
    block.ahead, block.back = block.back, block.ahead
    torch.testing.assert_close(block(x.flip(1)).flip(1), y, atol=1e-5, rtol=1e-5)


def test_padding_at_either_end_changes_nothing_and_a_batch_is_its_sequences():
    block, parts = _block(), [torch.randn(length, 6, dtype=torch.float64) for length in (5, 1, 12)]
    padded, mask = torch.randn(3, 15, 6, dtype=torch.float64), torch.zeros(3, 15, dtype=torch.bool)
    starts = (0, 7, 3)
    for i, (part, start) in enumerate(zip(parts, starts)):
        padded[i, start : start + len(part)] = part
        mask[i, start : start + len(part)] = True
    y = block(padded, mask)
    for i, (part, start) in enumerate(zip(parts, starts)):
        torch.testing.assert_close(y[i, start : start + len(part)], block(part[None])[0], atol=1e-12, rtol=1e-12)


def test_gradients_reach_every_weight_and_padding_gets_none():
    block, x = _block(), torch.randn(1, 8, 6, dtype=torch.float64, requires_grad=True)
    mask = torch.arange(8)[None] < 5
    block(x, mask)[mask].square().sum().backward()
    assert all(p.grad.abs().max() > 0 for p in block.parameters())
    assert torch.all(x.grad[0, 5:] == 0)


def test_the_convolution_is_that_of_torch():
    conv, x = CausalConvolution(5, 4), torch.randn(2, 9, 5)
    expected = F.conv1d(F.pad(x.mT, (3, 0)), conv.weight.T.unsqueeze(1), conv.bias, groups=5).mT
    torch.testing.assert_close(conv(x), expected)


def test_steps_begin_in_their_range():
    for branch in (_block(32).ahead, _block(32).back):
        sizes = F.softplus(branch.step.bias)
        assert sizes.min() >= 0.999e-3
        assert sizes.max() <= 0.1001


def test_odd_shapes_are_refused():
    with pytest.raises(ValueError, match=r"x must have shape \(batch, length, 6\)"):
        _block()(torch.zeros(2, 3, 5))
    with pytest.raises(ValueError, match=r"mask must be boolean of shape \(2, 3\)"):
        _block()(torch.zeros(2, 3, 6, dtype=torch.float64), torch.ones(2, 4, dtype=torch.bool))
