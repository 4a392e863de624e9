"""GMRES for general square systems: restarted, preconditioned from the right, orthogonalized twice.

Problem: ``min ||b - A M u||`` over the Krylov space of A M and r0, ``x = x0 + M u``; after `restart` steps the space is dropped and begun anew.

Saad and Schultz, "GMRES: A Generalized Minimal Residual Algorithm for Solving Nonsymmetric Linear Systems", SIAM J. Sci. Stat. Comput. 7(3), 1986;
classical Gram-Schmidt done twice: Giraud, Langou and Rozložník, "The loss of orthogonality in the Gram-Schmidt orthogonalization process",
Computers and Mathematics with Applications 50, 2005.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg

from ritz.core import integer, like, to_numpy, warn_not_converged
from ritz.linalg.krylov_system import Columns, Iteration, KrylovResult, linear_system, row_norms
from ritz.linalg.structured_operators import conj


def gmres(A, b, *, preconditioner=None, x0=None, restart: int = 30, tol: float = 1e-6, max_iterations: int | None = None) -> KrylovResult:
    """Solve ``A x = b`` for square A, all right-hand sides at once.

    The counterpart of `scipy.sparse.linalg.gmres`, for several right-hand sides, complex matrices and torch as well, and preconditioned from the
    right: the residual that is minimized is ``b - A x`` itself.

    Parameters
    ----------
    A : array, sparse array, LinearOperator or torch tensor (n, n)
        Any square matrix.
    b : array (n,) or (n, k)
        Right-hand sides, torch if A is. Each column has its own Krylov space; one product serves all.
    preconditioner : as A, optional
        M near the inverse of A, applied by multiplication.
    x0 : array like b, optional
        Where to start; zero by default. Where b is zero, the answer is zero whatever x0.
    restart : int
        Dimension of the Krylov spaces; with n or more there is no restart.
    tol : float
        Stop at ``||b - A x|| <= tol ||b||``.
    max_iterations : int, optional
        Steps (products with A) per column over all restarts, ``10 n`` by default.

    Returns
    -------
    KrylovResult
        `x` like b. The norms within a cycle never grow; its last row is computed from x.

    Raises
    ------
    ValueError, TypeError
        If shapes do not fit, entries are not finite, torch meets NumPy, or torch dtypes differ.

    Warns
    -----
    ConvergenceWarning
        If a column did not converge; `reason` is "stagnated" where a whole cycle gained nothing, "singular" where the space is exhausted and
        the residual is not zero.

    Notes
    -----
    Step j of a cycle costs one product with A and M and ``8 n j`` operations per column; memory ``(restart + 1) n`` numbers per column.
    Gradients are not recorded.

    References
    ----------
    .. [1] Saad and Schultz, SIAM J. Sci. Stat. Comput. 7(3), 1986.

    Examples
    --------
    >>> A = np.array([[1.0, 2.0], [0.0, 3.0]])
    >>> gmres(A, np.array([5.0, 6.0])).x.round(6)
    array([1., 2.])
    """
    restart = integer(restart, "restart", at_least=1)
    result = Iteration(linear_system(A, b, x0, preconditioner), tol, max_iterations).run(
        lambda iteration, columns: _cycle(iteration, columns, restart)
    )
    if complaint := result.complaint("gmres"):
        warn_not_converged(complaint)
    return result


def _cycle(iteration: Iteration, columns: Columns, restart: int) -> None:
    """One cycle from x with residual r; every column is retired, those that are not done as "restart".

    V (k, m + 1, n) holds the Krylov bases. The small arrays are on the host: G (k, m + 1, m + 1) is the unitary matrix that makes the Hessenberg
    matrix triangular, R (k, m, m) that triangle, g (k, m + 1) = G ||r|| e_1, whose last entry is the residual's norm.
    """
    system, xp, c = iteration.system, iteration.system.xp, columns
    k, n = c.r.shape
    m = min(restart, n, iteration.limit)
    norms, small = row_norms(c.r), to_numpy(c.r[:0]).dtype
    c.V = xp.zeros((k, m + 1, n), dtype=c.r.dtype, device=c.r.device)
    c.V[:, 0] = c.r / like(norms, c.r)[:, None]
    c.G, c.R, c.g = np.tile(np.eye(m + 1, dtype=small), (k, 1, 1)), np.zeros((k, m, m), dtype=small), np.zeros((k, m + 1), dtype=small)
    c.g[:, 0] = norms
    for j in range(m):
        w = system.multiply(system.precondition(c.V[:, j]))
        size = row_norms(w)
        h, w = _orthogonalized(w, c.V[:, : j + 1])
        beyond = row_norms(w)
        c.exhausted = beyond <= 10 * np.finfo(beyond.dtype).eps * size
        beyond[c.exhausted] = 0
        c.V[:, j + 1] = w / like(np.where(c.exhausted, 1, beyond), w)[:, None]
        _triangularize(c, j, to_numpy(h), beyond)
        _finish(iteration, c, j, last=j + 1 == m)
        if not c.index.size:
            return


def _finish(iteration: Iteration, c: Columns, j: int, last: bool) -> None:
    """Judge step j of a cycle: form x for the columns that leave the cycle and retire them."""
    diagonal = np.abs(np.diagonal(c.R, axis1=1, axis2=2)[:, : j + 1])
    c.singular = c.exhausted & (diagonal[:, j] <= np.finfo(diagonal.dtype).eps ** 0.75 * diagonal.max(axis=1))
    norms = np.where(c.singular, np.hypot(np.abs(c.g[:, j]), np.abs(c.g[:, j + 1])), np.abs(c.g[:, j + 1]))
    spent = iteration.steps[c.index] + 1 >= iteration.limit
    leaving = np.flatnonzero((norms <= iteration.target[c.index]) | c.exhausted | spent | last)
    if leaving.size:
        used = np.where(c.singular, j, j + 1)[leaving]
        y = np.zeros((leaving.size, j + 1), dtype=c.g.dtype)
        for row, column, size in zip(y, leaving, used):
            row[:size] = scipy.linalg.solve_triangular(c.R[column, :size, :size], c.g[column, :size], check_finite=False)
        update = (like(y, c.x)[:, None, :] @ c.V[leaving, : j + 1])[:, 0]
        c.x[leaving] += iteration.system.precondition(update)
    iteration.advance(norms, c)
    iteration.retire_where(c.singular, "singular", c)
    iteration.retire_where(c.exhausted | last, "restart", c)


def _orthogonalized(w, V):
    """Return the coefficients h (k, j) of w in the bases V (k, j, n), and w without them: Gram-Schmidt, twice."""
    h, w = _projected(w, V)
    again, w = _projected(w, V)
    return h + again, w


def _projected(w, V):
    h = conj((V @ conj(w)[..., None])[..., 0])
    return h, w - (h[:, None, :] @ V)[:, 0]


def _triangularize(c: Columns, j: int, h: np.ndarray, beyond: np.ndarray) -> None:
    """Append a column to the Hessenberg matrix: rotate it into R, extend G and g by the rotation that removes its last entry."""
    column = (c.G[:, : j + 1, : j + 1] @ h[..., None])[..., 0]
    last = column[:, j]
    length = np.hypot(np.abs(last), beyond)
    cos, sin = last / np.where(length > 0, length, 1), beyond / np.where(length > 0, length, 1)
    cos[length == 0] = 1
    c.R[:, :j, j], c.R[:, j, j] = column[:, :j], length
    for rows, width in ((c.G, slice(None)), (c.g[..., None], slice(None))):
        upper, lower = rows[:, j, width].copy(), rows[:, j + 1, width].copy()
        rows[:, j, width] = cos.conj()[:, None] * upper + sin[:, None] * lower
        rows[:, j + 1, width] = cos[:, None] * lower - sin[:, None] * upper
