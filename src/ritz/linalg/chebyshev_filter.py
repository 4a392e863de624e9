"""Chebyshev-filtered subspace iteration: the smallest eigenpairs of a Hermitian operator with a bounded spectrum, by products alone.

Zhou, Saad, Tiago and Chelikowsky, "Self-consistent-field calculations using Chebyshev-filtered subspace iteration", J. Comput. Phys. 219 (2006)
172-184, and "Parallel self-consistent-field calculations via Chebyshev-filtered subspace acceleration", Phys. Rev. E 74 (2006) 066704.

A polynomial that is at most 1 on the unwanted interval [cut, upper] grows like ``cosh(degree arccosh t)`` below it. Each sweep filters the block,
column by column to the degree that its own Ritz value needs, orthonormalizes it against what has converged, and projects. Converged pairs leave the
block.
"""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np
import scipy.sparse

from ritz.linalg.lanczos import RitzPairs, adjoint, orthonormal_complement

LARGEST_GROWTH = 1e7  # of one column in one sweep: beyond it the columns lose their independence
LARGEST_DEGREE = 2000
# What lies lowest, locked or not, outgrows a wanted column by at most exp(this): more, from rounding, would drown it.
LARGEST_CONTRAST, LARGEST_SINGLE_CONTRAST = 50.0, 25.0
SINGLE_PRECISION_LIMIT = 1e-4  # relative residual down to which filtering in float32 does no harm
GUARDS = 8  # columns beyond those that are wanted, or half as many as wanted if that is more

Step = Callable[[np.ndarray, np.ndarray, float, float, float], None]


@numba.njit(parallel=True, nogil=True, cache=True)
def csr_filter_step(data, indices, indptr, X, Y, of_product, of_block, of_previous):
    """``Y = of_product A X + of_block X + of_previous Y`` in one pass over the rows of a CSR matrix; X and Y (n, b) differ."""
    columns = X.shape[1]
    for row in numba.prange(len(indptr) - 1):
        for j in range(columns):
            Y[row, j] = of_block * X[row, j] + of_previous * Y[row, j]
        for position in range(indptr[row], indptr[row + 1]):
            entry, neighbor = of_product * data[position], indices[position]
            for j in range(columns):
                Y[row, j] += entry * X[neighbor, j]


def csr_step(A: scipy.sparse.csr_array) -> Step:
    """The fused step of the filter's recurrence for a CSR matrix."""

    def step(X, Y, of_product, of_block, of_previous):
        real = A.data.real.dtype.type
        csr_filter_step(A.data, A.indices, A.indptr, X, Y, real(of_product), real(of_block), real(of_previous))

    return step


def operator_step(apply) -> Step:
    """The step of the filter's recurrence for an operator known by its products."""

    def step(X, Y, of_product, of_block, of_previous):
        Y *= of_previous
        Y += of_product * apply(X)
        Y += of_block * X

    return step


def chebyshev_filter(step: Step, X: np.ndarray, degrees: np.ndarray, lowest: float, cut: float, upper: float) -> tuple[np.ndarray, int]:
    """Filter each column of X (n, b), overwritten, to its own degree (at least 1), scaled to keep its size near `lowest`; also count products.

    `degrees` descend, so that the columns still at work are always the first ones.
    """
    half, center = (upper - cut) / 2, (upper + cut) / 2
    sigma_first = half / (lowest - center)
    sigma, result, products = sigma_first, np.empty_like(X), 0
    active = X.shape[1]
    previous, current = X, np.zeros_like(X)
    step(previous, current, sigma / half, -sigma * center / half, 0.0)
    products += active
    for degree in range(1, int(degrees[0]) + 1):
        going = int(np.sum(degrees > degree))
        if going < active:
            result[:, going:active] = current[:, going:]
            previous, current, active = previous[:, :going].copy(), current[:, :going].copy(), going
        if not active:
            return result, products
        following = 1 / (2 / sigma_first - sigma)
        step(current, previous, 2 * following / half, -2 * following * center / half, -sigma * following)
        previous, current, sigma = current, previous, following
        products += active
    return result, products


