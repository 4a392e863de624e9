"""Graph convolutions whose messages depend on the node, the neighbor, and the neighborhood as a whole.

Lim, "Enhancing Graph Representations with Neighborhood-Contextualized Message-Passing", arXiv:2511.11046, 2025; without the context it is the
soft-isomorphic relational graph convolution of the same author (SIR-GCN).
"""

from __future__ import annotations

import itertools

import torch
from torch import nn
from torch.nn import functional as F

from ritz.core import choice, flag, integer, optional_import, real
from ritz.graphs.activations import activation_named
from ritz.graphs.edge_kernels import EdgeOrder, edge_weights, neighbor_relu_sum, neighbor_sum

_nn = optional_import("torch_geometric.nn", extra="graphs")
_utils = optional_import("torch_geometric.utils", extra="graphs")

AGGREGATIONS = ("sum", "mean", "max", "sym")


class SIRConv(_nn.MessagePassing):
    """``h*_u = aggregate_v W_R sigma(W_Q h_u + W_K h_v)`` over the in-neighbors v of u.

    Parameters
    ----------
    in_channels : int or (int, int)
        Length of the node features; of sources and targets for a bipartite graph.
    hidden_channels : int
        Width of the messages.
    out_channels : int
        Length of the outputs.
    activation : str or callable
        sigma, by PyG's name for it or as a function. Sums of "relu" run on the CPU without storing messages.
    aggr : {"sum", "mean", "max", "sym"}
        How messages are brought together; "sym" weighs them by 1 / sqrt(indegree(u) outdegree(v)), degrees at least 1. But for "max", W_R acts once a
        node, and its bias is added once a node.
    edge_dim : int, optional
        Length of edge features, which enter the activation through a map of their own.
    dropout : float
        On the projections inside the activation.
    inner_bias, outer_bias : bool
        Biases of W_Q and of W_R.

    Raises
    ------
    ValueError, TypeError
        If an option is out of range.

    Notes
    -----
    Cost O(N in hidden + E hidden + N hidden out). A node without neighbors gets the outer bias; a node is not its own neighbor unless it has a loop.

    Examples
    --------
    >>> SIRConv(3, 8, 2)(torch.ones(4, 3), torch.tensor([[0, 1], [1, 2]])).shape
    torch.Size([4, 2])
    """

    def __init__(
        self,
        in_channels: int | tuple[int, int],
        hidden_channels: int,
        out_channels: int,
        activation: str | object = "relu",
        *,
        aggr: str = "sum",
        edge_dim: int | None = None,
        dropout: float = 0.0,
        inner_bias: bool = True,
        outer_bias: bool = True,
    ):
        self.how = choice(aggr, "aggr", AGGREGATIONS)
        super().__init__(aggr="sum" if aggr == "sym" else aggr)
        pair = in_channels if isinstance(in_channels, tuple) else (in_channels, in_channels)
        self.in_channels = tuple(integer(width, "in_channels", at_least=1) for width in pair)
        hidden, out = integer(hidden_channels, "hidden_channels", at_least=1), integer(out_channels, "out_channels", at_least=1)
        self.activation = _resolved(activation)
        self.dropout = real(dropout, "dropout", at_least=0, below=1)
        self.query = nn.Linear(self.in_channels[1], hidden, bias=flag(inner_bias, "inner_bias"))
        self.key = nn.Linear(self.in_channels[0], hidden, bias=False)
        self.edge = None if edge_dim is None else nn.Linear(integer(edge_dim, "edge_dim", at_least=1), hidden, bias=False)
        self.value = nn.Linear(hidden, out, bias=False)
        self.bias = nn.Parameter(torch.zeros(out)) if flag(outer_bias, "outer_bias") else None
        self._seen: tuple | None = None

    def forward(self, x, edge_index: torch.Tensor, edge_attr: torch.Tensor | None = None) -> torch.Tensor:
        """Return the outputs (targets, out).

        Parameters
        ----------
        x : Tensor (N, in), or a pair of them
            Node features; of the sources and of the targets for a bipartite graph.
        edge_index : LongTensor (2, E)
            Sources and targets; an edge that stands twice counts twice.
        edge_attr : Tensor (E, edge_dim), optional
            Needed if, and only if, `edge_dim` was given.

        Raises
        ------
        ValueError
            If shapes disagree.
        """
        sources, targets = self._checked(x, edge_index, edge_attr)
        layout = self._layout(edge_index, sources, targets)
        q = self._projected(self.query, targets) + self._context(sources, edge_index, len(targets), layout)
        k = self._projected(self.key, sources)
        if layout is not None and self.edge is None and self.activation is torch.relu and self.how != "max":
            gathered = neighbor_relu_sum(q, k, layout, self.how)
        else:
            size = (len(sources), len(targets))
            weight = edge_weights(edge_index, *size, "sym", q.dtype) if self.how == "sym" else None
            gathered = self.propagate(edge_index, q=q, k=k, edge_attr=edge_attr, weight=weight, size=size)
        outputs = gathered if self.how == "max" else self.value(gathered)
        return outputs if self.bias is None else outputs + self.bias

    def message(self, q_i, k_j, edge_attr, weight):
        """The activation on an edge; mapped by W_R before a maximum."""
        inside = q_i + k_j if edge_attr is None else q_i + k_j + self.edge(edge_attr)
        message = self.activation(inside)
        if self.how == "max":
            return self.value(message)
        return message if weight is None else weight.unsqueeze(-1) * message

    def _context(self, sources, edge_index, targets: int, layout: EdgeOrder | None):
        """What the neighborhood as a whole adds to a node's query: nothing here."""
        return 0

    def _projected(self, linear: nn.Linear, x: torch.Tensor) -> torch.Tensor:
        return F.dropout(linear(x), self.dropout, self.training)

    def _checked(self, x, edge_index, edge_attr) -> tuple[torch.Tensor, torch.Tensor]:
        sources, targets = x if isinstance(x, tuple) else (x, x)
        for part, width in zip((sources, targets), self.in_channels):
            if part.dim() != 2 or part.shape[1] != width:
                raise ValueError(f"x must have shape (nodes, {width}), got {tuple(part.shape)}")
        if edge_index.dim() != 2 or edge_index.shape[0] != 2:
            raise ValueError(f"edge_index must have shape (2, edges), got {tuple(edge_index.shape)}")
        if (edge_attr is None) != (self.edge is None):
            raise ValueError(f"edge_attr must be given if and only if edge_dim is, got {'none' if edge_attr is None else 'some'}")
        return sources, targets

    def _layout(self, edge_index: torch.Tensor, sources: torch.Tensor, targets: torch.Tensor) -> EdgeOrder | None:
        """The sorted edges, kept while the same ones come; None off the CPU and in half precision, which the compiled sums do not know."""
        if edge_index.device.type != "cpu" or sources.dtype not in (torch.float32, torch.float64):
            return None
        key = (edge_index._version, len(sources), len(targets))
        if self._seen is None or self._seen[0] is not edge_index or self._seen[1] != key:
            self._seen = (edge_index, key, EdgeOrder(edge_index, len(sources), len(targets)))
        return self._seen[2]


