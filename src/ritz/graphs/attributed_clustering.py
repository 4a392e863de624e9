"""Clustering of graphs whose nodes have categorical attributes: a graph augmented by its categories, embedded by smooth vectors, cut by k-means.

D'Ambra, Vassilevski and Cutillo, "Extending bootstrap AMG for clustering of attributed graphs", Applied Mathematics and Computation 447, 2023,
arXiv:2109.10610; the augmentation is that of Cheng, Zhou and Yu, "Clustering large attributed graphs: a balance between structural and attribute
similarities", ACM TKDD 5(2), 2011.

Every category of every attribute becomes a further node, joined to the nodes that have it. The coordinates of a node are then a block: its own and
those of its categories.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse
from scipy.sparse.csgraph import connected_components
from sklearn.base import BaseEstimator, ClusterMixin

from ritz.core import choice, integer, positive, random_generator, real
from ritz.graphs.adjacency import as_adjacency
from ritz.graphs.bootstrap_amg import BootstrapAMG, definite_laplacian
from ritz.graphs.laplacian import laplacian
from ritz.graphs.lloyd_restarts import most_modular_kmeans
from ritz.graphs.partition_quality import attribute_entropy, checked_categories
from ritz.linalg import eigsh

DEPENDENT = 1e-12


class AttributedSpectralClustering(ClusterMixin, BaseEstimator):
    """Clusters of a graph's nodes from its edges and, where there are any, categorical attributes of the nodes.

    Parameters
    ----------
    n_clusters : int
        Number of clusters, 2 to n. Fewer labels may occur if k-means leaves a cluster empty.
    tol : float in (0, 1)
        Convergence factor to which `BootstrapAMG` is taken; the smaller, the more smooth vectors.
    n_restarts : int
        Runs of k-means from random nodes; the one of largest modularity on the graph without attributes counts.
    max_iter : int
        Lloyd iterations of each run.
    distance : {"block", "plain"}
        The Frobenius norm of differences of blocks, or the distance of the nodes' own coordinates in the augmented graph only.
    aggregation_sweeps : int
        Rounds of pairwise matching per level of the multigrid, 1 as in `BootstrapAMG`; the published runs have 2.
    embedding : {"amg", "eigen"}
        Smooth vectors of bootstrap multigrid, or the n_clusters lowest eigenvectors of the augmented graph's Laplacian.
    rng : Generator, int or None
        Source of the multigrid's test vectors and the starts of k-means.

    Attributes
    ----------
    labels_ : ndarray of int (n,)
        The cluster of each node.
    modularity_ : float
        Of the labels, on the graph without attributes.
    entropy_ : float
        `attribute_entropy` of the labels, in bits; 0 without attributes.
    embedding_ : ndarray (n, 1 + attributes, dim)
        What k-means clusters: the node's coordinates, then those of its category in each attribute (these only with the block distance).
        Attributes with one category are left out.
    n_features_in_ : int
        The number of nodes n.

    Notes
    -----
    Cost: that of `BootstrapAMG`, and n_restarts * max_iter * n * n_clusters * (1 + attributes) * dim for k-means.

    With one attribute the block distance tends to return that attribute's categories: two nodes of one category share half of their coordinates.
    The order of the nodes matters a little, since sweeps and ties of the matching follow it: nodes sorted by the very clusters that are sought
    make these look easier to find.

    The coordinates are the left singular vectors of the smooth vectors, unscaled: an orthonormal basis of their span, and distances depend on the
    span alone. Vectors that depend on the others to 1e-12 are left out. Attribute nodes are numbered in the order in which their categories first
    occur, so names of categories do not matter.

    References
    ----------
    .. [1] D'Ambra, Vassilevski and Cutillo, Applied Mathematics and Computation 447, 2023, arXiv:2109.10610.

    Examples
    --------
    >>> import networkx as nx
    >>> graph = nx.planted_partition_graph(2, 30, 0.4, 0.02, seed=0)
    >>> labels = AttributedSpectralClustering(2, rng=0).fit_predict(graph)
    >>> len(set(labels[:30])), len(set(labels[30:])), bool(labels[0] != labels[30])
    (1, 1, True)
    """

    def __init__(
        self,
        n_clusters: int,
        *,
        tol: float = 1e-6,
        n_restarts: int = 100,
        max_iter: int = 10,
        aggregation_sweeps: int = 1,
        distance: str = "block",
        embedding: str = "amg",
        rng: np.random.Generator | int | None = None,
    ):
        self.n_clusters = n_clusters
        self.tol = tol
        self.n_restarts = n_restarts
        self.max_iter = max_iter
        self.aggregation_sweeps = aggregation_sweeps
        self.distance = distance
        self.embedding = embedding
        self.rng = rng

    def fit(self, adjacency, attributes=None) -> AttributedSpectralClustering:
        """Cluster the nodes.

        Parameters
        ----------
        adjacency : graph with n nodes
            Undirected, weighted or not; connected, if only by its attributes.
        attributes : array-like of int (n,) or (n, attributes), optional
            The category of each node in each attribute.

        Raises
        ------
        ValueError, TypeError
            If the graph is directed or not connected (the message says into how many components it falls), the attributes are not n rows of
            integers, or an option does not fit.
        """
        graph = as_adjacency(adjacency, directed=False).matrix
        self._check_options(graph.shape[0])
        rng = random_generator(self.rng)
        categories = np.zeros((graph.shape[0], 0), dtype=np.int64) if attributes is None else _checked_attributes(attributes, graph.shape[0])
        augmented, columns = _augmented(graph, categories, 1.0)
        _check_connected(augmented, with_attributes=columns.shape[1] > 0)
        coordinates = self._coordinates(augmented, rng)
        rows = np.concatenate([np.arange(graph.shape[0])[:, None], columns], axis=1)
        self.n_features_in_ = graph.shape[0]
        self.embedding_ = coordinates[rows if self.distance == "block" else rows[:, :1]]
        points = np.ascontiguousarray(self.embedding_.reshape(graph.shape[0], -1))
        self.labels_, self.modularity_ = most_modular_kmeans(
            points, graph, self.n_clusters, restarts=self.n_restarts, iterations=self.max_iter, rng=rng
        )
        self.entropy_ = attribute_entropy(self.labels_, categories) if categories.shape[1] else 0.0
        return self

    def fit_predict(self, adjacency, attributes=None) -> np.ndarray:
        """Cluster the nodes and return `labels_`."""
        return self.fit(adjacency, attributes).labels_

    def _coordinates(self, augmented: scipy.sparse.csr_array, rng: np.random.Generator) -> np.ndarray:
        """Orthonormal columns (N, dim), a row for each node of the augmented graph."""
        if self.embedding == "eigen":
            return eigsh(laplacian(augmented, "comb"), self.n_clusters, which="smallest", rng=rng).eigenvectors
        solver = BootstrapAMG(self.tol, aggregation_sweeps=self.aggregation_sweeps, rng=rng)
        smooth = solver.fit(definite_laplacian(augmented)).smooth_vectors_
        U, singular_values, _ = np.linalg.svd(smooth / np.linalg.norm(smooth, axis=0), full_matrices=False)
        return U[:, singular_values > DEPENDENT * singular_values[0]]

    def _check_options(self, n: int) -> None:
        if integer(self.n_clusters, "n_clusters", at_least=2) > n:
            raise ValueError(f"n_clusters must be at most the number of nodes of adjacency, {n}, got {self.n_clusters}")
        real(self.tol, "tol", above=0, below=1)
        integer(self.n_restarts, "n_restarts", at_least=1)
        integer(self.max_iter, "max_iter", at_least=1)
        integer(self.aggregation_sweeps, "aggregation_sweeps", at_least=1)
        choice(self.distance, "distance", ["block", "plain"])
        choice(self.embedding, "embedding", ["amg", "eigen"])


def augment_with_attributes(adjacency, attributes, weight: float = 1.0) -> tuple[scipy.sparse.csr_array, np.ndarray]:
    """Return a graph with a further node for each category, joined to the nodes that have it, and the number of each node's category nodes.

    Parameters
    ----------
    adjacency : graph with n nodes
        Undirected.
    attributes : array-like of int (n,) or (n, attributes)
        The category of each node in each attribute. An attribute with a single category is left out.
    weight : float
        The weight of the edges to categories, above 0.

    Returns
    -------
    graph : csr_array (N, N)
        The first n nodes are those of `adjacency`; then, attribute by attribute, come the categories in the order in which they first occur.
    columns : ndarray of int (n, kept attributes)
        The number, n or more, of the node that stands for node i's category.

    Raises
    ------
    ValueError, TypeError
        If the graph is directed, the attributes are not n rows of integers, or the weight is not above 0.

    Examples
    --------
    >>> graph, columns = augment_with_attributes([[0, 1], [1, 0]], [[5, 0], [3, 0]])
    >>> graph.shape, columns.tolist()
    ((4, 4), [[2], [3]])
    """
    graph = as_adjacency(adjacency, directed=False).matrix
    return _augmented(graph, _checked_attributes(attributes, graph.shape[0]), positive(weight, "weight"))


def _checked_attributes(attributes, n: int) -> np.ndarray:
    return checked_categories(attributes, "attributes", dimensions=(1, 2), length=n, of="adjacency").reshape(n, -1)


def _augmented(graph: scipy.sparse.csr_array, categories: np.ndarray, weight: float) -> tuple[scipy.sparse.csr_array, np.ndarray]:
    n = graph.shape[0]
    numbered = [_by_first_occurrence(column) for column in categories.T]
    kept = [numbers for numbers in numbered if numbers.max() > 0]
    firsts = n + np.cumsum([0, *(numbers.max() + 1 for numbers in kept)])
    columns = np.stack([numbers + first for numbers, first in zip(kept, firsts)], axis=1) if kept else np.zeros((n, 0), dtype=np.int64)
    new = int(firsts[-1]) - n
    nodes = np.repeat(np.arange(n), columns.shape[1])
    incidence = scipy.sparse.csr_array((np.full(len(nodes), weight), (nodes, columns.ravel() - n)), shape=(n, new))
    return scipy.sparse.block_array([[graph, incidence], [incidence.T, scipy.sparse.csr_array((new, new))]], format="csr"), columns


def _by_first_occurrence(column: np.ndarray) -> np.ndarray:
    """Categories numbered 0, 1, ... in the order in which they first occur."""
    _, firsts, numbers = np.unique(column, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(firsts))[numbers]


def _check_connected(augmented: scipy.sparse.csr_array, *, with_attributes: bool) -> None:
    components = connected_components(augmented, directed=False, return_labels=False)
    if components > 1:
        joined = ", joined by its attributes," if with_attributes else ""
        raise ValueError(f"adjacency must be a connected graph{joined} got {components} components")
