"""Algebraic multigrid as a preconditioner, through PyAMG.

Vaněk, Mandel and Brezina, "Algebraic multigrid by smoothed aggregation for second and fourth order elliptic problems", Computing 56, 1996;
Ruge and Stüben, "Algebraic multigrid", in Multigrid Methods, SIAM 1987; PyAMG: Bell, Olson, Schroder and Southworth, JOSS 8(87), 2023.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

from ritz.core import choice, is_torch, matrix, optional_import, to_csr
from ritz.linalg.matrix_kinds import checked_matrix
from ritz.linalg.operators import StructuredOperator
from ritz.linalg.preconditioners import column_wise


def amg(A, *, method: str = "smoothed-aggregation", near_null_space=None) -> MultigridPreconditioner:
    """Return one V-cycle of algebraic multigrid as an operator near the inverse of A.

    Parameters
    ----------
    A : array or sparse array (n, n)
        NumPy and SciPy only. A Hermitian positive (semi)definite matrix from a second-order elliptic problem or a graph Laplacian is what multigrid
        is for; others are taken, and the solver shows whether it helps.
    method : {"smoothed-aggregation", "classical"}
        Smoothed aggregation, or Ruge and Stüben's coarse and fine points (real A only).
    near_null_space : array (n,) or (n, p), optional
        What A nearly sends to zero, for smoothed aggregation: constants by default; rigid motions for elasticity.

    Returns
    -------
    MultigridPreconditioner
        A structured operator; Hermitian if A is (symmetric Gauss-Seidel smoothing). `levels` counts its levels.

    Raises
    ------
    MissingExtra
        Without PyAMG, which is in the extra ``linalg``.
    ValueError, TypeError
        If A is torch or an operator, is not square or finite, or an option does not fit.

    Notes
    -----
    Setup and one cycle cost O(nnz). The setup's random vectors come from a fixed seed.

    Examples
    --------
    >>> from ritz.linalg import cg
    >>> A = scipy.sparse.diags_array([-np.ones(999), np.full(1000, 2.0), -np.ones(999)], offsets=[-1, 0, 1], format="csr")
    >>> cg(A, np.ones(1000), preconditioner=amg(A), tol=1e-8).iterations < 20
    True
    """
    method = choice(method, "method", ("smoothed-aggregation", "classical"))
    A = checked_matrix(A, "A", square=True)
    if is_torch(A) or isinstance(A, scipy.sparse.linalg.LinearOperator):
        raise TypeError(f"A must be a NumPy or SciPy sparse matrix, whose entries multigrid needs, got {type(A).__name__}")
    pyamg = optional_import("pyamg", extra="linalg")
    A = to_csr(A)
    A = scipy.sparse.csr_matrix(A.astype(np.result_type(A.dtype, np.float64), copy=False))  # PyAMG takes no sparse arrays
    with _fixed_global_seed():
        if method == "classical":
            if A.dtype.kind == "c" or near_null_space is not None:
                raise ValueError("method must be 'smoothed-aggregation' for a complex matrix or with a near null space, got 'classical'")
            return MultigridPreconditioner(pyamg.ruge_stuben_solver(A))
        modes = None if near_null_space is None else _modes(near_null_space, A)
        symmetry = "hermitian" if abs(A - A.conj().T).max() <= 1e-12 * abs(A).max() else "nonsymmetric"
        return MultigridPreconditioner(pyamg.smoothed_aggregation_solver(A, B=modes, symmetry=symmetry))


class MultigridPreconditioner(StructuredOperator):
    """What `amg` returns: one V-cycle from zero."""

    def __init__(self, hierarchy):
        self._hierarchy = hierarchy
        self._cycle = hierarchy.aspreconditioner(cycle="V")
        finest = hierarchy.levels[0].A
        super().__init__(np.empty(0, dtype=finest.dtype), finest.shape)

    @property
    def levels(self) -> int:
        """How many levels the hierarchy has."""
        return len(self._hierarchy.levels)

    @property
    def T(self) -> MultigridPreconditioner:
        """Refused: the transposed cycle of a general hierarchy is not at hand."""
        raise NotImplementedError("a multigrid cycle does not know its transpose")

    H = T

    def _apply(self, columns):
        return column_wise(columns, self.dtype, self._cycled)

    def _cycled(self, block):
        for j in range(block.shape[1]):
            block[:, j] = self._cycle.matvec(block[:, j])
        return block


def _modes(near_null_space, A) -> np.ndarray:
    modes = np.asarray(near_null_space)
    modes = matrix(modes[:, None] if modes.ndim == 1 else modes, "near_null_space", allow_complex=A.dtype.kind == "c")
    if modes.shape[0] != A.shape[0]:
        raise ValueError(f"near_null_space must have {A.shape[0]} rows, as A has, got shape {modes.shape}")
    return modes.astype(A.dtype)


@contextmanager
def _fixed_global_seed() -> Iterator[None]:
    """PyAMG draws from NumPy's global generator: seed it inside, and give it back as it was."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
