"""Products of a sparse matrix with a dense block, row-parallel, and very sparse random projections."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import scipy.sparse
from numba import njit, prange

from ritz.core import array, integer, random_generator, real, sparse_matrix, to_numpy


class SparseRows(NamedTuple):
    """A sparse matrix in CSR form as plain arrays: what compiled loops and tasks on other machines take."""

    indptr: np.ndarray
    indices: np.ndarray
    values: np.ndarray


def spmm(A, X) -> np.ndarray:
    """Return the product of a sparse matrix (m, n) with a dense block (n, k) in float32, parallel over rows.

    The result does not depend on the number of threads, bit for bit. Cost: nnz * k multiply-adds, bound by the gathered rows of X.

    Parameters
    ----------
    A : SciPy sparse array or matrix, or array-like (m, n)
        The matrix.
    X : array-like (n, k)
        The block.

    Raises
    ------
    ValueError
        If the shapes do not fit, or an entry is not finite.

    Examples
    --------
    >>> spmm(scipy.sparse.eye_array(2), [[1.0], [2.0]])
    array([[1.],
           [2.]], dtype=float32)
    """
    A = sparse_matrix(A, "A")
    X = np.ascontiguousarray(to_numpy(array(X, "X", ndim=2, allow_empty=True)), dtype=np.float32)
    if X.shape[0] != A.shape[1]:
        raise ValueError(f"X must have as many rows as A has columns, {A.shape[1]}, got shape {X.shape}")
    product = np.empty((A.shape[0], X.shape[1]), dtype=np.float32)
    multiply_rows(A.indptr, A.indices, A.data.astype(np.float32), X, np.arange(A.shape[0]), product)
    return product


def sparse_projection(n: int, dim: int, sparsity: float, *, rng=None) -> scipy.sparse.csr_array:
    """Draw a very sparse random projection (n, dim): entries +-sqrt(s) with probability 1/(2s) each, else 0 (Li, Hastie and Church 2006).

    Parameters
    ----------
    n, dim : int
        Its shape.
    sparsity : float
        The s above, at least 1: s = 3 is Achlioptas' projection, s = sqrt(n) the very sparse one.
    rng : Generator, int or None
        Source of randomness.

    Returns
    -------
    csr_array (n, dim) float32
        Not scaled by 1 / sqrt(dim).

    Examples
    --------
    >>> sparse_projection(100, 8, 4.0, rng=0).shape
    (100, 8)
    """
    n, dim = integer(n, "n", at_least=1), integer(dim, "dim", at_least=1)
    s = real(sparsity, "sparsity", at_least=1)
    rng = random_generator(rng)
    count = rng.binomial(n * dim, 1 / s)
    places = np.sort(rng.choice(n * dim, size=count, replace=False, shuffle=False))
    signs = rng.integers(0, 2, size=count) * 2 - 1
    entries = (signs * math.sqrt(s)).astype(np.float32)
    return scipy.sparse.csr_array((entries, np.divmod(places, dim)), shape=(n, dim))


@njit(cache=True, nogil=True, parallel=True, fastmath={"contract", "nsz"})
def multiply_rows(indptr, indices, values, X, rows, product):
    """Write the given rows of (sparse matrix) @ X into the same rows of `product`, eight neighbors to each load and store of the sum."""
    columns = X.shape[1]
    for position in prange(rows.shape[0]):
        row = rows[position]
        total = product[row]
        total[:] = 0.0
        start, stop = indptr[row], indptr[row + 1]
        whole = start + (stop - start) // 8 * 8
        for e in range(start, whole, 8):
            a0, a1, a2, a3 = values[e], values[e + 1], values[e + 2], values[e + 3]
            a4, a5, a6, a7 = values[e + 4], values[e + 5], values[e + 6], values[e + 7]
            x0, x1, x2, x3 = X[indices[e]], X[indices[e + 1]], X[indices[e + 2]], X[indices[e + 3]]
            x4, x5, x6, x7 = X[indices[e + 4]], X[indices[e + 5]], X[indices[e + 6]], X[indices[e + 7]]
            for j in range(columns):
                first = (a0 * x0[j] + a1 * x1[j]) + (a2 * x2[j] + a3 * x3[j])
                total[j] += first + ((a4 * x4[j] + a5 * x5[j]) + (a6 * x6[j] + a7 * x7[j]))
        for e in range(whole, stop):
            a, x = values[e], X[indices[e]]
            for j in range(columns):
                total[j] += a * x[j]
