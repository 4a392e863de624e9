"""The minimal residual method for Hermitian systems, indefinite and singular ones among them.

Problem: ``min ||b - A x||`` over x0 + span(r0, A r0, ..., A^(k-1) r0), by the Lanczos process and a QR factorization of its tridiagonal matrix.

Paige and Saunders, "Solution of Sparse Indefinite Systems of Linear Equations", SIAM J. Numer. Anal. 12(4), 1975.
"""

from __future__ import annotations

import math

from ritz.core import namespace, warn_not_converged
from ritz.linalg.krylov_system import Columns, Iteration, KrylovResult, linear_system, real_inner, row_norms


def minres(A, b, *, preconditioner=None, x0=None, tol: float = 1e-6, max_iterations: int | None = None) -> KrylovResult:
    """Solve ``A x = b`` for Hermitian A, definite or not, all right-hand sides at once.

    The counterpart of `scipy.sparse.linalg.minres`, for several right-hand sides, complex matrices and torch as well.

    Parameters
    ----------
    A : array, sparse array, LinearOperator or torch tensor (n, n)
        Hermitian, which it must prove on two fixed vectors.
    b : array (n,) or (n, k)
        Right-hand sides, torch if A is.
    preconditioner : as A, optional
        Hermitian positive *definite* M near the inverse of A, applied by multiplication. The residual is then minimal in the norm
        ``(r^H M r)^(1/2)``; the tolerance and the norms reported are Euclidean all the same.
    x0 : array like b, optional
        Where to start; zero by default. Where b is zero, the answer is zero whatever x0.
    tol : float
        Stop at ``||b - A x|| <= tol ||b||``.
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
        If a column did not converge; `reason` says why.

    Notes
    -----
    Singular A: if b is in the range of A, the iteration converges to a solution, from x0 = 0 and without preconditioner to the one of least
    norm (every iterate lies in the range of A). If b is not, it stops with reason "singular" where ``A (b - A x)`` vanishes to
    working precision: x then minimizes the residual, but need not be the shortest such vector.

    One product with A and one with M per step, about ten vector operations and eight vectors of memory per column. Gradients are not recorded.

    References
    ----------
    .. [1] Paige and Saunders, SIAM J. Numer. Anal. 12(4), 1975.

    Examples
    --------
    >>> import numpy as np
    >>> A = np.array([[0.0, 2.0], [2.0, 0.0]])
    >>> minres(A, np.array([2.0, 4.0])).x.round(6)
    array([2., 1.])
    """
    result = Iteration(linear_system(A, b, x0, preconditioner, hermitian=True), tol, max_iterations).run(_sweep)
    if complaint := result.complaint("minres"):
        warn_not_converged(complaint)
    return result


def _sweep(iteration: Iteration, columns: Columns) -> None:
    """MINRES from x with residual r until every column is retired.

    Names: u are the Lanczos vectors in the space of residuals, before normalization, z = M u, beta^2 = u^H z. The reflections [cos sin; sin -cos]
    reduce the tridiagonal matrix (alpha on, beta beside its diagonal) to an upper triangular one with the diagonals gamma, delta, epsilon; w are
    the directions that this factor leaves; phi is the norm of the residual (in the norm of M), size the Frobenius norm of the tridiagonal matrix.
    """
    system, xp, c = iteration.system, iteration.system.xp, columns
    negligible = float(xp.finfo(c.x.dtype).eps) ** 0.75
    c.u, c.z = xp.asarray(c.r, copy=True), system.precondition(c.r)
    c.squared = real_inner(c.u, c.z)
    iteration.retire_where(c.squared <= 0, "indefinite_preconditioner", c)
    c.beta = c.phi = xp.sqrt(c.squared)
    c.last_u, c.w, c.last_w = (xp.zeros_like(c.u) for _ in range(3))
    c.sin, c.last_beta, c.diagonal, c.epsilon, c.size = (xp.zeros_like(c.beta) for _ in range(5))
    c.cos = c.sin - 1
    while c.index.size:
        c.v = c.z / c.beta[:, None]
        product = system.multiply(c.v) - c.last_u * _ratio(c.beta, c.last_beta)[:, None]
        c.alpha = real_inner(c.v, product)
        c.last_u, c.u = c.u, product - (c.alpha / c.beta)[:, None] * c.u
        c.z = system.precondition(c.u)
        c.squared = real_inner(c.u, c.z)
        c.size = xp.sqrt(c.size**2 + c.alpha**2 + 2 * xp.abs(c.squared))
        iteration.retire_where(c.squared < -((negligible * c.size) ** 2), "indefinite_preconditioner", c)
        c.last_beta, c.beta = c.beta, xp.sqrt(xp.where(c.squared > 0, c.squared, xp.zeros_like(c.squared)))

        c.last_epsilon, c.delta, c.corner = c.epsilon, c.cos * c.diagonal + c.sin * c.alpha, c.sin * c.diagonal - c.cos * c.alpha
        c.epsilon, c.diagonal = c.sin * c.beta, -c.cos * c.beta
        c.gradient = xp.hypot(c.corner, c.diagonal)  # ||A r|| / phi for the residual before this step
        iteration.retire_where((c.gradient <= negligible * c.size) & (c.size < math.inf), "singular", c)
        if not c.index.size:
            return
        gamma = xp.hypot(c.corner, c.beta)
        c.cos, c.sin = c.corner / gamma, c.beta / gamma
        step, c.phi = c.cos * c.phi, c.sin * c.phi

        c.w, c.last_w = c.v - c.last_epsilon[:, None] * c.last_w - c.delta[:, None] * c.w, c.w
        c.w /= gamma[:, None]
        c.x += step[:, None] * c.w
        c.r = (c.sin**2)[:, None] * c.r - _ratio(c.phi * c.cos, c.beta)[:, None] * c.u
        iteration.advance(row_norms(c.r), c)


def _ratio(numerator, denominator):
    """The quotient, 0 where the denominator is."""
    xp = namespace(numerator)
    nonzero = denominator != 0
    return xp.where(nonzero, numerator / xp.where(nonzero, denominator, xp.ones_like(denominator)), xp.zeros_like(numerator))
