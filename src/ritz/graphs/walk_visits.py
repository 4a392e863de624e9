"""Where the walks of personalized PageRank come by: shares of visits, or of ends, as the rows of a sparse matrix.

Before each step a walk stops with the restart probability. All walks of one node go side by side, a step each in turn, so that their cache misses
overlap; the stream of random numbers belongs to the node where they start, so that neither order nor blocks nor threads change a row.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ritz.graphs.random_walks import advanced, step, stream_of, unit

ENDLESS = np.iinfo(np.int64).max // 2  # the cap on steps of walks that have none
_WIDEST = 11  # bits that one pass of the sort looks at, at most: its table of places stays in the nearest cache


@njit(cache=True, nogil=True)
def visit_shares(indptr, indices, cumulative, starts, n_walks, max_steps, restart_prob, seed, ends_only, dtype):
    """Walk from each start; return (entries per row, nodes in ascending order, their shares of the row's visits, steps taken in all).

    An empty row of the graph means a jump to any node. A walk ends unfinished after `max_steps` steps: its visits count, its end does not.
    """
    n = indptr.shape[0] - 1
    standing, visits, other = np.empty(n_walks, dtype=np.int64), np.empty(1024, dtype=indices.dtype), np.empty(1024, dtype=indices.dtype)
    width, place = _digits(n)
    at_start = 0 if ends_only else n_walks - 1  # visits of the start by the walks' beginnings, which are noted once
    capacity = starts.shape[0] * entries_of_a_row(n, n_walks, max_steps, restart_prob, ends_only)
    nodes, shares = np.empty(capacity, dtype=indices.dtype), np.empty(capacity, dtype=dtype)
    sizes = np.empty(starts.shape[0], dtype=np.int64)
    used, steps = 0, 0
    for i in range(starts.shape[0]):
        visits, met, taken = _walk(indptr, indices, cumulative, starts[i], standing, max_steps, restart_prob, seed, ends_only, visits)
        steps += taken
        if used + met > nodes.shape[0]:
            nodes, shares = _grown(nodes, used + met), _grown(shares, used + met)
        if met > other.shape[0]:
            other = np.empty_like(visits)
        ordered = _radix_sorted(visits[:met], other[:met], width, place)
        total, before, first = met + at_start, used, 0
        for k in range(1, met + 1):
            if k == met or ordered[k] != ordered[first]:
                count = k - first + (at_start if ordered[first] == starts[i] else 0)
                nodes[used], shares[used] = ordered[first], count / total
                first = k
                used += 1
        sizes[i] = used - before
    return sizes, nodes[:used], shares[:used], steps


@njit(cache=True, nogil=True)
def entries_of_a_row(n, n_walks, max_steps, restart_prob, ends_only):
    """About how many entries a row has, rather too many."""
    visits = n_walks if ends_only else n_walks / restart_prob * (1.0 - (1.0 - restart_prob) ** (max_steps + 1.0))
    return np.int64(min(n, 1.1 * visits + 1.0))


@njit(cache=True, nogil=True)
def _walk(indptr, indices, cumulative, start, standing, max_steps, restart_prob, seed, ends_only, visits):
    """Take all walks of one start to their ends; return the (perhaps larger) buffer of visits, how many there are, and the steps taken.

    That all walks begin at the start is noted as one visit.
    """
    n = indptr.shape[0] - 1
    counter = stream_of(seed, start)
    walking, met, steps = standing.shape[0], 0, 0
    standing[:] = start
    if not ends_only:
        visits[0] = start
        met = 1
    while walking > 0:
        if met + walking > visits.shape[0]:
            visits = _grown(visits, met + walking)
        going = 0
        for k in range(walking):
            counter = advanced(counter)
            uniform = unit(counter)
            if uniform < restart_prob:
                if ends_only:
                    visits[met] = standing[k]
                    met += 1
            elif max_steps > 0:
                node, uniform = standing[k], (uniform - restart_prob) / (1.0 - restart_prob)
                node = np.int64(uniform * n) if indptr[node] == indptr[node + 1] else step(indptr, indices, cumulative, node, uniform)
                standing[going] = node
                going += 1
                if not ends_only:
                    visits[met] = node
                    met += 1
        walking = going
        steps += going
        max_steps -= 1
    return visits, met, steps


@njit(cache=True, nogil=True)
def _digits(n):
    """The bits of a digit, eleven at most, and a table of places (digits, values of a digit), for numbers below n."""
    bits = 1
    while (n - 1) >> bits:
        bits += 1
    digits = (bits + _WIDEST - 1) // _WIDEST
    width = (bits + digits - 1) // digits
    return width, np.empty((digits, 1 << width), dtype=np.int64)


@njit(cache=True, nogil=True)
def _radix_sorted(values, other, width, place):
    """Sort numbers digit by digit, lowest first; `values` and `other`, as long, are overwritten, and one of them is returned."""
    mask = np.uint64((1 << width) - 1)
    place[:] = 0
    for value in values:
        for d in range(place.shape[0]):
            place[d, (np.uint64(value) >> np.uint64(d * width)) & mask] += 1
    for d in range(place.shape[0]):
        before = 0
        for digit in range(place.shape[1]):
            count = place[d, digit]
            place[d, digit] = before
            before += count
        shift = np.uint64(d * width)
        for value in values:
            digit = (np.uint64(value) >> shift) & mask
            other[place[d, digit]] = value
            place[d, digit] += 1
        values, other = other, values
    return values


@njit(cache=True, nogil=True)
def _grown(values, needed):
    """The values in a buffer at least twice as long."""
    larger = np.empty(max(2 * values.shape[0], needed), dtype=values.dtype)
    larger[: values.shape[0]] = values
    return larger
