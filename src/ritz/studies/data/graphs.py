"""Graphs for studies: one that is always there, generators, and real ones where the files have been put."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.io
import scipy.sparse
from numba import njit

from ritz.core import random_generator
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
