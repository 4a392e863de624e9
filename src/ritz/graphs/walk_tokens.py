"""Nodes as short sequences of subgraphs: the nodes that random walks of one length meet are a token, and shorter walks follow longer ones.

Behrouz and Hashemi, "Graph Mamba: Towards Learning on Graphs with State Space Models", KDD 2024, arXiv:2402.08678, section 4.1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numba import njit, prange

from ritz.core import flag, integer, optional_import, random_generator
from ritz.graphs.adjacency import as_adjacency
from ritz.graphs.random_walks import WalkTable, advanced, step, stream_of, unit, walk_seed, walk_table

_data = optional_import("torch_geometric.data", extra="graphs")
_transforms = optional_import("torch_geometric.transforms", extra="graphs")

_BLOCK = 4096  # nodes whose tokens are collected in one buffer of the largest possible size


class Tokens(NamedTuple):
    """The tokens of a graph or a batch of graphs.

    `nodes` are the members of all tokens, one token after the other; `ptr` (tokens + 1,) says where each begins and ends, `owner` whose it is and
    `order` its place in the owner's sequence. `walks` (n, W) are the owner's walks themselves, if they were kept.
    """

    nodes: torch.Tensor
    ptr: torch.Tensor
    owner: torch.Tensor
    order: torch.Tensor
    walks: torch.Tensor | None = None

    @property
    def sizes(self) -> torch.Tensor:
        """The number of members of each token; the pointers of a batch's graphs follow one another, with an empty gap at each seam."""
        sizes = self.ptr.diff()
        return sizes[sizes > 0]

    @classmethod
    def of(cls, data) -> Tokens:
        """Return the tokens that `WalkTokens` stored with a graph or a batch of graphs."""
        if isinstance(data, Tokens):
            return data
        missing = [name for name in ("token_nodes", "token_ptr", "token_owner", "token_order") if getattr(data, name, None) is None]
        if missing:
            raise ValueError(f"tokens must carry {', '.join(missing)}: pass each graph through WalkTokens first")
        return cls(data.token_nodes, data.token_ptr, data.token_owner, data.token_order, getattr(data, "token_walks", None))


class TokenData(_data.Data):
    """A graph that carries its tokens; batches of such graphs carry theirs."""

    def __inc__(self, key, value, *args, **kwargs):
        """Nodes and members of tokens are numbered on from graph to graph."""
        if key in ("token_nodes", "token_owner", "token_walks"):
            return self.num_nodes
        return len(self.token_nodes) if key == "token_ptr" else super().__inc__(key, value, *args, **kwargs)


class WalkTokens(_transforms.BaseTransform):
    """Store the tokens of every node: for each length from `walk_length` down to 1 and each repeat the nodes that random walks meet, then the node.

    Parameters
    ----------
    walk_length : int
        The longest walks' number m of steps; 0 leaves each node itself as its only token.
    walks_per_token : int
        The number M of walks whose nodes are united; at least 1 unless `walk_length` is 0.
    repeats : int
        The number s of tokens of each length; at least 1 unless `walk_length` is 0.
    rng : Generator, int or None
        Source of randomness. The walks of a node depend on it and on the node's number, neither on other nodes nor on threads; each graph draws once.
    keep_walks : bool
        Also store the walks, which random-walk features need.

    Raises
    ------
    ValueError, TypeError
        If an option is out of range; on a graph, if it has no node or a negative weight.

    Notes
    -----
    A node owns L = s m + 1 tokens, places 0 to L - 1 of its sequence; place i < s m holds walks of m - i // s steps, the last the node alone. A
    token's members stand in the order in which they were met, the owner first. A walk from a node without outgoing edges stays. Weighted edges are
    taken in proportion to their weights. Stored are ``token_nodes`` (members of all tokens), ``token_ptr`` (tokens + 1,), ``token_owner`` and
    ``token_order`` (tokens,), and perhaps ``token_walks`` (n, M s sum of (length + 1)), in the order of the tokens; what comes back is a `TokenData`,
    which numbers them on in batches. Cost O(n s M m^2) steps, and comparisons of each node met with those met before; memory is linear in n.

    Examples
    --------
    >>> from torch_geometric.data import Data
    >>> edge = Data(edge_index=torch.tensor([[0, 1], [1, 0]]), num_nodes=2)
    >>> tokens = WalkTokens(1, 2, 1, rng=0)(edge)
    >>> tokens.token_nodes, tokens.token_ptr
    (tensor([0, 1, 0, 1, 0, 1]), tensor([0, 2, 3, 5, 6]))
    """

    def __init__(self, walk_length: int = 8, walks_per_token: int = 4, repeats: int = 2, rng=None, *, keep_walks: bool = False):
        self.walk_length, self.walks_per_token, self.repeats = checked_counts(walk_length, walks_per_token, repeats)
        self.rng, self.keep_walks = random_generator(rng), flag(keep_walks, "keep_walks")

    def forward(self, data):
        """Return the graph as `TokenData` with its tokens."""
        tokens = self.tokens(data)
        stored = TokenData.from_dict(data.to_dict())
        stored.token_nodes, stored.token_ptr, stored.token_owner, stored.token_order = tokens[:4]
        if tokens.walks is not None:
            stored.token_walks = tokens.walks
        return stored

    def tokens(self, graph) -> Tokens:
        """Return the tokens of a graph in any form that `as_adjacency` takes, or of a batch of graphs as one."""
        matrix = as_adjacency(_without_features(graph), name="data").matrix
        counts = self.walk_length, self.walks_per_token, self.repeats
        nodes, sizes, walks = token_sets(walk_table(matrix), np.arange(matrix.shape[0]), *counts, walk_seed(self.rng), self.keep_walks)
        ptr = np.zeros(sizes.size + 1, dtype=np.int64)
        np.cumsum(sizes.ravel(), out=ptr[1:])
        owner, order = np.divmod(np.arange(sizes.size), sizes.shape[1])
        return Tokens(*map(torch.from_numpy, (nodes, ptr, owner, order)), torch.from_numpy(walks) if self.keep_walks else None)


