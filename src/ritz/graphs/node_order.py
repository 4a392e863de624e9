"""The order in which the nodes of a graph are read as a sequence, the important ones last, and the way into padded sequences and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from ritz.graphs.pair_tensors import dense_nodes

DAMPING, ROUNDS, DIGITS = 0.85, 120, 9


class NodeOrder(NamedTuple):
    """The nodes of a batch of graphs, graph by graph, each graph's in its order; and the graph of each node that stands there."""

    nodes: torch.Tensor
    graphs: torch.Tensor

    def padded(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Node features (N, C) as sequences (B, n, C), and their mask (B, n)."""
        return dense_nodes(x[self.nodes], self.graphs)

    def unpadded(self, sequences: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """The features (N, C) of sequences, node by node."""
        return sequences[mask][torch.argsort(self.nodes)]


def node_order(kind: str | Callable, edge_index: torch.Tensor, batch: torch.Tensor, *, shuffled: bool) -> NodeOrder:
    """Sort the nodes of each graph by degree, PageRank or any score, ascending; ties at random, or by PageRank and then by number."""
    n = len(batch)
    ties = torch.rand(n, device=batch.device) if shuffled else torch.arange(n, device=batch.device)
    keys = [ties]
    if kind == "pagerank" or not shuffled:
        keys.append(pagerank(edge_index, n))
    if kind == "degree":
        keys.append(torch.bincount(edge_index[1], minlength=n))
    elif callable(kind):
        keys.append(_scores(kind, edge_index, n))
    nodes = torch.arange(n, device=batch.device)
    for key in (*keys, batch):  # the last key weighs most, as every sort leaves ties as they are
        nodes = nodes[torch.argsort(key[nodes], stable=True)]
    return NodeOrder(nodes, batch[nodes])


def pagerank(edge_index: torch.Tensor, n: int) -> torch.Tensor:
    """PageRank (n,) times the number of nodes and a constant of each graph: p = (1 - d) + d P^T p, to nine digits.

    Without sharing out what nodes without outgoing edges hold, which scales all scores of a graph alike, a batch is as its graphs; rounding keeps
    nodes equal that are equal but for the order of additions.
    """
    source, target = edge_index
    weight = DAMPING / torch.bincount(source, minlength=n).clamp(min=1).double()
    score = weight.new_ones(n)
    for _ in range(ROUNDS):
        score = weight.new_full((n,), 1 - DAMPING).index_add(0, target, (weight * score)[source])
    return score.mul_(10.0**DIGITS).round_()


def _scores(function: Callable, edge_index: torch.Tensor, n: int) -> torch.Tensor:
    scores = function(edge_index, n)
    if not isinstance(scores, torch.Tensor) or scores.shape != (n,):
        came = tuple(scores.shape) if isinstance(scores, torch.Tensor) else type(scores).__name__
        raise ValueError(f"node_order must return a tensor of shape ({n},), got {came}")
    return scores
