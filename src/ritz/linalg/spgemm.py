"""Products of sparse matrices, row by row: a table per thread finds where each product belongs, and no partial product is ever stored.

Kaustubh Shivdikar, "SMASH: Sparse Matrix Atomic Scratchpad Hashing", master's thesis, Northeastern University 2021, arXiv:2105.14156.

The thesis multiplies on an accelerator: windows of rows whose hash table fits a scratchpad, threads that insert tags by compare-and-swap and add
values by fetch-and-add, then a scan that writes rows back. Its versions are hashing by high-order bits with rows dealt out beforehand (1), by
low-order bits with work taken by tokens (2), and tags and values in arrays of their own (3). On a processor with caches the same parts read so: a
window is a range of rows of about equal work, a thread that is free takes the next one (the token), and since a thread owns its rows nothing is
atomic. Its table is its scratchpad. The table tells where in the output an entry is, so values are added where they will stay and no table is
written back; the multiplicative hash mixes all bits of a column.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse

from ritz.core import choice, flag, integer, is_torch, real
from ritz.linalg.product_operands import as_csr, as_rows, check_inner, csr_operand, like_operand
from ritz.linalg.row_products import MAX_TIMES, MIN_PLUS, Mask, Rows
from ritz.linalg.row_windows import Selection, multiply, products_by_row, row_lengths
from ritz.linalg.threads import thread_count

if TYPE_CHECKING:
    import torch

ACCUMULATORS = ("auto", "hash", "dense", "sort")
SEMIRINGS = ("plus_times", "min_plus", "or_and", "max_times")
SORTED_PRODUCTS = 200  # products of a row on average from which they are sorted themselves, where the result is to be sorted
EVERY_ENTRY = Selection(-1.0, 2**31)


def spgemm(
    A,
    B,
    *,
    accumulator: str = "auto",
    semiring: str = "plus_times",
    mask=None,
    mask_complement: bool = False,
    sort_indices: bool = False,
    drop_tolerance: float | None = None,
    top_k: int | None = None,
    threads: int | None = None,
) -> scipy.sparse.csr_array:
    """Multiply two sparse matrices, over a semiring and under a mask if wanted.

    Parameters
    ----------
    A, B : sparse or dense matrices (n, k) and (k, m), or torch tensors
        CSR is used as it is, unsorted indices and repeated entries included; anything else is converted.
        float32, float64, complex64, complex128, int64 and bool are computed in; narrower integers widen to int64, half precision to float32.
    accumulator : {"auto", "hash", "dense", "sort"}
        How the entries of a row are found: a hash table sized for the row, one stamp for each of the m columns, or sorting of the row's products.
        "auto" picks stamps or the hash table for each window of rows: stamps unless m is over a million and more than B has entries.
        All give the same entries in the same bits; "sort" gives them sorted, the others in the order in which they first appear.
    semiring : {"plus_times", "min_plus", "or_and", "max_times"}
        What stands for addition and multiplication. "min_plus" gives shortest paths of two steps, where an entry that is not stored is no path;
        "or_and" gives reachability, as booleans. Both factors boolean: "plus_times" and "max_times" are "or_and".
    mask : sparse or dense matrix (n, m), optional
        Only entries of the product at stored (in a dense matrix: nonzero) positions of the mask are computed; its values do not matter.
    mask_complement : bool
        Compute only the entries at the other positions.
    sort_indices : bool
        Sort the columns of each row.
    drop_tolerance : float, optional
        Leave out entries of at most this magnitude. By default all are kept, even those that sum to zero; 0 leaves these out, as SciPy does.
        It has no meaning in "min_plus", where it is refused.
    top_k : int, optional
        Keep only so many entries of each row: the largest in magnitude, in "min_plus" the least; of equals, those in lower columns.
    threads : int, optional
        Threads that share the rows; by default as many as numba is set to use. The result does not depend on it, bit for bit.

    Returns
    -------
    csr_array (n, m)
        The product, of the common dtype of A and B. For torch tensors, which must then be both, a sparse CSR tensor.

    Raises
    ------
    TypeError, ValueError
        Naming the argument: no matrix, not finite, inner dimensions that differ, 2^31 or more rows or columns.

    Notes
    -----
    Cost: one table look-up per product a_ik b_kj, of which there are `spgemm_flops(A, B).sum()`; memory is the output and a table per thread.
    There is no symbolic pass. Room is reserved for as many entries as there can be, and only what is written becomes memory; if that room is over
    4 GiB or, by a sample of the rows, over 8 times what is needed, the lengths of the rows are counted first.

    Tables are not cleared between rows, as the thesis does: entries are stamped with numbers that grow, and old stamps count as empty.
    How large a window is on the accelerator is not told exactly; here there are 16 of equal work for each thread.
    CUDA tensors are multiplied by `torch.sparse.mm`, which knows no masks, semirings or selections; those are refused.

    References
    ----------
    .. [1] Shivdikar, "SMASH: Sparse Matrix Atomic Scratchpad Hashing", 2021, arXiv:2105.14156.
    .. [2] Gustavson, "Two Fast Algorithms for Sparse Matrices", ACM TOMS 1978.
    .. [3] Nagasaka et al., "Performance optimization, modeling and analysis of sparse matrix-matrix products on multi-core and many-core
       processors", Parallel Computing 2019.

    Examples
    --------
    Triangles of a complete graph on four nodes, each counted six times:

    >>> adjacency = scipy.sparse.csr_array(np.ones((4, 4)) - np.eye(4))
    >>> float(spgemm(adjacency, adjacency, mask=adjacency).sum()) / 6
    4.0
    """
    choice(accumulator, "accumulator", ACCUMULATORS)
    choice(semiring, "semiring", SEMIRINGS)
    if is_torch(A) or is_torch(B):
        _check_both_torch(A, B)
    if is_torch(A) and A.is_cuda:
        _refuse_on_cuda(semiring, mask, mask_complement, drop_tolerance, top_k)
        return _multiply_on_cuda(A, B)
    factors = _factors(A, B, summed=semiring != "plus_times")
    code, dtype, result = _arithmetic(semiring, np.result_type(*(factor.dtype for factor in factors)))
    sort = flag(sort_indices, "sort_indices")
    width = factors[1].shape[1]
    left, right = _as_rows_of(factors, dtype)
    product = multiply(
        left,
        right,
        width,
        accumulator="sort" if sort and accumulator == "auto" and _has_long_rows(left, right) else accumulator,
        semiring=code,
        mask=_mask(mask, mask_complement, (factors[0].shape[0], width)),
        selection=_selection(semiring, drop_tolerance, top_k),
        threads=thread_count(threads),
    )
    C = as_csr(product._replace(entries=product.entries.view(result)), width)
    if sort:
        C.sort_indices()
    return like_operand(C, A)


def spgemm_flops(A, B) -> np.ndarray:
    """Return the number of products a_ik b_kj (multiply-adds) in each row of A B.

    Parameters
    ----------
    A, B : sparse or dense matrices (n, k) and (k, m), or torch tensors
        The factors.

    Returns
    -------
    int64 array (n,)
        The products of each row. Their sum over the entries of A B is the compression factor.

    Examples
    --------
    >>> spgemm_flops([[1.0, 1.0], [0.0, 0.0]], [[1.0, 1.0], [0.0, 1.0]])
    array([3, 0])
    """
    A, B = _factors(A, B)
    return products_by_row(as_rows(A, A.dtype), as_rows(B, B.dtype))


def spgemm_symbolic(A, B) -> tuple[np.ndarray, int]:
    """Return how many entries each row of A B has, and how many there are in all, without computing them.

    Parameters
    ----------
    A, B : sparse or dense matrices (n, k) and (k, m), or torch tensors
        The factors. Stored zeros count.

    Returns
    -------
    row_nnz : int64 array (n,)
        The entries of each row.
    total : int
        Their sum.

    Examples
    --------
    >>> spgemm_symbolic([[1.0, 1.0], [0.0, 0.0]], [[1.0, 1.0], [0.0, 1.0]])
    (array([2, 0]), 2)
    """
    A, B = _factors(A, B)
    lengths = row_lengths(as_rows(A, np.dtype(bool)), as_rows(B, np.dtype(bool)), B.shape[1], threads=thread_count(None))
    return lengths, int(lengths.sum())


def _factors(A, B, *, summed: bool = False) -> tuple[scipy.sparse.csr_array, scipy.sparse.csr_array]:
    """The factors in CSR. Sums of products do not mind entries that are stored in parts; minima and maxima do."""
    left = csr_operand(A, "A", summed=summed)
    right = left if B is A else csr_operand(B, "B", summed=summed)
    check_inner(left, "A", right, "B")
    return left, right


def _arithmetic(semiring: str, common: np.dtype) -> tuple[int | None, np.dtype, np.dtype]:
    """The kernel's code of the semiring, the dtype it computes in, and the dtype of the result (of the same size)."""
    if semiring == "or_and" or (common.kind == "b" and semiring != "min_plus"):
        return MAX_TIMES, np.dtype(np.uint8), np.dtype(bool)
    if semiring == "plus_times":
        return None, common, common
    if common.kind == "c":
        raise TypeError(f"semiring '{semiring}' needs an order, which complex numbers have not: got A and B of common dtype {common}")
    dtype = np.dtype(np.int64) if common.kind == "b" else common
    return MIN_PLUS if semiring == "min_plus" else MAX_TIMES, dtype, dtype


