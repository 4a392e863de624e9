"""Random walks on a graph in compiled loops; each start node has a random stream of its own, so that threads, shards and order change nothing."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse
from numba import njit, prange

from ritz.core import integer, random_generator, to_numpy
from ritz.graphs.adjacency import as_adjacency

# splitmix64 (Steele, Lea and Flood 2014): a counter, stirred
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_TO_UNIT = 2.0**-53


class WalkTable(NamedTuple):
    """What a step needs: the CSR structure and, within each row, the cumulative transition probabilities (none where all weights are equal)."""

    indptr: np.ndarray
    indices: np.ndarray
    cumulative: np.ndarray


def random_walks(adjacency, starts, length: int, *, walks: int = 1, rng=None) -> np.ndarray:
    """Walk at random along the edges of a graph; a walk that meets a node without outgoing edges stays there.

    Parameters
    ----------
    adjacency : graph with n nodes
        As for `as_adjacency`; an edge is taken with a probability proportional to its weight.
    starts : array-like of int (m,)
        The numbers of the start nodes. One that stands here twice gets the same walks twice.
    length : int
        The number of steps, 0 or more.
    walks : int
        The number of walks from each start.
    rng : Generator, int or None
        Source of randomness; the walks of a start depend on nothing else.

    Returns
    -------
    ndarray of int (m, walks, length + 1)
        The nodes met, the start first.

    Raises
    ------
    ValueError
        If a start is no node, or a count is negative.

    Examples
    --------
    >>> random_walks([[0, 1, 0], [0, 0, 1], [0, 0, 0]], [0], 3, rng=0)
    array([[[0, 1, 2, 2]]])
    """
    matrix = as_adjacency(adjacency).matrix
    starts = node_numbers(starts, matrix.shape[0], "starts")
    length, walks = integer(length, "length", at_least=0), integer(walks, "walks", at_least=1)
    seed = walk_seed(random_generator(rng))
    path = np.empty((len(starts), walks, length + 1), dtype=np.int64)
    _walk_all(*walk_table(matrix), starts, seed, path)
    return path


def node_numbers(nodes, n: int, name: str) -> np.ndarray:
    """Return node numbers as an int64 vector, each from 0 to n - 1."""
    numbers = to_numpy(nodes, name)
    if numbers.ndim != 1:
        raise ValueError(f"{name} must have 1 dimension, got {numbers.ndim}, shape {numbers.shape}")
    if numbers.dtype.kind not in "iu" and (numbers.size or numbers.dtype.kind not in "f"):
        raise TypeError(f"{name} must be node numbers (integers), got dtype {numbers.dtype}")
    outside = (numbers < 0) | (numbers >= n)
    if outside.any():
        raise ValueError(f"{name} must be node numbers from 0 to {n - 1}, nodes of adjacency, got {numbers[outside][0]}")
    return numbers.astype(np.int64)


def walk_seed(rng: np.random.Generator) -> np.uint64:
    """Draw the seed from which every start node derives its stream."""
    return np.uint64(rng.integers(2**63))


def walk_table(matrix: scipy.sparse.csr_array) -> WalkTable:
    """Return what `step` needs for a CSR matrix of weights, all positive."""
    counts = np.diff(matrix.indptr)
    occupied = matrix.indptr[:-1][counts > 0]
    totals = np.add.reduceat(matrix.data, occupied) if len(occupied) else np.zeros(0)
    if not len(occupied) or np.array_equal(np.repeat(totals / counts[counts > 0], counts[counts > 0]), matrix.data):
        return WalkTable(matrix.indptr, matrix.indices, np.zeros(0))
    cumulative = np.cumsum(matrix.data)
    before = np.repeat(cumulative[occupied] - matrix.data[occupied], counts[counts > 0])
    cumulative = (cumulative - before) / np.repeat(totals, counts[counts > 0])
    return WalkTable(matrix.indptr, matrix.indices, cumulative)


@njit(cache=True, nogil=True, inline="always")
def stirred(word):
    """The output of splitmix64 for a counter."""
    word = (word ^ (word >> np.uint64(30))) * _FIRST
    word = (word ^ (word >> np.uint64(27))) * _SECOND
    return word ^ (word >> np.uint64(31))


@njit(cache=True, nogil=True, inline="always")
def stream_of(seed, node):
    """The counter at which the stream of a node begins."""
    return stirred(seed + _GOLDEN * (np.uint64(node) + np.uint64(1)))


@njit(cache=True, nogil=True, inline="always")
def advanced(counter):
    """The next counter of a stream; `unit` makes a number of it."""
    return counter + _GOLDEN


@njit(cache=True, nogil=True, inline="always")
def unit(counter):
    """A number uniform in [0, 1)."""
    return np.float64(stirred(counter) >> np.uint64(11)) * _TO_UNIT


@njit(cache=True, nogil=True, inline="always")
def step(indptr, indices, cumulative, node, uniform):
    """The neighbor that a number uniform in [0, 1) picks; the node itself if it has none."""
    first, last = indptr[node], indptr[node + 1]
    if first == last:
        return np.int64(node)
    if cumulative.shape[0] == 0:
        return np.int64(indices[first + np.int64(uniform * (last - first))])
    last -= 1
    while first < last:  # the first place whose cumulative probability exceeds the number
        middle = (first + last) // 2
        if cumulative[middle] > uniform:
            last = middle
        else:
            first = middle + 1
    return np.int64(indices[first])


@njit(cache=True, nogil=True, parallel=True)
def _walk_all(indptr, indices, cumulative, starts, seed, path):
    for i in prange(starts.shape[0]):
        counter = stream_of(seed, starts[i])
        for w in range(path.shape[1]):
            node = starts[i]
            path[i, w, 0] = node
            for t in range(1, path.shape[2]):
                counter = advanced(counter)
                node = step(indptr, indices, cumulative, node, unit(counter))
                path[i, w, t] = node
