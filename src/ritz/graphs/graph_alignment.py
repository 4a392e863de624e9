"""Alignment of a graph with a reference graph: a permutation of its nodes, the same whatever the nodes are called.

Two parties who align their graphs with one public reference can compare them although neither sees the other's graph. Three methods: node signatures,
fast approximate quadratic assignment (Vogelstein et al. 2015, arXiv:1112.5507), and the stochastic descent over Sinkhorn's matrices of GOT (Petric
Maretic et al. 2019, arXiv:1906.02085).
"""

from __future__ import annotations

import numpy as np
import scipy.optimize
import scipy.sparse
import scipy.spatial.distance

from ritz.core import choice, integer, random_generator
from ritz.graphs.adjacency import Adjacency, as_adjacency
from ritz.graphs.gaussian_graph_distance import signal_factor
from ritz.graphs.node_signatures import NodeSignatures
from ritz.graphs.quadratic_assignment import match_graphs

METHODS = ("signature", "faq", "sinkhorn")


def align_to_reference(A, A_ref, *, method: str = "signature", n_init: int = 10, rng: np.random.Generator | int | None = None) -> np.ndarray:
    """Find a permutation p that makes A[p][:, p] like a reference's adjacency matrix.

    A is padded with isolated nodes to the reference's size N first; p numbers them from n on. Before any method works, the nodes of A are put into a
    canonical order by their signatures (`ritz.graphs.node_signatures`), so that the aligned matrix does not depend on their names: a relabelled copy
    gets the same one (and with an integer `rng` also from the random methods), unless symmetries of A are hidden from its signatures (tied nodes that
    are not equivalent, in some strongly regular graphs).

    Parameters
    ----------
    A : graph with n nodes
        Undirected.
    A_ref : graph with N >= n nodes
        Undirected.
    method : {"signature", "faq", "sinkhorn"}
        "signature": linear assignment of the squared distances between the ranks of seven node signatures (heat kernel diagonals, degree, neighbors'
        degree); small changes of A change little, whatever the reference is. "faq": fast approximate quadratic assignment, which maximizes the common
        weight; for references like A. "sinkhorn": stochastic descent of the Wasserstein distance of smooth signals (GOT); slow, for small graphs.
    n_init : int
        Starts of "faq", draws per step of "sinkhorn".
    rng : Generator, int or None
        Source of randomness of the last two methods.

    Returns
    -------
    ndarray (N,) of int
        The node of the padded A that takes the place of each node of the reference.

    Notes
    -----
    Cost O(N^3) for "signature", times `n_init` and tens of steps for "faq", times `n_init` and 1000 steps for "sinkhorn".

    References
    ----------
    .. [1] Vogelstein et al., PLOS ONE 2015, arXiv:1112.5507 (FAQ); Petric Maretic et al., NeurIPS 2019, arXiv:1906.02085 (GOT).

    Examples
    --------
    >>> star, renamed = np.zeros((2, 4, 4))
    >>> star[0, 1:] = star[1:, 0] = 1
    >>> renamed[2, [0, 1, 3]] = renamed[[0, 1, 3], 2] = 1
    >>> int(align_to_reference(renamed, star)[0])
    2
    """
    graph = as_adjacency(A, directed=False, name="A")
    reference = as_adjacency(A_ref, directed=False, name="A_ref")
    choice(method, "method", METHODS)
    n_init = integer(n_init, "n_init", at_least=1)
    rng = random_generator(rng)
    if reference.n < graph.n:
        raise ValueError(f"A_ref must have at least the {graph.n} nodes of A, got {reference.n}")
    return aligned_order(padded(graph, reference.n), reference, method, n_init, rng)


def aligned_order(graph: Adjacency, reference: Adjacency, method: str, n_init: int, rng: np.random.Generator) -> np.ndarray:
    """Return the permutation of `align_to_reference` for undirected graphs of one size."""
    signatures = NodeSignatures(graph)
    order = signatures.order
    if method == "signature":
        costs = scipy.spatial.distance.cdist(NodeSignatures(reference).ranks, signatures.ranks[order], "sqeuclidean")
        return order[scipy.optimize.linear_sum_assignment(costs)[1]]
    canonical = relabelled(graph, order)
    if method == "faq":
        return order[match_graphs(canonical.matrix.toarray(), reference.matrix.toarray(), n_init, rng)]
    from ritz.graphs.sinkhorn_alignment import transport_alignment  # torch, which the other methods do not need

    return order[transport_alignment(signal_factor(canonical), signal_factor(reference), n_init, int(rng.integers(2**63)))]


def padded(graph: Adjacency, size: int) -> Adjacency:
    """Return the graph with isolated nodes added, up to `size` nodes."""
    matrix = graph.matrix.copy()
    matrix.resize((size, size))
    return Adjacency(matrix, np.arange(size))


def relabelled(graph: Adjacency, order: np.ndarray) -> Adjacency:
    """Return the graph whose node i is node order[i] of the given one."""
    return Adjacency(scipy.sparse.csr_array(graph.matrix[order][:, order]), graph.nodes[order])
