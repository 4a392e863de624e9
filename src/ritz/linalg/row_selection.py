"""Which entries of the rows of a sparse product are kept: those that are large enough, the best of each row."""

from __future__ import annotations

import numpy as np
from numba import njit

from ritz.linalg.row_products import CACHED, MIN_PLUS


@njit(**CACHED)
def select_entries(first, last, drop_tolerance, top_k, semiring, columns, entries, ends):
    """Keep, of the rows [first, last) that lie one behind the other and end at `ends`, the `top_k` best of the entries above `drop_tolerance`.

    A negative tolerance keeps all. Best are the largest in magnitude, in the semiring of shortest paths the least; of equals, those in lower columns.
    The entries of a row keep their order.
    """
    begin = place = 0
    for i in range(first, last):
        count = 0
        for e in range(begin, ends[i]):
            if abs(entries[e]) > drop_tolerance:
                columns[place + count], entries[place + count] = columns[e], entries[e]
                count += 1
        if count > top_k:
            count = _keep_best(top_k, semiring, columns[place : place + count], entries[place : place + count])
        begin = ends[i]
        place += count
        ends[i] = place


@njit(**CACHED)
def _keep_best(top_k, semiring, columns, entries):
    keys = np.empty(entries.shape[0])
    for e in range(keys.shape[0]):
        keys[e] = _key(semiring, entries[e])
    keep = _least(keys, columns, top_k)
    count = 0
    for e in range(keys.shape[0]):
        if keep[e]:
            columns[count], entries[count] = columns[e], entries[e]
            count += 1
    return count


@njit(**CACHED)
def _least(keys, columns, count):
    """Which are the `count` least keys, those of lower columns first among equals."""
    worst = np.sort(keys)[count - 1]
    better, equal, tied = 0, 0, np.empty(keys.shape[0])
    for e in range(keys.shape[0]):
        better += keys[e] < worst
        if keys[e] == worst:
            tied[equal] = columns[e]
            equal += 1
    last_column = np.sort(tied[:equal])[count - 1 - better]
    return (keys < worst) | ((keys == worst) & (columns <= last_column))


@njit(**CACHED)
def _key(semiring, entry):
    if semiring is None:
        return -np.float64(abs(entry))
    return np.float64(entry) if semiring == MIN_PLUS else -np.float64(abs(entry))
