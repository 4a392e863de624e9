"""FloydNet: a network whose state is a tensor over all pairs of nodes, refined by attention over pivots.

"FloydNet: A Learning Paradigm for Global Relational Reasoning", arXiv:2601.19094, 2026.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from ritz.core import choice, flag, integer, real
from ritz.graphs.activations import activation_named
from ritz.graphs.feature_embeddings import embedded_features, feature_embedding
from ritz.graphs.pair_tensors import dense_nodes, dense_pairs, on_diagonal, pair_mask
from ritz.graphs.pivotal_attention import fitting_chunk, pivotal_attention

NORMS = ("layernorm", "affine", "rmsnorm")


class FloydBlock(nn.Module):
    """Attention over pivots, then a perceptron, each added to the pair tensor; a fresh block is the identity.

    Parameters
    ----------
    dim : int
        Channels C.
    heads : int
        Attention heads; they divide `dim`.
    ffn_expansion : int
        How many times as wide the perceptron is inside.
    norm : {"layernorm", "affine", "rmsnorm", None}
        Normalization of the channels; "affine" only scales and shifts.
    norm_position : {"pre", "post"}
        Before the two parts, or after they are added.
    symmetric_mix : bool
        Attention also sees the transposed tensor, through a map that starts at zero.
    bias : bool
        Whether linear maps have biases.
    act : str
        Activation of the perceptron, by PyG's name for it.
    dropout : float
        On both parts.

    Raises
    ------
    ValueError, TypeError
        If an option is out of range, or the heads do not divide `dim`.

    Notes
    -----
    Cost O(n^3 C), memory O(n^2 C): the scores are worked on in chunks and computed again for the gradient.

    Examples
    --------
    >>> block = FloydBlock(8, 2)
    >>> pairs = torch.randn(1, 4, 4, 8)
    >>> bool(torch.equal(block(pairs, torch.ones(1, 4, dtype=torch.bool)), pairs))
    True
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        ffn_expansion: int = 4,
        norm: str | None = "layernorm",
        norm_position: str = "pre",
        symmetric_mix: bool = True,
        bias: bool = False,
        act: str = "silu",
        dropout: float = 0.0,
    ):
        super().__init__()
        self.dim, self.heads = integer(dim, "dim", at_least=1), integer(heads, "heads", at_least=1)
        if dim % heads:
            raise ValueError(f"heads must divide dim, {dim}, got {heads}")
        inner = dim * integer(ffn_expansion, "ffn_expansion", at_least=1)
        self.pre = choice(norm_position, "norm_position", ["pre", "post"]) == "pre"
        bias = flag(bias, "bias")
        self.mix = _zero(nn.Linear(dim, dim, bias=False)) if flag(symmetric_mix, "symmetric_mix") else None
        self.norms = nn.ModuleList(_norm(norm, dim) for _ in range(2))
        self.project = nn.Linear(dim, 5 * dim, bias=bias)
        self.out = _zero(nn.Linear(dim, dim, bias=bias))
        self.widen, self.narrow = nn.Linear(dim, inner, bias=bias), _zero(nn.Linear(inner, dim, bias=bias))
        for linear in (self.project, self.widen):
            nn.init.xavier_uniform_(linear.weight)
        self.gain = nn.Parameter(torch.ones(()))
        self.act = activation_named(act, "act")
        self.dropout = real(dropout, "dropout", at_least=0, below=1)

    def forward(self, pairs: torch.Tensor, nodes: torch.Tensor) -> torch.Tensor:
        """Map pair tensors (B, n, n, C), with the mask (B, n) of the nodes that exist, to pair tensors, zero where there is no pair."""
        if pairs.dim() != 4 or pairs.shape[1] != pairs.shape[2] or pairs.shape[3] != self.dim:
            raise ValueError(f"pairs must have shape (graphs, n, n, {self.dim}), got {tuple(pairs.shape)}")
        if nodes.shape != pairs.shape[:2] or nodes.dtype != torch.bool:
            raise ValueError(f"nodes must be a mask of shape {tuple(pairs.shape[:2])}, got {nodes.dtype} {tuple(nodes.shape)}")
        mask = pair_mask(nodes).unsqueeze(-1)
        pairs = self._added(pairs, self._attention, self.norms[0], nodes)
        pairs = self._added(pairs, self._perceptron, self.norms[1], nodes)
        return pairs * mask

    def _added(self, pairs, change, norm, nodes):
        if self.pre:
            return pairs + F.dropout(change(pairs, norm, nodes), self.dropout, self.training)
        return norm(pairs + F.dropout(change(pairs, nn.Identity(), nodes), self.dropout, self.training))

    def _attention(self, pairs, norm, nodes):
        mixed = norm(pairs if self.mix is None else pairs + self.mix(pairs.transpose(1, 2)))
        batch, n = nodes.shape
        parts = self.project(mixed).view(batch, n, n, 5, self.heads, -1).permute(3, 0, 4, 1, 2, 5).contiguous()
        pivots = None if bool(nodes.all()) else nodes.view(batch, 1, 1, 1, n)
        chunk = fitting_chunk(batch, self.heads, n, pairs.element_size())
        attended = pivotal_attention(*parts, attn_mask=pivots, chunk_size=chunk)
        return self.out(attended.permute(0, 2, 3, 1, 4).flatten(-2))

    def _perceptron(self, pairs, norm, nodes):
        return self.gain * self.narrow(self.act(self.widen(norm(pairs))))


