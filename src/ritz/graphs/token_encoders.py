"""From tokens to vectors: the mean of a token's nodes, a small graph network on the subgraph that they induce, or features along its walks.

Behrouz and Hashemi, "Graph Mamba: Towards Learning on Graphs with State Space Models", KDD 2024, arXiv:2402.08678, section 4.1; the features along
walks are those of Toenshoff, Ritzert, Wolf and Grohe, "Walking Out of the Weisfeiler Leman Hierarchy: Graph Learning Beyond Message Passing", TMLR
2023, arXiv:2102.08786.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import njit
from torch import nn
from torch.nn import functional as F

from ritz.core import optional_import
from ritz.graphs.walk_tokens import Tokens

_nn = optional_import("torch_geometric.nn", extra="graphs")

WINDOW = 8  # steps back that the structure along a walk is looked at, at most


def graph_layer(kind: str, dim: int, edge_channels: int | None) -> nn.Module:
    """One layer of message passing: residual gated graph convolution, or GIN, which adds up relu(x_j + W e) if edges have features."""
    if kind == "gated_gcn":
        return _nn.ResGatedGraphConv(dim, dim, edge_dim=edge_channels)
    mix = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim))
    return _nn.GINConv(mix, train_eps=True) if edge_channels is None else _nn.GINEConv(mix, train_eps=True, edge_dim=edge_channels)


def convolved(layer: nn.Module, x: torch.Tensor, edge_index: torch.Tensor, edge_attr: torch.Tensor | None) -> torch.Tensor:
    """The layer's messages, with edge features if there are any."""
    return layer(x, edge_index) if edge_attr is None else layer(x, edge_index, edge_attr)


class MeanEncoder(nn.Module):
    """The mean of a token's nodes; nothing is stored for each member."""

    def forward(self, x: torch.Tensor, tokens: Tokens, _edge_index: torch.Tensor, _edge_attr: torch.Tensor | None) -> torch.Tensor:
        """Map node features (n, C) to tokens (T, C)."""
        return _token_means(x, tokens.nodes, tokens.sizes)


class SubgraphEncoder(nn.Module):
    """One layer of message passing on the disjoint union of all induced subgraphs, added to its input, and the mean over members."""

    def __init__(self, kind: str, dim: int, edge_channels: int | None):
        super().__init__()
        self.layer = graph_layer(kind, dim, edge_channels)

    def forward(self, x: torch.Tensor, tokens: Tokens, edge_index: torch.Tensor, edge_attr: torch.Tensor | None) -> torch.Tensor:
        """Map node features (n, C) to tokens (T, C)."""
        ends, edges = induced_edges(tokens, edge_index, len(x))
        members = x.index_select(0, tokens.nodes)
        members = members + torch.relu(convolved(self.layer, members, ends, None if edge_attr is None else edge_attr[edges]))
        return _token_means(members, torch.arange(len(members), device=x.device), tokens.sizes)


