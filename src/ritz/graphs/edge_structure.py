"""The structure of an undirected graph that sparse block operators on it need, computed once per ``edge_index``."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.utils.weak import WeakTensorKeyDictionary

from ritz.core import is_torch


@dataclass(frozen=True)
class EdgeStructure:
    """Both directions of each edge of a graph with n nodes, as given, and sorted by their source.

    Attributes
    ----------
    n : int
        The number of nodes.
    source, target : LongTensor (E,)
        The ends of the directed edges, as given.
    left, right : LongTensor (E / 2,)
        Where each undirected edge stands, once from its lower node and once from its higher.
    order : LongTensor (E,)
        Where the edges, sorted by source and target, stand among [left, right].
    indptr, rows, columns : LongTensor (n + 1,), (E,), (E,)
        The sorted edges: where those of each node begin, their sources and targets.
    """

    n: int
    source: torch.Tensor
    target: torch.Tensor
    left: torch.Tensor
    right: torch.Tensor
    order: torch.Tensor
    indptr: torch.Tensor
    rows: torch.Tensor
    columns: torch.Tensor

    @property
    def degrees(self) -> torch.Tensor:
        """The number of neighbors of each node."""
        return self.indptr.diff()

    def sorted_pairs(self, blocks: torch.Tensor) -> torch.Tensor:
        """Blocks of the undirected edges, seen from the lower node, as blocks (E, ...) of the sorted edges; from the higher they are transposed."""
        mirrored = blocks.transpose(1, 2) if blocks.dim() == 3 else blocks
        return torch.cat([blocks, mirrored])[self.order]


_known = WeakTensorKeyDictionary()  # by identity: tuples of the version of the tensor and its structure


def edge_structure(edge_index: torch.Tensor, n: int) -> EdgeStructure:
    """Return the structure of an undirected graph, from memory if the same tensor came before and was not written to since.

    Raises
    ------
    ValueError, TypeError
        If `edge_index` is no LongTensor (2, E) of nodes below n, or holds a self-loop, an edge twice, or one without its reverse.
    """
    if not is_torch(edge_index) or edge_index.dtype != torch.int64:
        raise TypeError(f"edge_index must be a LongTensor, got {getattr(edge_index, 'dtype', type(edge_index).__name__)}")
    version, known = _known.get(edge_index, (-1, None))
    if known is None or version != edge_index._version or known.n != n:
        known = _structure(edge_index, n)
        _known[edge_index] = edge_index._version, known
    return known


def _structure(edge_index: torch.Tensor, n: int) -> EdgeStructure:
    if edge_index.dim() != 2 or edge_index.shape[0] != 2:
        raise ValueError(f"edge_index must have shape (2, edges), got {tuple(edge_index.shape)}")
    source, target = edge_index.clone()
    if edge_index.numel() and (edge_index.min() < 0 or edge_index.max() >= n):
        raise ValueError(f"edge_index must hold node numbers from 0 to {n - 1}, got {int(edge_index.min())} to {int(edge_index.max())}")
    loops = int((source == target).sum())
    if loops:
        raise ValueError(f"edge_index must have no self-loops, got {loops}")
    forward, backward = torch.argsort(source * n + target), torch.argsort(target * n + source)
    keys = (source * n + target)[forward]
    if bool((keys[1:] == keys[:-1]).any()):
        raise ValueError("edge_index must hold each edge once in each direction, got one twice")
    if not torch.equal(keys, (target * n + source)[backward]):
        raise ValueError("edge_index must hold both directions of each edge (an undirected graph), got one without its reverse")
    lower = source[forward] < target[forward]
    left, right = forward[lower], backward[lower]
    place = torch.empty_like(source)
    place[torch.cat([left, right])] = torch.arange(len(source), device=source.device)
    rows, columns = source[forward], target[forward]
    indptr = torch.searchsorted(rows, torch.arange(n + 1, device=source.device))
    return EdgeStructure(n, source, target, left, right, place[forward], indptr, rows, columns)
