"""A multigrid hierarchy built from one smooth vector by pairwise matching, and its V-cycle: compiled loops over one packed CSR matrix.

D'Ambra, Filippone and Vassilevski, "BootCMatch: A Software Package for Bootstrap AMG Based on Graph Weighted Matching", ACM TOMS 44(4), 2018;
D'Ambra and Vassilevski, "Adaptive AMG with coarsening based on compatible weighted matching", Comput. Visual. Sci. 16, 2013.

All levels stand one below the other in one block-diagonal matrix: level l holds the rows starts[l] to starts[l + 1], its columns are numbered
likewise, and aggregates[i] is the row, on the next level, of the pair that row i belongs to. So one vector holds x on all levels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse
from numba import njit

from ritz.graphs.graph_matching import suitor_matching

SLOWEST_COARSENING = 1.1
LARGEST_DIRECT = 500  # where matching stalls on a level beyond this (a star, say), all its rows become one aggregate
NEGLIGIBLE = np.finfo(np.float64).eps
_ONE = np.uint64(1)


class Level(NamedTuple):
    """A symmetric matrix in CSR form with sorted columns."""

    indptr: np.ndarray
    indices: np.ndarray
    entries: np.ndarray

    @property
    def n(self) -> int:
        """The number of rows."""
        return len(self.indptr) - 1


class MatchingHierarchy(NamedTuple):
    """All levels of a hierarchy, packed.

    Attributes
    ----------
    starts : ndarray (levels + 1,)
        The first row of each level, and the number of all rows.
    indptr, indices, entries : ndarrays
        The matrices of all levels on one block diagonal. Numbers are unsigned: compiled loops then need not ask whether they count from the end.
    middle : ndarray (rows,)
        Where in `entries` the diagonal of each row is.
    aggregates : ndarray (rows,)
        The row of the next level that each row goes into; -1 for none. The coarsest level has none.
    weights : ndarray (rows,)
        The entry of the prolongator in each row.
    coarse_inverse : ndarray (k, k)
        The inverse of the coarsest matrix.
    """

    starts: np.ndarray
    indptr: np.ndarray
    indices: np.ndarray
    entries: np.ndarray
    middle: np.ndarray
    aggregates: np.ndarray
    weights: np.ndarray
    coarse_inverse: np.ndarray

    @property
    def sizes(self) -> list[int]:
        """The number of unknowns on each level, finest first."""
        return np.diff(self.starts).tolist()

    @property
    def operator_complexity(self) -> float:
        """Entries on all levels over entries on the finest."""
        return float(self.indptr[-1] / self.indptr[self.starts[1]])

    def matrix(self, level: int) -> scipy.sparse.csr_array:
        """The matrix of a level, 0 the finest."""
        first, last = self.starts[level : level + 2]
        begin, end = self.indptr[first], self.indptr[last]
        parts = self.entries[begin:end], self.indices[begin:end].view(np.int32) - first, (self.indptr[first : last + 1] - begin).view(np.int64)
        return scipy.sparse.csr_array(parts, shape=(last - first, last - first))

    def prolongator(self, level: int) -> scipy.sparse.csr_array:
        """The prolongator from the next coarser level to this one: at most one entry in each row."""
        first, last, end = self.starts[level : level + 3]
        rows = np.flatnonzero(self.aggregates[first:last] >= 0)
        columns = self.aggregates[first + rows] - last
        return scipy.sparse.csr_array((self.weights[first + rows], (rows, columns)), shape=(last - first, end - last))


def build_hierarchy(A: scipy.sparse.csr_array, smooth: np.ndarray, *, aggregation_sweeps: int, max_coarse: int, max_levels: int) -> MatchingHierarchy:
    """Coarsen A, symmetric with sorted columns, so that `smooth` lies in the range of every prolongator.

    A matrix of two rows or more is coarsened at least once, so that what a cycle damps worst says something of A.

    Raises
    ------
    ValueError
        If a coarsest matrix, and so A, is not positive definite.
    """
    level, w = Level(A.indptr.astype(np.int64), A.indices.astype(np.int32), A.data), smooth
    levels, transfers = [level], []
    while level.n > 1 and len(levels) < max_levels and (level.n > max_coarse or len(levels) == 1):
        coarse, coarse_w, aggregates, weights = _coarsened(level, w, aggregation_sweeps)
        if level.n < SLOWEST_COARSENING * coarse.n:
            if level.n <= LARGEST_DIRECT:
                break
            coarse, coarse_w, aggregates, weights = _collapsed(level, w)
        transfers.append((aggregates, weights))
        levels.append(coarse)
        level, w = coarse, coarse_w
    return _packed(levels, transfers)


def _coarsened(level: Level, w: np.ndarray, sweeps: int) -> tuple[Level, np.ndarray, np.ndarray, np.ndarray]:
    """The coarse matrix and vector, and the prolongator as aggregates and weights, after `sweeps` rounds of matching."""
    aggregates, weights = np.arange(level.n), np.ones(level.n)
    for _ in range(sweeps):
        edge_weights = matching_weights(*level, w)
        pairs, entries, count = pairwise_aggregates(suitor_matching(level.indptr, level.indices, edge_weights), w)
        level = Level(*galerkin_product(*level, pairs, entries, count))
        w = restricted(pairs, entries, w, count)
        weights = np.where(aggregates >= 0, weights * entries[aggregates], 0.0)
        aggregates = np.where(aggregates >= 0, pairs[aggregates], -1)
        if level.n <= 1:
            break
    return level, w, aggregates, weights


def _collapsed(level: Level, w: np.ndarray) -> tuple[Level, np.ndarray, np.ndarray, np.ndarray]:
    """The same with one aggregate of all rows."""
    length = np.linalg.norm(w)
    aggregates, weights = np.zeros(level.n, dtype=np.int64), w / length
    return Level(*galerkin_product(*level, aggregates, weights, 1)), np.array([length]), aggregates, weights


def _packed(levels: list[Level], transfers: list[tuple[np.ndarray, np.ndarray]]) -> MatchingHierarchy:
    starts = np.cumsum([0, *(level.n for level in levels)])
    entry_starts = np.cumsum([0, *(len(level.entries) for level in levels)])
    indptr = np.concatenate([level.indptr[:-1] + begin for level, begin in zip(levels, entry_starts)] + [entry_starts[-1:]])
    indices = np.concatenate([level.indices + np.int32(first) for level, first in zip(levels, starts)])
    entries = np.concatenate([level.entries for level in levels])
    none = [(np.full(levels[-1].n, -1), np.zeros(levels[-1].n))]
    aggregates = np.concatenate([np.where(part >= 0, part + first, -1) for (part, _), first in zip(transfers + none, starts[1:])])
    weights = np.concatenate([part for _, part in transfers + none])
    middle = _diagonals(indptr, indices)
    unsigned = indptr.view(np.uint64), indices.view(np.uint32), entries, middle.view(np.uint64)
    return MatchingHierarchy(starts, *unsigned, aggregates, weights, _inverse(levels[-1]))


def _inverse(coarsest: Level) -> np.ndarray:
    dense = scipy.sparse.csr_array((coarsest.entries, coarsest.indices, coarsest.indptr), shape=(coarsest.n, coarsest.n)).toarray()
    values, vectors = np.linalg.eigh(dense)
    if values[0] <= 10 * coarsest.n * NEGLIGIBLE * values[-1]:
        raise ValueError(f"A must be positive definite: its projection on the coarsest level has the eigenvalue {values[0]:.2g}")
    return (vectors / values) @ vectors.T


@njit(cache=True, nogil=True)
def matching_weights(indptr, indices, entries, w):
    """The weights |1 - 2 w_i w_j a_ij / (a_ii w_i^2 + a_jj w_j^2)| of all entries, equal in both directions; tiny where w vanishes at both ends."""
    n = w.shape[0]
    energy = np.zeros(n)
    for i in range(n):
        for e in range(indptr[i], indptr[i + 1]):
            if indices[e] == i:
                energy[i] = entries[e] * w[i] * w[i]
    weights = np.empty_like(entries)
    for i in range(n):
        for e in range(indptr[i], indptr[i + 1]):
            j = indices[e]
            scale = energy[i] + energy[j]
            weights[e] = abs(1.0 - 2.0 * (w[i] * w[j]) * entries[e] / scale) if scale > 0.0 else NEGLIGIBLE
    return weights


@njit(cache=True, nogil=True)
def pairwise_aggregates(mates, w):
    """The aggregate and the prolongator's entry of each row, and the number of aggregates; rows at which w vanishes go into none."""
    n = w.shape[0]
    zero = NEGLIGIBLE * np.max(np.abs(w))
    aggregates, entries = np.full(n, -1, dtype=np.int64), np.zeros(n)
    count = 0
    for i in range(n):
        if aggregates[i] >= 0:
            continue
        j = mates[i]
        length = np.hypot(w[i], w[j]) if j >= 0 else abs(w[i])
        if length <= zero:
            continue
        aggregates[i], entries[i] = count, w[i] / length
        if j >= 0:
            aggregates[j], entries[j] = count, w[j] / length
        count += 1
    return aggregates, entries, count


