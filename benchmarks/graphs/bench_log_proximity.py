"""Proximities for a grid of parameters against one matrix function of SciPy for each, and one large graph against the clock."""

import numpy as np
import scipy.linalg

from ritz.graphs import as_adjacency, laplacian, proximity, transition
from ritz.graphs.proximity import ProximityFamily
from ritz.studies import benchmark, compare, within
from ritz.studies.data.graphs import planted_partition

GRID = np.arange(1, 21) / 21
MEASURES = ("communicability", "forest", "heat", "walk", "ppr")


def _ours(graph) -> None:
    for kind in MEASURES:
        family = ProximityFamily(graph, kind)
        for x in GRID:
            K = family.matrix(family.time(x, "unit"), log=False)
            np.log(K, out=K)


def _peer(graph) -> None:
    """SciPy's function of the matrix at each point; its logarithm comes of the same matrix."""
    A, L, P = graph.toarray(), laplacian(graph, "comb").toarray(), transition(graph).toarray()
    I, rho = np.eye(len(A)), np.linalg.eigvalsh(A)[-1]
    for x in GRID:
        t = 0.5 * x / (1 - x)
        for K in (
            scipy.linalg.expm(t * A),
            scipy.linalg.inv(I + t * L),
            scipy.linalg.expm(-t * L),
            scipy.linalg.inv(I - x / rho * A),
            scipy.linalg.inv(I - x * P),
        ):
            with np.errstate(divide="ignore", invalid="ignore"):  # expm leaves entries that rounding made zero or negative
                np.log(K, out=K)


@benchmark(threads=1)
def a_grid_of_five_measures():
    """Five measures, plain and logarithmic, at 20 parameters; both sides compute each matrix once for both."""
    graph = as_adjacency(planted_partition((250,) * 4, 0.1, 0.02, rng=0).adjacency).matrix
    return compare(
        "n = 1000, 20 parameters, five measures and their logarithms",
        lambda: _ours(graph),
        lambda: _peer(graph),
        peer_name="scipy.linalg.expm and inv at each",
        target=5.0,
        pairs=3,
        warmup=0,
    )


@benchmark(threads=1)
def four_thousand_nodes():
    """Log-communicability of 4,000 nodes, in at most 60 seconds: the limit for two cores, kept on one."""
    graph = planted_partition((1000,) * 4, 0.03, 0.005, rng=0).adjacency
    return within("n = 4000, log communicability at one parameter", lambda: proximity(graph, "communicability", 0.3, log=True), limit=60.0)
