"""FastRP against the reference pipeline, its sparse product against memory bandwidth, and a graph of ten million edges."""

import numpy as np
from sklearn.random_projection import SparseRandomProjection

from ritz.graphs import fastrp, transition
from ritz.graphs.sparse_products import multiply_rows
from ritz.studies import benchmark, compare, within
from ritz.studies.data import MissingData
from ritz.studies.data.graphs import blog_catalog, digits_graph, rmat
from ritz.studies.timing import triad

WEIGHTS = (1.0, 1.0, 1.0, 1.0)


def _graph():
    try:
        return "BlogCatalog", blog_catalog().adjacency
    except MissingData:
        return "digits graph", digits_graph().adjacency


@benchmark(threads=2)
def against_the_reference_pipeline():
    """The same four powers by scikit-learn's projection and SciPy's products: in dense float32, which is faster than the published sparse form."""
    name, graph = _graph()

    def reference():
        walk = (graph / graph.sum(axis=1)[:, None]).tocsr().astype(np.float32)
        projection = SparseRandomProjection(512, dense_output=True, random_state=0).fit(walk)
        projection.components_ = projection.components_.multiply((graph.sum(axis=0) / graph.sum())[None, :] ** -0.5).tocsr().astype(np.float32)
        power = projection.transform(walk)
        total = power / np.linalg.norm(power, axis=1, keepdims=True)
        for _ in range(3):
            power = walk @ power
            total += power / np.linalg.norm(power, axis=1, keepdims=True)
        return total

    return compare(
        f"{name}, dimension 512, four powers",
        lambda: fastrp(graph, 512, weights=WEIGHTS, rng=0),
        reference,
        peer_name="scikit-learn SparseRandomProjection + SciPy",
        target=3.0,
    )


@benchmark(threads=2)
def product_against_memory_bandwidth():
    """One sparse product against a triad that moves as many bytes, nnz * (4 + 4 dim): on the real graph, and on one too large for the caches."""
    name, graph = _graph()
    yield _bandwidth(name, graph, 512, target=0.6)
    yield _bandwidth("R-MAT graph of a million nodes", rmat(20, 4_000_000, rng=0), 128, target=None)


@benchmark(threads=2)
def ten_million_edges():
    """A graph of 10^7 edges, dimension 128, four powers: at most 30 seconds on two cores."""
    graph = rmat(20, 11_000_000, rng=0)
    return within(f"{graph.nnz / 2e6:.1f} million edges, dimension 128, four powers", lambda: fastrp(graph, 128, weights=WEIGHTS, rng=0), limit=30.0)


def _bandwidth(name: str, graph, dim: int, *, target: float | None):
    walk, rows = transition(graph), np.arange(graph.shape[0])
    values = walk.data.astype(np.float32)
    block = np.random.default_rng(0).standard_normal((graph.shape[0], dim), dtype=np.float32)
    product = np.empty_like(block)
    moved = graph.nnz * (4 + 4 * dim)
    return compare(
        f"{name}: sparse product of {graph.nnz / 1e6:.1f} million entries, dimension {dim}",
        lambda: multiply_rows(walk.indptr, walk.indices, values, block, rows, product),
        triad(moved),
        peer_name="triad a = b + s c of as many bytes",
        target=target,
        extra={"GB moved": moved / 1e9},
    )
