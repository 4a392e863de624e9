"""The ways in which `solve` can go about a linear system, and the order in which it tries them.

A route takes a `System` and returns an `Answer`, or raises `Unsuitable` with the reason. No answer is judged here: `solve` does it, by the residual.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

from ritz.core import ConvergenceWarning, MissingExtra, is_torch, namespace, to_numpy
from ritz.linalg.algebraic_multigrid import amg
from ritz.linalg.conjugate_gradients import cg
from ritz.linalg.direct_solvers import (
    Unsuitable,
    dense_factorization,
    factorization_cost,
    grounded_components,
    least_norm_solution,
    outside_range,
    refined,
    solve_grounded,
    sparse_factorization,
)
from ritz.linalg.gmres import gmres
from ritz.linalg.least_squares import lsmr
from ritz.linalg.minres import minres
from ritz.linalg.operators import StructuredOperator
from ritz.linalg.preconditioners import incomplete_lu, jacobi

DENSE_ROWS = 150  # up to which a sparse matrix is solved as a dense one
DENSE_SHARE = 0.2  # of entries stored, above which it is too, up to
DENSE_LIMIT = 5_000  # rows
ITERATION_COST = 0.7e-6  # seconds per stored entry for multigrid's setup and about ten cycles
DIRECT_ADVANTAGE = 2.5  # a factorization may be estimated so much slower than an iteration, whose number of steps nobody knows beforehand
FIRST_STEPS = 200  # of a preconditioned iteration, before a factorization takes over
RESTART = 40
SYMMETRY = 1e-12  # relative difference from the adjoint that counts as rounding


@dataclass(frozen=True, eq=False)
class Answer:
    """What a route found: columns x (n, k), the steps it took, a word on how, and whether nothing better can be expected of another route."""

    x: object
    iterations: int = 0
    note: str = ""
    final: bool = False


@dataclass(frozen=True, eq=False)
class System:
    """A checked square system: A on the host (dense, CSR, operator) or a CUDA tensor, columns b (n, k), and what the user asked for."""

    A: object
    b: object
    tol: float
    preconditioner: object = None
    max_iterations: int | None = None
    memory_limit: float = 4e9

    @property
    def n(self) -> int:
        """The number of unknowns."""
        return self.A.shape[0]

    @property
    def is_operator(self) -> bool:
        """Whether A is known by its products alone."""
        return isinstance(self.A, scipy.sparse.linalg.LinearOperator)

    @property
    def is_sparse(self) -> bool:
        """Whether A is a CSR array."""
        return scipy.sparse.issparse(self.A)

    @cached_property
    def is_hermitian(self) -> bool:
        """Whether A equals its adjoint: entry by entry, an operator on two random vectors."""
        if self.is_operator or is_torch(self.A):
            return _looks_hermitian(self.A, self.b)
        A, tolerance = self.A.conj() if self.A.dtype.kind == "c" else self.A, max(SYMMETRY, 4 * np.finfo(self.A.dtype).eps)
        if self.is_sparse:
            difference, largest = abs(self.A - A.T).max(), abs(self.A).max()
        else:
            largest = np.max(np.abs(self.A))
            first = np.max(np.abs(self.A[0] - A[:, 0]))  # tells of most matrices that they are not
            difference = first if first > tolerance * largest else np.max(np.abs(self.A - A.T))
        return bool(difference <= tolerance * largest)

    @cached_property
    def diagonal(self) -> np.ndarray:
        """The diagonal of an explicit matrix."""
        return self.A.diagonal() if self.is_sparse else np.diagonal(self.A)

    @cached_property
    def is_elliptic(self) -> bool:
        """Whether the rows are weakly dominated by a positive diagonal, with mostly negative entries beside it: what multigrid is made for."""
        if not self.is_sparse or self.A.dtype.kind == "c" or np.any(self.diagonal <= 0):
            return False
        beside = np.asarray(abs(self.A).sum(axis=1)).ravel() - self.diagonal
        return bool(np.all(beside <= (1 + 1e-8) * self.diagonal)) and np.mean(self.A.data < 0) > 0.5 * (1 - self.n / self.A.nnz)

    @cached_property
    def cost(self) -> tuple[float, float]:
        """Estimated seconds and bytes of a sparse factorization."""
        return factorization_cost(self.A)

    @property
    def direct_is_cheap(self) -> bool:
        """Whether a sparse factorization promises to be no worse than an iteration, and fits."""
        return self.direct_fits and self.cost[0] <= DIRECT_ADVANTAGE * ITERATION_COST * self.A.nnz

    @property
    def direct_fits(self) -> bool:
        """Whether the factors fit into the memory allowed."""
        return self.cost[1] <= self.memory_limit

    def residual(self, x):
        """``b - A x``."""
        return self.b - self.A @ x

    def targets(self):
        """What the norms of residuals have to reach."""
        return self.tol * np.linalg.norm(self.b, axis=0)

    def part(self, A, b) -> System:
        """A system that this one has been led back to."""
        return System(A, b, self.tol / 4, self.preconditioner, self.max_iterations, self.memory_limit)


def candidates(system: System) -> Iterator[tuple[str, str]]:
    """Yield methods in the order in which they should be tried, each with what speaks for it."""
    A, n = system.A, system.n
    if is_torch(A) and str(A.layout) == "torch.strided":
        yield "dense", f"a dense matrix of {n} rows on {A.device}"
    if isinstance(A, StructuredOperator) and hasattr(A, "solve"):
        yield "structured", f"{type(A).__name__} solves by its factors"
    if system.is_operator or is_torch(A):
        yield from _iterations(system, "known by its products" if system.is_operator else f"sparse on {A.device}")
    elif not system.is_sparse:
        yield "dense", f"a dense matrix of {n} rows"
        yield "svd", "the matrix is singular to working precision: the solution of least norm"
    else:
        yield from _of_sparse(system)


def _of_sparse(system: System) -> Iterator[tuple[str, str]]:
    n, share = system.n, system.A.nnz / system.n**2
    if n <= DENSE_ROWS or (share >= DENSE_SHARE and n <= DENSE_LIMIT):
        yield "dense", f"{n} rows with {share:.0%} of the entries: as good as dense"
        yield "svd", "the matrix is singular to working precision: the solution of least norm"
        return
    word = "Hermitian" if system.is_hermitian else "nonsymmetric"
    if system.is_hermitian and grounded_components(system.A) is not None:
        yield "laplacian", "the Laplacian of a graph: singular, with constants on each component as its null space"
    estimate = f"a factorization should take about {system.cost[0]:.2g} s and {system.cost[1] / 1e6:.2g} MB"
    if system.direct_is_cheap:
        yield "direct", f"sparse, {word}, {n} rows: {estimate}"
    positive = system.is_hermitian and bool(np.all(system.diagonal.real > 0))
    yield ("cg" if positive else "gmres"), f"sparse, {word}{', positive diagonal' if positive else ''}, {n} rows: {estimate}"
    if not system.direct_is_cheap and system.direct_fits:
        yield "direct", f"the iteration did not get there, and {estimate}"
    if system.is_hermitian:
        yield "minres", "Hermitian, and neither factored nor positive definite"
    yield "lsmr", "what is left: least squares"


def _iterations(system: System, why: str) -> Iterator[tuple[str, str]]:
    if system.is_hermitian:
        yield "cg", f"{why}, Hermitian on two random vectors"
        yield "minres", f"{why}, Hermitian, and not positive definite"
    yield "gmres", f"{why}, {'all else failed' if system.is_hermitian else 'not Hermitian'}"
    yield "lsmr", f"{why}: least squares, if the adjoint is known"


def structured(system: System) -> Answer:
    """The operator's own solution."""
    A = system.A
    if not hasattr(A, "solve"):
        raise ValueError(f"method 'structured' needs an operator with a solve method, got {type(A).__name__}")
    try:
        return Answer(refined(A.solve, system.residual, system.b, system.targets()))
    except (np.linalg.LinAlgError, ValueError) as error:
        raise Unsuitable(str(error)) from error