@njit(cache=True, nogil=True)
def restricted(aggregates, entries, fine, count):
    """P^T fine."""
    coarse = np.zeros(count)
    for i in range(fine.shape[0]):
        if aggregates[i] >= 0:
            coarse[aggregates[i]] += entries[i] * fine[i]
    return coarse


@njit(cache=True, nogil=True)
def galerkin_product(indptr, indices, entries, aggregates, weights, count):
    """P^T A P of a symmetric A, exactly symmetric, with sorted columns."""
    members = np.zeros(count + 1, dtype=np.int64)
    for i in range(aggregates.shape[0]):
        if aggregates[i] >= 0:
            members[aggregates[i] + 1] += 1
    members = np.cumsum(members)
    order, place = np.empty(members[count], dtype=np.int64), members[:-1].copy()
    for i in range(aggregates.shape[0]):
        if aggregates[i] >= 0:
            order[place[aggregates[i]]] = i
            place[aggregates[i]] += 1
    seen_in, position = np.full(count, -1, dtype=np.int64), np.empty(count, dtype=np.int64)
    starts = np.zeros(count + 1, dtype=np.int64)
    columns, values = np.empty(entries.shape[0], dtype=np.int32), np.empty(entries.shape[0])
    filled = 0
    for c in range(count):
        for m in range(members[c], members[c + 1]):
            i = order[m]
            for e in range(indptr[i], indptr[i + 1]):
                d = aggregates[indices[e]]
                if d < 0:
                    continue
                term = (weights[i] * weights[indices[e]]) * entries[e]
                if seen_in[d] == c:
                    values[position[d]] += term
                else:
                    seen_in[d], position[d] = c, filled
                    columns[filled], values[filled] = d, term
                    filled += 1
        starts[c + 1] = filled
    return starts, *_transposed(starts, columns[:filled], values[:filled])


