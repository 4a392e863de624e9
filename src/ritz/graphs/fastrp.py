"""FastRP: node embeddings of large graphs by very sparse random projection, in seconds and without training.

Chen, Sultan, Tian, Chen and Skiena, "Fast and Accurate Network Embeddings via Very Sparse Random Projection", CIKM 2019, arXiv:1908.11512, section 4.

The similarity of two nodes is read off S = (w_1 A + w_2 A^2 + ... + w_q A^q) L, with the random-walk matrix A = D^-1 adjacency and
L = diag((d_j / 2m)^beta) damping the hubs. S is never formed: with a sparse random R (n, dim), U_0 = L R and U_k = A U_{k-1} are q sparse products.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import scipy.sparse
from numba import njit, prange
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from ritz.core import Result, array, choice, flag, integer, like, progress, random_generator, real
from ritz.graphs.adjacency import as_adjacency
from ritz.graphs.laplacian import transition
from ritz.graphs.node_classification import node_classification_score
from ritz.graphs.ray_tasks import Backend, Placed, at_most_threads
from ritz.graphs.sparse_products import SparseRows, multiply_rows, sparse_projection

DEGREE_POWERS = (-1.0, -0.75, -0.5, -0.25, 0.0)
LAST_WEIGHTS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
_COLUMNS = 32  # of a task: two cache lines of each gathered row, and whole vector registers, so that cutting columns changes no rounding


class FastRP(TransformerMixin, BaseEstimator):
    """Node embeddings by very sparse random projection of powers of the random-walk matrix.

    Parameters
    ----------
    n_components : int
        Dimension of the embedding.
    weights : sequence of float
        The weight w_k of each power of the random-walk matrix, k = 1, 2, ... (not all zero).
    degree_power : float in [-1, 1]
        The exponent beta of the degrees that weigh the projection's rows; negative damps hubs, 0 leaves them. A directed graph is weighed by
        in-degrees: a node that no edge reaches has no weight, and needs none.
    sparsity : "sqrt" or float
        The s of the projection, whose entries are 0 with probability 1 - 1/s; "sqrt" is sqrt(n), 3 is Achlioptas' choice.
    projection : {"sparse", "gaussian"}
        Very sparse or dense normal entries. Both are scaled by 1/sqrt(n_components), so that inner products are unbiased.
    normalize_powers : bool
        Divide each row of each U_k by its length before the weighted sum (zero rows stay zero).
    standardize : bool
        Shift and scale each column of the embedding to mean 0 and variance 1.
    backend : {"local", "ray"}
        Where the products run: on threads of this process, or as tasks of a ray cluster (extra ``distributed``), each on some of the columns.
    num_workers : int, optional
        Threads, or tasks at a time; None takes numba's threads, or the cluster's cores.
    rng : Generator, int or None
        Source of randomness; an integer gives the same projection at every fit.

    Attributes
    ----------
    projection_ : csr_array or ndarray (n, n_components) float32
        The projection R. The embedding is a function of it and the graph.
    embedding_ : ndarray (n, n_components) float32
        The embedding of the fitted graph.
    n_features_in_ : int
        The number of nodes n.

    Notes
    -----
    A node without outgoing edges gets a zero row. Multiplying all weights of the graph by a constant changes nothing.
    Cost: O(q nnz dim) time, O(n dim) memory, float32; the result does not depend on the number of threads, nor on the backend, bit for bit.
    The columns of U_k depend on those of U_0 alone: a cluster gets the graph once, a block of columns for each task, and returns the powers of
    nonzero weight.
    The published code raises degrees to beta, the paper degrees over their sum 2m: a constant factor, which this class applies only where row
    normalization does not remove it.

    References
    ----------
    .. [1] Chen et al., CIKM 2019, arXiv:1908.11512.

    Examples
    --------
    >>> import networkx as nx
    >>> embedding = FastRP(n_components=16, rng=0).fit_transform(nx.karate_club_graph())
    >>> embedding.shape
    (34, 16)
    """

    def __init__(
        self,
        n_components: int = 128,
        *,
        weights: Sequence[float] = (0.0, 0.0, 1.0, 1.0),
        degree_power: float = -0.5,
        sparsity: float | str = "sqrt",
        projection: str = "sparse",
        normalize_powers: bool = True,
        standardize: bool = False,
        backend: str = "local",
        num_workers: int | None = None,
        rng: np.random.Generator | int | None = None,
    ):
        self.n_components = n_components
        self.weights = weights
        self.degree_power = degree_power
        self.sparsity = sparsity
        self.projection = projection
        self.normalize_powers = normalize_powers
        self.standardize = standardize
        self.backend = backend
        self.num_workers = num_workers
        self.rng = rng

    def fit(self, adjacency, y=None) -> FastRP:
        """Draw the projection and embed the graph.

        Parameters
        ----------
        adjacency : graph with n nodes
            networkx, SciPy sparse, dense, torch or PyG; row = source. Undirected graphs are symmetric matrices.
        y : ignored

        Raises
        ------
        ValueError, TypeError
            If an option or the graph is not as described; the message names it.
        """
        graph = as_adjacency(adjacency).matrix
        self._check_options()
        self.n_features_in_ = graph.shape[0]
        self.projection_ = self._draw_projection(graph.shape[0])
        return self._keep(graph)

    def fit_transform(self, adjacency, y=None):
        """Embed the graph: (n, n_components) float32, a torch tensor if `adjacency` is one."""
        return like(self.fit(adjacency).embedding_, adjacency)

    def transform(self, adjacency):
        """Embed another graph on the same nodes with the same projection: (n, n_components) float32."""
        check_is_fitted(self)
        graph = self._same_nodes(adjacency)
        octave = _octave(graph, self.degree_power)
        return like(self._finish(self._sum_of_powers(graph, octave), graph, octave), adjacency)

    def update(self, adjacency) -> FastRP:
        """Take in a changed graph on the same nodes: exactly what `fit` would give with the same projection.

        Only the rows that a walk of at most q steps joins to a change are computed again.
        """
        check_is_fitted(self)
        graph = self._same_nodes(adjacency)
        needed = _rows_to_recompute(self._graph, graph, len(self.weights))
        sums = self._sum_of_powers(graph, self._octave, needed)
        rows = np.flatnonzero(needed[-1])
        self._sums[rows] = sums[rows]
        self._graph = graph
        self.embedding_ = self._finish(self._sums, graph, self._octave)
        return self

    def _keep(self, graph: scipy.sparse.csr_array) -> FastRP:
        self._graph = graph
        self._octave = _octave(graph, self.degree_power)
        self._sums = self._sum_of_powers(graph, self._octave)
        self.embedding_ = self._finish(self._sums, graph, self._octave)
        return self

    def _sum_of_powers(self, graph: scipy.sparse.csr_array, octave: int, needed: list[np.ndarray] | None = None) -> np.ndarray:
        """sum_k w_k U_k, up to the constant that `_finish` applies; only the rows marked in `needed[k]` of each U_k where that is given."""
        total = np.zeros((graph.shape[0], self.n_components), dtype=np.float32)
        rows = np.arange(graph.shape[0]) if needed is None else np.flatnonzero(needed[-1])
        start = _weighted_projection(graph, self.projection_, self.degree_power, octave)
        walk = transition(graph)
        walk = SparseRows(walk.indptr, walk.indices, walk.data.astype(np.float32))
        backend = Backend.checked(self.backend, self.num_workers)
        powers = _weighted_powers if backend.name == "local" else partial(_powers_by_columns, backend)
        with at_most_threads(self.num_workers if backend.name == "local" else None):
            for weight, power in powers(walk, start, tuple(self.weights), needed):
                _add_rows(power, rows, np.float32(weight), self.normalize_powers, total)
        return total

    def _finish(self, sums: np.ndarray, graph: scipy.sparse.csr_array, octave: int) -> np.ndarray:
        embedding = sums.copy()
        if not self.normalize_powers and self.degree_power != 0 and graph.nnz:
            embedding *= np.float32(2.0**octave * graph.sum() ** -self.degree_power)
        if self.standardize:
            deviation = embedding.std(axis=0, dtype=np.float64)
            embedding = ((embedding - embedding.mean(axis=0, dtype=np.float64)) / np.where(deviation > 0, deviation, 1)).astype(np.float32)
        return embedding

    def _draw_projection(self, n: int):
        rng = random_generator(self.rng)
        scale = np.float32(1 / math.sqrt(self.n_components))
        if self.projection == "gaussian":
            return rng.standard_normal((n, self.n_components), dtype=np.float32) * scale
        return sparse_projection(n, self.n_components, math.sqrt(n) if self.sparsity == "sqrt" else self.sparsity, rng=rng) * scale

    def _same_nodes(self, adjacency) -> scipy.sparse.csr_array:
        graph = as_adjacency(adjacency).matrix
        if graph.shape[0] != self.n_features_in_:
            raise ValueError(f"adjacency must have the {self.n_features_in_} nodes of the fitted graph, got {graph.shape[0]}")
        return graph

    def _check_options(self) -> None:
        integer(self.n_components, "n_components", at_least=1)
        if not np.any(array(self.weights, "weights", ndim=1)):
            raise ValueError("weights must not all be zero")
        real(self.degree_power, "degree_power", at_least=-1, at_most=1)
        if isinstance(self.sparsity, str):
            choice(self.sparsity, "sparsity", ["sqrt"])
        else:
            real(self.sparsity, "sparsity", at_least=1)
        choice(self.projection, "projection", ["sparse", "gaussian"])
        flag(self.normalize_powers, "normalize_powers")
        flag(self.standardize, "standardize")
        Backend.checked(self.backend, self.num_workers)


def fastrp(
    adjacency,
    n_components: int = 128,
    *,
    weights: Sequence[float] = (0.0, 0.0, 1.0, 1.0),
    degree_power: float = -0.5,
    sparsity: float | str = "sqrt",
    projection: str = "sparse",
    normalize_powers: bool = True,
    standardize: bool = False,
    backend: str = "local",
    num_workers: int | None = None,
    rng: np.random.Generator | int | None = None,
):
    """Embed the nodes of a graph by FastRP: the one-call form of `FastRP`, whose parameters it takes.

    Returns
    -------
    ndarray or torch.Tensor (n, n_components) float32
        A torch tensor if `adjacency` is one.

    Examples
    --------
    >>> fastrp([[0, 1, 0], [1, 0, 1], [0, 1, 0]], 4, rng=0).shape
    (3, 4)
    """
    estimator = FastRP(
        n_components,
        weights=weights,
        degree_power=degree_power,
        sparsity=sparsity,
        projection=projection,
        normalize_powers=normalize_powers,
        standardize=standardize,
        backend=backend,
        num_workers=num_workers,
        rng=rng,
    )
    return estimator.fit_transform(adjacency)


@dataclass(frozen=True, eq=False, repr=False)
class FastRPSearch(Result):
    """What `search_fastrp` found: parameters for `FastRP(**parameters)`, their validation score, and all scores (degree powers, last weights)."""

    parameters: dict[str, object]
    score: float
    scores: np.ndarray
    degree_powers: tuple[float, ...]
    last_weights: tuple[float, ...]


def search_fastrp(
    adjacency,
    y,
    *,
    n_components: int = 128,
    weights: Sequence[float] = (0.0, 0.0, 1.0, 1.0),
    degree_powers: Sequence[float] = DEGREE_POWERS,
    last_weights: Sequence[float] = LAST_WEIGHTS,
    train_fraction: float = 0.1,
    rng: np.random.Generator | int | None = None,
) -> FastRPSearch:
    """Choose FastRP's degree power and last weight by node classification (section 5 of the paper tunes these two).

    Each degree power costs one embedding; the last weights share it.

    Parameters
    ----------
    adjacency : graph with n nodes
        As for `FastRP.fit`.
    y : array (n,) of classes or (n, labels) of zeros and ones
        Labels of the nodes.
    n_components, weights
        As for `FastRP`; the last of `weights` is replaced.
    degree_powers, last_weights : sequence of float
        The grid.
    train_fraction : float in (0, 1)
        The share of nodes that the classifier is trained on; the others score it by micro-averaged F1.
    rng : Generator, int or None
        Source of randomness of the projection and the split, which all candidates share.

    Examples
    --------
    >>> import networkx as nx
    >>> graph = nx.planted_partition_graph(3, 20, 0.5, 0.05, seed=0)
    >>> search_fastrp(graph, np.repeat([0, 1, 2], 20), n_components=16, train_fraction=0.5, rng=0).parameters["n_components"]
    16
    """
    weights, degree_powers, last_weights = (
        tuple(array(value, name, ndim=1).tolist())
        for value, name in ((weights, "weights"), (degree_powers, "degree_powers"), (last_weights, "last_weights"))
    )
    seed = int(random_generator(rng).integers(2**63))
    graph = as_adjacency(adjacency).matrix
    scores = np.empty((len(degree_powers), len(last_weights)))
    grid = progress(list(enumerate(degree_powers)), "searching FastRP's parameters")
    for i, degree_power in grid:
        first, last = (
            fastrp(graph, n_components, weights=chosen, degree_power=degree_power, rng=seed) if any(chosen) else np.float32(0)
            for chosen in ((*weights[:-1], 0.0), (*(0.0 for _ in weights[:-1]), 1.0))
        )
        for j, last_weight in enumerate(last_weights):
            embedding = first + np.float32(last_weight) * last
            scores[i, j] = node_classification_score(embedding, y, train_fraction=train_fraction, rng=seed).micro_f1
    i, j = np.unravel_index(np.argmax(scores), scores.shape)
    parameters = {"n_components": n_components, "weights": (*weights[:-1], last_weights[j]), "degree_power": degree_powers[i]}
    return FastRPSearch(parameters, float(scores[i, j]), scores, degree_powers, last_weights)


def _octave(graph: scipy.sparse.csr_array, degree_power: float) -> int:
    """The power of two nearest to (2m)^beta: scaling by it keeps float32 in range and every bit of the result."""
    total = graph.sum()
    return round(degree_power * math.log2(total)) if total > 0 else 0


def _weighted_projection(graph: scipy.sparse.csr_array, projection, degree_power: float, octave: int) -> np.ndarray:
    """U_0 = L R, dense float32, with L = diag(d^beta) / 2^octave and d the in-degrees (0 for a node that no edge reaches)."""
    degrees = graph.sum(axis=0)
    weights = np.power(degrees, degree_power, where=degrees > 0, out=np.zeros_like(degrees)) * 2.0**-octave
    if scipy.sparse.issparse(projection):
        projection = projection.toarray()
    return weights.astype(np.float32)[:, None] * projection


def _weighted_powers(walk: SparseRows, start: np.ndarray, weights: tuple, needed: list[np.ndarray] | None) -> Iterator[tuple[float, np.ndarray]]:
    """Yield w_k and U_k for each weight that is not zero; U_k is overwritten when the next but one is drawn."""
    every = np.arange(len(start))
    buffers = itertools.cycle([np.empty_like(start), start])
    power = start
    for k, weight in enumerate(weights, start=1):
        target = next(buffers)
        multiply_rows(*walk, power, every if needed is None else np.flatnonzero(needed[k]), target)
        power = target
        if weight != 0:
            yield weight, power


def _powers_by_columns(
    backend: Backend, walk: SparseRows, start: np.ndarray, weights: tuple, needed: list[np.ndarray] | None
) -> Iterator[tuple[float, np.ndarray]]:
    """The same, a block of columns to each task."""
    kept = [weight for weight in weights if weight != 0]
    powers = np.empty((len(kept), *start.shape), dtype=np.float32)
    cuts = [slice(first, first + _COLUMNS) for first in range(0, start.shape[1], _COLUMNS)]
    blocks = [(np.ascontiguousarray(start[:, cut]), weights, needed) for cut in cuts]
    for cut, block in zip(cuts, backend.run(_powers_of_columns, [Placed(walk)], blocks)):
        powers[:, :, cut] = block
    yield from zip(kept, powers)


def _powers_of_columns(walk: SparseRows, start: np.ndarray, weights: tuple, needed: list[np.ndarray] | None) -> np.ndarray:
    """The powers of nonzero weight (kept, n, columns) for some of the columns."""
    return np.stack([power.copy() for _, power in _weighted_powers(walk, start.copy(), weights, needed)])


def _rows_to_recompute(old: scipy.sparse.csr_array, new: scipy.sparse.csr_array, count: int) -> list[np.ndarray]:
    """Mark, for k = 0..count, the rows of U_k that recomputing the affected rows of the result needs; the last entry marks these."""
    edges = new.astype(bool).astype(np.int32)
    changed_rows = np.diff(scipy.sparse.csr_array(old != new).indptr) > 0
    affected = old.sum(axis=0) != new.sum(axis=0)
    final = np.zeros(new.shape[0], dtype=bool)
    for _ in range(count):
        affected = changed_rows | (edges @ affected.astype(np.int32) > 0)
        final |= affected
    needed = [final]
    for _ in range(count):
        needed.append(final | (edges.T @ needed[-1].astype(np.int32) > 0))
    return needed[::-1]


@njit(cache=True, nogil=True, parallel=True)
def _add_rows(power, rows, weight, normalize, total):
    """Add weight * row, divided by its length if `normalize`, to the given rows of `total`."""
    for position in prange(rows.shape[0]):
        row = rows[position]
        factor = weight
        if normalize:
            square = 0.0
            for column in range(power.shape[1]):
                square += np.float64(power[row, column]) * power[row, column]
            factor = np.float32(weight / math.sqrt(square)) if square > 0 else np.float32(0)
        for column in range(power.shape[1]):
            total[row, column] += factor * power[row, column]
