"""The ego networks of all nodes at once: who is in them, which pairs of nodes they hold, and means from one to the other.

An ego network has a seat for each of its members. Features live on nodes, on seats, on ego networks, and on the ordered pairs of nodes that share an
ego network; a pair may lie in several. Nothing here loops over nodes, and no feature is stored for each pair of each ego network.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch

from ritz.core import Result, integer, optional_import
from ritz.graphs.edge_kernels import EdgeOrder, edge_weights, neighbor_sum

_data = optional_import("torch_geometric.data", extra="graphs")
_transforms = optional_import("torch_geometric.transforms", extra="graphs")


class Links:
    """Which sources belong to which target, for means over them."""

    def __init__(self, sources: torch.Tensor, targets: torch.Tensor, num_sources: int, num_targets: int):
        self.ends, self.num_sources, self.num_targets = torch.stack([sources, targets]), num_sources, num_targets

    def mean(self, x: torch.Tensor) -> torch.Tensor:
        """Return the means (targets, C) of x (sources, C); compiled on the CPU, where nothing is stored for each link."""
        if x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64):
            return neighbor_sum(x, self._order, "mean")
        weights = edge_weights(self.ends, self.num_sources, self.num_targets, "mean", x.dtype)
        return x.new_zeros(self.num_targets, x.shape[1]).index_add(0, self.ends[1], weights[:, None] * x.index_select(0, self.ends[0]))

    @cached_property
    def _order(self) -> EdgeOrder:
        return EdgeOrder(self.ends, self.num_sources, self.num_targets)


class _Folded(torch.autograd.Function):
    @staticmethod
    def forward(ctx, lines, reverse):
        ctx.save_for_backward(reverse)
        own, reversed_ = lines.chunk(2, dim=1)
        return reversed_.index_select(0, reverse).add_(own)

    @staticmethod
    def backward(ctx, gradient):
        (reverse,) = ctx.saved_tensors
        return torch.cat([gradient, gradient.index_select(0, reverse)], dim=1), None


class EgoGroup(NamedTuple):
    """The ego networks of one size m: their numbers (B,), their nodes (B, m), the centers first, and the numbers of their pairs (B, m, m)."""

    egos: torch.Tensor
    nodes: torch.Tensor
    pairs: torch.Tensor


@dataclass(frozen=True, eq=False, repr=False)
class EgoNetworks(Result):
    """Subgraphs that cover the nodes of a batch of graphs, and the pairs of nodes in them.

    Attributes
    ----------
    num_nodes : int
        Number N of nodes.
    members : LongTensor (M,)
        The node on each seat, subgraph after subgraph; the center of an ego network comes first.
    sizes : LongTensor (V,)
        The number of seats of each subgraph; ego network v is that of node v.
    pairs : LongTensor (2, P)
        The ordered pairs of nodes, a node with itself included, that some subgraph holds, in lexicographic order.
    slots : LongTensor (S,)
        The number of the pair of each two seats of a subgraph, S the sum of squared sizes; row after row of the first subgraph, then of the next.
    reverse : LongTensor (P,)
        The number of the pair (j, i) for each pair (i, j).
    """

    num_nodes: int
    members: torch.Tensor
    sizes: torch.Tensor
    pairs: torch.Tensor
    slots: torch.Tensor
    reverse: torch.Tensor

    @cached_property
    def ego(self) -> torch.Tensor:
        """The subgraph (M,) of each seat."""
        return torch.repeat_interleave(self.sizes)

    @cached_property
    def diagonal(self) -> torch.Tensor:
        """The number (N,) of the pair of each node with itself."""
        return (self.pairs[0] == self.pairs[1]).nonzero().squeeze(1)

    @cached_property
    def row_seats(self) -> torch.Tensor:
        """The seat (S,) in whose row each slot stands."""
        return torch.repeat_interleave(self.sizes[self.ego])

    @cached_property
    def rows(self) -> Links:
        """From pairs to seats: the mean over the row of a seat."""
        return Links(self.slots, self.row_seats, self.pairs.shape[1], len(self.members))

    @cached_property
    def columns(self) -> Links:
        """From pairs to seats: the mean over the column of a seat."""
        return Links(self.reverse[self.slots], self.row_seats, self.pairs.shape[1], len(self.members))

    @cached_property
    def overlaps(self) -> Links:
        """From seats to pairs: the mean over the subgraphs that hold a pair, of what is on the seat of its first node."""
        return Links(self.row_seats, self.slots, len(self.members), self.pairs.shape[1])

    @cached_property
    def own_pairs(self) -> Links:
        """From pairs to seats: that of the seat's node with itself."""
        return Links(self.diagonal[self.members], self._seats, self.pairs.shape[1], len(self.members))

    @cached_property
    def own_nodes(self) -> Links:
        """From nodes to seats."""
        return Links(self.members, self._seats, self.num_nodes, len(self.members))

    @cached_property
    def to_nodes(self) -> Links:
        """From seats to nodes: the mean over the subgraphs that hold a node."""
        return Links(self._seats, self.members, len(self.members), self.num_nodes)

    @cached_property
    def to_egos(self) -> Links:
        """From seats to subgraphs: the mean over a subgraph's seats."""
        return Links(self._seats, self.ego, len(self.members), len(self.sizes))

    @cached_property
    def from_egos(self) -> Links:
        """From subgraphs to their seats."""
        return Links(self.ego, self._seats, len(self.sizes), len(self.members))

    @cached_property
    def _seats(self) -> torch.Tensor:
        return torch.arange(len(self.members), device=self.members.device)

    def folded(self, lines: torch.Tensor) -> torch.Tensor:
        """Add to the first half of the channels of (P, 2 C) the second half of the reverse pair's."""
        return _Folded.apply(lines, self.reverse)

    def pair_numbers(self, edge_index: torch.Tensor, name: str = "edge_index") -> torch.Tensor:
        """Return the number (E,) of the pair of each edge (2, E); ``ValueError`` if no subgraph holds it."""
        held, wanted = (self.num_nodes * index[0] + index[1] for index in (self.pairs, edge_index))
        numbers = torch.searchsorted(held, wanted).clamp(max=len(held) - 1)
        if not bool((held[numbers] == wanted).all()):
            raise ValueError(f"{name} must only join nodes that share a subgraph: it has edges that no subgraph holds")
        return numbers

    def groups(self) -> dict[int, EgoGroup]:
        """Return the subgraphs by size, as dense tensors."""
        firsts, slot_firsts = (self.sizes**power for power in (1, 2))
        firsts, slot_firsts = firsts.cumsum(0) - firsts, slot_firsts.cumsum(0) - slot_firsts
        found = {}
        for m in self.sizes.unique().tolist():
            egos = (self.sizes == m).nonzero().squeeze(1)
            within = torch.arange(m * m, device=egos.device)
            nodes, pairs = self.members[firsts[egos, None] + within[:m]], self.slots[slot_firsts[egos, None] + within]
            found[m] = EgoGroup(egos, nodes, pairs.reshape(-1, m, m))
        return found


