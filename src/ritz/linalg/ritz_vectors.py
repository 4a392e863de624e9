"""Training residuals for a direction network: random combinations of approximate eigenvectors, with more weight on the low end of the spectrum.

Kaneda et al., "A Deep Conjugate Direction Method for Iteratively Solving Linear Systems", ICML 2023, arXiv:2205.10763, section 4.2.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg

from ritz.core import integer, random_generator, real, to_numpy
from ritz.linalg.lanczos_process import Lanczos
from ritz.linalg.products import Products, as_products

NULL = 1e-8  # Ritz values below this fraction of the largest count as zero


def ritz_training_vectors(A, count: int, m: int, *, theta: int, low_weight: float = 9.0, rng: np.random.Generator | int | None = None):
    """Draw random unit vectors rich in the eigenvectors of A's small eigenvalues.

    m steps of the Lanczos process from A times a Gaussian vector give Ritz pairs; a vector is sum c_i q_i / ||.|| with independent normal c_i,
    whose deviation is `low_weight` for the lower m / 2 + `theta` Ritz values but those that are zero, and 1 for the others.

    Parameters
    ----------
    A : array, sparse array, LinearOperator or torch tensor (n, n)
        Real, symmetric, positive semidefinite.
    count : int
        How many vectors.
    m : int
        Steps of the Lanczos process, at most n; fewer are taken where the Krylov space is exhausted before.
    theta : int
        By how much more than half of the Ritz vectors have the larger weight, from 0 to m / 2.
    low_weight : float
        The larger weight.
    rng : Generator, int or None
        Of the start and of the coefficients.

    Returns
    -------
    array (count, n)
        Of the kind and dtype of A. Ritz vectors of zero Ritz values (below 1e-8 of the largest) are left out: residuals of singular systems lie in
        the range.

    Raises
    ------
    ValueError, TypeError
        If A is not symmetric, or a number is out of range.

    Notes
    -----
    m products with A and O(m^2 n) for full reorthogonalization.

    References
    ----------
    .. [1] Kaneda et al., ICML 2023, arXiv:2205.10763, section 4.2.

    Examples
    --------
    >>> A = np.diag(np.arange(1.0, 11.0))
    >>> r = ritz_training_vectors(A, 1000, 10, theta=0, rng=0)
    >>> r.shape, bool((r[:, :5] ** 2).sum() > 10 * (r[:, 5:] ** 2).sum())
    ((1000, 10), True)
    """
    products = real_symmetric_products(A)
    count = integer(count, "count", at_least=1)
    rng, m = random_generator(rng), integer(m, "m", at_least=1)
    if m > products.shape[0]:
        raise ValueError(f"m must be at most the {products.shape[0]} rows of A, got {m}")
    values, vectors = ritz_pairs(products, m, rng)
    weights = ritz_weights(values, integer(theta, "theta", at_least=0, at_most=m // 2), real(low_weight, "low_weight", above=0))
    combined = products.asarray(rng.standard_normal((count, len(values))) * weights) @ vectors
    return combined / products.xp.linalg.vector_norm(combined, axis=1, keepdims=True)


def real_symmetric_products(A) -> Products:
    """The products of a real symmetric matrix of any kind."""
    products = as_products(A, "A", hermitian=True)
    if products.is_complex:
        raise TypeError(f"A must be real, got {products.dtype}")
    return products


def ritz_pairs(A: Products, m: int, rng: np.random.Generator):
    """Ritz values in ascending order, on the host, and Ritz vectors as rows, after m steps from A times a Gaussian vector."""
    process = Lanczos(A, A.matmat(A.gaussian(rng, A.shape[0], 1)))
    while process.steps < m and not process.exhausted:
        process.advance()
    diagonal, off_diagonal = (np.array([float(value[0]) for value in values]) for values in (process.diagonal, process.off_diagonal))
    values, coefficients = scipy.linalg.eigh_tridiagonal(diagonal, off_diagonal[:-1])
    basis = A.xp.stack([q[:, 0] for q in process.basis[: process.steps]])
    return values, A.asarray(to_numpy(coefficients.T)) @ basis


def ritz_weights(values: np.ndarray, theta: int, low_weight: float) -> np.ndarray:
    """The deviation of each coefficient: 0 for zero Ritz values, `low_weight` for the lower half and `theta` more, 1 for the others."""
    weights = np.where(np.arange(len(values)) < len(values) // 2 + theta, low_weight, 1.0)
    weights[values < NULL * values.max()] = 0.0
    return weights
