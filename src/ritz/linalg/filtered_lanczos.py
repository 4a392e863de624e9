"""Lanczos on a Chebyshev polynomial of a Hermitian operator: for ends of a spectrum that is crowded there.

Fang and Saad, "A filtered Lanczos procedure for extreme and interior eigenvalue problems", SIAM J. Sci. Comput. 34(4), 2012; the polynomial is
Chebyshev's, at most 1 in modulus above a cut and growing below it, so that the order of the wanted eigenvalues is kept.

Where many steps are needed, orthogonalization and restarts cost more than products. A polynomial of degree d needs about d times fewer steps, each of
d products with a whole block, which read the matrix once for all its columns.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ritz.linalg.chebyshev_filter import Step, chebyshev_filter
from ritz.linalg.lanczos import RitzPairs, adjoint, orthonormal_complement, start_block, thick_restart_lanczos

BLOCK = 4
LOGARITHMIC_GROWTH = 4.0  # of the lowest eigenvector that is still sought over those above the cut
LARGEST_DEGREE = 300
MARGIN = 0.25  # the cut lies beyond the k-th Ritz value by this part of the wanted interval
MAX_ROUNDS = 4


def smallest_by_filtered_lanczos(
    apply, step: Step, pairs: RitzPairs, k: int, upper: float, *, tol: float, scale: float, max_products: int, rng: np.random.Generator
) -> RitzPairs:
    """Return the k smallest Ritz pairs of a Hermitian operator with no eigenvalue above `upper`, from pairs that some Lanczos steps have found.

    Parameters
    ----------
    apply, step : callable
        ``apply(X)`` multiplies a block (n, b); ``step(X, Y, a, b, c)`` overwrites Y by ``a A X + b X + c Y``.
    pairs : RitzPairs
        At least k approximate pairs. By interlacing the k wanted eigenvalues lie below the k-th Ritz value, which places the cut.
    k, upper, tol, scale, max_products
        A pair has converged if its residual is at most ``tol * scale``.
    rng : numpy.random.Generator
        For the start block and the directions that replace lost ones.
    """
    values, vectors, residuals = _ritz(apply, pairs.vectors)
    products, restarts, precision = pairs.products + vectors.shape[1], pairs.restarts, 0.5
    for _ in range(MAX_ROUNDS):
        locked = int(np.argmin(residuals <= tol * scale / 10)) if not np.all(residuals <= tol * scale / 10) else k
        if np.all(residuals <= tol * scale) and restarts > pairs.restarts:
            break
        found = _round(step, values, vectors, min(locked, k - 1), k, upper, precision * tol * scale, max_products - products, rng)
        products, restarts = products + found.products, restarts + found.restarts
        values, vectors, residuals = _ritz(apply, np.concatenate([vectors[:, : min(locked, k - 1)], found.vectors], axis=1))
        products += vectors.shape[1]
        precision /= 10
        if found.exhausted:
            break
    missed = not np.all(residuals <= tol * scale)
    return RitzPairs(values, vectors, restarts, products, scale, missed)


def _round(step: Step, values, vectors, locked: int, k: int, upper: float, residual: float, max_products: int, rng) -> RitzPairs:
    """Lanczos on the polynomial that suits these Ritz values, in the complement of the first `locked` vectors, to a residual of the operator."""
    lowest, wanted = values[locked], values[k - 1]
    cut = wanted + MARGIN * max(wanted - lowest, 1e-3 * (upper - wanted))
    half, center = (upper - cut) / 2, (upper + cut) / 2
    degree = int(np.clip(np.ceil(LOGARITHMIC_GROWTH / np.arccosh((center - lowest) / half)), 2, LARGEST_DEGREE))
    angles = [np.arccosh((center - value) / half) for value in (lowest, wanted)]
    # what is left of a Ritz vector's error lies next to the wanted eigenvalues, where the slope of the polynomial translates residuals
    top = np.cosh(degree * angles[0])
    slope = degree * np.sinh(degree * angles[1]) / np.sinh(angles[1]) / half / top
    limit = min(residual * slope, 0.1 * (np.cosh(degree * angles[1]) - 1) / top)
    basis = np.ascontiguousarray(vectors[:, :locked])

    shifts = (values[:locked] - center)[:, None]

    def deflated_step(X, Y, of_product, of_block, of_previous):
        """The step for A with the locked eigenvalues moved to the middle of what is damped: the polynomial would blow up their rounding errors."""
        step(X, Y, of_product, of_block, of_previous)
        Y -= of_product * (basis @ (shifts * (adjoint(basis) @ X)))

    def polynomial(X):
        Y, _ = chebyshev_filter(deflated_step if locked else step, np.array(X, order="C"), np.full(X.shape[1], degree), lowest, cut, upper)
        return Y - basis @ (adjoint(basis) @ Y)

    start = start_block(vectors[:, locked:], len(vectors), BLOCK, vectors.dtype, rng)
    start = orthonormal_complement(start, basis, None, rng, 0.0)[1]
    found = thick_restart_lanczos(
        polynomial,
        start,
        k - locked,
        "largest",
        tol=max(limit, 16 * float(np.finfo(vectors.dtype).eps)),
        basis_size=max(2 * k + 20, 3 * k),
        max_products=max(max_products // degree, 1),
        rng=rng,
    )
    return replace(found, products=found.products * degree)


def _ritz(apply, vectors: np.ndarray):
    """Rayleigh-Ritz in the span of the vectors: ascending values, vectors, residual norms."""
    Q = np.linalg.qr(vectors)[0]
    image = apply(Q)
    H = adjoint(Q) @ image
    values, Y = np.linalg.eigh((H + adjoint(H)) / 2)
    return values, Q @ Y, np.linalg.norm(image @ Y - (Q @ Y) * values, axis=0)
