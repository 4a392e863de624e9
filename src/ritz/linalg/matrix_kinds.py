"""The one way in for a matrix of any kind: checked once, entries finite, ready to be multiplied.

What comes out is one of four kinds: a dense array (NumPy or torch), a canonical `scipy.sparse.csr_array`, a torch sparse tensor, or a
`scipy.sparse.linalg.LinearOperator` (structured operators among them), which is not asked for its entries. torch comes out detached.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

from ritz.core import array, is_torch, like, matrix, to_csr, to_numpy
from ritz.linalg.operators import StructuredOperator


def checked_matrix(A, name: str = "A", *, square: bool = False):
    """Check a matrix of any kind and return it.

    Parameters
    ----------
    A : array, sparse array, LinearOperator or torch tensor (m, n)
        Lists of numbers count as arrays, integers and booleans as float64.
    name : str
        The argument's name, for messages.
    square : bool
        Refuse other shapes.

    Raises
    ------
    TypeError
        If it is no matrix of numbers.
    ValueError
        If it is empty, a batch of matrices, not finite, or not square where that is asked for.
    """
    if isinstance(A, scipy.sparse.linalg.LinearOperator):
        if isinstance(A, StructuredOperator) and A.is_batched:
            raise ValueError(f"{name} must be one matrix, got a batch of operators of shape {A.shape}")
    elif is_sparse_tensor(A):
        A = _checked_sparse_tensor(A.detach(), name)
    elif scipy.sparse.issparse(A):
        A = _checked_sparse(A, name)
    else:
        A = matrix(A.detach() if is_torch(A) else A, name, allow_complex=True, allow_empty=True)
    if 0 in A.shape:
        raise ValueError(f"{name} must not be empty, got shape {tuple(A.shape)}")
    if square and A.shape[0] != A.shape[1]:
        raise ValueError(f"{name} must be square, got shape {tuple(A.shape)}")
    return A


def host_matrix(A, name: str = "A", *, square: bool = False) -> np.ndarray | scipy.sparse.csr_array | scipy.sparse.linalg.LinearOperator:
    """Check a matrix of any kind and return it as one that multiplies NumPy arrays; CUDA tensors are refused, not moved."""
    if is_torch(stored(A)) and stored(A).device.type != "cpu":
        raise ValueError(f"{name} must be on the CPU, got a tensor on {stored(A).device}: pass {name}.cpu()")
    return on_host(checked_matrix(A, name, square=square))


def on_host(A):
    """A checked matrix as one that multiplies NumPy arrays: tensors are copied to the host, operators with torch factors are wrapped."""
    if isinstance(A, StructuredOperator) and is_torch(A._factor):
        return _host_operator(A)
    if is_torch(A):
        return to_csr(A) if is_sparse_tensor(A) else to_numpy(A)
    return A


def stored(A):
    """What A is stored in, whose kind an answer takes: the factor of a structured operator, else A itself."""
    return A._factor if isinstance(A, StructuredOperator) else A


def is_sparse_tensor(value) -> bool:
    """True for a torch tensor of a sparse layout."""
    return is_torch(value) and "sparse" in str(value.layout)


def _checked_sparse(A, name: str) -> scipy.sparse.csr_array:
    if len(A.shape) != 2:
        raise ValueError(f"{name} must be a matrix, got {len(A.shape)} dimension(s), shape {tuple(A.shape)}")
    if A.dtype.kind not in "biufc":
        raise TypeError(f"{name} must be a matrix of numbers, got dtype {A.dtype}")
    A = to_csr(A, name)
    entries = array(A.data, name, allow_complex=True, allow_empty=True)
    return scipy.sparse.csr_array((entries, A.indices, A.indptr), shape=A.shape)


def _checked_sparse_tensor(A, name: str):
    if A.ndim != 2:
        raise ValueError(f"{name} must be a matrix, got {A.ndim} dimension(s), shape {tuple(A.shape)}")
    coordinates = A.to_sparse_coo().coalesce()
    entries = array(coordinates.values(), name, allow_complex=True, allow_empty=True)
    if entries.ndim != 1:
        raise ValueError(f"{name} must have single numbers as entries, got a hybrid tensor")
    return A if entries.dtype == A.dtype else A.to(entries.dtype)


def _host_operator(A: StructuredOperator) -> scipy.sparse.linalg.LinearOperator:
    factor, adjoint = A._factor, A.H

    def through(operator):
        return lambda X: to_numpy(operator @ like(np.ascontiguousarray(X, dtype=A.dtype), factor))

    forward, backward = through(A), through(adjoint)
    return scipy.sparse.linalg.LinearOperator(A.shape, matvec=forward, rmatvec=backward, matmat=forward, rmatmat=backward, dtype=A.dtype)
