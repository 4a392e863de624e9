"""Few eigenpairs of large sparse matrices: ours against SciPy's ARPACK, plain and shift-invert, at equal tolerance.

Not compared: LOBPCG with pyamg and scikit-learn's `spectral_embedding`, the other peers of the stated target for the smallest pairs.
"""

import time

import numba
import numpy as np
import scipy.sparse
import scipy.sparse.csgraph
import scipy.sparse.linalg
from scipy.spatial import cKDTree

from ritz.linalg import eigsh
from ritz.linalg.chebyshev_filter import csr_filter_step
from ritz.studies import benchmark, compare

TOLERANCE = 1e-6


def _random_graph(n: int, edges: int) -> scipy.sparse.csr_array:
    ends = np.random.default_rng(0).integers(n, size=(2, edges))
    return _adjacency(n, ends)


def _geometric_graph(n: int) -> scipy.sparse.csr_array:
    points = np.random.default_rng(0).random((n, 2))
    return _adjacency(n, cKDTree(points).query_pairs(np.sqrt(12 / (np.pi * n)), output_type="ndarray").T)


def _grid(side: int) -> scipy.sparse.csr_array:
    path = scipy.sparse.diags_array([np.ones(side - 1), np.ones(side - 1)], offsets=[-1, 1])
    return scipy.sparse.csr_array(scipy.sparse.kronsum(path, path, format="csr"))


def _adjacency(n: int, ends: np.ndarray) -> scipy.sparse.csr_array:
    W = scipy.sparse.coo_array((np.ones(ends.shape[1]), tuple(ends)), shape=(n, n)).tocsr()
    W = scipy.sparse.csr_array(W + W.T)
    W.setdiag(0)
    W.eliminate_zeros()
    W.data[:] = 1
    return W


def _normalized(W: scipy.sparse.csr_array) -> scipy.sparse.csr_array:
    scale = scipy.sparse.diags_array(1 / np.sqrt(np.maximum(W.sum(axis=1), 1)))
    return scipy.sparse.csr_array(scale @ W @ scale)


def _laplacian(W: scipy.sparse.csr_array) -> scipy.sparse.csr_array:
    return scipy.sparse.csr_array(scipy.sparse.csgraph.laplacian(W, normed=True))


def _compared(name, A, ours, peer, peer_name, target):
    results = {}

    def timed(who, solve):
        return lambda: results.__setitem__(who, solve())

    found = compare(name, timed("ours", ours), timed("peer", peer), peer_name=peer_name, target=target, pairs=1, warmup=0, shortest=0)
    mine, (values, vectors) = results["ours"], results["peer"]
    found.extra.update(
        {
            "our residual": float(np.max(mine.residual_norms)),
            "peer's residual": float(np.max(np.linalg.norm(A @ vectors - vectors * values, axis=0))),
            "difference of values": float(np.max(np.abs(np.sort(mine.eigenvalues) - np.sort(values)))),
            "matvecs": mine.matvecs,
        }
    )
    return found


@benchmark
def largest_of_a_random_graph():
    """The 20 largest of the normalized adjacency, n = 10^5, 2 10^6 non-zeros."""
    A = _normalized(_random_graph(100_000, 1_000_000))
    start = np.random.default_rng(0).standard_normal(A.shape[0])
    yield _compared(
        "20 largest, random graph 10^5",
        A,
        lambda: eigsh(A, 20, tol=TOLERANCE, rng=0),
        lambda: scipy.sparse.linalg.eigsh(A, 20, which="LA", tol=TOLERANCE, v0=start),
        "scipy eigsh",
        2.0,
    )


@benchmark
def smallest_of_laplacians():
    """The 20 smallest of the normalized Laplacian of a grid and of a random geometric graph."""
    for name, W in (("grid 500 x 500", _grid(500)), ("geometric graph 10^5", _geometric_graph(100_000))):
        A = _laplacian(W)
        yield _compared(
            f"20 smallest, {name}",
            A,
            lambda A=A: eigsh(A, 20, which="smallest", tol=TOLERANCE, rng=0),
            lambda A=A: scipy.sparse.linalg.eigsh(A.tocsc(), 20, sigma=-1e-5, which="LM", tol=TOLERANCE),
            "scipy eigsh, shift-invert",
            3.0,
        )


@numba.njit(parallel=True)
def _triad(a, b, c):
    for i in numba.prange(len(a)):
        a[i] = b[i] + 3.0 * c[i]


@benchmark
def bandwidth_of_a_filter_step():
    """One fused step of the filter on a grid's Laplacian, block of 30, against a triad ``a = b + s c`` of the same number of bytes."""
    A = _laplacian(_grid(500))
    X = np.random.default_rng(0).standard_normal((A.shape[0], 30))
    Y = np.zeros_like(X)
    size = A.nnz * 12 + 3 * X.nbytes
    b, c, a = (np.ones(size // 24) for _ in range(3))

    def step():
        csr_filter_step(A.data, A.indices, A.indptr, X, Y, 0.5, 0.25, -0.5)

    step()
    _triad(a, b, c)
    start = time.perf_counter()
    step()
    seconds = time.perf_counter() - start
    yield compare("filter step, grid 500 x 500", step, lambda: _triad(a, b, c), peer_name="triad", target=0.5, extra={"GB/s": size / seconds / 1e9})
