"""Rows of a sparse product: each is gathered in a table that is never cleared, and written where it will stay.

Row i of C = A B is the sum over k of a_ik times row k of B (Gustavson 1978). An accumulator finds, for a column, the place in row i that holds it:

- *dense*: one stamp per column;
- *hash*: tags (columns) and stamps in two arrays, linear probing; the entries are not in the table at all but in the output, where the stamp tells;
- *sort*: all products of the row, sorted by column (stably) and summed; the row comes out sorted.

Stamps grow from row to row, so a stamp below the row's first one means "not yet in this row": nothing is reset between rows.
All add the products of an entry in one order, so their results are the same bits.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

MIN_PLUS, MAX_TIMES = range(2)  # codes of semirings; None is the ordinary sum of products, which so is compiled without a branch
INSERTION_LIMIT = 64  # products of a row that are sorted by insertion

CACHED = {"cache": True, "nogil": True}


class Rows(NamedTuple):
    """A matrix in CSR as the kernels take it: where rows start (int64), columns (int32), entries."""

    starts: np.ndarray
    columns: np.ndarray
    entries: np.ndarray


class Mask(NamedTuple):
    """The columns, row by row, that may not be in the product or, where `only`, those that may; ascending in each row."""

    starts: np.ndarray
    columns: np.ndarray
    only: bool


class Tables(NamedTuple):
    """The work space of one thread: stamps by column (dense), tags and stamps by slot (hash), pairs to be sorted and room for their copies.

    `width` is the number of columns of the product.
    """

    width: int
    stamps: np.ndarray
    tags: np.ndarray
    slots: np.ndarray
    columns: np.ndarray
    entries: np.ndarray
    other_columns: np.ndarray
    other_entries: np.ndarray


@njit(**CACHED)
def count_products(A_starts, A_columns, B_starts, counts):
    """Write the number of products (multiply-adds) of each row of A B."""
    for i in range(counts.shape[0]):
        total = 0
        for e in range(np.uint64(A_starts[i]), np.uint64(A_starts[i + 1])):
            k = np.uint64(A_columns[e])
            total += B_starts[k + np.uint64(1)] - B_starts[k]
        counts[i] = total


@njit(**CACHED)
def dense_rows(first, last, A, B, mask, tables, stamp, semiring, columns, entries, ends):
    """Write the rows [first, last) of the product one behind the other, their ends in `ends`, and return the next free stamp.

    `columns` and `entries` have room for the products of each row, or for all columns if those are fewer. `stamp` is above all stamps in `tables`.
    """
    stamps, place = tables.stamps, 0
    for i in range(first, last):
        masked = _stamp_mask(i, mask, stamps, stamp) if mask is not None else 0  # columns that are excluded have stamps below `own`
        own = stamp + masked
        shift = own - place
        for e in range(np.uint64(A.starts[i]), np.uint64(A.starts[i + 1])):
            k, a = np.uint64(A.columns[e]), A.entries[e]
            for f in range(np.uint64(B.starts[k]), np.uint64(B.starts[k + np.uint64(1)])):
                c = B.columns[f]
                product = _times(semiring, a, B.entries[f])
                s = stamps[np.uint64(c)]
                if s < stamp:
                    stamps[np.uint64(c)] = place + shift
                    columns[np.uint64(place)], entries[np.uint64(place)] = c, product
                    place += 1
                elif s >= own:
                    p = np.uint64(s - shift)
                    entries[p] = _plus(semiring, entries[p], product)
        stamp = place + shift
        ends[i] = place
    return stamp


@njit(**CACHED)
def hash_rows(first, last, A, B, mask, tables, stamp, semiring, columns, entries, ends):
    """As `dense_rows`, with a hash table of at least twice as many slots as the row can have entries."""
    tags, slots, place = tables.tags, tables.slots, 0
    for i in range(first, last):
        room = min(_products(i, A, B), tables.width)
        masked = mask.starts[i + 1] - mask.starts[i] if mask is not None else 0
        bits = _table_bits(room + masked)
        if mask is not None:
            _hash_mask(i, mask, tags, slots, bits, stamp)
        own = stamp + masked
        shift = own - place
        for e in range(np.uint64(A.starts[i]), np.uint64(A.starts[i + 1])):
            k, a = np.uint64(A.columns[e]), A.entries[e]
            for f in range(np.uint64(B.starts[k]), np.uint64(B.starts[k + np.uint64(1)])):
                c = B.columns[f]
                product = _times(semiring, a, B.entries[f])
                slot = _probe(tags, slots, bits, stamp, c)
                s = slots[slot]
                if s < stamp:
                    tags[slot], slots[slot] = c, place + shift
                    columns[np.uint64(place)], entries[np.uint64(place)] = c, product
                    place += 1
                elif s >= own:
                    p = np.uint64(s - shift)
                    entries[p] = _plus(semiring, entries[p], product)
        stamp = place + shift
        ends[i] = place
    return stamp


@njit(**CACHED)
def sort_rows(first, last, A, B, mask, tables, stamp, semiring, columns, entries, ends):
    """As `dense_rows`, by sorting the products of a row; the mask may also be one of the columns that are wanted."""
    place = 0
    for i in range(first, last):
        count = 0
        for e in range(A.starts[i], A.starts[i + 1]):
            k, a = A.columns[e], A.entries[e]
            for f in range(B.starts[k], B.starts[k + 1]):
                tables.columns[count], tables.entries[count] = B.columns[f], _times(semiring, a, B.entries[f])
                count += 1
        keys, values = _sorted(tables, count)
        begin = place
        for t in range(count):
            if place > begin and columns[place - 1] == keys[t]:
                entries[place - 1] = _plus(semiring, entries[place - 1], values[t])
            elif mask is None or _holds(mask.columns[mask.starts[i] : mask.starts[i + 1]], keys[t]) == mask.only:
                columns[place], entries[place] = keys[t], values[t]
                place += 1
        ends[i] = place
    return stamp


@njit(**CACHED)
def masked_dense_rows(first, last, A, B, mask, tables, stamp, semiring, columns, entries, ends):
    """As `dense_rows`, for the columns of the mask only: the stamps are set by the mask and never grow."""
    stamps, place = tables.stamps, 0
    for i in range(first, last):
        masked = _stamp_mask(i, mask, stamps, stamp)
        found = tables.other_columns[:masked]
        found[:] = 0
        for e in range(np.uint64(A.starts[i]), np.uint64(A.starts[i + 1])):
            k, a = np.uint64(A.columns[e]), A.entries[e]
            for f in range(np.uint64(B.starts[k]), np.uint64(B.starts[k + np.uint64(1)])):
                m = stamps[np.uint64(B.columns[f])] - stamp
                if m >= 0:
                    _add_masked(np.uint64(m), np.uint64(place + m), _times(semiring, a, B.entries[f]), semiring, entries, found)
        stamp += masked
        place = _keep_found(i, mask, found, columns, entries, place)
        ends[i] = place
    return stamp


@njit(**CACHED)
def masked_hash_rows(first, last, A, B, mask, tables, stamp, semiring, columns, entries, ends):
    """As `masked_dense_rows`, with a hash table of the mask's columns."""
    tags, slots, place = tables.tags, tables.slots, 0
    for i in range(first, last):
        masked = mask.starts[i + 1] - mask.starts[i]
        bits = _table_bits(masked)
        _hash_mask(i, mask, tags, slots, bits, stamp)
        found = tables.other_columns[:masked]
        found[:] = 0
        for e in range(np.uint64(A.starts[i]), np.uint64(A.starts[i + 1])):
            k, a = np.uint64(A.columns[e]), A.entries[e]
            for f in range(np.uint64(B.starts[k]), np.uint64(B.starts[k + np.uint64(1)])):
                m = slots[_probe(tags, slots, bits, stamp, B.columns[f])] - stamp
                if m >= 0:
                    _add_masked(np.uint64(m), np.uint64(place + m), _times(semiring, a, B.entries[f]), semiring, entries, found)
        stamp += masked
        place = _keep_found(i, mask, found, columns, entries, place)
        ends[i] = place
    return stamp