class FloydNet(nn.Module):
    """Embed all pairs of nodes, refine them by `FloydBlock`s, and read out graphs, nodes or pairs.

    Parameters
    ----------
    dim, heads, depth : int
        Channels, attention heads, blocks.
    node_types : int, optional
        Number of node types; x then holds one of them a node.
    node_dim : int, optional
        Length of numerical node features; x is then (N, node_dim).
    edge_types : int, optional
        Number of edge types; edge_attr then holds one of them an edge.
    edge_dim : int, optional
        Length of numerical edge features; edge_attr is then (E, edge_dim).
    supernode : bool
        Node features enter on the pairs of a node with one more, which stands for the graph, instead of on the diagonal.
    out_channels : int
        Length of the outputs.
    level : {"graph", "node", "edge"}
        Sums over all pairs; over a node's row and column; or the pairs themselves, as a pair tensor (B, n, n, out).

    Raises
    ------
    ValueError, TypeError
        If an option is out of range.

    Notes
    -----
    A pair is embedded by whether it is an edge, and by whether it is a node with itself (without that a node looks like a pair that is no edge).
    Outputs pass a perceptron of width 4 dim. With random weights it tells apart what 2-dimensional Weisfeiler-Leman refinement (folklore) does.

    Examples
    --------
    >>> edges = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    >>> FloydNet(16, 2, 2, out_channels=3)(None, edges, batch=torch.tensor([0, 0, 0])).shape
    torch.Size([1, 3])
    """

    def __init__(
        self,
        dim: int = 64,
        heads: int = 8,
        depth: int = 8,
        *,
        node_types: int | None = None,
        node_dim: int | None = None,
        edge_types: int | None = None,
        edge_dim: int | None = None,
        supernode: bool = False,
        out_channels: int,
        level: str = "graph",
    ):
        super().__init__()
        self.level, self.supernode = choice(level, "level", ["graph", "node", "edge"]), flag(supernode, "supernode")
        self.blocks = nn.ModuleList(FloydBlock(dim, heads) for _ in range(integer(depth, "depth", at_least=1)))
        self.kind = nn.Embedding(3, dim)  # no edge, edge, a node with itself
        self.special = nn.Embedding(3, dim) if supernode else None  # from the supernode, to it, itself
        self.node = feature_embedding(node_types, "node_types", node_dim, "node_dim", dim)
        self.edge = feature_embedding(edge_types, "edge_types", edge_dim, "edge_dim", dim)
        out = integer(out_channels, "out_channels", at_least=1)
        self.head = nn.Sequential(nn.Linear(dim, 4 * dim), nn.SiLU(), nn.Linear(4 * dim, out))

    def forward(self, x: torch.Tensor | None, edge_index: torch.Tensor, edge_attr: torch.Tensor | None = None, batch: torch.Tensor | None = None):
        """Return outputs (B, out), (N, out) or (B, n, n, out), zero for pairs that do not exist.

        Parameters
        ----------
        x : LongTensor (N,) or Tensor (N, node_dim), or None
            Node features, if node_types or node_dim was given.
        edge_index : LongTensor (2, E)
            Sources and targets, no edge twice.
        edge_attr : LongTensor (E,) or Tensor (E, edge_dim), or None
            Edge features, if edge_types or edge_dim was given.
        batch : LongTensor (N,), optional
            The graph of each node; may be left out with node features if there is one graph.

        Raises
        ------
        ValueError
            If shapes disagree, features are missing or not expected, or a type is out of range.
        """
        if edge_index.dim() != 2 or edge_index.shape[0] != 2:
            raise ValueError(f"edge_index must have shape (2, edges), got {tuple(edge_index.shape)}")
        if batch is None:
            if x is None:
                raise ValueError("batch must be given where there are no node features: it says how many nodes there are")
            batch = x.new_zeros(len(x), dtype=torch.long)
        pairs, nodes = self._embedded(x, edge_index, edge_attr, batch)
        for block in self.blocks:
            pairs = block(pairs, nodes)
        return self._read(pairs, nodes)

    def _embedded(self, x, edge_index, edge_attr, batch):
        _, nodes = dense_nodes(batch.new_ones(len(batch), 1), batch)
        n = nodes.shape[1]
        kinds = dense_pairs(edge_index, batch).squeeze(-1).long().clamp(max=1)
        kinds = kinds.masked_fill(torch.eye(n, dtype=torch.bool, device=kinds.device), 2)
        pairs = self.kind(kinds)
        if (features := embedded_features(self.edge, edge_attr, edge_index.shape[1], "edge_attr")) is not None:
            pairs = pairs + dense_pairs(edge_index, batch, features)
        features = embedded_features(self.node, x, len(batch), "x")
        features = None if features is None else dense_nodes(features, batch)[0]
        if self.supernode:
            pairs, nodes = self._with_supernode(pairs, nodes, features)
        elif features is not None:
            pairs = pairs + on_diagonal(features)
        return pairs * pair_mask(nodes).unsqueeze(-1), nodes

    def _with_supernode(self, pairs, nodes, features):
        """Add a last node that stands for the graph."""
        pairs = F.pad(pairs, (0, 0, 0, 1, 0, 1))
        features = 0 if features is None else features
        pairs[:, -1, :-1] = self.special.weight[0] + features
        pairs[:, :-1, -1] = self.special.weight[1] + features
        pairs[:, -1, -1] = self.special.weight[2]
        return pairs, F.pad(nodes, (0, 1), value=True)

    def _read(self, pairs, nodes):
        mask = pair_mask(nodes).unsqueeze(-1)
        if self.level == "graph":
            return self.head(pairs.sum((1, 2)))
        last = -1 if self.supernode else None
        if self.level == "node":
            return self.head(pairs.sum(1) + pairs.sum(2))[:, :last][nodes[:, :last]]
        return (self.head(pairs) * mask)[:, :last, :last]


def _norm(kind: str | None, dim: int) -> nn.Module:
    if kind is None:
        return nn.Identity()
    choice(kind, "norm", NORMS)
    return {"layernorm": nn.LayerNorm, "rmsnorm": nn.RMSNorm, "affine": Affine}[kind](dim)


class Affine(nn.Module):
    """Scale and shift each channel."""

    def __init__(self, dim: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (..., dim) to the same."""
        return self.weight * x + self.bias


def _zero(linear: nn.Linear) -> nn.Linear:
    nn.init.zeros_(linear.weight)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)
    return linear
