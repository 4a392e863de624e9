"""Clusters of nodes from proximities: Ward's method, kernel k-means or spectral clustering, the parameter chosen by modularity.

Ivashkin and Chebotarev, "Do logarithmic proximity measures outperform plain ones in graph clustering?", NET 2016, arXiv:1605.01046, sections 3 and 4.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.cluster.hierarchy
import scipy.linalg
import scipy.sparse
import scipy.spatial.distance
from scipy.sparse.csgraph import connected_components
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.cluster import KMeans

from ritz.core import choice, flag, integer, random_generator
from ritz.graphs.adjacency import as_adjacency
from ritz.graphs.kernel_distances import distance_to_kernel, proximity_distance
from ritz.graphs.laplacian import laplacian_pseudoinverse
from ritz.graphs.proximity import KINDS, ProximityFamily

GRID = np.arange(1, 21) / 21
STARTS = 10
MOST_ROUNDS = 300


class ProximityClustering(ClusterMixin, BaseEstimator):
    """Cluster the nodes of a connected undirected graph by a proximity matrix.

    Parameters
    ----------
    n_clusters : int
        How many clusters, 1 to n.
    kind : str
        As for `proximity`.
    log : bool
        Whether to take the logarithm of the proximities; must be False for "commute".
    t : "auto" or float in (0, 1)
        The parameter on the unit scale (see `proximity`); "auto" tries 20 of them, x = 1/21, ..., 20/21, and keeps the clusters of largest modularity
        (the first if several have it). "commute" has no parameter: leave "auto".
    method : {"ward", "kernel_kmeans", "spectral"}
        Ward's linkage of the Euclidean distances sqrt(max(d, 0)), d = `proximity_distance`; k-means in the space of the kernel from ten k-means++
        starts; or k-means on the leading `n_clusters` eigenvectors of the centered kernel.
    rng : Generator, int or None
        Source of randomness of the last two methods; Ward's draws nothing.

    Attributes
    ----------
    labels_ : ndarray (n,) of int
        The cluster of each node, 0 to n_clusters - 1.
    t_ : float or None
        The parameter in use, on the unit scale; None for "commute".
    modularity_ : float
        Newman's modularity of the clusters.
    grid_ : ndarray (tried,) and modularities_ : ndarray (tried,)
        The parameters tried and the modularity that each gave.
    n_features_in_ : int
        The number of nodes n.

    Notes
    -----
    Logarithms are no positive semidefinite kernels in general: Ward's method counts negative d as 0, and kernel k-means, which may then not descend,
    keeps the best round it saw. Kernels that are not symmetric ("ppr", "heat_ppr") count by their symmetric part.
    Cost: that of the proximities, O(n^3), and for each parameter O(n^2) (Ward), O(n^2) a round (kernel k-means), O(n^3) (spectral).

    References
    ----------
    .. [1] Ivashkin and Chebotarev, NET 2016, arXiv:1605.01046.

    Examples
    --------
    >>> import networkx as nx
    >>> ProximityClustering(2).fit_predict(nx.barbell_graph(4, 0))
    array([0, 0, 0, 0, 1, 1, 1, 1], dtype=int32)
    """

    def __init__(
        self,
        n_clusters: int,
        *,
        kind: str = "communicability",
        log: bool = True,
        t: float | str = "auto",
        method: str = "ward",
        rng: np.random.Generator | int | None = None,
    ):
        self.n_clusters = n_clusters
        self.kind = kind
        self.log = log
        self.t = t
        self.method = method
        self.rng = rng

    def fit(self, adjacency, y=None) -> ProximityClustering:
        """Cluster the nodes of a graph.

        Parameters
        ----------
        adjacency : graph with n nodes
            Connected, undirected, n >= n_clusters.
        y : ignored

        Raises
        ------
        ValueError, TypeError
            If an option or the graph is not as described; the message names it.
        """
        choice(self.kind, "kind", KINDS)
        flag(self.log, "log")
        choice(self.method, "method", ["ward", "kernel_kmeans", "spectral"])
        graph = as_adjacency(adjacency, directed=False, connected=True).matrix
        integer(self.n_clusters, "n_clusters", at_least=1, at_most=graph.shape[0])
        rng = random_generator(self.rng)
        self.n_features_in_ = graph.shape[0]
        tried = [(x, labels, modularity(graph, labels)) for x, labels in self._candidates(graph, rng)]
        self.grid_ = np.array([x for x, _, _ in tried if x is not None])
        self.modularities_ = np.array([quality for _, _, quality in tried])
        self.t_, self.labels_, self.modularity_ = tried[int(np.argmax(self.modularities_))]
        return self

    def _candidates(self, graph: scipy.sparse.csr_array, rng: np.random.Generator) -> Iterator[tuple[float | None, np.ndarray]]:
        """Yield each parameter to try with the clusters it gives."""
        if self.kind == "commute":
            if self.log:
                raise ValueError("log must be False for kind 'commute', whose proximities are not positive")
            if self.t != "auto":
                raise ValueError(f"t must be 'auto' for kind 'commute', which has no parameter, got {self.t!r}")
            yield None, self._clusters(laplacian_pseudoinverse(graph), rng)
            return
        if isinstance(self.t, str):
            choice(self.t, "t", ["auto"])
        family = ProximityFamily(graph, self.kind)
        for x in GRID.tolist() if isinstance(self.t, str) else [self.t]:
            yield x, self._clusters(family.matrix(family.time(x, "unit"), log=self.log), rng)

    def _clusters(self, K: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if self.method == "ward":
            return ward_clusters(K, self.n_clusters)
        return (kernel_kmeans if self.method == "kernel_kmeans" else spectral_clusters)((K + K.T) / 2, self.n_clusters, rng)


def ward_clusters(K: np.ndarray, n_clusters: int) -> np.ndarray:
    """Return Ward's clusters (n,) of a kernel: the trees that are left when the last n_clusters - 1 mergers are undone."""
    n = len(K)
    mergers = n - n_clusters
    if mergers == 0:
        return np.arange(n, dtype=np.int32)
    condensed = scipy.spatial.distance.squareform(proximity_distance(K, sqrt=True), checks=False)
    tree = scipy.cluster.hierarchy.linkage(condensed, "ward")[:mergers]
    parents, children = np.repeat(np.arange(n, n + mergers), 2), tree[:, :2].astype(int).ravel()
    forest = scipy.sparse.coo_array((np.ones(len(parents)), (parents, children)), shape=(n + mergers, n + mergers))
    return connected_components(forest, directed=False)[1][:n]


