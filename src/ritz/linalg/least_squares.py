"""Sparse least squares, through SciPy's LSMR.

Fong and Saunders, "LSMR: An Iterative Algorithm for Sparse Least-Squares Problems", SIAM J. Sci. Comput. 33(5), 2011, arXiv:1006.0758.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse.linalg

from ritz.core import array, integer, like, real, to_numpy, warn_not_converged
from ritz.linalg.krylov_system import KrylovResult, check_kinds, check_right_side, powers_of_two
from ritz.linalg.matrix_kinds import checked_matrix, on_host


def lsmr(A, b, *, damping: float = 0.0, preconditioner=None, x0=None, tol: float = 1e-6, max_iterations: int | None = None) -> KrylovResult:
    """Minimize ``||b - A x||^2 + damping^2 ||x||^2`` for A of any shape and rank.

    SciPy's `lsmr`, for all kinds of matrices of this room, column by column, preconditioned from the right.
    torch data are computed on the host.

    Parameters
    ----------
    A : array, sparse array, LinearOperator or torch tensor (m, n)
        Any matrix; an operator needs its adjoint.
    b : array (m,) or (m, k)
        Right-hand sides, torch if A is.
    damping : float
        Weight of ``||x||`` (with a preconditioner M: of ``||M^-1 x||``).
    preconditioner : as A, optional
        An invertible M (n, n): LSMR runs on A M, and ``x = M y``. With A M far better conditioned than A it needs far fewer steps.
    x0 : array (n,) or (n, k), optional
        Where to start; zero by default. Not with damping or a preconditioner.
    tol : float
        Stop at ``||A^H r|| <= tol ||A|| ||r||`` or ``||r|| <= tol (||A|| ||x|| + ||b||)`` (of the damped, preconditioned problem, norms as
        LSMR estimates them).
    max_iterations : int, optional
        Steps per column, ``10 max(m, n)`` by default.

    Returns
    -------
    KrylovResult
        `residual_norms` holds ``||b - A x||`` at the start and at the end, the last computed from x.

    Raises
    ------
    ValueError, TypeError
        If shapes do not fit, entries are not finite, torch meets NumPy, torch dtypes differ, or x0 comes with damping or a preconditioner.

    Warns
    -----
    ConvergenceWarning
        If a column did not converge.

    Notes
    -----
    Without enough rank the solution of least norm is found (from x0 = 0). One product with A and one with A^H per step.

    References
    ----------
    .. [1] Fong and Saunders, SIAM J. Sci. Comput. 33(5), 2011, arXiv:1006.0758.

    Examples
    --------
    >>> A = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]])
    >>> lsmr(A, np.array([1.0, 2.0, 3.0]), tol=1e-12).x.round(6)
    array([1., 1.])
    """
    A, M = checked_matrix(A, "A"), None if preconditioner is None else checked_matrix(preconditioner, "preconditioner")
    b = array(b, "b", ndim=(1, 2), allow_complex=True)
    check_right_side(A, b)
    check_kinds(A, "A", b)
    m, n = A.shape
    if M is not None:
        check_kinds(M, "preconditioner", b)
        if tuple(M.shape) != (n, n):
            raise ValueError(f"preconditioner must have shape ({n}, {n}), got {tuple(M.shape)}")
    damping, tol = real(damping, "damping", at_least=0), real(tol, "tol", at_least=0)
    limit = 10 * max(m, n) if max_iterations is None else integer(max_iterations, "max_iterations", at_least=1)
    if x0 is not None:
        x0 = array(x0, "x0", shape=(n, *b.shape[1:]), allow_complex=True)
        if M is not None or damping > 0:
            raise ValueError("x0 must be None with a preconditioner or damping: LSMR's would change the problem")
    result = _all_columns(A, M, b, x0, {"damp": damping, "atol": tol, "btol": tol, "conlim": 0, "maxiter": limit})
    if complaint := result.complaint("lsmr"):
        warn_not_converged(complaint)
    return result


def _all_columns(A, M, b, x0, options) -> KrylovResult:
    operator = scipy.sparse.linalg.aslinearoperator(on_host(A))
    right = None if M is None else scipy.sparse.linalg.aslinearoperator(on_host(M))
    acting = operator if right is None else operator @ right
    columns = to_numpy(b).reshape(b.shape[0], -1)
    scales = powers_of_two(columns.T)
    columns = columns / scales.astype(columns.real.dtype)
    starts = [None] * columns.shape[1] if x0 is None else list((to_numpy(x0).reshape(A.shape[1], -1) / scales).T)
    with np.errstate(over="ignore"):  # LSMR starts its estimate of the condition number beyond single precision
        found = [scipy.sparse.linalg.lsmr(acting, column, x0=start, **options) for column, start in zip(columns.T, starts)]
    xs = [solution[0] if right is None else right @ solution[0] for solution in found]
    firsts = [column if start is None else column - operator @ start for column, start in zip(columns.T, starts)]
    lasts = [column - operator @ x for column, x in zip(columns.T, xs)]
    norms = np.array([[np.linalg.norm(r) for r in firsts], [np.linalg.norm(r) for r in lasts]]) * scales
    reasons = tuple(_reason(solution[1], np.isfinite(norm)) for solution, norm in zip(found, norms[1]))
    steps = np.array([solution[2] for solution in found])
    dtype = np.result_type(operator.dtype, columns.dtype)
    x = like((np.stack(xs, axis=1) * scales).astype(dtype, copy=False), b)
    if b.ndim == 1:
        return KrylovResult(x[:, 0], reasons[0] == "converged", int(steps[0]), norms[:, 0], reasons[0])
    return KrylovResult(x, np.array([reason == "converged" for reason in reasons]), steps, norms, reasons)


def _reason(stop: int, finite: bool) -> str:
    """SciPy's istop in our words: 0, 1, 2 and 4, 5 are solutions, 3 and 6 give up on the condition number, 7 on the steps."""
    if not finite:
        return "breakdown"
    return {3: "ill_conditioned", 6: "ill_conditioned", 7: "max_iterations"}.get(stop, "converged")
