"""Chebyshev polynomials of the normalized Laplacian as graph filters: one basis, several filters on it."""

from __future__ import annotations

import math

import torch
from torch import nn

from ritz.graphs.edge_laplacian import normalized_edge_weights


def chebyshev_basis(x: torch.Tensor, edge_index: torch.Tensor, terms: int) -> torch.Tensor:
    """Return T_0 x, ..., T_{terms-1} x as (N, terms, F), polynomials of L - I = -D^-1/2 A D^-1/2, whose spectrum lies in [-1, 1]."""
    source, target = edge_index
    weights = -normalized_edge_weights(edge_index, len(x), x.new_ones(edge_index.shape[1]))[:, None]

    def shifted_laplacian(h):
        return torch.zeros_like(h).index_add(0, target, weights * h[source])

    basis = [x]
    if terms > 1:
        basis.append(shifted_laplacian(x))
    while len(basis) < terms:
        basis.append(2 * shifted_laplacian(basis[-1]) - basis[-2])
    return torch.stack(basis, dim=1)


class ChebyshevFilters(nn.Module):
    """Several Chebyshev convolutions side by side: (N, F) to (N, filters * out), each as PyG's ``ChebConv`` with lambda_max = 2.

    ``weight`` (filters, terms, F, out) and ``bias`` (filters, out) start as PyG's do.
    """

    def __init__(self, in_channels: int, out_channels: int, terms: int, filters: int):
        super().__init__()
        bound = math.sqrt(6 / (in_channels + out_channels))
        self.weight = nn.Parameter(torch.empty(filters, terms, in_channels, out_channels).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(filters, out_channels))

    def forward(self, x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
        """Filter node features."""
        filters, terms, inputs, outputs = self.weight.shape
        basis = chebyshev_basis(x, edge_index, terms).reshape(len(x), terms * inputs)
        matrix = self.weight.permute(1, 2, 0, 3).reshape(terms * inputs, filters * outputs)
        return basis @ matrix + self.bias.flatten()
