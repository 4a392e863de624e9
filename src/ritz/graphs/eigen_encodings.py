"""Eigenpairs of a graph's Laplacian as PyG attributes: the raw material of spectral positional encodings."""

from __future__ import annotations

import copy
from collections.abc import Sequence

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
        self._store(data, *smallest_eigenpairs(self._laplacian(data), self.k))
        return data

    def for_all(self, graphs: Sequence) -> list:
        """Return shallow copies of the graphs with their eigenpairs: small graphs of equal size go through LAPACK together."""
        graphs = [copy.copy(data) for data in graphs]
        laplacians = [self._laplacian(data) for data in graphs]
        sizes = np.array([L.shape[0] for L in laplacians])
        for size in np.unique(sizes):
            members = np.flatnonzero(sizes == size)
            if size > DENSE_SIZE:
                for i in members:
                    self._store(graphs[i], *smallest_eigenpairs(laplacians[i], self.k))
                continue
            values, vectors = _dense_eigenpairs(np.stack([laplacians[i].toarray() for i in members]), self.k)
            for i, own_values, own_vectors in zip(members, values, vectors):
                self._store(graphs[i], own_values, own_vectors)
        return graphs

    def _laplacian(self, data):
        return laplacian(as_adjacency(data, directed=False, name="data"), self.normalization)

    def _store(self, data, values: np.ndarray, vectors: np.ndarray) -> None:
        padding = self.k - len(values)
        data.eigval = torch.from_numpy(np.pad(values, (0, padding))[None]).float()
        data.eigvec = torch.from_numpy(np.pad(vectors, ((0, 0), (0, padding)))).float()


def smallest_eigenpairs(L, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the min(n, k) smallest eigenvalues of a sparse Laplacian, those that are zero up to rounding as 0, and orthonormal eigenvectors."""
    n = L.shape[0]
    if n <= DENSE_SIZE:
        return _dense_eigenpairs(L.toarray(), k)
    pairs = eigsh(L, min(k, n), which="smallest", rng=0)
    return _with_exact_zeros(pairs.eigenvalues), pairs.eigenvectors


def _dense_eigenpairs(L: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    values, vectors = np.linalg.eigh(L)
    return _with_exact_zeros(values[..., :k]), vectors[..., :k]


def _with_exact_zeros(values: np.ndarray) -> np.ndarray:
    return np.where(np.abs(values) < 1e-10, 0.0, values)
