"""A selective state-space block that reads a sequence in both directions.

Behrouz and Hashemi, "Graph Mamba: Towards Learning on Graphs with State Space Models", KDD 2024, arXiv:2402.08678, section 4.2, with the selective
scan of Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", COLM 2024, arXiv:2312.00752.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from ritz.core import integer
from ritz.sequence.layout import sequence
from ritz.sequence.selective_scan import scan

STEP_RANGE = 1e-3, 0.1  # of the step sizes before training, drawn log-uniformly


class CausalConvolution(nn.Module):
    """Each channel with its own few last places: a sum of shifted products, whose gradient is cheaper than that of torch's grouped convolution."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.empty(width, channels)), nn.Parameter(torch.empty(channels))
        for parameter in (self.weight, self.bias):
            nn.init.uniform_(parameter, -(width**-0.5), width**-0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (batch, length, channels) to the same; `weight[-1]` goes with the place itself."""
        padded = F.pad(x, (0, 0, len(self.weight) - 1, 0))
        return sum((padded[:, lag : lag + x.shape[1]] * weight for lag, weight in enumerate(self.weight)), self.bias)


class MambaBranch(nn.Module):
    """One direction: normalize, widen, convolve causally, scan selectively, gate, narrow."""

    def __init__(self, dim: int, state_dim: int, conv_width: int, expand: int):
        super().__init__()
        inner, self.state_dim = expand * dim, state_dim
        self.rank = -(-dim // 16)
        self.norm, self.enter, self.gate = nn.LayerNorm(dim), nn.Linear(dim, inner, bias=False), nn.Linear(dim, inner, bias=False)
        self.conv = CausalConvolution(inner, conv_width)
        self.select, self.step = nn.Linear(inner, self.rank + 2 * state_dim, bias=False), nn.Linear(self.rank, inner)
        self.log_rate = nn.Parameter(torch.arange(1.0, state_dim + 1).log().expand(inner, -1).clone())
        self.skip, self.leave = nn.Parameter(torch.ones(inner)), nn.Linear(inner, dim, bias=False)
        sizes = torch.empty(inner).uniform_(*map(math.log, STEP_RANGE)).exp()
        with torch.no_grad():
            nn.init.uniform_(self.step.weight, -(self.rank**-0.5), self.rank**-0.5)
            self.step.bias.copy_(sizes + torch.log(-torch.expm1(-sizes)))  # softplus of it is the size

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Map (batch, length, dim) to the same; places where the mask (batch, length) is false are not there."""
        normal = self.norm(x)
        entering = self.enter(normal)
        if mask is not None:
            entering = entering * mask.unsqueeze(-1)
        seen = F.silu(self.conv(entering))
        low, write, read = self.select(seen).split([self.rank, self.state_dim, self.state_dim], dim=-1)
        size = F.softplus(self.step(low))
        if mask is not None:
            size = size * mask.unsqueeze(-1)
        y, _ = scan(seen, size, -self.log_rate.exp(), write, read, self.skip)
        return self.leave(y * F.silu(self.gate(normal)))


class BidirectionalMamba(nn.Module):
    """Two selective state-space branches with weights of their own, one on the sequence and one on its reverse, reversed back: W_out of their sum.

    A branch on Phi, with sigma = SiLU: ``Phi' = sigma(conv(W_in LayerNorm(Phi)))``, a depthwise causal convolution; ``B, C = W_B Phi', W_C Phi'``,
    ``Delta = softplus(W_Delta Phi')``; ``y`` is the selective scan of Phi' with A = -exp(log_rate); ``W_1 (y * sigma(W_2 LayerNorm(Phi)))`` is its
    result.

    Parameters
    ----------
    dim : int
        Channels of the sequence.
    state_dim : int
        Numbers of state for each inner channel.
    conv_width : int
        Places that the convolution sees.
    expand : int
        Inner channels for each channel.

    Raises
    ------
    ValueError, TypeError
        If an option is out of range.

    Notes
    -----
    Cost O(length dim expand (dim + state_dim)) a sequence and branch. As in Mamba, W_Delta has rank dim / 16 and a bias that makes step sizes between
    0.001 and 0.1, A starts at -1, ..., -state_dim, and the scan has a skip D. The block has no residual connection of its own.

    Examples
    --------
    >>> BidirectionalMamba(8)(torch.randn(2, 5, 8)).shape
    torch.Size([2, 5, 8])
    """

    def __init__(self, dim: int, state_dim: int = 16, conv_width: int = 4, expand: int = 2):
        super().__init__()
        self.dim = integer(dim, "dim", at_least=1)
        options = tuple(
            integer(value, name, at_least=1) for name, value in (("state_dim", state_dim), ("conv_width", conv_width), ("expand", expand))
        )
        self.ahead, self.back = MambaBranch(self.dim, *options), MambaBranch(self.dim, *options)
        self.out = nn.Linear(self.dim, self.dim, bias=False)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Return outputs (batch, length, dim).

        Parameters
        ----------
        x : Tensor (batch, length, dim)
            Sequences, padded at either end if they differ in length.
        mask : BoolTensor (batch, length), optional
            True where there is something; outputs elsewhere mean nothing, and what stands there does not matter as long as it is finite.

        Raises
        ------
        TypeError, ValueError
            If `x` is no such tensor, or the mask has another shape.
        """
        sequence(x, self.dim)
        if mask is not None and (mask.dtype != torch.bool or mask.shape != x.shape[:2]):
            raise ValueError(f"mask must be boolean of shape {tuple(x.shape[:2])}, got {mask.dtype} {tuple(mask.shape)}")
        reverse = self.back(x.flip(1), None if mask is None else mask.flip(1)).flip(1)
        return self.out(self.ahead(x, mask) + reverse)
