"""Locally optimal block preconditioned conjugate gradients: the smallest eigenpairs of a Hermitian operator, with a preconditioner.

Knyazev, "Toward the optimal preconditioned eigensolver: locally optimal block preconditioned conjugate gradient method", SIAM J. Sci. Comput. 23(2),
2001; the basis of the small problem is orthonormalized in full, as Duersch, Shao, Yang and Gu, "A robust and efficient implementation of LOBPCG",
SIAM J. Sci. Comput. 40(5), 2018, found necessary.

A step projects on the span of the iterates X, the preconditioned residuals W and the directions P by which X came here. Converged pairs are locked.
"""

from __future__ import annotations

import numpy as np

from ritz.linalg.lanczos import Apply, RitzPairs, adjoint, orthonormal_complement

MAX_STEPS = 500


def lobpcg_smallest(
    apply: Apply, precondition: Apply, start: np.ndarray, k: int, *, tol: float, scale: float, max_products: int, rng: np.random.Generator
) -> RitzPairs:
    """Return the k smallest Ritz pairs of a Hermitian operator.

    Parameters
    ----------
    apply, precondition : callable
        Multiply a block (n, b) by the operator, and by something Hermitian positive definite near its inverse.
    start : array (n, p)
        The first block, p > k: k wanted columns and guards.
    k, tol, scale, max_products
        A pair has converged if its residual is at most ``tol * scale``.
    rng : numpy.random.Generator
        Replaces directions that the basis loses.
    """
    locked, values_locked = start[:, :0], np.empty(0, start.real.dtype)
    X = orthonormal_complement(start, locked, None, rng, 0.0)[1]
    AX = apply(X)
    values, Y = np.linalg.eigh(_hermitian_part(adjoint(X) @ AX))
    X, AX, P, products, steps = X @ Y, AX @ Y, X[:, :0], X.shape[1], 0
    while True:
        R = AX - X * values
        residuals = np.linalg.norm(R, axis=0)
        done = _leading(residuals <= tol * scale)
        if done:
            locked, values_locked = np.concatenate([locked, X[:, :done]], axis=1), np.concatenate([values_locked, values[:done]])
            X, AX, R, values, P = X[:, done:], AX[:, done:], R[:, done:], values[done:], P[:, done:]
        missing = k - len(values_locked)
        if missing <= 0 or products >= max_products or steps == MAX_STEPS:
            break
        W = orthonormal_complement(precondition(R), np.concatenate([locked, X], axis=1), None, rng, 0.0)[1]
        if P.shape[1]:
            P = orthonormal_complement(P, np.concatenate([locked, X, W], axis=1), None, rng, 0.0)[1]
        directions = np.concatenate([W, P], axis=1)
        images = apply(directions)
        products, steps = products + directions.shape[1], steps + 1
        S, AS, b = np.concatenate([X, directions], axis=1), np.concatenate([AX, images], axis=1), X.shape[1]
        found, Y = np.linalg.eigh(_hermitian_part(adjoint(S) @ AS))
        values, Y = found[:b], Y[:, :b]
        X, AX, P = S @ Y, AS @ Y, directions @ Y[b:]
    values, vectors = np.concatenate([values_locked, values]), np.concatenate([locked, X], axis=1)
    order = np.argsort(values, kind="stable")[:k]
    return RitzPairs(values[order], vectors[:, order], steps, products, scale, missing > 0)


def _hermitian_part(H: np.ndarray) -> np.ndarray:
    return (H + adjoint(H)) / 2


def _leading(flags: np.ndarray) -> int:
    """How many of the first are all true."""
    return len(flags) if flags.all() else int(np.argmin(flags))