def _as_rows_of(factors, dtype: np.dtype) -> tuple[Rows, Rows]:
    if dtype == np.uint8:
        left, right = (as_rows(factor, np.dtype(bool)) for factor in factors)
        return left._replace(entries=left.entries.view(np.uint8)), right._replace(entries=right.entries.view(np.uint8))
    left = as_rows(factors[0], dtype)
    return left, left if factors[1] is factors[0] else as_rows(factors[1], dtype)


def _has_long_rows(A: Rows, B: Rows) -> bool:
    """Whether sorting the products of rows is faster than sorting their sums afterwards."""
    return int(products_by_row(A, B).sum()) > SORTED_PRODUCTS * (len(A.starts) - 1)


def _mask(mask, complement: bool, shape: tuple[int, int]) -> Mask | None:
    complement = flag(complement, "mask_complement")
    if mask is None:
        if complement:
            raise ValueError("mask_complement needs a mask, got None")
        return None
    pattern = csr_operand(mask, "mask", summed=True)
    if pattern.shape != shape:
        raise ValueError(f"mask must have the shape of the product, {shape}, got {pattern.shape}")
    rows = as_rows(pattern, np.dtype(bool))
    return Mask(rows.starts, rows.columns, not complement)


def _selection(semiring: str, drop_tolerance: float | None, top_k: int | None) -> Selection | None:
    if drop_tolerance is None and top_k is None:
        return None
    if drop_tolerance is not None and semiring == "min_plus":
        raise ValueError("drop_tolerance has no meaning in the semiring 'min_plus', where small entries are short paths")
    tolerance = EVERY_ENTRY.drop_tolerance if drop_tolerance is None else real(drop_tolerance, "drop_tolerance", at_least=0)
    return Selection(tolerance, EVERY_ENTRY.top_k if top_k is None else integer(top_k, "top_k", at_least=1))


