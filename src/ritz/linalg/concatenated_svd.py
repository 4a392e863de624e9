"""Which matrices may share one basis of rank r: clusters whose joint truncation error stays below a given one, and the compressed factors.

Shamrai, "Concatenated Matrix SVD: Compression Bounds, Incremental Approximation, and Error-Constrained Clustering", 2026, arXiv:2601.11626.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils.validation import check_is_fitted

from ritz.core import Result, atomic_path, choice, existing_file, flag, integer, like, progress, real, to_numpy
from ritz.linalg.concatenation_bounds import (
    ESTIMATORS,
    Bound,
    checked_blocks,
    dense,
    heaviest_first,
    narrowed,
    relative_error,
    split,
    squared_norm,
    started,
    starting_blocks,
)
from ritz.linalg.randomized_svd import randomized_svd

EXACT_WORK = 1e8  # rows x columns x the shorter side up to which a cluster's basis comes from LAPACK at once
SLACK = 100  # units of rounding by which a bound may pass eps: without them nothing would ever meet eps = 0


class ConcatenatedSVDClustering(ClusterMixin, BaseEstimator):
    """Clusters matrices with equal numbers of rows such that each cluster, side by side, is within `eps` of rank r.

    Greedy: the heaviest block that is left starts a cluster, together with the next ones while all of their columns fit in r; others join while the
    bound on the relative Frobenius error of the whole stays at most `eps`.

    Parameters
    ----------
    rank : int
        Columns r of each basis.
    eps : float
        Largest relative error ``||M - M_r||_F / ||M||_F`` of a cluster M.
    estimator : {"incremental", "residual", "weyl"}
        The bound, see `concatenation_error_bound`. "incremental" is nearly tight, so it finds the largest clusters.
    order : {"residual", "norm"}
        In which order candidates are tried: by how much of them lies outside the start's space, or by their norms, lightest first.
    oversampling : int
        Directions that the incremental bound keeps beyond r.
    patience : int
        So many starts in a row that attract nobody end the search: what is left stays single. With `refine` also the number of candidates in a
        row that may be passed over.
    refine : bool
        Go on with the next candidate where one does not fit, instead of closing the cluster; and compute the true errors.

    Attributes
    ----------
    labels_ : ndarray (K,) of int
        The cluster of each block, numbered as they were found.
    clusters_ : list of lists of int
        The blocks of each cluster, the start first.
    error_bounds_ : ndarray
        The bound of each cluster; above `eps` only for a single block that no rank r serves.
    errors_ : ndarray
        The true error of each cluster's basis, if `refine`. A cluster of several blocks is within `eps`.
    compression_ratio_ : float
        Stored numbers of all blocks over those of the bases and coefficients. What would not be smaller, or is beyond `eps`, stays as it is.

    Notes
    -----
    "incremental": ``O(m (r + n_i)^2)`` per candidate tried, and ``O(m r N)`` per cluster for the order, N the columns that are left.
    Blocks may be memory-mapped or sparse; they are made dense one at a time.
    The published code stops at the first candidate that does not fit (``refine=False``), and takes the whole norm of a start of more than r columns
    for what r directions hold of it, which is no bound; here their singular values are taken.

    References
    ----------
    .. [1] Shamrai, 2026, arXiv:2601.11626.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> bases = [np.linalg.qr(rng.standard_normal((30, 4)))[0] for _ in range(2)]
    >>> blocks = [bases[i % 2] @ rng.standard_normal((4, 10)) for i in range(12)]
    >>> clustering = ConcatenatedSVDClustering(rank=4, eps=0.01).fit(blocks)
    >>> sorted(sorted(cluster) for cluster in clustering.clusters_)
    [[0, 2, 4, 6, 8, 10], [1, 3, 5, 7, 9, 11]]
    >>> round(clustering.compression_ratio_, 2)
    5.0
    """

    def __init__(
        self,
        rank: int = 10,
        eps: float = 0.1,
        *,
        estimator: str = "incremental",
        order: str = "residual",
        oversampling: int = 5,
        patience: int = 10,
        refine: bool = True,
    ):
        self.rank = rank
        self.eps = eps
        self.estimator = estimator
        self.order = order
        self.oversampling = oversampling
        self.patience = patience
        self.refine = refine

    def fit(self, blocks, y=None) -> ConcatenatedSVDClustering:
        """Cluster the blocks.

        Parameters
        ----------
        blocks : list of arrays, sparse arrays or torch tensors (m, n_i)
            Real matrices with equal numbers of rows. They are kept, not copied, for `compress`.
        y : ignored

        Raises
        ------
        ValueError, TypeError
            If there is no block, one is no finite real matrix, their numbers of rows differ, or an option is out of range.
        """
        self._check_options()
        self._reference = blocks[0] if isinstance(blocks, list | tuple) and blocks else None
        self._blocks = checked_blocks(blocks)
        self._squares = np.array([squared_norm(block) for block in self._blocks])
        self._limit = self.eps + SLACK * float(np.finfo(self._blocks[0].dtype).eps)
        found = list(self._found_clusters())
        self.clusters_ = [members for members, _ in found]
        self.error_bounds_ = np.array([bound for _, bound in found])
        self.labels_ = np.empty(len(self._blocks), np.int64)
        for label, members in enumerate(self.clusters_):
            self.labels_[members] = label
        self._bases: dict[int, np.ndarray] = {}
        if self.refine:
            self.errors_ = np.array([self._basis_and_error(label)[1] for label in progress(range(len(self.clusters_)), "true errors")])
        self.compression_ratio_ = self._compression_ratio()
        return self

    def compress(self) -> CompressedCollection:
        """Return the bases of the clusters and the coefficients of all blocks: torch tensors if the first block was one.

        A cluster that would not become smaller, or a block that rank r does not serve within `eps`, is stored as it is.
        """
        check_is_fitted(self)
        bases = {label: self._basis_and_error(label)[0] for label in range(len(self.clusters_)) if self._is_compressed(label)}
        coefficients = [
            times_transposed(bases[label], block) if label in bases else dense(block) for label, block in zip(self.labels_.tolist(), self._blocks)
        ]
        return CompressedCollection(
            {label: like(basis, self._reference) for label, basis in bases.items()},
            [like(coefficient, self._reference) for coefficient in coefficients],
            self.labels_,
        )

    def _check_options(self) -> None:
        integer(self.rank, "rank", at_least=1)
        real(self.eps, "eps", at_least=0)
        choice(self.estimator, "estimator", ESTIMATORS)
        choice(self.order, "order", ("residual", "norm"))
        integer(self.oversampling, "oversampling", at_least=0)
        integer(self.patience, "patience", at_least=1)
        flag(self.refine, "refine")

    def _found_clusters(self) -> Iterator[tuple[list[int], float]]:
        """Clusters with their bounds, one after another."""
        remaining, alone = heaviest_first(self._blocks), 0
        while remaining:
            first = 1 if alone >= self.patience else starting_blocks(self._blocks, remaining, self.rank)
            members, candidates = remaining[:first], remaining[first:]
            state = started(self.estimator, [self._blocks[i] for i in members], self.rank, self.oversampling)
            if alone < self.patience:
                joined, state = self._joined(state, members, candidates)
                members = members + joined
            taken = set(members)
            remaining = [i for i in remaining if i not in taken]
            alone = alone + 1 if len(members) == first else 0
            yield members, state.error

    def _joined(self, state: Bound, members: list[int], candidates: list[int]) -> tuple[list[int], Bound]:
        """The candidates that the cluster takes in, and its state with them."""
        joined, misses = [], 0
        for i in self._ordered(members, candidates):
            extended = state.extended(dense(self._blocks[i]))
            if extended.error <= self._limit:
                joined.append(i)
                state, misses = extended, 0
            else:
                misses += 1
                if not self.refine or misses > self.patience:
                    break
        return joined, state

    def _ordered(self, members: list[int], candidates: list[int]) -> list[int]:
        """The candidates, best first; they come by descending norm."""
        if self.order == "norm" or not candidates:
            return candidates[::-1]
        start = narrowed(np.hstack([dense(self._blocks[i]) for i in members]))
        Q = np.linalg.svd(start, full_matrices=False)[0][:, : np.linalg.matrix_rank(start)]
        outside = [max(self._squares[i] - squared_norm(times_transposed(Q, self._blocks[i])), 0.0) for i in candidates]
        return [candidates[position] for position in np.argsort(outside, kind="stable")]

    def _basis_and_error(self, label: int) -> tuple[np.ndarray, float]:
        """The basis of a cluster and the true error of the projection onto it."""
        if label not in self._bases:
            blocks = [dense(self._blocks[i]) for i in self.clusters_[label]]
            self._bases[label] = leading_basis(np.hstack(blocks), self.rank, self._limit)
        return self._bases[label]

    def _is_compressed(self, label: int) -> bool:
        members = self.clusters_[label]
        m, columns = self._blocks[0].shape[0], sum(self._blocks[i].shape[1] for i in members)
        error = self.errors_[label] if self.refine else self.error_bounds_[label]
        return bool(error <= self._limit) and self.rank * (m + columns) < m * columns

    def _compression_ratio(self) -> float:
        m, before, after = self._blocks[0].shape[0], 0, 0
        for label, members in enumerate(self.clusters_):
            columns = sum(self._blocks[i].shape[1] for i in members)
            before += m * columns
            after += self.rank * (m + columns) if self._is_compressed(label) else m * columns
        return before / after


@dataclass(frozen=True, eq=False, repr=False)
class CompressedCollection(Result):
    """Matrices as products of shared bases and coefficients of their own.

    Attributes
    ----------
    bases : dict of int to array (m, r)
        The orthonormal basis of each compressed cluster.
    coefficients : list of arrays
        For each block its coefficients (r, n_i), or the block (m, n_i) itself if its cluster has no basis.
    labels : array (K,) of int
        The cluster of each block.
    """

    bases: dict[int, np.ndarray]
    coefficients: list[np.ndarray]
    labels: np.ndarray

    def reconstruct(self, i: int):
        """Return block i (m, n_i), approximately."""
        i = integer(i, "i", at_least=0, at_most=len(self.coefficients) - 1)
        basis = self.bases.get(int(self.labels[i]))
        return self.coefficients[i] if basis is None else basis @ self.coefficients[i]

    @property
    def nbytes(self) -> int:
        """The bytes that bases and coefficients take."""
        return sum(part.nbytes for part in [*self.bases.values(), *self.coefficients])

    def save(self, path: str | os.PathLike) -> None:
        """Write to a ``.npz`` or ``.safetensors`` file, whole or not at all: arrays ``basis.<cluster>`` and ``block.<i>``, and ``labels``."""
        target = _known_ending(path)
        arrays = {f"basis.{label}": basis for label, basis in self.bases.items()} | {f"block.{i}": part for i, part in enumerate(self.coefficients)}
        arrays = {name: np.ascontiguousarray(to_numpy(part)) for name, part in (arrays | {"labels": self.labels}).items()}
        with atomic_path(target) as temporary:
            if target.suffix == ".npz":
                np.savez(temporary, **arrays)
            else:
                from safetensors.numpy import save_file

                save_file(arrays, temporary, metadata={"method": "concatenated-svd", "blocks": json.dumps(len(self.coefficients))})

    @classmethod
    def load(cls, path: str | os.PathLike) -> CompressedCollection:
        """Read what `save` wrote, as NumPy arrays.

        Raises
        ------
        ValueError, FileNotFoundError
            If there is no such file or it holds something else.
        """
        source = existing_file(_known_ending(path))
        if source.suffix == ".npz":
            with np.load(source, allow_pickle=False) as file:
                arrays = dict(file)
        else:
            from safetensors.numpy import load_file

            arrays = load_file(source)
        if "labels" not in arrays or any(f"block.{i}" not in arrays for i in range(len(arrays["labels"]))):
            raise ValueError(f"path: '{source}' holds no compressed collection")
        bases = {int(name.removeprefix("basis.")): part for name, part in arrays.items() if name.startswith("basis.")}
        return cls(bases, [arrays[f"block.{i}"] for i in range(len(arrays["labels"]))], arrays["labels"])


def leading_basis(M: np.ndarray, rank: int, limit: float) -> tuple[np.ndarray, float]:
    """An orthonormal basis (m, r) of the leading left singular vectors of M, and the relative error of the projection onto it.

    From random blocks where M is large; exactly if that misses an error below `limit`.
    """
    total = squared_norm(M)
    if rank < min(M.shape) and M.size * min(M.shape) > EXACT_WORK:
        basis = randomized_svd(M, rank, rng=0).U
        error = relative_error(squared_norm(split(basis, M)[1]), total)
        if error <= limit:
            return basis, error
    U, s, _ = np.linalg.svd(narrowed(M), full_matrices=False)
    return U[:, :rank], relative_error(squared_norm(s[rank:]), total)


def times_transposed(basis: np.ndarray, block) -> np.ndarray:
    """``Q^T A`` for a dense or sparse A."""
    return (block.T @ basis).T if scipy.sparse.issparse(block) else basis.T @ block


def _known_ending(path: str | os.PathLike) -> Path:
    path = Path(path)
    if path.suffix not in (".npz", ".safetensors"):
        raise ValueError(f"path must end in .npz or .safetensors, got '{path}'")
    return path
