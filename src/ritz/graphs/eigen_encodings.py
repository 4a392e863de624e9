"""Eigenpairs of a graph's Laplacian as PyG attributes: the raw material of spectral positional encodings."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import scipy.sparse
import torch

from ritz.core import choice, integer, optional_import
from ritz.graphs.adjacency import as_adjacency, disjoint_union
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
        L = laplacian(as_adjacency(data, directed=False, name="data"), self.normalization)
        self._store(data, *smallest_eigenpairs(L, self.k))
        return data

    def for_all(self, graphs: Sequence) -> list:
        """Return shallow copies of the graphs with their eigenpairs: small graphs of equal size go through LAPACK together."""
        graphs = [copy.copy(data) for data in graphs]
        if not graphs:
            return graphs
        union, starts = disjoint_union(graphs, directed=False)
        L, sizes = laplacian(union, self.normalization), np.diff(starts)
        for size in np.unique(sizes):
            members = np.flatnonzero(sizes == size)
            if size > DENSE_SIZE:
                pairs = zip(*(smallest_eigenpairs(L[starts[i] : starts[i + 1], starts[i] : starts[i + 1]], self.k) for i in members))
            else:
                pairs = _dense_eigenpairs(_diagonal_blocks(L, starts[members], size), self.k)
            for i, values, vectors in zip(members, *pairs):
                self._store(graphs[i], values, vectors)
        return graphs

    def _store(self, data, values: np.ndarray, vectors: np.ndarray) -> None:
        data.eigval, data.eigvec = torch.zeros(1, self.k), torch.zeros(len(vectors), self.k)
        data.eigval[0, : len(values)] = torch.from_numpy(values)
        data.eigvec[:, : len(values)] = torch.from_numpy(vectors)


def smallest_eigenpairs(L, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the min(n, k) smallest eigenvalues of a sparse Laplacian, those that are zero up to rounding as 0, and orthonormal eigenvectors."""
    n = L.shape[0]
    if n <= DENSE_SIZE:
        return _dense_eigenpairs(L.toarray(), k)
    pairs = eigsh(L, min(k, n), which="smallest", rng=0)
    return _with_exact_zeros(pairs.eigenvalues), pairs.eigenvectors


def _diagonal_blocks(matrix: scipy.sparse.csr_array, starts: np.ndarray, size: int) -> np.ndarray:
    """The dense blocks (B, size, size) on the diagonal of a block-diagonal matrix that begin at `starts`."""
    rows = (starts[:, None] + np.arange(size)).ravel()
    chosen = matrix[rows]
    owner = np.repeat(np.arange(len(rows)), np.diff(chosen.indptr))
    blocks = np.zeros((len(starts), size, size))
    blocks[owner // size, owner % size, chosen.indices - starts[owner // size]] = chosen.data
    return blocks


def _dense_eigenpairs(L: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    values, vectors = np.linalg.eigh(L)
    return _with_exact_zeros(values[..., :k]), vectors[..., :k]


def _with_exact_zeros(values: np.ndarray) -> np.ndarray:
    return np.where(np.abs(values) < 1e-10, 0.0, values)
