"""The Hermitian operand of an eigensolver: any kind of matrix taken in once, its products counted, the ends of its spectrum estimated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

from ritz.core import symmetric_matrix
from ritz.linalg.lanczos import adjoint, orthonormal_complement, random_block
from ritz.linalg.matrix_kinds import host_matrix

PROBE_STEPS = 20


@dataclass
class Hermitian:
    """A Hermitian matrix, dense or CSR, or an operator known by its products; `matvecs` counts them."""

    entries: np.ndarray | scipy.sparse.csr_array | scipy.sparse.linalg.LinearOperator
    n: int
    dtype: np.dtype
    matvecs: int = 0

    @property
    def is_dense(self) -> bool:
        """Whether the entries are at hand as an array."""
        return isinstance(self.entries, np.ndarray)

    @property
    def is_sparse(self) -> bool:
        """Whether the entries are at hand as a CSR array."""
        return scipy.sparse.issparse(self.entries)

    def apply(self, X: np.ndarray) -> np.ndarray:
        """Multiply a block (n, b)."""
        self.matvecs += X.shape[1]
        if self.is_dense or self.is_sparse:
            return self.entries @ np.ascontiguousarray(X)
        return np.asarray(self.entries.matmat(X)).astype(self.dtype, copy=False)

    def toarray(self) -> np.ndarray:
        """The dense matrix; an operator is applied to the identity."""
        if self.is_dense:
            return self.entries
        if self.is_sparse:
            return self.entries.toarray()
        dense = self.apply(np.eye(self.n, dtype=self.dtype))
        return (dense + adjoint(dense)) / 2


def hermitian(A, name: str, rng: np.random.Generator) -> Hermitian:
    """Take in a matrix of any kind, or refuse it by `name`: not square, not Hermitian, not finite, empty, on another device."""
    A = host_matrix(A, name, square=True)
    if isinstance(A, scipy.sparse.linalg.LinearOperator):
        return _checked_operator(A, name, rng)
    A = A.astype(np.result_type(A.dtype, np.float32), copy=False)
    if scipy.sparse.issparse(A):
        _check_symmetric(A, name)
    else:
        symmetric_matrix(A, name, tolerance=_asymmetry(A.dtype), allow_complex=True)
    return Hermitian(A, A.shape[0], A.dtype)


def spectral_ends(apply, n: int, dtype, rng: np.random.Generator) -> tuple[float, float, float, float]:
    """Estimate both ends of a spectrum by a few Lanczos steps: lowest and highest Ritz value, and the residual of each."""
    steps = min(PROBE_STEPS, n)
    V = np.zeros((n, steps), dtype, order="F")
    H = np.zeros((steps, steps), dtype)
    following = orthonormal_complement(random_block(n, 1, dtype, rng), V[:, :0], None, rng, 0.0)[1]
    R = np.zeros((0, 1), dtype)
    for j in range(steps):
        V[:, j] = following[:, 0]
        floor = 64 * float(np.finfo(dtype).eps) * float(np.max(np.abs(H)))
        C, following, R = orthonormal_complement(apply(following), V[:, : j + 1], None, rng, floor)
        H[: j + 1, j] = C[:, 0]
        H[j, : j + 1] = C[:, 0].conj()
    values, Y = np.linalg.eigh(H)
    residuals = np.abs(Y[-1]) * float(np.linalg.norm(R))
    return float(values[0]), float(residuals[0]), float(values[-1]), float(residuals[-1])


def _check_symmetric(A: scipy.sparse.csr_array, name: str) -> None:
    difference, largest = abs(A - A.conj().T).max(), abs(A).max()
    if difference > _asymmetry(A.dtype) * largest:
        raise ValueError(f"{name} must be symmetric: entries differ from the transpose by {difference:.3}, the largest entry is {largest:.3}")


def _checked_operator(A, name: str, rng: np.random.Generator) -> Hermitian:
    """Two random vectors tell whether ``<x, A y> = <A x, y>``; their products must be finite."""
    dtype = np.result_type(A.dtype or np.float64, np.float32)
    n = A.shape[0]
    X = random_block(n, 2, dtype, rng)
    W = np.asarray(A.matmat(X))
    dtype = np.result_type(dtype, W.dtype)
    if not np.isfinite(W).all():
        raise ValueError(f"{name} must be finite: its product with a finite vector has NaN or infinite entries")
    products = adjoint(X) @ W
    asymmetry = abs(products[0, 1] - products[1, 0].conj()) + abs(np.diagonal(products).imag).max()
    size = float(np.linalg.norm(W) * np.linalg.norm(X))
    if asymmetry > 10 * _asymmetry(dtype) * size:
        raise ValueError(f"{name} must be symmetric: <x, A y> and <A x, y> differ by {asymmetry:.3} for random x, y with |x| |A y| = {size:.3}")
    return Hermitian(A, n, dtype, matvecs=2)


def _asymmetry(dtype) -> float:
    return 1e-5 if np.dtype(dtype) in (np.float16, np.float32, np.complex64) else 1e-8
