"""Graphs as dense tensors over pairs of nodes, batched and masked.

A batch of graphs is a tensor (B, n, n, C), n the largest number of nodes, with a mask (B, n, n) of the pairs that exist. What acts on it keeps one
contract: padded pairs are exactly zero on the way out and change nothing for the real ones, so that a batch equals a loop over its graphs.
"""

from __future__ import annotations

import torch

from ritz.core import optional_import

_to_dense_adj = optional_import("torch_geometric.utils", extra="graphs").to_dense_adj
_to_dense_batch = optional_import("torch_geometric.utils", extra="graphs").to_dense_batch


def dense_pairs(edge_index: torch.Tensor, batch: torch.Tensor, edge_attr: torch.Tensor | None = None) -> torch.Tensor:
    """Return the edges of a batch as a tensor (B, n, n, C), zero where there is no edge; parallel edges are summed.

    Parameters
    ----------
    edge_index : LongTensor (2, E)
        Sources and targets.
    batch : LongTensor (N,)
        The graph of each node, in order.
    edge_attr : Tensor (E, C) or (E,), optional
        Ones, C = 1, if missing.
    """
    if edge_attr is None:
        edge_attr = torch.ones(edge_index.shape[1], device=edge_index.device)
    pairs = _to_dense_adj(edge_index, batch, edge_attr=edge_attr)
    return pairs if pairs.dim() == 4 else pairs.unsqueeze(-1)


def dense_nodes(x: torch.Tensor, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return node features as a tensor (B, n, C), zero where there is no node, and the mask (B, n) of the nodes."""
    return _to_dense_batch(x, batch)


def pair_mask(node_mask: torch.Tensor) -> torch.Tensor:
    """Return the mask (B, n, n) of the pairs whose two nodes exist."""
    return node_mask.unsqueeze(-1) & node_mask.unsqueeze(-2)


def on_diagonal(nodes: torch.Tensor) -> torch.Tensor:
    """Place node features (B, n, C) on the diagonal of a pair tensor (B, n, n, C)."""
    return torch.diag_embed(nodes.transpose(-1, -2)).permute(0, 2, 3, 1)


def diagonal(pairs: torch.Tensor) -> torch.Tensor:
    """Return the diagonal (B, n, C) of a pair tensor."""
    return pairs.diagonal(dim1=1, dim2=2).transpose(-1, -2)


def mean_diagonal(pairs: torch.Tensor, node_mask: torch.Tensor) -> torch.Tensor:
    """Return the mean (B, C) over the nodes' own pairs; padded entries of `pairs` are zero."""
    return diagonal(pairs).sum(1) / node_mask.sum(1, keepdim=True).clamp(min=1)


def mean_off_diagonal(pairs: torch.Tensor, node_mask: torch.Tensor) -> torch.Tensor:
    """Return the mean (B, C) over pairs of distinct nodes, 0 for a graph of one node; padded entries of `pairs` are zero."""
    n = node_mask.sum(1, keepdim=True)
    return (pairs.sum((1, 2)) - diagonal(pairs).sum(1)) / (n * (n - 1)).clamp(min=1)


def masked_softmax(scores: torch.Tensor, mask: torch.Tensor, dim: int) -> torch.Tensor:
    """Softmax over the entries where `mask` is true; the others get exactly 0, and so does all of a line that has none."""
    lowest = torch.finfo(scores.dtype).min  # not minus infinity, whose gradient on an empty line is NaN
    weights = torch.softmax(scores.masked_fill(~mask, lowest), dim)
    return torch.where(mask, weights, 0)
