"""Other ways to multiply sparse matrices, and how many slots hash functions look at: what the study of `spgemm` measures against."""

from __future__ import annotations

import numpy as np
import scipy.sparse
from numba import njit

from ritz.linalg import spgemm

HASHES = {"low bits": 0, "high bits": 1, "multiplicative": 2}  # how a column picks its slot


def expand_sort_compress(A: scipy.sparse.csr_array, B: scipy.sparse.csr_array) -> scipy.sparse.csr_array:
    """The outer-product way: all products column by column of A, sorted by place, equal places summed."""
    by_column = scipy.sparse.csc_array(A)
    per_column, per_row = np.diff(by_column.indptr).astype(np.int64), np.diff(B.indptr).astype(np.int64)
    flops = int(per_column @ per_row)
    keys, products = np.empty(flops, np.int64), np.empty(flops)
    _expand(by_column.indptr, by_column.indices, by_column.data, B.indptr, B.indices, B.data, B.shape[1], keys, products)
    keys, products = _sort_by_key(keys, products)
    kept = _compress(keys, products)
    rows, columns = np.divmod(keys[:kept], B.shape[1])
    starts = np.searchsorted(rows, np.arange(A.shape[0] + 1)).astype(np.int32)
    return scipy.sparse.csr_array((products[:kept], columns.astype(np.int32), starts), shape=(A.shape[0], B.shape[1]))


def inner_products(A: scipy.sparse.csr_array, B: scipy.sparse.csc_array) -> scipy.sparse.csr_array:
    """The inner-product way: for every row of A and every column of B that share an index, the product of the two sorted lists."""
    pattern = spgemm(_pattern(A), _pattern(scipy.sparse.csr_array(B)), sort_indices=True)
    entries = np.empty(pattern.nnz)
    _inner(pattern.indptr, pattern.indices, A.indptr, A.indices, A.data, B.indptr, B.indices, B.data, entries)
    return scipy.sparse.csr_array((entries, pattern.indices, pattern.indptr), shape=pattern.shape)


@njit(cache=True, nogil=True)
def count_probes(starts, columns, bits, n, which):
    """Slots looked at, in all, by the products of A A (A of order n, in CSR) in a table of 2^bits slots that is cleared for each row."""
    tags, probes = np.full(1 << bits, -1, np.int64), 0
    high_shift = max(0, _bits(n) - bits)
    last = (1 << bits) - 1
    for i in range(starts.shape[0] - 1):
        tags[:] = -1
        for e in range(starts[i], starts[i + 1]):
            for f in range(starts[columns[e]], starts[columns[e] + 1]):
                c = columns[f]
                if which == 0:
                    slot = c & last
                elif which == 1:
                    slot = c >> high_shift
                else:
                    slot = np.int64(np.uint32(np.uint32(c) * np.uint32(0x9E3779B1)) >> np.uint32(32 - bits))
                probes += 1
                while tags[slot] >= 0 and tags[slot] != c:
                    slot = (slot + 1) & last
                    probes += 1
                tags[slot] = c
    return probes


@njit(cache=True, nogil=True)
def _bits(n):
    bits = 0
    while (n - 1) >> bits:
        bits += 1
    return bits


@njit(cache=True, nogil=True)
def _expand(A_starts, A_rows, a, B_starts, B_columns, b, width, keys, products):
    t = 0
    for k in range(A_starts.shape[0] - 1):
        for e in range(A_starts[k], A_starts[k + 1]):
            for f in range(B_starts[k], B_starts[k + 1]):
                keys[t], products[t] = np.int64(A_rows[e]) * width + B_columns[f], a[e] * b[f]
                t += 1


@njit(cache=True, nogil=True)
def _sort_by_key(keys, products):
    """Radix sort, two bytes at a time: the strongest sorting we know for this baseline."""
    to_keys, to_products = np.empty_like(keys), np.empty_like(products)
    largest, shift = keys.max() if keys.shape[0] else 0, 0
    while shift == 0 or (largest >> shift) > 0:
        at = np.zeros(2**11 + 1, np.int64)
        for t in range(keys.shape[0]):
            at[((keys[t] >> shift) & 2047) + 1] += 1
        for digit in range(2**11):
            at[digit + 1] += at[digit]
        for t in range(keys.shape[0]):
            digit = (keys[t] >> shift) & 2047
            to_keys[at[digit]], to_products[at[digit]] = keys[t], products[t]
            at[digit] += 1
        keys, products, to_keys, to_products = to_keys, to_products, keys, products
        shift += 11
    return keys, products


@njit(cache=True, nogil=True)
def _compress(keys, products):
    kept = 0
    for t in range(keys.shape[0]):
        if kept and keys[kept - 1] == keys[t]:
            products[kept - 1] += products[t]
        else:
            keys[kept], products[kept] = keys[t], products[t]
            kept += 1
    return kept


@njit(cache=True, nogil=True)
def _inner(C_starts, C_columns, A_starts, A_columns, a, B_starts, B_rows, b, entries):
    for i in range(C_starts.shape[0] - 1):
        for p in range(C_starts[i], C_starts[i + 1]):
            j = C_columns[p]
            e, f, total = A_starts[i], B_starts[j], 0.0
            while e < A_starts[i + 1] and f < B_starts[j + 1]:
                difference = A_columns[e] - B_rows[f]
                if difference == 0:
                    total += a[e] * b[f]
                e += difference <= 0
                f += difference >= 0
            entries[p] = total


def _pattern(A: scipy.sparse.csr_array) -> scipy.sparse.csr_array:
    return scipy.sparse.csr_array((np.ones(A.nnz, bool), A.indices, A.indptr), shape=A.shape)
