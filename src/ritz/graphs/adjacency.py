"""One way in for graphs: networkx, SciPy sparse, dense arrays, torch tensors and PyG data become one canonical CSR adjacency matrix.

Rows are sources. Entries are float64 weights, indices sorted, parallel edges summed; the node labels are kept for the way out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse

from ritz.core import Result, flag, sparse_matrix, to_numpy


@dataclass(frozen=True, eq=False, repr=False)
class Adjacency(Result):
    """A graph: its weights (n, n) in CSR form, row = source, and the label of each node."""

    matrix: scipy.sparse.csr_array
    nodes: np.ndarray

    @property
    def n(self) -> int:
        """The number of nodes."""
        return self.matrix.shape[0]

    @property
    def is_symmetric(self) -> bool:
        """True if every edge has its reverse with the same weight."""
        return abs(self.matrix - self.matrix.T).max() <= 1e-12 * abs(self.matrix).max() if self.matrix.nnz else True


def as_adjacency(graph, *, directed: bool = True, allow_loops: bool = True, name: str = "adjacency") -> Adjacency:
    """Return the canonical adjacency matrix of a graph.

    Parameters
    ----------
    graph : networkx graph, SciPy sparse array or matrix, array-like (n, n), torch tensor, PyG ``Data`` or Adjacency
        The graph. networkx weights are read from the edge attribute ``weight`` (1 where it is missing),
        PyG weights from ``edge_weight`` or a one-column ``edge_attr``.
    directed : bool
        False refuses a graph that is not symmetric.
    allow_loops : bool
        False refuses edges from a node to itself.
    name : str
        The argument's name, for messages.

    Raises
    ------
    ValueError
        If the matrix is not square, has no node, or has negative or non-finite weights; or for what `directed` and `allow_loops` refuse.
    TypeError
        If it is no graph at all.

    Examples
    --------
    >>> as_adjacency([[0, 1], [1, 0]]).matrix.toarray()
    array([[0., 1.],
           [1., 0.]])
    """
    flag(directed, "directed")
    flag(allow_loops, "allow_loops")
    adjacency = _canonical(graph, name)
    weights = adjacency.matrix
    if weights.shape[0] == 0:
        raise ValueError(f"{name} must have at least one node, got an empty graph")
    if weights.nnz and weights.data.min() < 0:
        raise ValueError(f"{name} must have no negative weight, got {weights.data.min():g}")
    if not directed and not adjacency.is_symmetric:
        raise ValueError(f"{name} must be symmetric (an undirected graph); symmetrize it first, e.g. A.maximum(A.T)")
    if not allow_loops and weights.diagonal().any():
        raise ValueError(f"{name} must have no self-loops, got {np.count_nonzero(weights.diagonal())}")
    return adjacency


def symmetrized(matrix: scipy.sparse.csr_array) -> scipy.sparse.csr_array:
    """Return the undirected graph in which each pair is joined with the larger of its two directed weights."""
    return scipy.sparse.csr_array(matrix.maximum(matrix.T))


def _canonical(graph, name: str) -> Adjacency:
    if isinstance(graph, Adjacency):
        return Adjacency(_clean(graph.matrix, name), graph.nodes)
    if hasattr(graph, "edge_index"):
        return _numbered(_from_pyg(graph, name), name)
    if hasattr(graph, "adjacency") and hasattr(graph, "nodes"):
        return _from_networkx(graph, name)
    return _numbered(graph, name)


def _numbered(matrix, name: str) -> Adjacency:
    weights = _clean(matrix, name)
    return Adjacency(weights, np.arange(weights.shape[0]))


def _clean(matrix, name: str) -> scipy.sparse.csr_array:
    weights = sparse_matrix(matrix, name, square=True).astype(np.float64)
    weights.eliminate_zeros()
    weights.sort_indices()
    return weights


def _from_networkx(graph, name: str) -> Adjacency:
    import networkx

    labels = list(graph.nodes)
    if not labels:
        raise ValueError(f"{name} must have at least one node, got an empty graph")
    nodes = np.empty(len(labels), dtype=object)
    nodes[:] = labels
    return Adjacency(_clean(networkx.to_scipy_sparse_array(graph, nodelist=labels, dtype=np.float64, format="csr"), name), nodes)


def _from_pyg(data, name: str) -> scipy.sparse.coo_array:
    edge_index = to_numpy(data.edge_index, f"{name}.edge_index")
    if edge_index.ndim != 2 or edge_index.shape[0] != 2:
        raise ValueError(f"{name}.edge_index must have shape (2, edges), got {edge_index.shape}")
    weights = next((value for key in ("edge_weight", "edge_attr") if (value := getattr(data, key, None)) is not None), None)
    weights = np.ones(edge_index.shape[1]) if weights is None else to_numpy(weights, f"{name}.edge_weight").reshape(edge_index.shape[1], -1)[:, 0]
    n = int(data.num_nodes)
    return scipy.sparse.coo_array((weights, (edge_index[0], edge_index[1])), shape=(n, n))
