"""The equivariant polynomials of a graph that a network cannot compute, as features of its pairs of nodes.

Puny, Lim, Kiani, Maron and Lipman, "Equivariant Polynomials for Graph Neural Networks", ICML 2023, arXiv:2302.11556, section 5.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

from ritz.core import choice, flag, integer, optional_import
from ritz.graphs.adjacency import as_adjacency
from ritz.graphs.equivariant_polynomials import equivariant_polynomial
from ritz.graphs.motifs import Motif, is_computable, polynomial_basis

_transforms = optional_import("torch_geometric.transforms", extra="graphs")


class PolynomialFeatures(_transforms.BaseTransform):
    """Store as ``poly_pair`` (n^2, C), row by row, the polynomials of up to `degree` edges that the bank of operations cannot compute.

    First those of pairs, then those of nodes on the diagonal, then those of the graph, the same for all pairs; simple connected motifs, which suffice
    for an unweighted undirected graph. Degree 6 leaves 12 to the bank "ppgn": 10, 1 and 1. One row a pair, so that graphs of different sizes form
    batches; `pairs_of` gives them back as pair tensors.

    Parameters
    ----------
    degree : int
        The largest number of edges, at most 7. Motifs of more than seven nodes are trees, which every bank computes.
    bank : {"ppgn", "mpnn"}
        Products of matrices, or message passing (whose pair polynomials, all out of reach, are left out).
    normalize : bool
        Divide by the norm over the channels at each pair, then each channel by its Frobenius norm.

    Raises
    ------
    ValueError
        If an option is out of range; on a graph, if it is directed, weighted or has loops.

    Notes
    -----
    Cost O(n^4) for the motifs of degree 6, memory O(n^3).

    Examples
    --------
    >>> from torch_geometric.data import Data
    >>> PolynomialFeatures(6)(Data(edge_index=torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]), num_nodes=3)).poly_pair.shape
    torch.Size([9, 12])
    """

    def __init__(self, degree: int = 6, bank: str = "ppgn", normalize: bool = True):
        self.degree = integer(degree, "degree", at_least=1, at_most=7)
        self.bank = choice(bank, "bank", ["ppgn", "mpnn"])
        self.normalize = flag(normalize, "normalize")

    @property
    def motifs(self) -> tuple[Motif, ...]:
        """What the channels are the polynomials of."""
        return _beyond(self.degree, self.bank)

    def forward(self, data):
        """Add the features of one graph."""
        A = as_adjacency(data, directed=False, weighted=False, allow_loops=False, name="data").matrix.toarray()
        features = missing_polynomials(A, self.motifs)
        data.poly_pair = torch.from_numpy(_normalized(features) if self.normalize else features).float().flatten(0, 1)
        return data


def missing_polynomials(A: np.ndarray, motifs: tuple[Motif, ...]) -> np.ndarray:
    """The polynomials (n, n, C) of an adjacency matrix: of pairs, of nodes on the diagonal, of the graph everywhere."""
    n = len(A)
    channels = [equivariant_polynomial(A, Motif(motif.edges, motif.red * 2) if len(motif.red) == 1 else motif) for motif in motifs]
    return np.stack([np.broadcast_to(channel, (n, n)) for channel in channels], axis=-1) if channels else np.zeros((n, n, 0))


def pairs_of(features: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
    """Give features of pairs that are stored row by row back as pair tensors, zero on padding.

    Parameters
    ----------
    features : Tensor (sum of n_i^2, C)
        As `PolynomialFeatures` stores and PyG batches them.
    batch : LongTensor (sum of n_i,)
        The graph of each node.

    Returns
    -------
    Tensor (B, n, n, C)

    Raises
    ------
    ValueError
        If the number of rows is not that of the pairs.

    Examples
    --------
    >>> pairs_of(torch.arange(5.0).unsqueeze(1), torch.tensor([0, 1, 1]))[..., 0]
    tensor([[[0., 0.],
             [0., 0.]],
    <BLANKLINE>
            [[1., 2.],
             [3., 4.]]])
    """
    sizes = torch.bincount(batch)
    if features.dim() != 2 or len(features) != int(sizes.square().sum()):
        raise ValueError(f"features must have a row for each of the {int(sizes.square().sum())} pairs, got shape {tuple(features.shape)}")
    n = int(sizes.max())
    pairs = features.new_zeros(len(sizes), n, n, features.shape[1])
    real = torch.arange(n, device=batch.device) < sizes.unsqueeze(1)
    pairs[real.unsqueeze(2) & real.unsqueeze(1)] = features
    return pairs


@cache
def _beyond(degree: int, bank: str) -> tuple[Motif, ...]:
    outputs = ("pair", "node", "graph") if bank == "ppgn" else ("node", "graph")
    return tuple(motif for output in outputs for motif in polynomial_basis(degree, output, max_nodes=7) if not is_computable(motif, bank))


def _normalized(features: np.ndarray) -> np.ndarray:
    features = _divided(features, np.linalg.norm(features, axis=-1, keepdims=True))
    return _divided(features, np.linalg.norm(features, axis=(0, 1), keepdims=True))


def _divided(features: np.ndarray, norms: np.ndarray) -> np.ndarray:
    return features / np.where(norms > 0, norms, 1)