class SINCConv(SIRConv):
    """``h*_u = aggregate_v W_R sigma(W_Q h_u + W_K h_v + W_N context_u)``, the context an aggregate of the features of all neighbors of u.

    Parameters
    ----------
    in_channels, hidden_channels, out_channels, activation, aggr, edge_dim, dropout, inner_bias, outer_bias
        As for `SIRConv`.
    context_aggr : {"sum", "mean", "max", "sym"}
        How the neighbors' features make the context. On nodes of high degree sums grow large: "mean" and normalization help.

    Notes
    -----
    The context is formed from the features before W_N acts. The part of the edge features is an addition to the published formula.

    Examples
    --------
    >>> SINCConv(3, 8, 2)(torch.ones(4, 3), torch.tensor([[0, 1], [1, 2]])).shape
    torch.Size([4, 2])
    """

    def __init__(
        self,
        in_channels: int | tuple[int, int],
        hidden_channels: int,
        out_channels: int,
        activation: str | object = "relu",
        *,
        aggr: str = "sum",
        context_aggr: str = "sum",
        edge_dim: int | None = None,
        dropout: float = 0.0,
        inner_bias: bool = True,
        outer_bias: bool = True,
    ):
        options = {"aggr": aggr, "edge_dim": edge_dim, "dropout": dropout, "inner_bias": inner_bias, "outer_bias": outer_bias}
        super().__init__(in_channels, hidden_channels, out_channels, activation, **options)
        self.context_how = choice(context_aggr, "context_aggr", AGGREGATIONS)
        self.neighborhood = nn.Linear(self.in_channels[0], hidden_channels, bias=False)

    def _context(self, sources, edge_index, targets: int, layout: EdgeOrder | None):
        if self.context_how == "max":
            context = _utils.scatter(sources[edge_index[0]], edge_index[1], dim=0, dim_size=targets, reduce="max")
        elif layout is not None:
            context = neighbor_sum(sources, layout, self.context_how)
        else:
            weight = edge_weights(edge_index, len(sources), targets, self.context_how, sources.dtype)
            context = sources.new_zeros(targets, sources.shape[1]).index_add(0, edge_index[1], weight[:, None] * sources[edge_index[0]])
        return self._projected(self.neighborhood, context)


