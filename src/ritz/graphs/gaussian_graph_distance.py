"""The Wasserstein distance of the smooth signals of two graphs whose nodes are aligned.

Petric Maretic, El Gheche, Chierchia and Frossard, "GOT: An Optimal Transport framework for Graph comparison", NeurIPS 2019, arXiv:1906.02085, section
3. Smooth signals on a graph with Laplacian L are modelled as N(0, L^+); the distance is that of the two Gaussian distributions.
"""

from __future__ import annotations

import math

import numpy as np
import scipy.linalg
from scipy.sparse.csgraph import connected_components

from ritz.core import flag, real
from ritz.graphs.adjacency import Adjacency, as_adjacency
from ritz.graphs.laplacian import laplacian

CANCELLED = 1e-6  # a distance this small against its terms is computed again as the norm of a difference


def gaussian_graph_distance(A1, A2, *, squared: bool = True, regularization: float = 0.0) -> float:
    """Return tr L1^+ + tr L2^+ - 2 || (L1^+)^1/2 (L2^+)^1/2 ||_*, the Wasserstein distance of the signals of two graphs.

    Parameters
    ----------
    A1, A2 : graphs with n nodes
        Undirected; node i of one is node i of the other (see `align_to_reference`). Any number of components: each constant signal has variance 0.
    squared : bool
        False returns the square root, which is a metric.
    regularization : float
        An alpha > 0 takes (L + alpha I)^-1 in place of L^+: signals may then differ between components, too, by a variance of 1 / alpha.

    Returns
    -------
    float
        0 for equal graphs; c times the weights of both give 1 / c of it.

    Notes ----- Adding 1 1^T / n to both Laplacians of connected graphs before inversion changes nothing; the zero eigenvalues, as many as components,
    are left out here instead. Cost: two Cholesky factors and one singular value decomposition, O(n^3): the nuclear norm is that of
    X1^T X2 for any factors X X^T = L^+.

    References
    ----------
    .. [1] Petric Maretic et al., NeurIPS 2019, arXiv:1906.02085.

    Examples
    --------
    >>> import networkx as nx
    >>> round(gaussian_graph_distance(nx.path_graph(6), nx.cycle_graph(6)), 6)
    1.11256
    """
    first, second = (as_adjacency(A, directed=False, name=name) for A, name in ((A1, "A1"), (A2, "A2")))
    if first.n != second.n:
        raise ValueError(f"A2 must have the {first.n} nodes of A1, got {second.n}")
    flag(squared, "squared")
    alpha = real(regularization, "regularization", at_least=0)
    distance = squared_distance(signal_factor(first, alpha), signal_factor(second, alpha))
    return distance if squared else math.sqrt(distance)


def signal_factor(graph: Adjacency, regularization: float = 0.0) -> np.ndarray:
    """Return a factor X (n, n) of the covariance X X^T of an undirected graph's signals, L^+ or (L + alpha I)^-1, by Cholesky's method.

    L^+ is (L + K)^-1 without its constant part, K the projector onto the vectors that are constant on each component; so X is the factor of that
    inverse less its means over components.
    """
    L = laplacian(graph, "comb").toarray()
    if regularization:
        return _inverse_factor(L + regularization * np.eye(graph.n))
    count, component = connected_components(graph.matrix, directed=False)
    members = np.eye(count)[component]
    means = members / members.sum(axis=0)
    scale = max(1.0, L.diagonal().max())  # brings the constant vectors' eigenvalue among the others
    X = _inverse_factor(L + scale * means @ members.T)
    return X - members @ (means.T @ X)


def _inverse_factor(M: np.ndarray) -> np.ndarray:
    """C^-T of the Cholesky factor C of a positive definite matrix."""
    lower = scipy.linalg.cholesky(M, lower=True)
    return scipy.linalg.lapack.dtrtri(lower, lower=1)[0].T


def squared_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return the squared Wasserstein distance of centered Gaussian distributions from factors (n, n) of their covariances, whichever they are."""
    total = np.vdot(first, first) + np.vdot(second, second)
    distance = total - 2 * np.linalg.svd(first.T @ second, compute_uv=False).sum()
    if distance > CANCELLED * total:
        return float(distance)
    U, _, Vt = np.linalg.svd(first.T @ second)  # the rotation that brings the second factor nearest to the first
    return float(np.sum((first - second @ (Vt.T @ U.T)) ** 2))