def checked_counts(walk_length: int, walks_per_token: int, repeats: int) -> tuple[int, int, int]:
    """Return the three numbers m, M and s if they make tokens."""
    m = integer(walk_length, "walk_length", at_least=0)
    least = 1 if m else 0
    return m, integer(walks_per_token, "walks_per_token", at_least=least), integer(repeats, "repeats", at_least=least)


def token_sets(
    table: WalkTable, streams: np.ndarray, walk_length: int, walks: int, repeats: int, seed: np.uint64, keep_walks: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the members of all tokens, their numbers (n, L), and the walks (n, W), W = 0 if not kept; node v walks by the stream `streams[v]`."""
    n, places = len(streams), repeats * walk_length + 1
    lengths = np.arange(walk_length, 0, -1)
    capacity = 1 + repeats * int((walks * lengths + 1).sum())
    width = repeats * walks * int((lengths + 1).sum()) if keep_walks else 0
    sizes, paths = np.empty((n, places), dtype=np.int64), np.empty((n, width), dtype=np.int64)
    parts = []
    for first in range(0, n, _BLOCK):
        last = min(first + _BLOCK, n)
        buffer = np.empty((last - first, capacity), dtype=table.indices.dtype)
        _collect(*table, streams, first, walk_length, walks, repeats, seed, buffer, sizes[first:last], paths[first:last])
        ends = np.cumsum(sizes[first:last].sum(axis=1))
        part = np.empty(ends[-1], dtype=np.int64)
        _pack(buffer, ends, part)
        parts.append(part)
    return np.concatenate(parts), sizes, paths


@njit(cache=True, nogil=True, parallel=True)
def _collect(indptr, indices, cumulative, streams, begin, walk_length, walks, repeats, seed, buffer, sizes, paths):
    """Walk from the nodes of a block; write to each row of `buffer` the members of its tokens one after the other.

    The walks of a token go side by side, a step each in turn, so that their cache misses overlap.
    """
    for row in prange(buffer.shape[0]):
        owner, standing = begin + row, np.empty(walks, dtype=np.int64)
        counter, used, place, position = stream_of(seed, streams[owner]), 0, 0, 0
        for length in range(walk_length, 0, -1):
            for _ in range(repeats):
                members, size = buffer[row, used:], 1
                members[0] = owner
                standing[:] = owner
                for t in range(length + 1):
                    for w in range(walks):
                        if t:
                            counter = advanced(counter)
                            standing[w] = step(indptr, indices, cumulative, standing[w], unit(counter))
                        if paths.shape[1]:
                            paths[row, position + w * (length + 1) + t] = standing[w]
                    for w in range(walks):
                        size = _united(members, size, standing[w])
                sizes[row, place] = size
                used, place, position = used + size, place + 1, position + walks * (length + 1)
        buffer[row, used] = owner
        sizes[row, place] = 1


@njit(cache=True, nogil=True, inline="always")
def _united(members, size, node):
    """Append a node if it is not there; all are compared without a branch, eight or sixteen at once."""
    node = members.dtype.type(node)
    met = 0
    for k in range(size):
        met |= members[k] == node
    if not met:
        members[size] = node
        size += 1
    return size


@njit(cache=True, nogil=True, parallel=True)
def _pack(buffer, ends, members):
    for row in prange(buffer.shape[0]):
        first = ends[row - 1] if row else 0
        for k in range(ends[row] - first):
            members[first + k] = buffer[row, k]


def _without_features(graph):
    """PyG data without its edge features, which are no weights; those in ``edge_weight`` stay."""
    if not hasattr(graph, "edge_index"):
        return graph
    bare = _data.Data(edge_index=graph.edge_index, num_nodes=graph.num_nodes)
    if getattr(graph, "edge_weight", None) is not None:
        bare.edge_weight = graph.edge_weight
    return bare
