"""Frequent directions: the rows of a stream in a few rows, with ``0 <= A^T A - S^T S <= ||A - A_k||_F^2 / (l - k)``.

Ghashami, Liberty, Phillips and Woodruff, "Frequent Directions: Simple and Deterministic Matrix Sketching", SIAM J. Comput. 45(5), 2016.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse


class FrequentDirections:
    """At most `limit` rows of d numbers: the rows themselves while there is room, and else their directions, shrunk.

    Examples
    --------
    >>> sketch = FrequentDirections(3, 2)
    >>> sketch.add(np.eye(3)[:2])
    >>> sketch.rows()
    array([[1., 0., 0.],
           [0., 1., 0.]])
    """

    def __init__(self, d: int, limit: int):
        self._rows, self._limit = np.zeros((0, d)), limit

    def add(self, rows) -> None:
        """Take rows in; where the room is full, shrink all directions by the shortest one that must go."""
        rows = rows.toarray() if scipy.sparse.issparse(rows) else rows
        for first in range(0, len(rows), self._limit):
            self._rows = np.concatenate([self._rows, rows[first : first + self._limit]])
            if len(self._rows) > self._limit:
                _, sizes, right = np.linalg.svd(self._rows, full_matrices=False)
                cut = sizes[self._limit] ** 2 if len(sizes) > self._limit else 0.0
                self._rows = np.sqrt(np.maximum(sizes[: self._limit] ** 2 - cut, 0))[:, None] * right[: self._limit]

    def rows(self) -> np.ndarray:
        """The sketch S (l, d)."""
        return self._rows
