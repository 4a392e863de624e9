"""Rows of a stream kept with probability proportional to their squared norm, rescaled so that ``E S^T S = A^T A``.

Drineas, Kannan and Mahoney, "Fast Monte Carlo Algorithms for Matrices I", SIAM J. Comput. 36(1), 2006, as independent (Poisson) sampling; in a stream
the probabilities shrink as ``||A||_F`` grows, so each row draws its number once and is dropped when its probability falls below that.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse

from ritz.core import integer, matrix, random_generator, sparse_matrix


class RowNormSampler:
    """What `row_norm_sampler` returns: a sample of the rows seen so far.

    Attributes
    ----------
    rows_seen : int
        Rows so far.
    squared_norm : float
        ``||A||_F^2`` of the rows so far.
    """

    def __init__(self, target_rows: int, d: int, rng: np.random.Generator):
        self._target, self._d, self._rng = target_rows, d, rng
        self._rows, self._draws, self._squares = np.zeros((0, d)), np.zeros(0), np.zeros(0)
        self.rows_seen, self.squared_norm = 0, 0.0

    def partial_fit(self, X) -> RowNormSampler:
        """Take rows X (b, d), dense or sparse.

        Raises
        ------
        ValueError, TypeError
            If they are no finite matrix of d columns.
        """
        X = sparse_matrix(X, "X").toarray() if scipy.sparse.issparse(X) else np.asarray(matrix(X, "X"), dtype=np.float64)
        if X.shape[1] != self._d:
            raise ValueError(f"X must have {self._d} columns, got shape {X.shape}")
        squares = np.vecdot(X, X)
        draws = self._rng.random(len(X))
        self.rows_seen += len(X)
        self.squared_norm += float(squares.sum())
        likely = (draws * self.squared_norm <= self._target * squares) & (squares > 0)
        self._rows, self._draws = np.concatenate([self._rows, X[likely]]), np.concatenate([self._draws, draws[likely]])
        self._squares = np.concatenate([self._squares, squares[likely]])
        kept = self._draws * self.squared_norm <= self._target * self._squares
        self._rows, self._draws, self._squares = self._rows[kept], self._draws[kept], self._squares[kept]
        return self

    @property
    def probabilities(self) -> np.ndarray:
        """With what probability each row of the sample was kept (s,)."""
        return np.minimum(1.0, self._target * self._squares / self.squared_norm) if len(self._rows) else np.zeros(0)

    @property
    def rows(self) -> np.ndarray:
        """The sample S (s, d), each row over the root of its probability."""
        return self._rows / np.sqrt(self.probabilities)[:, None]


def row_norm_sampler(target_rows: int, d: int, rng: np.random.Generator | int | None = None) -> RowNormSampler:
    """Return a sampler that keeps about `target_rows` rows of a stream, long ones rather than short ones.

    Parameters
    ----------
    target_rows : int
        Expected size of the sample; less where some rows are so long that they are always kept.
    d : int
        Columns.
    rng : numpy.random.Generator or int, optional
        One number is drawn per row.

    Returns
    -------
    RowNormSampler
        Feed it by ``partial_fit(X)``; ``rows`` is the sample S with ``E S^T S = A^T A``.

    Raises
    ------
    ValueError, TypeError
        If a number is out of range.

    Examples
    --------
    >>> sampler = row_norm_sampler(50, 3, rng=0).partial_fit(np.ones((1000, 3)))
    >>> 20 < len(sampler.rows) < 80
    True
    """
    return RowNormSampler(integer(target_rows, "target_rows", at_least=1), integer(d, "d", at_least=1), random_generator(rng))