class WalkEncoder(nn.Module):
    """Features along walks: nodes, edges, and for up to eight steps back whether it is the same node and whether it is a neighbor.

    Two convolutions along the walk, and the mean over its places and over a token's walks.
    """

    def __init__(self, dim: int, edge_channels: int | None, walk_length: int, walks: int, repeats: int):
        super().__init__()
        self.walk_length, self.walks, self.repeats = walk_length, walks, repeats
        self.window = min(WINDOW, walk_length)
        width = dim + (edge_channels or 0) + 2 * self.window
        self.convolve = nn.Sequential(nn.Conv1d(width, dim, 3, padding=1), nn.ReLU(), nn.Conv1d(dim, dim, 3, padding=1), nn.ReLU())

    def forward(self, x: torch.Tensor, tokens: Tokens, edge_index: torch.Tensor, edge_attr: torch.Tensor | None) -> torch.Tensor:
        """Map node features (n, C) to tokens (T, C)."""
        edges = _EdgeTable(edge_index, len(x))
        lengths = list(range(self.walk_length, 0, -1))
        parts = tokens.walks.split([self.repeats * self.walks * (length + 1) for length in lengths], dim=1)
        encoded = [self._encoded(part.reshape(-1, self.walks, length + 1), x, edges, edge_attr) for part, length in zip(parts, lengths)]
        alone = self._encoded(torch.arange(len(x), device=x.device).view(-1, 1, 1), x, edges, edge_attr)
        return torch.cat([part.view(len(x), -1, part.shape[-1]) for part in (*encoded, alone)], dim=1).flatten(0, 1)

    def _encoded(self, walks: torch.Tensor, x: torch.Tensor, edges: _EdgeTable, edge_attr: torch.Tensor | None) -> torch.Tensor:
        """Walks (T, M, steps + 1) as vectors (T, C)."""
        features = [x[walks]]
        if edge_attr is not None:
            here = edges.number(walks[..., :-1], walks[..., 1:])
            passed = F.pad(edge_attr, (0, 0, 0, 1))[here]  # the last row, zeros, where the walk stayed
            features.append(F.pad(passed, (0, 0, 1, 0)))
        for back in range(1, self.window + 1):
            before, now = walks[..., :-back], walks[..., back:]
            holds = torch.stack([before == now, edges.number(before, now) >= 0], dim=-1)
            features.append(F.pad(holds.to(x.dtype), (0, 0, walks.shape[-1] - holds.shape[-2], 0)))
        along = torch.cat(features, dim=-1).flatten(0, 1).mT
        return self.convolve(along).mean(-1).view(*walks.shape[:2], -1).mean(1)


class _EdgeTable:
    """The number of the edge between two nodes."""

    def __init__(self, edge_index: torch.Tensor, n: int):
        self.n = n
        self.keys, self.numbers = torch.sort(edge_index[0] * n + edge_index[1], stable=True)

    def number(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The first edge from each source to its target, -1 if there is none."""
        if not len(self.keys):
            return torch.full_like(source, -1)
        key = source * self.n + target
        place = torch.searchsorted(self.keys, key).clamp(max=len(self.keys) - 1)
        return torch.where(self.keys[place] == key, self.numbers[place], -1)


def induced_edges(tokens: Tokens, edge_index: torch.Tensor, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the edges (2, E') of all induced subgraphs, between places in ``tokens.nodes``, and their numbers (E',) in the graph."""
    order = torch.argsort(edge_index[0], stable=True)
    pointer = torch.searchsorted(edge_index[0][order], torch.arange(n + 1, device=order.device))
    ptr = F.pad(torch.cumsum(tokens.sizes, 0), (1, 0))
    arrays = [tensor.cpu().numpy() for tensor in (pointer, edge_index[1][order], order, tokens.nodes, ptr)]
    place, nothing = np.full(n, -1), np.empty((3, 0), dtype=np.int64)
    found = np.empty((3, _induced(*arrays, place, nothing)), dtype=np.int64)
    place[:] = -1
    _induced(*arrays, place, found)
    ends = torch.from_numpy(found).to(edge_index.device)
    return ends[:2], ends[2]


@njit(cache=True, nogil=True)
def _induced(pointer, targets, numbers, nodes, ptr, place, found):
    """Count the edges inside tokens, and write them down if there is room. Places grow, so that those of earlier tokens need not be wiped out."""
    count = 0
    for token in range(ptr.shape[0] - 1):
        begin, end = ptr[token], ptr[token + 1]
        for member in range(begin, end):
            place[nodes[member]] = member
        for member in range(begin, end):
            for e in range(pointer[nodes[member]], pointer[nodes[member] + 1]):
                other = place[targets[e]]
                if other >= begin:
                    if found.shape[1]:
                        found[0, count], found[1, count], found[2, count] = member, other, numbers[e]
                    count += 1
    return count


def _token_means(x: torch.Tensor, members: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
    return F.embedding_bag(members, x, torch.cumsum(sizes, 0) - sizes, mode="mean")
