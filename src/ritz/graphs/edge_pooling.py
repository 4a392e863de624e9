"""Pooling of edges: HyperDrop leaves out the least of them, HyperCluster gathers them in clusters that can be taken apart again.

Jo, Baek, Lee, Kim, Kang and Hwang, "Edge Representation Learning with Hypergraphs", NeurIPS 2021, arXiv:2106.15845, section 3.2. Both work on the
dual hypergraph (`dual_hypergraph`), where edges are nodes; the nodes of the graph itself are never lost.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from ritz.core import array, choice, flag, integer, is_torch, optional_import, real
from ritz.graphs.dual_hypergraph import check_integers, checked_edges, dual_hypergraph, edge_pairs
from ritz.graphs.pair_tensors import masked_softmax

_nn = optional_import("torch_geometric.nn", extra="graphs")


class HyperDrop(nn.Module):
    """Score edges by a hypergraph convolution on the dual, keep each graph's ceil(ratio m) of largest score, and weigh them by their scores.

    Parameters
    ----------
    edge_channels : int
        Length C of the edge features.
    ratio : float
        Share of a graph's m edges that is kept, in (0, 1].
    min_edges : int, optional
        Keep at least so many of each graph, or all if there are fewer.
    score_conv : Module, optional
        Maps (edge_attr, hyperedge_index) to scores (E, 1) before the nonlinearity; PyG's ``HypergraphConv(edge_channels, 1)`` if missing.
    nonlinearity : {"tanh", "sigmoid"}
        Of the scores.
    undirected : bool
        Edges come in both orientations, which are kept or dropped together, by the mean of their scores; m then counts undirected edges. The
        authors' code ranks each orientation on its own (False), so that ties may keep only one.
    min_weight : float
        Least edge weight: the weights are the scores clamped to [min_weight, 1]. The authors take 0 for whole graphs, 1e-4 for nodes.
    drop_in_eval : bool
        Drop edges in evaluation too; if not, all are kept then, with their weights.

    Raises
    ------
    ValueError, TypeError
        If an option is out of range.

    Notes
    -----
    Of equal scores the first edges stay. Convolutions on the dual average, so edges with constant features all have the same score: give edges
    something to be told apart by, the features of their ends at least. Cost O(E (C + log E)).

    Examples
    --------
    >>> edge_index = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    >>> kept, edge_attr, edge_weight, perm = HyperDrop(3, ratio=0.5)(edge_index, torch.ones(4, 3))
    >>> kept
    tensor([[0, 1],
            [1, 0]])
    """

    def __init__(
        self,
        edge_channels: int,
        ratio: float = 0.8,
        *,
        min_edges: int | None = None,
        score_conv: nn.Module | None = None,
        nonlinearity: str = "tanh",
        undirected: bool = True,
        min_weight: float = 0.0,
        drop_in_eval: bool = True,
    ):
        super().__init__()
        self.edge_channels = integer(edge_channels, "edge_channels", at_least=1)
        self.ratio = real(ratio, "ratio", above=0, at_most=1)
        self.min_edges = 0 if min_edges is None else integer(min_edges, "min_edges", at_least=0)
        if score_conv is not None and not isinstance(score_conv, nn.Module):
            raise TypeError(f"score_conv must be a Module or None, got {type(score_conv).__name__}")
        self.score_conv = _nn.HypergraphConv(self.edge_channels, 1) if score_conv is None else score_conv
        self.nonlinearity = choice(nonlinearity, "nonlinearity", ["tanh", "sigmoid"])
        self.undirected = flag(undirected, "undirected")
        self.min_weight = real(min_weight, "min_weight", at_least=0, at_most=1)
        self.drop_in_eval = flag(drop_in_eval, "drop_in_eval")

    def forward(
        self,
        edge_index: torch.Tensor,
        edge_attr: torch.Tensor,
        batch: torch.Tensor | None = None,
        *,
        dual: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return what is kept: edge_index (2, K), edge_attr (K, C), edge_weight (K,) for the next node convolution, and its positions perm (K,).

        Parameters
        ----------
        edge_index : LongTensor (2, E)
            The edges.
        edge_attr : Tensor (E, C)
            Their features.
        batch : LongTensor (N,), optional
            The graph of each node.
        dual : (LongTensor, LongTensor), optional
            ``dual_hypergraph(edge_index, batch)``, where it is at hand.

        Raises
        ------
        ValueError, TypeError
            If shapes disagree, features are not finite, or an undirected edge lacks its other orientation.
        """
        edge_index, batch = checked_edges(edge_index, batch)
        edge_attr = checked_features(edge_attr, "edge_attr", edge_index.shape[1], self.edge_channels)
        hyperedge_index, edge_batch = dual_hypergraph(edge_index, batch) if dual is None else dual
        score = getattr(torch, self.nonlinearity)(self.score_conv(edge_attr, hyperedge_index).squeeze(-1))
        perm = self._kept(edge_index, score.detach(), edge_batch)
        return edge_index[:, perm], edge_attr[perm], score[perm].clamp(self.min_weight, 1), perm

    def _kept(self, edge_index: torch.Tensor, score: torch.Tensor, edge_batch: torch.Tensor) -> torch.Tensor:
        """The positions of the edges to keep, in order."""
        if not self.training and not self.drop_in_eval:
            return torch.arange(len(score), device=score.device)
        orientations = edge_pairs(edge_index) if self.undirected else torch.arange(len(score), device=score.device).unsqueeze(0)
        score, edge_batch = score[orientations].mean(0), edge_batch[orientations[0]]
        keep = torch.zeros(edge_index.shape[1], dtype=torch.bool, device=score.device)
        keep[orientations[:, self._largest(score, edge_batch)]] = True
        return keep.nonzero().squeeze(1)

    def _largest(self, score: torch.Tensor, edge_batch: torch.Tensor) -> torch.Tensor:
        sizes = torch.bincount(edge_batch)
        count = share_of(self.ratio, sizes).maximum(sizes.clamp(max=self.min_edges))
        return largest_of_each(score, edge_batch, sizes, count)