def kernel_kmeans(K: np.ndarray, n_clusters: int, rng: np.random.Generator) -> np.ndarray:
    """Return the k-means clusters (n,) of a symmetric kernel: the least inertia of several starts."""
    return min((_lloyd(K, _kernel_seeds(K, n_clusters, rng)) for _ in range(STARTS)), key=lambda found: found[0])[1]


def spectral_clusters(K: np.ndarray, n_clusters: int, rng: np.random.Generator) -> np.ndarray:
    """Return the k-means clusters (n,) of the leading eigenvectors of the centered kernel."""
    n = len(K)
    centered = distance_to_kernel(proximity_distance(K))
    _, vectors = scipy.linalg.eigh((centered + centered.T) / 2, subset_by_index=[n - n_clusters, n - 1])
    return KMeans(n_clusters, n_init=STARTS, random_state=int(rng.integers(2**31))).fit_predict(vectors)


def modularity(A: scipy.sparse.csr_array, labels: np.ndarray) -> float:
    """Return Newman's modularity of clusters: the share of the weight inside them less what degrees alone would give; 0 without edges."""
    total = A.sum()
    if total == 0:
        return 0.0
    indicator = np.eye(labels.max() + 1)[labels]
    between = indicator.T @ (A @ indicator) / total
    return float(np.trace(between) - np.sum(between.sum(axis=0) ** 2))


def _lloyd(K: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """Move nodes to the nearest mean until nothing moves; return the least inertia seen and its clusters."""
    best = np.inf, labels
    own = K.diagonal()
    for _ in range(MOST_ROUNDS):
        squares = own[:, None] + _distances_to_means(K, labels)
        inertia = float(squares[np.arange(len(K)), labels].sum())
        if inertia < best[0]:
            best = inertia, labels
        moved = _without_empty_clusters(squares)
        if np.array_equal(moved, labels):
            break
        labels = moved
    return best


def _distances_to_means(K: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """-2 <x_i, m_c> + <m_c, m_c> for each node and cluster."""
    shares = np.eye(labels.max() + 1)[labels]
    shares /= shares.sum(axis=0)
    products = K @ shares
    return np.einsum("ic,ic->c", shares, products) - 2 * products


def _without_empty_clusters(squares: np.ndarray) -> np.ndarray:
    """The nearest mean of each node; a cluster that nobody is nearest to takes the node farthest from its own mean out of a cluster of several."""
    labels = squares.argmin(axis=1)
    for empty in np.setdiff1d(np.arange(squares.shape[1]), labels):
        spare = np.bincount(labels, minlength=squares.shape[1])[labels] > 1
        labels[np.argmax(np.where(spare, squares.min(axis=1), -np.inf))] = empty
    return labels


def _kernel_seeds(K: np.ndarray, n_clusters: int, rng: np.random.Generator) -> np.ndarray:
    """Clusters around nodes drawn by k-means++: each next one with probability in proportion to its squared distance from those drawn."""
    squares = 2 * np.maximum(proximity_distance(K), 0)
    centers = [int(rng.integers(len(K)))]
    while len(centers) < n_clusters:
        weights = squares[:, centers].min(axis=1)
        weights[centers] = 0
        if not weights.any():  # only copies of the centers are left
            weights[:] = 1
            weights[centers] = 0
        centers.append(int(rng.choice(len(K), p=weights / weights.sum())))
    labels = squares[:, centers].argmin(axis=1)
    labels[centers] = np.arange(n_clusters)
    return labels
