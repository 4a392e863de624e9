"""The linear assignment problem, started from the column prices of a similar one solved before.

Jonker and Volgenant, "A shortest augmenting path algorithm for dense and sparse linear assignment problems", Computing 38 (1987): with prices v of
the columns that leave the reduced costs c_ij - u_i - v_j non-negative, the rows whose cheapest column is free take it, and each other row is placed
by a shortest path. Good prices leave few rows to place.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def assign(cost, price, column):
    """Solve the problem `cost` (n, n): the column of each row goes to `column` (n,), the columns' prices are taken from and left in `price` (n,).

    Any finite prices will do to start from.
    """
    n = cost.shape[0]
    row = np.full(n, -1)
    free = np.empty(n, np.int64)
    count = 0
    for i in range(n):
        best, least, second = -1, np.inf, np.inf
        for j in range(n):
            reduced = cost[i, j] - price[j]
            if reduced < least:
                best, least, second = j, reduced, least
            elif reduced < second:
                second = reduced
        if row[best] < 0:
            column[i], row[best] = best, i
        else:
            column[i] = -1
            free[count] = i
            count += 1
    for _ in range(2):  # auction: a free row bids its advantage over the second best column and turns out the holder
        count = _bid(cost, price, column, row, free, count)
    for k in range(count):
        _place(cost, price, column, row, free[k])


@njit(cache=True, nogil=True)
def _bid(cost, price, column, row, free, count):
    """Let each free row bid once; return how many rows are free after it, at the front of `free`."""
    n = cost.shape[0]
    left = 0
    for k in range(count):
        i = free[k]
        best, runner_up, least, second = -1, -1, np.inf, np.inf
        for j in range(n):
            reduced = cost[i, j] - price[j]
            if reduced < least:
                best, runner_up, least, second = j, best, reduced, least
            elif reduced < second:
                runner_up, second = j, reduced
        if n > 1 and second > least:
            price[best] -= second - least
        elif row[best] >= 0 and runner_up >= 0 and row[runner_up] < 0:
            best = runner_up
        holder = row[best]
        column[i], row[best] = best, i
        if holder >= 0:
            column[holder] = -1
            free[left] = holder
            left += 1
    return left


@njit(cache=True, nogil=True)
def _place(cost, price, column, row, start):
    """Find the shortest path in reduced costs from a free row to a free column, shift the assignment along it and mend the prices."""
    n = cost.shape[0]
    distance = np.full(n, np.inf)
    previous = np.full(n, start)
    todo = np.arange(n)  # columns not yet scanned, at the front
    scanned = np.empty(n, np.int64)
    left, done, length = n, 0, 0.0
    i, offset = start, 0.0
    while True:
        nearest, least = -1, np.inf
        for k in range(left):
            j = todo[k]
            through = offset + cost[i, j] - price[j]
            if through < distance[j]:
                distance[j], previous[j] = through, i
            if distance[j] < least or (distance[j] == least and row[j] < 0):
                nearest, least = k, distance[j]
        end, length = todo[nearest], least
        left -= 1
        todo[nearest] = todo[left]
        if row[end] < 0:
            break
        scanned[done] = end
        done += 1
        i = row[end]
        offset = length - (cost[i, end] - price[end])
    for k in range(done):
        price[scanned[k]] += distance[scanned[k]] - length
    j = end
    while True:
        i = previous[j]
        row[j] = i
        column[i], j = j, column[i]
        if i == start:
            break
