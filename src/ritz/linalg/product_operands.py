"""The factors of a sparse product at the public door: CSR, finite, of one dtype, with indices that kernels can trust."""

from __future__ import annotations

import numpy as np
import scipy.sparse

from ritz.core import array, is_torch, like, to_csr, to_numpy
from ritz.linalg.row_products import Rows

LARGEST_SIDE = 2**31 - 1


def csr_operand(value: object, name: str, *, summed: bool = False) -> scipy.sparse.csr_array:
    """Return a finite CSR array of bool, int64, float32, float64 or complex entries; sorted and without duplicates where `summed` asks for it.

    Narrower integers and half precision are widened. Sparse arrays that need no conversion are shared, not copied.
    """
    if not scipy.sparse.issparse(value) and not is_torch(value):
        value = to_numpy(value, name)
    if len(value.shape) != 2:
        raise ValueError(f"{name} must be a matrix, got {len(value.shape)} dimension(s), shape {tuple(value.shape)}")
    if max(value.shape) > LARGEST_SIDE:
        raise ValueError(f"{name} must have fewer than 2^31 rows and columns, got shape {tuple(value.shape)}")
    if not is_torch(value) and value.dtype.kind not in "biufc":
        raise TypeError(f"{name} must be a matrix of numbers, got dtype {value.dtype}")
    A = scipy.sparse.csr_array(value) if scipy.sparse.issparse(value) and not summed else to_csr(value, name)
    _check_indices(A, name)
    return scipy.sparse.csr_array((_entries(A.data, name), A.indices, A.indptr), shape=A.shape)


def check_inner(A: scipy.sparse.csr_array, A_name: str, B: scipy.sparse.csr_array, B_name: str) -> None:
    """Refuse factors that cannot be multiplied."""
    if A.shape[1] != B.shape[0]:
        raise ValueError(f"{B_name} must have as many rows as {A_name} has columns, {A.shape[1]}, got {B.shape[0]}")


def as_rows(A: scipy.sparse.csr_array, dtype: np.dtype) -> Rows:
    """Return the matrix as kernels take it, in `dtype`; shared where it is so already."""
    return Rows(A.indptr.astype(np.int64), A.indices.astype(np.int32, copy=False), A.data.astype(dtype, copy=False))


def as_csr(C: Rows, width: int) -> scipy.sparse.csr_array:
    """Return a product as a CSR array with 32-bit indices, or 64-bit ones if it has too many entries for those."""
    index = np.int32 if C.starts[-1] <= LARGEST_SIDE else np.int64
    parts = (C.entries, C.columns.astype(index, copy=False), C.starts.astype(index))
    return scipy.sparse.csr_array(parts, shape=(len(C.starts) - 1, width))


def like_operand(C: scipy.sparse.csr_array, reference: object):
    """Return a product as a torch sparse CSR tensor if `reference` is a tensor."""
    if not is_torch(reference):
        return C
    import torch

    return torch.sparse_csr_tensor(*(like(part, reference) for part in (C.indptr, C.indices, C.data)), size=C.shape, check_invariants=False)


def _entries(entries: np.ndarray, name: str) -> np.ndarray:
    if entries.dtype.kind == "b":
        return entries
    if entries.dtype.kind in "iu":
        if entries.dtype == np.uint64 and entries.max(initial=0) > np.iinfo(np.int64).max:
            raise ValueError(f"{name} must have entries below 2^63, got {entries.max()}")
        return entries.astype(np.int64, copy=False)
    entries = array(entries, name, allow_complex=True, allow_empty=True)
    if entries.dtype.itemsize > (8 if entries.dtype.kind == "f" else 16):
        raise TypeError(f"{name} must have float32, float64, complex64 or complex128 entries, got {entries.dtype}")
    return entries.astype(np.float32) if entries.dtype == np.float16 else entries


def _check_indices(A: scipy.sparse.csr_array, name: str) -> None:
    """Kernels read and write where indices point: a matrix put together wrongly is refused."""
    increasing = A.indptr[0] == 0 and np.all(A.indptr[1:] >= A.indptr[:-1]) and A.indptr[-1] <= len(A.indices)
    if not increasing or (len(A.indices) and not 0 <= A.indices.min() <= A.indices.max() < A.shape[1]):
        raise ValueError(f"{name} must be a valid CSR matrix, got row starts that decrease or column indices outside of its {A.shape[1]} columns")