def ego_networks(edge_index: torch.Tensor, num_nodes: int, k: int = 1) -> EgoNetworks:
    """Return the k-hop ego networks of all nodes: a node, and all that it reaches in at most k steps along edges in either direction.

    Parameters
    ----------
    edge_index : LongTensor (2, E)
        Sources and targets; of one graph or of a batch.
    num_nodes : int
        Number of nodes.
    k : int
        Number of steps.

    Raises
    ------
    ValueError, TypeError
        If k < 1, or edge_index is no index of edges or leaves the range of nodes.

    Notes
    -----
    Cost O(S log S), S the sum of squared sizes. Of a directed graph the ego networks do not depend on directions, features on pairs may.

    Examples
    --------
    >>> egos = ego_networks(torch.tensor([[0, 1], [1, 2]]), 4)
    >>> egos.sizes.tolist(), egos.members.tolist()
    ([2, 3, 2, 1], [0, 1, 1, 0, 2, 2, 1, 3])
    """
    n, k = integer(num_nodes, "num_nodes", at_least=1), integer(k, "k", at_least=1)
    reached = _reached(checked_edges(edge_index, n), n, k)
    centers, nodes = reached // n, reached % n
    order = torch.argsort(2 * n * centers + n * (centers != nodes) + nodes)
    return subgraphs_of(nodes[order], torch.bincount(centers, minlength=n), n)


def whole_graphs(batch: torch.Tensor) -> EgoNetworks:
    """Return one subgraph for each graph of a batch, all of it: layers on these are global ones.

    Parameters
    ----------
    batch : LongTensor (N,)
        The graph of each node, in order, no number left out.

    Raises
    ------
    ValueError, TypeError
        If batch is no such tensor.

    Notes
    -----
    Cost and memory O(n^2) a graph.

    Examples
    --------
    >>> whole_graphs(torch.tensor([0, 0, 1])).pairs.tolist()
    [[0, 0, 1, 1, 2], [0, 1, 0, 1, 2]]
    """
    batch = _indices(batch, "batch")
    if batch.dim() != 1 or not len(batch) or batch[0] != 0 or not bool(torch.isin(batch.diff(), torch.tensor([0, 1], device=batch.device)).all()):
        raise ValueError(f"batch must hold the graph of each node, in order and from 0 on, got shape {tuple(batch.shape)}")
    return subgraphs_of(torch.arange(len(batch), device=batch.device), torch.bincount(batch), len(batch))


