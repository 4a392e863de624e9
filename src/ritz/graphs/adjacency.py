"""One way in for graphs: networkx, SciPy sparse, dense arrays, torch tensors and PyG data become one canonical CSR adjacency matrix.

Rows are sources. Entries are float64 weights, indices sorted, parallel edges summed; the node labels are kept for the way out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse
from scipy.sparse.csgraph import connected_components

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


def as_adjacency(
    graph,
    *,
    directed: bool = True,
    weighted: bool = True,
    allow_loops: bool = True,
    connected: bool = False,
    name: str = "adjacency",
) -> Adjacency:
    """Return the canonical adjacency matrix of a graph.

    Parameters
    ----------
    graph : networkx graph, SciPy sparse array or matrix, array-like (n, n), torch tensor, PyG ``Data`` or ``HeteroData``, or Adjacency
        The graph. networkx weights are read from the edge attribute ``weight`` (1 where it is missing),
        PyG weights from ``edge_weight`` or a one-column ``edge_attr``. The nodes of ``HeteroData`` are numbered type by type and labelled
        (type, number); its relations are summed.
    directed : bool
        False refuses a graph that is not symmetric.
    weighted : bool
        False refuses weights other than 1.
    allow_loops : bool
        False refuses edges from a node to itself.
    connected : bool
        True refuses a graph of several components (directions of edges do not count).
    name : str
        The argument's name, for messages.

    Raises
    ------
    ValueError
        If the matrix is not square, has no node, or has negative or non-finite weights; or for what the options refuse.
    TypeError
        If it is no graph at all.

    Examples
    --------
    >>> as_adjacency([[0, 1], [1, 0]]).matrix.toarray()
    array([[0., 1.],
           [1., 0.]])
    """
    flag(directed, "directed")
    flag(weighted, "weighted")
    flag(allow_loops, "allow_loops")
    flag(connected, "connected")
    adjacency = _canonical(graph, name)
    weights = adjacency.matrix
    if weights.shape[0] == 0:
        raise ValueError(f"{name} must have at least one node, got an empty graph")
    if weights.nnz and weights.data.min() < 0:
        raise ValueError(f"{name} must have no negative weight, got {weights.data.min():g}")
    if not directed and not adjacency.is_symmetric:
        raise ValueError(f"{name} must be symmetric (an undirected graph); symmetrize it first, e.g. A.maximum(A.T)")
    if not weighted and np.any(weights.data != 1):
        raise ValueError(f"{name} must have no weights other than 1, got {weights.data[weights.data != 1][0]:g}")
    if not allow_loops and weights.diagonal().any():
        raise ValueError(f"{name} must have no self-loops, got {np.count_nonzero(weights.diagonal())}")
    if connected and (components := connected_components(weights, directed=False, return_labels=False)) > 1:
        raise ValueError(f"{name} must be a connected graph, got {components} components")
    return adjacency


def disjoint_union(graphs: Sequence, *, directed: bool = True, name: str = "graphs") -> tuple[scipy.sparse.csr_array, np.ndarray]:
    """Return the adjacency matrix of all PyG graphs side by side, and where the nodes of each begin: graph g has ``starts[g]:starts[g + 1]``.

    A collection is checked as one graph; where that fails, the message names the first graph that `as_adjacency` refuses.
    """
    sizes = [int(data.num_nodes) for data in graphs]
    if not sizes or min(sizes) == 0:
        raise ValueError(f"{name} must be graphs with at least one node each, got {len(sizes)} graphs of at least {min(sizes, default=0)} nodes")
    starts = np.cumsum([0, *sizes])
    edges = [_pyg_edges(data, f"{name}[{i}]") for i, data in enumerate(graphs)]
    lost = [i for i, (rows, columns, _) in enumerate(edges) if rows.size and max(rows.max(), columns.max()) >= sizes[i]]
    if lost:
        raise ValueError(f"{name}[{lost[0]}].edge_index must hold nodes below {sizes[lost[0]]}")
    counts = [len(rows) for rows, _, _ in edges]
    rows, columns, weights = (np.concatenate(parts) for parts in zip(*edges))
    shift = np.repeat(starts[:-1], counts)
    union = scipy.sparse.coo_array((weights, (rows + shift, columns + shift)), shape=(starts[-1], starts[-1]))
    try:
        return as_adjacency(union, directed=directed, name=name).matrix, starts
    except ValueError:
        for i, data in enumerate(graphs):
            as_adjacency(data, directed=directed, name=f"{name}[{i}]")
        raise


def symmetrized(matrix: scipy.sparse.csr_array) -> scipy.sparse.csr_array:
    """Return the undirected graph in which each pair is joined with the larger of its two directed weights."""
    return scipy.sparse.csr_array(matrix.maximum(matrix.T))


def _canonical(graph, name: str) -> Adjacency:
    if isinstance(graph, Adjacency):
        return Adjacency(_clean(graph.matrix, name), graph.nodes)
    if hasattr(graph, "node_types") and hasattr(graph, "edge_types"):
        return _from_heterogeneous(graph, name)
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
    rows, columns, weights = _pyg_edges(data, name)
    n = int(data.num_nodes)
    return scipy.sparse.coo_array((weights, (rows, columns)), shape=(n, n))


def _from_heterogeneous(data, name: str) -> Adjacency:
    sizes = [int(data[kind].num_nodes) for kind in data.node_types]
    first = dict(zip(data.node_types, np.cumsum([0, *sizes])))
    relations = [_pyg_edges(data[relation], f"{name}[{relation}]") for relation in data.edge_types]
    shifted = [
        (rows + first[source], columns + first[target], weights) for (source, _, target), (rows, columns, weights) in zip(data.edge_types, relations)
    ]
    rows, columns, weights = (np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64) for parts in (zip(*shifted) if shifted else [()] * 3))
    nodes = np.empty(sum(sizes), dtype=object)
    nodes[:] = [(kind, number) for kind, size in zip(data.node_types, sizes) for number in range(size)]
    return Adjacency(_clean(scipy.sparse.coo_array((weights, (rows, columns)), shape=(len(nodes), len(nodes))), name), nodes)


def _pyg_edges(store, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The sources, targets and weights of PyG edges."""
    edge_index = to_numpy(store.edge_index, f"{name}.edge_index")
    if edge_index.ndim != 2 or edge_index.shape[0] != 2:
        raise ValueError(f"{name}.edge_index must have shape (2, edges), got {edge_index.shape}")
    weights = next((value for key in ("edge_weight", "edge_attr") if (value := getattr(store, key, None)) is not None), None)
    if weights is None:
        return edge_index[0], edge_index[1], np.ones(edge_index.shape[1])
    return edge_index[0], edge_index[1], to_numpy(weights, f"{name}.edge_weight").reshape(edge_index.shape[1], -1)[:, 0]
