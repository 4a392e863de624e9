"""Matrix completion: an outer iteration with conjugate gradients against one with exact half-steps (A^T A by GEMM, Cholesky), both in numba."""

import warnings

from ritz.core import ConvergenceWarning
from ritz.linalg import complete_matrix
from ritz.studies import benchmark, compare
from ritz.studies.linalg.robust_alternating_minimization import problem


def iterations(k: int, target: float):
    observed, _ = problem(2000, k, 3.5, 2, 0)

    def run(solver: str):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return complete_matrix(observed, k, solver=solver, iterations=5, tol=0.0, init="random", rng=0)

    entries_read = 8 * k * observed.nnz * (5 * 2 + int(run("cg").inner_iterations.sum()) / 2000)
    comparison = compare(
        f"5 iterations, 2000 x 2000, k = {k}",
        lambda: run("cg"),
        lambda: run("exact"),
        peer_name="exact half-steps",
        target=target,
        pairs=3,
    )
    return [comparison.__class__(**comparison.as_dict() | {"extra": {"GB/s of factor rows": entries_read / comparison.seconds / 1e9}})]


@benchmark
def rank_64():
    return iterations(64, 1.5)


@benchmark
def rank_128():
    return iterations(128, 2.5)