def dense(system: System) -> Answer:
    """LAPACK on the host, LU on a GPU."""
    if is_torch(system.A):
        return _dense_on_device(system)
    A = _entries(system, "dense")
    factorize, name = dense_factorization(A, hermitian=system.is_hermitian)
    return Answer(refined(factorize, system.residual, system.b, system.targets()), note=name)


def svd(system: System) -> Answer:
    """The least-squares solution of least norm by the singular value decomposition."""
    x, rank = least_norm_solution(_entries(system, "svd"), system.b)
    return Answer(x, note=f"rank {rank} of {system.n}", final=True)


def direct(system: System) -> Answer:
    """SuperLU: with weak pivoting, and with partial pivoting where that is not accurate enough."""
    A = _sparse_entries(system, "direct")
    x = refined(sparse_factorization(A, pivoting=False), system.residual, system.b, system.targets())
    if np.all(np.linalg.norm(system.residual(x), axis=0) <= system.targets()):
        return Answer(x, note="SuperLU, minimum degree")
    x = refined(sparse_factorization(A, pivoting=True), system.residual, system.b, system.targets())
    return Answer(x, note="SuperLU, partial pivoting")


def laplacian(system: System) -> Answer:
    """A graph's Laplacian: one node of each component is grounded, the rest is positive definite."""
    A = _sparse_entries(system, "laplacian")
    component = grounded_components(A) if system.is_hermitian else None
    if component is None:
        raise ValueError("method 'laplacian' needs a symmetric sparse matrix with zero row sums and no positive entry beside the diagonal")
    notes, steps = [], []

    def solve_definite(A_free, b_free):
        part = system.part(A_free, b_free)
        answer = by_cg(part) if not part.direct_is_cheap else direct(part)
        notes.append(answer.note)
        steps.append(answer.iterations)
        return answer.x

    x = solve_grounded(A, component, system.b, solve_definite)
    inconsistent = bool(np.any(np.linalg.norm(outside_range(component, system.b), axis=0) > system.targets()))
    note = "; ".join([f"{component.max() + 1} component(s) grounded", *notes, *["b has a part outside the range"] * inconsistent])
    return Answer(x, max(steps, default=0), note, final=inconsistent)


