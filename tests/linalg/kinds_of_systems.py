"""The matrix of a linear system in every kind that the solvers accept, and right-hand sides to match it."""

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch

from ritz.linalg import BlockDiagonalOperator

MATRIX_KINDS = {
    "numpy": np.asarray,
    "fortran": np.asfortranarray,
    "strided view": lambda A: np.repeat(np.repeat(A, 2, axis=0), 2, axis=1)[::2, ::2],
    "csr_array": scipy.sparse.csr_array,
    "csc_matrix": scipy.sparse.csc_matrix,
    "coo_array": scipy.sparse.coo_array,
    "LinearOperator": lambda A: scipy.sparse.linalg.LinearOperator(A.shape, lambda x: A @ x, lambda x: A.conj().T @ x, dtype=A.dtype),
    "structured": lambda A: BlockDiagonalOperator(A[None]),
    "torch": torch.from_numpy,
    "torch sparse coo": lambda A: torch.from_numpy(A).to_sparse_coo(),
    "torch sparse csr": lambda A: torch.from_numpy(A).to_sparse_csr(),
    "torch structured": lambda A: BlockDiagonalOperator(torch.from_numpy(A)[None]),
}
DTYPES = [np.float32, np.float64, np.complex64, np.complex128]


def matching(kind: str, b: np.ndarray):
    """Return b as a tensor for the torch kinds, in Fortran order for that kind, else as it is."""
    if kind.startswith("torch"):
        return torch.from_numpy(np.ascontiguousarray(b))
    return np.asfortranarray(b) if kind == "fortran" else b


def draw(rng: np.random.Generator, *shape: int, dtype=np.float64) -> np.ndarray:
    """Standard normal entries, complex where the dtype is."""
    x = rng.standard_normal(shape)
    return (x + 1j * rng.standard_normal(shape) if np.dtype(dtype).kind == "c" else x).astype(dtype)


def hermitian(rng: np.random.Generator, eigenvalues, dtype=np.float64) -> np.ndarray:
    """A Hermitian matrix with these eigenvalues."""
    Q = np.linalg.qr(draw(rng, len(eigenvalues), len(eigenvalues), dtype=np.complex128 if np.dtype(dtype).kind == "c" else np.float64))[0]
    A = (Q * np.asarray(eigenvalues)) @ Q.conj().T
    return ((A + A.conj().T) / 2).astype(dtype)


def assert_near(found, expected: np.ndarray, tolerance: float) -> None:
    """Equality to a tolerance relative to the largest entry; tensors too."""
    if isinstance(found, torch.Tensor):
        found = found.resolve_conj().numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * max(np.abs(expected).max(), np.finfo(np.float32).tiny))
