"""Linear operators known by their factors, on NumPy and torch alike, that any SciPy solver takes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np
import scipy.sparse.linalg

from ritz.core import is_torch, namespace, to_numpy


class StructuredOperator(scipy.sparse.linalg.LinearOperator):
    """A linear operator that multiplies arrays of the kind of its factors.

    A subclass passes one of its factors and its shape (rows, columns) to this constructor, and defines `T`, `H` and ``_apply(columns)`` for an array
    (..., columns, width).
    """

    def __init__(self, factor, shape: tuple[int, int]):
        self._factor = factor
        super().__init__(to_numpy(factor[..., :0]).dtype, shape)

    def __matmul__(self, x):
        """Multiply a vector (n,), a matrix (n, k), a batch (..., n, k), or another structured operator."""
        if isinstance(x, StructuredOperator):
            return OperatorProduct([self, x])
        if isinstance(x, scipy.sparse.linalg.LinearOperator):
            return super().__matmul__(x)
        x = self._right_operand(x)
        return self._apply(x) if x.ndim > 1 else self._apply(x[:, None])[..., 0]

    def toarray(self):
        """Multiply out: (..., rows, columns)."""
        xp = namespace(self._factor)
        device = {"device": self._factor.device} if is_torch(self._factor) else {}
        return self @ xp.eye(self.shape[1], dtype=self._factor.dtype, **device)

    def _right_operand(self, x):
        if is_torch(self._factor):
            if not is_torch(x):
                raise TypeError(f"x must be a torch tensor like the factors, got {type(x).__name__}")
            if x.dtype != self._factor.dtype:
                raise TypeError(f"x must have the dtype of the factors, {self._factor.dtype}, got {x.dtype}")
        else:
            x = to_numpy(x, "x")
        rows = x.shape[-2] if x.ndim > 1 else x.shape[0] if x.ndim else None
        if rows != self.shape[1]:
            raise ValueError(f"x must have shape ({self.shape[1]},) or (..., {self.shape[1]}, k), got {tuple(x.shape)}")
        return x

    def _matmat(self, X):
        return self @ X

    def _matvec(self, x):
        return self @ x.reshape(-1)

    def _rmatmat(self, X):
        return self.H @ X

    def _rmatvec(self, x):
        return self.H @ x.reshape(-1)

    def _adjoint(self):
        return self.H

    def _transpose(self):
        return self.T


class OperatorProduct(StructuredOperator):
    """The product of structured operators, applied from the right.

    Parameters
    ----------
    operators : sequence of StructuredOperator
        At least one; neighbors' shapes meet.

    Raises
    ------
    ValueError, TypeError
        If there is none, one is no structured operator, or two shapes do not meet.
    """

    def __init__(self, operators: Sequence[StructuredOperator]):
        self.operators = _flat(operators)
        for left, right in zip(self.operators, self.operators[1:]):
            if left.shape[1] != right.shape[0]:
                raise ValueError(f"operators must meet, got shapes {left.shape} and {right.shape} side by side")
        super().__init__(self.operators[0]._factor, (self.operators[0].shape[0], self.operators[-1].shape[1]))
        self.dtype = np.result_type(*(operator.dtype for operator in self.operators))

    @property
    def T(self) -> OperatorProduct:
        """The product of the transposes in reverse order."""
        return OperatorProduct([operator.T for operator in reversed(self.operators)])

    @property
    def H(self) -> OperatorProduct:
        """The product of the conjugate transposes in reverse order."""
        return OperatorProduct([operator.H for operator in reversed(self.operators)])

    def _apply(self, columns):
        return reduce(lambda product, operator: operator._apply(product), reversed(self.operators), columns)


def _flat(operators: Sequence[StructuredOperator]) -> tuple[StructuredOperator, ...]:
    """The operators with products among them taken apart."""
    if not isinstance(operators, Sequence) or not operators or not all(isinstance(operator, StructuredOperator) for operator in operators):
        raise TypeError("operators must be a sequence of at least one structured operator")
    parts = (operator.operators if isinstance(operator, OperatorProduct) else (operator,) for operator in operators)
    return tuple(part for run in parts for part in run)
