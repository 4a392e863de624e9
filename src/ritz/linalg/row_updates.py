"""The vector operations of conjugate gradients on rows, in one pass over memory for NumPy: three times as fast as one operation after the other."""

from __future__ import annotations

import numpy as np
from numba import njit

from ritz.core import namespace


def descend(x, r, p, q, step):
    """Overwrite the rows ``x += step p`` and ``r -= step q``; return the squared norms of the new r."""
    if isinstance(x, np.ndarray):
        squares = np.empty(len(x), dtype=step.dtype)
        _descend(x, r, p, q, step, squares)
        return squares
    x += step[:, None] * p
    r -= step[:, None] * q
    return namespace(r).vecdot(r, r).real


def redirect(p, factor, z) -> None:
    """Overwrite the rows ``p = z + factor p``."""
    if isinstance(p, np.ndarray):
        _redirect(p, factor, z)
        return
    p *= factor[:, None]
    p += z


@njit(cache=True, nogil=True, fastmath={"contract", "nsz", "reassoc"})
def _descend(X, R, P, Q, steps, squares):
    for k in range(X.shape[0]):
        x, r, p, q, step = X[k], R[k], P[k], Q[k], steps[k]
        total = 0.0
        for i in range(x.shape[0]):
            x[i] += step * p[i]
            entry = r[i] - step * q[i]
            r[i] = entry
            total += entry.real * entry.real + entry.imag * entry.imag
        squares[k] = total


@njit(cache=True, nogil=True, fastmath={"contract", "nsz"})
def _redirect(P, factors, Z):
    for k in range(P.shape[0]):
        p, z, factor = P[k], Z[k], factors[k]
        for i in range(p.shape[0]):
            p[i] = z[i] + factor * p[i]
