"""Networks that learn edges on the dual hypergraph: classifiers that drop edges, and an autoencoder of edge features.

Jo, Baek, Lee, Kim, Kang and Hwang, "Edge Representation Learning with Hypergraphs", NeurIPS 2021, arXiv:2106.15845, sections 3.2 and 4.
"""

from __future__ import annotations

import itertools

import torch
from torch import nn
from torch.nn import functional as F

from ritz.core import flag, integer, optional_import, positive, real
from ritz.graphs.dual_hypergraph import checked_edges, dual_hypergraph
from ritz.graphs.edge_pooling import HyperCluster, HyperDrop, checked_features, edge_mask, share_of

_nn = optional_import("torch_geometric.nn", extra="graphs")

LEAST_WEIGHT = 1e-4  # of an edge, in the network for nodes
DROP_EVERY = 4


class EHGNNClassifier(nn.Module):
    """Classify graphs by convolutions on nodes and on edges, with HyperDrop between them.

    Layer by layer: ``x <- relu(GCNConv(x, edges, weights))``, ``e <- relu(HypergraphConv(e, dual))``, then HyperDrop, whose scores weigh the
    edges of the next layer. The largest, mean and sum of the node features after each layer, added up over the layers, go through a perceptron.

    Parameters
    ----------
    in_channels : int
        Length of the node features.
    edge_channels : int
        Length of the edge features; 1 where there are none.
    num_classes : int
        Number of classes.
    hidden : int
        Width of both kinds of features. The authors take 128, and 32 for large graphs.
    num_layers : int
        Node convolutions, at least 2; one less on edges.
    ratio : float
        Share of edges kept at each drop. The authors take 0.8, or 0.65 and 0.75 for denser sets.
    dropout : float
        In the perceptron.
    undirected : bool
        Edges come in both orientations, which are dropped together (see `HyperDrop`).

    Raises
    ------
    ValueError, TypeError
        If an option is out of range.

    Notes
    -----
    Cost O(E hidden + (N + E) hidden^2) a layer. Without edge features all edges start as 1, as in the authors' code, and stay equal: those that are
    dropped are then chosen by nothing but rounding and order.

    Examples
    --------
    >>> edges = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    >>> EHGNNClassifier(4, 1, num_classes=2)(torch.ones(3, 4), edges).shape
    torch.Size([1, 2])
    """

    def __init__(
        self,
        in_channels: int,
        edge_channels: int,
        *,
        num_classes: int,
        hidden: int = 128,
        num_layers: int = 3,
        ratio: float = 0.8,
        dropout: float = 0.5,
        undirected: bool = True,
    ):
        super().__init__()
        self.in_channels, self.edge_channels = integer(in_channels, "in_channels", at_least=1), integer(edge_channels, "edge_channels", at_least=1)
        hidden, layers = integer(hidden, "hidden", at_least=2), integer(num_layers, "num_layers", at_least=2)
        dropout = real(dropout, "dropout", at_least=0, below=1)
        self.convs = nn.ModuleList(_nn.GCNConv(self.in_channels if i == 0 else hidden, hidden) for i in range(layers))
        self.edge_convs = nn.ModuleList(_nn.HypergraphConv(self.edge_channels if i == 0 else hidden, hidden) for i in range(layers - 1))
        self.drops = nn.ModuleList(HyperDrop(hidden, ratio, undirected=undirected) for _ in range(layers - 1))
        self.classify = nn.Sequential(
            *(nn.Linear(3 * hidden, hidden), nn.ReLU(), nn.Dropout(dropout)),
            *(nn.Linear(hidden, hidden // 2), nn.ReLU(), nn.Dropout(dropout)),
            nn.Linear(hidden // 2, integer(num_classes, "num_classes", at_least=1)),
        )

    def forward(
        self, x: torch.Tensor, edge_index: torch.Tensor, edge_attr: torch.Tensor | None = None, batch: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return logits (B, num_classes).

        Parameters
        ----------
        x : Tensor (N, in_channels)
            Node features.
        edge_index : LongTensor (2, E)
            Edges; a graph may have none.
        edge_attr : Tensor (E, edge_channels), optional
            Edge features; may be left out if edge_channels is 1.
        batch : LongTensor (N,), optional
            The graph of each node.

        Raises
        ------
        ValueError, TypeError
            If shapes disagree or features are not finite.
        """
        edge_index, batch = _checked_graphs(x, edge_index, batch, self.in_channels)
        edge_attr = x.new_ones(edge_index.shape[1], 1) if edge_attr is None else edge_attr
        edge_attr = checked_features(edge_attr, "edge_attr", edge_index.shape[1], self.edge_channels)
        x = F.relu(self.convs[0](x, edge_index))
        read = largest_mean_sum(x, batch)
        for conv, edge_conv, drop in zip(self.convs[1:], self.edge_convs, self.drops):
            dual = dual_hypergraph(edge_index, batch)
            edge_attr = F.relu(edge_conv(edge_attr, dual[0]))
            edge_index, edge_attr, edge_weight, _ = drop(edge_index, edge_attr, batch, dual=dual)
            x = F.relu(conv(x, edge_index, edge_weight))
            read = read + largest_mean_sum(x, batch)
        return self.classify(read)


class HyperDropGCN(nn.Module):
    """Classify nodes by a deep GCN that drops edges, by their scores, in the second of every four layers.

    Edges start as ``[x_u || x_v]`` after the first layer. In evaluation all edges are kept, with their weights.

    Parameters
    ----------
    in_channels : int
        Length of the node features.
    num_classes : int
        Number of classes.
    hidden : int
        Width of both kinds of features.
    num_layers : int
        Node convolutions, at least 3: fewer would drop no edge.
    ratio : float
        Share of edges kept at each drop.
    dropout : float
        Before each node convolution and after each edge convolution.
    undirected : bool
        Edges come in both orientations, which are dropped together (see `HyperDrop`).

    Raises
    ------
    ValueError, TypeError
        If an option is out of range.

    Notes
    -----
    All convolutions are normalized as GCN's, loops included. The authors' code normalizes those after the first drop only, and convolves edges in the
    layers after the last drop too, to no effect. Cost O(E hidden + (N + E) hidden^2) a layer.

    Examples
    --------
    >>> edges = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    >>> HyperDropGCN(4, num_classes=2)(torch.ones(3, 4), edges).shape
    torch.Size([3, 2])
    """

    def __init__(
        self,
        in_channels: int,
        *,
        num_classes: int,
        hidden: int = 128,
        num_layers: int = 4,
        ratio: float = 0.8,
        dropout: float = 0.5,
        undirected: bool = True,
    ):
        super().__init__()
        self.in_channels = integer(in_channels, "in_channels", at_least=1)
        hidden, layers = integer(hidden, "hidden", at_least=1), integer(num_layers, "num_layers", at_least=3)
        self.dropout = real(dropout, "dropout", at_least=0, below=1)
        widths = [self.in_channels] + [hidden] * (layers - 1) + [integer(num_classes, "num_classes", at_least=1)]
        self.convs = nn.ModuleList(_nn.GCNConv(before, after) for before, after in itertools.pairwise(widths))
        dropping = range(1, layers - 1, DROP_EVERY)
        self.edge_convs = nn.ModuleList(_nn.HypergraphConv(2 * hidden if i == 0 else hidden, hidden) for i in range(dropping[-1] + 1))
        self.drops = nn.ModuleDict(
            {str(i): HyperDrop(hidden, ratio, undirected=undirected, min_weight=LEAST_WEIGHT, drop_in_eval=False) for i in dropping}
        )

    def forward(self, x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
        """Return logits (N, num_classes) of one graph's nodes.

        Parameters
        ----------
        x : Tensor (N, in_channels)
            Node features.
        edge_index : LongTensor (2, E)
            Edges.

        Raises
        ------
        ValueError, TypeError
            If shapes disagree or features are not finite.
        """
        edge_index, batch = _checked_graphs(x, edge_index, None, self.in_channels)
        edge_attr = edge_weight = None
        for i, conv in enumerate(self.convs[:-1]):
            x = F.relu(conv(self._thinned(x), edge_index, edge_weight))
            if i < len(self.edge_convs):
                edge_attr = x[edge_index].transpose(0, 1).flatten(1) if i == 0 else edge_attr
                dual = dual_hypergraph(edge_index, batch)
                edge_attr = self._thinned(F.relu(self.edge_convs[i](edge_attr, dual[0])))
                if str(i) in self.drops:
                    edge_index, edge_attr, edge_weight, _ = self.drops[str(i)](edge_index, edge_attr, batch, dual=dual)
        return self.convs[-1](self._thinned(x), edge_index, edge_weight)

    def _thinned(self, features: torch.Tensor) -> torch.Tensor:
        return F.dropout(features, self.dropout, self.training)


class EdgeAutoencoder(nn.Module):
    """Compress the edges of a graph to clusters, and restore them: convolutions on the dual, HyperCluster, and back.

    Parameters
    ----------
    edge_channels : int
        Length of the edge features, which are restored; one-hot types for a cross-entropy loss.
    average_edges : float
        Edges of a graph on average, both orientations counted if both are given.
    hidden : int
        Width inside.
    ratio : float
        ceil(ratio average_edges) clusters.
    num_layers : int
        Hypergraph convolutions before pooling and after, each with a ReLU; a last one goes to the edge features.
    heads, layer_norm, cluster_softmax
        As for `HyperCluster`.

    Raises
    ------
    ValueError, TypeError
        If an option is out of range.

    Notes
    -----
    The dual knows no orientation: both of an undirected edge are restored alike if their features are, and one of them is enough. Each
    convolution averages an edge with its neighbors, which the way back must undo: one layer is learned faster than the authors' two.

    Examples
    --------
    >>> edges = torch.tensor([[0, 1, 2], [1, 2, 3]])
    >>> EdgeAutoencoder(2, average_edges=3)(torch.eye(2)[[0, 1, 0]], edges).shape
    torch.Size([3, 2])
    """

    def __init__(
        self,
        edge_channels: int,
        *,
        average_edges: float,
        hidden: int = 32,
        ratio: float = 0.15,
        num_layers: int = 2,
        heads: int = 1,
        layer_norm: bool = False,
        cluster_softmax: bool = True,
    ):
        super().__init__()
        self.edge_channels, hidden = integer(edge_channels, "edge_channels", at_least=1), integer(hidden, "hidden", at_least=1)
        edges = torch.tensor(positive(average_edges, "average_edges"))
        clusters = int(share_of(real(ratio, "ratio", above=0, at_most=1), edges))
        layers = integer(num_layers, "num_layers", at_least=1)
        self.before = nn.ModuleList(_nn.HypergraphConv(self.edge_channels if i == 0 else hidden, hidden) for i in range(layers))
        if hidden % integer(heads, "heads", at_least=1):
            raise ValueError(f"heads must divide hidden, {hidden}, got {heads}")
        self.pool = HyperCluster(hidden, max(1, clusters), heads, flag(layer_norm, "layer_norm"), flag(cluster_softmax, "cluster_softmax"))
        self.after = nn.ModuleList(_nn.HypergraphConv(hidden, hidden) for _ in range(layers))
        self.last = _nn.HypergraphConv(hidden, self.edge_channels)

    def forward(self, edge_attr: torch.Tensor, edge_index: torch.Tensor, batch: torch.Tensor | None = None) -> torch.Tensor:
        """Return the restored features (E, edge_channels), logits if they were types: `decode` of `encode`.

        Parameters
        ----------
        edge_attr : Tensor (E, edge_channels)
            Edge features.
        edge_index : LongTensor (2, E)
            Edges, graph after graph.
        batch : LongTensor (N,), optional
            The graph of each node.

        Raises
        ------
        ValueError, TypeError
            If shapes disagree or features are not finite.
        """
        return self.decode(*self.encode(edge_attr, edge_index, batch), edge_index, batch)

    def encode(self, edge_attr: torch.Tensor, edge_index: torch.Tensor, batch: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the clusters (B, K, hidden) of the edges of each graph, and their weights (B, K, M)."""
        hyperedge_index, edge_batch = dual_hypergraph(edge_index, batch)
        edge_attr = checked_features(edge_attr, "edge_attr", len(edge_batch), self.edge_channels)
        for conv in self.before:
            edge_attr = F.relu(conv(edge_attr, hyperedge_index))
        return self.pool(edge_attr, hyperedge_index, edge_batch, batch_size=_graphs(batch))

    def decode(self, pooled: torch.Tensor, attention: torch.Tensor, edge_index: torch.Tensor, batch: torch.Tensor | None = None) -> torch.Tensor:
        """Return the features (E, edge_channels) of the edges that clusters and weights stand for."""
        hyperedge_index, edge_batch = dual_hypergraph(edge_index, batch)
        edge_attr = self.pool.unpool(pooled, attention, edge_mask(edge_batch, _graphs(batch)))
        for conv in self.after:
            edge_attr = F.relu(conv(edge_attr, hyperedge_index))
        return self.last(edge_attr, hyperedge_index)


def _checked_graphs(x: torch.Tensor, edge_index: torch.Tensor, batch: torch.Tensor | None, channels: int) -> tuple[torch.Tensor, torch.Tensor]:
    x = checked_features(x, "x", None, channels)
    edge_index, batch = checked_edges(edge_index, x.new_zeros(len(x), dtype=torch.long) if batch is None else batch)
    if len(batch) != len(x):
        raise ValueError(f"batch must have shape ({len(x)},), got {tuple(batch.shape)}")
    return edge_index, batch


def _graphs(batch: torch.Tensor | None) -> int:
    return 1 if batch is None else int(batch.max()) + 1 if batch.numel() else 0


def largest_mean_sum(x: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
    """Return the largest, the mean and the sum (B, 3 C) of node features (N, C) over each graph."""
    pools = (_nn.global_max_pool, _nn.global_mean_pool, _nn.global_add_pool)
    return torch.cat([pool(x, batch) for pool in pools], dim=1)
