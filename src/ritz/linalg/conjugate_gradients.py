"""The method of conjugate gradients for Hermitian positive definite systems.

Problem: ``A x = b``. The iterate k minimizes the error in the A-norm over x0 + span(r0, A r0, ..., A^(k-1) r0), by a three-term recurrence.

Hestenes and Stiefel, "Methods of Conjugate Gradients for Solving Linear Systems", J. Res. Nat. Bur. Standards 49, 1952; preconditioned as in
Saad, "Iterative Methods for Sparse Linear Systems", 2nd edition, SIAM 2003, algorithm 9.1.
"""

from __future__ import annotations

import numpy as np

from ritz.core import to_numpy, warn_not_converged
from ritz.linalg.krylov_system import Columns, Iteration, KrylovResult, linear_system, real_inner
from ritz.linalg.row_updates import descend, redirect


def cg(A, b, *, preconditioner=None, x0=None, tol: float = 1e-6, max_iterations: int | None = None) -> KrylovResult:
    """Solve ``A x = b`` for Hermitian positive definite A, all right-hand sides at once.

    The counterpart of `scipy.sparse.linalg.cg`, for several right-hand sides, complex matrices and torch as well.

    Parameters
    ----------
    A : array, sparse array, LinearOperator or torch tensor (n, n)
        Hermitian and positive definite. Hermitian it must prove on two fixed vectors; a direction of negative curvature, once met, ends the
        iteration with the reason "indefinite".
    b : array (n,) or (n, k)
        Right-hand sides, torch if A is. Each column has its own step lengths and leaves when it is done; one product serves all that are left.
    preconditioner : as A, optional
        Hermitian positive definite M near the inverse of A, applied by multiplication.
    x0 : array like b, optional
        Where to start; zero by default. Where b is zero, the answer is zero whatever x0.
    tol : float
        Stop at ``||b - A x|| <= tol ||b||``. What a precision can reach is about its epsilon times ``||A|| ||x|| / ||b||``.
    max_iterations : int, optional
        Steps per column, ``10 n`` by default.

    Returns
    -------
    KrylovResult
        `x` like b. Its last residual norms are computed from x.

    Raises
    ------
    ValueError, TypeError
        If shapes do not fit, entries are not finite, A or the preconditioner is not Hermitian, torch meets NumPy, or torch dtypes differ.

    Warns
    -----
    ConvergenceWarning
        If a column did not converge; `reason` says why. Its x is the iterate before things went wrong.

    Notes
    -----
    One product with A and one with M per step, five vector operations and four vectors of memory per column, two more products for the
    test of symmetry. A singular consistent system converges too, to the solution nearest to x0. Gradients are not recorded.

    References
    ----------
    .. [1] Saad, Iterative Methods for Sparse Linear Systems, 2nd edition, SIAM 2003, algorithm 9.1.

    Examples
    --------
    >>> import numpy as np
    >>> A = np.array([[4.0, 1.0], [1.0, 3.0]])
    >>> result = cg(A, np.array([1.0, 2.0]), tol=1e-12)
    >>> result.x.round(6), result.iterations
    (array([0.090909, 0.636364]), 2)
    """
    result = Iteration(linear_system(A, b, x0, preconditioner, hermitian=True), tol, max_iterations).run(descend_conjugately)
    if complaint := result.complaint("cg"):
        warn_not_converged(complaint)
    return result


def descend_conjugately(iteration: Iteration, columns: Columns) -> None:
    """Conjugate gradients from x with residual r until every column is retired."""
    system, c = iteration.system, columns
    z = system.precondition(c.r)
    c.rho = real_inner(c.r, z)
    c.p = system.xp.asarray(z, copy=True)
    iteration.retire_where(c.rho <= 0, "indefinite_preconditioner", c)
    while c.index.size:
        c.q = system.multiply(c.p)
        c.curvature = real_inner(c.p, c.q)
        iteration.retire_where(c.curvature <= 0, "indefinite", c)
        if not c.index.size:
            return
        c.squares = descend(c.x, c.r, c.p, c.q, c.rho / c.curvature)
        iteration.advance(np.sqrt(to_numpy(c.squares)), c)
        z = system.precondition(c.r)
        c.rho, previous = c.squares if z is c.r else real_inner(c.r, z), c.rho
        redirect(c.p, c.rho / previous, z)
        iteration.retire_where(c.rho <= 0, "indefinite_preconditioner", c)
