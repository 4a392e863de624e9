"""Sparse products against SciPy: squares on one and two threads, planned products, triangles by a masked product, the triple product."""

from functools import cache

import numpy as np
import scipy.sparse

from ritz.linalg import spgemm, spgemm_flops, spgemm_plan, triple_product
from ritz.studies import Comparison, benchmark, compare
from ritz.studies.data.graphs import rmat
from ritz.studies.data.linear_systems import poisson
from ritz.studies.data.sparse_matrices import aggregation_hierarchy, erdos_renyi
from ritz.studies.timing import triad

BUFFER_READ = 12  # bytes of B that one product reads


@cache
def matrices():
    return {
        "2-D Laplacian 500^2": poisson(500, 500),
        "3-D Laplacian 50^3": poisson(50, 50, 50),
        "Erdos-Renyi 1e5, 8 a row": erdos_renyi(100_000, 8, 0),
        "Erdos-Renyi 2e4, 32 a row": erdos_renyi(20_000, 32, 0),
        "R-MAT scale 14": scipy.sparse.csr_array(rmat(14, 8 * 2**14, rng=0), dtype=np.float64),
    }


def squares(each: float | None, mean: float) -> list[Comparison]:
    """Squares of all matrices, and their geometric mean."""
    found = []
    for name, A in matrices().items():
        flops = int(spgemm_flops(A, A).sum())
        one = compare(name, lambda A=A: spgemm(A, A), lambda A=A: A @ A, peer_name="SciPy A @ A", target=each, pairs=7)
        found.append(Comparison(**one.as_dict() | {"extra": {"GB/s of B": BUFFER_READ * flops / one.seconds / 1e9}}))
    means = {field: float(np.exp(np.mean([np.log(getattr(one, field)) for one in found]))) for field in ("ratio", "seconds", "peer_seconds")}
    return [*found, Comparison("geometric mean", "SciPy A @ A", pairs=7, threads=found[0].threads, target=mean, **means)]


@benchmark
def one_thread():
    return squares(0.75, 1.0)


@benchmark(threads=2)
def two_threads():
    return squares(None, 1.5)


@benchmark
def planned():
    """The structure is known, the values are new."""
    found = []
    for name, A in matrices().items():
        plan = spgemm_plan(A, A)
        fresh = compare(name, lambda A=A, plan=plan: plan(A.data, A.data), lambda A=A: spgemm(A, A), peer_name="a fresh product", pairs=5)
        found.append(
            compare(
                f"planned: {name}",
                lambda A=A, plan=plan: plan(A.data, A.data),
                lambda A=A: A @ A,
                peer_name="SciPy A @ A",
                target=2.0,
                pairs=5,
                extra={"ratio to a fresh product of ours": fresh.ratio},
            )
        )
    return found


@benchmark
def triangles():
    """Triangles of an R-MAT graph: the square under the graph's own mask."""
    A = matrices()["R-MAT scale 14"]
    return compare(
        "triangles of R-MAT scale 14",
        lambda: spgemm(A, A, mask=A).sum() / 6,
        lambda: (A @ A).multiply(A).sum() / 6,
        peer_name="SciPy (A @ A).multiply(A)",
        target=3.0,
        pairs=5,
    )


@benchmark
def galerkin():
    A, P = next(aggregation_hierarchy(300))
    R = scipy.sparse.csr_array(P.T)
    return compare("R A P, Poisson 300^2, aggregates of 3 x 3", lambda: triple_product(R, A, P), lambda: R @ A @ P, peer_name="SciPy R @ A @ P")


@benchmark
def reading_of_the_second_factor():
    """How far the reads of B, 12 bytes a product, are from the memory's rate: rows of B are picked at random and do not fit the cache."""
    A = erdos_renyi(1_000_000, 4, 0)
    moved = BUFFER_READ * int(spgemm_flops(A, A).sum())
    return compare(
        "Erdos-Renyi 1e6, 4 a row", lambda: spgemm(A, A), triad(moved), peer_name="triad of as many bytes", pairs=3, extra={"GB of B": moved / 1e9}
    )
