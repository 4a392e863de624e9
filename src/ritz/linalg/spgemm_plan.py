"""A sparse product whose structure stays while its values change: where each product is added is worked out once."""

from __future__ import annotations

import numpy as np
from numba import njit

from ritz.core import array, to_numpy
from ritz.linalg.product_operands import as_rows, check_inner, csr_operand
from ritz.linalg.row_products import CACHED, Rows
from ritz.linalg.row_windows import WINDOWS_PER_THREAD, cut_windows, multiply, products_by_row
from ritz.linalg.threads import in_windows, thread_count


class SpgemmPlan:
    """The structure of a product C = A B, which computes C's entries for any entries of A and B; made by `spgemm_plan`.

    Attributes
    ----------
    shape : tuple of int
        Rows and columns of C.
    indptr, indices : int64 array (n + 1,), int32 array (nnz,)
        C in CSR, in the order in which `spgemm` gives it.

    Examples
    --------
    >>> import scipy.sparse
    >>> A = scipy.sparse.csr_array([[1.0, 2.0], [0.0, 3.0]])
    >>> plan = spgemm_plan(A, A)
    >>> plan(A.data, 10 * A.data)
    array([10., 80., 90.])
    """

    def __init__(self, A: Rows, B: Rows, width: int):
        product = multiply(A, B, width, threads=thread_count(None))
        self.shape = (len(A.starts) - 1, width)
        self.indptr, self.indices = product.starts, product.columns
        self._A, self._B = A, B
        counts = products_by_row(A, B)
        self._windows_work = counts
        self._starts = np.concatenate([[0], np.cumsum(counts)])
        self._places = np.empty(self._starts[-1], np.int32)
        # np.empty: a row reads only what it has just written
        _find_places(A.starts, A.columns, B.starts, B.columns, self.indptr, self.indices, np.empty(width, np.int32), self._places)

    def __call__(self, Ax, Bx) -> np.ndarray:
        """Return the entries of C, in the order of `indices`.

        Parameters
        ----------
        Ax, Bx : arrays (nnz of A,) and (nnz of B,)
            The entries in the order of A's and B's CSR form (`A.tocsr().data`).

        Returns
        -------
        array (nnz of C,)
            What a fresh `spgemm` has as its `data`, in the common dtype.
        """
        a, b = self._check(Ax, "Ax", self._A), self._check(Bx, "Bx", self._B)
        common = np.result_type(a, b)
        a, b, entries = a.astype(common, copy=False), b.astype(common, copy=False), np.zeros(len(self.indices), common)
        threads = thread_count(None)

        def compute(window: tuple[int, int], _) -> None:
            _add_products(*window, self._A.starts, self._A.columns, a, self._B.starts, b, self._starts, self._places, self.indptr, entries)

        in_windows(cut_windows(self._windows_work, WINDOWS_PER_THREAD * threads if threads > 1 else 1), lambda: None, compute, threads)
        return entries

    @staticmethod
    def _check(values, name: str, factor: Rows) -> np.ndarray:
        values = to_numpy(values, name)
        if values.dtype.kind in "iu" and values.ndim == 1 and values.shape == factor.columns.shape:
            return values.astype(np.int64, copy=False)
        return array(values, name, shape=factor.columns.shape, allow_complex=True, allow_empty=True)


def spgemm_plan(A, B) -> SpgemmPlan:
    """Prepare the product of two sparse matrices whose values will change while their structure stays.

    Parameters
    ----------
    A, B : sparse or dense matrices (n, k) and (k, m), or torch tensors
        The factors; only where they have entries matters.

    Returns
    -------
    SpgemmPlan
        Call it with the entries of A and B: ``plan(Ax, Bx)`` is the `data` of the product, ``plan.indices`` and ``plan.indptr`` its structure.

    Notes
    -----
    The plan holds 4 bytes for each product a_ik b_kj. A call reads them and the entries one after the other and looks nothing up.

    References
    ----------
    .. [1] Shivdikar, "SMASH: Sparse Matrix Atomic Scratchpad Hashing", 2021, arXiv:2105.14156.

    Examples
    --------
    >>> plan = spgemm_plan(np.eye(3), np.eye(3))
    >>> plan(np.full(3, 2.0), np.arange(3.0))
    array([0., 2., 4.])
    """
    left = csr_operand(A, "A")
    right = left if B is A else csr_operand(B, "B")
    check_inner(left, "A", right, "B")
    pattern = np.dtype(np.float64)
    return SpgemmPlan(as_rows(left, pattern), as_rows(right, pattern), right.shape[1])


@njit(**CACHED)
def _find_places(A_starts, A_columns, B_starts, B_columns, C_starts, C_columns, place_of_column, places):
    """Write for each product, in order, its entry's place in its row of C."""
    t = 0
    for i in range(A_starts.shape[0] - 1):
        for p in range(C_starts[i], C_starts[i + 1]):
            place_of_column[C_columns[p]] = p - C_starts[i]
        for e in range(A_starts[i], A_starts[i + 1]):
            k = A_columns[e]
            for f in range(B_starts[k], B_starts[k + 1]):
                places[t] = place_of_column[B_columns[f]]
                t += 1


@njit(**CACHED)
def _add_products(first, last, A_starts, A_columns, a, B_starts, b, product_starts, places, C_starts, entries):
    for i in range(first, last):
        t, row = np.uint64(product_starts[i]), entries[C_starts[i] : C_starts[i + 1]]
        for e in range(np.uint64(A_starts[i]), np.uint64(A_starts[i + 1])):
            k, factor = np.uint64(A_columns[e]), a[e]
            for f in range(np.uint64(B_starts[k]), np.uint64(B_starts[k + np.uint64(1)])):
                row[np.uint64(places[t])] += factor * b[f]
                t += np.uint64(1)
