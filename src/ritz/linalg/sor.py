"""Successive over-relaxation, its best parameter and its iteration bound.

Problem: ``A x = b`` with A = D + L + L^T, by ``x <- x + (D / omega + L)^-1 (b - A x)``.
Residuals follow ``r <- C r`` with ``C = I - A (D / omega + L)^-1``.

Young, "Iterative Solution of Large Linear Systems", Academic Press 1971, chapters 4 to 6; the bound is that of Khodak et al., "Learning to Relax:
Setting Solver Parameters Across a Sequence of Linear System Instances", ICLR 2024, arXiv:2310.02246, section 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.sparse
from numba import njit

from ritz.core import Result, array, flag, integer, is_torch, like, real, sparse_matrix, to_numpy, warn_not_converged
from ritz.linalg.eigen import eigsh


@dataclass(frozen=True, eq=False, repr=False)
class IterativeSolve(Result):
    """What a stationary iteration returns.

    Attributes
    ----------
    x : array (n,)
        The last iterate, of the kind of b.
    converged : bool
        Whether the tolerance was reached.
    iterations : int
        Sweeps, or steps.
    residual_norms : array (iterations + 1,)
        ``||b - A x||`` at the start and after each.

    Examples
    --------
    >>> IterativeSolve(np.ones(2), True, 1, np.array([1.0, 0.0]))
    IterativeSolve(x=float64[2], converged=True, iterations=1, residual_norms=float64[2])
    """

    x: np.ndarray
    converged: bool
    iterations: int
    residual_norms: np.ndarray


def sor(A, b, *, omega: float = 1.5, x0=None, tol: float = 1e-8, maxiter: int = 10_000, symmetric: bool = False) -> IterativeSolve:
    """Solve ``A x = b`` by successive over-relaxation.

    Parameters
    ----------
    A : array, sparse array or torch tensor (n, n)
        Real, with a diagonal free of zeros. For a symmetric positive definite A it converges for every omega.
    b : array (n,)
        Torch if A is.
    omega : float
        Between 0 and 2; 1 is Gauss-Seidel's method. `optimal_omega` knows the best.
    x0 : array (n,), optional
        Where to start; zero by default.
    tol : float
        Stop when ``||b - A x|| < tol ||b - A x0||``, tested after each sweep.
    maxiter : int
        Sweeps at most.
    symmetric : bool
        Whether each sweep forward is followed by one backward (counted as one iteration).

    Returns
    -------
    IterativeSolve
        With the residual's norm after each sweep.

    Raises
    ------
    ValueError, TypeError
        If A is no explicit square real matrix, has a zero on its diagonal, shapes do not fit, or entries are not finite.

    Warns
    -----
    ConvergenceWarning
        If `maxiter` sweeps were not enough, or the iteration diverged.

    Notes
    -----
    A sweep and its test cost two passes over A (three if symmetric), on the host.

    References
    ----------
    .. [1] Khodak, Chow, Balcan and Talwalkar, ICLR 2024, arXiv:2310.02246, algorithm 1.

    Examples
    --------
    >>> A = np.array([[4.0, 1.0], [1.0, 3.0]])
    >>> found = sor(A, np.array([1.0, 2.0]), omega=1.05)
    >>> found.x.round(6), found.iterations
    (array([0.090909, 0.636364]), 7)
    """
    A, b, x0 = relaxation_system(A, b, x0)
    omega, tol = real(omega, "omega", above=0, below=2), real(tol, "tol", at_least=0)
    maxiter = integer(maxiter, "maxiter", at_least=1)
    x, norms = x0.copy(), np.empty(maxiter + 1)
    steps = sweeps(A.indptr, A.indices, A.data, A.diagonal(), to_numpy(b), x, omega, tol, flag(symmetric, "symmetric"), norms)
    norms = norms[: steps + 1]
    converged = bool(steps == 0 or norms[-1] < tol * norms[0])
    if not converged:
        warn_not_converged(f"sor did not converge in {steps} sweeps: ||b - A x|| is {norms[-1] / norms[0]:.3g} of its first value")
    return IterativeSolve(like(x, b), converged, int(steps), norms)


def optimal_omega(A) -> float:
    """Return the omega for which SOR converges fastest: ``1 + (beta / (1 + sqrt(1 - beta^2)))^2`` with beta the spectral radius of I - D^-1 A.

    Parameters
    ----------
    A : array, sparse array or torch tensor (n, n)
        Symmetric, with a positive diagonal, and such that Jacobi's method converges. It is the optimum if A is consistently ordered (five-point
        stencils, block tridiagonal matrices), and a guide else.

    Returns
    -------
    float
        At least 1, below 2.

    Raises
    ------
    ValueError, TypeError
        If A is not symmetric, its diagonal not positive, or beta not below 1.

    Notes
    -----
    One extreme eigenvalue by `eigsh`.

    References
    ----------
    .. [1] Young, Iterative Solution of Large Linear Systems, Academic Press 1971, section 6.2.

    Examples
    --------
    >>> round(optimal_omega(np.array([[2.0, -1.0], [-1.0, 2.0]])), 6)  # 2 / (1 + sin(pi / 3))
    1.071797
    """
    A = _symmetric(A)
    root = scipy.sparse.diags_array(1 / np.sqrt(A.diagonal()))
    jacobi = scipy.sparse.csr_array(scipy.sparse.eye_array(A.shape[0]) - root @ A @ root)
    beta = float(abs(eigsh(jacobi, 1, which="magnitude", tol=1e-11, rng=0).eigenvalues[0]))
    if beta >= 1:
        raise ValueError(f"A must be such that Jacobi's method converges, got a spectral radius of I - D^-1 A of {beta:.6g}")
    return 1 + (beta / (1 + math.sqrt(1 - beta**2))) ** 2


def sor_iteration_bound(A, omega, tol: float):
    """Return a bound on SOR's sweeps to ``||r|| <= tol ||r0||``, whatever b: ``1 + log tol / log(rho + tau (1 - rho))``.

    rho is the spectral radius of C. With k the least power for which ``||C^k|| <= tol``, tau is the largest
    ``(||C^(k - 1)||^(1 / (k - 1)) - rho) / (1 - rho)`` over the given omegas: how far the iteration is from its asymptotic rate when it stops.

    Parameters
    ----------
    A : array, sparse array or torch tensor (n, n)
        Symmetric positive definite.
    omega : float or array (m,)
        Between 0 and 2. One tau serves all of them, so that the bound, as a function of omega, is as smooth as the theory wants it.
    tol : float
        Between 0 and 1.

    Returns
    -------
    float or array (m,)
        Of the shape of `omega`.

    Raises
    ------
    ValueError, TypeError
        If A is not symmetric, its diagonal is not positive, SOR does not converge, or an omega is out of range.

    Notes
    -----
    Costs ``O(n^3 log(iterations))`` per omega, dense.

    References
    ----------
    .. [1] Khodak et al., ICLR 2024, arXiv:2310.02246, section 2.1: near-asymptotic bound; tau there is defined by the sweeps for one b.

    Examples
    --------
    >>> A = np.array([[2.0, -1.0], [-1.0, 2.0]])
    >>> sor_iteration_bound(A, 1.0, 1e-8) >= sor(A, np.array([1.0, 0.0]), omega=1.0).iterations
    True
    """
    A = _symmetric(A).toarray()
    omegas, tol = omega_values(omega), real(tol, "tol", above=0, below=1)
    D, L = np.diag(np.diagonal(A)), np.tril(A, -1)
    radii, excess = np.empty(len(omegas)), np.empty(len(omegas))
    for i, w in enumerate(omegas):
        C = np.eye(len(A)) - np.linalg.solve((D / w + L).T, A).T
        radii[i] = np.abs(np.linalg.eigvals(C)).max()
        if radii[i] >= 1:
            raise ValueError(f"A must be positive definite for SOR to converge, got a spectral radius of {radii[i]:.6g} at omega = {w:g}")
        excess[i] = (_rate_when_done(C, tol) - radii[i]) / (1 - radii[i])
    bound = 1 + np.log(tol) / np.log(radii + max(excess.max(), 0) * (1 - radii))
    return float(bound[0]) if np.ndim(omega) == 0 else bound


def omega_values(omega) -> np.ndarray:
    """Check one omega or several, and return them as an array (m,)."""
    if np.ndim(omega) == 0:
        return np.array([real(omega, "omega", above=0, below=2)])
    omegas = to_numpy(array(omega, "omega", ndim=1))
    if omegas.min() <= 0 or omegas.max() >= 2:
        raise ValueError(f"omega must be between 0 and 2, got {omegas.min():g} to {omegas.max():g}")
    return omegas


def relaxation_system(A, b, x0) -> tuple:
    """Check a system for the methods that sweep over rows: A as CSR and x0 as an array of one dtype, b as it came."""
    if is_torch(A) != is_torch(b):
        raise TypeError(f"A and b must both be torch or both not, got {type(A).__name__} and {type(b).__name__}")
    A = sparse_matrix(A, "A", square=True)
    if A.shape[0] == 0:
        raise ValueError("A must not be empty, got shape (0, 0)")
    zeros = int((A.diagonal() == 0).sum())
    if zeros:
        raise ValueError(f"A must have no zeros on its diagonal, got {zeros} of {A.shape[0]}")
    b = array(b, "b", shape=(A.shape[0],))
    dtype = to_numpy(b).dtype if is_torch(b) else np.result_type(A.dtype, b.dtype)
    x0 = np.zeros(A.shape[0], dtype=dtype) if x0 is None else to_numpy(array(x0, "x0", shape=(A.shape[0],))).astype(dtype)
    return A.astype(dtype, copy=False), b if is_torch(b) else b.astype(dtype, copy=False), x0


def _symmetric(A) -> scipy.sparse.csr_array:
    A = sparse_matrix(A, "A", square=True)
    if A.shape[0] == 0:
        raise ValueError("A must not be empty, got shape (0, 0)")
    if A.nnz and abs(A - A.T).max() > 1e-8 * abs(A).max():
        raise ValueError("A must be symmetric")
    if A.diagonal().min() <= 0:
        raise ValueError(f"A must have a positive diagonal, got a smallest entry of {A.diagonal().min():g}")
    return A


def _rate_when_done(C: np.ndarray, tol: float) -> float:
    """``||C^(k - 1)||^(1 / (k - 1))`` for the least k with ``||C^k|| <= tol``, found by squaring and halving; 0 where k = 1."""
    powers = [C]
    while np.linalg.norm(powers[-1], 2) > tol:
        powers.append(powers[-1] @ powers[-1])
    reached, below = 0, np.eye(len(C))
    for exponent in range(len(powers) - 1, -1, -1):
        further = below @ powers[exponent]
        if np.linalg.norm(further, 2) > tol:
            reached, below = reached + 2**exponent, further
    return np.linalg.norm(below, 2) ** (1 / reached) if reached else 0.0


@njit(cache=True, nogil=True)
def sweeps(indptr, indices, values, diagonal, b, x, omega, tol, symmetric, norms):
    """Sweep over x in place until ``||b - A x|| < tol`` times its first value, at most ``len(norms) - 1`` times; return how often."""
    norms[0] = _residual_norm(indptr, indices, values, b, x)
    if norms[0] == 0:
        return 0
    factors = omega / diagonal
    for step in range(1, len(norms)):
        forward_sweep(indptr, indices, values, factors, b, x)
        if symmetric:
            _backward_sweep(indptr, indices, values, factors, b, x)
        norms[step] = _residual_norm(indptr, indices, values, b, x)
        if norms[step] < tol * norms[0] or not np.isfinite(norms[step]):
            return step
    return len(norms) - 1


@njit(cache=True, nogil=True, fastmath={"contract", "nsz"})
def forward_sweep(indptr, indices, values, factors, b, x):
    """One sweep from the first row to the last; `factors` are omega over the diagonal."""
    for row in range(len(x)):
        rest = b[row]
        for e in range(np.uint64(indptr[row]), np.uint64(indptr[row + 1])):
            rest -= values[e] * x[np.uint64(indices[e])]
        x[row] += factors[row] * rest


@njit(cache=True, nogil=True, fastmath={"contract", "nsz"})
def _backward_sweep(indptr, indices, values, factors, b, x):
    for row in range(len(x) - 1, -1, -1):
        rest = b[row]
        for e in range(np.uint64(indptr[row]), np.uint64(indptr[row + 1])):
            rest -= values[e] * x[np.uint64(indices[e])]
        x[row] += factors[row] * rest


@njit(cache=True, nogil=True, fastmath={"contract", "nsz", "reassoc"})
def _residual_norm(indptr, indices, values, b, x):
    total = 0.0
    for row in range(len(x)):
        rest = b[row]
        for e in range(np.uint64(indptr[row]), np.uint64(indptr[row + 1])):
            rest -= values[e] * x[np.uint64(indices[e])]
        total += rest * rest
    return np.sqrt(total)
