"""Bootstrap multigrid on large graphs against a limit, against exact eigenvectors, and its cycle against products with the same matrices."""

import numpy as np
import pyamg
import scipy.sparse
from scipy.sparse.linalg import eigsh, lobpcg

from ritz.graphs import BootstrapAMG, definite_laplacian
from ritz.graphs.matching_hierarchy import build_hierarchy, v_cycle
from ritz.studies import benchmark, compare, within
from ritz.studies.data.graphs import grid_graph, sparse_partition


def _laplacian(n: int):
    """Of a block model of 20 blocks, 10 n edges, 80 % of them inside."""
    return definite_laplacian(sparse_partition(n, 20, 20, 0.8, rng=0).adjacency)


def _smooth_vectors(A):
    return BootstrapAMG(rng=0).fit(A)


@benchmark(threads=2)
def a_million_edges():
    """10^5 nodes, 10^6 edges, to the default factor of 1e-6: at most 20 seconds on two cores."""
    _smooth_vectors(_laplacian(200))  # compile before timing
    A, solvers = _laplacian(100_000), []
    comparison = within("10^5 nodes, 10^6 edges: hierarchies and smooth vectors", lambda: solvers.append(_smooth_vectors(A)), limit=20.0)
    comparison.extra.update({"hierarchies": len(solvers[0].hierarchies_), "operator complexity": solvers[0].hierarchies_[0].operator_complexity})
    return comparison


@benchmark(threads=2)
def against_eigenvectors():
    """As many eigenvectors by shift-invert, and by LOBPCG with a multigrid preconditioner, on a graph small enough for the factors to fit."""
    A = _laplacian(5_000)
    count = _smooth_vectors(A).smooth_vectors_.shape[1]
    yield compare(
        f"5,000 nodes, 50,000 edges: {count} smooth vectors",
        lambda: _smooth_vectors(A),
        lambda: eigsh(scipy.sparse.csc_array(A), k=count, sigma=0.0, which="LM"),
        peer_name=f"SciPy eigsh, {count} eigenvectors, shift-invert",
        target=2.0,
        pairs=3,
    )
    start = np.random.default_rng(0).standard_normal((A.shape[0], count))
    preconditioner = pyamg.smoothed_aggregation_solver(scipy.sparse.csr_matrix(A)).aspreconditioner()
    yield compare(
        f"5,000 nodes, 50,000 edges: {count} smooth vectors",
        lambda: _smooth_vectors(A),
        lambda: lobpcg(A, start, M=preconditioner, largest=False, tol=1e-6, maxiter=200),
        peer_name="SciPy lobpcg with PyAMG",
        pairs=3,
    )


@benchmark(threads=1)
def cycle_against_products():
    """One V-cycle against four products with the matrix of each level; a third of their speed is the target."""
    for name, A in (("block model of 10^5 nodes, 10^6 edges", _laplacian(100_000)), ("grid of 10^6 nodes", definite_laplacian(grid_graph(1000)))):
        hierarchy = build_hierarchy(A, np.ones(A.shape[0]), aggregation_sweeps=1, max_coarse=10, max_levels=39)
        x, b = np.random.default_rng(0).random(hierarchy.starts[-1]), np.zeros(hierarchy.starts[-1])
        levels = [(hierarchy.matrix(level), np.ones(n)) for level, n in enumerate(hierarchy.sizes)]

        def products(levels=levels):
            for matrix, vector in levels:
                for _ in range(4):
                    matrix @ vector

        yield compare(
            f"one V-cycle, {name}",
            lambda hierarchy=hierarchy, x=x, b=b: v_cycle(hierarchy, x, b),
            products,
            peer_name="4 SciPy products on each level",
            target=1 / 3,
            extra={"operator complexity": hierarchy.operator_complexity},
        )
