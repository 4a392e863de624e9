"""How good a partition of a graph's nodes is: modularity of its edges, entropy of the nodes' attributes."""

from __future__ import annotations

import numpy as np
from numba import njit

from ritz.core import to_numpy
from ritz.graphs.adjacency import as_adjacency


def modularity(adjacency, labels) -> float:
    """Return the modularity of a partition: the share of the edges' weight inside its parts, less what a random graph of the same degrees has there.

    Q = sum_c (inside_c / 2m - (degrees_c / 2m)^2), with 2m the sum of all entries (Newman and Girvan 2004). 1 is the supremum, 0 the value of
    one part, and of a graph without edges. Cost O(edges).

    Parameters
    ----------
    adjacency : graph with n nodes
        Undirected, weighted or not.
    labels : array-like of int (n,)
        The part of each node, any integers.

    Raises
    ------
    ValueError, TypeError
        If the graph is directed, or labels are no n integers.

    Examples
    --------
    >>> two_edges = [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]
    >>> modularity(two_edges, [0, 0, 1, 1])
    0.5
    """
    matrix = as_adjacency(adjacency, directed=False).matrix
    parts, numbers = np.unique(checked_categories(labels, "labels", dimensions=(1,), length=matrix.shape[0], of="adjacency"), return_inverse=True)
    return float(partition_modularity(matrix.indptr, matrix.indices, matrix.data, numbers, len(parts)))


def attribute_entropy(labels, attributes) -> float:
    """Return how mixed the attributes are inside the parts of a partition, in bits: 0 if each part knows one category of each attribute.

    The sum over attributes of their entropy inside a part, averaged over parts with the share of nodes in each. Cost O(n log n) per attribute.

    Parameters
    ----------
    labels : array-like of int (n,)
        The part of each node.
    attributes : array-like of int (n,) or (n, attributes)
        The category of each node in each attribute.

    Raises
    ------
    ValueError, TypeError
        If lengths differ, or entries are no integers.

    Examples
    --------
    >>> attribute_entropy([0, 0, 1, 1], [[7], [8], [9], [9]])
    0.5
    """
    labels = checked_categories(labels, "labels", dimensions=(1,))
    attributes = checked_categories(attributes, "attributes", dimensions=(1, 2), length=len(labels), of="labels").reshape(len(labels), -1)
    return float(sum(_conditional_entropy(column, labels) for column in attributes.T))


def checked_categories(value, name: str, *, dimensions: tuple[int, ...], length: int | None = None, of: str = "") -> np.ndarray:
    """Return categories as int64: integers, booleans, or floats that are whole numbers; as many rows as the argument `of` has nodes, if given."""
    categories = to_numpy(value, name)
    if categories.ndim not in dimensions:
        raise ValueError(f"{name} must have {' or '.join(map(str, dimensions))} dimension(s), got {categories.ndim}, shape {categories.shape}")
    if len(categories) == 0:
        raise ValueError(f"{name} must not be empty, got shape {categories.shape}")
    if length is not None and len(categories) != length:
        raise ValueError(f"{name} must have one row for each of the {length} nodes of {of}, got {len(categories)}")
    if categories.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be integers, got dtype {categories.dtype}")
    whole = np.isfinite(categories) & (categories == np.round(categories)) if categories.dtype.kind == "f" else np.True_
    if not np.all(whole):
        raise ValueError(f"{name} must be integers, got {categories[~whole][0]}")
    return categories.astype(np.int64)


def _conditional_entropy(categories: np.ndarray, labels: np.ndarray) -> float:
    """H(categories, labels) - H(labels)."""
    joint = np.unique(np.stack([categories, labels]), axis=1, return_counts=True)[1]
    return max(0.0, _entropy(joint) - _entropy(np.unique(labels, return_counts=True)[1]))


def _entropy(counts: np.ndarray) -> float:
    shares = counts / counts.sum()
    return float(-np.sum(shares * np.log2(shares)))


@njit(cache=True, nogil=True)
def partition_modularity(indptr, indices, weights, labels, parts):
    """The modularity of labels 0, ..., parts - 1 on a symmetric CSR graph."""
    degrees = np.zeros(parts)
    inside = 0.0
    for i in range(labels.shape[0]):
        own, degree = labels[i], 0.0
        for e in range(indptr[i], indptr[i + 1]):
            degree += weights[e]
            if labels[indices[e]] == own:
                inside += weights[e]
        degrees[own] += degree
    total = degrees.sum()
    if total == 0.0:
        return 0.0
    expected = 0.0
    for part in range(parts):
        expected += (degrees[part] / total) ** 2
    return inside / total - expected