def _check_both_torch(A, B) -> None:
    for value, name, other in ((A, "A", "B"), (B, "B", "A")):
        if not is_torch(value):
            raise TypeError(f"{name} must be a torch tensor as {other} is, got {type(value).__name__}")
    if A.device != B.device:
        raise ValueError(f"B must be on the device of A, {A.device}, got {B.device}")


def _refuse_on_cuda(semiring: str, mask, mask_complement: bool, drop_tolerance, top_k) -> None:
    if semiring != "plus_times":
        raise ValueError(f"semiring must be 'plus_times' for CUDA tensors, got {semiring!r}")
    for value, name in ((mask, "mask"), (mask_complement or None, "mask_complement"), (drop_tolerance, "drop_tolerance"), (top_k, "top_k")):
        if value is not None:
            raise ValueError(f"{name} is not supported for CUDA tensors")


def _multiply_on_cuda(A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
    import torch

    left, right = (value if value.layout == torch.sparse_csr else value.to_sparse_csr() for value in (A, B))
    for value, name in ((left, "A"), (right, "B")):
        if not bool(value.values().isfinite().all()):
            raise ValueError(f"{name} must be finite")
    if left.shape[1] != right.shape[0]:
        raise ValueError(f"B must have as many rows as A has columns, {left.shape[1]}, got {right.shape[0]}")
    return torch.sparse.mm(left, right)
