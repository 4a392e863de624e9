"""The selective scan: a diagonal state-space recurrence whose step size, input map and output map change with time.

Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", COLM 2024, arXiv:2312.00752, section 3.

For every channel c the state h of N numbers follows ``h_t = exp(Delta_t A) h_{t-1} + Delta_t B_t x_t`` and is read as ``y_t = C_t . h_t + D x_t``;
A and D belong to the channel, B_t and C_t to the time. On the CPU one compiled loop runs through the time with the channels side by side and keeps a
state every `CHUNK` steps, from which the backward pass computes those between again. Elsewhere chunks are scanned by doubling. Neither divides by a
product of decays, which underflows.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import njit, prange, types
from numba.extending import overload

from ritz.core import array
from ritz.sequence.layout import sequence

CHUNK = 32
_LEAST, _MOST = 32, 64  # channels that are worked on together: enough for vector code, their states of one chunk still in the nearer caches
_TASKS = 32  # that a scan is split into, if it can be; fixed, so that results do not depend on the number of threads


def selective_scan(
    x: torch.Tensor,
    delta: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor | None = None,
    *,
    state: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run ``h_t = exp(Delta_t A) h_{t-1} + Delta_t B_t x_t``, ``y_t = C_t . h_t + D x_t``; differentiable in all arguments.

    Parameters
    ----------
    x : Tensor (batch, length, channels)
        Inputs.
    delta : Tensor (batch, length, channels)
        Step sizes, 0 or more; where one is 0 the state stays exactly as it is.
    A : Tensor (channels, N)
        Rates, negative for states that decay.
    B, C : Tensor (batch, length, N)
        What an input writes to the state, and how the state is read.
    D : Tensor (channels,), optional
        What of the input goes past the state.
    state : Tensor (batch, channels, N), optional
        The state before the first step; zero if missing.

    Returns
    -------
    y : Tensor (batch, length, channels)
        Outputs.
    state : Tensor (batch, channels, N)
        The state after the last step: to go on with, ``selective_scan(x[:, a:], ..., state=state)``.

    Raises
    ------
    TypeError, ValueError
        If an argument is no finite real floating tensor, shapes disagree, or a step size is negative.

    Notes
    -----
    O(batch length channels N) operations; memory O(batch channels (length (1 + N / 32) + N)) with gradients, on the CPU in float32 and float64 (half
    precisions are computed in float32). On other devices chunks of 32 steps are scanned in O(log 32) rounds and the graph of autograd keeps O(N)
    numbers a step and channel. Second derivatives are there on other devices only. Bbar = Delta B is Mamba's simplified zero-order hold.

    Examples
    --------
    >>> one = torch.ones(1, 3, 1)
    >>> selective_scan(one, one, -torch.log(torch.tensor([[2.0]])), one, one)
    (tensor([[[1.0000],
             [1.5000],
             [1.7500]]]), tensor([[[1.7500]]]))
    """
    x, delta, A, B, C, D, state = _checked(x, delta, A, B, C, D, state)
    return scan(x, delta, A, B, C, D, state)


def scan(x, delta, A, B, C, D=None, state=None) -> tuple[torch.Tensor, torch.Tensor]:
    """`selective_scan` of trusted arguments."""
    given = x.dtype
    precision = torch.promote_types(given, torch.float32)
    x, delta, A, B, C = (tensor.to(precision) for tensor in (x, delta, A, B, C))
    state = x.new_zeros(x.shape[0], *A.shape) if state is None else state.to(precision)
    y, state = _CompiledScan.apply(x, delta, A, B, C, state) if x.device.type == "cpu" else chunked_scan(x, delta, A, B, C, state)
    y = y if D is None else y + D.to(precision) * x
    return y.to(given), state


def chunked_scan(x, delta, A, B, C, state) -> tuple[torch.Tensor, torch.Tensor]:
    """The scan in plain torch: within a chunk by doubling, the state carried from chunk to chunk."""
    outputs = []
    for x_part, step, B_part, C_part in zip(*(tensor.split(CHUNK, dim=1) for tensor in (x, delta, B, C))):
        decay = torch.exp(step.unsqueeze(-1) * A)
        written = (step * x_part).unsqueeze(-1) * B_part.unsqueeze(2)
        first = written[:, :1] + decay[:, :1] * state.unsqueeze(1)
        states = _prefixes(decay, torch.cat([first, written[:, 1:]], dim=1))
        outputs.append(torch.einsum("btcn,btn->btc", states, C_part))
        state = states[:, -1]
    return torch.cat(outputs, dim=1), state


