"""The recurrence of a diagonal state-space model, x_k = Ab x_{k-1} + Bb u_k and y_k = 2 Re sum_n C_n x_kn: one step, or many steps chunk by chunk.

The chunked form multiplies within a chunk by a triangular Toeplitz matrix and carries the state across chunks: later inputs meet exact zeros, so
that its outputs are causal to the last bit, which an FFT cannot give.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from ritz.sequence.vandermonde import powers

CHUNK = 64


class DiagonalSystem(NamedTuple):
    """A discrete system per channel: log Ab, Bb and C, complex128 of shape (channels, modes)."""

    log_Ab: torch.Tensor
    Bb: torch.Tensor
    C: torch.Tensor


def step(system: DiagonalSystem, u: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """One step: input u (batch, channels), state (batch, channels, modes); returns the output (batch, channels) and the new state."""
    Ab, Bb, C = (coefficient.to(state.dtype) for coefficient in (system.log_Ab.exp(), system.Bb, system.C))
    state = Ab * state + Bb * u.unsqueeze(-1)
    return 2 * (C * state).sum(-1).real, state


def run(system: DiagonalSystem, u: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As many steps as u (batch, channels, length) has, from a state (batch, channels, modes); returns y like u and the state after the last.

    O(length (chunk + modes)) multiply-adds per channel and sequence, as matrix products.
    """
    chunks = u.transpose(0, 1).split(CHUNK, dim=-1)
    width = chunks[0].shape[-1]
    decay = powers(system.log_Ab, width + 1)
    within = _causal_toeplitz(2 * ((system.C * system.Bb).unsqueeze(-1) * decay[..., :width]).sum(-2).real).to(u.dtype)
    decay, read, write = (table.to(state.dtype) for table in (decay, system.C.unsqueeze(-1) * decay[..., 1:], system.Bb.unsqueeze(-1) * decay))
    carried = state.transpose(0, 1)
    outputs = []
    for chunk in chunks:
        size = chunk.shape[-1]
        outputs.append(chunk @ within[:, :size, :size] + 2 * (carried @ read[..., :size]).real)
        carried = decay[:, None, :, size] * carried + chunk.flip(-1).to(state.dtype) @ write[..., :size].mT
    return torch.cat(outputs, dim=-1).transpose(0, 1), carried.transpose(0, 1)


def _causal_toeplitz(impulse_response: torch.Tensor) -> torch.Tensor:
    """Matrices (..., T, T) with entry (i, j) = impulse_response_{j-i} for j >= i and exactly zero below: inputs multiply from the left."""
    T = impulse_response.shape[-1]
    index = torch.arange(T, device=impulse_response.device)
    lag = index[None, :] - index[:, None]
    return torch.where(lag >= 0, impulse_response[..., lag.clamp(min=0)], 0)
