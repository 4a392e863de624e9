"""The one way of multiplying by a matrix of any kind: dense NumPy or torch, sparse SciPy or torch, LinearOperator, structured operator.

An algorithm that needs a matrix only through its products takes a `Products` and is written against its array-API namespace: it then runs on
all of these kinds from one body, in the matrix's dtype, on its device. Tensors are detached: results carry no gradient.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

from ritz.core import array, is_torch, namespace
from ritz.linalg.matrix_kinds import checked_matrix, is_sparse_tensor
from ritz.linalg.operators import StructuredOperator

DTYPES = ("float32", "float64", "complex64", "complex128")


@dataclass(frozen=True, eq=False)
class Products:
    """What a matrix A does, whatever it is stored as.

    Attributes
    ----------
    shape : tuple of int
        Rows and columns of A.
    dtype, device, xp
        dtype and device of the arrays that go in and out, and their array-API namespace.
    matmat, rmatmat : callable
        ``X -> A X`` and ``X -> A^H X`` for arrays with two dimensions.
    entries : array or None
        The stored numbers of an explicit matrix, None of an operator.
    name : str
        The argument's name, for messages.
    """

    shape: tuple[int, int]
    dtype: object
    device: object
    xp: object
    matmat: Callable
    rmatmat: Callable
    entries: object
    name: str

    @property
    def is_complex(self) -> bool:
        """Whether A is complex."""
        return self.xp.isdtype(self.dtype, "complex floating")

    @property
    def eps(self) -> float:
        """The spacing of numbers of A's dtype at one."""
        return float(self.xp.finfo(self.dtype).eps)

    @property
    def squared_norm(self) -> float:
        """The squared Frobenius norm of an explicit matrix, by one dot product."""
        flat = self.xp.reshape(self.entries, (-1,))
        return float(self.xp.real(self.xp.vecdot(flat, flat)) if self.is_complex else flat @ flat)

    def adjoint(self) -> Products:
        """The products of A^H."""
        return replace(self, shape=self.shape[::-1], matmat=self.rmatmat, rmatmat=self.matmat)

    def asarray(self, X: np.ndarray):
        """Bring a NumPy array to A's kind, dtype and device."""
        return self.xp.asarray(X, dtype=self.dtype, device=self.device)

    def gaussian(self, rng: np.random.Generator, rows: int, columns: int):
        """Draw independent Gaussian entries of unit variance, complex for complex A."""
        real = rng.standard_normal((rows, columns))
        return self.asarray((real + 1j * rng.standard_normal((rows, columns))) / np.sqrt(2) if self.is_complex else real)

    def signs(self, rng: np.random.Generator, rows: int, columns: int):
        """Draw independent entries +1 and -1 (Rademacher)."""
        return self.asarray(2.0 * rng.integers(2, size=(rows, columns)) - 1.0)


def as_products(A, name: str = "A", *, square: bool = False, hermitian: bool = False) -> Products:
    """Check a matrix of any kind and return its products.

    Parameters
    ----------
    A : array, sparse array, LinearOperator or torch tensor (m, n)
        The matrix. Integers count as float64.
    name : str
        The argument's name, for messages.
    square, hermitian : bool
        Refuse other matrices. A Hermitian matrix is recognized by one product with two random vectors.

    Raises
    ------
    TypeError
        If it is no matrix of numbers in single or double precision.
    ValueError
        If it is empty, not finite, not square or not Hermitian where that is asked for. What an operator returns is checked at each product.
    """
    products = _products(checked_matrix(A, name, square=square or hermitian), name)
    if hermitian:
        _check_hermitian(products)
        products = replace(products, rmatmat=products.matmat)
    return products


def adjoint(X):
    """The conjugate transpose of a dense matrix."""
    xp = namespace(X)
    return xp.conj(X).T if xp.isdtype(X.dtype, "complex floating") else X.T


def _products(A, name: str) -> Products:
    if isinstance(A, StructuredOperator) and is_torch(A._factor):
        return _of_operator(A, name, A._factor.dtype, A._factor, A._factor.device, lambda X: A @ X, lambda X: A.H @ X)
    if isinstance(A, scipy.sparse.linalg.LinearOperator):
        dtype = np.dtype(np.float64 if A.dtype is None or np.dtype(A.dtype).kind in "biu" else A.dtype)
        return _of_operator(A, name, dtype, np.empty(0), "cpu", A.matmat, A.rmatmat)
    if scipy.sparse.issparse(A):
        A_H = A.conj().T if A.dtype.kind == "c" else A.T
        return _of_entries(A.data, name, A.shape, A, A_H)
    if is_sparse_tensor(A):
        A = A.to_sparse_coo().coalesce()
        flipped = sys.modules["torch"].sparse_coo_tensor(A.indices().flip(0), A.values().conj().resolve_conj(), A.shape[::-1], check_invariants=False)
        return _of_entries(A.values(), name, tuple(A.shape), A, flipped.coalesce())
    return _of_entries(A, name, tuple(A.shape), A, adjoint(A))


def _of_operator(A, name: str, dtype, reference, device, matmat: Callable, rmatmat: Callable) -> Products:
    xp = namespace(reference)
    _check_dtype(dtype, name)
    allow_complex = xp.isdtype(dtype, "complex floating")

    def checked(apply: Callable, what: str) -> Callable:
        def product(X):
            try:
                Y = apply(X)
            except (NotImplementedError, TypeError) as error:  # SciPy calls a function that was not given
                raise TypeError(f"{name} must be an operator that defines {what}: {error}") from error
            return xp.astype(array(Y, f"{name}.{what}(X)", ndim=2, allow_complex=allow_complex), dtype, copy=False)

        return product

    return Products(tuple(A.shape), dtype, device, xp, checked(matmat, "matmat"), checked(rmatmat, "rmatmat"), None, name)


def _of_entries(entries, name: str, shape: tuple[int, int], A, A_H) -> Products:
    _check_dtype(entries.dtype, name)
    device = entries.device if is_torch(entries) else "cpu"
    return Products(shape, entries.dtype, device, namespace(entries), lambda X: A @ X, lambda X: A_H @ X, entries, name)


def _check_dtype(dtype, name: str) -> None:
    word = str(dtype).removeprefix("torch.")
    if word not in DTYPES:
        raise TypeError(f"{name} must have one of the dtypes {', '.join(DTYPES)}, got {word}")


def _check_hermitian(A: Products) -> None:
    """Compare x^H A y with (A x)^H y for two random vectors: equal for all x and y only where A = A^H."""
    pair = A.gaussian(np.random.default_rng(0), A.shape[0], 2)
    images = A.matmat(pair)
    images = images / (float(A.xp.max(A.xp.abs(images))) or 1.0)
    form = adjoint(pair) @ images
    norms = A.xp.linalg.vector_norm(pair, axis=0)[:, None] * A.xp.linalg.vector_norm(images, axis=0)[None, :]
    difference, scale = float(A.xp.max(A.xp.abs(form - adjoint(form)))), float(A.xp.max(norms))
    if difference > A.eps**0.5 * scale:
        word = "Hermitian" if A.is_complex else "symmetric"
        raise ValueError(f"{A.name} must be {word}: for random x and y, x^H A y and (A x)^H y differ by {difference / scale:.3} times |x| |A y|")
