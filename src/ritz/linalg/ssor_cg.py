"""Conjugate gradients preconditioned by symmetric successive over-relaxation, and the bound on their steps as a function of omega.

Khodak et al., "Learning to Relax: Setting Solver Parameters Across a Sequence of Linear System Instances", ICLR 2024, arXiv:2310.02246, section 4;
the bound is that of Axelsson, "Iterative Solution Methods", Cambridge University Press 1994, theorem 7.17.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ritz.core import integer, like, real, symmetric_matrix, to_numpy, warn_not_converged
from ritz.linalg.conjugate_gradients import descend_conjugately
from ritz.linalg.krylov_system import Iteration, KrylovResult, linear_system
from ritz.linalg.preconditioners import SSORPreconditioner, ssor
from ritz.linalg.sor import IterativeSolve, omega_values, relaxation_system


def ssor_preconditioner(A, omega: float) -> SSORPreconditioner:
    """Return the inverse of ``omega / (2 - omega) (D / omega + L) D^-1 (D / omega + L^T)``: `ssor` with its omega by the field's letter.

    Parameters
    ----------
    A : array or sparse array (n, n)
        With a diagonal free of zeros.
    omega : float
        Between 0 and 2.

    Returns
    -------
    SSORPreconditioner
        An operator, symmetric positive definite where A is.

    Raises
    ------
    ValueError, TypeError
        As `ssor`.

    Examples
    --------
    >>> ssor_preconditioner(np.array([[2.0, 0.0], [0.0, 4.0]]), 1.0) @ np.array([2.0, 4.0])
    array([1., 1.])
    """
    return ssor(A, relaxation=real(omega, "omega", above=0, below=2))


def pcg(A, b, M=None, *, x0=None, tol: float = 1e-8, maxiter: int = 10_000) -> KrylovResult:
    """Solve ``A x = b`` by preconditioned conjugate gradients: `cg` with SciPy's names and the defaults of the sequence solvers.

    Parameters
    ----------
    A : array, sparse array, LinearOperator or torch tensor (n, n)
        Hermitian positive definite.
    b : array (n,) or (n, k)
        Right-hand sides.
    M : as A, optional
        Hermitian positive definite, near the inverse of A.
    x0 : array like b, optional
        Where to start; zero by default.
    tol : float
        Stop at ``||b - A x|| <= tol ||b||``.
    maxiter : int
        Steps per column.

    Returns
    -------
    KrylovResult
        As `cg`.

    Raises
    ------
    ValueError, TypeError
        As `cg`.

    Examples
    --------
    >>> A = np.array([[4.0, 1.0], [1.0, 3.0]])
    >>> pcg(A, np.array([1.0, 2.0]), ssor_preconditioner(A, 1.2)).x.round(6)
    array([0.090909, 0.636364])
    """
    maxiter = integer(maxiter, "maxiter", at_least=1)
    result = Iteration(linear_system(A, b, x0, M, hermitian=True, name="M"), tol, maxiter).run(descend_conjugately)
    if complaint := result.complaint("pcg"):
        warn_not_converged(complaint)
    return result


def ssor_cg(A, b, *, omega: float = 1.5, x0=None, tol: float = 1e-8, maxiter: int = 10_000) -> IterativeSolve:
    """Solve ``A x = b`` by conjugate gradients with the SSOR preconditioner, in one compiled loop: for many small systems.

    Parameters
    ----------
    A : array, sparse array or torch tensor (n, n)
        Symmetric positive definite, with real entries; only its lower triangle preconditions.
    b : array (n,)
        Torch if A is.
    omega : float
        Between 0 and 2.
    x0 : array (n,), optional
        Where to start; zero by default.
    tol : float
        Stop when ``||b - A x|| <= tol ||b||``.
    maxiter : int
        Steps at most.

    Returns
    -------
    IterativeSolve
        With the recurrence's residual norms.

    Raises
    ------
    ValueError, TypeError
        If A is no explicit square real matrix, has a zero on its diagonal, shapes do not fit, or entries are not finite.

    Warns
    -----
    ConvergenceWarning
        If `maxiter` steps were not enough, or a direction of negative curvature was met: A is not positive definite then.

    Notes
    -----
    A step costs one product with A and two triangular solves. It is `pcg` with `ssor_preconditioner` without their checks at each call.

    References
    ----------
    .. [1] Khodak et al., ICLR 2024, arXiv:2310.02246, section 4.

    Examples
    --------
    >>> A = np.array([[4.0, 1.0], [1.0, 3.0]])
    >>> found = ssor_cg(A, np.array([1.0, 2.0]), omega=1.2)
    >>> found.x.round(6), found.iterations
    (array([0.090909, 0.636364]), 2)
    """
    A, b, x0 = relaxation_system(A, b, x0)
    omega, tol = real(omega, "omega", above=0, below=2), real(tol, "tol", at_least=0)
    norms = np.empty(integer(maxiter, "maxiter", at_least=1) + 1)
    right, x = to_numpy(b), x0.copy()
    target = tol * float(np.linalg.norm(right))
    steps = _conjugate_gradients(A.indptr, A.indices, A.data, A.diagonal(), right, x, omega, target, norms)
    norms = norms[: steps + 1]
    converged = bool(norms[-1] <= target)
    if not converged:
        warn_not_converged(f"ssor_cg did not converge in {steps} steps: ||b - A x|| is {norms[-1]:.3g}, the target {target:.3g}")
    return IterativeSolve(like(x, b), converged, int(steps), norms)


def ssor_cg_iteration_bound(A, omega, tol: float):
    """Return a bound on the steps of SSOR-preconditioned conjugate gradients to ``||r|| <= tol ||r0||``, from the condition number.

    With kappa the condition number of A, alpha the largest eigenvalue of D A^-1 and beta that of (L D^-1 L^T - D / 4) A^-1, the preconditioned
    matrix has condition number at most ``(1 + (2 - omega)^2 alpha / (4 omega) + omega beta) / (2 - omega)``.

    Parameters
    ----------
    A : array, sparse array or torch tensor (n, n)
        Symmetric positive definite.
    omega : float or array (m,)
        Between 0 and 2.
    tol : float
        Between 0 and 1.

    Returns
    -------
    float or array (m,)
        Of the shape of `omega`.

    Raises
    ------
    ValueError, TypeError
        If A is not symmetric positive definite or an omega is out of range.

    Notes
    -----
    Costs ``O(n^3)``, dense.

    References
    ----------
    .. [1] Axelsson, Iterative Solution Methods, Cambridge University Press 1994, theorem 7.17.

    Examples
    --------
    >>> A = np.array([[4.0, 1.0], [1.0, 3.0]])
    >>> ssor_cg_iteration_bound(A, 1.2, 1e-8) >= ssor_cg(A, np.ones(2), omega=1.2).iterations
    True
    """
    A = symmetric_matrix(to_numpy(A, "A"), "A")
    omegas, tol = omega_values(omega), real(tol, "tol", above=0, below=1)
    eigenvalues = np.linalg.eigvalsh(A)
    if eigenvalues[0] <= 0:
        raise ValueError(f"A must be positive definite, got a smallest eigenvalue of {eigenvalues[0]:g}")
    kappa, diagonal, L = eigenvalues[-1] / eigenvalues[0], np.diagonal(A), np.tril(A, -1)
    alpha = np.linalg.eigvals(np.linalg.solve(A, np.diag(diagonal)).T).real.max()
    beta = np.linalg.eigvals(np.linalg.solve(A, (L / diagonal) @ L.T - np.diag(diagonal) / 4).T).real.max()
    condition = (1 + (2 - omegas) ** 2 / (4 * omegas) * alpha + omegas * beta) / (2 - omegas)
    factor = 1 - 2 / (1 + np.sqrt(np.maximum(condition, 1)))
    with np.errstate(divide="ignore"):
        bound = 1 + np.log(np.sqrt(kappa) / tol + np.sqrt(kappa / tol**2 - 1)) / -np.log(factor)
    return float(bound[0]) if np.ndim(omega) == 0 else bound


@njit(cache=True, nogil=True, fastmath={"contract", "nsz", "reassoc"})
def _conjugate_gradients(indptr, indices, values, diagonal, b, x, omega, target, norms):
    """Iterate on x in place until the residual's norm is at most `target`; return the number of steps, at most ``len(norms) - 1``."""
    r, q, z = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    _multiply(indptr, indices, values, x, q)
    r[:] = b - q
    norms[0] = np.sqrt(np.dot(r, r))
    if norms[0] <= target:
        return 0
    _precondition(indptr, indices, values, diagonal, r, z, omega)
    p, rho = z.copy(), np.dot(r, z)
    for step in range(1, len(norms)):
        _multiply(indptr, indices, values, p, q)
        curvature = np.dot(p, q)
        if not curvature > 0:
            return step - 1
        alpha = rho / curvature
        x += alpha * p
        r -= alpha * q
        norms[step] = np.sqrt(np.dot(r, r))
        if norms[step] <= target:
            return step
        _precondition(indptr, indices, values, diagonal, r, z, omega)
        previous, rho = rho, np.dot(r, z)
        p *= rho / previous
        p += z
    return len(norms) - 1


