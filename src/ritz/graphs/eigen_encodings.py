"""Eigenpairs of a graph's Laplacian as PyG attributes: the raw material of spectral positional encodings."""

from __future__ import annotations

import numpy as np
import torch

from ritz.core import choice, integer, optional_import
from ritz.graphs.adjacency import as_adjacency
from ritz.graphs.laplacian import laplacian
from ritz.linalg import eigsh

_transforms = optional_import("torch_geometric.transforms", extra="graphs")

DENSE_SIZE = 1500


class LaplacianEigenpairs(_transforms.BaseTransform):
    """Store the k smallest eigenvalues of the Laplacian, zeros included, as ``eigval`` (1, k) and their eigenvectors as ``eigvec`` (n, k).

    A graph of fewer than k nodes is padded with zeros, so that batches of graphs of any size can be formed. PyG's
    ``AddLaplacianEigenvectorPE`` keeps neither the eigenvalues nor the first eigenvector.

    Parameters
    ----------
    k : int
        How many pairs.
    normalization : {"sym", "comb"}
        I - D^-1/2 A D^-1/2 (0 on the diagonal of isolated nodes) or D - A.

    Examples
    --------
    >>> from torch_geometric.data import Data
    >>> data = Data(edge_index=torch.tensor([[0, 1], [1, 0]]), num_nodes=2)
    >>> LaplacianEigenpairs(3)(data).eigval
    tensor([[0., 2., 0.]])
    """

    def __init__(self, k: int, normalization: str = "sym"):
        self.k = integer(k, "k", at_least=1)
        self.normalization = choice(normalization, "normalization", ["sym", "comb"])

    def forward(self, data):
        """Add the eigenpairs of one undirected graph; ``ValueError`` if it is directed."""
        values, vectors = smallest_eigenpairs(laplacian(as_adjacency(data, directed=False, name="data"), self.normalization), self.k)
        found = len(values)
        data.eigval = torch.zeros(1, self.k)
        data.eigvec = torch.zeros(len(vectors), self.k)
        data.eigval[0, :found] = torch.from_numpy(values)
        data.eigvec[:, :found] = torch.from_numpy(vectors)
        return data


def smallest_eigenpairs(L, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the min(n, k) smallest eigenvalues of a Laplacian, those that are zero up to rounding as 0, and orthonormal eigenvectors."""
    n = L.shape[0]
    if n <= DENSE_SIZE:
        values, vectors = np.linalg.eigh(L.toarray())
        values, vectors = values[:k], vectors[:, :k]
    else:
        pairs = eigsh(L, min(k, n), which="smallest", rng=0)
        values, vectors = pairs.eigenvalues, pairs.eigenvectors
    return np.where(np.abs(values) < 1e-10, 0.0, values), vectors
