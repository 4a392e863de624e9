"""The Hermitian operand of an eigensolver: any kind of matrix taken in once, its products counted, the ends of its spectrum estimated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

from ritz.core import array, is_torch, kind, symmetric_matrix, to_csr, to_numpy
from ritz.linalg.lanczos import adjoint, orthonormal_complement, random_block

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
    if is_torch(A) and A.device.type != "cpu":
        raise ValueError(f"{name} must be on the CPU, got a tensor on {A.device}: pass {name}.cpu()")
    if not is_torch(A) and not scipy.sparse.issparse(A) and not isinstance(A, scipy.sparse.linalg.LinearOperator):
        A = to_numpy(A, name)
    shape = tuple(A.shape)
    if len(shape) != 2 or shape[0] != shape[1]:
        raise ValueError(f"{name} must be a square matrix, got shape {shape}")
    if shape[0] == 0:
        raise ValueError(f"{name} must not be empty, got shape {shape}")
    if kind(A, name) == "operator":
        return _checked_operator(A, name, rng)
    if kind(A, name) == "sparse" or (is_torch(A) and str(A.layout) != "torch.strided"):
        return _checked_sparse(A, name)
    dense = symmetric_matrix(to_numpy(A, name), name, tolerance=_asymmetry(to_numpy(A, name).dtype), allow_complex=True)
    dense = dense.astype(np.result_type(dense.dtype, np.float32), copy=False)
    return Hermitian(dense, shape[0], dense.dtype)


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


def _checked_sparse(A, name: str) -> Hermitian:
    if not is_torch(A) and A.dtype.kind not in "biufc":
        raise TypeError(f"{name} must be a matrix of numbers, got dtype {A.dtype}")
    matrix = to_csr(A, name)
    entries = array(matrix.data, name, allow_complex=True, allow_empty=True)
    entries = entries.astype(np.result_type(entries.dtype, np.float32), copy=False)
    matrix = scipy.sparse.csr_array((entries, matrix.indices, matrix.indptr), shape=matrix.shape)
    difference, largest = abs(matrix - matrix.conj().T).max(), abs(matrix).max()
    if difference > _asymmetry(matrix.dtype) * largest:
        raise ValueError(f"{name} must be symmetric: entries differ from the transpose by {difference:.3}, the largest entry is {largest:.3}")
    return Hermitian(matrix, matrix.shape[0], matrix.dtype)


def _checked_operator(A, name: str, rng: np.random.Generator) -> Hermitian:
    """Two random vectors tell whether ``<x, A y> = <A x, y>``; their products must be finite."""
    dtype = np.result_type(A.dtype or np.float64, np.float32)
    n = A.shape[0]
    X = random_block(n, 2, dtype, rng)
    try:
        W = np.asarray(A.matmat(X))
    except TypeError as error:
        raise TypeError(f"{name} must multiply NumPy arrays: {error}") from error
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
