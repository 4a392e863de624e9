"""Preconditioners: operators M near the inverse of a matrix, for the Krylov solvers of ritz and of SciPy.

Saad, "Iterative Methods for Sparse Linear Systems", 2nd edition, SIAM 2003, chapter 10.
With A = L + D + U (strictly lower, diagonal, strictly upper): Jacobi's M is D^-1, the symmetric
successive over-relaxation's (2 - w) (D / w + U)^-1 (D / w) (D / w + L)^-1, incomplete LU's (L~ U~)^-1.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
from numba import njit

from ritz.core import is_torch, like, real, to_csr
from ritz.linalg.matrix_kinds import checked_matrix, is_sparse_tensor
from ritz.linalg.operators import StructuredOperator
from ritz.linalg.structured_operators import DiagonalOperator


def jacobi(A) -> DiagonalOperator:
    """Return the inverse of A's diagonal.

    Parameters
    ----------
    A : array, sparse array or torch tensor (n, n)
        With a diagonal free of zeros.

    Returns
    -------
    DiagonalOperator
        Of the kind and dtype of A. Hermitian positive definite, as `cg` and `minres` want it, if the diagonal is real and positive.

    Raises
    ------
    ValueError, TypeError
        If A is an operator, whose diagonal nobody knows, is not square or finite, or has a zero on its diagonal.

    Examples
    --------
    >>> jacobi(np.array([[2.0, 1.0], [1.0, 4.0]])).diagonal
    array([0.5 , 0.25])
    """
    A = _explicit(A)
    diagonal = like(to_csr(A).diagonal(), A) if is_sparse_tensor(A) else A.diagonal()
    zeros = int((diagonal == 0).sum())
    if zeros:
        raise ValueError(f"A must have no zeros on its diagonal, got {zeros} of {A.shape[0]}")
    return DiagonalOperator(1 / diagonal)


def ssor(A, *, relaxation: float = 1.0) -> SSORPreconditioner:
    """Return the symmetric successive over-relaxation preconditioner: a forward and a backward sweep over the rows of A.

    Parameters
    ----------
    A : array or sparse array (n, n)
        With a diagonal free of zeros. NumPy and SciPy only: the sweeps run over rows, one after the other.
    relaxation : float
        The w above, between 0 and 2; 1 is symmetric Gauss-Seidel.

    Returns
    -------
    SSORPreconditioner
        A structured operator. Hermitian positive definite if A is Hermitian with a positive diagonal.

    Raises
    ------
    ValueError, TypeError
        If A is torch or an operator, is not square or finite, has a zero on its diagonal, or `relaxation` is not between 0 and 2.

    Notes
    -----
    One application costs about one product with A.

    Examples
    --------
    >>> M = ssor(np.array([[2.0, 0.0], [1.0, 4.0]]))  # a triangular matrix is inverted exactly
    >>> M @ np.array([2.0, 5.0])
    array([1., 1.])
    """
    relaxation = real(relaxation, "relaxation", above=0, below=2)
    return SSORPreconditioner(_sparse(A), relaxation)


class SSORPreconditioner(StructuredOperator):
    """What `ssor` returns: two triangular sweeps."""

    def __init__(self, A: scipy.sparse.csr_array, relaxation: float):
        self._A, self.relaxation, self._diagonal = A, relaxation, A.diagonal()
        zeros = int((self._diagonal == 0).sum())
        if zeros:
            raise ValueError(f"A must have no zeros on its diagonal, got {zeros} of {A.shape[0]}")
        super().__init__(self._diagonal, A.shape)

    @property
    def T(self) -> SSORPreconditioner:
        """The preconditioner of A^T, which is the transpose."""
        return SSORPreconditioner(scipy.sparse.csr_array(self._A.T), self.relaxation)

    @property
    def H(self) -> SSORPreconditioner:
        """The preconditioner of A^H, which is the conjugate transpose."""
        return SSORPreconditioner(scipy.sparse.csr_array(self._A.conj().T), self.relaxation)

    def _apply(self, columns):
        scale = self._diagonal.real.dtype.type(1 / self.relaxation)
        return column_wise(columns, self._A.dtype, lambda block: self._swept(block, scale))

    def _swept(self, block, scale):
        _sweep_forward(self._A.indptr, self._A.indices, self._A.data, self._diagonal * scale, block)
        block *= (self._diagonal * (scale * (2 - self.relaxation)))[:, None]
        _sweep_backward(self._A.indptr, self._A.indices, self._A.data, self._diagonal * scale, block)
        return block


def incomplete_lu(A, *, drop_tolerance: float = 1e-4, fill_factor: float = 10.0) -> IncompleteLUPreconditioner:
    """Return an incomplete LU factorization with threshold and pivoting (SciPy's `spilu`, by SuperLU) as a preconditioner.

    Parameters
    ----------
    A : array or sparse array (n, n)
        NumPy and SciPy only.
    drop_tolerance : float
        Entries below this fraction of their column's size are dropped; 0 keeps what `fill_factor` allows.
    fill_factor : float
        At most this many times the entries of A are kept, at least 1.

    Returns
    -------
    IncompleteLUPreconditioner
        A structured operator; not Hermitian, so for `gmres`.

    Raises
    ------
    ValueError, TypeError
        If A is torch or an operator, is not square or finite, or a pivot is zero.

    Examples
    --------
    >>> M = incomplete_lu(np.array([[2.0, 1.0], [1.0, 4.0]]))
    >>> (M @ np.array([3.0, 5.0])).round(12)
    array([1., 1.])
    """
    drop_tolerance, fill_factor = real(drop_tolerance, "drop_tolerance", at_least=0, at_most=1), real(fill_factor, "fill_factor", at_least=1)
    A = _sparse(A)
    try:
        factors = scipy.sparse.linalg.spilu(scipy.sparse.csc_array(A), drop_tol=drop_tolerance, fill_factor=fill_factor)
    except RuntimeError as error:
        raise ValueError(f"A must have an incomplete LU factorization: {error}") from error
    return IncompleteLUPreconditioner(factors, A.dtype)


class IncompleteLUPreconditioner(StructuredOperator):
    """What `incomplete_lu` returns: solves with the incomplete factors, or with their transpose or conjugate."""

    def __init__(self, factors: scipy.sparse.linalg.SuperLU, dtype: np.dtype, *, transposed: bool = False, conjugated: bool = False):
        self._factors, self._transposed, self._conjugated = factors, transposed, conjugated
        super().__init__(np.empty(0, dtype=dtype), factors.shape)

    @property
    def T(self) -> IncompleteLUPreconditioner:
        """The transpose."""
        return self._turned(conjugate=False)

    @property
    def H(self) -> IncompleteLUPreconditioner:
        """The conjugate transpose."""
        return self._turned(conjugate=True)

    def _turned(self, *, conjugate: bool) -> IncompleteLUPreconditioner:
        conjugated = self._conjugated ^ conjugate
        return IncompleteLUPreconditioner(self._factors, self.dtype, transposed=not self._transposed, conjugated=conjugated)

    def _apply(self, columns):
        return column_wise(columns, self.dtype, self._solved)

    def _solved(self, block):
        trans = "T" if self._transposed else "N"
        return self._factors.solve(block.conj(), trans).conj() if self._conjugated else self._factors.solve(block, trans)


def _explicit(A):
    A = checked_matrix(A, "A", square=True)
    if isinstance(A, scipy.sparse.linalg.LinearOperator):
        raise TypeError(f"A must be an explicit matrix, whose entries a preconditioner needs, got {type(A).__name__}")
    return A


def _sparse(A) -> scipy.sparse.csr_array:
    A = _explicit(A)
    if is_torch(A):
        raise TypeError("A must be a NumPy or SciPy sparse matrix: triangular sweeps run row after row on the host; `jacobi` takes torch tensors")
    return to_csr(A)


def column_wise(columns, dtype, act):
    """Apply `act`, which takes a fresh array (n, k) of the given dtype and may overwrite it, to columns (..., n, k)."""
    if np.iscomplexobj(columns) and dtype.kind != "c":
        return column_wise(columns.real, dtype, act) + 1j * column_wise(columns.imag, dtype, act)
    front = np.moveaxis(columns, -2, 0)
    block = np.array(front.reshape(front.shape[0], -1), dtype=dtype, order="C", copy=True)
    return np.moveaxis(act(block).reshape(front.shape), 0, -2)


@njit(cache=True, nogil=True)
def _sweep_forward(indptr, indices, values, diagonal, block):
    """Overwrite the columns b of `block` by (D + L)^-1 b."""
    for row in range(block.shape[0]):
        for e in range(indptr[row], indptr[row + 1]):
            if indices[e] >= row:
                break  # column indices are sorted
            block[row] -= values[e] * block[indices[e]]
        block[row] /= diagonal[row]


@njit(cache=True, nogil=True)
def _sweep_backward(indptr, indices, values, diagonal, block):
    """Overwrite the columns b of `block` by (D + U)^-1 b."""
    for row in range(block.shape[0] - 1, -1, -1):
        for e in range(indptr[row + 1] - 1, indptr[row] - 1, -1):
            if indices[e] <= row:
                break
            block[row] -= values[e] * block[indices[e]]
        block[row] /= diagonal[row]
