"""Graph Mamba: every node reads its neighborhood as a sequence of subgraphs, then a graph reads its nodes, all by selective state spaces.

Behrouz and Hashemi, "Graph Mamba: Towards Learning on Graphs with State Space Models", KDD 2024, arXiv:2402.08678, section 4.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from ritz.core import choice, integer, optional_import, real
from ritz.graphs.bidirectional_mamba import BidirectionalMamba
from ritz.graphs.node_order import node_order as ordered_nodes
from ritz.graphs.token_encoders import MeanEncoder, SubgraphEncoder, WalkEncoder, convolved, graph_layer
from ritz.graphs.walk_tokens import Tokens, WalkTokens, checked_counts

_data = optional_import("torch_geometric.data", extra="graphs")
_utils = optional_import("torch_geometric.utils", extra="graphs")

ENCODERS = ["gated_gcn", "gin", "mean", "rwf"]


class GraphMamba(nn.Module):
    """Bidirectional selective state spaces over the tokens of each node, the longest walks first, and over the nodes of each graph.

    Node features (and positions) pass a linear map; each token of `WalkTokens` becomes a vector; `num_layers` blocks of `BidirectionalMamba` with
    residual connections read a node's L tokens, and the last place is the node; `node_layers` blocks read a graph's nodes in `node_order`; message
    passing runs beside all that and is added; a linear map of normalized nodes, or of their mean or sum over a graph, is what comes out.

    Parameters
    ----------
    in_channels : int
        Length of the node features.
    hidden : int
        Channels inside.
    out_channels : int
        Length of the outputs.
    walk_length, walks_per_token, repeats : int
        Those of `WalkTokens`. With `walk_length` 0 a node is its only token, taken as it is, and the model is blocks over the sequence of nodes.
    token_encoder : {"gated_gcn", "gin", "mean", "rwf"}
        How a token becomes a vector: one residual layer of message passing on the induced subgraph and the mean of its nodes; the mean alone, for
        large graphs; or features along its walks (tokens must then be made with ``keep_walks=True``).
    num_layers, node_layers : int
        Blocks over tokens (and layers of the message passing beside), and blocks over nodes.
    mpnn : {"gated_gcn", "gin"}, optional
        Message passing beside the sequences; none if missing.
    pe : {"laplacian", "rwse"}, optional
        Positions that are put behind the features: Laplacian eigenvectors (``eigvec`` of `LaplacianEigenpairs`), whose signs are random in training,
        or the walks' probabilities of being back (``rrwp`` of `AddRRWP`).
    pe_channels : int
        The length of a position.
    node_order : {"degree", "pagerank"} or callable
        The score by which nodes are sorted, ascending; a function of (edge_index, number of nodes) returns scores (n,).
    task : {"node", "graph"}
        Outputs for nodes or for graphs.
    pooling : {"mean", "sum"}
        Of nodes, for graphs.
    edge_channels : int, optional
        Length of the edge features; none if missing. The mean of nodes does not look at them.
    dropout : float
        On what each block and layer adds.

    Raises
    ------
    ValueError, TypeError
        If an option is out of range.

    Notes
    -----
    Cost O(n L hidden^2 + n s M m^2) and the edges of the subgraphs: linear in nodes and edges. In training tokens of equal length change places at
    random. The paper leaves open whether the order of nodes rises or falls, which only swaps the two directions (here it rises: nodes of high degree
    are read last), and how ties are broken: here at random in training, by PageRank and then by number in evaluation. The gated convolution is PyG's
    ``ResGatedGraphConv``, which does not update edges.

    Examples
    --------
    >>> edge_index = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    >>> GraphMamba(3, 8, 2, walk_length=2, num_layers=1)(torch.randn(3, 3), edge_index).shape
    torch.Size([3, 2])
    """

    def __init__(
        self,
        in_channels: int,
        hidden: int = 64,
        out_channels: int = 1,
        *,
        walk_length: int = 8,
        walks_per_token: int = 4,
        repeats: int = 2,
        token_encoder: str = "gated_gcn",
        num_layers: int = 3,
        node_layers: int = 1,
        mpnn: str | None = None,
        pe: str | None = None,
        pe_channels: int = 8,
        node_order: str | Callable[[torch.Tensor, int], torch.Tensor] = "degree",
        task: str = "node",
        pooling: str = "mean",
        edge_channels: int | None = None,
        dropout: float = 0.1,
    ):
        super().__init__()
        self.in_channels, hidden = integer(in_channels, "in_channels", at_least=1), integer(hidden, "hidden", at_least=1)
        out_channels, depth = integer(out_channels, "out_channels", at_least=1), integer(num_layers, "num_layers", at_least=1)
        self.counts = checked_counts(walk_length, walks_per_token, repeats)
        self.places = repeats * walk_length + 1
        self.token_encoder, self.task = choice(token_encoder, "token_encoder", ENCODERS), choice(task, "task", ["node", "graph"])
        self.pooling = choice(pooling, "pooling", ["mean", "sum"])
        self.pe = None if pe is None else choice(pe, "pe", ["laplacian", "rwse"])
        self.pe_channels = integer(pe_channels, "pe_channels", at_least=1) if pe else 0
        self.node_order = node_order if callable(node_order) else choice(node_order, "node_order", ["degree", "pagerank"])
        self.edge_channels = None if edge_channels is None else integer(edge_channels, "edge_channels", at_least=1)
        self.dropout = nn.Dropout(real(dropout, "dropout", at_least=0, below=1))
        self.enter = nn.Linear(self.in_channels + self.pe_channels, hidden)
        self.encoder = self._encoder(hidden) if walk_length else None
        self.token_blocks = nn.ModuleList(BidirectionalMamba(hidden) for _ in range(depth if walk_length else 0))
        self.node_blocks = nn.ModuleList(BidirectionalMamba(hidden) for _ in range(integer(node_layers, "node_layers", at_least=0)))
        kinds = [] if mpnn is None else [choice(mpnn, "mpnn", ["gated_gcn", "gin"])] * depth
        self.messages = nn.ModuleList(graph_layer(kind, hidden, self.edge_channels) for kind in kinds)
        self.message_norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in kinds)
        self.norm, self.head = nn.LayerNorm(hidden), nn.Linear(hidden, out_channels)

    def forward(
        self,
        x: torch.Tensor,
        edge_index: torch.Tensor,
        edge_attr: torch.Tensor | None = None,
        batch: torch.Tensor | None = None,
        tokens=None,
        pe: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return outputs (N, out_channels) of nodes or (B, out_channels) of graphs.

        Parameters
        ----------
        x : Tensor (N, in_channels)
            Node features.
        edge_index : LongTensor (2, E)
            Edges, both directions of each in undirected graphs.
        edge_attr : Tensor (E, edge_channels), optional
            Edge features, if the network was built for them.
        batch : LongTensor (N,), optional
            The graph of each node, in order; one graph if missing.
        tokens : PyG data or batch with the attributes of `WalkTokens`, or Tokens, optional
            Made with the same three numbers; if missing they are made at each call, always by the seed 0. Not needed if `walk_length` is 0.
        pe : Tensor (N, pe_channels), optional
            Positions, if the network was built for them.

        Raises
        ------
        ValueError
            If shapes disagree, features are not finite, the graph is empty, or tokens or positions do not fit the network.
        """
        self._check(x, edge_index, edge_attr, pe)
        batch = edge_index.new_zeros(len(x)) if batch is None else batch
        h = self.enter(x if pe is None else torch.cat([x, self._signed(pe, batch)], dim=-1))
        y = h if self.encoder is None else self._read_tokens(h, edge_index, edge_attr, self._fitting(tokens, edge_index, len(x)))
        y = self._read_nodes(y, edge_index, batch)
        if len(self.messages):
            y = y + self._passed_messages(h, edge_index, edge_attr)
        y = self.norm(y)
        return self.head(y if self.task == "node" else _utils.scatter(y, batch, dim=0, reduce=self.pooling))

    def from_data(self, data) -> torch.Tensor:
        """Return the outputs for PyG data or a batch of it, which carries features, positions and tokens."""
        pe = {None: None, "laplacian": "eigvec", "rwse": "rrwp"}[self.pe]
        if pe is not None and getattr(data, pe, None) is None:
            raise ValueError(f"data has no {pe}: apply {'LaplacianEigenpairs' if pe == 'eigvec' else 'AddRRWP'}({self.pe_channels}) first")
        edge_attr = data.edge_attr if self.edge_channels else None
        tokens = data if self.encoder is not None and "token_nodes" in data else None
        return self(data.x, data.edge_index, edge_attr, data.batch, tokens, None if pe is None else data[pe])

    def _read_tokens(self, h: torch.Tensor, edge_index: torch.Tensor, edge_attr: torch.Tensor | None, tokens: Tokens) -> torch.Tensor:
        encoded = self.encoder(h, tokens, edge_index, edge_attr)
        order = self._shuffled(tokens.owner, tokens.order) if self.training else tokens.order
        y = torch.zeros_like(encoded).index_copy(0, tokens.owner * self.places + order, encoded).view(len(h), self.places, -1)
        for block in self.token_blocks:
            y = y + self.dropout(block(y))
        return y[:, -1]

    def _read_nodes(self, y: torch.Tensor, edge_index: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        if not len(self.node_blocks):
            return y
        order = ordered_nodes(self.node_order, edge_index, batch, shuffled=self.training)
        sequences, mask = order.padded(y)
        for block in self.node_blocks:
            sequences = sequences + self.dropout(block(sequences, mask))
        return order.unpadded(sequences, mask)

    def _passed_messages(self, h: torch.Tensor, edge_index: torch.Tensor, edge_attr: torch.Tensor | None) -> torch.Tensor:
        for layer, norm in zip(self.messages, self.message_norms):
            h = h + self.dropout(torch.relu(convolved(layer, norm(h), edge_index, edge_attr)))
        return h

    def _shuffled(self, owner: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
        """Places in which tokens of equal length have changed theirs at random."""
        m, _, s = self.counts
        places = torch.rand(len(owner) // self.places, m, s, device=order.device).argsort(-1)
        moved = places + s * torch.arange(m, device=order.device).unsqueeze(-1)
        return F.pad(moved.flatten(1), (0, 1), value=m * s)[owner, order]

    def _signed(self, pe: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        """Positions to go in: eigenvectors are turned over at random in training, each in each graph."""
        if self.pe != "laplacian" or not self.training:
            return pe.to(self.enter.weight.dtype)
        signs = torch.randint(0, 2, (int(batch.max()) + 1, pe.shape[1]), device=pe.device) * 2 - 1
        return pe.to(self.enter.weight.dtype) * signs[batch]

    def _fitting(self, tokens, edge_index: torch.Tensor, n: int) -> Tokens:
        walks = self.token_encoder == "rwf"
        if tokens is None:
            graph = _data.Data(edge_index=edge_index.cpu(), num_nodes=n)
            drawn = WalkTokens(*self.counts, rng=0, keep_walks=walks).tokens(graph)
            tokens = Tokens(*(None if part is None else part.to(edge_index.device) for part in drawn))
        tokens = Tokens.of(tokens)
        m, M, s = self.counts
        width = s * M * (m * (m + 1) // 2 + m)
        if len(tokens.owner) != n * self.places or (walks and (tokens.walks is None or tokens.walks.shape != (n, width))):
            raise ValueError(
                f"tokens must be those of WalkTokens({m}, {M}, {s}{', keep_walks=True' if walks else ''}), {self.places} for each of {n} nodes, "
                f"got {len(tokens.owner)} tokens{', no walks' if walks and tokens.walks is None else ''}"
            )
        return tokens

    def _encoder(self, hidden: int) -> nn.Module:
        if self.token_encoder == "mean":
            return MeanEncoder()
        if self.token_encoder == "rwf":
            return WalkEncoder(hidden, self.edge_channels, *self.counts)
        return SubgraphEncoder(self.token_encoder, hidden, self.edge_channels)

    def _check(self, x, edge_index, edge_attr, pe) -> None:
        if x.dim() != 2 or x.shape[1] != self.in_channels or not len(x):
            raise ValueError(f"x must have shape (nodes, {self.in_channels}) with at least one node, got {tuple(x.shape)}")
        if edge_index.dim() != 2 or edge_index.shape[0] != 2:
            raise ValueError(f"edge_index must have shape (2, edges), got {tuple(edge_index.shape)}")
        expected = {"edge_attr": (edge_attr, edge_index.shape[1], self.edge_channels), "pe": (pe, len(x), self.pe_channels or None)}
        for name, (value, count, channels) in expected.items():
            if (value is None) != (channels is None):
                raise ValueError(f"{name} must be given if and only if the network was built for it, got {'none' if value is None else 'some'}")
            if value is not None and value.shape != (count, channels):
                raise ValueError(f"{name} must have shape ({count}, {channels}), got {tuple(value.shape)}")
        for name, value in (("x", x), ("edge_attr", edge_attr), ("pe", pe)):
            if value is not None and not torch.isfinite(value).all():
                raise ValueError(f"{name} must be finite, got NaN or infinite entries")
