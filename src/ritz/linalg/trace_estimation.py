"""Trace, log-determinant and diagonal of a matrix known by its products, from random probes, with standard errors.

- Hutchinson's estimator: Hutchinson, Commun. Stat. Simul. Comput. 18 (1989).
- Hutch++: Meyer, Musco, Musco and Woodruff, "Hutch++: Optimal Stochastic Trace Estimation", SOSA 2021, arXiv:2010.09649, algorithm 1.
- Stochastic Lanczos quadrature: Ubaru, Chen and Saad, "Fast Estimation of tr(f(A)) via Stochastic Lanczos Quadrature", SIAM J. Matrix Anal. Appl.
  38 (2017).
- Diagonal: Bekas, Kokiopoulou and Saad, "An Estimator for the Diagonal of a Matrix", Appl. Numer. Math. 57 (2007).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ritz.core import Result, integer, random_generator
from ritz.linalg.lanczos_process import Lanczos
from ritz.linalg.products import Products, adjoint, as_products


@dataclass(frozen=True, eq=False, repr=False)
class StochasticEstimate(Result):
    """An estimate from independent random probes.

    Attributes
    ----------
    value : float, complex or array
        The mean over the probes; complex for complex matrices that need not be Hermitian.
    standard_error : float or array
        Of the mean over the probes, from their scatter; zero where the probes agree.
    matvecs : int
        Products of A with single vectors.
    """

    value: float | complex | np.ndarray
    standard_error: float | np.ndarray
    matvecs: int


def hutchinson_trace(A, *, probes: int = 30, rng: np.random.Generator | int | None = None) -> StochasticEstimate:
    """Estimate the trace of a square matrix by the mean of ``z^T A z`` over random sign vectors z.

    Unbiased, with variance ``2 (||S||_F^2 - |diag A|^2) / probes`` for a real A with symmetric part S: exact for diagonal matrices.

    Parameters
    ----------
    A : array, sparse array, LinearOperator or torch tensor (n, n)
        Need not be symmetric.
    probes : int
        Products with vectors, at least 2.
    rng : numpy.random.Generator or int, optional
        Where the signs come from.

    Returns
    -------
    StochasticEstimate
        A float, or complex for complex A.

    Raises
    ------
    TypeError, ValueError
        If A is no finite square matrix, or an option is out of range.

    Examples
    --------
    >>> hutchinson_trace(np.diag([1.0, 2.0]), rng=0).value
    3.0
    """
    A = as_products(A, "A", square=True)
    probes = integer(probes, "probes", at_least=2)
    return _mean(A, _quadratic_forms(A, A.signs(random_generator(rng), A.shape[0], probes)), 0.0, probes)


def hutchpp_trace(A, *, matvecs: int = 60, rng: np.random.Generator | int | None = None) -> StochasticEstimate:
    """Estimate the trace of a square matrix by Hutch++: exactly on a random range, by Hutchinson on what is left.

    A third of the products finds an orthonormal Q for the range of A times random signs, a third gives ``tr(Q^H A Q)``, a third probes
    ``(I - Q Q^H) A (I - Q Q^H)``. For positive semidefinite A the error falls as 1 / matvecs instead of its root; unbiased for all A.

    Parameters
    ----------
    A : array, sparse array, LinearOperator or torch tensor (n, n)
        Need not be symmetric.
    matvecs : int
        Products with vectors in all, at least 6; rounded down to a multiple of 3.
    rng : numpy.random.Generator or int, optional
        Where the signs come from.

    Returns
    -------
    StochasticEstimate
        The standard error is that of the probed rest, given Q. Exact, with standard error 0, where matvecs reaches ``3 n``.

    Raises
    ------
    TypeError, ValueError
        If A is no finite square matrix, or an option is out of range.

    Examples
    --------
    >>> v = np.arange(5.0)
    >>> round(hutchpp_trace(np.outer(v, v), matvecs=6, rng=0).value, 6)
    30.0
    """
    A = as_products(A, "A", square=True)
    third = integer(matvecs, "matvecs", at_least=6) // 3
    rng, n = random_generator(rng), A.shape[0]
    if third >= n:
        whole = A.matmat(A.asarray(np.eye(n)))
        return StochasticEstimate(_scalar(A, A.xp.linalg.trace(whole)), 0.0, n)
    Q = A.xp.linalg.qr(A.matmat(A.signs(rng, n, third)))[0]
    captured = A.xp.sum(_quadratic_forms(A, Q))
    probes = A.signs(rng, n, third)
    return _mean(A, _quadratic_forms(A, probes - Q @ (adjoint(Q) @ probes)), _scalar(A, captured), 3 * third)


def logdet(A, *, probes: int = 30, steps: int = 50, rng: np.random.Generator | int | None = None) -> StochasticEstimate:
    """Estimate ``log det A = tr log A`` of a positive definite matrix by stochastic Lanczos quadrature.

    For every random sign vector z, ``z^T log(A) z`` is the Gauss quadrature ``n sum_i tau_i^2 log theta_i`` of a Lanczos process from z.

    Parameters
    ----------
    A : array, sparse array, LinearOperator or torch tensor (n, n)
        Symmetric or Hermitian positive definite; Hermitian is checked with two random vectors.
    probes : int
        Random vectors, at least 2; all advance together.
    steps : int
        Lanczos steps at most. The quadrature's error, a bias towards larger values that the standard error does not show, decays like
        ``((sqrt(c) - 1) / (sqrt(c) + 1))^(2 steps)`` with the condition number c.
    rng : numpy.random.Generator or int, optional
        Where the signs come from.

    Returns
    -------
    StochasticEstimate
        A float, whatever the dtype.

    Raises
    ------
    TypeError, ValueError
        If A is no finite Hermitian matrix, a Ritz value is not positive, or an option is out of range.

    Notes
    -----
    Memory ``n probes steps`` numbers, ``2 n probes steps^2`` operations beside the products.

    Examples
    --------
    >>> found = logdet(np.diag([1.0, 2.0, 4.0]), rng=0)
    >>> bool(np.isclose(found.value, np.log(8.0)))
    True
    """
    A = as_products(A, "A", hermitian=True)
    probes, steps = integer(probes, "probes", at_least=2), integer(steps, "steps", at_least=1)
    process = Lanczos(A, A.signs(random_generator(rng), A.shape[0], probes))
    while process.steps < min(steps, A.shape[0]) and not process.exhausted:
        process.advance()
    nodes, vectors = A.xp.linalg.eigh(process.tridiagonal())
    if float(A.xp.min(nodes)) <= 0:
        raise ValueError(f"A must be positive definite, got a Ritz value {float(A.xp.min(nodes)):.3}")
    forms = A.shape[0] * A.xp.sum(vectors[:, 0, :] ** 2 * A.xp.log(nodes), axis=1)
    return _mean(A, forms, 0.0, probes * process.steps)


def diagonal(A, *, probes: int = 100, rng: np.random.Generator | int | None = None) -> StochasticEstimate:
    """Estimate the diagonal of a square matrix by the mean of ``z * (A z)`` over random sign vectors z.

    Unbiased; the variance of entry i is the sum of ``|a_ij|^2`` over j != i (for symmetric or other A) divided by the probes.

    Parameters
    ----------
    A : array, sparse array, LinearOperator or torch tensor (n, n)
        Need not be symmetric.
    probes : int
        Products with vectors, at least 2.
    rng : numpy.random.Generator or int, optional
        Where the signs come from.

    Returns
    -------
    StochasticEstimate
        Value and standard error (n,), of A's kind and device.

    Raises
    ------
    TypeError, ValueError
        If A is no finite square matrix, or an option is out of range.

    Examples
    --------
    >>> diagonal(np.diag([1.0, 2.0]), probes=2, rng=0).value
    array([1., 2.])
    """
    A = as_products(A, "A", square=True)
    probes = integer(probes, "probes", at_least=2)
    Z = A.signs(random_generator(rng), A.shape[0], probes)
    samples = Z * A.matmat(Z)
    mean = A.xp.mean(samples, axis=1)
    error = A.xp.linalg.vector_norm(samples - mean[:, None], axis=1) / math.sqrt(probes * (probes - 1))
    return StochasticEstimate(mean, error, probes)


def _quadratic_forms(A: Products, Z):
    """``z^H A z`` for every column of Z."""
    return A.xp.sum((A.xp.conj(Z) if A.is_complex else Z) * A.matmat(Z), axis=0)


def _mean(A: Products, samples, offset: float | complex, matvecs: int) -> StochasticEstimate:
    """The mean of the samples beside what is known, and its standard error."""
    count = samples.shape[0]
    mean = A.xp.mean(samples)
    error = float(A.xp.linalg.vector_norm(samples - mean)) / math.sqrt(count * (count - 1))
    return StochasticEstimate(offset + _scalar(A, mean), error, matvecs)


def _scalar(A: Products, value) -> float | complex:
    return complex(value) if A.xp.isdtype(value.dtype, "complex floating") else float(value)