def _prefixes(decay: torch.Tensor, written: torch.Tensor) -> torch.Tensor:
    """All h_t = decay_t h_{t-1} + written_t from h = 0, along dimension 1: spans of 1, 2, 4, ... steps are joined."""
    span = 1
    while span < decay.shape[1]:
        written = torch.cat([written[:, :span], written[:, span:] + decay[:, span:] * written[:, :-span]], dim=1)
        decay = torch.cat([decay[:, :span], decay[:, span:] * decay[:, :-span]], dim=1)
        span *= 2
    return written


class _CompiledScan(torch.autograd.Function):
    """The scan by compiled loops; states are kept as (batch, N, channels), so that channels lie side by side."""

    @staticmethod
    def forward(ctx, x, delta, A, B, C, state):
        batch, length, channels = x.shape
        x, delta, A, B, C = (tensor.contiguous() for tensor in (x, delta, A.T, B, C))
        ends, y = state.mT.contiguous().clone(), torch.zeros_like(x)
        chunks = -(-length // CHUNK) if any(ctx.needs_input_grad) else 0
        kept = x.new_empty(chunks, batch, A.shape[0], channels)
        width = _block_width(batch, channels)
        _run(*_arrays(x, delta, A, B, C), width, *_arrays(ends, y, kept))
        ctx.save_for_backward(x, delta, A, B, C, kept)
        return y, ends.mT

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, y_gradient, end_gradient):
        x, delta, A, B, C, kept = ctx.saved_tensors
        batch, _, channels = x.shape
        width = _block_width(batch, channels)
        blocks, groups = -(-channels // width), min(batch, _TASKS)
        adjoint = end_gradient.mT.contiguous().clone()
        x_gradient, delta_gradient = torch.empty_like(x), torch.empty_like(x)
        A_gradients = x.new_zeros(groups, *A.shape)
        B_gradients, C_gradients = (x.new_empty(blocks, *B.shape) for _ in range(2))
        gradients = _arrays(x_gradient, delta_gradient, A_gradients, B_gradients, C_gradients)
        _run_back(*_arrays(x, delta, A, B, C, kept, y_gradient.contiguous()), width, *_arrays(adjoint), *gradients)
        return x_gradient, delta_gradient, A_gradients.sum(0).T, B_gradients.sum(0), C_gradients.sum(0), adjoint.mT


def _block_width(batch: int, channels: int) -> int:
    """Channels of a task: few if there are few sequences to share out."""
    return min(_MOST, max(_LEAST, -(-channels * batch // _TASKS)))


def _arrays(*tensors: torch.Tensor) -> tuple[np.ndarray, ...]:
    return tuple(tensor.detach().numpy() for tensor in tensors)


def exponential(z):
    """exp(z), in compiled code."""
    return np.exp(z)


_LOG2_E, _LN_2_HIGH, _LN_2_LOW = np.float32(1.4426950408889634), np.float32(0.693359375), np.float32(-2.12194440e-4)
_TAYLOR = tuple(np.float32(1 / np.prod(np.arange(1.0, k + 1))) for k in range(8))


@overload(exponential)
def _exponential(z):
    """In float32 2^k p(r) with r = z - k log 2, Taylor's polynomial of degree 7: a loop of it turns into vector code, one of calls does not."""
    if z != types.float32:
        return lambda z: np.exp(z)
    _, _, p2, p3, p4, p5, p6, p7 = _TAYLOR
    one, half, lowest, highest = np.float32(1), np.float32(0.5), np.float32(-87), np.float32(88.7)

    def float32_exponential(z):
        z = min(max(z, lowest), highest)
        k = np.floor(z * _LOG2_E + half)
        r = (z - k * _LN_2_HIGH) - k * _LN_2_LOW
        p = one + r * (one + r * (p2 + r * (p3 + r * (p4 + r * (p5 + r * (p6 + r * p7))))))
        return p * np.int32((np.int32(k) + 127) << 23).view(np.float32)

    return float32_exponential


@njit(cache=True, nogil=True, parallel=True, fastmath={"contract", "nsz", "reassoc"})
def _run(x, delta, A, B, C, width, ends, y, kept):
    batch, length, channels = x.shape
    blocks = (channels + width - 1) // width
    for task in prange(batch * blocks):
        b, first = task // blocks, task % blocks * width
        last = min(first + width, channels)
        for t in range(length):
            if kept.shape[0] > 0 and t % CHUNK == 0:
                kept[t // CHUNK, b, :, first:last] = ends[b, :, first:last]
            step, entering, out = delta[b, t, first:last], x[b, t, first:last], y[b, t, first:last]
            for n in range(A.shape[0]):
                rate, state, write, read = A[n, first:last], ends[b, n, first:last], B[b, t, n], C[b, t, n]
                for c in range(last - first):
                    value = exponential(step[c] * rate[c]) * state[c] + step[c] * entering[c] * write
                    state[c] = value
                    out[c] += read * value


@njit(cache=True, nogil=True, parallel=True, fastmath={"contract", "nsz", "reassoc"})
def _run_back(x, delta, A, B, C, kept, y_gradient, width, adjoint, x_gradient, delta_gradient, A_gradients, B_gradients, C_gradients):
    """Chunk by chunk from the last: the states again from the kept one, then their adjoints backwards.

    The loops over channels write few arrays each: with more the compiler gives up to prove that they do not overlap, and makes no vector code.
    """
    batch, length, channels = x.shape
    blocks, groups = B_gradients.shape[0], A_gradients.shape[0]
    for task in prange(groups * blocks):
        group, block = task // blocks, task % blocks
        first, last = block * width, min(block * width + width, channels)
        states = np.empty((CHUNK + 1, A.shape[0], last - first), dtype=x.dtype)
        decays = np.empty((CHUNK, A.shape[0], last - first), dtype=x.dtype)
        own = np.empty(last - first, dtype=x.dtype)
        for b in range(group, batch, groups):
            for chunk in range(kept.shape[0] - 1, -1, -1):
                begin, end = chunk * CHUNK, min(chunk * CHUNK + CHUNK, length)
                states[0] = kept[chunk, b, :, first:last]
                for t in range(begin, end):
                    step, entering = delta[b, t, first:last], x[b, t, first:last]
                    for n in range(A.shape[0]):
                        rate, before, after, decay = A[n, first:last], states[t - begin, n], states[t - begin + 1, n], decays[t - begin, n]
                        write = B[b, t, n]
                        for c in range(last - first):
                            decay[c] = exponential(step[c] * rate[c])
                            after[c] = decay[c] * before[c] + step[c] * entering[c] * write
                for t in range(end - 1, begin - 1, -1):
                    step, entering, above = delta[b, t, first:last], x[b, t, first:last], y_gradient[b, t, first:last]
                    to_x, to_step = x_gradient[b, t, first:last], delta_gradient[b, t, first:last]
                    to_x[:] = 0
                    to_step[:] = 0
                    for n in range(A.shape[0]):
                        rate, before, after, decay = A[n, first:last], states[t - begin, n], states[t - begin + 1, n], decays[t - begin, n]
                        back, to_rate, write, read = adjoint[b, n, first:last], A_gradients[group, n, first:last], B[b, t, n], C[b, t, n]
                        to_write, to_read = x.dtype.type(0), x.dtype.type(0)
                        for c in range(last - first):
                            own[c] = back[c] + above[c] * read
                            back[c] = own[c] * decay[c]
                            to_read += above[c] * after[c]
                        for c in range(last - first):
                            to_x[c] += own[c] * write
                            to_write += own[c] * step[c] * entering[c]
                        for c in range(last - first):
                            to_step[c] += back[c] * before[c] * rate[c]
                        for c in range(last - first):
                            to_rate[c] += back[c] * before[c] * step[c]
                        B_gradients[block, b, t, n], C_gradients[block, b, t, n] = to_write, to_read
                    for c in range(last - first):
                        to_step[c] += to_x[c] * entering[c]
                        to_x[c] *= step[c]


def _checked(x, delta, A, B, C, D, state):
    """All arguments, finite, of fitting shapes, one dtype and one device."""
    if not isinstance(A, torch.Tensor):
        raise TypeError(f"A must be a real floating torch tensor, got {type(A).__name__}")
    array(A, "A", ndim=2)
    channels, N = A.shape
    if isinstance(x, torch.Tensor) and x.ndim == 3 and x.shape[2] != channels:
        raise ValueError(f"A must have a row for each channel of x, {x.shape[2]}, got shape {tuple(A.shape)} (x: {tuple(x.shape)})")
    x = sequence(x, channels)
    batch, length, _ = x.shape
    shapes = {"x": x.shape, "delta": x.shape, "A": A.shape, "B": (batch, length, N), "C": (batch, length, N), "D": (channels,)}
    shapes["state"] = (batch, channels, N)
    values = dict(zip(shapes, (x, delta, A, B, C, D, state)))
    return [None if value is None and name in ("D", "state") else _fitting(value, name, shapes[name], x) for name, value in values.items()]


def _fitting(value: torch.Tensor, name: str, shape: tuple[int, ...], x: torch.Tensor) -> torch.Tensor:
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        raise TypeError(f"{name} must be a real floating torch tensor, got {getattr(value, 'dtype', type(value).__name__)}")
    if value.device != x.device:
        raise ValueError(f"{name} must be on the device of x, {x.device}, got {value.device}")
    array(value, name, shape=shape)
    if name == "delta" and value.min() < 0:
        raise ValueError(f"delta must have no negative entry, got {value.min():g}")
    return value
