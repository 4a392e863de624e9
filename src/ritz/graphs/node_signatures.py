"""Numbers that tell the nodes of a graph apart whatever they are called, and an order of the nodes made of them.

The signature of a node: the heat kernel's diagonal exp(-t L_sym)_ii at five times (Sun, Ovsjanikov and Guibas, "A concise and provably informative
multi-scale signature based on heat diffusion", SGP 2009), its degree and the mean degree of its neighbors.

Nodes that symmetries exchange have equal signatures. The order breaks such ties as canonical labelling does (McKay, "Practical graph isomorphism",
1981): one node of a tied class is told apart, the heat that it sends to the others and what they see of each other's classes are appended to their
signatures, and so on until all differ. Where the tied nodes are equivalent under the symmetries left, which node is taken does not matter, and
isomorphic graphs get orders that make their matrices equal.
"""

from __future__ import annotations

import numpy as np
import scipy.stats

from ritz.graphs.adjacency import Adjacency
from ritz.graphs.laplacian import inverse_power, laplacian

TIMES = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
EQUAL = 1e-9  # values closer than this, relative to the largest, are equal


class NodeSignatures:
    """The signatures of an undirected graph's nodes.

    Attributes
    ----------
    ranks : ndarray (n, 7)
        Each signature's mean rank among the nodes, over n: comparable between graphs.
    order : ndarray (n,)
        The nodes in their canonical order.
    """

    def __init__(self, graph: Adjacency):
        values, self._vectors = np.linalg.eigh(laplacian(graph, "sym").toarray())
        self._heat = np.exp(-np.outer(values, TIMES))
        degrees = graph.matrix.sum(axis=1)
        neighbors = inverse_power(degrees, 1.0) * (graph.matrix @ degrees)
        levels = _levels(np.column_stack([self._vectors**2 @ self._heat, degrees, neighbors]))
        self.ranks = scipy.stats.rankdata(levels, axis=0) / graph.n
        self.order = self._refined_order(_classes(levels), graph)

    def _refined_order(self, classes: np.ndarray, graph: Adjacency) -> np.ndarray:
        """Split the first tied class, again and again; isolated nodes may stay tied, since nothing depends on their order."""
        reached = graph.matrix.sum(axis=1) > 0
        while True:
            classes = _equitable(classes, graph)
            tied = (np.bincount(classes)[classes] > 1) & reached
            if not tied.any():
                return np.argsort(classes, kind="stable")
            chosen = np.flatnonzero(tied & (classes == classes[tied].min()))[0]
            sent = self._vectors @ (self._heat * self._vectors[chosen][:, None])
            told_apart = np.arange(len(classes)) == chosen
            classes = _classes(np.column_stack([classes, told_apart, _levels(sent)]))


def _equitable(classes: np.ndarray, graph: Adjacency) -> np.ndarray:
    """Split classes until the nodes of each have the same weight to each class (color refinement).

    Weights to all classes are compared at once by sums of numbers that stand for the classes, the same at every call.
    """
    stand_ins = np.random.default_rng(0).random((graph.n, 3))
    while True:
        split = _classes(np.column_stack([classes, _levels(graph.matrix @ stand_ins[classes])]))
        if split.max() == classes.max():
            return classes
        classes = split


def _levels(values: np.ndarray) -> np.ndarray:
    """Replace each value by the number of smaller different values in its column."""
    order = np.argsort(values, axis=0)
    gaps = np.diff(np.take_along_axis(values, order, axis=0), axis=0) > EQUAL * np.maximum(np.abs(values).max(axis=0), np.finfo(float).tiny)
    levels = np.zeros(values.shape, dtype=np.int64)
    np.put_along_axis(levels, order, np.vstack([np.zeros((1, values.shape[1]), dtype=np.int64), np.cumsum(gaps, axis=0)]), axis=0)
    return levels


def _classes(levels: np.ndarray) -> np.ndarray:
    """Number the different rows in lexicographic order."""
    return np.unique(levels, axis=0, return_inverse=True)[1].ravel()
