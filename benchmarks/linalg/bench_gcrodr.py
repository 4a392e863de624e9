"""Sequences of PDE systems by sorted Krylov recycling, against SciPy's GMRES and recycled GCROT with the same preconditioner.

Sparse LU, which no iteration beats on two-dimensional grids of this size, is reported beside them.
"""

import time
import warnings
from collections.abc import Iterator

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

from ritz.core import ConvergenceWarning
from ritz.linalg import solve_sequence
from ritz.studies import Comparison, benchmark, compare
from ritz.studies.data.parametric_pdes import Family, darcy, helmholtz

TOL = 1e-8


def _ours(family: Family):
    return solve_sequence(family.systems, parameters=family.parameters, preconditioner="jacobi", tol=TOL, progress=False)


def _jacobi(A) -> scipy.sparse.linalg.LinearOperator:
    inverse = 1 / A.diagonal()
    return scipy.sparse.linalg.LinearOperator(A.shape, matvec=lambda x: inverse * x.ravel(), dtype=A.dtype)


def _gmres(family: Family) -> None:
    for A, b in family.systems:
        scipy.sparse.linalg.gmres(A, b, rtol=TOL, restart=40, maxiter=250, M=_jacobi(A))


def _gcrot(family: Family, order) -> None:
    space = []
    for i in order:
        A, b = family.systems[i]
        scipy.sparse.linalg.gcrotmk(A, b, rtol=TOL, m=20, k=20, M=_jacobi(A), CU=space, discard_C=True, maxiter=1000)


def _seconds_of_lu(family: Family) -> float:
    start = time.perf_counter()
    for A, b in family.systems:
        scipy.sparse.linalg.splu(scipy.sparse.csc_array(A)).solve(b)
    return time.perf_counter() - start


def _compared(family: Family, peer, peer_name: str, target: float | None, pairs: int) -> Comparison:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = _ours(family)
        extra = {"seconds of sparse LU": _seconds_of_lu(family), "steps": float(found.iterations.mean()), "converged": float(found.converged.mean())}
        name = f"{family.name}, {len(family.systems)} systems of {family.parameters[0].size}"
        return compare(name, lambda: _ours(family), lambda: peer(found.order), peer_name=peer_name, target=target, pairs=pairs, extra=extra)


@benchmark
def against_gmres() -> Iterator[Comparison]:
    """Each system alone, Jacobi on both sides."""
    for family, target, pairs in ((darcy(20, 50, rng=0), 2.0, 5), (helmholtz(6, 40, rng=0), 8.0, 3)):
        yield _compared(family, lambda _, family=family: _gmres(family), "scipy.sparse.linalg.gmres(restart=40)", target, pairs)


@benchmark
def against_recycled_gcrot() -> Iterator[Comparison]:
    """SciPy's own recycling, its space handed on in the same order."""
    for family, target in ((darcy(20, 50, rng=0), None), (helmholtz(20, 50, rng=0), 1.0)):
        yield _compared(family, lambda order, family=family: _gcrot(family, order), "scipy.sparse.linalg.gcrotmk(20, 20), recycled", target, 5)


@benchmark
def sorting() -> Comparison:
    """What the order costs, for a thousand fields."""
    from ritz.linalg import similarity_order

    fields = np.random.default_rng(0).standard_normal((1000, 50, 50))

    def plain() -> np.ndarray:
        rows, left, order = fields.reshape(1000, -1), np.arange(1, 1000), [0]
        while left.size:
            nearest = np.argmin(((rows[left] - rows[order[-1]]) ** 2).sum(axis=1))
            order.append(left[nearest])
            left = np.delete(left, nearest)
        return np.array(order)

    return compare("similarity order, 1000 fields of 2500", lambda: similarity_order(fields), plain, peer_name="NumPy loop", pairs=3)
