"""Greedy matching in linear time: pairs of nodes along heavy edges, at least half as heavy in all as the heaviest matching.

Manne and Halappanavar, "New Effective Multithreaded Matching Algorithms", IPDPS 2014 (the Suitor algorithm).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ritz.graphs.adjacency import as_adjacency


def greedy_matching(adjacency) -> np.ndarray:
    """Match nodes along edges, heaviest first: the matching that greedy selection by decreasing weight finds, without sorting.

    Each node proposes to the heaviest neighbor that has no better suitor; a suitor that is turned out proposes again. Equal weights are told
    apart by node numbers, the edge with the lowest one first.

    Parameters
    ----------
    adjacency : graph with n nodes
        Undirected, with weights above zero; loops are ignored.

    Returns
    -------
    ndarray of int64 (n,)
        The partner of each node, -1 for a node without one. No two of these are neighbors, and the weight of the matching is at least half
        of the largest possible.

    Raises
    ------
    ValueError
        If the graph is directed or has negative weights.

    Notes
    -----
    Expected cost O(edges); a node of many neighbors that is turned out often costs its degree each time.

    Examples
    --------
    >>> greedy_matching([[0, 1, 0, 0], [1, 0, 3, 0], [0, 3, 0, 2], [0, 0, 2, 0]])
    array([-1,  2,  1, -1])
    """
    matrix = as_adjacency(adjacency, directed=False).matrix
    return suitor_matching(matrix.indptr, matrix.indices, matrix.data)


@njit(cache=True, nogil=True)
def suitor_matching(indptr, indices, weights):
    """The partners of all nodes of a symmetric CSR graph with weights of at least 0, equal in both directions; -1 for none."""
    n = indptr.shape[0] - 1
    suitor = np.full(n, -1, dtype=np.int64)
    offer = np.full(n, -1.0)
    for first in range(n):
        node = first
        while node >= 0:
            chosen, heaviest = -1, -1.0
            for e in range(indptr[node], indptr[node + 1]):
                other = np.int64(indices[e])
                if (
                    other != node
                    and _beats(weights[e], node, other, heaviest, node, chosen)
                    and _beats(weights[e], node, other, offer[other], suitor[other], other)
                ):
                    chosen, heaviest = other, weights[e]
            if chosen < 0:
                break
            node, suitor[chosen], offer[chosen] = suitor[chosen], node, heaviest
    return suitor


@njit(cache=True, nogil=True, inline="always")
def _beats(weight, u, v, held, s, t):
    """Whether edge (u, v) comes before edge (s, t) of weight `held`, which is no edge if an end is -1."""
    if weight != held:
        return weight > held
    low, other_low = min(u, v), min(s, t)
    return other_low < 0 or low < other_low or (low == other_low and max(u, v) < max(s, t))
