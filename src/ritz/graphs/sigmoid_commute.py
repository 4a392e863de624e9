"""Sigmoid commute-time kernels, plain and corrected.

Ivashkin and Chebotarev, NET 2016, arXiv:1605.01046, section 2; Yen, Fouss, Decaestecker, Francq and Saerens, "Graph nodes clustering with the sigmoid
commute-time kernel", Data & Knowledge Engineering 68 (2009); von Luxburg, Radl and Hein, "Hitting and commute times in large random neighborhood
graphs", JMLR 15 (2014), arXiv:1003.1266, for the correction.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from ritz.core import flag, like, positive
from ritz.graphs.adjacency import Adjacency, as_adjacency
from ritz.graphs.laplacian import laplacian, laplacian_pseudoinverse


def sigmoid_commute(adjacency, t: float, *, corrected: bool = False):
    """Return the sigmoid commute-time kernel 1 / (1 + exp(-t K / sigma)), sigma the standard deviation of the entries of K.

    Parameters
    ----------
    adjacency : graph with n nodes
        Connected, undirected, n >= 2.
    t : float
        Positive.
    corrected : bool
        False: K = L^+. True: the corrected commute-time kernel K = J D^-1/2 M (I - M)^-1 M D^-1/2 J with
        M = D^-1/2 (A - d d^T / vol) D^-1/2 and J = I - 1 1^T / n, from which the part of the commute time that only tells degrees is taken off.

    Returns
    -------
    ndarray or torch.Tensor (n, n)
        Entries in (0, 1). Cost O(n^3).

    Examples
    --------
    >>> sigmoid_commute([[0, 1, 0], [1, 0, 1], [0, 1, 0]], 1.0).round(3)[0]
    array([0.829, 0.422, 0.22 ])
    """
    graph = as_adjacency(adjacency, directed=False, connected=True)
    t = positive(t, "t")
    flag(corrected, "corrected")
    if graph.n < 2:
        raise ValueError("adjacency must have at least two nodes, got one")
    K = _corrected_commute(graph) if corrected else laplacian_pseudoinverse(graph)
    return like(expit(t * K / _spread(K)), adjacency)


def _corrected_commute(graph: Adjacency) -> np.ndarray:
    degrees = graph.matrix.sum(axis=1)
    root = np.sqrt(degrees / degrees.sum())
    M = np.eye(graph.n) - laplacian(graph, "sym").toarray() - np.outer(root, root)
    M[np.abs(M) < 1e-15] = 0  # all of it where the weights are d_i d_j / vol: degrees explain everything
    # I - M = (I - N) + root root^T: the normalized Laplacian with its kernel filled, so that its smallest eigenvalue is the spectral gap
    inner = M @ np.linalg.solve(np.eye(graph.n) - M, M)
    K = inner / np.sqrt(np.outer(degrees, degrees))
    K = K - K.mean(axis=0) - K.mean(axis=1)[:, None] + K.mean()
    return (K + K.T) / 2


def _spread(K: np.ndarray) -> float:
    """The standard deviation of the entries; 1 for a kernel of zeros, which the sigmoid maps to 1/2."""
    return float(K.std()) or 1.0