@njit(cache=True, nogil=True, fastmath={"contract", "nsz", "reassoc"})
def _multiply(indptr, indices, values, x, product):
    for row in range(len(x)):
        total = x[0] * 0
        for e in range(np.uint64(indptr[row]), np.uint64(indptr[row + 1])):
            total += values[e] * x[np.uint64(indices[e])]
        product[row] = total


@njit(cache=True, nogil=True, fastmath={"contract", "nsz", "reassoc"})
def _precondition(indptr, indices, values, diagonal, r, z, omega):
    """``z = (2 - omega) / omega (D / omega + U)^-1 D (D / omega + L)^-1 r``, with U the strict upper triangle."""
    for row in range(len(r)):
        rest = r[row]
        for e in range(indptr[row], indptr[row + 1]):
            if indices[e] >= row:
                break  # column indices are sorted
            rest -= values[e] * z[indices[e]]
        z[row] = rest * omega / diagonal[row]
    scale = (2 - omega) / omega
    for row in range(len(r) - 1, -1, -1):
        rest = scale * diagonal[row] * z[row]
        for e in range(indptr[row + 1] - 1, indptr[row] - 1, -1):
            if indices[e] <= row:
                break
            rest -= values[e] * z[indices[e]]
        z[row] = rest * omega / diagonal[row]
