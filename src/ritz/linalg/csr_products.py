"""Product of a CSR matrix with several vectors that lie in the rows of an array: no transposed copies, the matrix is read once for four of them."""

from __future__ import annotations

import numpy as np
import scipy.sparse
from numba import njit


def multiply_vectors(A: scipy.sparse.csr_array, vectors: np.ndarray) -> np.ndarray:
    """Return the products A x of the rows x of `vectors` (k, n), as rows (k, m), in the dtype of both."""
    if len(vectors) == 1:
        return (A @ vectors[0])[None]
    products = np.empty((vectors.shape[0], A.shape[0]), dtype=vectors.dtype)
    fours = len(vectors) // 4 * 4
    _multiply_fours(A.indptr, A.indices, A.data, np.ascontiguousarray(vectors[:fours]), products)
    for k in range(fours, len(vectors)):
        products[k] = A @ vectors[k]
    return products


@njit(cache=True, nogil=True, fastmath={"contract", "nsz"})
def _multiply_fours(indptr, indices, values, vectors, products):
    zero = np.zeros(1, products.dtype)[0]
    for k in range(0, vectors.shape[0], 4):
        x0, x1, x2, x3 = vectors[k], vectors[k + 1], vectors[k + 2], vectors[k + 3]
        for row in range(indptr.shape[0] - 1):
            y0, y1, y2, y3 = zero, zero, zero, zero
            for e in range(np.uint64(indptr[row]), np.uint64(indptr[row + 1])):  # unsigned: no test for negative indices, twice as fast
                a, column = values[e], np.uint64(indices[e])
                y0 += a * x0[column]
                y1 += a * x1[column]
                y2 += a * x2[column]
                y3 += a * x3[column]
            products[k, row], products[k + 1, row], products[k + 2, row], products[k + 3, row] = y0, y1, y2, y3
