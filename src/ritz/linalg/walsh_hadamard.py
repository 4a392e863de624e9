"""The Walsh-Hadamard transform in O(n log n) additions.

The Hadamard matrix of Sylvester has the entries ``H[i, j] = (-1)^(number of ones shared by the binary digits of i and j)``; it is symmetric, and
``H H = n I``. It is a Kronecker power of ``[[1, 1], [1, -1]]``, so it is applied factor by factor, as a fast Fourier transform is.

On NumPy arrays the factors are taken two at a time (radix 4), and in two sweeps over memory: first blocks of neighboring rows that fit the cache,
then, for each row of the blocks, the same row of all blocks, gathered. On torch tensors it is a chain of additions, differentiable, on any device.
"""

from __future__ import annotations

import math

import numpy as np
from numba import get_num_threads, njit, prange

from ritz.core import array, is_torch, namespace

CACHE_ENTRIES = 1 << 14  # of a block that stays in the second-level cache, buffers included
RUN = 16  # neighboring entries that are gathered together: whole cache lines
COLUMNS = 32  # of a matrix transformed at a time


def walsh_hadamard(X):
    """Multiply by the Hadamard matrix of Sylvester, from the left.

    Parameters
    ----------
    X : array or torch tensor (n,) or (n, k)
        Real or complex; integers count as float64. The transform runs along the first dimension, whose size is a power of two.

    Returns
    -------
    array or torch tensor
        H X, not normalized: twice transformed, X comes back n times as large. Of X's kind, shape and dtype; gradients pass.

    Raises
    ------
    TypeError, ValueError
        If X is no finite vector or matrix of numbers, or n no power of two.

    Notes
    -----
    ``n k log2(n)`` additions, and as much memory again as X takes.

    Examples
    --------
    >>> walsh_hadamard(np.array([1.0, 2.0, 3.0, 4.0]))
    array([10., -2., -4.,  0.])
    """
    X = array(X, "X", ndim=(1, 2), allow_complex=True)
    if X.shape[0] != next_power_of_two(X.shape[0]):
        raise ValueError(f"X must have a power of two as its first dimension, got shape {tuple(X.shape)}")
    return transformed(X)


def next_power_of_two(n: int) -> int:
    """Return the least power of two that is at least n."""
    return 1 << (n - 1).bit_length()


def transformed(X):
    """H X of a checked vector or matrix."""
    if is_torch(X):
        return _torch_transform(X)
    columns = real_columns(X.copy(order="C").reshape(len(X), -1))
    width = columns.shape[1]
    transform_in_place(columns.reshape(-1), len(X), width)
    return columns.view(X.dtype).reshape(X.shape)


def sampled_transform(X: np.ndarray, signs: np.ndarray, padded: int, rows: np.ndarray, scale: float) -> np.ndarray:
    """``scale P H D X`` for X (n, k): signs D, zeros appended up to `padded` rows, and of the transform the `rows`; no copy of X is made."""
    columns = real_columns(np.ascontiguousarray(X))
    found = np.empty((len(rows), columns.shape[1]), columns.dtype)
    _sampled_transform(columns, signs.astype(columns.dtype), padded, rows, columns.dtype.type(scale), found, get_num_threads())
    return found.view(X.dtype)


def real_columns(X: np.ndarray) -> np.ndarray:
    """A contiguous matrix with real and imaginary parts as columns of their own: a view, for a real linear map of the rows."""
    return X.view(X.real.dtype) if X.dtype.kind == "c" else X


def _torch_transform(X):
    n, xp = X.shape[0], namespace(X)
    Y = xp.reshape(X, (n, -1))
    width = Y.shape[1]
    for level in range(int(math.log2(n))):
        pairs = xp.reshape(Y, (-1, 2, (1 << level) * width))
        Y = xp.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], axis=1)
    return xp.reshape(Y, tuple(X.shape))


@njit(cache=True, nogil=True)
def _butterflies(x, unit):
    """Transform the whole of x in place, seen as rows of `unit` entries, the number of rows a power of two."""
    h = unit
    while 4 * h <= x.size:
        for start in range(0, x.size, 4 * h):
            first, second, third, fourth = (
                x[start : start + h],
                x[start + h : start + 2 * h],
                x[start + 2 * h : start + 3 * h],
                x[start + 3 * h : start + 4 * h],
            )
            for k in range(h):
                a, b, c, d = first[k] + second[k], first[k] - second[k], third[k] + fourth[k], third[k] - fourth[k]
                first[k], second[k], third[k], fourth[k] = a + c, b + d, a - c, b - d
        h *= 4
    if 2 * h <= x.size:
        for k in range(h):
            x[k], x[h + k] = x[k] + x[h + k], x[k] - x[h + k]


@njit(cache=True, nogil=True)
def transform_in_place(x, n, width):
    """Transform x, n rows of `width` entries one after another, in place."""
    near = n
    while near > 1 and near * width > CACHE_ENTRIES:
        near //= 2
    far = n // near
    for block in range(far):
        _butterflies(x[block * near * width : (block + 1) * near * width], width)
    if far == 1:
        return
    stride, run = near * width, width
    while run < RUN and 2 * run <= stride:
        run *= 2
    gathered = np.empty(far * run, x.dtype)
    for offset in range(0, stride, run):
        for k in range(far):
            gathered[k * run : (k + 1) * run] = x[k * stride + offset : k * stride + offset + run]
        _butterflies(gathered, run)
        for k in range(far):
            x[k * stride + offset : k * stride + offset + run] = gathered[k * run : (k + 1) * run]


@njit(cache=True, nogil=True, parallel=True)
def _sampled_transform(X, signs, padded, rows, scale, found, threads):
    n, total = X.shape
    for thread in prange(threads):
        buffer = np.empty(padded * min(COLUMNS, total), X.dtype)
        for first in range(thread * COLUMNS, total, threads * COLUMNS):
            width = min(COLUMNS, total - first)
            x = buffer[: padded * width]
            x[n * width :] = 0
            for i in range(n):
                for k in range(width):
                    x[i * width + k] = signs[i] * X[i, first + k]
            transform_in_place(x, padded, width)
            for r in range(rows.size):
                for k in range(width):
                    found[r, first + k] = scale * x[rows[r] * width + k]
