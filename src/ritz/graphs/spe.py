"""Stable and expressive positional encodings: eigenvectors of the Laplacian, weighted softly by their eigenvalues instead of picked one by one.

Huang, Lu, Robinson, Yang, Zhang, Jegelka and Li, "On the Stability of Expressive Positional Encodings for Graph Neural Networks", ICLR 2024,
arXiv:2310.02579, section 3.

Eigenvectors are fixed only up to a turn inside each eigenspace, and an eigenspace only while its eigenvalue stays apart from the others. The matrices
V diag(phi(lambda)) V^T of smooth functions phi know neither trouble: they are functions of the Laplacian itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import nn

from ritz.core import choice, integer
from ritz.graphs.pair_tensors import dense_nodes

ORTHONORMALITY = 1e-3
MEMORY_LIMIT = 16e9  # bytes that the activations of one forward pass may take by estimate


class SPE(nn.Module):
    """Positional encodings PE_i = sum_j rho(W)_ij from W = V diag(phi(lambda)) V^T, one phi for each of `num_filters` channels.

    Parameters
    ----------
    k : int
        The number of eigenpairs that come in, as `LaplacianEigenpairs` (k) stores them.
    out_channels : int
        The length of a node's encoding.
    num_filters : int
        The number m of functions phi, each with a network of its own.
    filter : {"mlp", "deepsets"} or callable
        A multilayer perceptron of one eigenvalue at a time, normalized over the batch's eigenvalues after each hidden layer (without that it starts
        nearly affine and W says no more than the adjacency matrix); layers that also see the sum over a graph's eigenvalues; or any function of
        eigenvalues (B, k) that returns (B, k, m), permutation-equivariant over the k.
    filter_hidden, filter_layers : int
        Width and number of linear layers of phi.
    rho : {"gin", "mlp"}
        A graph isomorphism network that takes each column W[:, j] as node features, or a perceptron of each entry W_ij; then the sum over j.
    hidden, num_layers : int
        Width of rho, and its number of message-passing layers ("gin") or linear layers ("mlp").

    Raises
    ------
    ValueError, TypeError
        If an option is out of range.

    Notes
    -----
    Cost O(m k n^2) for W and O(num_layers |E| n hidden) for rho; memory O(n^2 hidden) a graph: for graphs of up to a few hundred nodes; beyond an
    estimate of 16 GB the call is refused. With phi bounded by M and K-Lipschitz and rho J-Lipschitz, the encoding moves by at most a multiple of
    ``sqrt(||L - L'||) + ||L - L'|| / gap``, where gap is that between eigenvalues k and k + 1, the only one that matters (theorem 3.1).
    The final layer of "deepsets" is linear here. Eigenvalues go in minus 1, which centers those of the normalized Laplacian.

    Examples
    --------
    >>> from torch_geometric.data import Data
    >>> from ritz.graphs import LaplacianEigenpairs
    >>> data = LaplacianEigenpairs(3)(Data(edge_index=torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]), num_nodes=3))
    >>> SPE(3, 8)(data.eigval, data.eigvec, data.edge_index).shape
    torch.Size([3, 8])
    """

    def __init__(
        self,
        k: int,
        out_channels: int,
        *,
        num_filters: int = 16,
        filter: str | Callable[[torch.Tensor], torch.Tensor] = "mlp",
        filter_hidden: int = 16,
        filter_layers: int = 3,
        rho: str = "gin",
        hidden: int = 128,
        num_layers: int = 8,
    ):
        super().__init__()
        self.k = integer(k, "k", at_least=1)
        out_channels, self.num_filters = integer(out_channels, "out_channels", at_least=1), integer(num_filters, "num_filters", at_least=1)
        widths = [1, *[integer(filter_hidden, "filter_hidden", at_least=1)] * (integer(filter_layers, "filter_layers", at_least=1) - 1), 1]
        self.hidden, num_layers = integer(hidden, "hidden", at_least=1), integer(num_layers, "num_layers", at_least=1)
        if callable(filter):
            self.filter = filter
        else:
            self.filter = {"mlp": EigenvalueMLP, "deepsets": EigenvalueSets}[choice(filter, "filter", ["mlp", "deepsets"])](widths, num_filters)
        self.rho = {"gin": ColumnGIN, "mlp": EntryMLP}[choice(rho, "rho", ["gin", "mlp"])](num_filters, self.hidden, out_channels, num_layers)

    def forward(self, eigval: torch.Tensor, eigvec: torch.Tensor, edge_index: torch.Tensor, batch: torch.Tensor | None = None) -> torch.Tensor:
        """Return the encodings (N, out_channels).

        Parameters
        ----------
        eigval : Tensor (B, k)
            The eigenvalues of each graph, zero-padded.
        eigvec : Tensor (N, k)
            Their eigenvectors, orthonormal, zero-padded.
        edge_index : LongTensor (2, E)
            The edges, messages from the first row's nodes to the second's.
        batch : LongTensor (N,), optional
            The graph of each node; may be left out if there is one graph.

        Raises
        ------
        ValueError
            If shapes disagree, numbers are not finite, eigenvectors are not orthonormal, or too much memory would be needed.
        """
        V, nodes, values, real = self._checked(eigval, eigvec, batch)
        needed = 3 * nodes.sum().item() * nodes.shape[1] * max(self.num_filters, self.hidden) * V.element_size() * len(self.rho.layers)
        if needed > MEMORY_LIMIT:
            raise ValueError(f"eigvec: {nodes.sum()} nodes in graphs of up to {nodes.shape[1]} need about {needed / 1e9:.0f} GB; use smaller batches")
        W = self._projections(V, values, real)
        columns = nodes.unsqueeze(1).expand(-1, nodes.shape[1], -1)[nodes]
        return self.rho(W[nodes], columns, edge_index)

    def from_data(self, data) -> torch.Tensor:
        """Return the encodings of PyG data or a batch of it, with the attributes that `LaplacianEigenpairs` stores."""
        for name in ("eigval", "eigvec"):
            if getattr(data, name, None) is None:
                raise ValueError(f"data has no {name}: apply LaplacianEigenpairs({self.k}) first")
        return self(data.eigval, data.eigvec, data.edge_index, data.batch)

    def weighted_projections(self, eigval: torch.Tensor, eigvec: torch.Tensor, batch: torch.Tensor | None = None) -> list[torch.Tensor]:
        """Return W (n, n, m) of each graph."""
        V, nodes, values, real = self._checked(eigval, eigvec, batch)
        W = self._projections(V, values, real)
        return [entries[:n, :n] for entries, n in zip(W, nodes.sum(1).tolist())]

    def _projections(self, V: torch.Tensor, values: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """V diag(phi) V^T as (B, n, n, m); padded columns of V are zero, so what phi says of them does not matter."""
        phi = self.filter(values, real) if isinstance(self.filter, EigenvalueMLP | EigenvalueSets) else self.filter(values)
        phi = phi.unsqueeze(-1) if phi.dim() == 2 else phi
        graphs, n, k = V.shape
        scaled = V.unsqueeze(2) * phi.transpose(1, 2).unsqueeze(1)
        return (scaled.reshape(graphs, n * phi.shape[-1], k) @ V.transpose(1, 2)).view(graphs, n, phi.shape[-1], n).transpose(2, 3)

    def _checked(self, eigval: torch.Tensor, eigvec: torch.Tensor, batch: torch.Tensor | None):
        """The eigenvectors as (B, n, k) with the mask (B, n) of nodes, and the eigenvalues with the mask (B, k) of those that are no padding."""
        if eigval.dim() != 2 or eigval.shape[1] != self.k:
            raise ValueError(f"eigval must have shape (graphs, {self.k}), got {tuple(eigval.shape)}")
        if eigvec.dim() != 2 or eigvec.shape[1] != self.k:
            raise ValueError(f"eigvec must have shape (nodes, {self.k}), got {tuple(eigvec.shape)}")
        if batch is None:
            if len(eigval) != 1:
                raise ValueError(f"batch must say which of the {len(eigval)} graphs each node belongs to, got None")
            batch = torch.zeros(len(eigvec), dtype=torch.long, device=eigvec.device)
        if batch.shape != eigvec.shape[:1]:
            raise ValueError(f"batch must have shape ({len(eigvec)},), got {tuple(batch.shape)}")
        if not torch.isfinite(eigval).all():
            raise ValueError("eigval must be finite")
        V, nodes = dense_nodes(eigvec, batch)
        if len(V) != len(eigval):
            raise ValueError(f"eigval must have a row for each graph, {len(V)}, got {len(eigval)}")
        gram = V.transpose(1, 2) @ V
        real = gram.diagonal(dim1=1, dim2=2) > 0.5
        if not (gram - torch.diag_embed(real.to(gram.dtype))).abs().max() <= ORTHONORMALITY:
            raise ValueError(f"eigvec must have orthonormal columns in each graph (zero for padding), to {ORTHONORMALITY}")
        return V, nodes, eigval, real


class EigenvalueMLP(nn.Module):
    """The same scalar perceptron for every eigenvalue, `count` of them side by side, with batch normalization over the real eigenvalues."""

    def __init__(self, widths: list[int], count: int):
        super().__init__()
        self.layers = nn.ModuleList(ParallelLinear(count, *pair) for pair in itertools.pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm1d(count * width) for width in widths[1:-1])

    def forward(self, values: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """Map eigenvalues (B, k) to (B, k, count), zero on padding."""
        count = self.layers[0].weight.shape[0]
        h = (values[real] - 1).view(-1, 1, 1).expand(-1, count, 1)
        for layer, norm in zip(self.layers, self.norms):
            h = torch.relu(norm(layer(h).flatten(1))).view(len(h), count, -1)
        phi = values.new_zeros(*values.shape, count)
        phi[real] = self.layers[-1](h).squeeze(-1)
        return phi


class EigenvalueSets(nn.Module):
    """Deep sets over a graph's eigenvalues, `count` of them side by side: each layer also sees the sum over the real ones."""

    def __init__(self, widths: list[int], count: int):
        super().__init__()
        self.layers = nn.ModuleList(ParallelLinear(count, *pair) for pair in itertools.pairwise(widths))
        self.sums = nn.ModuleList(ParallelLinear(count, *pair, bias=False) for pair in itertools.pairwise(widths))

    def forward(self, values: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """Map eigenvalues (B, k) to (B, k, count), zero on padding."""
        count, mask = self.layers[0].weight.shape[0], real[..., None, None].to(values.dtype)
        z = mask * (values - 1)[..., None, None].expand(-1, -1, count, 1)
        for i, (own, total) in enumerate(zip(self.layers, self.sums)):
            z = own(z) + total(z.sum(1, keepdim=True))
            z = mask * (torch.relu(z) if i + 1 < len(self.layers) else z)
        return z.squeeze(-1)


class ParallelLinear(nn.Module):
    """Several linear maps side by side: (..., count, in) to (..., count, out)."""

    def __init__(self, count: int, inputs: int, outputs: int, *, bias: bool = True):
        super().__init__()
        bound = inputs**-0.5
        self.weight = nn.Parameter(torch.empty(count, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(count, outputs).uniform_(-bound, bound)) if bias else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply map c to x[..., c, :]."""
        y = torch.einsum("...ci,cio->...co", x, self.weight)
        return y if self.bias is None else y + self.bias


class ColumnGIN(nn.Module):
    """A graph isomorphism network on node features that have a further axis j, the same for each j; summed over the real j."""

    def __init__(self, inputs: int, hidden: int, outputs: int, num_layers: int):
        super().__init__()
        widths = [inputs, *[hidden] * (num_layers - 1), outputs]
        self.layers = nn.ModuleList(perceptron([before, hidden, hidden, after]) for before, after in itertools.pairwise(widths))
        self.epsilon = nn.Parameter(torch.randn(num_layers))

    def forward(self, h: torch.Tensor, columns: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
        """Map features (N, n, channels) with the mask (N, n) of their columns to (N, outputs)."""
        source, target = edge_index
        for layer, epsilon in zip(self.layers, self.epsilon):
            h = layer(((1 + epsilon) * h).index_add(0, target, h[source]))
        return (h * columns.unsqueeze(-1)).sum(1)


class EntryMLP(nn.Module):
    """A perceptron of each entry, summed over the real columns; no messages pass."""

    def __init__(self, inputs: int, hidden: int, outputs: int, num_layers: int):
        super().__init__()
        self.layers = perceptron([inputs, *[hidden] * (num_layers - 1), outputs])

    def forward(self, h: torch.Tensor, columns: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
        """Map features (N, n, channels) with the mask (N, n) of their columns to (N, outputs)."""
        return (self.layers(h) * columns.unsqueeze(-1)).sum(1)


def perceptron(widths: list[int]) -> nn.Sequential:
    """Linear layers with layer normalization (columns are ragged, batch statistics would mix padding in) and ReLU between them."""
    layers = [nn.Linear(widths[0], widths[1])]
    for before, after in itertools.pairwise(widths[1:]):
        layers += [nn.LayerNorm(before), nn.ReLU(), nn.Linear(before, after)]
    return nn.Sequential(*layers)
