"""exp(-t G) and the inverse of symmetric M-matrices, every entry accurate relative to itself, however small.

G = c I - B with B >= 0 entrywise and lowest eigenvalue 0: the kin of Laplacians. exp(-t G) is a power series in B with non-negative terms, so no
entry between connected nodes is 0; but the sum over eigenvectors, which serves a whole grid of t by one decomposition, leaves errors of about 1e-16
times the largest value of the function, in which entries between distant nodes drown. Where an entry is that small the matrix is computed by the
series itself, without a subtraction (Xue and Ye, "Computing exponentials of essentially non-negative matrices entrywise to high relative accuracy",
Math. Comp. 82, 2013). Inverses need no such care: Cholesky's method subtracts on the diagonal of an M-matrix only, and costs no more than the sum.
"""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
import scipy.linalg
from scipy.sparse.csgraph import connected_components, shortest_path

SMALL = 1e-6  # entries below this, relative to the exponential's largest eigenvalue, would have too few right digits
NEGLIGIBLE = 1e-20  # eigenvalues of the exponential below this, relative to the largest, are left out of the sum
BLOCK = 256  # rows mirrored at a time
DEGREE = 16  # of the Taylor polynomial of the scaled exponential


class MMatrixExponential:
    """exp(-t G) of one dense symmetric singular M-matrix G (n, n), for many t."""

    def __init__(self, G: np.ndarray):
        self.G = G

    @classmethod
    def below_spectral_radius(cls, A: np.ndarray) -> tuple[MMatrixExponential, float]:
        """Return the exponential of rho I - A, for a symmetric A >= 0, and its spectral radius rho: one eigendecomposition for both."""
        values, vectors = np.linalg.eigh(A)
        rho = float(values[-1])
        exponential = cls(rho * np.eye(len(A)) - A)
        exponential._eigenpairs = rho - values, vectors
        return exponential, rho

    def at(self, t: float) -> np.ndarray:
        """Return exp(-t G); n^3 flops, some thirty times as many where an entry is small."""
        eigenvalues, vectors = self._eigenpairs
        f = np.exp(-t * eigenvalues)
        kept = np.flatnonzero(f > NEGLIGIBLE * f.max())
        kept = slice(kept[0], kept[-1] + 1)  # eigenvalues are sorted
        root = vectors[:, kept] * np.sqrt(f[kept])
        K = root @ root.T
        if self._apart is not None:
            K[self._apart] = 0
        smallest = K.min() if self._apart is None else K.min(where=~self._apart, initial=np.inf)
        return K if smallest > SMALL * f.max() else self._series(t)

    @cached_property
    def _eigenpairs(self) -> tuple[np.ndarray, np.ndarray]:
        values, vectors = np.linalg.eigh(self.G)
        return values, vectors

    @cached_property
    def _components(self) -> np.ndarray:
        return connected_components(self.G != 0, directed=False)[1]

    @cached_property
    def _apart(self) -> np.ndarray | None:
        """Marks the pairs of nodes that no path joins (n, n), None if there are none."""
        return self._components[:, None] != self._components[None, :] if self._components.any() else None

    @cached_property
    def _longest_path(self) -> float:
        """A bound on the steps between connected nodes: twice the steps from one node of each component."""
        _, representatives = np.unique(self._components, return_index=True)
        hops = shortest_path(self.G != 0, directed=False, unweighted=True, indices=representatives)
        return 2 * hops[np.isfinite(hops)].max()

    def _series(self, t: float) -> np.ndarray:
        """exp(t B - t c) by scaling, Taylor's polynomial and squaring.

        A polynomial of degree m, multiplied by itself to the 2^s, counts walks of k steps rightly up to a share of 2^s (k / 2^s)^(m + 1) / (m + 1)!;
        walks much longer than the longest shortest path plus t times the largest degree count for nothing.
        """
        c = self.G.diagonal().max()
        B = t * (c * np.eye(len(self.G)) - self.G)
        longest = self._longest_path + 4 * B.sum(axis=1).max() + 40
        halvings = math.ceil(math.log2(2 * longest))
        K = math.exp(-t * c / 2**halvings) * _taylor(B / 2**halvings)
        for _ in range(halvings):
            K = K @ K.T  # symmetric: half the work of a general product
        return K


def m_matrix_inverse(M: np.ndarray) -> np.ndarray:
    """Return the inverse of a symmetric positive definite M-matrix, whose off-diagonal entries are not positive, in its place; n^3 flops.

    Raises
    ------
    numpy.linalg.LinAlgError
        If the matrix is not positive definite to rounding.
    """
    M = np.ascontiguousarray(M)
    _, failed = scipy.linalg.lapack.dpotrf(M.T, lower=1, clean=0, overwrite_a=1)  # transposed: the order in which LAPACK works in place
    if failed:
        raise np.linalg.LinAlgError("the matrix is not positive definite")
    scipy.linalg.lapack.dpotri(M.T, lower=1, overwrite_c=1)
    for first in range(0, len(M), BLOCK):  # LAPACK left the result in the upper triangle of M
        rows = slice(first, first + BLOCK)
        M[rows, :first] = M[:first, rows].T
        M[rows, rows] = np.triu(M[rows, rows]) + np.triu(M[rows, rows], 1).T
    return M


def _taylor(B: np.ndarray) -> np.ndarray:
    """The Taylor polynomial of exp of degree 16 at a symmetric B, by Horner's rule in B^4."""
    square = B @ B.T
    powers = [np.eye(len(B)), B, square, square @ B]
    fourth = square @ square.T
    total = powers[0] / math.factorial(DEGREE)
    for first in range(DEGREE - 4, -1, -4):
        total = total @ fourth + sum(power / math.factorial(first + j) for j, power in enumerate(powers))
    return total
