"""The small least-squares problem of the Arnoldi process, solved anew with each step by one more Givens rotation."""

from __future__ import annotations

import numpy as np
import scipy.linalg
from numba import njit


class GivensLeastSquares:
    """``min ||norm e_1 - Hbar y||`` for a Hessenberg matrix that grows by a column at a time, kept triangular by Givens rotations."""

    def __init__(self, norm: float, steps: int, dtype: np.dtype):
        self._R, self._g = np.zeros((steps, steps + 1), dtype=dtype), np.zeros(steps + 1, dtype=dtype)  # R by columns
        self._cosines, self._sines = np.zeros(steps, dtype=dtype), np.zeros(steps, dtype=dtype)
        self._g[0], self._columns = norm, 0

    def append(self, column: np.ndarray, exhausted: bool) -> tuple[float, bool]:
        """Take a column (j + 2,); return the residual's norm, and whether the column was dropped: the last one, and dependent on the others."""
        j, R = self._columns, self._R
        R[j, : j + 2] = column
        _rotate(R[j], self._cosines, self._sines, self._g, j)
        if exhausted and abs(R[j, j]) <= negligible(R.dtype) * np.abs(np.diagonal(R)).max():
            return float(np.hypot(abs(self._g[j]), abs(self._g[j + 1]))), True
        self._columns += 1
        return float(abs(self._g[j + 1])), False

    def solution(self) -> np.ndarray:
        k = self._columns
        return scipy.linalg.solve_triangular(self._R[:k, :k], self._g[:k], trans="T", lower=True, check_finite=False)


@njit(cache=True, nogil=True)
def _rotate(column, cosines, sines, g, j):
    """Apply the rotations so far to a new column, and a new one to it and to g that removes its last entry, which is real."""
    for i in range(j):
        upper, lower = column[i], column[i + 1]
        column[i] = np.conj(cosines[i]) * upper + sines[i] * lower
        column[i + 1] = cosines[i] * lower - sines[i] * upper
    length = np.hypot(np.abs(column[j]), np.abs(column[j + 1]))
    cosines[j], sines[j] = 1, 0
    if length > 0:
        cosines[j], sines[j] = column[j] / length, column[j + 1] / length
    column[j], column[j + 1] = length, 0
    g[j + 1] = -sines[j] * g[j]
    g[j] = np.conj(cosines[j]) * g[j]


def negligible(dtype) -> float:
    """A pivot below this fraction of the largest is rounding: 1e-12 in double precision."""
    return float(np.finfo(dtype).eps ** 0.7667)
