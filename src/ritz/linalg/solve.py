"""`solve(A, b)` for those who do not want to choose: look at the matrix, pick a method, check its answer, and go on to the next where it fails.

What is looked at: the kind of matrix and its size; symmetry and the sign of the diagonal; whether it is the Laplacian of a graph; the width of its
graph, from which the time and the memory of a sparse factorization are estimated; and the residual of what was found.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ritz.core import Result, array, choice, integer, is_torch, like, positive, to_numpy, warn_not_converged
from ritz.linalg.direct_solvers import Unsuitable
from ritz.linalg.krylov_system import check_kinds, check_right_side
from ritz.linalg.matrix_kinds import checked_matrix, on_host
from ritz.linalg.solve_routes import ROUTES, System, candidates

METHODS = ("auto", *ROUTES)
PRECONDITIONERS = ("amg", "ilu", "jacobi")
ROUNDING_FLOOR = 16.0  # times eps: relative residuals below this cannot be asked for


@dataclass(frozen=True, eq=False, repr=False)
class Solution(Result):
    """What `solve` and `lstsq` found, how, and why so.

    Attributes
    ----------
    x : array (n,) or (n, k)
        Of the kind of b.
    converged : bool or array (k,) of bool
        Whether the relative residual is within the tolerance (`lstsq`: or the method's own test for a least-squares solution).
    residual_norms : float or array (k,)
        ``||b - A x|| / ||b||``, computed from x; 0 where b is zero.
    method : str
        The method whose answer this is.
    why : str
        What spoke for it.
    attempts : tuple of str
        What was tried before, and how it failed.
    iterations : int
        Steps of an iteration (the most over the right-hand sides); 0 for a direct method.
    """

    x: np.ndarray
    converged: bool | np.ndarray
    residual_norms: float | np.ndarray
    method: str
    why: str
    attempts: tuple[str, ...]
    iterations: int


def solve(
    A,
    b,
    *,
    method: str = "auto",
    preconditioner=None,
    tol: float = 1e-8,
    max_iterations: int | None = None,
    memory_limit: float = 4e9,
) -> Solution:
    """Solve ``A x = b`` for a square matrix of any kind.

    Parameters
    ----------
    A : array, sparse array, LinearOperator or torch tensor (n, n)
        Any square matrix, singular ones included.
    b : array (n,) or (n, k)
        Right-hand sides, torch if A is.
    method : {"auto", "structured", "dense", "svd", "direct", "laplacian", "cg", "minres", "gmres", "lsmr"}
        "auto" picks; another name is obeyed: the operator's own solution, LAPACK, the singular value decomposition (least norm), SuperLU, the
        grounded Laplacian of a graph, or an iteration.
    preconditioner : {"amg", "ilu", "jacobi"} or as A, optional
        For the iterations. By default multigrid for `cg`, and incomplete LU (multigrid where the matrix looks elliptic) for `gmres`, of a sparse
        matrix of more than 150 rows; none for an operator.
    tol : float
        ``||b - A x|| <= tol ||b||`` is asked for; 16 eps is always enough.
    max_iterations : int, optional
        Steps of an iteration; by default 10 n, and 200 where a factorization stands ready to take over.
    memory_limit : float
        Bytes that a sparse factorization may take by estimate for "auto" to try it.

    Returns
    -------
    Solution
        With the method, the reason for it, and what failed before it.

    Warns
    -----
    ConvergenceWarning
        If no method reached the tolerance; x is then the one with the least residual. For an inconsistent system that is a least-squares solution
        where the matrix is dense, the Laplacian of a graph, or an operator with an adjoint.

    Raises
    ------
    ValueError, TypeError
        If A is not square, shapes do not fit, entries are not finite, torch meets NumPy, or an option does not suit the matrix.

    Notes
    -----
    On the host all direct methods compute in double precision. Sparse CUDA tensors are solved by preconditioned iterations on their device, dense
    ones by LU there. Without PyAMG (extra ``linalg``) incomplete LU takes multigrid's place.

    Examples
    --------
    >>> import scipy.sparse
    >>> A = scipy.sparse.diags_array([-np.ones(999), np.full(1000, 2.0), -np.ones(999)], offsets=[-1, 0, 1])
    >>> found = solve(A, np.ones(1000))
    >>> found.method, bool(found.converged)
    ('direct', True)
    """
    method = choice(method, "method", METHODS)
    system, b = _system(A, b, preconditioner, tol, max_iterations, memory_limit)
    if method != "auto":
        return _answered(system, b, iter([(method, "asked for")]))
    return _answered(system, b, candidates(system))


def _system(A, b, preconditioner, tol, max_iterations, memory_limit) -> tuple[System, object]:
    """Check the arguments, bring them where they are solved - to the host, unless they are CUDA tensors -, and return b as well."""
    A, b = checked_matrix(A, "A", square=True), array(b, "b", ndim=(1, 2), allow_complex=True)
    check_right_side(A, b)
    check_kinds(A, "A", b)
    if isinstance(preconditioner, str):
        preconditioner = choice(preconditioner, "preconditioner", PRECONDITIONERS)
    elif preconditioner is not None:
        preconditioner = checked_matrix(preconditioner, "preconditioner")
        if tuple(preconditioner.shape) != tuple(A.shape):
            raise ValueError(f"preconditioner must have the shape of A, {tuple(A.shape)}, got {tuple(preconditioner.shape)}")
        check_kinds(preconditioner, "preconditioner", b)
    columns = b.detach() if is_torch(b) else b
    columns = columns[:, None] if b.ndim == 1 else columns
    on_device = is_torch(b) and b.device.type != "cpu"
    if not on_device:
        A, columns = on_host(A), to_numpy(columns)
        preconditioner = preconditioner if isinstance(preconditioner, str | None) else on_host(preconditioner)
        columns = columns.astype(np.result_type(columns.dtype, A.dtype or np.float64), copy=False)
    tol = max(positive(tol, "tol"), ROUNDING_FLOOR * float(np.finfo(to_numpy(columns[:0]).dtype).eps))
    limit = None if max_iterations is None else integer(max_iterations, "max_iterations", at_least=1)
    return System(A, columns, tol, preconditioner, limit, positive(memory_limit, "memory_limit")), b


def _answered(system: System, b, methods: Iterator[tuple[str, str]]) -> Solution:
    """Try the methods in turn until one reaches the tolerance; else keep the answer with the least residual."""
    failed, best = [], None
    for method, why in methods:
        try:
            answer = ROUTES[method](system)
        except Unsuitable as error:
            failed.append(f"{method}: {error}")
            continue
        x = answer.x if is_torch(answer.x) else answer.x.astype(system.b.dtype, copy=False)
        norms = _relative_residuals(system, x)
        if best is None or np.max(norms) < np.max(best[3]) or answer.final:
            best = (method, f"{why}; {answer.note}" if answer.note else why, x, norms, answer.iterations)
        if answer.final or np.all(norms <= system.tol):
            break
        failed.append(f"{method} ({answer.note}): relative residual {np.max(norms):.1e} after {answer.iterations} steps")
    if best is None:
        raise np.linalg.LinAlgError("no method could solve the system: " + "; ".join(failed))
    method, why, x, norms, steps = best
    attempts = tuple(line for line in failed if line.partition(":")[0].partition(" ")[0] != method)
    converged = norms <= system.tol
    if not converged.all():
        warn_not_converged(f"solve ({method}): relative residual {np.max(norms):.1e}, asked for {system.tol:.1e}; {why}")
    x = x if is_torch(x) else like(x, b)
    if b.ndim == 1:
        return Solution(x[:, 0], bool(converged[0]), float(norms[0]), method, why, attempts, steps)
    return Solution(x, like(converged, b), like(norms, b), method, why, attempts, steps)


def _relative_residuals(system: System, x) -> np.ndarray:
    sizes, norms = (np.linalg.norm(to_numpy(columns), axis=0) for columns in (system.b, system.residual(x)))
    norms = np.where(np.isfinite(norms), norms, np.inf)
    return np.where(sizes > 0, norms / np.where(sizes > 0, sizes, 1), np.where(norms > 0, np.inf, 0.0))