class HyperCluster(nn.Module):
    """Gather the edges of each graph in K clusters by attention of learned queries, whose weights take the clusters apart again.

    Parameters
    ----------
    edge_channels : int
        Length C of the edge features, and of the clusters'.
    num_clusters : int
        K; may exceed the number of edges.
    heads : int
        Attention heads; they divide `edge_channels`.
    layer_norm : bool
        Normalize the clusters after attention, and after the perceptron.
    cluster_softmax : bool
        The weights of an edge sum to 1 over the clusters, an assignment of the edge; if False, those of a cluster over the edges.

    Raises
    ------
    ValueError, TypeError
        If an option is out of range.

    Notes
    -----
    ``A = softmax(Q K^T / sqrt(C))``, ``O = Q + A V``, then ``O + relu(W_o O)``, where Q comes from the queries by a linear map, K and V from the
    edges by hypergraph convolutions on the dual. Several heads are scaled by the full sqrt(C), as in the authors' code; that returns the heads'
    weights one after another, which cannot be unpooled, where the mean of the heads is returned here. Cost O(E C^2 + B K M C), M the most edges
    of a graph.

    Examples
    --------
    >>> hyperedge_index, edge_batch = dual_hypergraph(torch.tensor([[0, 1, 2], [1, 2, 3]]))
    >>> pooled, attention = HyperCluster(4, 2)(torch.randn(3, 4), hyperedge_index, edge_batch)
    >>> pooled.shape, attention.sum(1).detach()
    (torch.Size([1, 2, 4]), tensor([[1., 1., 1.]]))
    """

    def __init__(self, edge_channels: int, num_clusters: int, heads: int = 1, layer_norm: bool = False, cluster_softmax: bool = True):
        super().__init__()
        self.edge_channels, self.heads = integer(edge_channels, "edge_channels", at_least=1), integer(heads, "heads", at_least=1)
        if self.edge_channels % self.heads:
            raise ValueError(f"heads must divide edge_channels, {edge_channels}, got {heads}")
        channels = self.edge_channels
        self.queries = nn.Parameter(nn.init.xavier_uniform_(torch.empty(integer(num_clusters, "num_clusters", at_least=1), channels)))
        self.query, self.out = nn.Linear(channels, channels), nn.Linear(channels, channels)
        self.key, self.value = _nn.HypergraphConv(channels, channels), _nn.HypergraphConv(channels, channels)
        norm = nn.LayerNorm if flag(layer_norm, "layer_norm") else nn.Identity
        self.norms = nn.ModuleList(norm(channels) for _ in range(2))
        self.cluster_softmax = flag(cluster_softmax, "cluster_softmax")

    def forward(
        self, edge_attr: torch.Tensor, hyperedge_index: torch.Tensor, edge_batch: torch.Tensor, *, batch_size: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the clusters (B, K, C) and the weights (B, K, M) of the edges in them, exactly 0 where a graph has no M edges.

        Parameters
        ----------
        edge_attr : Tensor (E, C)
            Edge features.
        hyperedge_index, edge_batch : LongTensor
            `dual_hypergraph` of the graphs, their edges in the order of the graphs.
        batch_size : int, optional
            B; needed if the last graphs have no edges.

        Raises
        ------
        ValueError, TypeError
            If shapes disagree or features are not finite.
        """
        _check_dual(hyperedge_index, edge_batch)
        edge_attr = checked_features(edge_attr, "edge_attr", len(edge_batch), self.edge_channels)
        mask = edge_mask(edge_batch, batch_size)
        keys, values = (self._per_head(conv(edge_attr, hyperedge_index), mask) for conv in (self.key, self.value))
        queries = self.query(self.queries).unflatten(-1, (self.heads, -1)).transpose(0, 1)
        scores = queries @ keys.transpose(-1, -2) / self.edge_channels**0.5
        attention = masked_softmax(scores, mask[:, None, None], dim=2 if self.cluster_softmax else 3)
        pooled = self.norms[0]((queries + attention @ values).transpose(1, 2).flatten(2))
        return self.norms[1](pooled + F.relu(self.out(pooled))), attention.mean(1)

    def unpool(self, pooled: torch.Tensor, attention: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the features (E, C) of the edges that clusters (B, K, C) stand for: ``A^T O``, on the edges that exist.

        Parameters
        ----------
        pooled, attention : Tensor (B, K, C), (B, K, M)
            What `forward` returned.
        mask : BoolTensor (B, M)
            Which edges exist: ``torch_geometric.utils.to_dense_batch(edge_attr, edge_batch)[1]``.

        Raises
        ------
        ValueError
            If shapes disagree.
        """
        if pooled.dim() != 3 or attention.dim() != 3 or attention.shape[:2] != pooled.shape[:2]:
            raise ValueError(f"attention must have shape (B, K, M) for pooled (B, K, C), got {tuple(attention.shape)} and {tuple(pooled.shape)}")
        if mask.dtype != torch.bool or mask.shape != attention.shape[::2]:
            raise ValueError(f"mask must be of bool and shape {tuple(attention.shape[::2])}, got {mask.dtype} {tuple(mask.shape)}")
        return (attention.transpose(1, 2) @ pooled)[mask]

    def _per_head(self, features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Edge features (E, C) as (B, heads, M, C / heads), 0 where there is no edge."""
        dense = features.new_zeros(*mask.shape, features.shape[-1]).masked_scatter(mask.unsqueeze(-1), features)
        return dense.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def edge_mask(edge_batch: torch.Tensor, batch_size: int | None = None) -> torch.Tensor:
    """Return the mask (B, M) of the edges of each graph, M the most edges of one."""
    sizes = torch.bincount(edge_batch, minlength=batch_size or 0)
    most = int(sizes.max()) if len(sizes) else 0
    return torch.arange(most, device=sizes.device) < sizes.unsqueeze(1)


def share_of(ratio: float, sizes: torch.Tensor) -> torch.Tensor:
    """Return ceil(ratio sizes), where a product that is whole but for rounding stays what it is."""
    return (ratio * sizes.double()).round(decimals=9).ceil().long()


def largest_of_each(score: torch.Tensor, batch: torch.Tensor, sizes: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    """Return the positions of the `count` (B,) largest scores of each graph; of equal ones the first."""
    order = torch.argsort(score, descending=True, stable=True)
    order = order[torch.argsort(batch[order], stable=True)]
    graph = batch[order]
    rank = torch.arange(len(order), device=order.device) - (sizes.cumsum(0) - sizes)[graph]
    return order[rank < count[graph]]


def checked_features(features: torch.Tensor, name: str, rows: int | None, channels: int) -> torch.Tensor:
    """Refuse features that are no finite floating tensor (rows, channels); any number of rows if None."""
    if not is_torch(features) or not features.is_floating_point():
        raise TypeError(f"{name} must be a floating tensor, got {features.dtype if is_torch(features) else type(features).__name__}")
    return array(features, name, shape=(rows, channels), allow_empty=True)


def _check_dual(hyperedge_index: torch.Tensor, edge_batch: torch.Tensor) -> None:
    check_integers(hyperedge_index, "hyperedge_index")
    check_integers(edge_batch, "edge_batch")
    if edge_batch.dim() != 1 or bool((edge_batch < 0).any()) or bool((edge_batch.diff() < 0).any()):
        raise ValueError("edge_batch must hold the graph of each edge, in shape (edges,), graph after graph from 0")
    if hyperedge_index.dim() != 2 or hyperedge_index.shape[0] != 2:
        raise ValueError(f"hyperedge_index must have shape (2, incidences), got {tuple(hyperedge_index.shape)}")
    if hyperedge_index.numel() and not (int(hyperedge_index.min()) >= 0 and int(hyperedge_index[0].max()) < len(edge_batch)):
        raise ValueError(f"hyperedge_index must hold numbers of the {len(edge_batch)} edges of edge_batch, and of hyperedges")
