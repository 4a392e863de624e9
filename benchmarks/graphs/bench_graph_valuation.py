"""The Wasserstein distance of smooth signals against its formula with matrix square roots, and quadratic assignment against SciPy's."""

import networkx as nx
import numpy as np
import scipy.linalg
import scipy.optimize

from ritz.graphs import gaussian_graph_distance, laplacian
from ritz.graphs.quadratic_assignment import match_graphs
from ritz.studies import benchmark, compare, within


def _pair(n: int, degree: float):
    return [nx.to_numpy_array(nx.gnp_random_graph(n, degree / n, seed=seed)) for seed in (0, 1)]


def _square_root_formula(A, B) -> float:
    first, second = (scipy.linalg.pinvh(laplacian(graph, "comb").toarray()) for graph in (A, B))
    root = scipy.linalg.sqrtm(first)
    return (np.trace(first) + np.trace(second) - 2 * np.trace(scipy.linalg.sqrtm(root @ second @ root))).real


@benchmark(threads=1)
def distance_of_five_hundred_nodes():
    """Two eigendecompositions and singular values, against two square roots; and at most a second."""
    A, B = _pair(500, 12)
    difference = abs(gaussian_graph_distance(A, B) - _square_root_formula(A, B))
    yield compare(
        "distance, n = 500",
        lambda: gaussian_graph_distance(A, B),
        lambda: _square_root_formula(A, B),
        peer_name="scipy.linalg.sqrtm formula",
        target=5.0,
        pairs=5,
        extra={"difference": difference},
    )
    yield within("distance, n = 500", lambda: gaussian_graph_distance(A, B), limit=1.0)


@benchmark(threads=1)
def thirty_starts_of_quadratic_assignment():
    """Thirty starts at n = 100: a graph and its renamed copy, and two unrelated graphs."""
    A, other = _pair(100, 10)
    order = np.random.default_rng(0).permutation(100)
    for name, B in (("renamed copy", A[np.ix_(order, order)]), ("unrelated graph", other)):
        options = [{"maximize": True, "P0": "randomized", "rng": np.random.default_rng(i)} for i in range(30)]
        found = match_graphs(A, B, 30, np.random.default_rng(0))
        ours, theirs = np.vdot(B, A[np.ix_(found, found)]), max(scipy.optimize.quadratic_assignment(A, B, options=option).fun for option in options)
        yield compare(
            f"quadratic assignment, n = 100, 30 starts, {name}",
            lambda B=B: match_graphs(A, B, 30, np.random.default_rng(0)),
            lambda B=B, options=options: [scipy.optimize.quadratic_assignment(A, B, options=option) for option in options],
            peer_name="loop over scipy.optimize.quadratic_assignment",
            target=2.0,
            pairs=5,
            extra={"common weight": ours, "peer's": theirs},
        )
