"""Relative random-walk probabilities: how likely a walk from one node is at another after 0, 1, 2, ... steps.

Ma, Lin, Lim, Romero-Soriano, Dokania, Coates, Torr and Lim, "Graph Inductive Biases in Transformers without Message Passing", ICML 2023,
arXiv:2305.17589, section 3.1.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import scipy.sparse
import torch
from numba import njit, prange

from ritz.core import flag, integer, optional_import, real
from ritz.graphs.adjacency import as_adjacency, disjoint_union
from ritz.graphs.laplacian import transition

_transforms = optional_import("torch_geometric.transforms", extra="graphs")

DENSE_SIZE = 500
STACK_BYTES = 64e6  # of matrices that are multiplied together


class AddRRWP(_transforms.BaseTransform):
    """Store the probabilities P_ij of walks from i to j: for each node with itself, and for every pair that a walk can join.

    With M = D^-1 A (zero rows for nodes without edges), P_ij = (I, M, M^2, ..., M^(walk_length - 1))_ij. Stored are ``rrwp`` (n, K), the P_ii;
    ``rrwp_index`` (2, P), pairs (j, i) of a source and the target i that attends to it, and ``rrwp_val`` (P, K), their P_ij: the walk runs from the
    target to the source; and ``log_deg`` (n,), log(1 + weighted degree).

    Parameters
    ----------
    walk_length : int
        The number K of powers, that of zero included.
    attr_abs, attr_rel : str
        What to call the first, and the stem of the second.
    spd : bool
        Also store as ``rrwp_spd`` (P,) the least number of steps that joins each pair: their distance.
    tolerance : float
        For graphs of more than 500 nodes, whose powers are sparse: smaller probabilities are dropped.

    Raises
    ------
    ValueError, TypeError
        If an option is out of range; on a graph, if a weight is negative.

    Notes
    -----
    Cost O(K n^3) dense, O(K n nnz) sparse.

    Examples
    --------
    >>> from torch_geometric.data import Data
    >>> AddRRWP(3)(Data(edge_index=torch.tensor([[0, 1], [1, 0]]), num_nodes=2)).rrwp
    tensor([[1., 0., 1.],
            [1., 0., 1.]])
    """

    def __init__(self, walk_length: int = 21, attr_abs: str = "rrwp", attr_rel: str = "rrwp", spd: bool = False, *, tolerance: float = 0.0):
        self.walk_length = integer(walk_length, "walk_length", at_least=1)
        for name, value in (("attr_abs", attr_abs), ("attr_rel", attr_rel)):
            if not isinstance(value, str) or not value.isidentifier():
                raise ValueError(f"{name} must be an attribute's name, got {value!r}")
        self.attr_abs, self.attr_rel, self.spd = attr_abs, attr_rel, flag(spd, "spd")
        self.tolerance = real(tolerance, "tolerance", at_least=0)

    def forward(self, data):
        """Add the probabilities of one graph."""
        A = as_adjacency(data, name="data").matrix
        self._store_all([data], A, np.array([0, A.shape[0]]))
        return data

    def for_all(self, graphs: Sequence) -> list:
        """Return shallow copies of the graphs with their probabilities."""
        graphs = [copy.copy(data) for data in graphs]
        if graphs:
            self._store_all(graphs, *disjoint_union(graphs))
        return graphs

    def _store_all(self, graphs: Sequence, A: scipy.sparse.csr_array, starts: np.ndarray) -> None:
        """Store the probabilities of graphs that stand side by side in `A`, graph g in rows ``starts[g]:starts[g + 1]``."""
        M, degrees = transition(A), A.sum(axis=1)
        log_degrees = torch.from_numpy(np.log1p(degrees)).float()
        sizes = np.diff(starts)
        for part in _parts(np.flatnonzero(sizes <= DENSE_SIZE), sizes, self.walk_length):
            first, areas = starts[part], sizes[part] ** 2
            corners = np.cumsum([0, *areas])
            P = np.empty((corners[-1], self.walk_length), dtype=np.float32)
            joined = np.empty(corners[-1], dtype=np.bool_)
            _walk_probabilities(M.indptr, M.indices, M.data, first, sizes[part], corners, P, joined)
            for i, corner, area in zip(part, corners, areas):
                self._store_dense(graphs[i], P[corner : corner + area], joined[corner : corner + area], sizes[i])
        for i in np.flatnonzero(sizes > DENSE_SIZE):
            own = slice(starts[i], starts[i + 1])
            self._store_sparse(graphs[i], scipy.sparse.csr_array(M[own, own]))
        for data, own_degrees in zip(graphs, log_degrees.split(sizes.tolist())):
            data["log_deg"] = own_degrees.clone()

    def _store_dense(self, data, P: np.ndarray, joined: np.ndarray, n: int) -> None:
        pairs = np.flatnonzero(joined)
        target, source = np.divmod(pairs, n)
        self._store(data, P[:: n + 1], target, source, P[pairs])

    def _store_sparse(self, data, M: scipy.sparse.csr_array) -> None:
        n = M.shape[0]
        power = scipy.sparse.eye_array(n, format="csr")
        keys, places, entries = [], [], []
        for k in range(self.walk_length):
            rows = np.repeat(np.arange(n), np.diff(power.indptr))
            keys.append(rows * n + power.indices)
            places.append(np.full(power.nnz, k))
            entries.append(power.data)
            power = scipy.sparse.csr_array(power @ M)
            power.data[power.data < self.tolerance] = 0
            power.eliminate_zeros()
        pairs, position = np.unique(np.concatenate(keys), return_inverse=True)
        values = np.zeros((len(pairs), self.walk_length))
        values[position, np.concatenate(places)] = np.concatenate(entries)
        target, source = np.divmod(pairs, n)
        own = np.zeros((n, self.walk_length))
        own[target[target == source]] = values[target == source]
        self._store(data, own, target, source, values)

    def _store(self, data, own: np.ndarray, target: np.ndarray, source: np.ndarray, values: np.ndarray) -> None:
        data[self.attr_abs] = torch.from_numpy(np.ascontiguousarray(own)).float()
        data[f"{self.attr_rel}_index"] = torch.from_numpy(np.stack([source, target]))
        data[f"{self.attr_rel}_val"] = torch.from_numpy(values).float()
        if self.spd:
            data[f"{self.attr_rel}_spd"] = torch.from_numpy(np.argmax(values > 0, axis=1))


@njit(cache=True, nogil=True, parallel=True)
def _walk_probabilities(indptr, indices, weights, first, sizes, corners, P, joined):
    """Powers of the diagonal blocks of a sparse matrix, block b of `sizes[b]` rows from `first[b]`: its pairs (i, j) become rows of P (pairs, K).

    Marked as joined are the pairs for which some power is not zero.
    """
    for b in prange(len(sizes)):
        n, start, corner = sizes[b], first[b], corners[b]
        power, following = np.eye(n), np.empty((n, n))
        own, own_joined = P[corner : corner + n * n], joined[corner : corner + n * n]
        own_joined[:] = False
        for k in range(P.shape[1]):
            for i in range(n):
                for j in range(n):
                    own[i * n + j, k] = power[i, j]
                    own_joined[i * n + j] |= power[i, j] != 0
                following[i] = 0
                for entry in range(indptr[start + i], indptr[start + i + 1]):
                    neighbor, weight = indices[entry] - start, weights[entry]
                    for j in range(n):
                        following[i, j] += weight * power[neighbor, j]
            power, following = following, power


def _parts(numbers: np.ndarray, sizes: np.ndarray, length: int) -> list[np.ndarray]:
    """Cut graphs into runs whose dense powers take about `STACK_BYTES`."""
    before = np.cumsum(sizes[numbers] ** 2 * length * 4)
    return np.split(numbers, np.flatnonzero(np.diff(before // STACK_BYTES)) + 1) if len(numbers) else []
