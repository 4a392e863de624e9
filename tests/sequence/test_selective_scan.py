"""The selective scan is the recurrence written out, in value and gradient, at every length, cut anywhere, on every path."""

import time

import numba
import pytest
import torch
from specimens import Specimen

from ritz.sequence import selective_scan
from ritz.sequence.selective_scan import CHUNK, chunked_scan

NAMES = ("x", "delta", "A", "B", "C", "D", "state")
LENGTHS = [1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5]


def _arguments(batch=2, length=7, channels=5, N=3, dtype=torch.float64, grad=False):
    generator = torch.Generator().manual_seed(length)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    values = (
        normal(batch, length, channels),
        normal(batch, length, channels).exp() * 0.3,
        -normal(channels, N).exp(),
        normal(batch, length, N),
        normal(batch, length, N),
        normal(channels),
        normal(batch, channels, N),
    )
    return {name: value.to(dtype).requires_grad_(grad) for name, value in zip(NAMES, values)}


SPECIMENS = {"selective_scan": Specimen(selective_scan, _arguments)}


def _recurrence(x, delta, A, B, C, D, state):
    outputs = []
    for t in range(x.shape[1]):
        state = torch.exp(delta[:, t, :, None] * A) * state + (delta[:, t] * x[:, t])[..., None] * B[:, t, None]
        outputs.append((state * C[:, t, None]).sum(-1) + D * x[:, t])
    return torch.stack(outputs, dim=1), state


def _compiled(**arguments):
    return selective_scan(**arguments)


def _chunked(x, delta, A, B, C, D, state):
    y, state = chunked_scan(x, delta, A, B, C, state)
    return y + D * x, state


def _weighted(results):
    y, state = results
    return (y * torch.cos(torch.arange(y.numel()).view(y.shape))).sum() + (state * torch.sin(torch.arange(state.numel()).view(state.shape))).sum()


def _same(ours, exact, tolerance):
    assert (ours - exact).abs().max() <= tolerance * exact.abs().max().clamp(min=1)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("scan", [_compiled, _chunked])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_it_is_the_recurrence_in_value_and_gradient(length, scan, dtype, tolerance):
    ours, plain = _arguments(length=length, dtype=dtype, grad=True), _arguments(length=length, grad=True)
    results, expected = scan(**ours), _recurrence(**plain)
    for result, exact in zip(results, expected):
        assert result.dtype == dtype
        _same(result, exact, tolerance)
    _weighted(results).backward()
    _weighted(expected).backward()
    for name in NAMES:
        _same(ours[name].grad, plain[name].grad, tolerance)


def test_many_sequences_and_channels_as_few():
    """More sequences than tasks, and more channels than one task takes."""
    ours, plain = (_arguments(batch=70, length=9, channels=70, N=4, grad=True) for _ in range(2))
    _weighted(selective_scan(**ours)).backward()
    _weighted(_recurrence(**plain)).backward()
    for name in NAMES:
        _same(ours[name].grad, plain[name].grad, 1e-10)


def test_gradient_by_finite_differences():
    arguments = _arguments(length=CHUNK + 3, channels=2, N=2, grad=True)
    assert torch.autograd.gradcheck(lambda *values: selective_scan(*values[:6], state=values[6]), tuple(arguments.values()))


@pytest.mark.parametrize("cut", [1, 20, CHUNK, CHUNK + 1])
def test_a_cut_anywhere_changes_nothing(cut):
    arguments = _arguments(length=2 * CHUNK)
    y, state = selective_scan(**arguments)
    timed = ("x", "delta", "B", "C")
    first, carried = selective_scan(**arguments | {name: arguments[name][:, :cut] for name in timed})
    second, last = selective_scan(**arguments | {name: arguments[name][:, cut:] for name in timed} | {"state": carried})
    torch.testing.assert_close(torch.cat([first, second], dim=1), y, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(last, state, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_step_of_size_zero_leaves_the_state_bit_for_bit(dtype):
    arguments = _arguments(length=4, dtype=dtype)
    _, state = selective_scan(**arguments | {"delta": torch.zeros_like(arguments["delta"])})
    assert torch.equal(state, arguments["state"])


def test_a_missing_state_is_zero_and_a_missing_skip_too():
    arguments = _arguments()
    x = arguments["x"]
    y, _ = selective_scan(*(arguments[name] for name in NAMES[:5]))
    expected, _ = _recurrence(**arguments | {"D": torch.zeros(x.shape[2]), "state": torch.zeros_like(arguments["state"])})
    torch.testing.assert_close(y, expected.double())


def test_large_decays_are_zero_and_half_precision_is_computed_in_single():
    arguments = _arguments(dtype=torch.float32)
    arguments["A"] = arguments["A"] * 1e4
    y, state = selective_scan(**arguments)
    _same(y, _recurrence(**{name: value.double() for name, value in arguments.items()})[0], 1e-5)
    half = {name: value.bfloat16() for name, value in _arguments(dtype=torch.float32).items()}
    y, state = selective_scan(**half)
    assert y.dtype == torch.bfloat16
    assert state.dtype == torch.float32
    _same(y.float(), _recurrence(**{name: value.float() for name, value in half.items()})[0], 1e-2)


def test_threads_do_not_matter_bit_for_bit():
    results = []
    for threads in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
        numba.set_num_threads(threads)
        arguments = _arguments(batch=3, length=50, channels=33, dtype=torch.float32, grad=True)
        _weighted(selective_scan(**arguments)).backward()
        results.append([arguments[name].grad for name in NAMES])
    assert all(torch.equal(first, second) for first, second in zip(*results))


def test_ten_times_as_fast_as_a_loop():
    arguments = _arguments(batch=1, length=4096, channels=16, N=16, dtype=torch.float32)

    def seconds(function):
        function(**arguments)
        start = time.perf_counter()
        function(**arguments)
        return time.perf_counter() - start

    assert max(seconds(_recurrence) / seconds(selective_scan) for _ in range(3)) >= 10


def test_shapes_that_disagree_and_negative_steps_are_refused_by_name():
    arguments = _arguments()
    with pytest.raises(ValueError, match=r"B must have shape \(2, 7, 3\), got \(2, 7, 4\)"):
        selective_scan(**arguments | {"B": torch.zeros(2, 7, 4, dtype=torch.float64)})
    with pytest.raises(ValueError, match="delta must have no negative entry"):
        selective_scan(**arguments | {"delta": -arguments["delta"]})
    with pytest.raises(ValueError, match=r"A must have a row for each channel of x, 4, got shape \(5, 3\)"):
        selective_scan(**arguments | {"x": torch.zeros(2, 7, 4)})
    with pytest.raises(TypeError, match="D must be a real floating torch tensor"):
        selective_scan(**arguments | {"D": torch.zeros(5, dtype=torch.long)})
