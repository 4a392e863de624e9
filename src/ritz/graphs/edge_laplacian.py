"""Laplacians in torch, as weighted edges: the twin of `ritz.graphs.laplacian` for PyG's ``edge_index``."""

from __future__ import annotations

import torch


def edge_degrees(edge_index: torch.Tensor, num_nodes: int, edge_weight: torch.Tensor | None = None) -> torch.Tensor:
    """Return the weighted out-degree of each node (n,)."""
    weights = torch.ones(edge_index.shape[1], device=edge_index.device) if edge_weight is None else edge_weight
    return weights.new_zeros(num_nodes).index_add_(0, edge_index[0], weights)


def inverse_degrees(degrees: torch.Tensor, power: float) -> torch.Tensor:
    """Return degrees ** -power, with 0 for degree 0 and a finite gradient there."""
    reached = degrees > 0
    return torch.where(reached, torch.where(reached, degrees, 1).pow(-power), 0)


def normalized_edge_weights(edge_index: torch.Tensor, num_nodes: int, edge_weight: torch.Tensor | None = None, *, kind: str = "sym") -> torch.Tensor:
    """Return the weights of D^-1/2 A D^-1/2 ("sym") or D^-1 A ("rw") on the given edges."""
    degrees = edge_degrees(edge_index, num_nodes, edge_weight)
    source, target = edge_index
    weights = torch.ones_like(degrees[:1]).expand(edge_index.shape[1]) if edge_weight is None else edge_weight
    if kind == "rw":
        return weights * inverse_degrees(degrees, 1.0)[source]
    half = inverse_degrees(degrees, 0.5)
    return half[source] * weights * half[target]


def edge_laplacian(
    edge_index: torch.Tensor, num_nodes: int, edge_weight: torch.Tensor | None = None, *, kind: str = "sym"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the edges (2, E + n) and weights of a Laplacian, as `ritz.graphs.laplacian` defines it; the diagonal comes last, 0 for isolated nodes.

    Parameters
    ----------
    edge_index : LongTensor (2, E)
        Both directions of each edge.
    num_nodes : int
        The number n of nodes.
    edge_weight : Tensor (E,), optional
        Ones if missing.
    kind : {"comb", "sym", "rw"}
        D - A, I - D^-1/2 A D^-1/2 or I - D^-1 A.
    """
    degrees = edge_degrees(edge_index, num_nodes, edge_weight)
    loops = torch.arange(num_nodes, device=edge_index.device)
    if kind == "comb":
        off_diagonal = torch.ones_like(degrees[:1]).expand(edge_index.shape[1]) if edge_weight is None else edge_weight
        diagonal = degrees
    else:
        off_diagonal = normalized_edge_weights(edge_index, num_nodes, edge_weight, kind=kind)
        diagonal = (degrees > 0).to(degrees.dtype)
    return torch.cat([edge_index, torch.stack([loops, loops])], dim=1), torch.cat([-off_diagonal, diagonal])
