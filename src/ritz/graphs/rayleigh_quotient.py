"""How high the frequencies of node features are on their graph: Rayleigh quotients of the normalized Laplacian, and the energy below each frequency.

Dong, Zhang and Wang, "Rayleigh Quotient Graph Neural Networks for Graph-level Anomaly Detection", ICLR 2024, arXiv:2310.02861, section 3.
"""

from __future__ import annotations

import numpy as np
import torch

from ritz.core import flag, optional_import
from ritz.graphs.edge_laplacian import edge_degrees, edge_laplacian, inverse_degrees

_transforms = optional_import("torch_geometric.transforms", extra="graphs")


def rayleigh_quotient(
    x: torch.Tensor,
    edge_index: torch.Tensor,
    batch: torch.Tensor | None = None,
    *,
    normalize: bool = True,
    num_graphs: int | None = None,
) -> torch.Tensor:
    """Return x^T L x / x^T x of each graph and feature, L = I - D^-1/2 A D^-1/2: from 0 (smooth) to 2 (alternating).

    Computed edge by edge as half the sum of ``(x_i / sqrt(d_i) - x_j / sqrt(d_j))^2`` over both directions of each edge; cost O(E F).

    Parameters
    ----------
    x : Tensor (N, F)
        Node features. A feature that is zero all over a graph gives 0.
    edge_index : LongTensor (2, E)
        Both directions of each edge.
    batch : LongTensor (N,), optional
        The graph of each node; one graph if missing.
    normalize : bool
        False leaves the denominator out.
    num_graphs : int, optional
        Read from `batch` if missing.

    Returns
    -------
    Tensor (B, F)

    Raises
    ------
    ValueError
        If shapes disagree.

    Examples
    --------
    >>> rayleigh_quotient(torch.tensor([[1.0, 1.0], [1.0, -1.0]]), torch.tensor([[0, 1], [1, 0]]))
    tensor([[0., 2.]])
    """
    flag(normalize, "normalize")
    if x.dim() != 2:
        raise ValueError(f"x must have shape (nodes, features), got {tuple(x.shape)}")
    if edge_index.dim() != 2 or edge_index.shape[0] != 2:
        raise ValueError(f"edge_index must have shape (2, edges), got {tuple(edge_index.shape)}")
    if batch is None:
        batch = x.new_zeros(len(x), dtype=torch.long)
    if batch.shape != x.shape[:1]:
        raise ValueError(f"batch must have shape ({len(x)},), got {tuple(batch.shape)}")
    count = num_graphs if num_graphs is not None else int(batch.max()) + 1 if len(batch) else 0
    source, target = edge_index
    scaled = x * inverse_degrees(edge_degrees(edge_index, len(x)).to(x.dtype), 0.5)[:, None]
    energy = x.new_zeros(count, x.shape[1]).index_add(0, batch[source], (scaled[source] - scaled[target]).square() / 2)
    if not normalize:
        return energy
    size = x.new_zeros(count, x.shape[1]).index_add(0, batch, x.square())
    occupied = size > 0
    return torch.where(occupied, energy / torch.where(occupied, size, 1), 0)


def accumulated_spectral_energy(x: torch.Tensor, edge_index: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return the eigenvalues (n,) of one graph's normalized Laplacian and the share (n, F) of each feature's energy up to them.

    The area above the curve, the integral of 1 - share from 0 to the largest eigenvalue, is the Rayleigh quotient. Dense, O(n^3).

    Parameters
    ----------
    x : Tensor (n, F)
        Node features.
    edge_index : LongTensor (2, E)
        Both directions of each edge.

    Raises
    ------
    ValueError
        If a feature is zero everywhere: it has no energy to share.

    Examples
    --------
    >>> values, share = accumulated_spectral_energy(torch.tensor([[1.0], [-1.0]]), torch.tensor([[0, 1], [1, 0]]))
    >>> values.round(6), share.round(6).ravel()
    (array([0., 2.]), array([0., 1.]))
    """
    if x.dim() != 2:
        raise ValueError(f"x must have shape (nodes, features), got {tuple(x.shape)}")
    if not torch.isfinite(x).all():
        raise ValueError("x must be finite")
    if (x == 0).all(0).any():
        raise ValueError("x must have no feature that is zero everywhere")
    edges, weights = edge_laplacian(edge_index, len(x))
    L = torch.zeros(len(x), len(x), dtype=torch.float64).index_put_(tuple(edges), weights.double(), accumulate=True)
    values, vectors = np.linalg.eigh(L.numpy())
    energy = (vectors.T @ x.double().numpy()) ** 2
    return values, np.cumsum(energy, axis=0) / energy.sum(axis=0)


class RayleighQuotient(_transforms.BaseTransform):
    """Store the Rayleigh quotients of a graph's features as ``rq`` (1, F), so that training computes them once.

    Parameters
    ----------
    normalize : bool
        As for `rayleigh_quotient`.

    Examples
    --------
    >>> from torch_geometric.data import Data
    >>> RayleighQuotient()(Data(x=torch.tensor([[1.0], [-1.0]]), edge_index=torch.tensor([[0, 1], [1, 0]]))).rq
    tensor([[2.]])
    """

    def __init__(self, normalize: bool = True):
        self.normalize = flag(normalize, "normalize")

    def forward(self, data):
        """Add the quotients to one graph."""
        data.rq = rayleigh_quotient(data.x, data.edge_index, normalize=self.normalize)
        return data
