"""Shift-invert Lanczos on SuperLU: interior eigenvalues, and the smallest ones of sparse matrices whose factors stay sparse.

Ericsson and Ruhe, "The spectral transformation Lanczos method for the numerical solution of large sparse generalized symmetric eigenvalue problems",
Math. Comp. 35 (1980) 1251-1268. The eigenvalues of ``(A - sigma M)^-1 M`` are ``1 / (lambda - sigma)``: those near the shift are far from all others.

For the smallest eigenvalues the shift lies slightly below the spectrum. That A - sigma M is positive definite there is certified by its inertia
(Sylvester): without pivoting the signs of the diagonal of U are those of the eigenvalues, and no pivoting is needed for stability either.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

from ritz.linalg.direct_solvers import envelope
from ritz.linalg.lanczos import RitzPairs, random_block, start_block, thick_restart_lanczos

AFFORDABLE_OPERATIONS = 2e11  # of an envelope factorization, an upper bound on what a minimum-degree ordering needs
OFF_SINGULARITY = 1e-8  # distance of the shift from an exact singularity, relative to the norm of A
LARGEST_INVERSE = 1e11  # times 1 / scale: an inverse that is larger magnifies rounding too much
MAX_SHIFTS = 12
CYCLES_BEFORE_A_BETTER_SHIFT = 4


def factors_stay_sparse(A: scipy.sparse.csr_array) -> bool:
    """Whether a factorization of A is affordable, judged by the envelope of its reverse Cuthill-McKee ordering."""
    return float(np.sum(envelope(A) ** 2)) <= AFFORDABLE_OPERATIONS


def shift_invert_lanczos(A, M, sigma: float, k: int, *, scale: float, tol, block, start, max_products, rng) -> RitzPairs:
    """Return the k Ritz pairs of ``A x = lambda M x`` nearest to `sigma`, nearest first.

    A shift that is an eigenvalue, up to rounding, is moved by 1e-8 of `scale`, the size of the largest eigenvalue.
    """
    shift = sigma
    factors = _nonsingular(A, M, shift, scale, rng)
    while factors is None:
        shift += OFF_SINGULARITY * scale
        factors = _nonsingular(A, M, shift, scale, rng)
    pairs = _inverse_lanczos(factors, M, shift, "magnitude", k, tol, block, start, max_products, rng, A)
    order = np.argsort(np.abs(pairs.values - sigma), kind="stable")
    return replace(pairs, values=pairs.values[order], vectors=pairs.vectors[:, order])


def _nonsingular(A, M, shift: float, scale: float, rng: np.random.Generator):
    """The factors, or None where a random vector shows that they are singular to about working precision."""
    try:
        factors = _factorize(A, M, shift, pivoting=True)
    except RuntimeError:  # an exactly zero pivot
        return None
    x = random_block(A.shape[0], 1, factors.L.dtype, rng)
    growth = float(np.linalg.norm(factors.solve(x)) / np.linalg.norm(x)) * scale
    return factors if growth < LARGEST_INVERSE else None


def smallest_by_shift_invert(A, M, k: int, *, low: float, spread: float, scale: float, tol, block, start, max_products, rng) -> RitzPairs:
    """Return the k smallest Ritz pairs of ``A x = lambda M x``, ascending.

    The first shift is `low`, an estimate of the smallest eigenvalue, less a little; while the inertia shows eigenvalues below it, the shift is
    lowered by `spread`, doubled each time. Where the wanted eigenvalues turn out to lie far above the shift compared with their distances, it is
    raised.
    """
    offset = OFF_SINGULARITY * scale
    factors, sigma = _definite_factors(A, M, low, spread, offset)
    solves = 0
    for _ in range(MAX_SHIFTS):
        budget = min(CYCLES_BEFORE_A_BETTER_SHIFT * max(2 * k + 20, 3 * k), max_products - solves)
        pairs = _inverse_lanczos(factors, M, sigma, "largest", k, tol, block, start, max(budget, 1), rng, A)
        solves += pairs.products
        better = pairs.values[0] - max(0.1 * (pairs.values[-1] - pairs.values[0]), offset)
        if not pairs.exhausted or solves >= max_products or better <= sigma:
            break
        start = pairs.vectors
        raised = _try_factorize(A, M, better)
        if raised is None or _eigenvalues_below(raised) != 0:
            break
        factors, sigma = raised, better
    if pairs.exhausted and solves < max_products:
        pairs = _inverse_lanczos(factors, M, sigma, "largest", k, tol, block, start, max_products - solves, rng, A)
        solves += pairs.products
    return replace(pairs, products=solves)


def _inverse_lanczos(factors, M, sigma, end, k, tol, block, start, max_products, rng, A) -> RitzPairs:
    def apply(X):
        return factors.solve(np.asfortranarray(X if M is None else M @ X))

    pairs = thick_restart_lanczos(
        apply,
        start_block(start, A.shape[0], block, factors.L.dtype, rng),
        k,
        end,
        tol=tol,
        relative_to_value=True,
        basis_size=max(2 * k + 20, 3 * k),
        max_products=max_products,
        rng=rng,
        weight=None if M is None else lambda X: M @ X,
    )
    return replace(pairs, values=sigma + 1 / pairs.values)


def _definite_factors(A, M, low: float, spread: float, offset: float):
    """Factors of A - sigma M for a sigma certified to lie below all eigenvalues, and that sigma."""
    sigma = low - offset
    for _ in range(MAX_SHIFTS):
        factors = _try_factorize(A, M, sigma)
        if factors is not None and _eigenvalues_below(factors) == 0:
            return factors, sigma
        sigma, spread = sigma - spread, 2 * spread
    raise ValueError(f"A must be Hermitian, and M positive definite: no shift was found below the eigenvalues, down to {sigma:.3}")


def _try_factorize(A, M, sigma: float):
    try:
        return _factorize(A, M, sigma, pivoting=False)
    except RuntimeError:  # an exactly zero pivot
        return None


def _factorize(A, M, sigma: float, *, pivoting: bool):
    identity = scipy.sparse.eye_array(A.shape[0], format="csc") if M is None else M
    shifted = scipy.sparse.csc_array(A - sigma * identity)
    shifted.sort_indices()
    return scipy.sparse.linalg.splu(shifted, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.1 if pivoting else 0.0, options={"SymmetricMode": True})


def _eigenvalues_below(factors) -> int:
    """The number of negative pivots; -1 if rows were exchanged, which hides the inertia."""
    if not np.array_equal(factors.perm_r, factors.perm_c):
        return -1
    return int(np.sum(factors.U.diagonal().real < 0))
