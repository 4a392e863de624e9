"""A small directed graph with the degrees of a large one, by shrinking the counts of its degrees.

Yan and Jin, "Constructing and Sampling Directed Graphs with Linearly Rescaled Degree Matrices", KDD 2022 (undergraduate consortium).

Nodes keep their degrees; the numbers of nodes and edges of each class of degrees are what shrinks. Nodes get as many free ends as
their degrees, and the classes of edges are filled one after another, the most numerous first.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import scipy.sparse
from numba import njit

from ritz.core import Result, choice, flag, random_generator, real, sparse_matrix
from ritz.graphs.degree_matrices import edges_by_degree, nodes_by_degree, simple_digraph
from ritz.graphs.random_walks import advanced, stream_of, unit, walk_seed

_PATIENCE = 10  # rounds of random matching in a row that add no edge, before the rest is given up


@dataclass(frozen=True, eq=False, repr=False)
class DirectedSample(Result):
    """A sampled graph and how it came about.

    `adjacency` is of the kind of the input; its nodes are numbered class by class, by out-degree and then in-degree. `target_jdm` and `target_dcm`
    are the rescaled matrices. `dropped_edges` is the number of edges of `target_jdm` that found no two free ends of their class;
    `realized_edges` counts the edges there are, with those that `complete` added.
    """

    adjacency: object
    target_jdm: scipy.sparse.coo_array
    target_dcm: scipy.sparse.coo_array
    realized_edges: int
    dropped_edges: int
    num_duplicates: int
    num_self_loops: int


def sample_directed_graph(
    graph,
    ratio: float,
    *,
    rounding: str = "nearest",
    simple: bool = True,
    complete: bool = False,
    rng: np.random.Generator | int | None = None,
) -> DirectedSample:
    """Return a directed graph of about `ratio` times as many nodes and edges, with the same distributions of degrees and of pairs of degrees.

    Parameters
    ----------
    graph : directed graph with n nodes and m edges
        As for `as_adjacency`, row = source, without weights; edges from a node to itself are left out.
    ratio : float in (0, 1]
        The share of nodes and edges of each class to keep.
    rounding : {"nearest", "stochastic"}
        Rescaled counts are rounded to the nearest integer, halves up (the paper's), or up with the probability of their fraction: unbiased, and
        better on graphs with heavy tails, most of whose classes have a single member, which "nearest" erases below a ratio of one half.
    simple : bool
        False allows edges from a node to itself. No edge comes twice in either case.
    complete : bool
        Match the ends that are still free in the end uniformly at random, across classes, whatever the joint degrees (not in the paper).
    rng : Generator, int or None
        Source of randomness.

    Returns
    -------
    DirectedSample
        Its `adjacency` is a networkx DiGraph if `graph` is one, else a csr_array of ones. Nodes whose ends stayed free have smaller degrees than
        their class, and are kept.

    Raises
    ------
    ValueError, TypeError
        If the graph is undirected, weighted or empty, an option is not as described, or nothing is left at this ratio.

    Notes
    -----
    With "nearest" the total variation between the distribution of in-degrees and the original's is at most nnz(B) / (2 n_s) + f / n_s, for n_s
    sampled nodes of which f have free ends, and nnz(B) pairs of degrees that occur; likewise for out-degrees. (Rounding moves each class by
    half a node at most. The paper's bounds have the same form; their constants were not compared.)

    Where hubs have more ends than their classes can take without doubling an edge, many edges are dropped: see `dropped_edges`, and `complete`.

    Cost: O(m log m) for the matrices, O(J log J + m_s) for the sample, with J classes of edges and m_s edges; memory O(m + m_s).

    References
    ----------
    .. [1] Yan and Jin, KDD 2022.

    Examples
    --------
    >>> ring = np.roll(np.eye(100), 1, axis=1)
    >>> sample = sample_directed_graph(ring, 0.3, rng=0)
    >>> sample.adjacency.shape, sample.dropped_edges <= 1
    ((30, 30), True)
    """
    matrix, ratio = simple_digraph(graph, "graph"), real(ratio, "ratio", above=0, at_most=1)
    choice(rounding, "rounding", ["nearest", "stochastic"])
    simple, complete = flag(simple, "simple"), flag(complete, "complete")
    rng = random_generator(rng)
    dcm = _rescaled(nodes_by_degree(matrix), ratio, rounding, rng)
    jdm = _rescaled(edges_by_degree(matrix), ratio, rounding, rng)
    if not dcm.nnz or (matrix.nnz and not jdm.nnz):
        left = "no node" if not dcm.nnz else "no edge"
        raise ValueError(f"ratio {ratio:g} with rounding '{rounding}' leaves {left} of the {matrix.shape[0]} nodes and {matrix.nnz} edges of graph")
    out_degrees, in_degrees = _nodes(dcm)
    sources, targets = _filled_classes(jdm, out_degrees, in_degrees, simple, rng)
    dropped = int(jdm.sum()) - len(sources)
    if complete:
        sources, targets = _matched_leftovers(sources, targets, out_degrees, in_degrees, simple, rng)
    adjacency = _adjacency(sources, targets, len(out_degrees))
    return DirectedSample(
        adjacency=_of_kind(graph, adjacency),
        target_jdm=jdm,
        target_dcm=dcm,
        realized_edges=len(sources),
        dropped_edges=dropped,
        num_duplicates=len(sources) - adjacency.nnz,
        num_self_loops=int(np.sum(sources == targets)),
    )


def construct_directed_graph(jdm, dcm, *, rng: np.random.Generator | int | None = None) -> scipy.sparse.csr_array:
    """Return a simple directed graph with given counts of edges and nodes by degrees.

    Edges that find no two free ends of their class are left out, with a warning that says how many.

    Parameters
    ----------
    jdm : sparse or dense matrix [out-degree, in-degree] of counts
        The edges from nodes of that out-degree to nodes of that in-degree.
    dcm : sparse or dense matrix [out-degree, in-degree] of counts
        The nodes with these two degrees.
    rng : Generator, int or None
        Source of randomness.

    Returns
    -------
    csr_array (n, n) of ones
        Nodes are numbered class by class, by out-degree and then in-degree.

    Raises
    ------
    ValueError
        If an entry is no count, there is no node, or the matrices contradict each other: o times the nodes of out-degree o must be the edges in
        row o of `jdm`, and likewise for columns. The message names the first degree at which they do.

    Examples
    --------
    >>> jdm, dcm = [[0, 0], [0, 3]], [[0, 0], [0, 3]]
    >>> construct_directed_graph(jdm, dcm, rng=0).sum(axis=1)
    array([1., 1., 1.])
    """
    jdm, dcm = _counts(jdm, "jdm"), _counts(dcm, "dcm")
    _check_consistency(jdm, dcm)
    if not dcm.nnz:
        raise ValueError("dcm must have at least one node, got none")
    out_degrees, in_degrees = _nodes(dcm)
    sources, targets = _filled_classes(jdm, out_degrees, in_degrees, True, random_generator(rng))
    missing = int(jdm.data.sum()) - len(sources)
    if missing:
        warnings.warn(f"{missing} of {len(sources) + missing} edges found no free ends and are left out", stacklevel=2)
    return _adjacency(sources, targets, len(out_degrees))


def _rescaled(counts: scipy.sparse.coo_array, ratio: float, rounding: str, rng: np.random.Generator) -> scipy.sparse.coo_array:
    """The counts times the ratio, rounded: halves up, which Python's own rounding to even numbers would delete every other one of."""
    offset = 0.5 if rounding == "nearest" else rng.random(counts.nnz)
    scaled = np.floor(ratio * counts.data + offset).astype(np.int64)
    kept = scaled > 0
    return scipy.sparse.coo_array((scaled[kept], (counts.row[kept], counts.col[kept])), shape=counts.shape)


def _nodes(dcm: scipy.sparse.coo_array) -> tuple[np.ndarray, np.ndarray]:
    """The out- and in-degree of each node, class by class."""
    return np.repeat(dcm.row, dcm.data).astype(np.int64), np.repeat(dcm.col, dcm.data).astype(np.int64)


def _filled_classes(jdm: scipy.sparse.coo_array, out_degrees, in_degrees, simple: bool, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The edges (sources, targets) that fill the classes of the joint degree matrix, the most numerous first."""
    order = np.lexsort((jdm.col, jdm.row, -jdm.data))
    classes = jdm.row[order].astype(np.int64), jdm.col[order].astype(np.int64), jdm.data[order]
    sources, targets = np.empty((2, int(jdm.data.sum())), dtype=np.int64)
    count = _fill(
        *classes,
        out_degrees,
        in_degrees,
        *_by_degree(out_degrees, jdm.shape[0]),
        *_by_degree(in_degrees, jdm.shape[1]),
        simple,
        walk_seed(rng),
        sources,
        targets,
    )
    return sources[:count], targets[:count]


def _by_degree(degrees: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The nodes sorted by degree, where those of each degree begin, and how many they are."""
    sizes = np.bincount(degrees, minlength=count)
    return np.argsort(degrees, kind="stable"), np.cumsum(sizes) - sizes, sizes


@njit(cache=True, nogil=True)
def _fill(
    rows, columns, quotas, out_degrees, in_degrees, out_nodes, out_first, out_free, in_nodes, in_first, in_free, simple, seed, sources, targets
):
    """Fill the classes in the order given; return the number of edges.

    Of each degree d, the nodes that still have a free end are kept in front: nodes[first[d] : first[d] + free[d]]. A pair of nodes
    belongs to one class, and a target is visited once there and takes distinct sources: no edge comes twice.
    """
    out_ends, in_ends = out_degrees.copy(), in_degrees.copy()
    place = np.empty_like(out_nodes)  # of each node in out_nodes
    place[out_nodes] = np.arange(out_nodes.shape[0])
    counter, count = stream_of(seed, 0), 0
    for k in range(quotas.shape[0]):
        row, column, quota = rows[k], columns[k], quotas[k]
        start, unvisited = out_first[row], in_free[column]
        while quota > 0 and unvisited > 0 and out_free[row] > 0:
            counter = advanced(counter)
            drawn = in_first[column] + np.int64(unit(counter) * unvisited)
            unvisited -= 1
            last = in_first[column] + unvisited
            in_nodes[drawn], in_nodes[last] = in_nodes[last], in_nodes[drawn]
            target, candidates = in_nodes[last], out_free[row]
            if simple and out_degrees[target] == row and out_ends[target] > 0:
                candidates -= 1
                _swap(out_nodes, place, place[target], start + candidates)
            taken = min(quota, in_ends[target], candidates)
            for j in range(taken):
                counter = advanced(counter)
                _swap(out_nodes, place, start + j, start + j + np.int64(unit(counter) * (candidates - j)))
                source = out_nodes[start + j]
                out_ends[source] -= 1
                sources[count], targets[count] = source, target
                count += 1
            for j in range(taken - 1, -1, -1):
                if out_ends[out_nodes[start + j]] == 0:
                    out_free[row] -= 1
                    _swap(out_nodes, place, start + j, start + out_free[row])
            quota -= taken
            in_ends[target] -= taken
            if in_ends[target] == 0:
                in_free[column] -= 1
                end = in_first[column] + in_free[column]
                in_nodes[last], in_nodes[end] = in_nodes[end], in_nodes[last]
    return count


@njit(cache=True, nogil=True, inline="always")
def _swap(nodes, place, i, j):
    """Exchange two entries of a list of nodes, and their places."""
    nodes[i], nodes[j] = nodes[j], nodes[i]
    place[nodes[i]], place[nodes[j]] = i, j


def _matched_leftovers(sources, targets, out_degrees, in_degrees, simple: bool, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The edges, and more between free ends: rounds that shuffle the free ends, pair them and keep the pairs that are no edge yet."""
    n, edges = len(out_degrees), np.unique(sources * len(out_degrees) + targets)
    idle = 0
    while idle < _PATIENCE:
        free_out, free_in = (
            np.repeat(np.arange(n), degrees - np.bincount(ends, minlength=n))
            for degrees, ends in ((out_degrees, edges // n), (in_degrees, edges % n))
        )
        pairs = min(len(free_out), len(free_in))
        if pairs == 0:
            break
        source, target = rng.permutation(free_out)[:pairs], rng.permutation(free_in)[:pairs]
        new = np.unique((source * n + target)[(source != target) | (not simple)])
        new = np.setdiff1d(new, edges, assume_unique=True)
        idle = 0 if len(new) else idle + 1
        edges = np.concatenate([edges, new])
    return np.divmod(edges, n)


def _adjacency(sources: np.ndarray, targets: np.ndarray, n: int) -> scipy.sparse.csr_array:
    adjacency = scipy.sparse.csr_array((np.ones(len(sources)), (sources, targets)), shape=(n, n))
    adjacency.sort_indices()
    return adjacency


def _of_kind(graph, adjacency: scipy.sparse.csr_array):
    """A networkx DiGraph if `graph` is one of networkx, else the matrix."""
    if not (hasattr(graph, "adjacency") and hasattr(graph, "nodes")):
        return adjacency
    import networkx

    drawn = networkx.DiGraph()
    drawn.add_nodes_from(range(adjacency.shape[0]))
    drawn.add_edges_from(zip(*(ends.tolist() for ends in adjacency.nonzero())))
    return drawn


def _counts(matrix, name: str) -> scipy.sparse.coo_array:
    counts = sparse_matrix(matrix, name).tocoo()
    whole = (counts.data >= 0) & (counts.data == np.round(counts.data))
    if not whole.all():
        raise ValueError(f"{name} must hold counts (integers of at least 0), got {counts.data[~whole][0]:g}")
    kept = counts.data > 0
    return scipy.sparse.coo_array((counts.data[kept].astype(np.int64), (counts.row[kept], counts.col[kept])), shape=counts.shape)


def _check_consistency(jdm: scipy.sparse.coo_array, dcm: scipy.sparse.coo_array) -> None:
    for axis, which in enumerate(("out", "in")):
        size = max(jdm.shape[axis], dcm.shape[axis])
        edges, nodes = (np.bincount((counts.row, counts.col)[axis], counts.data, minlength=size).astype(np.int64) for counts in (jdm, dcm))
        for degree in np.flatnonzero(edges != np.arange(size) * nodes)[:1]:
            raise ValueError(
                f"jdm and dcm must agree: jdm has {edges[degree]} edges of {which}-degree {degree}, "
                f"and dcm {nodes[degree]} nodes of it, which have {degree * nodes[degree]}"
            )
