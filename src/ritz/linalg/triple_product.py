"""The triple product R A P of sparse matrices (the coarse matrix of algebraic multigrid) a few rows of R A at a time."""

from __future__ import annotations

import numpy as np
import scipy.sparse

from ritz.linalg.product_operands import as_csr, as_rows, check_inner, csr_operand, like_operand
from ritz.linalg.row_products import Rows
from ritz.linalg.row_windows import cut_windows, multiply, products_by_row
from ritz.linalg.threads import in_windows, thread_count

WINDOW_PRODUCTS = 2**20


def triple_product(R, A, P, *, threads: int | None = None) -> scipy.sparse.csr_array:
    """Multiply three sparse matrices; neither R A nor A P is stored.

    Parameters
    ----------
    R, A, P : sparse or dense matrices (p, n), (n, m) and (m, q), or torch tensors
        The factors, as `spgemm` takes them. For a Galerkin product R is the transpose of P.
    threads : int, optional
        Threads that share the rows of R; by default as many as numba is set to use.

    Returns
    -------
    csr_array (p, q)
        The product; its columns are not sorted. For a torch tensor R, a sparse CSR tensor.

    Notes
    -----
    A window of rows of R A is computed, multiplied by P, and forgotten; windows have about a million products. The work is that of R A and (R A) P.
    The arithmetic is that of `spgemm`, one product after the other: boolean factors are joined by "or" and "and".

    References
    ----------
    .. [1] Shivdikar, "SMASH: Sparse Matrix Atomic Scratchpad Hashing", 2021, arXiv:2105.14156.

    Examples
    --------
    >>> P = np.kron(np.eye(2), np.ones((2, 1)))
    >>> triple_product(P.T, np.arange(16.0).reshape(4, 4), P).toarray()
    array([[10., 18.],
           [42., 50.]])
    """
    factors = [csr_operand(value, name) for value, name in ((R, "R"), (A, "A"), (P, "P"))]
    check_inner(factors[0], "R", factors[1], "A")
    check_inner(factors[1], "A", factors[2], "P")
    dtype = np.result_type(*(factor.dtype for factor in factors))
    computed = np.dtype(np.int64) if dtype.kind == "b" else dtype
    left, middle, right = (as_rows(factor, computed) for factor in factors)
    product = _by_windows(left, middle, factors[1].shape[1], right, factors[2].shape[1], thread_count(threads))
    return like_operand(as_csr(product._replace(entries=product.entries.astype(dtype, copy=False)), factors[2].shape[1]), R)


def _by_windows(R: Rows, A: Rows, inner: int, P: Rows, width: int, threads: int) -> Rows:
    counts = products_by_row(R, A)
    windows = cut_windows(counts, max(threads, -(-int(counts.sum()) // max(WINDOW_PRODUCTS, inner))))
    pieces: list[Rows] = [R] * len(windows)

    def compute(window: int, _) -> None:
        pieces[window] = multiply(multiply(_rows(R, *windows[window]), A, inner), P, width)

    in_windows(list(range(len(windows))), lambda: None, compute, threads)
    starts = np.concatenate([[0], *(np.diff(piece.starts) for piece in pieces)]).cumsum()
    empty = [Rows(starts[:0], A.columns[:0], A.entries[:0])]
    return Rows(starts, *(np.concatenate([getattr(piece, part) for piece in pieces + empty]) for part in ("columns", "entries")))


def _rows(A: Rows, first: int, last: int) -> Rows:
    begin, end = A.starts[first], A.starts[last]
    return Rows(A.starts[first : last + 1] - begin, A.columns[begin:end], A.entries[begin:end])
