"""PowerWalk: personalized PageRank for many sources of a large graph, from a small index of random walks and a few steps of each source's flow.

Liu, Li, Lui and Cheng, "PowerWalk: Scalable Personalized PageRank via Random Walks with Vertex-Centric Decomposition", CIKM 2016.

Offline, R walks from every vertex v give a rough vector, the shares of all vertices they visit. Online, T steps of flow from a source u leave
u's vector as a known part and a mixture of the vectors of the vertices where the flow then stands; these come from the index. The error is at most
(1 - c)^T times the largest error of the index, and in practice much smaller, since the errors of different vertices average out.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import scipy.sparse
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from ritz.core import atomic_path, choice, existing_file, integer, progress, random_generator, real
from ritz.graphs.adjacency import as_adjacency
from ritz.graphs.personalized_pagerank import (
    DANGLING,
    WalkGraph,
    as_rows,
    checked_cap,
    checked_restart,
    nothing_indexed,
    walk_graph,
)
from ritz.graphs.random_walks import node_numbers, walk_seed
from ritz.graphs.ray_tasks import BACKENDS, Backend, Placed, contiguous_blocks
from ritz.graphs.sparse_products import SparseRows
from ritz.graphs.vertex_decomposition import BATCH, decompose
from ritz.graphs.walk_visits import entries_of_a_row, visit_shares

_BLOCKS_PER_WORKER = 8  # enough for the last blocks to end together


class PowerWalk(BaseEstimator):
    """Personalized PageRank of many sources by an index of random walks and vertex-centric decomposition.

    Parameters
    ----------
    restart_prob : float in (0, 1]
        The probability c of a return to the source before each step.
    n_walks : int
        The walks R from each vertex; 0 makes no index: the flow of a query settles where it stands, which is power iteration (8 iterations then
        do about what 6 do with an index).
    max_steps : int, optional
        The steps after which a walk is cut short; what it would still have visited is left out of the shares. None walks to the end.
    iterations : int
        The steps T of the decomposition.
    threshold : float
        What a step settles or moves along an edge in a smaller amount is dropped, for each source by itself; so are entries of the final
        sum. At most 1 / threshold vertices hold flow of a source at any time.
    dangling : {"self", "uniform"}
        Where a step from a vertex without outgoing edges leads: to itself, or to any vertex. (A return to the source would make the walks of
        an index depend on who asks, and the decomposition inexact.)
    backend : {"local", "ray"}
        Threads of this process, or tasks of a ray cluster (extra ``distributed``).
    num_workers : int, optional
        Blocks that run at a time; None takes numba's threads, or the cluster's cores.
    index_dtype : {"float32", "float64"}
        Of the shares in the index.
    rng : Generator, int or None
        Source of randomness; an integer gives the same index at every fit.

    Attributes
    ----------
    index_ : csr_array (n, n)
        Row v holds the shares of the vertices that v's walks visit; each row sums to 1.
    n_steps_ : int
        The steps that all walks took together.
    nodes_ : ndarray (n,)
        The labels of the nodes.
    n_features_in_ : int
        The number of nodes n.

    Notes
    -----
    The walks of a vertex have a random stream of their own and the vertices of a query are visited in ascending order, so that the index and the
    answers are the same, bit for bit, for any number of workers, both backends and any company of sources. The index is made source by source:
    counting visits where they happen and transposing in the end, as vertex-centric engines do, gives the same counts. Indexing is cut into blocks
    of equally many vertices, not edges: a vertex costs R / c steps whatever its degree.

    Drops only lower an answer, so that 1 minus its sum is the L1 error that the threshold causes. A threshold acts on each edge: a hub
    with thousands of edges can lose most of a small flow. (The published code drops in the same places; it also compares a source's settled sum,
    not each addition, with the threshold.)

    Cost: n R / c steps and at most n min(R / c, n) entries for the index; a query touches the edges of the vertices that its flow reaches, T times,
    and one row of the index for each. Memory of a query: 768 bytes for each vertex that one of 32 sources reaches.

    References
    ----------
    .. [1] Liu et al., CIKM 2016.
    .. [2] Jeh and Widom, "Scaling Personalized Web Search", WWW 2003: the decomposition.

    Examples
    --------
    >>> import networkx as nx
    >>> model = PowerWalk(n_walks=200, rng=0).fit(nx.karate_club_graph())
    >>> ids, scores = model.query([0, 33], top_k=3)
    >>> ids[:, 0]
    array([ 0, 33])
    """

    def __init__(
        self,
        *,
        restart_prob: float = 0.15,
        n_walks: int = 100,
        max_steps: int | None = None,
        iterations: int = 6,
        threshold: float = 1e-5,
        dangling: str = "self",
        backend: str = "local",
        num_workers: int | None = None,
        index_dtype: str = "float32",
        rng: np.random.Generator | int | None = None,
    ):
        self.restart_prob = restart_prob
        self.n_walks = n_walks
        self.max_steps = max_steps
        self.iterations = iterations
        self.threshold = threshold
        self.dangling = dangling
        self.backend = backend
        self.num_workers = num_workers
        self.index_dtype = index_dtype
        self.rng = rng

    def fit(self, adjacency, y=None) -> PowerWalk:
        """Walk from every vertex and keep the shares of their visits.

        Parameters
        ----------
        adjacency : graph with n nodes
            networkx, SciPy sparse, dense, torch or PyG; row = source. A step follows an edge with a probability proportional to its weight.
        y : ignored

        Raises
        ------
        ValueError, TypeError
            If an option or the graph is not as described; the message names it.
        MissingExtra
            If ray is asked for and not installed.
        """
        graph = as_adjacency(adjacency)
        self._check_options()
        self.n_features_in_, self.nodes_ = graph.n, graph.nodes
        self._graph = Placed(walk_graph(graph.matrix, self.dangling))
        index, self.n_steps_ = self._walked() if self.n_walks else (nothing_indexed(self._graph.value), 0)
        self._keep(index)
        return self

    def query(self, sources, *, iterations: int | None = None, threshold: float | None = None, top_k: int | None = None):
        """Return the vectors of some sources.

        Parameters
        ----------
        sources : array-like of int (m,)
            Node numbers; the rows of the result stand in their order.
        iterations, threshold : int, float, optional
            In place of the estimator's.
        top_k : int, optional
            Return only so many largest entries of each.

        Returns
        -------
        csr_array (m, n) float64, or (ids, scores)
            Scores that sum to 1, less what the threshold dropped. With `top_k` two arrays (m, top_k), largest first, ties by node
            number, filled up with -1 and 0 where a source has fewer.
        """
        check_is_fitted(self)
        sources = node_numbers(sources, self.n_features_in_, "sources")
        T = integer(self.iterations if iterations is None else iterations, "iterations", at_least=0)
        threshold = _checked_threshold(self.threshold if threshold is None else threshold)
        k = None if top_k is None else integer(top_k, "top_k", at_least=1)
        answer = partial(_answers, restart_prob=float(self.restart_prob), iterations=T, threshold=threshold, top_k=k)
        batches = [(sources[first : first + BATCH],) for first in range(0, len(sources), BATCH)]
        running = Backend.checked(self.backend, self.num_workers).run(answer, [self._graph, self._index], batches)
        pieces = list(progress(running, "decomposition", total=len(batches)))
        if k is None:
            return as_rows(pieces, self.n_features_in_)
        ids, scores = zip(*pieces) if pieces else ([np.zeros((0, k), dtype=np.int64)], [np.zeros((0, k))])
        return np.concatenate(ids), np.concatenate(scores)

    def save(self, path: str | os.PathLike) -> None:
        """Write graph, index, labels and options to a ``.npz`` file, whole or not at all.

        Backend and workers are not kept, which belong to the machine; nor is a Generator as `rng`.
        """
        check_is_fitted(self)
        path = Path(path)
        if path.suffix != ".npz":
            raise ValueError(f"path must end in .npz, got '{path}'")
        options = {name: value for name, value in self.get_params().items() if name not in ("backend", "num_workers", "rng")}
        seed = self.rng if isinstance(self.rng, int | np.integer) else None
        arrays = {f"graph_{name}": array for name, array in self._graph.value._asdict().items()}
        arrays |= {f"index_{name}": array for name, array in self._index.value._asdict().items()}
        about = json.dumps({"options": options, "rng": seed, "n_steps": self.n_steps_}, default=lambda number: number.item())
        with atomic_path(path) as temporary:
            np.savez(temporary, about=np.array(about), nodes=_plain_labels(self.nodes_), **arrays)

    @classmethod
    def load(cls, path: str | os.PathLike) -> PowerWalk:
        """Read what `save` wrote.

        Raises
        ------
        FileNotFoundError, ValueError
            If there is no such file, or it holds no index.
        """
        path = existing_file(path)
        try:
            with np.load(path, allow_pickle=False) as held:
                about = json.loads(str(held["about"]))
                model = cls(**about["options"], rng=about["rng"])
                model._check_options()
                model.n_steps_, model.nodes_ = about["n_steps"], held["nodes"]
                model.n_features_in_ = len(model.nodes_)
                graph = WalkGraph(*(held[f"graph_{name}"] for name in WalkGraph._fields))
                index = SparseRows(*(held[f"index_{name}"] for name in SparseRows._fields))
            for indptr, indices, values in (graph[:3], index):
                rows = scipy.sparse.csr_array((values, indices, indptr), shape=(model.n_features_in_,) * 2)
                rows.check_format(full_check=True)
        except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"path: '{path}' holds no index of PowerWalk ({error})") from error
        model._graph = Placed(graph)
        model._keep(index)
        return model

    def _walked(self) -> tuple[SparseRows, int]:
        """The index and the steps it took, block by block."""
        n, dtype = self.n_features_in_, np.dtype(self.index_dtype)
        cap, restart_prob = checked_cap(self.max_steps), float(self.restart_prob)
        options = self.n_walks, cap, restart_prob, walk_seed(random_generator(self.rng)), False, dtype
        backend = Backend.checked(self.backend, self.num_workers)
        blocks = contiguous_blocks(n, _BLOCKS_PER_WORKER * backend.workers)
        pieces = backend.run(partial(_visits, options=options), [self._graph], blocks)
        capacity = n * entries_of_a_row(n, self.n_walks, cap, restart_prob, False)
        return _joined(progress(pieces, "walking", total=len(blocks)), capacity, self._graph.value.indices.dtype, dtype)

    def _keep(self, index: SparseRows) -> None:
        index = index._replace(values=index.values.astype(self.index_dtype, copy=False))
        self._index = Placed(index)
        self.index_ = scipy.sparse.csr_array((index.values, index.indices, index.indptr), shape=(self.n_features_in_,) * 2)

    def _check_options(self) -> None:
        checked_restart(self.restart_prob)
        integer(self.n_walks, "n_walks", at_least=0)
        checked_cap(self.max_steps)
        integer(self.iterations, "iterations", at_least=0)
        _checked_threshold(self.threshold)
        choice(self.dangling, "dangling", DANGLING)
        choice(self.backend, "backend", BACKENDS)
        Backend.checked(self.backend, self.num_workers)
        choice(self.index_dtype, "index_dtype", ("float32", "float64"))


def _visits(graph: WalkGraph, first: int, last: int, *, options: tuple) -> tuple:
    """The rows first..last-1 of the index."""
    return visit_shares(graph.indptr, graph.indices, graph.cumulative, np.arange(first, last), *options)


def _joined(pieces: Iterator[tuple], capacity: int, index_dtype: np.dtype, dtype: np.dtype) -> tuple[SparseRows, int]:
    """Join blocks of rows as they come, so that they are never all there twice."""
    nodes, shares = np.empty(capacity, dtype=index_dtype), np.empty(capacity, dtype=dtype)
    sizes, used, steps = [[0]], 0, 0
    for block_sizes, block_nodes, block_shares, block_steps in pieces:
        end = used + len(block_nodes)
        if end > len(nodes):
            nodes, shares = np.resize(nodes, 2 * end), np.resize(shares, 2 * end)
        nodes[used:end], shares[used:end] = block_nodes, block_shares
        sizes.append(block_sizes)
        used, steps = end, steps + block_steps
    return SparseRows(np.cumsum(np.concatenate(sizes)), nodes[:used], shares[:used]), steps


def _answers(graph: WalkGraph, index: SparseRows, sources: np.ndarray, *, restart_prob, iterations, threshold, top_k) -> tuple:
    """The vectors of a batch of sources, or their largest entries."""
    answers = decompose(graph[:3], index, sources, restart_prob, iterations, threshold)
    return answers if top_k is None else _largest(*answers, top_k)


def _largest(sizes: np.ndarray, columns: np.ndarray, scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k largest entries of each row (rows, k), ties by column, filled up with -1 and 0."""
    ids, best = np.full((len(sizes), k), -1, dtype=np.int64), np.zeros((len(sizes), k))
    for row, last in enumerate(np.cumsum(sizes)):
        own = slice(last - sizes[row], last)
        chosen = np.arange(sizes[row])
        if sizes[row] > k:
            cut = np.partition(scores[own], -k)[-k]
            above, ties = np.flatnonzero(scores[own] > cut), np.flatnonzero(scores[own] == cut)
            chosen = np.sort(np.concatenate([above, ties[: k - len(above)]]))
        chosen = chosen[np.argsort(-scores[own][chosen], kind="stable")]
        ids[row, : len(chosen)], best[row, : len(chosen)] = columns[own][chosen], scores[own][chosen]
    return ids, best


def _checked_threshold(threshold: object) -> float:
    return real(threshold, "threshold", at_least=0, below=1)


def _plain_labels(nodes: np.ndarray) -> np.ndarray:
    """Labels as an array of one plain dtype: integers or text."""
    plain = np.array(nodes.tolist()) if nodes.dtype == object else nodes
    return plain if plain.ndim == 1 and plain.dtype.kind in "iuU" else np.array([str(node) for node in nodes])
