"""The top eigenvector of A^T A from one pass over the rows of A in random order, in memory for a few rows.

Rows far longer than most (heavy) are set aside and kept. The others are cut into blocks of the stream; block j gives one step of subspace iteration,
``Z_j = orth(B_j^T B_j Z_{j-1})``, from rows that no step has used before: in random order each ``B_j^T B_j`` is a multiple of ``L^T L`` up to
sampling error, so a constant gap is enough. At the end the Ritz pairs of the last block and the heavy rows H are merged: what is returned is the
top right singular vector of ``[H; sqrt(lambda_i) z_i^T]``.

Kacham and Woodruff, "Approximating the Top Eigenvector in Random Order Streams", NeurIPS 2024, arXiv:2412.11963. How heavy rows
enter the end is our reading: by interlacing ``L^T L = sum lambda_i z_i z_i^T + E`` with ``||E|| <= sigma_2(A)^2``, so the merged matrix is A^T A up
to that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse
from numba import njit
from sklearn.base import BaseEstimator, TransformerMixin

from ritz.core import Result, array, integer, matrix, random_generator, real, sparse_matrix
from ritz.linalg.eigen import canonical_signs
from ritz.linalg.frequent_directions import FrequentDirections

RELIABLE_GAP = 1.5
SHORTEST_BLOCK = 32
LONG = 4.0  # times the mean squared norm: what is shorter is not heavy, however short the stream, unless heavy_fraction is given with n_rows


@dataclass(frozen=True, eq=False, repr=False)
class StreamEigen(Result):
    """What `top_eigenvector_stream` returns.

    Attributes
    ----------
    vector : array (d,)
        Of unit length; its entry of largest modulus is positive.
    eigenvalue : float
        Estimate of the largest eigenvalue of A^T A.
    gap_estimate : float
        Ratio of the two largest Ritz values; nan with one candidate and no heavy row.
    heavy_count : int
        Rows set aside.
    rows : int
        Rows seen.
    warnings : tuple of str
        What makes the answer doubtful; empty if nothing does.
    """

    vector: np.ndarray
    eigenvalue: float
    gap_estimate: float
    heavy_count: int
    rows: int
    warnings: tuple[str, ...]


class StreamingTopEigenvector(TransformerMixin, BaseEstimator):
    """Top eigenvector of A^T A from rows that come once, in random order.

    Parameters
    ----------
    n_features : int
        Columns d of A.
    n_rows : int, optional
        How many rows will come. Without it the blocks go on growing for as long as rows come.
    blocks : int, optional
        Steps of subspace iteration; ``2 ceil(ln d)`` by default, at least 2. With n_rows only.
    growth : float
        How much longer each block is than the one before. The paper's blocks are equal, 1; but early blocks only have to bring a random start near,
        and the last one decides the accuracy (see Notes).
    heavy_fraction : float, optional
        A row is heavy if its squared norm is at least this part of the estimated ``||A||_F^2``; by default ``1 / (d ln(d)^2)``, and four times the
        mean. 0: every row; above 1: none.
    max_heavy : int
        Heavy rows kept as they are; more are compressed into so many by frequent directions.
    candidates : int
        Columns of the iteration. One is the paper's power method; four make an unlucky start harmless and give `gap_estimate_`.
    shuffle_buffer : int
        Rows held back and given out in random order, for streams whose order is not random. A buffer for all rows restores random order, at its
        memory.
    rng : numpy.random.Generator or int, optional
        For the start and the shuffling.

    Attributes
    ----------
    components_ : array (1, d)
        The vector, after `finalize`.
    explained_variance_ : array (1,)
        The estimate of the largest eigenvalue of A^T A (not divided by the number of rows).
    gap_estimate_ : float
        Ratio of the two largest Ritz values; not reliable below 1.5.
    heavy_rows_ : array (h, d)
        h <= max_heavy.
    rows_seen_ : int
        Rows so far, those in the buffer included.
    warnings_ : tuple of str
        What makes the answer doubtful.

    Raises
    ------
    ValueError, TypeError
        If an option is out of range.

    Notes
    -----
    Memory ``(h + 2 c + 2) d`` numbers and the buffer; time O(nnz). With equal blocks and one candidate, R = sigma_1^2 / sigma_2^2 = 2 and d = 100 the
    squared correlation was as low as 0.18 among 15 starts, and 0.98 at best, since only the last of the blocks damps the sampling error; blocks
    that grow by 1.6 and four candidates gave 0.997 and more.

    A single pass in an order that is not random fails: a stream sorted by direction shows each block another matrix.

    References
    ----------
    .. [1] Kacham and Woodruff, Approximating the Top Eigenvector in Random Order Streams, NeurIPS 2024, arXiv:2412.11963.

    Examples
    --------
    >>> rows = np.random.default_rng(0).standard_normal((5000, 20)) * np.r_[3.0, np.ones(19)]
    >>> stream = StreamingTopEigenvector(20, n_rows=5000, rng=0)
    >>> for batch in np.split(rows, 10):
    ...     _ = stream.partial_fit(batch)
    >>> bool(stream.finalize().components_[0, 0] > 0.99)
    True
    """

    def __init__(
        self,
        n_features: int,
        *,
        n_rows: int | None = None,
        blocks: int | None = None,
        growth: float = 1.6,
        heavy_fraction: float | None = None,
        max_heavy: int = 256,
        candidates: int = 4,
        shuffle_buffer: int = 0,
        rng: np.random.Generator | int | None = None,
    ):
        self.n_features = n_features
        self.n_rows = n_rows
        self.blocks = blocks
        self.growth = growth
        self.heavy_fraction = heavy_fraction
        self.max_heavy = max_heavy
        self.candidates = candidates
        self.shuffle_buffer = shuffle_buffer
        self.rng = rng

    def fit(self, X, y=None) -> StreamingTopEigenvector:
        """Take all rows X (n, d), in the order given, and finalize; n_rows is their number where it was not given."""
        X = self._checked(X)
        self._begin(X.shape[0] if self.n_rows is None else self.n_rows)
        self._take(X)
        return self.finalize()

    def partial_fit(self, X, y=None) -> StreamingTopEigenvector:
        """Take the next rows X (b, d), dense or sparse; how the stream is cut into batches does not matter.

        Raises
        ------
        ValueError, TypeError
            If the rows are no finite matrix of d columns, more come than n_rows, or the stream was finalized; nothing is taken then.
        """
        X = self._checked(X)
        if not hasattr(self, "_Z"):
            self._begin(self.n_rows)
        if self._is_final:
            raise ValueError("X must not come after finalize: begin another stream")
        if self._n is not None and self.rows_seen_ + X.shape[0] > self._n:
            raise ValueError(f"X must not bring more rows than n_rows = {self._n}, got {self.rows_seen_ + X.shape[0]}")
        return self._take(X)

    def finalize(self) -> StreamingTopEigenvector:
        """End the stream: merge the Ritz pairs of the last block with the heavy rows.

        Raises
        ------
        ValueError
            If no row has come.
        """
        if not hasattr(self, "_Z") or self.rows_seen_ == 0:
            raise ValueError("there must be rows before finalize")
        if not self._is_final:
            self._is_final = True
            for rows in self._shuffler.rest() if self._shuffler else ():
                self._process(rows)
            self._merge()
        return self

    def transform(self, X) -> np.ndarray:
        """The component of each row of X (n, d) along the vector: (n, 1)."""
        return np.asarray(self._checked(X) @ self.components_.T)

    def _checked(self, X):
        X = sparse_matrix(X, "X") if scipy.sparse.issparse(X) else np.asarray(matrix(X, "X"), dtype=np.float64)
        if X.shape[1] != self.n_features:
            raise ValueError(f"X must have n_features = {self.n_features} columns, got shape {tuple(X.shape)}")
        return X

    def _begin(self, n: int | None) -> None:
        """Check the options and start a stream of n rows, or of an unknown number."""
        d = integer(self.n_features, "n_features", at_least=1)
        n = None if n is None else integer(n, "n_rows", at_least=1)
        blocks = default_blocks(d) if self.blocks is None else integer(self.blocks, "blocks", at_least=1)
        growth, rng = real(self.growth, "growth", at_least=1), random_generator(self.rng)
        if n is None and self.blocks is not None:
            raise ValueError("blocks must be None where n_rows is not known")
        if n is None and growth == 1:
            raise ValueError("growth must be above 1 where n_rows is not known, got 1")
        self._fraction = default_heavy_fraction(d) if self.heavy_fraction is None else real(self.heavy_fraction, "heavy_fraction", at_least=0)
        buffer, candidates = integer(self.shuffle_buffer, "shuffle_buffer", at_least=0), integer(self.candidates, "candidates", at_least=1)
        self._heavy = FrequentDirections(d, integer(self.max_heavy, "max_heavy", at_least=1))
        self._n, self._growth, self._is_final, self.rows_seen_, self._processed, self._squares = n, growth, False, 0, 0, 0.0
        self._Y = np.zeros((d, min(candidates, d)))
        self._in_block, self._block, self._light, self.heavy_count_ = 0, 0, 0, 0
        self._previous = None  # the columns that the last block started from, their products, and its rows
        self._ends = _block_ends(n, blocks, growth) if n else None
        self._shuffler = _Shuffler(buffer, d, rng) if buffer else None
        self._Z = np.linalg.qr(rng.standard_normal(self._Y.shape))[0]

    def _take(self, X) -> StreamingTopEigenvector:
        self.rows_seen_ += X.shape[0]
        for rows in self._shuffler.exchange(X) if self._shuffler else (X,):
            self._process(rows)
        return self

    def _process(self, X) -> None:
        """Rows in the order in which they count, cut at the ends of blocks."""
        first = 0
        while first < X.shape[0]:
            last = min(X.shape[0], first + self._end_of_block() - self._processed)
            rows = X if last - first == X.shape[0] else X[first:last]
            heavy = self._is_heavy(rows)
            if heavy.any():
                self._heavy.add(rows[heavy])
                self.heavy_count_ += int(heavy.sum())
                rows = rows[~heavy]
            self._Y += rows.T @ (rows @ self._Z)
            self._in_block += rows.shape[0]
            self._processed += last - first
            first = last
            if self._processed == self._end_of_block() and self._processed != self._n:
                self._end_block()

    def _end_of_block(self) -> int:
        if self._ends is not None:
            return self._ends[self._block]
        return round(max(2 * self.n_features, SHORTEST_BLOCK) * (self._growth ** (self._block + 1) - 1) / (self._growth - 1))

    def _end_block(self) -> None:
        self._block += 1
        if self._in_block == 0 or not self._Y.any():
            return
        self._previous = (self._Z, self._Y, self._in_block)
        self._Z = np.linalg.qr(self._Y)[0]
        self._light += self._in_block
        self._Y, self._in_block = np.zeros_like(self._Z), 0

    def _is_heavy(self, X) -> np.ndarray:
        """Rows whose squared norm reaches the fraction of ``||A||_F^2``, estimated from all rows up to each."""
        squares = X.multiply(X).sum(axis=1) if scipy.sparse.issparse(X) else np.vecdot(X, X)
        totals = self._squares + np.cumsum(squares)
        self._squares = float(totals[-1])
        seen = self._processed + np.arange(1, len(squares) + 1)
        expected = self._n if self._n is not None else self._end_of_block()
        if self.heavy_fraction is None or self._n is None:
            expected = max(expected, LONG / self._fraction if self._fraction else 0)
        return (squares >= self._fraction * totals * np.maximum(expected / seen, 1.0)) & ((squares > 0) | (self._fraction == 0))

    def _merge(self) -> None:
        Z, Y, count = self._Z, self._Y, self._in_block
        if self._previous is not None and count < self._previous[2] / 2:  # a stream that ends early in a block: the one before says more
            Z, Y, count = self._previous
        light = self._light + self._in_block
        values, vectors = _ritz_pairs(Z, Y * (light / max(count, 1)))
        stacked = np.concatenate([self._heavy.rows(), np.sqrt(values)[:, None] * vectors.T])
        _, sizes, right = np.linalg.svd(stacked, full_matrices=False)
        self.heavy_rows_ = self._heavy.rows()
        self.components_ = canonical_signs(right[:1].T).T
        self.explained_variance_ = sizes[:1] ** 2
        known = len(sizes) > 1 and len(stacked) > 1
        self.gap_estimate_ = float((sizes[0] / sizes[1]) ** 2) if known and sizes[1] > 0 else math.inf if known else math.nan
        self.warnings_ = tuple(self._doubts())

    def _doubts(self) -> Iterator[str]:
        if self.gap_estimate_ < RELIABLE_GAP:
            yield f"the gap between the two largest eigenvalues, about {self.gap_estimate_:.2f}, is small: the vector is not reliable"
        if self.heavy_count_ > self.max_heavy:
            yield f"{self.heavy_count_} rows are heavy, more than max_heavy = {self.max_heavy}: they were compressed"
        if self._ends is not None and self.rows_seen_ < self._n:
            yield f"{self.rows_seen_} rows came, n_rows promised {self._n}"
        if self._ends is not None and self.rows_seen_ < len(self._ends):
            yield f"{self.rows_seen_} rows are fewer than blocks: the iteration took a step per row"


def top_eigenvector_stream(
    rows_iterable: Iterable,
    d: int,
    *,
    n_rows: int | None = None,
    blocks: int | None = None,
    growth: float = 1.6,
    heavy_fraction: float | None = None,
    max_heavy: int = 256,
    candidates: int = 4,
    shuffle_buffer: int = 0,
    rng: np.random.Generator | int | None = None,
) -> StreamEigen:
    """Return the top eigenvector of A^T A from an iterable over batches of rows.

    Parameters
    ----------
    rows_iterable : iterable of array (b, d) or (d,)
        Batches, dense or sparse, or single rows, in random order.
    d : int
        Columns.
    n_rows, blocks, growth, heavy_fraction, max_heavy, candidates, shuffle_buffer, rng
        As for `StreamingTopEigenvector`.

    Raises
    ------
    ValueError, TypeError
        If a batch or an option does not fit, or no row comes.

    Examples
    --------
    >>> rows = np.random.default_rng(0).standard_normal((5000, 20)) * np.r_[3.0, np.ones(19)]
    >>> top_eigenvector_stream(iter(np.split(rows, 10)), 20, rng=0).rows
    5000
    """
    stream = StreamingTopEigenvector(
        integer(d, "d", at_least=1),
        n_rows=n_rows,
        blocks=blocks,
        growth=growth,
        heavy_fraction=heavy_fraction,
        max_heavy=max_heavy,
        candidates=candidates,
        shuffle_buffer=shuffle_buffer,
        rng=rng,
    )
    if not isinstance(rows_iterable, Iterable):
        raise TypeError(f"rows_iterable must be an iterable of rows or batches, got {type(rows_iterable).__name__}")
    for rows in rows_iterable:
        stream.partial_fit(rows if scipy.sparse.issparse(rows) else np.atleast_2d(array(rows, "rows_iterable")))
    stream.finalize()
    return StreamEigen(
        stream.components_[0], float(stream.explained_variance_[0]), stream.gap_estimate_, stream.heavy_count_, stream.rows_seen_, stream.warnings_
    )


def default_blocks(d: int) -> int:
    """Twice the steps that a power method needs to forget its start at a constant gap."""
    return max(2, 2 * math.ceil(math.log(d))) if d > 1 else 2


def default_heavy_fraction(d: int) -> float:
    """``1 / (d ln(d)^2)``: light rows are then short enough for each block to be like the whole."""
    return 1 / (d * max(math.log(d), 1.0) ** 2)


def _block_ends(n: int, blocks: int, growth: float) -> list[int]:
    """Where blocks end, the last at n: lengths grow by a factor, none is empty."""
    shares = np.cumsum(growth ** np.arange(min(blocks, n), dtype=float))
    ends = np.round(n * shares / shares[-1]).astype(int)
    for j in range(1, len(ends) + 1):  # from the end: leave a row for each earlier block
        ends[-j] = min(ends[-j], n - j + 1)
    for j in range(len(ends)):
        ends[j] = max(ends[j], j + 1)
    return ends.tolist()


def _ritz_pairs(Z: np.ndarray, Y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ritz values, descending, and vectors of a matrix M >= 0 with ``Y = M Z``: values from Z, vectors one step further, from Y."""
    if not Y.any():
        return np.zeros(Z.shape[1]), Z
    values, W = np.linalg.eigh((Z.T @ Y + Y.T @ Z) / 2)
    values, W = np.maximum(values[::-1], 0), W[:, ::-1]
    vectors, R = np.linalg.qr(Y @ W)
    return values, vectors * np.where(np.diagonal(R) < 0, -1.0, 1.0)


class _Shuffler:
    """A buffer of rows: each row that comes takes the place of a random one, which goes."""

    def __init__(self, size: int, d: int, rng: np.random.Generator):
        self._buffer, self._filled, self._rng = np.empty((size, d)), 0, rng

    def exchange(self, X) -> Iterator[np.ndarray]:
        """Yield the rows that X displaces."""
        X = X.toarray() if scipy.sparse.issparse(X) else X.copy()
        room = min(len(self._buffer) - self._filled, len(X))
        self._buffer[self._filled : self._filled + room] = X[:room]
        self._filled += room
        if room < len(X):
            rest = np.ascontiguousarray(X[room:])
            _displace(self._buffer, rest, self._rng.integers(len(self._buffer), size=len(rest)))
            yield rest

    def rest(self) -> Iterator[np.ndarray]:
        """Yield what is left, in random order."""
        yield self._buffer[self._rng.permutation(self._filled)]


@njit(cache=True, nogil=True)
def _displace(buffer, rows, places):
    """Swap each row in turn with the row of the buffer at its place."""
    for i in range(len(rows)):
        for j in range(rows.shape[1]):
            buffer[places[i], j], rows[i, j] = rows[i, j], buffer[places[i], j]
