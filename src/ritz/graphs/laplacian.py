"""Laplacians and the random-walk matrix of a weighted graph. Isolated nodes give zero rows, never an infinity."""

from __future__ import annotations

import numpy as np
import scipy.sparse

from ritz.core import choice
from ritz.graphs.adjacency import as_adjacency


def transition(adjacency) -> scipy.sparse.csr_array:
    """Return the random-walk matrix D^-1 A (n, n) of a graph, D = diag of out-degrees; a node without outgoing edges gets a zero row.

    Parameters
    ----------
    adjacency : graph with n nodes
        As for `as_adjacency`.

    Examples
    --------
    >>> transition([[0, 1, 1], [1, 0, 0], [0, 0, 0]]).toarray()
    array([[0. , 0.5, 0.5],
           [1. , 0. , 0. ],
           [0. , 0. , 0. ]])
    """
    A = as_adjacency(adjacency).matrix
    return scipy.sparse.csr_array(scipy.sparse.diags_array(inverse_power(A.sum(axis=1), 1.0)) @ A)


def laplacian(adjacency, kind: str = "sym") -> scipy.sparse.csr_array:
    """Return a Laplacian (n, n) of an undirected graph.

    Parameters
    ----------
    adjacency : graph with n nodes
        Symmetric.
    kind : {"comb", "sym", "rw"}
        D - A, I - D^-1/2 A D^-1/2 or I - D^-1 A. The diagonal entry of an isolated node is 0 in all three.

    Examples
    --------
    >>> laplacian([[0, 1], [1, 0]], "comb").toarray()
    array([[ 1., -1.],
           [-1.,  1.]])
    """
    choice(kind, "kind", ["comb", "sym", "rw"])
    A = as_adjacency(adjacency, directed=False).matrix
    degrees = A.sum(axis=1)
    if kind == "comb":
        return scipy.sparse.csr_array(scipy.sparse.diags_array(degrees) - A)
    reached = scipy.sparse.diags_array((degrees > 0).astype(np.float64))
    left, right = (0.5, 0.5) if kind == "sym" else (1.0, 0.0)
    normalized = scipy.sparse.diags_array(inverse_power(degrees, left)) @ A @ scipy.sparse.diags_array(inverse_power(degrees, right))
    return scipy.sparse.csr_array(reached - normalized)


def inverse_power(degrees: np.ndarray, power: float) -> np.ndarray:
    """Return degrees ** -power, with 0 for degree 0."""
    return np.power(degrees, -power, where=degrees > 0, out=np.zeros_like(degrees))
