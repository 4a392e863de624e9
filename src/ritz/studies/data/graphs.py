"""Graphs for studies: one that is always there, generators, and real ones where the files have been put."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.io
import scipy.sparse
from numba import njit

from ritz.core import random_generator
from ritz.graphs import laplacian, read_graph
from ritz.studies.data import real_file


class LabelledGraph(NamedTuple):
    """An undirected graph (n, n) and its labels: classes (n,) or zeros and ones (n, labels)."""

    adjacency: scipy.sparse.csr_array
    labels: np.ndarray


def digits_graph(neighbors: int = 10) -> LabelledGraph:
    """The nearest-neighbor graph of scikit-learn's 1,797 handwritten digits, labelled by digit."""
    from sklearn.datasets import load_digits
    from sklearn.neighbors import kneighbors_graph

    images, labels = load_digits(return_X_y=True)
    directed = scipy.sparse.csr_array(kneighbors_graph(images, neighbors))
    return LabelledGraph(scipy.sparse.csr_array(directed.maximum(directed.T)), labels)


def blog_catalog() -> LabelledGraph:
    """BlogCatalog: 10,312 bloggers, 333,983 friendships, 39 groups (multi-label)."""
    held = scipy.io.loadmat(real_file("blogcatalog/blogcatalog.mat"))
    return LabelledGraph(scipy.sparse.csr_array(held["network"]).astype(np.float64), held["group"].toarray().astype(np.int64))


def cora() -> LabelledGraph:
    """Cora: 2,708 papers, 5,278 citations, 7 topics."""
    with np.load(real_file("planetoid/cora.npz"), allow_pickle=False) as held:
        rows, columns = held["edge_index"]
        n = len(held["y"])
        return LabelledGraph(scipy.sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=(n, n)), held["y"])


def wiki_vote() -> scipy.sparse.csr_array:
    """Wikipedia's votes on administrators: 7,115 users, 103,689 directed edges; 1,005 users voted for nobody."""
    return read_graph(real_file("snap/wiki-Vote.txt"), directed=True).matrix


def community_graph(name: str) -> LabelledGraph:
    """One of "football" (115 nodes), "dolphins" (62) and "news_2cl1" (newsgroup posts), labelled by community."""
    import networkx

    graph = networkx.read_gml(real_file(f"community/{name}.gml"), label="id")
    labels = np.unique([graph.nodes[node]["gt"] for node in graph], return_inverse=True)[1]
    return LabelledGraph(scipy.sparse.csr_array(networkx.to_scipy_sparse_array(graph, dtype=np.float64)), labels)


def attributed_graph(name: str) -> tuple[scipy.sparse.csr_array, np.ndarray]:
    """The weights (n, n) and categories (n, attributes) of "lawyers-advice", "lawyers-friends" (36 nodes, 7 attributes) or "yeast" (2,375, 1)."""
    graph, attributes = {
        "lawyers-advice": ("sample_LLawyers_adv36", "metadata_sample_LLawyers_36"),
        "lawyers-friends": ("sample_LLawyers_friend36", "metadata_sample_LLawyers_36"),
        "yeast": ("sample_yeast", "metadata_sample_yeast"),
    }[name]
    adjacency = read_graph(real_file(f"attributed/{graph}.mtx")).matrix
    return adjacency, np.loadtxt(real_file(f"attributed/{attributes}.txt"), dtype=np.int64, ndmin=2)


def stochastic_block_model(sizes: Sequence[int], probabilities: np.ndarray, *, rng=None) -> LabelledGraph:
    """Draw an undirected graph whose nodes i, j of blocks a, b are joined with probability `probabilities[a, b]`, labelled by block."""
    rng = random_generator(rng)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    n = len(labels)
    upper = np.triu(rng.random((n, n)) < np.asarray(probabilities)[labels[:, None], labels[None, :]], k=1)
    return LabelledGraph(scipy.sparse.csr_array((upper | upper.T).astype(np.float64)), labels)


def planted_partition(sizes: Sequence[int], inside: float, between: float, *, rng=None) -> LabelledGraph:
    """Draw a stochastic block model with one probability inside blocks and one between them."""
    blocks = len(sizes)
    return stochastic_block_model(sizes, np.where(np.eye(blocks, dtype=bool), inside, between), rng=rng)