def filtered_smallest(
    apply,
    step: Step,
    start: np.ndarray,
    k: int,
    low: float,
    upper: float,
    *,
    tol: float,
    scale: float,
    max_products: int,
    rng: np.random.Generator,
    single_step: Step | None = None,
) -> RitzPairs:
    """Return the k smallest Ritz pairs of a Hermitian operator with no eigenvalue above `upper`.

    Parameters
    ----------
    apply : callable
        Multiplies a block (n, b).
    step : callable
        ``step(X, Y, a, b, c)`` overwrites Y by ``a A X + b X + c Y``.
    start : array (n, p)
        The first block, p > k: k wanted columns and guards.
    low : float
        A Ritz value near the lowest eigenvalue, which keeps the filter from overflowing.
    k, upper, tol, scale, max_products
        A pair has converged if its residual is at most ``tol * scale``.
    rng : numpy.random.Generator
        Replaces directions that the block loses.
    single_step : callable, optional
        `step` in single precision, used while residuals are large.
    """
    locked, values_locked = start[:, :0], np.empty(0, start.real.dtype)
    X, sweeps = orthonormal_complement(start, locked, None, rng, 0.0)[1], 0
    values, X, residuals = _project(apply, X)
    products = X.shape[1]
    while True:
        converged = _leading(residuals <= tol * scale)
        locked = np.concatenate([locked, X[:, :converged]], axis=1)
        values_locked = np.concatenate([values_locked, values[:converged]])
        values, X, residuals = values[converged:], X[:, converged:], residuals[converged:]
        missing = k - len(values_locked)
        if missing <= 0 or products >= max_products:
            values, vectors = np.concatenate([values_locked, values]), np.concatenate([locked, X], axis=1)
            order = np.argsort(values, kind="stable")[:k]
            return RitzPairs(values[order], vectors[:, order], sweeps, products, scale, missing > 0)
        lowest, cut = min(low, float(values[0]), float(np.min(values_locked, initial=np.inf))), float(values[-1])
        degrees, contrast = _degrees(values, residuals / (tol * scale), lowest, upper, missing)
        order = np.argsort(-degrees, kind="stable")
        in_single = single_step is not None and residuals[0] > SINGLE_PRECISION_LIMIT * scale and contrast <= LARGEST_SINGLE_CONTRAST
        block = np.ascontiguousarray(X[:, order], dtype=np.float32 if in_single else X.dtype)
        filtered, used = chebyshev_filter(single_step if in_single else step, block, degrees[order], lowest, cut, upper)
        W = filtered.astype(X.dtype, copy=False)
        W /= np.maximum(np.linalg.norm(W, axis=0), np.finfo(W.dtype).tiny)
        X = orthonormal_complement(W, locked, None, rng, 1e-13)[1]
        values, X, residuals = _project(apply, X)
        products += used + X.shape[1]
        sweeps += 1


def _project(apply, X: np.ndarray):
    """Rayleigh-Ritz in the span of X: ascending values, vectors, residual norms."""
    W = apply(X)
    H = adjoint(X) @ W
    values, Y = np.linalg.eigh((H + adjoint(H)) / 2)
    X, W = X @ Y, W @ Y
    return values, X, np.linalg.norm(W - X * values, axis=0)


def _degrees(values: np.ndarray, reductions: np.ndarray, lowest: float, upper: float, missing: int) -> tuple[np.ndarray, float]:
    """The degree at which each column's growth over the unwanted interval, from the last Ritz value up, makes up for its residual.

    Guards, which lie at the cut and hardly grow, get what the neediest wanted column gets. Also returned is the logarithm of the contrast between
    what lies lowest and the least wanted column.
    """
    half, center = max((upper - values[-1]) / 2, np.finfo(values.dtype).tiny), (upper + values[-1]) / 2
    rates = np.maximum(np.arccosh(np.maximum((center - values) / half, 1.0)), 1e-12)
    contrast = float(np.arccosh(max((center - lowest) / half, 1.0)) - np.min(rates[:missing]))
    needed = np.arccosh(np.clip(10 * reductions, 10, LARGEST_GROWTH)) / rates
    highest = min(float(np.max(needed[:missing])), LARGEST_DEGREE, LARGEST_CONTRAST / max(contrast, 1e-12))
    degrees = np.maximum(np.ceil(np.minimum(needed, highest)), 2).astype(np.int64)
    return degrees, contrast * float(np.max(degrees))


def _leading(flags: np.ndarray) -> int:
    """How many of the first are all true."""
    return len(flags) if flags.all() else int(np.argmin(flags))