@njit(**CACHED)
def count_rows(first, last, A, B, tables, stamp, lengths):
    """Write the lengths of the rows [first, last) of the product without forming it, by hashing; return the next free stamp."""
    tags, slots = tables.tags, tables.slots
    for i in range(first, last):
        length, bits = 0, _table_bits(min(_products(i, A, B), tables.width))
        for e in range(np.uint64(A.starts[i]), np.uint64(A.starts[i + 1])):
            k = np.uint64(A.columns[e])
            for f in range(np.uint64(B.starts[k]), np.uint64(B.starts[k + np.uint64(1)])):
                c = B.columns[f]
                slot = _probe(tags, slots, bits, stamp, c)
                length += slots[slot] < stamp
                tags[slot], slots[slot] = c, stamp
        stamp += 1
        lengths[i] = length
    return stamp


@njit(**CACHED)
def _products(i, A, B):
    total = 0
    for e in range(np.uint64(A.starts[i]), np.uint64(A.starts[i + 1])):
        k = np.uint64(A.columns[e])
        total += B.starts[k + np.uint64(1)] - B.starts[k]
    return total


@njit(**CACHED)
def _times(semiring, a, b):
    if semiring is None:
        return a * b
    return a + b if semiring == MIN_PLUS else a * b


@njit(**CACHED)
def _plus(semiring, a, b):
    if semiring is None:
        return a + b
    return min(a, b) if semiring == MIN_PLUS else max(a, b)