class SINCGCN(nn.Module):
    """Layers of `SINCConv`, each normalized and activated: ``x <- relu(norm(conv(x)))``, plus x where that is asked for.

    Parameters
    ----------
    in_channels, hidden, out_channels : int
        Lengths of the features, inside (the messages as well), and of the outputs.
    num_layers : int
        Number of layers. Without `jk` the last one gives the outputs, neither normalized nor activated.
    norm : {"batch", None}
        Batch normalization after each layer.
    residual : bool
        Add a layer's input to its output where their lengths agree.
    jk : {"last", "cat", "max", None}
        Bring the outputs of all layers together (jumping knowledge), and map them linearly to the outputs.
    dropout : float
        After each activation.
    context_aggr, aggr : str
        As for `SINCConv`.
    readout : {"sum", "mean", None}
        Add up or average the outputs of each graph.

    Examples
    --------
    >>> SINCGCN(3, 8, 2, 2)(torch.ones(4, 3), torch.tensor([[0, 1], [1, 2]])).shape
    torch.Size([4, 2])
    """

    def __init__(
        self,
        in_channels: int,
        hidden: int,
        out_channels: int,
        num_layers: int,
        norm: str | None = "batch",
        residual: bool = False,
        jk: str | None = None,
        dropout: float = 0.0,
        *,
        aggr: str = "sum",
        context_aggr: str = "sum",
        readout: str | None = None,
    ):
        super().__init__()
        depth = integer(num_layers, "num_layers", at_least=1)
        self.residual, self.dropout = flag(residual, "residual"), real(dropout, "dropout", at_least=0, below=1)
        self.readout = None if readout is None else choice(readout, "readout", ["sum", "mean"])
        jk = None if jk is None else choice(jk, "jk", ["last", "cat", "max"])
        normalized = norm is not None and choice(norm, "norm", ["batch"]) == "batch"
        widths = [in_channels, *[hidden] * (depth - 1), out_channels if jk is None else hidden]
        options = {"aggr": aggr, "context_aggr": context_aggr}
        self.convs = nn.ModuleList(SINCConv(before, hidden, after, **options) for before, after in itertools.pairwise(widths))
        inner = self.convs if jk is not None else self.convs[:-1]
        self.norms = nn.ModuleList(nn.BatchNorm1d(hidden) if normalized else nn.Identity() for _ in inner)
        self.jump = None if jk in (None, "last") else _nn.JumpingKnowledge(jk)
        self.linear = None if jk is None else nn.Linear(hidden * (depth if jk == "cat" else 1), integer(out_channels, "out_channels", at_least=1))

    def forward(self, x: torch.Tensor, edge_index: torch.Tensor, batch: torch.Tensor | None = None) -> torch.Tensor:
        """Return outputs (N, out), or (B, out) with a readout; `batch` (N,) is the graph of each node."""
        outputs = []
        for conv, norm in zip(self.convs, self.norms):
            h = F.dropout(torch.relu(norm(conv(x, edge_index))), self.dropout, self.training)
            x = x + h if self.residual and x.shape == h.shape else h
            outputs.append(x)
        x = self.convs[-1](x, edge_index) if self.linear is None else self.linear(x if self.jump is None else self.jump(outputs))
        if self.readout is None:
            return x
        batch = x.new_zeros(len(x), dtype=torch.long) if batch is None else batch
        return _utils.scatter(x, batch, dim=0, reduce=self.readout)


def _resolved(activation):
    if activation == "relu":
        return torch.relu
    return activation if callable(activation) else activation_named(activation, "activation")
