"""GRIT: a graph transformer that attends to pairs by learned random-walk encodings, without message passing.

Ma, Lin, Lim, Romero-Soriano, Dokania, Coates, Torr and Lim, "Graph Inductive Biases in Transformers without Message Passing", ICML 2023,
arXiv:2305.17589, sections 3.2 and 3.3.
"""

from __future__ import annotations

import itertools

import torch
from torch import nn
from torch.nn import functional as F

from ritz.core import choice, flag, integer, optional_import, positive, real
from ritz.graphs.activations import activation_named
from ritz.graphs.feature_embeddings import embedded_features, feature_embedding
from ritz.graphs.pair_tensors import dense_nodes, masked_softmax, pair_mask

_utils = optional_import("torch_geometric.utils", extra="graphs")


class GritLayer(nn.Module):
    """Attention that updates nodes and pairs, scaled by degrees, and a perceptron of the nodes.

    For target i and source j, with halves E_w e and E_b e of a linear map of the pair's features, the new ones are
    ``e' = relu(rho((Q x_i + K x_j) * E_w e) + E_b e)``, rho the signed square root; the logits are A e', clamped, and node i receives the mean of
    V x_j + E_v e' over sources.

    Parameters
    ----------
    dim : int
        Channels of nodes and pairs.
    heads : int
        Attention heads; they divide `dim`.
    dropout, attn_dropout : float
        On the updates, and on the attention weights.
    norm : {"batch", "layer"}
        Over all nodes and all pairs of the batch, or over the channels (which hides how large a vector is).
    clamp : float
        Logits stay within -clamp and clamp.
    update_edges, edge_enhance, degree_scaler : bool
        Whether pairs change; whether their features enter the values; whether nodes are scaled by their log-degrees.
    act : str
        Activation of the perceptron, by PyG's name for it.

    Raises
    ------
    ValueError, TypeError
        If an option is out of range, or the heads do not divide `dim`.

    Notes
    -----
    Cost O(P dim^2), memory O(P dim) for P pairs. The square root is sqrt(|t| + 1e-8) - 1e-4, whose slope at 0 is finite.

    Examples
    --------
    >>> every = torch.cartesian_prod(torch.arange(3), torch.arange(3)).T
    >>> x, pairs = GritLayer(8, 2)(torch.randn(3, 8), every, torch.randn(9, 8), torch.zeros(3))
    >>> x.shape, pairs.shape
    (torch.Size([3, 8]), torch.Size([9, 8]))
    """

    def __init__(
        self,
        dim: int,
        heads: int = 8,
        *,
        dropout: float = 0.0,
        attn_dropout: float = 0.0,
        norm: str = "batch",
        clamp: float = 5.0,
        update_edges: bool = True,
        edge_enhance: bool = True,
        degree_scaler: bool = True,
        act: str = "relu",
    ):
        super().__init__()
        self.dim, self.heads = integer(dim, "dim", at_least=1), integer(heads, "heads", at_least=1)
        if dim % heads:
            raise ValueError(f"heads must divide dim, {dim}, got {heads}")
        width = dim // heads
        self.dropout, self.attn_dropout = real(dropout, "dropout", at_least=0, below=1), real(attn_dropout, "attn_dropout", at_least=0, below=1)
        self.clamp = positive(clamp, "clamp")
        self.query, self.key, self.value = nn.Linear(dim, dim), nn.Linear(dim, dim, bias=False), nn.Linear(dim, dim, bias=False)
        self.pair = nn.Linear(dim, 2 * dim)
        self.logit = nn.Parameter(torch.empty(heads, width))
        self.enhance = nn.Parameter(torch.empty(heads, width, width)) if flag(edge_enhance, "edge_enhance") else None
        self.scaler = nn.Parameter(torch.empty(2, dim)) if flag(degree_scaler, "degree_scaler") else None
        for weight in (self.query.weight, self.key.weight, self.value.weight, self.pair.weight, self.logit, self.enhance, self.scaler):
            if weight is not None:
                nn.init.xavier_normal_(weight)
        self.out = nn.Linear(dim, dim)
        kind = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}[choice(norm, "norm", ["batch", "layer"])]
        self.norms = nn.ModuleList(kind(dim) for _ in range(2))
        edges = flag(update_edges, "update_edges")
        self.pair_out, self.pair_norm = (nn.Linear(dim, dim), kind(dim)) if edges else (None, None)
        self.mix = nn.Sequential(nn.Linear(dim, 2 * dim), activation_named(act, "act"), nn.Dropout(self.dropout), nn.Linear(2 * dim, dim))

    def forward(self, x: torch.Tensor, pair_index: torch.Tensor, pair_attr: torch.Tensor, log_deg: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return updated nodes (N, dim) and pairs (P, dim).

        Parameters
        ----------
        x : Tensor (N, dim)
            Node features.
        pair_index : LongTensor (2, P)
            Sources and targets; a target without a source receives 0.
        pair_attr : Tensor (P, dim)
            Pair features.
        log_deg : Tensor (N,)
            log(1 + degree) of each node of the graph.

        Raises
        ------
        ValueError
            If shapes disagree.
        """
        self._check(x, pair_index, pair_attr, log_deg)
        source, target = pair_index
        q, k, v = (self._split(linear(x)) for linear in (self.query, self.key, self.value))
        pairs, logits = self._attended(q[target] + k[source], pair_attr)
        weights = F.dropout(_utils.softmax(logits, target, num_nodes=len(x)), self.attn_dropout, self.training).unsqueeze(-1)
        received = torch.zeros_like(v).index_add(0, target, weights * v[source])
        if self.enhance is not None:
            received = received + self._enhanced(torch.zeros_like(v).index_add(0, target, weights * pairs))
        return self._updated(x, received.flatten(-2), log_deg), self._updated_pairs(pair_attr, pairs.flatten(-2))

    def dense(self, x: torch.Tensor, pairs: torch.Tensor, nodes: torch.Tensor, log_deg: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The same with all pairs of each graph: nodes (B, n, dim), pairs (B, target, source, dim), the mask (B, n) of nodes, log-degrees (B, n)."""
        mask = pair_mask(nodes)
        q, k, v = (self._split(linear(x)) for linear in (self.query, self.key, self.value))
        attended, logits = self._attended(q.unsqueeze(2) + k.unsqueeze(1), pairs)
        weights = F.dropout(masked_softmax(logits, mask.unsqueeze(-1).expand_as(logits), 2), self.attn_dropout, self.training)
        received = torch.einsum("bijh,bjhd->bihd", weights, v)
        if self.enhance is not None:
            received = received + self._enhanced(torch.einsum("bijh,bijhd->bihd", weights, attended))
        x_new = x.new_zeros(x.shape)
        x_new[nodes] = self._updated(x[nodes], received.flatten(-2)[nodes], log_deg[nodes])
        if self.pair_out is None:
            return x_new, pairs
        pairs_new = pairs.new_zeros(pairs.shape)
        pairs_new[mask] = self._updated_pairs(pairs[mask], attended.flatten(-2)[mask])
        return x_new, pairs_new

    def _attended(self, s: torch.Tensor, pair_attr: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """New pair features (..., heads, width), and a logit for each head."""
        scale, shift = (self._split(half) for half in self.pair(pair_attr).chunk(2, dim=-1))
        pairs = torch.relu(signed_root(s * scale) + shift)
        return pairs, (pairs * self.logit).sum(-1).clamp(-self.clamp, self.clamp)

    def _enhanced(self, pairs: torch.Tensor) -> torch.Tensor:
        return torch.einsum("...hd,hdo->...ho", pairs, self.enhance)

    def _updated(self, x: torch.Tensor, received: torch.Tensor, log_deg: torch.Tensor) -> torch.Tensor:
        if self.scaler is not None:
            received = received * self.scaler[0] + received * log_deg.unsqueeze(-1) * self.scaler[1]
        x = self.norms[0](x + self.out(F.dropout(received, self.dropout, self.training)))
        return self.norms[1](x + F.dropout(self.mix(x), self.dropout, self.training))

    def _updated_pairs(self, before: torch.Tensor, pairs: torch.Tensor) -> torch.Tensor:
        if self.pair_out is None:
            return before
        return self.pair_norm(before + self.pair_out(F.dropout(pairs, self.dropout, self.training)))

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (self.heads, -1))

    def _check(self, x, pair_index, pair_attr, log_deg) -> None:
        if x.dim() != 2 or x.shape[1] != self.dim:
            raise ValueError(f"x must have shape (nodes, {self.dim}), got {tuple(x.shape)}")
        if pair_index.dim() != 2 or pair_index.shape[0] != 2:
            raise ValueError(f"pair_index must have shape (2, pairs), got {tuple(pair_index.shape)}")
        if pair_attr.shape != (pair_index.shape[1], self.dim):
            raise ValueError(f"pair_attr must have shape ({pair_index.shape[1]}, {self.dim}), got {tuple(pair_attr.shape)}")
        if log_deg.shape != x.shape[:1]:
            raise ValueError(f"log_deg must have shape ({len(x)},), got {tuple(log_deg.shape)}")


class Grit(nn.Module):
    """Layers of `GritLayer` on graphs with the encodings of `AddRRWP`.

    Parameters
    ----------
    in_channels, node_types : int, optional
        Length of numerical node features, or number of node types; neither for graphs without.
    edge_channels, edge_types : int, optional
        The same for edges.
    dim, num_layers, heads : int
        Channels, layers, attention heads.
    walk_length : int
        The K of `AddRRWP`.
    out_channels : int
        Length of the outputs.
    level : {"graph", "node"}
        Outputs for graphs or for nodes.
    pooling : {"add", "mean"}
        Of nodes, for graphs.
    full_attention : bool
        False attends only where a walk of less than `walk_length` steps leads.
    mlp_head_layers : int
        Hidden layers of the head for graphs, each half as wide as the one before.
    dropout, attn_dropout, norm
        As for `GritLayer`.

    Raises
    ------
    ValueError, TypeError
        If an option is out of range.

    Notes
    -----
    Cost O(n^2 (dim^2 + K)) a layer and graph. Full attention works on padded tensors, the other on lists of pairs.

    Examples
    --------
    >>> from torch_geometric.data import Batch, Data
    >>> from ritz.graphs import AddRRWP
    >>> data = AddRRWP(4)(Data(edge_index=torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]), num_nodes=3))
    >>> Grit(dim=8, num_layers=2, heads=2, walk_length=4).eval()(Batch.from_data_list([data])).shape
    torch.Size([1, 1])
    """

    def __init__(
        self,
        in_channels: int | None = None,
        edge_channels: int | None = None,
        dim: int = 64,
        num_layers: int = 10,
        heads: int = 8,
        walk_length: int = 21,
        out_channels: int = 1,
        *,
        node_types: int | None = None,
        edge_types: int | None = None,
        level: str = "graph",
        pooling: str = "add",
        full_attention: bool = True,
        mlp_head_layers: int = 2,
        dropout: float = 0.0,
        attn_dropout: float = 0.2,
        norm: str = "batch",
    ):
        super().__init__()
        self.level, self.pooling = choice(level, "level", ["graph", "node"]), choice(pooling, "pooling", ["add", "mean"])
        self.full, self.walk_length = flag(full_attention, "full_attention"), integer(walk_length, "walk_length", at_least=1)
        layers, hidden = integer(num_layers, "num_layers", at_least=1), integer(mlp_head_layers, "mlp_head_layers", at_least=0)
        out = integer(out_channels, "out_channels", at_least=1)
        options = {"dropout": dropout, "attn_dropout": attn_dropout, "norm": norm}
        self.layers = nn.ModuleList(GritLayer(dim, heads, **options) for _ in range(layers))
        self.node = feature_embedding(node_types, "node_types", in_channels, "in_channels", dim)
        self.edge = feature_embedding(edge_types, "edge_types", edge_channels, "edge_channels", dim)
        self.own, self.relative = (nn.Linear(self.walk_length, dim, bias=False) for _ in range(2))
        for linear in (self.own, self.relative):
            nn.init.xavier_uniform_(linear.weight)
        self.head = nn.Linear(dim, out) if self.level == "node" else _halving_head(dim, hidden, out)

    def forward(self, batch) -> torch.Tensor:
        """Return outputs (B, out) or (N, out) of PyG data or a batch of it.

        Raises
        ------
        ValueError
            If the attributes of `AddRRWP` are missing or of another length, or features are missing or not expected.
        """
        for name in ("rrwp", "rrwp_index", "rrwp_val", "log_deg"):
            if getattr(batch, name, None) is None:
                raise ValueError(f"batch has no {name}: apply AddRRWP({self.walk_length}) first")
        if batch.rrwp.shape[1] != self.walk_length:
            raise ValueError(f"batch.rrwp must have {self.walk_length} columns, got {batch.rrwp.shape[1]}")
        graph = batch.rrwp_index.new_zeros(batch.num_nodes) if batch.batch is None else batch.batch
        x = self.own(batch.rrwp)
        features = embedded_features(self.node, getattr(batch, "x", None) if self.node is not None else None, batch.num_nodes, "x")
        x = x if features is None else x + features
        edges = embedded_features(self.edge, getattr(batch, "edge_attr", None) if self.edge is not None else None, batch.num_edges, "edge_attr")
        x = self._dense(x, edges, batch, graph) if self.full else self._sparse(x, edges, batch)
        if self.level == "node":
            return self.head(x)
        return self.head(_utils.scatter(x, graph, dim=0, reduce="sum" if self.pooling == "add" else "mean"))

    def _dense(self, x, edges, batch, graph) -> torch.Tensor:
        h, nodes = dense_nodes(x, graph)
        log_deg, _ = dense_nodes(batch.log_deg.unsqueeze(-1).to(x.dtype), graph)
        count, n, _ = h.shape
        first = torch.cumsum(nodes.sum(1), 0) - nodes.sum(1)
        pairs = h.new_zeros(count, n, n, h.shape[-1])

        def add(index, values):
            which = graph[index[0]]
            local = index - first[which]
            pairs.index_put_((which, local[1], local[0]), values, accumulate=True)

        add(batch.rrwp_index, self.relative(batch.rrwp_val.to(x.dtype)))
        if edges is not None:
            add(batch.edge_index, edges)
        for layer in self.layers:
            h, pairs = layer.dense(h, pairs, nodes, log_deg.squeeze(-1))
        return h[nodes]

    def _sparse(self, x, edges, batch) -> torch.Tensor:
        index, values = batch.rrwp_index, self.relative(batch.rrwp_val.to(x.dtype))
        if edges is not None:
            index, values = _utils.coalesce(torch.cat([index, batch.edge_index], 1), torch.cat([values, edges]), batch.num_nodes, reduce="sum")
        for layer in self.layers:
            x, values = layer(x, index, values, batch.log_deg.to(x.dtype))
        return x


def signed_root(t: torch.Tensor) -> torch.Tensor:
    """sign(t) sqrt(|t|), bent at 0 so that its slope is finite there."""
    return torch.sign(t) * (torch.sqrt(t.abs() + 1e-8) - 1e-4)


def _halving_head(dim: int, hidden: int, out: int) -> nn.Sequential:
    widths = [max(1, dim // 2**i) for i in range(hidden + 1)]
    layers = [layer for before, after in itertools.pairwise(widths) for layer in (nn.Linear(before, after), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(widths[-1], out))