@njit(**CACHED)
def _table_bits(entries):
    """The binary logarithm of the least power of two that is at least twice `entries`."""
    bits = 1
    while (np.int64(1) << bits) < 2 * entries:
        bits += 1
    return bits


@njit(**CACHED)
def _probe(tags, slots, bits, stamp, column):
    """The slot that holds `column`, or the free one where it belongs: multiplicative hashing, linear probing."""
    slot = np.uint64(np.uint32(np.uint32(column) * np.uint32(0x9E3779B1)) >> np.uint32(32 - bits))
    last = (np.uint64(1) << np.uint64(bits)) - np.uint64(1)
    while slots[slot] >= stamp and tags[slot] != column:
        slot = (slot + np.uint64(1)) & last
    return slot


@njit(**CACHED)
def _stamp_mask(i, mask, stamps, stamp):
    for e in range(mask.starts[i], mask.starts[i + 1]):
        stamps[mask.columns[e]] = stamp + e - mask.starts[i]
    return mask.starts[i + 1] - mask.starts[i]


@njit(**CACHED)
def _hash_mask(i, mask, tags, slots, bits, stamp):
    for e in range(mask.starts[i], mask.starts[i + 1]):
        slot = _probe(tags, slots, bits, stamp, mask.columns[e])
        tags[slot], slots[slot] = mask.columns[e], stamp + e - mask.starts[i]


@njit(**CACHED)
def _add_masked(m, p, product, semiring, entries, found):
    entries[p] = _plus(semiring, entries[p], product) if found[m] else product
    found[m] = 1


@njit(**CACHED)
def _keep_found(i, mask, found, columns, entries, place):
    begin = place
    for m in range(found.shape[0]):
        if found[m]:
            columns[place], entries[place] = mask.columns[mask.starts[i] + m], entries[begin + m]
            place += 1
    return place


@njit(**CACHED)
def _sorted(tables, count):
    if count > INSERTION_LIMIT:
        return _radix_sort(tables, count)
    _insertion_sort(tables.columns, tables.entries, count)
    return tables.columns, tables.entries


@njit(**CACHED)
def _holds(ascending, column):
    at = np.searchsorted(ascending, column)
    return at < ascending.shape[0] and ascending[at] == column


@njit(**CACHED)
def _insertion_sort(keys, values, count):
    for t in range(1, count):
        key, value, s = keys[t], values[t], t
        while s > 0 and keys[s - 1] > key:
            keys[s], values[s] = keys[s - 1], values[s - 1]
            s -= 1
        keys[s], values[s] = key, value


@njit(**CACHED)
def _radix_sort(tables, count):
    """Sort by bytes, lowest first, as many as the column numbers have; returns the arrays that hold the result."""
    keys, values, to_keys, to_values = tables.columns, tables.entries, tables.other_columns, tables.other_entries
    largest = tables.width - 1
    shift = 0
    while shift == 0 or (largest >> shift) > 0:
        at = np.zeros(257, np.int64)
        for t in range(count):
            at[((keys[t] >> shift) & 255) + 1] += 1
        for digit in range(256):
            at[digit + 1] += at[digit]
        for t in range(count):
            digit = (keys[t] >> shift) & 255
            to_keys[at[digit]], to_values[at[digit]] = keys[t], values[t]
            at[digit] += 1
        keys, values, to_keys, to_values = to_keys, to_values, keys, values
        shift += 8
    return keys, values
