"""Krylov solvers against SciPy's on the 2-D Poisson problem: one right-hand side, and eight at once against a loop."""

from collections.abc import Iterator

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

from ritz.linalg import cg, gmres
from ritz.studies import Comparison, benchmark, compare

SCIPY = {cg: scipy.sparse.linalg.cg, gmres: scipy.sparse.linalg.gmres}
TOL = 1e-6


def _poisson(m: int, wind: float = 0.0) -> scipy.sparse.csr_array:
    """Five-point stencil on an m x m grid, upwind convection added."""
    T = scipy.sparse.diags_array([-(1 + wind) * np.ones(m - 1), (2 + wind) * np.ones(m), -np.ones(m - 1)], offsets=[-1, 0, 1])
    return scipy.sparse.csr_array(scipy.sparse.kronsum(T, T))


def _against_scipy(solve, m: int, columns: int, *, target: float | None, wind: float = 0.0, **options) -> Comparison:
    A, b = _poisson(m, wind), np.random.default_rng(0).standard_normal((m * m, columns))
    scipys, scipy_options = SCIPY[solve], {name: value for name, value in options.items() if name == "restart"}

    def loop():
        return [scipys(A, b[:, k], rtol=TOL, maxiter=100_000, **scipy_options)[0] for k in range(columns)]

    found = compare(
        f"{solve.__name__}, {m} x {m} grid, {columns} right-hand side(s)",
        lambda: solve(A, b, tol=TOL, **options),
        loop,
        peer_name=f"scipy.sparse.linalg.{solve.__name__}" + (", one by one" if columns > 1 else ""),
        target=target,
        pairs=5,
    )
    result, theirs = solve(A, b, tol=TOL, **options), np.stack(loop(), axis=1)
    scale = np.linalg.norm(b, axis=0)
    found.extra.update(
        {
            "steps": float(result.iterations.max()),
            "residual": float((result.residual_norms[-1] / scale).max()),
            "SciPy's residual": float((np.linalg.norm(b - A @ theirs, axis=0) / scale).max()),
        }
    )
    return found


@benchmark
def conjugate_gradients() -> Iterator[Comparison]:
    """Small, middle and large grids."""
    for m, target in ((64, 2.0), (128, 1.5), (256, 1.3)):
        yield _against_scipy(cg, m, 1, target=0.8)
        yield _against_scipy(cg, m, 8, target=target)


@benchmark
def restarted_gmres() -> Iterator[Comparison]:
    """Convection and diffusion, restarted after 30 steps."""
    for m, target in ((64, 1.5), (128, 1.3)):
        yield _against_scipy(gmres, m, 1, target=0.8, wind=0.2, restart=30)
        yield _against_scipy(gmres, m, 8, target=target, wind=0.2, restart=30)
