"""One matrix as every kind of input that the room takes."""

import numpy as np
import scipy.sparse
import torch

from ritz.core import to_numpy
from ritz.linalg import StructuredOperator


def _view(A):
    """A non-contiguous view with the entries of A."""
    wide = np.zeros((2 * A.shape[0], 3 * A.shape[1]), dtype=A.dtype)
    wide[::2, ::3] = A
    return wide[::2, ::3]


class _DenseFactor(StructuredOperator):
    """A structured operator with one torch factor."""

    def __init__(self, factor):
        super().__init__(factor, tuple(factor.shape))

    @property
    def T(self):
        return _DenseFactor(self._factor.T)

    @property
    def H(self):
        return _DenseFactor(self._factor.mH)

    def _apply(self, columns):
        return self._factor @ columns


KINDS = {
    "numpy": np.ascontiguousarray,
    "fortran": np.asfortranarray,
    "view": _view,
    "sparse array": scipy.sparse.csr_array,
    "sparse matrix": scipy.sparse.coo_matrix,
    "operator": scipy.sparse.linalg.aslinearoperator,
    "torch": lambda A: torch.from_numpy(np.ascontiguousarray(A)),
    "torch sparse": lambda A: torch.from_numpy(np.ascontiguousarray(A)).to_sparse_csr(),
    "torch operator": lambda A: _DenseFactor(torch.from_numpy(np.ascontiguousarray(A))),
}
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


def orthonormal(rng: np.random.Generator, rows: int, columns: int, dtype: str = "float64") -> np.ndarray:
    X = rng.standard_normal((rows, columns))
    if dtype.startswith("complex"):
        X = X + 1j * rng.standard_normal((rows, columns))
    return np.linalg.qr(X)[0].astype(dtype)


def with_singular_values(s, rows: int, columns: int, dtype: str = "float64", seed: int = 0) -> np.ndarray:
    """A matrix with these singular values (as many as the shorter side) and random singular vectors."""
    rng = np.random.default_rng(seed)
    U, V = orthonormal(rng, rows, len(s), dtype), orthonormal(rng, columns, len(s), dtype)
    return ((U * np.asarray(s)) @ V.conj().T).astype(dtype)


def with_eigenvalues(values, dtype: str = "float64", seed: int = 0) -> np.ndarray:
    """A Hermitian matrix with these eigenvalues and random eigenvectors."""
    V = orthonormal(np.random.default_rng(seed), len(values), len(values), dtype)
    A = (V * np.asarray(values)) @ V.conj().T
    return ((A + A.conj().T) / 2).astype(dtype)
