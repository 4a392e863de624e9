"""Distances between shortest path and commute time: their mixture, randomized shortest paths and the free energy.

Ivashkin and Chebotarev, NET 2016, arXiv:1605.01046, section 2; Kivimaki, Shimbo and Saerens, "Developments in the theory of randomized shortest paths
with a comparison of graph node distances", Physica A 393 (2014), arXiv:1212.1666.

Edges cost C_ij = 1 / A_ij; walks are drawn with probability P^ref(walk) exp(-beta cost), P^ref = D^-1 A. Of W = P^ref o exp(-beta C) both distances
take Z = (I - W)^-1 = M D with the symmetric M = (D - A o exp(-beta C))^-1, an M-matrix's inverse.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse
from scipy.sparse.csgraph import shortest_path

from ritz.core import like, positive, real
from ritz.graphs.adjacency import as_adjacency
from ritz.graphs.kernel_distances import proximity_distance
from ritz.graphs.laplacian import laplacian_pseudoinverse
from ritz.graphs.m_matrix_functions import m_matrix_inverse

CONTRAST = 1e-9  # of the weights of walks, relative to the largest: the distances are made of their differences


def shortest_path_commute(adjacency, lam: float):
    """Return lam * (shortest path) + (1 - lam) * (resistance distance).

    The resistance is the commute time over the sum of all weights; with it both terms agree on trees.

    Parameters
    ----------
    adjacency : graph with n nodes
        Connected, undirected; an edge of weight w has length 1 / w.
    lam : float in [0, 1]
        The share of the shortest path.

    Returns
    -------
    ndarray or torch.Tensor (n, n)
        Its kernel (`distance_to_kernel`) is lam times that of the shortest path plus (1 - lam) 2 L^+. Cost O(n^3).

    Examples
    --------
    >>> shortest_path_commute([[0, 1, 1], [1, 0, 1], [1, 1, 0]], 0.5).round(4)[0]
    array([0.    , 0.8333, 0.8333])
    """
    graph = as_adjacency(adjacency, directed=False, connected=True)
    lam = real(lam, "lam", at_least=0, at_most=1)
    lengths = graph.matrix.copy()
    lengths.data = 1 / lengths.data
    shortest = shortest_path(lengths, directed=False)
    return like(lam * shortest + (1 - lam) * proximity_distance(2 * laplacian_pseudoinverse(graph)), adjacency)


def randomized_shortest_path(adjacency, beta: float):
    """Return the randomized shortest path dissimilarity: the mean expected cost of the ways from i to j and from j to i.

    With S = (Z (C o W) Z) / Z elementwise, the expected cost is S_ij - S_jj. It goes from half the commute cost (beta to 0; for weights 1 the number
    of edges times the resistance) to the shortest path (beta to infinity). It need not satisfy the triangle inequality in between.

    Parameters
    ----------
    adjacency : graph with n nodes
        Connected, undirected; an edge of weight w costs 1 / w.
    beta : float
        The inverse temperature, positive; (1 - x) / x for an x in (0, 1) scans it uniformly.

    Returns
    -------
    ndarray or torch.Tensor (n, n)
        Symmetric with zero diagonal. Cost O(n^3).

    Raises
    ------
    ValueError
        If the graph is directed or disconnected, or beta so large that the weights of walks underflow, or so small that they are equal to rounding.

    Examples
    --------
    >>> randomized_shortest_path([[0, 1, 0], [1, 0, 1], [0, 1, 0]], 20.0).round(3)[0]
    array([0., 1., 2.])
    """
    graph = as_adjacency(adjacency, directed=False, connected=True)
    M = _walk_weights(graph.matrix, positive(beta, "beta"))
    costs = graph.matrix.copy()
    costs.data = np.exp(-beta / costs.data)  # A_ij C_ij exp(-beta C_ij)
    return like(proximity_distance(-(M @ (costs @ M)) / M), adjacency)


def free_energy(adjacency, beta: float):
    """Return the free energy distance, (phi_ij + phi_ji) / 2 with phi_ij = -log(z_ij / z_jj) / beta.

    A metric, additive over cutpoints. It has the limits of `randomized_shortest_path`.

    Parameters
    ----------
    adjacency, beta
        As for `randomized_shortest_path`.

    Returns
    -------
    ndarray or torch.Tensor (n, n)
        Symmetric with zero diagonal. Cost O(n^3).

    Raises
    ------
    ValueError
        As for `randomized_shortest_path`.

    Examples
    --------
    >>> free_energy([[0, 1, 0], [1, 0, 1], [0, 1, 0]], 2.0).round(3)[0]
    array([0.   , 1.171, 2.342])
    """
    graph = as_adjacency(adjacency, directed=False, connected=True)
    M = _walk_weights(graph.matrix, positive(beta, "beta"))
    return like(proximity_distance(np.log(M)) / beta, adjacency)


def _walk_weights(A: scipy.sparse.csr_array, beta: float) -> np.ndarray:
    """M = (D - A o exp(-beta C))^-1, refused where it is not positive or too near to the constant matrix that it tends to with beta to 0."""
    damped = A.copy()
    damped.data = A.data * np.exp(-beta / A.data)
    if A.shape[0] == 1:
        return np.ones((1, 1))
    try:
        M = m_matrix_inverse(np.diag(A.sum(axis=1)) - damped.toarray())
    except np.linalg.LinAlgError:
        M = np.ones(A.shape)
    if np.ptp(M) < CONTRAST * M.max():
        raise ValueError(f"beta must be larger: to rounding, all walks weigh the same at {beta:g}")
    if not M.all():
        raise ValueError(f"beta must be smaller: the weight of some walks underflows to 0 at {beta:g}")
    return M
