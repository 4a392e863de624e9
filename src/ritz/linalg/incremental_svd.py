"""Leading left singular vectors of a matrix whose columns arrive in blocks, with a bound on what they miss.

The incremental approximation of Shamrai, "Concatenated Matrix SVD", 2026, arXiv:2601.11626; the update is Brand's, "Fast Low-Rank Modifications of
the Thin Singular Value Decomposition", 2006.
"""

from __future__ import annotations

import math

from ritz.core import integer, like
from ritz.linalg.concatenation_bounds import OVERSAMPLING, IncrementalBound, checked_block


class IncrementalSVD:
    """Truncated singular value decomposition, block of columns by block of columns.

    Parameters
    ----------
    rank : int
        How many directions r are wanted.
    oversampling : int
        How many more are kept between blocks.

    Attributes
    ----------
    singular_values_ : array (r,)
        Never above those of all columns so far; equal to them if no more than ``rank + oversampling`` are not zero. Fewer while fewer columns came.
    components_ : array (m, r)
        Left singular vectors, orthonormal.
    total_norm_ : float
        Frobenius norm of all columns so far.
    error_bound_ : float
        At least the relative Frobenius error of the best approximation of rank r, and of the projection onto `components_`.

    Notes
    -----
    ``O(m (r + oversampling + n)^2)`` for a block of n columns, ``O(m (r + oversampling))`` memory. No mean is subtracted.

    References
    ----------
    .. [1] Shamrai, 2026, arXiv:2601.11626.

    Examples
    --------
    >>> import numpy as np
    >>> A = np.diag([3.0, 2.0, 1.0])
    >>> svd = IncrementalSVD(2)
    >>> for block in (A[:, :1], A[:, 1:]):
    ...     _ = svd.partial_fit(block)
    >>> svd.singular_values_
    array([3., 2.])
    >>> round(svd.error_bound_, 6)  # sqrt(1 / 14)
    0.267261
    """

    def __init__(self, rank: int, *, oversampling: int = OVERSAMPLING):
        self.rank = integer(rank, "rank", at_least=1)
        self.oversampling = integer(oversampling, "oversampling", at_least=0)
        self._state: IncrementalBound | None = None

    def partial_fit(self, block) -> IncrementalSVD:
        """Take in a block of columns (m, n), dense, sparse or a torch tensor, real, of as many rows as those before.

        Raises
        ------
        ValueError, TypeError
            If it is no finite real matrix or has another number of rows. What came before stays as it was.
        """
        columns = checked_block(block, "block")
        if self._state is None:
            state = IncrementalBound.start(columns, self.rank, self.oversampling)
        elif columns.shape[0] != len(self._state.U):
            raise ValueError(f"block must have {len(self._state.U)} rows like the first one, got shape {columns.shape}")
        else:
            state = self._state.extended(columns.astype(self._state.U.dtype, copy=False))
        self._state = state
        self.singular_values_, self.components_ = like(state.s[: self.rank], block), like(state.U[:, : self.rank], block)
        self.total_norm_, self.error_bound_ = math.sqrt(state.total), state.error
        return self
