"""The selective scan against a loop over time, forward alone and with gradients."""

import torch

from ritz.sequence import selective_scan
from ritz.studies import benchmark, compare

BATCH, LENGTH, CHANNELS, STATE = 1, 2000, 64, 16


def _recurrence(x, delta, A, B, C):
    h, outputs = torch.zeros(BATCH, *A.shape), []
    for t in range(LENGTH):
        h = torch.exp(delta[:, t, :, None] * A) * h + (delta[:, t] * x[:, t])[..., None] * B[:, t, None]
        outputs.append((h * C[:, t, None]).sum(-1))
    return torch.stack(outputs, dim=1), h


@benchmark
def against_a_loop():
    """One sequence of 2,000 steps, 64 channels, 16 numbers of state."""
    x, delta = torch.randn(BATCH, LENGTH, CHANNELS), torch.rand(BATCH, LENGTH, CHANNELS) * 0.1
    A, B, C = -torch.rand(CHANNELS, STATE), torch.randn(BATCH, LENGTH, STATE), torch.randn(BATCH, LENGTH, STATE)
    arguments = (x, delta, A, B, C)
    yield compare("forward", lambda: selective_scan(*arguments), lambda: _recurrence(*arguments), peer_name="loop", target=10.0, pairs=5)
    learned = tuple(tensor.clone().requires_grad_() for tensor in arguments)

    def step(scan):
        return lambda: scan(*learned)[0].sum().backward()

    yield compare("forward and backward", step(selective_scan), step(_recurrence), peer_name="loop", target=10.0, pairs=3)
