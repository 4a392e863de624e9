"""Samples of a graph's nodes that can be compared between graphs: balls around nodes of the same standing."""

from __future__ import annotations

import numpy as np
from scipy.sparse.csgraph import breadth_first_order

from ritz.graphs.adjacency import Adjacency
from ritz.graphs.laplacian import inverse_power

ROUNDS = 4
DIGITS = 9


def matched_samples(graph: Adjacency, size: int, count: int) -> list[np.ndarray]:
    """Return `count` sets of at most `size` nodes of an undirected graph.

    Nodes are put in order by degree, then by the mean of their neighbors' degrees, and so on for a few rounds (ties by number); sample i is the
    breadth first neighborhood, nodes high in the order first, of the node at the i-th of `count` equally spaced places in it. Cost O(edges) a sample.
    """
    order = _standing(graph)
    n = graph.n
    ranked = graph.matrix[order[::-1]][:, order[::-1]]  # breadth first search visits neighbors by number: the highest first
    places = ((np.arange(count) + 0.5) / count * n).astype(int)
    return [order[::-1][breadth_first_order(ranked, n - 1 - place, directed=False, return_predecessors=False)[:size]] for place in places]


def _standing(graph: Adjacency) -> np.ndarray:
    """The nodes from the lowest to the highest."""
    degrees = graph.matrix.sum(axis=1)
    keys = [degrees]
    for _ in range(ROUNDS):
        keys.append(inverse_power(degrees, 1.0) * (graph.matrix @ keys[-1]))
    scale = max(degrees.max(), np.finfo(float).tiny)
    return np.lexsort([np.round(key / scale, DIGITS) for key in keys[::-1]])
