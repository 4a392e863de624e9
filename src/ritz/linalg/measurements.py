"""Linear measurements y_i = <A_i, Z> of a matrix Z, and their adjoint; applied to a product of factors without forming it where that is possible."""

from __future__ import annotations

import math

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

from ritz.core import array, integer, is_torch, namespace, random_generator, to_numpy


class MeasurementOperator:
    """A linear map from matrices (n1, n2) to measurements (m,), made by one of the constructors below.

    ``operator(Z)`` measures, ``operator.adjoint(r)`` maps back. A subclass may know how to measure a product F G^T faster (`of_product`), and how to
    multiply the adjoint's matrix with factors (`adjoint_products`).

    Parameters
    ----------
    shape : (int, int)
        The shape of the matrices.
    count : int
        The number m of measurements.

    Examples
    --------
    >>> trace = MeasurementOperator.from_matrices(np.eye(2)[None])
    >>> trace(np.array([[1.0, 2.0], [3.0, 4.0]]))
    array([5.])
    """

    def __init__(self, shape: tuple[int, int], count: int):
        self.shape = tuple(integer(size, "shape", at_least=1) for size in shape)
        self.count = integer(count, "count", at_least=1)

    def __call__(self, Z):
        """Measure Z (n1, n2): the values (m,)."""
        raise TypeError("a MeasurementOperator is made by its constructors: from_matrices, gaussian, entries, rank_one, identity")

    def adjoint(self, r):
        """Return sum_i r_i A_i (n1, n2)."""
        raise TypeError("a MeasurementOperator is made by its constructors: from_matrices, gaussian, entries, rank_one, identity")

    def of_product(self, F, G):
        """Measure F G^T."""
        return self(F @ G.T)

    def adjoint_products(self, r, F, G):
        """Return E G and E^T F with E the adjoint's matrix for r."""
        E = self.adjoint(r)
        return E @ G, E.T @ F

    @staticmethod
    def from_matrices(matrices) -> MeasurementOperator:
        """Measure with given matrices (m, n1, n2), NumPy or torch; one product with all of them as rows."""
        return _Matrices(array(matrices, "matrices", ndim=3))

    @staticmethod
    def gaussian(m: int, shape: tuple[int, int], *, rng=None) -> MeasurementOperator:
        """Measure with m independent matrices of N(0, 1/m) entries, so that adjoint after measurement is near the identity."""
        m = integer(m, "m", at_least=1)
        n1, n2 = (integer(size, "shape", at_least=1) for size in shape)
        return _Matrices(random_generator(rng).standard_normal((m, n1, n2)) / math.sqrt(m))

    @staticmethod
    def entries(rows, columns, shape: tuple[int, int]) -> MeasurementOperator:
        """Measure single entries: matrix completion. `rows` and `columns` (m,) are integers."""
        return _Entries(_indices(rows, "rows", shape[0]), _indices(columns, "columns", shape[1]), shape)

    @staticmethod
    def rank_one(left, right) -> MeasurementOperator:
        """Measure ``left_i^T Z right_i`` for the rows of left (m, n1) and right (m, n2)."""
        left, right = array(left, "left", ndim=2), array(right, "right", ndim=2)
        if left.shape[0] != right.shape[0]:
            raise ValueError(f"right must have as many rows as left, {left.shape[0]}, got {right.shape[0]}")
        return _RankOne(left, right)

    @staticmethod
    def identity(shape: tuple[int, int]) -> MeasurementOperator:
        """Measure every entry once, row by row: plain matrix factorization."""
        return _Identity(shape, shape[0] * shape[1])


class _Matrices(MeasurementOperator):
    def __init__(self, matrices):
        super().__init__(tuple(matrices.shape[1:]), matrices.shape[0])
        self._rows = namespace(matrices).reshape(matrices, (self.count, -1))

    def __call__(self, Z):
        return self._rows @ namespace(Z).reshape(Z, (-1,))

    def adjoint(self, r):
        return namespace(r).reshape(r @ self._rows, self.shape)


class _Identity(MeasurementOperator):
    def __call__(self, Z):
        return namespace(Z).reshape(Z, (-1,))

    def adjoint(self, r):
        return namespace(r).reshape(r, self.shape)