def subgraphs_of(members: torch.Tensor, sizes: torch.Tensor, num_nodes: int) -> EgoNetworks:
    """Find the pairs of subgraphs given by their members (M,), subgraph after subgraph, and their sizes (V,)."""
    ego = torch.repeat_interleave(sizes)
    rows = torch.repeat_interleave(sizes[ego])
    starts = sizes.cumsum(0) - sizes
    row_starts = sizes[ego].cumsum(0) - sizes[ego]
    columns = starts[ego[rows]] + torch.arange(len(rows), device=rows.device) - row_starts[rows]
    keys, slots = torch.unique(num_nodes * members[rows] + members[columns], return_inverse=True)
    pairs = torch.stack([keys // num_nodes, keys % num_nodes])
    return EgoNetworks(num_nodes, members, sizes, pairs, slots, torch.searchsorted(keys, num_nodes * pairs[1] + pairs[0]))


def checked_edges(edge_index, num_nodes: int) -> torch.Tensor:
    """Return the index of edges as int64, or refuse it."""
    edge_index = _indices(edge_index, "edge_index")
    if edge_index.dim() != 2 or edge_index.shape[0] != 2:
        raise ValueError(f"edge_index must have shape (2, edges), got {tuple(edge_index.shape)}")
    if edge_index.numel() and not (int(edge_index.min()) >= 0 and int(edge_index.max()) < num_nodes):
        raise ValueError(f"edge_index must number nodes from 0 to {num_nodes - 1}, got {int(edge_index.min())} to {int(edge_index.max())}")
    return edge_index


def _indices(value, name: str) -> torch.Tensor:
    if not isinstance(value, torch.Tensor) or value.is_floating_point() or value.is_complex() or value.dtype == torch.bool:
        raise TypeError(f"{name} must be a tensor of integers, got {getattr(value, 'dtype', type(value).__name__)}")
    return value.long()


def _reached(edge_index: torch.Tensor, n: int, k: int) -> torch.Tensor:
    """Return ``n v + u`` for the nodes u that v reaches in k steps, itself included: breadth first from all v at once."""
    both = torch.cat([edge_index, edge_index.flip(0)], dim=1)
    edges = torch.unique(n * both[0] + both[1])
    neighbors, degrees = edges % n, torch.bincount(edges // n, minlength=n)
    starts = degrees.cumsum(0) - degrees
    found = frontier = (n + 1) * torch.arange(n, device=edge_index.device)
    for _ in range(k):
        centers, nodes = frontier // n, frontier % n
        last = torch.repeat_interleave(degrees[nodes])
        steps = degrees[nodes].cumsum(0) - degrees[nodes]
        position = torch.arange(len(last), device=last.device) - steps[last]
        candidates = torch.unique(n * centers[last] + neighbors[starts[nodes[last]] + position])
        frontier = candidates[~torch.isin(candidates, found, assume_unique=True)]
        if not len(frontier):
            break
        found = torch.cat([found, frontier])
    return found


class EgoData(_data.Data):
    """A graph that carries its ego networks; batches of such graphs carry theirs."""

    def __inc__(self, key, value, *args, **kwargs):
        """Pairs are numbered on from graph to graph."""
        return self.ego_pair_index.shape[1] if key in ("ego_slots", "ego_reverse") else super().__inc__(key, value, *args, **kwargs)


class EgoBatch(_transforms.BaseTransform):
    """Find the k-hop ego networks of a graph once and store them with it, so that batches are put together and not searched again.

    Parameters
    ----------
    k : int
        Number of steps; at least 1.

    Notes
    -----
    Stored are ``ego_member_index``, ``ego_sizes``, ``ego_pair_index``, ``ego_slots`` and ``ego_reverse``, the tensors of `EgoNetworks`; what comes
    back is an `EgoData`, which numbers them on in batches.

    Examples
    --------
    >>> from torch_geometric.data import Batch, Data
    >>> transform = EgoBatch(1)
    >>> edge = transform(Data(edge_index=torch.tensor([[0, 1], [1, 0]]), num_nodes=2))
    >>> transform.networks(Batch.from_data_list([edge, edge])).sizes
    tensor([2, 2, 2, 2])
    """

    def __init__(self, k: int = 1):
        self.k = integer(k, "k", at_least=1)

    def forward(self, data):
        """Return the graph as `EgoData` with its ego networks."""
        egos = ego_networks(data.edge_index, data.num_nodes, self.k)
        stored = EgoData.from_dict(data.to_dict())
        stored.ego_member_index, stored.ego_sizes, stored.ego_pair_index = egos.members, egos.sizes, egos.pairs
        stored.ego_slots, stored.ego_reverse = egos.slots, egos.reverse
        return stored

    def networks(self, data) -> EgoNetworks:
        """Return the ego networks stored with a graph or a batch of graphs; ``ValueError`` if there are none."""
        if "ego_slots" not in data:
            raise ValueError("data must carry its ego networks: pass each graph through this transform first")
        n = len(data.ego_sizes)
        return EgoNetworks(n, data.ego_member_index, data.ego_sizes, data.ego_pair_index, data.ego_slots, data.ego_reverse)