def sparse_partition(n: int, blocks: int, degree: float, inside: float, *, rng=None) -> LabelledGraph:
    """Draw a large graph of about n * degree / 2 edges, of which a share `inside` stays in a block (of n / blocks nodes, in no order); connected
    by a cycle through all nodes in random order."""
    rng = random_generator(rng)
    labels = rng.integers(blocks, size=n)
    members, starts = np.argsort(labels, kind="stable"), np.searchsorted(np.sort(labels), np.arange(blocks + 1))
    edges = int(n * degree / 2)
    sources = rng.integers(n, size=edges)
    own = labels[sources]
    within = members[starts[own] + (rng.random(edges) * (starts[own + 1] - starts[own])).astype(np.int64)]
    targets = np.where(rng.random(edges) < inside, within, rng.integers(n, size=edges))
    tour = rng.permutation(n)
    rows, columns = np.concatenate([sources, tour]), np.concatenate([targets, np.roll(tour, 1)])
    proper = rows != columns
    graph = scipy.sparse.csr_array((np.ones(proper.sum()), (rows[proper], columns[proper])), shape=(n, n))
    graph.data[:] = 1
    return LabelledGraph(scipy.sparse.csr_array(graph.maximum(graph.T)), labels)


def grid_graph(side: int) -> scipy.sparse.csr_array:
    """The square grid of side * side nodes."""
    path = scipy.sparse.diags_array([np.ones(side - 1)] * 2, offsets=[-1, 1])
    identity = scipy.sparse.eye_array(side)
    return scipy.sparse.csr_array(scipy.sparse.kron(path, identity) + scipy.sparse.kron(identity, path))


def heat_labels(adjacency: scipy.sparse.csr_array, classes: int, *, time: float = 1.0, rng=None) -> np.ndarray:
    """Draw smooth labels (n,): the largest of `classes` noises diffused by exp(-time L), each standardized over the graph so that classes balance."""
    noise = random_generator(rng).standard_normal((adjacency.shape[0], classes))
    values, vectors = np.linalg.eigh(laplacian(adjacency, "comb").toarray())
    heat = vectors @ (np.exp(-time * values)[:, None] * (vectors.T @ noise))
    return np.argmax((heat - heat.mean(axis=0)) / heat.std(axis=0), axis=1)


def scale_free_digraph(n: int, *, rng=None) -> scipy.sparse.csr_array:
    """Draw a directed scale-free graph (Bollobas et al. 2003), loops and repeats dropped: a few hubs, most nodes without outgoing edges."""
    import networkx

    drawn = networkx.scale_free_graph(n, seed=int(random_generator(rng).integers(2**31)))
    rows, columns = np.array([(u, v) for u, v in drawn.edges() if u != v]).T
    graph = scipy.sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=(n, n))
    graph.data[:] = 1
    return graph


def rmat(scale: int, edges: int, *, probabilities: tuple[float, float, float] = (0.57, 0.19, 0.19), rng=None) -> scipy.sparse.csr_array:
    """Draw an undirected R-MAT graph on 2^scale nodes from `edges` draws (loops and repeats dropped), float32 ones (Chakrabarti et al. 2004)."""
    seed = int(random_generator(rng).integers(2**31))
    rows, columns = _rmat_edges(scale, edges, *probabilities, seed)
    n = 2**scale
    keep = rows != columns
    graph = scipy.sparse.csr_array((np.ones(keep.sum(), dtype=np.float32), (rows[keep], columns[keep])), shape=(n, n))
    graph.data[:] = 1
    return scipy.sparse.csr_array(graph.maximum(graph.T))


@njit(cache=True, nogil=True)
def _rmat_edges(scale, edges, a, b, c, seed):
    np.random.seed(seed)  # noqa: NPY002 (numba's own stream, seeded here)
    rows, columns = np.zeros(edges, dtype=np.int32), np.zeros(edges, dtype=np.int32)
    for edge in range(edges):
        for _ in range(scale):
            draw = np.random.random()  # noqa: NPY002
            rows[edge] = 2 * rows[edge] + (draw >= a + b)
            columns[edge] = 2 * columns[edge] + ((a <= draw < a + b) or draw >= a + b + c)
    return rows, columns
