"""SPEN: graph networks whose layers are all equivariant linear maps of the ego networks, at the cost of message passing.

Mitton and Murray-Smith, "Subgraph Permutation Equivariant Networks", TMLR 2023, arXiv:2111.11840, sections 3 and 4.

A global network of order 2 keeps a feature on every pair of nodes of a graph. Here only pairs within an ego network have one: all 15 maps act within
each ego network, and a pair's outputs are averaged over the ego networks that hold it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from ritz.core import flag, integer, optional_import, real
from ritz.graphs.ego_networks import EgoNetworks, Links, checked_edges, ego_networks
from ritz.graphs.permutation_equivariant_maps import SubgraphMap

_nn = optional_import("torch_geometric.nn", extra="graphs")

HEAD = (256, 128)


class SPENConv(nn.Module):
    """All permutation-equivariant linear maps within every ego network, averaged where ego networks overlap.

    Parameters
    ----------
    in_reps, out_reps : dict of int to int
        Channels by order: 2 for features of pairs, 1 of nodes and, for outputs, 0 of ego networks. Each output order has `out_reps` channels from
        each input order, side by side (from order 2 first), so twice as many if both come in: see the attribute `out_channels`.
    k : int
        Hops of the ego networks; they are always those of the graph itself, whatever the layer.
    size_buckets : sequence of int, optional
        Sizes that have coefficients of their own; an ego network uses those of the nearest size, the smaller of two equally near. By default all
        sizes share one set.
    bias : bool
        Add a constant to each channel; to pairs, one to all of them and one to those of a node with itself.
    strict_sizes : bool
        Refuse ego networks whose size is not in `size_buckets`.

    Raises
    ------
    ValueError, TypeError
        If an option is out of range.

    Notes
    -----
    Coefficients are drawn from N(0, 2 / (in + out)). With S the sum of squared sizes, M the sum of sizes and P the number of pairs in some ego
    network, a layer of C channels costs O(S C + (M + P) C^2) operations and stores O((M + P) C) numbers; a global layer stores O(n^2 C) a graph.
    If k reaches from end to end, and all sizes share coefficients, it equals the global layer.

    Examples
    --------
    >>> path = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    >>> egos = ego_networks(path, 3)
    >>> outputs = SPENConv({2: 1}, {2: 4, 1: 4})({2: torch.ones(egos.pairs.shape[1], 1)}, path, 3)
    >>> {order: tuple(values.shape) for order, values in outputs.items()}
    {2: (9, 4), 1: (3, 4)}
    """

    def __init__(
        self,
        in_reps: Mapping[int, int],
        out_reps: Mapping[int, int],
        *,
        k: int = 1,
        size_buckets: Sequence[int] | None = None,
        bias: bool = True,
        strict_sizes: bool = False,
    ):
        super().__init__()
        self.in_reps, self.out_reps = _representations(in_reps, "in_reps", (2, 1)), _representations(out_reps, "out_reps", (2, 1, 0))
        self.k, self.size_buckets = integer(k, "k", at_least=1), _sizes(size_buckets)
        self.strict_sizes = flag(strict_sizes, "strict_sizes")
        count, bias = len(self.size_buckets or (0,)), flag(bias, "bias")
        self.maps = nn.ModuleDict({str(order): SubgraphMap(order, channels, self.out_reps, count, bias) for order, channels in self.in_reps.items()})
        self.out_channels = {order: channels * len(self.in_reps) for order, channels in self.out_reps.items()}

    def forward(
        self, features: Mapping[int, torch.Tensor], edge_index: torch.Tensor, num_nodes: int, *, egos: EgoNetworks | None = None
    ) -> dict[int, torch.Tensor]:
        """Return outputs by order: (P, out) for the pairs in ``egos.pairs``, (N, out) for nodes, (N, out) for the ego networks of nodes.

        Parameters
        ----------
        features : dict of int to Tensor
            (P, in) for order 2, (N, in) for order 1.
        edge_index : LongTensor (2, E)
            Sources and targets.
        num_nodes : int
            Number N of nodes.
        egos : EgoNetworks, optional
            Subgraphs to work on in place of the k-hop ego networks, which are else searched for each time.

        Raises
        ------
        ValueError
            If shapes disagree, or an ego network's size has no bucket and `strict_sizes` is set.
        """
        egos = ego_networks(edge_index, num_nodes, self.k) if egos is None else egos
        rows = {2: egos.pairs.shape[1], 1: egos.num_nodes}
        for order, channels in self.in_reps.items():
            shape = tuple(features[order].shape) if order in features else None
            if shape != (rows[order], channels):
                raise ValueError(f"features[{order}] must have shape ({rows[order]}, {channels}), got {shape}")
        buckets = self._buckets(egos.sizes)
        outputs = [self.maps[str(order)](features[order], egos, buckets) for order in self.in_reps]
        return {order: torch.cat([of_one[order] for of_one in outputs], dim=1) for order in self.out_reps}

    def _buckets(self, sizes: torch.Tensor) -> torch.Tensor | None:
        if self.size_buckets is None:
            return None
        distances = (sizes[:, None] - torch.tensor(self.size_buckets, device=sizes.device)).abs()
        nearest = distances.min(dim=1)
        if self.strict_sizes and bool((nearest.values > 0).any()):
            found = sizes[nearest.values > 0].unique().tolist()
            raise ValueError(f"size_buckets must hold the size of every ego network, got {list(self.size_buckets)} but sizes {found}")
        return distances.argmin(dim=1)


class SPEN(nn.Module):
    """Classify graphs by layers of `SPENConv`, ELU and normalization over each graph; the last layer yields a vector for each ego network.

    The pairs' features are the adjacency D^-1/2 A D^-1/2 (or edge features), and node features on the pairs of a node with itself. Vectors of ego
    networks are averaged over a graph, and a perceptron of widths 256 and 128 follows.

    Parameters
    ----------
    in_channels : int
        Length of the node features; 0 if there are none.
    hidden : int
        Channels from each order in each layer: layers after the first have twice as many.
    num_classes : int
        Length of the outputs.
    num_layers : int
        Number of layers, the last one included.
    k : int
        Hops of the ego networks.
    size_buckets, strict_sizes
        As for `SPENConv`.
    dropout : float
        In the perceptron.
    edge_dim : int, optional
        Length of edge features, which then take the place of the adjacency.

    Raises
    ------
    ValueError, TypeError
        If an option is out of range.

    Notes
    -----
    For cost and memory see `SPENConv`. With k = 1 the layers see triangles but no longer cycle: graphs whose ego networks are alike, like two cycles
    of six and cycles of four and eight, look the same to them at any depth if nodes have no features. The normalization does tell these two apart: it
    counts each pair once, and in a cycle of four two ego networks share a pair. Of a directed graph, D is the outdegree of rows and the indegree of
    columns.

    Examples
    --------
    >>> x, path = torch.eye(3), torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    >>> SPEN(3, 8, num_classes=2, num_layers=3)(x, path).shape
    torch.Size([1, 2])
    """

    def __init__(
        self,
        in_channels: int,
        hidden: int = 64,
        *,
        num_classes: int,
        num_layers: int = 5,
        k: int = 1,
        size_buckets: Sequence[int] | None = None,
        dropout: float = 0.5,
        edge_dim: int | None = None,
        strict_sizes: bool = False,
    ):
        super().__init__()
        self.in_channels = integer(in_channels, "in_channels", at_least=0)
        self.edge_dim = None if edge_dim is None else integer(edge_dim, "edge_dim", at_least=1)
        self.k, hidden, depth = integer(k, "k", at_least=1), integer(hidden, "hidden", at_least=1), integer(num_layers, "num_layers", at_least=1)
        options = {"k": self.k, "size_buckets": size_buckets, "strict_sizes": strict_sizes}
        self.convs, self.norms, reps = nn.ModuleList(), nn.ModuleList(), {2: (self.edge_dim or 1) + self.in_channels}
        for _ in range(depth - 1):
            self.convs.append(SPENConv(reps, {2: hidden, 1: hidden}, **options))
            reps = self.convs[-1].out_channels
            self.norms.append(nn.ModuleDict({str(order): _nn.GraphNorm(channels) for order, channels in reps.items()}))
        self.convs.append(SPENConv(reps, {0: hidden}, **options))
        dropout, out = real(dropout, "dropout", at_least=0, below=1), integer(num_classes, "num_classes", at_least=1)
        self.head = nn.Sequential(
            nn.Linear(self.convs[-1].out_channels[0], HEAD[0]),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(*HEAD),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(HEAD[1], out),
        )

    def forward(
        self,
        x: torch.Tensor | None,
        edge_index: torch.Tensor,
        edge_attr: torch.Tensor | None = None,
        batch: torch.Tensor | None = None,
        *,
        egos: EgoNetworks | None = None,
    ) -> torch.Tensor:
        """Return outputs (B, num_classes).

        Parameters
        ----------
        x : Tensor (N, in_channels), or None
            Node features; may be None if in_channels is 0.
        edge_index : LongTensor (2, E)
            Sources and targets; features of parallel edges are summed.
        edge_attr : Tensor (E, edge_dim), optional
            Needed if, and only if, `edge_dim` was given.
        batch : LongTensor (N,), optional
            The graph of each node, in order; may be left out with node features if there is one graph.
        egos : EgoNetworks, optional
            Subgraphs found before, by `EgoBatch` for instance, in place of the k-hop ego networks.

        Raises
        ------
        ValueError
            If shapes disagree, a feature is not finite, or an edge leaves the range of nodes.
        """
        batch = self._checked(x, edge_attr, edge_index, batch)
        egos = ego_networks(edge_index, len(batch), self.k) if egos is None else egos
        features = {2: self._pair_features(x, edge_index, edge_attr, egos)}
        graphs = int(batch[-1]) + 1
        graph_of = {2: batch[egos.pairs[0]], 1: batch}
        for conv, norms in zip(self.convs, self.norms):
            outputs = conv(features, edge_index, len(batch), egos=egos)
            features = {order: norms[str(order)](F.elu(T), graph_of[order], graphs) for order, T in outputs.items()}
        vectors = F.elu(self.convs[-1](features, edge_index, len(batch), egos=egos)[0])
        numbers = torch.arange(len(vectors), device=vectors.device)
        firsts = egos.sizes.cumsum(0) - egos.sizes
        return self.head(Links(numbers, batch[egos.members[firsts]], len(vectors), graphs).mean(vectors))

    def _pair_features(self, x, edge_index, edge_attr, egos: EgoNetworks) -> torch.Tensor:
        """Edge features or the normalized adjacency, beside node features on the diagonal."""
        like = next(self.parameters())
        on_edges = normalized_adjacency(edge_index, egos.num_nodes, like) if edge_attr is None else edge_attr
        pairs = like.new_zeros(egos.pairs.shape[1], on_edges.shape[1]).index_add(0, egos.pair_numbers(edge_index), on_edges.to(like.dtype))
        if self.in_channels == 0:
            return pairs
        nodes = like.new_zeros(len(pairs), self.in_channels).index_copy(0, egos.diagonal, x.to(like.dtype))
        return torch.cat([pairs, nodes], dim=1)

    def _checked(self, x, edge_attr, edge_index, batch) -> torch.Tensor:
        if batch is None:
            if x is None:
                raise ValueError("x must be given where there is no batch: it says how many nodes there are")
            batch = torch.zeros(len(x), dtype=torch.long, device=x.device)
        if batch.dim() != 1 or not len(batch):
            raise ValueError(f"batch must hold the graph of each node, got shape {tuple(batch.shape)}")
        if bool((batch.diff() < 0).any()):
            raise ValueError("batch must be in order, the nodes of one graph after those of another")
        if x is not None or self.in_channels:
            _check_features(x, "x", (len(batch), self.in_channels))
        checked_edges(edge_index, len(batch))
        if edge_attr is not None or self.edge_dim is not None:
            _check_features(edge_attr, "edge_attr", (edge_index.shape[1], self.edge_dim))
        return batch


def _check_features(features, name: str, shape: tuple[int, int | None]) -> None:
    if features is not None and not isinstance(features, torch.Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(features).__name__}")
    if features is None or tuple(features.shape) != shape:
        raise ValueError(f"{name} must have shape {shape}, got {None if features is None else tuple(features.shape)}")
    if not bool(features.isfinite().all()):
        raise ValueError(f"{name} must be finite, got NaN or infinite entries")


def normalized_adjacency(edge_index: torch.Tensor, num_nodes: int, like: torch.Tensor) -> torch.Tensor:
    """Return the entries (E, 1) of D^-1/2 A D^-1/2 on the edges, D the outdegree of rows and the indegree of columns; in the dtype of `like`."""
    degrees = [torch.bincount(ends, minlength=num_nodes).to(like.dtype)[ends] for ends in edge_index]
    return (degrees[0] * degrees[1]).rsqrt().unsqueeze(1)


def _representations(reps, name: str, orders: tuple[int, ...]) -> dict[int, int]:
    if not isinstance(reps, Mapping):
        raise TypeError(f"{name} must be a dict from order to channels, got {type(reps).__name__}")
    if not reps or not set(reps) <= set(orders):
        raise ValueError(f"{name} must give channels for orders among {list(orders)}, got {list(reps)}")
    return {order: integer(reps[order], f"{name}[{order}]", at_least=1) for order in orders if order in reps}


def _sizes(size_buckets) -> tuple[int, ...] | None:
    if size_buckets is None:
        return None
    if not isinstance(size_buckets, Sequence) or isinstance(size_buckets, str):
        raise TypeError(f"size_buckets must be a sequence of sizes, got {type(size_buckets).__name__}")
    sizes = tuple(sorted(integer(size, "size_buckets", at_least=1) for size in size_buckets))
    if not sizes or len(set(sizes)) < len(sizes):
        raise ValueError(f"size_buckets must hold different sizes, got {list(size_buckets)}")
    return sizes
