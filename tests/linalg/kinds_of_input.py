"""One matrix as every kind of input that the room takes, vectors to match, and matrices with a given spectrum."""

import numpy as np
import scipy.sparse
import torch

from ritz.core import to_numpy
from ritz.linalg import BlockDiagonalOperator


def _view(A):
    """A non-contiguous view with the entries of A."""
    wide = np.zeros((2 * A.shape[0], 3 * A.shape[1]), dtype=A.dtype)
    wide[::2, ::3] = A
    return wide[::2, ::3]


KINDS = {
    "numpy": np.ascontiguousarray,
    "fortran": np.asfortranarray,
    "view": _view,
    "csr_array": scipy.sparse.csr_array,
    "coo_array": scipy.sparse.coo_array,
    "csc_matrix": scipy.sparse.csc_matrix,
    "LinearOperator": scipy.sparse.linalg.aslinearoperator,
    "structured": lambda A: BlockDiagonalOperator(A[None]),
    "torch": lambda A: torch.from_numpy(np.ascontiguousarray(A)),
    "torch sparse coo": lambda A: torch.from_numpy(np.ascontiguousarray(A)).to_sparse_coo(),
    "torch sparse csr": lambda A: torch.from_numpy(np.ascontiguousarray(A)).to_sparse_csr(),
    "torch structured": lambda A: BlockDiagonalOperator(torch.from_numpy(np.ascontiguousarray(A))[None]),
}
OPERATORS = ("LinearOperator", "structured", "torch structured")  # whose entries nobody has asked for
DTYPES = ("float32", "float64", "complex64", "complex128")


def answers_in_torch(kind: str) -> bool:
    return kind.startswith("torch")


def check_kind(found, kind: str, dtype: str) -> np.ndarray:
    """Assert that an array of a result has the kind and dtype it should, and return it as NumPy."""
    assert isinstance(found, torch.Tensor if answers_in_torch(kind) else np.ndarray)
    assert str(found.dtype).removeprefix("torch.") == dtype
    return to_numpy(found)


def real_of(dtype: str) -> str:
    return {"complex64": "float32", "complex128": "float64"}.get(dtype, dtype)


def tolerance(dtype: str) -> float:
    return 1e-4 if real_of(dtype) == "float32" else 1e-10


def matching(kind: str, b: np.ndarray):
    """Return b as a tensor for the torch kinds, in Fortran order for that kind, else as it is."""
    if answers_in_torch(kind):
        return torch.from_numpy(np.ascontiguousarray(b))
    return np.asfortranarray(b) if kind == "fortran" else b


def draw(rng: np.random.Generator, *shape: int, dtype: str = "float64") -> np.ndarray:
    """Standard normal entries, complex where the dtype is."""
    x = rng.standard_normal(shape)
    return (x + 1j * rng.standard_normal(shape) if np.dtype(dtype).kind == "c" else x).astype(dtype)


def assert_near(found, expected: np.ndarray, tolerance: float) -> None:
    """Equality to a tolerance relative to the largest entry; tensors too."""
    np.testing.assert_allclose(to_numpy(found), expected, rtol=0, atol=tolerance * max(np.abs(expected).max(), np.finfo(np.float32).tiny))


def orthonormal(rng: np.random.Generator, rows: int, columns: int, dtype: str = "float64") -> np.ndarray:
    return np.linalg.qr(draw(rng, rows, columns, dtype=np.result_type(dtype, np.float64)))[0].astype(dtype)


def with_singular_values(s, rows: int, columns: int, dtype: str = "float64", seed: int = 0) -> np.ndarray:
    """A matrix with these singular values (as many as the shorter side) and random singular vectors."""
    rng = np.random.default_rng(seed)
    U, V = orthonormal(rng, rows, len(s), dtype), orthonormal(rng, columns, len(s), dtype)
    return ((U * np.asarray(s)) @ V.conj().T).astype(dtype)


def with_eigenvalues(values, dtype: str = "float64", seed: int | np.random.Generator = 0) -> np.ndarray:
    """A Hermitian matrix with these eigenvalues and random eigenvectors."""
    V = orthonormal(np.random.default_rng(seed), len(values), len(values), dtype)
    A = (V * np.asarray(values)) @ V.conj().T
    return ((A + A.conj().T) / 2).astype(dtype)
