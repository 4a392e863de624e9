"""Matrices of degrees: how many edges of a directed graph join which degrees, and how many nodes have which pair of them."""

from __future__ import annotations

import numpy as np
import scipy.sparse

from ritz.graphs.adjacency import as_adjacency


def joint_degree_matrix(A) -> scipy.sparse.coo_array:
    """Count the edges of a directed graph by the out-degree of their source and the in-degree of their target.

    Row o sums to o times the number of nodes with out-degree o, column i to i times the number of nodes with in-degree i.
    Cost O(m log m); very sparse in practice: far fewer entries than edges.

    Parameters
    ----------
    A : directed graph
        As for `as_adjacency`, row = source, without weights; edges from a node to itself do not count.

    Returns
    -------
    coo_array (largest out-degree + 1, largest in-degree + 1) int64
        J[o, i], entries in the order of rows.

    Raises
    ------
    ValueError
        If the graph is undirected or weighted.

    Examples
    --------
    >>> joint_degree_matrix([[0, 1, 1], [0, 0, 1], [0, 0, 0]]).toarray()
    array([[0, 0, 0],
           [0, 0, 1],
           [0, 1, 1]])
    """
    return edges_by_degree(simple_digraph(A, "A"))


def degree_correlation_matrix(A) -> scipy.sparse.coo_array:
    """Count the nodes of a directed graph by their own out- and in-degree.

    Parameters
    ----------
    A : directed graph
        As for `joint_degree_matrix`.

    Returns
    -------
    coo_array (largest out-degree + 1, largest in-degree + 1) int64
        B[o, i], entries in the order of rows.

    Examples
    --------
    >>> degree_correlation_matrix([[0, 1, 1], [0, 0, 1], [0, 0, 0]]).toarray()
    array([[0, 0, 1],
           [0, 1, 0],
           [1, 0, 0]])
    """
    return nodes_by_degree(simple_digraph(A, "A"))


def degree_distance(A, B) -> dict[str, float]:
    """Tell how far apart the degrees of two directed graphs are, of whatever sizes.

    Parameters
    ----------
    A, B : directed graphs
        As for `joint_degree_matrix`.

    Returns
    -------
    dict
        ``ks_in``, ``ks_out``: Kolmogorov-Smirnov distances of the distributions of in- and out-degrees, in [0, 1].
        ``jdm_l1``, ``dcm_l1``: L1 distances of the joint degree matrices (as shares of the edges) and of the degree correlation
        matrices (as shares of the nodes), in [0, 2].

    Examples
    --------
    >>> degree_distance([[0, 1], [0, 0]], [[0, 1], [1, 0]])
    {'ks_in': 0.5, 'ks_out': 0.5, 'jdm_l1': 0.0, 'dcm_l1': 2.0}
    """
    first, second = simple_digraph(A, "A"), simple_digraph(B, "B")
    (out_first, in_first), (out_second, in_second) = degrees(first), degrees(second)
    return {
        "ks_in": _kolmogorov_smirnov(in_first, in_second),
        "ks_out": _kolmogorov_smirnov(out_first, out_second),
        "jdm_l1": _share_distance(edges_by_degree(first), edges_by_degree(second)),
        "dcm_l1": _share_distance(nodes_by_degree(first), nodes_by_degree(second)),
    }


def simple_digraph(graph, name: str) -> scipy.sparse.csr_array:
    """Return the adjacency matrix of an unweighted directed graph without its loops."""
    if hasattr(graph, "adjacency") and hasattr(graph, "is_directed") and not graph.is_directed():
        raise ValueError(f"{name} must be a directed graph, got an undirected one (its to_directed() has both directions of each edge)")
    matrix = as_adjacency(graph, weighted=False, name=name).matrix
    if matrix.diagonal().any():
        edges = matrix.tocoo()
        apart = edges.row != edges.col
        matrix = scipy.sparse.csr_array((edges.data[apart], (edges.row[apart], edges.col[apart])), shape=matrix.shape)
    return matrix


def degrees(matrix: scipy.sparse.csr_array) -> tuple[np.ndarray, np.ndarray]:
    """Return the out- and the in-degree of each node."""
    return np.diff(matrix.indptr).astype(np.int64), np.bincount(matrix.indices, minlength=matrix.shape[0])


def edges_by_degree(matrix: scipy.sparse.csr_array) -> scipy.sparse.coo_array:
    """Return the joint degree matrix of a simple digraph."""
    out_degrees, in_degrees = degrees(matrix)
    return _counted(np.repeat(out_degrees, out_degrees), in_degrees[matrix.indices], out_degrees, in_degrees)


def nodes_by_degree(matrix: scipy.sparse.csr_array) -> scipy.sparse.coo_array:
    """Return the degree correlation matrix of a simple digraph."""
    return _counted(*degrees(matrix), *degrees(matrix))


def _counted(rows: np.ndarray, columns: np.ndarray, out_degrees: np.ndarray, in_degrees: np.ndarray) -> scipy.sparse.coo_array:
    """The number of times that each pair of degrees occurs."""
    shape = int(out_degrees.max()) + 1, int(in_degrees.max()) + 1
    pairs, counts = np.unique(rows * shape[1] + columns, return_counts=True)
    return scipy.sparse.coo_array((counts, np.divmod(pairs, shape[1])), shape=shape)


def _kolmogorov_smirnov(a: np.ndarray, b: np.ndarray) -> float:
    largest = max(a.max(), b.max())
    first, second = (np.cumsum(np.bincount(x, minlength=largest + 1)) / len(x) for x in (a, b))
    return float(np.abs(first - second).max())


def _share_distance(a: scipy.sparse.coo_array, b: scipy.sparse.coo_array) -> float:
    shape = tuple(map(max, a.shape, b.shape))
    first, second = (scipy.sparse.csr_array((x.data / max(1, x.sum()), (x.row, x.col)), shape=shape) for x in (a, b))
    return float(abs(first - second).sum())
