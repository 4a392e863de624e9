"""Laplacians and the random-walk matrix of a weighted graph. Isolated nodes give zero rows, never an infinity."""

from __future__ import annotations

import numpy as np
import scipy.linalg
import scipy.sparse
from scipy.sparse.csgraph import connected_components

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


def laplacian_pseudoinverse(adjacency) -> np.ndarray:
    """Return the pseudo-inverse (n, n) of the combinatorial Laplacian of an undirected graph, dense, by one Cholesky factor.

    For a connected graph it is (L + J/n)^-1 - J/n, J all ones; several components get a J of their own each. Cost n^3, memory n^2.

    Parameters
    ----------
    adjacency : graph with n nodes
        Symmetric.

    Examples
    --------
    >>> laplacian_pseudoinverse([[0, 1], [1, 0]]).round(6)
    array([[ 0.25, -0.25],
           [-0.25,  0.25]])
    """
    L = laplacian(adjacency, "comb").toarray()
    _, component = connected_components(L != 0, directed=False)
    same = component[:, None] == component[None, :]
    kernel = same / same.sum(axis=1)  # the projector onto the vectors that are constant on each component
    scale = max(1.0, np.abs(L).max())  # brings the kernel's eigenvalue among the others
    inverse = scipy.linalg.cho_solve(scipy.linalg.cho_factor(L + scale * kernel), np.eye(len(L)))
    return (inverse + inverse.T) / 2 - kernel / scale


def inverse_power(degrees: np.ndarray, power: float) -> np.ndarray:
    """Return degrees ** -power, with 0 for degree 0."""
    return np.power(degrees, -power, where=degrees > 0, out=np.zeros_like(degrees))