class _RankOne(MeasurementOperator):
    def __init__(self, left, right):
        super().__init__((left.shape[1], right.shape[1]), left.shape[0])
        self._left, self._right = left, right

    def __call__(self, Z):
        return ((self._left @ Z) * self._right).sum(1)

    def adjoint(self, r):
        return self._left.T @ (r[:, None] * self._right)

    def of_product(self, F, G):
        return ((self._left @ F) * (self._right @ G)).sum(1)

    def adjoint_products(self, r, F, G):
        weighted = r[:, None]
        return self._left.T @ (weighted * (self._right @ G)), self._right.T @ (weighted * (self._left @ F))


class _Entries(MeasurementOperator):
    def __init__(self, rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]):
        if rows.shape != columns.shape:
            raise ValueError(f"columns must have the shape of rows, {rows.shape}, got {columns.shape}")
        super().__init__(shape, len(rows))
        self._rows, self._columns = rows, columns

    def __call__(self, Z):
        return Z[self._rows, self._columns]

    def adjoint(self, r):
        if is_torch(r):
            return self._torch_sparse(r).to_dense()
        return self._sparse(r).toarray()

    def of_product(self, F, G):
        return (F[self._rows] * G[self._columns]).sum(1)

    def adjoint_products(self, r, F, G):
        E = self._torch_sparse(r) if is_torch(r) else self._sparse(r)
        return E @ G, E.T @ F

    def _sparse(self, r) -> scipy.sparse.csr_array:
        return scipy.sparse.csr_array((r, (self._rows, self._columns)), shape=self.shape)

    def _torch_sparse(self, r):
        import torch

        positions = torch.from_numpy(np.stack([self._rows, self._columns])).to(r.device)
        return torch.sparse_coo_tensor(positions, r, self.shape, check_invariants=False)


class _Wrapped(MeasurementOperator):
    """Any object that measures and has an adjoint, or a SciPy LinearOperator on the entries of Z row by row."""

    def __init__(self, operator, shape: tuple[int, int], count: int):
        super().__init__(shape, count)
        self._operator = operator

    def __call__(self, Z):
        if isinstance(self._operator, scipy.sparse.linalg.LinearOperator):
            return self._operator.matvec(Z.reshape(-1))
        return self._operator(Z)

    def adjoint(self, r):
        if isinstance(self._operator, scipy.sparse.linalg.LinearOperator):
            return self._operator.rmatvec(r).reshape(self.shape)
        return self._operator.adjoint(r)


def as_measurements(operator, shape: tuple[int, int], count: int) -> MeasurementOperator:
    """Return `operator` as a MeasurementOperator of matrices of this shape with this many measurements, or refuse it.

    Parameters
    ----------
    operator : MeasurementOperator, LinearOperator, or object with ``__call__`` and ``adjoint``
        What measures.
    shape : (int, int)
        The shape of the matrices.
    count : int
        The number of measurements there are.

    Examples
    --------
    >>> as_measurements(scipy.sparse.linalg.aslinearoperator(np.ones((1, 6))), (2, 3), 1)(np.ones((2, 3)))
    array([6.])
    """
    if isinstance(operator, MeasurementOperator):
        if operator.shape != tuple(shape):
            raise ValueError(f"operator measures matrices of shape {operator.shape}, but shape is {tuple(shape)}")
        if operator.count != count:
            raise ValueError(f"y must hold the {operator.count} measurements of operator, got {count}")
        return operator
    if isinstance(operator, scipy.sparse.linalg.LinearOperator):
        if operator.shape != (count, shape[0] * shape[1]):
            raise ValueError(f"operator must have shape ({count}, {shape[0] * shape[1]}), measurements by entries, got {operator.shape}")
    elif not (callable(operator) and hasattr(operator, "adjoint")):
        raise TypeError(f"operator must measure when called and have an adjoint, got {type(operator).__name__}")
    return _Wrapped(operator, shape, count)


def _indices(values, name: str, size: int) -> np.ndarray:
    found = to_numpy(values, name)
    if found.ndim != 1 or not len(found) or found.dtype.kind not in "iu":
        raise ValueError(f"{name} must be a non-empty vector of integers, got {found.dtype} of shape {found.shape}")
    if found.min() < 0 or found.max() >= size:
        raise ValueError(f"{name} must lie in 0..{size - 1}, got values from {found.min()} to {found.max()}")
    return found.astype(np.int64)
