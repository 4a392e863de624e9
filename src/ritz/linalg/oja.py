"""Oja's rule for the top eigenvector of A^T A, one row at a time, with a fixed rate and with a rate chosen on the way.

Oja, "A simplified neuron model as a principal component analyzer", J. Math. Biology 15, 1982; the choice of the rate after Price and Xun,
"Spectral guarantees for adversarial streaming PCA", FOCS 2024: runs with rates on a grid of powers of two, of which the one with the lowest rate
whose unnormalized vector has grown by a power of d is kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
from numba import njit

from ritz.core import array, integer, random_generator, real
from ritz.linalg.eigen import canonical_signs

RATES = 2.0 ** np.arange(-30, 11)  # over the mean squared norm of the first batch of rows
GROWTH = 10.0  # powers of d by which the vector has to grow


def oja(rows, d: int, *, learning_rate: float, rng: np.random.Generator | int | None = None) -> np.ndarray:
    """Return ``z <- normalized(z + rate a (a . z))`` over all rows a, from a random start.

    Parameters
    ----------
    rows : array (n, d) or iterable of such
        The stream.
    d : int
        Columns.
    learning_rate : float
        Positive; good ones lie near ``ln(n) / (n gap)``.
    rng : numpy.random.Generator or int, optional
        For the start.

    Returns
    -------
    array (d,)
        Of unit length; its entry of largest modulus is positive.

    Raises
    ------
    ValueError, TypeError
        If rows do not fit or the rate is not positive.

    Notes
    -----
    4 d operations per row.

    Examples
    --------
    >>> rows = np.random.default_rng(0).standard_normal((5000, 20)) * np.r_[3.0, np.ones(19)]
    >>> bool(oja(rows, 20, learning_rate=1e-3, rng=0)[0] > 0.98)
    True
    """
    d, rate = integer(d, "d", at_least=1), real(learning_rate, "learning_rate", above=0)
    z = random_generator(rng).standard_normal((1, d))
    growth = np.zeros(1)
    for batch in _batches(rows, d):
        _oja(batch, z, growth, np.array([rate]))
    return canonical_signs((z / np.linalg.norm(z)).T)[:, 0]


def adaptive_oja(rows, d: int, *, rng: np.random.Generator | int | None = None) -> np.ndarray:
    """Return the vector of Oja's rule with the lowest rate on a grid of powers of two that lets it grow by ``d^10``.

    Parameters
    ----------
    rows : array (n, d) or iterable of such
        The stream; its first batch, at least one row that is not zero, sets the scale of the grid.
    d : int
        Columns.
    rng : numpy.random.Generator or int, optional
        For the start, which all runs share.

    Returns
    -------
    array (d,)
        Where no run grows enough, the one that grows most.

    Raises
    ------
    ValueError, TypeError
        If rows do not fit.

    Notes
    -----
    41 runs side by side. A run grows by about ``rate sigma_1^2``, so the lowest rate that grows enough has forgotten its start and averages the most.

    Examples
    --------
    >>> rows = np.random.default_rng(0).standard_normal((5000, 20)) * np.r_[3.0, np.ones(19)]
    >>> bool(adaptive_oja(rows, 20, rng=0)[0] > 0.9)
    True
    """
    d = integer(d, "d", at_least=1)
    z = np.tile(random_generator(rng).standard_normal((1, d)), (len(RATES), 1))
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    growth, rates = np.zeros(len(RATES)), None
    for batch in _batches(rows, d):
        if rates is None and batch.any():
            rates = RATES / np.mean(np.vecdot(batch, batch))
        if rates is not None:
            _oja(batch, z, growth, rates)
    enough = np.flatnonzero(growth >= GROWTH * math.log(max(d, 2)))
    best = z[enough[0] if len(enough) else np.argmax(growth)]
    return canonical_signs((best / np.linalg.norm(best))[:, None])[:, 0]


def _batches(rows, d: int) -> Iterator[np.ndarray]:
    """The stream as contiguous float64 matrices (b, d)."""
    if not isinstance(rows, Iterable):
        raise TypeError(f"rows must be a matrix or an iterable of matrices, got {type(rows).__name__}")
    for batch in (rows,) if hasattr(rows, "shape") else rows:
        batch = np.ascontiguousarray(array(batch, "rows", ndim=2), dtype=np.float64)
        if batch.shape[1] != d:
            raise ValueError(f"rows must have d = {d} columns, got shape {batch.shape}")
        yield batch


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _oja(rows, z, growth, rates):
    """Update each vector z (r, d) by its rate with every row; add the logarithm of what it grows by."""
    d = z.shape[1]
    for i in range(len(rows)):
        for run in range(len(rates)):
            along = 0.0
            for j in range(d):
                along += rows[i, j] * z[run, j]
            step, square = rates[run] * along, 0.0
            for j in range(d):
                z[run, j] += step * rows[i, j]
                square += z[run, j] * z[run, j]
            norm = np.sqrt(square)
            growth[run] += np.log(norm)
            for j in range(d):
                z[run, j] /= norm
