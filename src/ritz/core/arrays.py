"""One body for NumPy and torch: the array-API namespace of the arguments, and the way in and out.

What comes in as torch goes out as torch, on the same device. Nothing here imports torch unless a tensor is already there.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Literal

import array_api_compat
import numpy as np
import scipy.sparse
import scipy.sparse.linalg

if TYPE_CHECKING:
    import torch


def is_torch(value: object) -> bool:
    """True for a torch tensor; does not import torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def namespace(*arrays):
    """Return the array-API namespace common to `arrays` (NumPy or torch).

    Raises
    ------
    TypeError
        If NumPy arrays and torch tensors are mixed, or an argument is neither.

    Examples
    --------
    >>> xp = namespace(np.ones(3))
    >>> float(xp.linalg.vector_norm(np.ones(4)))
    2.0
    """
    return array_api_compat.array_namespace(*arrays)


def kind(value: object, name: str = "A") -> Literal["numpy", "torch", "sparse", "operator"]:
    """Name the kind of matrix `value` is, or refuse it.

    Examples
    --------
    >>> kind(scipy.sparse.eye_array(3))
    'sparse'
    """
    if isinstance(value, np.ndarray):
        return "numpy"
    if is_torch(value):
        return "torch"
    if scipy.sparse.issparse(value):
        return "sparse"
    if isinstance(value, scipy.sparse.linalg.LinearOperator):
        return "operator"
    raise TypeError(f"{name} must be a NumPy array, a SciPy sparse array, a LinearOperator or a torch tensor, got {type(value).__name__}")


def to_numpy(value: object, name: str = "A") -> np.ndarray:
    """Return a dense NumPy array: a view of NumPy and CPU tensors, a copy of CUDA tensors, sparse arrays and anything NumPy can read.

    Raises
    ------
    TypeError
        For a LinearOperator, whose entries nobody has asked for, and for what is no array at all.
    """
    if is_torch(value):
        tensor = value.detach()
        return (tensor.to_dense() if tensor.layout != _strided() else tensor).cpu().resolve_conj().resolve_neg().numpy()
    if scipy.sparse.issparse(value):
        return value.toarray()
    if isinstance(value, scipy.sparse.linalg.LinearOperator):
        raise TypeError(f"{name} must be an explicit matrix, got a LinearOperator")
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise TypeError(f"{name} must be array-like, got {type(value).__name__} ({error})") from error
    if array.dtype == object:
        raise TypeError(f"{name} must be a numeric array, got {type(value).__name__} of objects")
    return array


def like(result: np.ndarray, reference: object):
    """Return `result` in the kind of `reference`: a torch tensor on its device if it is one, else the NumPy array itself.

    Examples
    --------
    >>> like(np.ones(2), [1.0, 2.0])
    array([1., 1.])
    """
    if not is_torch(reference):
        return result
    import torch

    return torch.from_numpy(np.ascontiguousarray(result)).to(reference.device)


def to_csr(value: object, name: str = "A") -> scipy.sparse.csr_array:
    """Return a CSR array with sorted indices and summed duplicates of a sparse or dense matrix or a torch tensor (dense or sparse).

    A matrix that is so already is shared, not copied; the input is never changed.
    """
    if is_torch(value) and value.layout != _strided():
        value = _sparse_from_torch(value)
    matrix = scipy.sparse.csr_array(value if scipy.sparse.issparse(value) else to_numpy(value, name))
    if not matrix.has_canonical_format:
        matrix = matrix.copy()
        matrix.sum_duplicates()
    return matrix


def as_operator(value: object, name: str = "A") -> scipy.sparse.linalg.LinearOperator:
    """Return a SciPy LinearOperator that multiplies by `value`, of any kind.

    Examples
    --------
    >>> as_operator(np.eye(2)).matvec(np.array([1.0, 2.0]))
    array([1., 2.])
    """
    if kind(value, name) == "torch":
        value = to_csr(value, name) if value.layout != _strided() else to_numpy(value, name)
    return scipy.sparse.linalg.aslinearoperator(value)


def _strided():
    return sys.modules["torch"].strided


def _sparse_from_torch(tensor: torch.Tensor) -> scipy.sparse.coo_array:
    coordinates = tensor.detach().to_sparse_coo().coalesce().cpu()
    return scipy.sparse.coo_array((coordinates.values().numpy(), tuple(coordinates.indices().numpy())), shape=tuple(coordinates.shape))
