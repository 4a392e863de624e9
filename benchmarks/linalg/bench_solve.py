"""`solve` against the best of four solvers that a user could have chosen, on systems of all characters.

The rivals are SuperLU, conjugate gradients with multigrid, GMRES with incomplete LU, and LAPACK. Each is tried once; the fastest of those that reach
the tolerance is then timed in alternation with `solve`. Not every rival is given more than `PATIENCE` seconds of unknowns: a dense copy is made up to
`DENSE_LIMIT` rows only. The target of each system is that `solve` takes no more than three times as long; the median is asked to be within 1.5.
"""

import statistics
import time
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import pyamg
import scipy.sparse
import scipy.sparse.linalg

from ritz.linalg import solve
from ritz.studies import Comparison, benchmark, compare
from ritz.studies.data.linear_systems import LinearSystem, linear_systems

TOL = 1e-8
DENSE_LIMIT = 3_000
WORST, MEDIAN = 1 / 3, 1 / 1.5


def _splu(A, b):
    return scipy.sparse.linalg.splu(scipy.sparse.csc_array(A)).solve(b)


def _cg_with_multigrid(A, b):
    hierarchy = pyamg.smoothed_aggregation_solver(scipy.sparse.csr_matrix(A))
    return scipy.sparse.linalg.cg(A, b, rtol=TOL, maxiter=500, M=hierarchy.aspreconditioner())[0]


def _gmres_with_incomplete_lu(A, b):
    factors = scipy.sparse.linalg.spilu(scipy.sparse.csc_array(A))
    M = scipy.sparse.linalg.LinearOperator(A.shape, factors.solve, dtype=A.dtype)
    return scipy.sparse.linalg.gmres(A, b, rtol=TOL, restart=40, maxiter=10, M=M)[0]


def _dense(A, b):
    return np.linalg.solve(A.toarray() if scipy.sparse.issparse(A) else A, b)


def _rivals(system: LinearSystem, name: str) -> dict[str, Callable]:
    """The rivals that make sense for this kind of matrix."""
    A = system.A
    if isinstance(A, scipy.sparse.linalg.LinearOperator):
        plain = {
            "cg": lambda A, b: scipy.sparse.linalg.cg(A, b, rtol=TOL)[0],
            "gmres": lambda A, b: scipy.sparse.linalg.gmres(A, b, rtol=TOL, maxiter=10)[0],
        }
        return plain | ({"splu": lambda A, b: _splu(A.toarray(), b)} if A.shape[0] <= DENSE_LIMIT else {})
    if not scipy.sparse.issparse(A):
        return {"dense": _dense}
    rivals = {"cg+amg": _cg_with_multigrid, "gmres+ilu": _gmres_with_incomplete_lu}
    if A.dtype.kind == "c" or "convection" in name:
        del rivals["cg+amg"]
    if "expander" not in name and "3-D" not in name:  # its fill takes a minute and gigabytes there
        rivals["splu"] = _splu
    return rivals | ({"dense": _dense} if A.shape[0] <= DENSE_LIMIT else {})


def _fastest(system: LinearSystem, name: str) -> tuple[str, Callable] | None:
    """The fastest rival that reaches the tolerance, from one run of each."""
    times = {}
    for rival, function in _rivals(system, name).items():
        start = time.perf_counter()
        try:
            x = function(system.A, system.b)
        except (RuntimeError, ValueError, np.linalg.LinAlgError, MemoryError):
            continue
        seconds = time.perf_counter() - start
        if np.linalg.norm(system.b - system.A @ x) <= 1.01 * TOL * np.linalg.norm(system.b):
            times[rival] = (seconds, function)
    if not times:
        return None
    best = min(times, key=lambda rival: times[rival][0])
    return best, times[best][1]


def _against_the_best(name: str, system: LinearSystem) -> Comparison | None:
    found = solve(system.A, system.b, tol=TOL)
    rival = _fastest(system, name)
    if rival is None:
        return None
    result = compare(
        f"{name}, n = {system.A.shape[0]}: {found.method}",
        lambda: solve(system.A, system.b, tol=TOL),
        lambda: rival[1](system.A, system.b),
        peer_name=rival[0],
        target=WORST,
        pairs=3,
    )
    result.extra.update({"residual": float(found.residual_norms)})
    return result


@benchmark
def the_suite() -> Iterator[Comparison]:
    """Every system that some rival solves; those that none solves are not compared (singular Laplacians of several components, inconsistent ones)."""
    ratios = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, build in linear_systems().items():
            found = _against_the_best(name, build())
            if found is not None:
                ratios.append(found.ratio)
                yield found
    median = statistics.median(ratios)
    yield Comparison(
        f"median of {len(ratios)} systems", "the fastest of four solvers", median, 0.0, 0.0, len(ratios), 1, MEDIAN, {"worst": min(ratios)}
    )
