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

from ritz.core import flag, integer, optional_import, real
from ritz.graphs.adjacency import as_adjacency
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
        M = transition(A)
        if A.shape[0] <= DENSE_SIZE:
            self._store_dense(data, walk_probabilities(M.toarray()[None], self.walk_length)[0], A)
        else:
            self._store_sparse(data, M, A)
        return data

    def for_all(self, graphs: Sequence) -> list:
        """Return shallow copies of the graphs with their probabilities: matrices of small graphs are padded and multiplied together."""
        graphs = [copy.copy(data) for data in graphs]
        matrices = [as_adjacency(data, name="graphs").matrix for data in graphs]
        for i in (i for i, A in enumerate(matrices) if A.shape[0] > DENSE_SIZE):
            self._store_sparse(graphs[i], transition(matrices[i]), matrices[i])
        small = sorted((i for i, A in enumerate(matrices) if A.shape[0] <= DENSE_SIZE), key=lambda i: matrices[i].shape[0])
        for part in _parts(small, [A.shape[0] for A in matrices], self.walk_length):
            stacked = _padded_transitions([matrices[i] for i in part])
            for i, P in zip(part, walk_probabilities(stacked, self.walk_length)):
                n = matrices[i].shape[0]
                self._store_dense(graphs[i], P[:n, :n], matrices[i])
        return graphs

    def _store_dense(self, data, P: np.ndarray, A: scipy.sparse.csr_array) -> None:
        target, source = np.nonzero(P.any(axis=-1))
        self._store(data, np.einsum("iik->ik", P), target, source, P[target, source], A)

    def _store_sparse(self, data, M: scipy.sparse.csr_array, A: scipy.sparse.csr_array) -> None:
        n = A.shape[0]
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
        self._store(data, own, target, source, values, A)

    def _store(self, data, own: np.ndarray, target: np.ndarray, source: np.ndarray, values: np.ndarray, A) -> None:
        data[self.attr_abs] = torch.from_numpy(np.ascontiguousarray(own)).float()
        data[f"{self.attr_rel}_index"] = torch.from_numpy(np.stack([source, target]))
        data[f"{self.attr_rel}_val"] = torch.from_numpy(values).float()
        data["log_deg"] = torch.from_numpy(np.log1p(A.sum(axis=1))).float()
        if self.spd:
            data[f"{self.attr_rel}_spd"] = torch.from_numpy(np.argmax(values > 0, axis=1))


def walk_probabilities(M: np.ndarray, length: int) -> np.ndarray:
    """Return the powers 0 to length - 1 of stacked matrices (B, n, n) as (B, n, n, length)."""
    P = np.empty((*M.shape, length))
    power = np.broadcast_to(np.eye(M.shape[-1]), M.shape)
    for k in range(length):
        P[..., k] = power
        power = power @ M
    return P


def _padded_transitions(matrices: list[scipy.sparse.csr_array]) -> np.ndarray:
    n = max(A.shape[0] for A in matrices)
    stacked = np.zeros((len(matrices), n, n))
    for M, A in zip(stacked, matrices):
        M[: A.shape[0], : A.shape[0]] = A.toarray()
    degrees = stacked.sum(axis=-1, keepdims=True)
    return np.divide(stacked, degrees, where=degrees > 0, out=np.zeros_like(stacked))


def _parts(numbers: list[int], sizes: list[int], length: int):
    """Cut graphs, sorted by size, into runs whose padded powers take no more than `STACK_BYTES`."""
    part: list[int] = []
    for i in numbers:
        if part and (len(part) + 1) * sizes[i] ** 2 * length * 8 > STACK_BYTES:
            yield part
            part = []
        part.append(i)
    if part:
        yield part
