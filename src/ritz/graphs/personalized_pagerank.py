"""Personalized PageRank by definition: power iteration to any accuracy, and the estimates by random walks that better methods must beat.

With W the random-walk matrix of a graph and c the restart probability, the vector of a source u is p_u = c e_u + (1 - c) W^T p_u: where a walker
is found that returns to u with probability c before each step.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import scipy.sparse

from ritz.core import choice, integer, progress, random_generator, real
from ritz.graphs.adjacency import as_adjacency
from ritz.graphs.random_walks import node_numbers, walk_seed, walk_table
from ritz.graphs.ray_tasks import Placed
from ritz.graphs.sparse_products import SparseRows
from ritz.graphs.vertex_decomposition import BATCH, decompose
from ritz.graphs.walk_visits import ENDLESS, visit_shares

METHODS = ("power", "walk_full", "walk_end", "decompose")
DANGLING = ("self", "uniform")


class WalkGraph(NamedTuple):
    """W in CSR form, and the cumulative probabilities that a weighted step needs (none where all weights are equal); an empty row jumps anywhere."""

    indptr: np.ndarray
    indices: np.ndarray
    probabilities: np.ndarray
    cumulative: np.ndarray


def personalized_pagerank(
    adjacency,
    sources,
    *,
    restart_prob: float = 0.15,
    method: str = "power",
    tol: float = 1e-10,
    n_walks: int = 100,
    max_steps: int | None = None,
    iterations: int = 8,
    threshold: float = 0.0,
    dangling: str = "self",
    rng: np.random.Generator | int | None = None,
) -> scipy.sparse.csr_array:
    """Return the personalized PageRank vectors of some sources, exactly or by a reference estimate; `PowerWalk` is the method for many of them.

    Parameters
    ----------
    adjacency : graph with n nodes
        As for `as_adjacency`; row = source, a step follows an edge with a probability proportional to its weight.
    sources : array-like of int (m,)
        Node numbers.
    restart_prob : float in (0, 1]
        The probability c of a return to the source before each step.
    method : {"power", "walk_full", "walk_end", "decompose"}
        Power iteration until the L1 error is at most `tol`; the shares of all nodes that `n_walks` walks visit; the shares of the nodes where they
        end; `iterations` steps of the decomposition with no index, whose flow then settles where it stands: as many steps of power iteration.
    tol : float
        The L1 error of "power".
    n_walks, max_steps : int
        The walks from each source, and the steps after which one is cut short (None: never; its visits until then count, its end does not).
    iterations, threshold : int, float
        The steps of "decompose", and the amount below which it drops what settles or moves, as `PowerWalk` does.
    dangling : {"self", "uniform"}
        Where a step from a node without outgoing edges leads: to itself, or to any node.
    rng : Generator, int or None
        Source of randomness of the walks.

    Returns
    -------
    csr_array (m, n) float64
        One row for each source.

    Raises
    ------
    ValueError, TypeError
        If an option, a source or the graph is not as described; the message names it.

    Notes
    -----
    Cost: log(2 / tol) / c products with W for each source by "power" (a dense block of 32 sources at a time), n_walks / c steps by walks.
    A walk makes 1 / c visits on average, so that counting all of them takes 1 / c times as many samples from the same steps as counting ends.

    Examples
    --------
    >>> personalized_pagerank([[0, 1, 0], [0, 0, 1], [1, 0, 0]], [0], restart_prob=0.5).toarray().round(4)
    array([[0.5714, 0.2857, 0.1429]])
    """
    matrix = as_adjacency(adjacency).matrix
    sources = node_numbers(sources, matrix.shape[0], "sources")
    c, graph = checked_restart(restart_prob), Placed(walk_graph(matrix, choice(dangling, "dangling", DANGLING))).value
    tol = real(tol, "tol", above=0)
    n_walks, max_steps = integer(n_walks, "n_walks", at_least=1), checked_cap(max_steps)
    iterations, threshold = integer(iterations, "iterations", at_least=0), real(threshold, "threshold", at_least=0)
    seed = walk_seed(random_generator(rng))
    if choice(method, "method", METHODS) in ("walk_full", "walk_end"):
        options = n_walks, max_steps, c, seed, method == "walk_end", np.dtype(np.float64)
        sizes, nodes, shares, _ = visit_shares(graph.indptr, graph.indices, graph.cumulative, sources, *options)
        return as_rows([(sizes, nodes, shares)], matrix.shape[0])
    batches = [sources[first : first + BATCH] for first in range(0, len(sources), BATCH)]
    if method == "power":
        steps = 0 if c == 1 else max(0, math.ceil(math.log(tol / 2) / math.log1p(-c)))
        return _power(graph, batches, c, steps)
    settling = Placed(nothing_indexed(graph)).value
    rows = [decompose(graph[:3], settling, batch, c, iterations, threshold) for batch in progress(batches, "decomposition")]
    return as_rows(rows, matrix.shape[0])


def checked_restart(restart_prob: object) -> float:
    """Return the restart probability, in (0, 1]."""
    return real(restart_prob, "restart_prob", above=0, at_most=1)


def checked_cap(max_steps: object) -> int:
    """Return the number of steps after which a walk is cut short."""
    return ENDLESS if max_steps is None else integer(max_steps, "max_steps", at_least=0)


def walk_graph(matrix: scipy.sparse.csr_array, dangling: str) -> WalkGraph:
    """Return W of a matrix of weights; "self" gives a node without outgoing edges one to itself, "uniform" leaves its row empty."""
    counts = np.diff(matrix.indptr)
    if dangling == "self" and (counts == 0).any():
        matrix = scipy.sparse.csr_array(matrix + scipy.sparse.diags_array((counts == 0).astype(np.float64)))
        matrix.eliminate_zeros()
        matrix.sort_indices()
        counts = np.diff(matrix.indptr)
    table = walk_table(matrix)
    probabilities = matrix.data / np.repeat(matrix.sum(axis=1), counts)
    narrow = scipy.sparse.get_index_dtype(maxval=len(counts))
    return WalkGraph(table.indptr.astype(np.int64), table.indices.astype(narrow, copy=False), probabilities, table.cumulative)


def nothing_indexed(graph: WalkGraph) -> SparseRows:
    """The index of no walks, the identity: what flows to a node settles there."""
    n = len(graph.indptr) - 1
    return SparseRows(np.arange(n + 1), np.arange(n, dtype=graph.indices.dtype), np.ones(n))


def as_rows(pieces: list[tuple], n: int) -> scipy.sparse.csr_array:
    """Join pieces (entries per row, columns, values, ...) into one matrix with n columns."""
    if not pieces:
        return scipy.sparse.csr_array((0, n))
    sizes, columns, values = (np.concatenate([piece[k] for piece in pieces]) for k in range(3))
    return scipy.sparse.csr_array((values, columns, np.concatenate([[0], np.cumsum(sizes)])), shape=(len(sizes), n))


def _power(graph: WalkGraph, batches: list[np.ndarray], c: float, steps: int) -> scipy.sparse.csr_array:
    """x <- c e_u + (1 - c) W^T x from x = e_u, whose error is at most 2 at the start and falls by 1 - c at each step."""
    n = len(graph.indptr) - 1
    backward = scipy.sparse.csr_array((graph.probabilities, graph.indices, graph.indptr), shape=(n, n)).T.tocsr()
    empty = np.flatnonzero(np.diff(graph.indptr) == 0)
    rows = [scipy.sparse.csr_array((0, n))]
    for batch in progress(batches, "power iteration"):
        restart = np.zeros((n, len(batch)))
        restart[batch, np.arange(len(batch))] = 1
        x = restart
        for _ in range(steps):
            x = c * restart + (1 - c) * (backward @ x + x[empty].sum(axis=0) / n)
        rows.append(scipy.sparse.csr_array(x.T))
    return scipy.sparse.csr_array(scipy.sparse.vstack(rows))
