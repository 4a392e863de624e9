"""Nystrom approximation of a positive semidefinite matrix from one product with a random block.

Tropp, Yurtsever, Udell and Cevher, "Fixed-Rank Approximation of a Positive-Semidefinite Matrix from Streaming Data", NeurIPS 2017,
arXiv:1706.05736, algorithm 3: a shift of the size of rounding keeps the small factorization stable, and is taken off the eigenvalues again.
"""

from __future__ import annotations

import numpy as np

from ritz.core import integer, random_generator
from ritz.linalg.products import Products, adjoint, as_products
from ritz.linalg.randomized_svd import EigenApproximation, probed_residual, rank_within
from ritz.linalg.subspaces import tall_svd

NEGATIVE = 1e-3  # an eigenvalue of the core below minus this, relative to the largest, is no rounding


def nystrom(A, k: int, *, oversampling: int = 10, rng: np.random.Generator | int | None = None) -> EigenApproximation:
    """Return a rank-k approximation of a positive semidefinite matrix from a single product with a random block.

    ``A_nys = (A Omega) (Omega^H A Omega)^+ (A Omega)^H`` with an orthonormalized Gaussian Omega of ``k + oversampling`` columns, cut to its k
    leading eigenpairs. On average over Omega, for real A and oversampling p >= 2, the trace norm of the error is at most ``1 + k / (p - 1)``
    times the sum of the eigenvalues left out by the best rank-k approximation (theorem 4.1).

    Parameters
    ----------
    A : array, sparse array, LinearOperator or torch tensor (n, n)
        Symmetric or Hermitian positive semidefinite. Hermitian is checked with two random vectors; a clearly indefinite sample is refused.
    k : int
        The rank, at most n.
    oversampling : int
        Columns of the random block beyond k.
    rng : numpy.random.Generator or int, optional
        Where the random block comes from.

    Returns
    -------
    EigenApproximation
        Eigenvalues non-negative and descending. Each is at most the true one, up to rounding.

    Raises
    ------
    TypeError, ValueError
        If A is no finite Hermitian matrix, is seen to be indefinite, or an option is out of range.

    Notes
    -----
    One product with ``l = k + oversampling`` columns, one with 10 for the residual estimate, and ``O(n l^2)`` further operations.

    Examples
    --------
    >>> nystrom(np.diag([9.0, 4.0, 0.0, 0.0]), 2, oversampling=2, rng=0).eigenvalues
    array([9., 4.])
    """
    A = as_products(A, "A", hermitian=True)
    n = A.shape[0]
    k = rank_within(A, k)
    columns = min(k + integer(oversampling, "oversampling", at_least=0), n)
    rng = random_generator(rng)
    omega = A.xp.linalg.qr(A.gaussian(rng, n, columns))[0]
    values, vectors = _shifted_nystrom(A, omega, A.matmat(omega), k)
    return EigenApproximation(values, vectors, probed_residual(A, vectors, values, adjoint(vectors), rng), f"Nystrom, {columns} columns")


def _shifted_nystrom(A: Products, omega, Y, k: int):
    xp = A.xp
    size = float(xp.max(xp.abs(Y)))
    shift = A.shape[0] * A.eps
    Y = Y / (size or 1.0) + shift * omega
    core = adjoint(omega) @ Y
    values, Q = xp.linalg.eigh((core + adjoint(core)) / 2)
    if float(values[0]) < -NEGATIVE * float(xp.max(xp.abs(values))):
        low, high = float(values[0]) * size, float(values[-1]) * size
        raise ValueError(f"{A.name} must be positive semidefinite, got a sample of it with eigenvalues from {low:.3} to {high:.3}")
    roots = xp.sqrt(xp.clip(values, shift, None))
    U, s, _ = tall_svd(Y @ (Q / xp.astype(roots, A.dtype)[None, :]), k)
    return xp.clip(s**2 - shift, 0, None) * size, U