def by_cg(system: System) -> Answer:
    """Conjugate gradients."""
    return _krylov(system, cg, *_preconditioner(system, ("amg", "jacobi")))


def by_minres(system: System) -> Answer:
    """MINRES, with a positive diagonal scaled."""
    return _krylov(system, minres, *_preconditioner(system, ("jacobi",) if _has_positive_diagonal(system) else ()))


def by_gmres(system: System) -> Answer:
    """Restarted GMRES."""
    order = ("amg", "ilu", "jacobi") if system.is_elliptic else ("ilu", "jacobi")
    return _krylov(system, gmres, *_preconditioner(system, order), restart=RESTART)


def by_lsmr(system: System) -> Answer:
    """LSMR, which needs the adjoint."""
    try:
        return _krylov(replace(system, tol=system.tol / 1000), lsmr, None, "no preconditioner")  # its own test is easier to pass than ours
    except (TypeError, NotImplementedError) as error:
        raise Unsuitable(f"the adjoint is not known: {error}") from error


ROUTES: dict[str, Callable[[System], Answer]] = {
    "structured": structured,
    "dense": dense,
    "svd": svd,
    "direct": direct,
    "laplacian": laplacian,
    "cg": by_cg,
    "minres": by_minres,
    "gmres": by_gmres,
    "lsmr": by_lsmr,
}


def _krylov(system: System, solver: Callable, preconditioner, name: str, **options) -> Answer:
    limit = system.max_iterations
    if limit is None and system.is_sparse and preconditioner is not None and solver in (cg, gmres) and system.direct_fits:
        limit = FIRST_STEPS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = solver(system.A, system.b, preconditioner=preconditioner, tol=system.tol, max_iterations=limit, **options)
    return Answer(found.x, int(np.max(found.iterations)), name)


def _preconditioner(system: System, order: tuple[str, ...]):
    """The preconditioner asked for, or the first of `order` that can be built; and its name."""
    asked = system.preconditioner
    if asked is not None and not isinstance(asked, str):
        return asked, "the preconditioner given"
    if asked is not None:
        return _BUILDERS[asked](system.A), asked
    if is_torch(system.A):
        order = ("jacobi",)
    if system.is_operator or (system.n <= DENSE_ROWS and not is_torch(system.A)):
        return None, "no preconditioner"
    for name in order if system.is_sparse else ("jacobi",) * ("jacobi" in order):
        try:
            return _BUILDERS[name](system.A), name
        except (ValueError, MissingExtra, MemoryError):
            continue
    return None, "no preconditioner"


_BUILDERS = {"amg": amg, "ilu": incomplete_lu, "jacobi": jacobi}


def _has_positive_diagonal(system: System) -> bool:
    return not system.is_operator and not is_torch(system.A) and bool(np.all(system.diagonal.real > 0))


def _looks_hermitian(A, b) -> bool:
    """Compare u^H (A v) with (A u)^H v for two random vectors."""
    xp, rng = namespace(b), np.random.default_rng(0)
    probes = rng.standard_normal((A.shape[0], 2))
    probes = probes + 1j * rng.standard_normal(probes.shape) if np.iscomplexobj(to_numpy(b[:0])) else probes
    probes = xp.asarray(probes.astype(to_numpy(b[:0]).dtype), device=b.device)
    images = to_numpy(A @ probes)
    form, scale = to_numpy(probes).conj().T @ images, np.linalg.norm(to_numpy(probes)) * np.linalg.norm(images)
    return bool(np.max(np.abs(form - form.conj().T)) <= np.sqrt(np.finfo(images.dtype).eps) * scale)


def _entries(system: System, method: str) -> np.ndarray:
    """The dense host matrix in at least double precision."""
    if system.is_operator or is_torch(system.A):
        raise ValueError(f"method '{method}' needs an explicit matrix on the host, got {type(system.A).__name__}")
    A = system.A.toarray() if system.is_sparse else system.A
    return A.astype(np.result_type(A.dtype, np.float64), copy=False)


def _sparse_entries(system: System, method: str) -> scipy.sparse.csr_array:
    if system.is_operator or is_torch(system.A):
        raise ValueError(f"method '{method}' needs an explicit matrix on the host, got {type(system.A).__name__}")
    return system.A if system.is_sparse else scipy.sparse.csr_array(system.A)


def _dense_on_device(system: System) -> Answer:
    import torch

    try:
        return Answer(torch.linalg.solve(system.A, system.b), note="LU")
    except RuntimeError as error:
        raise Unsuitable(str(error)) from error