@njit(cache=True, nogil=True)
def _transposed(starts, columns, values):
    """The columns, sorted, and entries of the transpose of a matrix of symmetric pattern, the upper triangle's copied to the lower."""
    sorted_columns, sorted_values = np.empty_like(columns), np.empty_like(values)
    place = starts[:-1].copy()
    for row in range(place.shape[0]):
        for e in range(starts[row], starts[row + 1]):
            d = columns[e]
            sorted_columns[place[d]], sorted_values[place[d]] = row, values[e]
            place[d] += 1
    place[:] = starts[:-1]
    for row in range(place.shape[0]):
        for e in range(starts[row], starts[row + 1]):
            d = sorted_columns[e]
            if d > row:  # rows come in order, so the mirror image is the next entry of row d
                sorted_values[place[d]] = sorted_values[e]
                place[d] += 1
    return sorted_columns, sorted_values


@njit(cache=True, nogil=True)
def _diagonals(indptr, indices):
    middle = np.empty(indptr.shape[0] - 1, dtype=np.int64)
    for i in range(middle.shape[0]):
        middle[i] = indptr[i] + np.searchsorted(indices[indptr[i] : indptr[i + 1]], i)
    return middle


@njit(cache=True, nogil=True)
def v_cycle(hierarchy, x, b):
    """Improve x[:n] for A x = b[:n]: one forward sweep of Gauss-Seidel before, one backward after each coarse correction.

    x and b hold all levels; what stands beyond n is overwritten.
    """
    starts, indptr, indices, entries, middle, aggregates, weights, coarse_inverse = hierarchy
    levels = starts.shape[0] - 1
    residual = np.zeros(starts[levels])
    for level in range(levels - 1):
        first, last, end = starts[level], starts[level + 1], starts[level + 2]
        if level == 0:
            _sweep_forward(indptr, indices, entries, middle, first, last, x, b, residual)
        else:
            _sweep_forward_from_zero(indptr, indices, entries, middle, first, last, x, b, residual)
        b[last:end] = 0.0
        for i in range(first, last):
            if aggregates[i] >= 0:
                b[aggregates[i]] += weights[i] * residual[i]
    x[starts[levels - 1] :] = coarse_inverse @ b[starts[levels - 1] :]
    for level in range(levels - 2, -1, -1):
        first, last = starts[level], starts[level + 1]
        for i in range(first, last):
            if aggregates[i] >= 0:
                x[i] += weights[i] * x[aggregates[i]]
        _sweep_backward(indptr, indices, entries, middle, first, last, x, b)


@njit(cache=True, nogil=True)
def _sweep_forward(indptr, indices, entries, middle, first, last, x, b, residual):
    """One sweep, and b - A x after it: row i is exact when it is updated, and then changes with each later row, by symmetry read off that row."""
    for i in range(first, last):
        rest = b[i]
        for e in range(middle[i] + _ONE, indptr[i + 1]):
            rest -= entries[e] * x[indices[e]]
        for e in range(indptr[i], middle[i]):
            rest -= entries[e] * x[indices[e]]
        new = rest / entries[middle[i]]
        change = new - x[i]
        x[i], residual[i] = new, 0.0
        for e in range(indptr[i], middle[i]):
            residual[indices[e]] -= entries[e] * change


@njit(cache=True, nogil=True)
def _sweep_forward_from_zero(indptr, indices, entries, middle, first, last, x, b, residual):
    """The same where x begins at zero: entries right of the diagonal are not read."""
    for i in range(first, last):
        rest = b[i]
        for e in range(indptr[i], middle[i]):
            rest -= entries[e] * x[indices[e]]
        x[i] = rest / entries[middle[i]]
        residual[i] = 0.0
        for e in range(indptr[i], middle[i]):
            residual[indices[e]] -= entries[e] * x[i]


@njit(cache=True, nogil=True)
def _sweep_backward(indptr, indices, entries, middle, first, last, x, b):
    for i in range(last - 1, first - 1, -1):
        left, right = 0.0, 0.0
        for e in range(indptr[i], middle[i]):
            left += entries[e] * x[indices[e]]
        for e in range(middle[i] + _ONE, indptr[i + 1]):
            right += entries[e] * x[indices[e]]
        x[i] = (b[i] - left - right) / entries[middle[i]]
