"""Linear operators known by their factors, on NumPy and torch alike, that any SciPy solver takes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from numbers import Number

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
            return self.dot(x)
        x = self._right_operand(x)
        return self._apply(x) if x.ndim > 1 else self._apply(x[:, None])[..., 0]

    def __add__(self, other):
        """Add another structured operator; with any other LinearOperator, SciPy adds."""
        return OperatorSum([self, other]) if isinstance(other, StructuredOperator) else super().__add__(other)

    def __sub__(self, other):
        return self + (-other)

    def __neg__(self):
        return ScaledOperator(self, -1)

    def __mul__(self, other):
        """Scale by a number; anything else is multiplied, as SciPy does it."""
        return ScaledOperator(self, other) if isinstance(other, Number) else super().__mul__(other)

    def __rmul__(self, factor):
        return ScaledOperator(self, factor) if isinstance(factor, Number) else super().__rmul__(factor)

    def __truediv__(self, divisor):
        return ScaledOperator(self, 1 / divisor) if isinstance(divisor, Number) else super().__truediv__(divisor)

    def toarray(self):
        """Multiply out: (..., rows, columns)."""
        xp = namespace(self._factor)
        device = {"device": self._factor.device} if is_torch(self._factor) else {}
        return self @ xp.eye(self.shape[1], dtype=self._factor.dtype, **device)

    @property
    def is_batched(self) -> bool:
        """Whether the factors have leading dimensions: a product with one vector then is a batch of vectors."""
        device = {"device": self._factor.device} if is_torch(self._factor) else {}
        return (self @ namespace(self._factor).zeros(self.shape[1], dtype=self._factor.dtype, **device)).ndim > 1

    def _right_operand(self, x, name: str = "x"):
        if is_torch(self._factor):
            if not is_torch(x):
                raise TypeError(f"{name} must be a torch tensor like the factors, got {type(x).__name__}")
            if x.dtype != self._factor.dtype:
                raise TypeError(f"{name} must have the dtype of the factors, {self._factor.dtype}, got {x.dtype}")
        else:
            x = to_numpy(x, name)
        rows = x.shape[-2] if x.ndim > 1 else x.shape[0] if x.ndim else None
        if rows != self.shape[1]:
            raise ValueError(f"{name} must have shape ({self.shape[1]},) or (..., {self.shape[1]}, k), got {tuple(x.shape)}")
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


class OperatorSum(StructuredOperator):
    """The sum of structured operators of one shape: each is applied, the products are added.

    Parameters
    ----------
    operators : sequence of StructuredOperator
        At least one, all of one shape and of one kind (NumPy or torch; torch: of one dtype too).

    Raises
    ------
    ValueError, TypeError
        If there is none, one is no structured operator, or shapes or kinds differ.
    """

    def __init__(self, operators: Sequence[StructuredOperator]):
        self.operators = _structured(operators)
        first = self.operators[0]
        for other in self.operators[1:]:
            if other.shape != first.shape:
                raise ValueError(f"operators must have one shape, got {first.shape} and {other.shape}")
            if is_torch(other._factor) != is_torch(first._factor) or (is_torch(first._factor) and other.dtype != first.dtype):
                raise TypeError(f"operators must be of one kind, NumPy or torch of one dtype, got {_described(first)} and {_described(other)}")
        super().__init__(first._factor, first.shape)
        self.dtype = np.result_type(*(operator.dtype for operator in self.operators))

    @property
    def T(self) -> OperatorSum:
        """The sum of the transposes."""
        return OperatorSum([operator.T for operator in self.operators])

    @property
    def H(self) -> OperatorSum:
        """The sum of the conjugate transposes."""
        return OperatorSum([operator.H for operator in self.operators])

    def _apply(self, columns):
        return reduce(lambda total, operator: total + operator._apply(columns), self.operators[1:], self.operators[0]._apply(columns))


class ScaledOperator(StructuredOperator):
    """A structured operator times a number.

    Parameters
    ----------
    operator : StructuredOperator
        What is scaled.
    factor : float or complex
        Finite. A complex factor on a real torch operator is refused: torch would have to change the dtype.

    Raises
    ------
    ValueError, TypeError
        If `operator` is no structured operator or `factor` no finite number that suits it.
    """

    def __init__(self, operator: StructuredOperator, factor: complex):
        if not isinstance(operator, StructuredOperator):
            raise TypeError(f"operator must be a structured operator, got {type(operator).__name__}")
        if isinstance(factor, bool) or not isinstance(factor, Number):
            raise TypeError(f"factor must be a finite number, got {type(factor).__name__} {factor!r}")
        factor = factor.item() if isinstance(factor, np.generic) else factor  # a Python number leaves the dtype alone
        if not np.isfinite(factor):
            raise ValueError(f"factor must be a finite number, got {factor}")
        if is_torch(operator._factor) and isinstance(factor, complex) and operator.dtype.kind != "c":
            raise TypeError(f"factor must be real for an operator of {operator._factor.dtype}, got {factor}")
        self.operator, self.factor = operator, factor
        super().__init__(operator._factor, operator.shape)
        self.dtype = np.result_type(operator.dtype, factor)

    @property
    def T(self) -> ScaledOperator:
        """The transpose, scaled by the same number."""
        return ScaledOperator(self.operator.T, self.factor)

    @property
    def H(self) -> ScaledOperator:
        """The conjugate transpose, scaled by the conjugate."""
        return ScaledOperator(self.operator.H, self.factor.conjugate())

    def _apply(self, columns):
        return self.factor * self.operator._apply(columns)


def _flat(operators: Sequence[StructuredOperator]) -> tuple[StructuredOperator, ...]:
    """The operators with products among them taken apart."""
    parts = (operator.operators if isinstance(operator, OperatorProduct) else (operator,) for operator in _structured(operators))
    return tuple(part for run in parts for part in run)


def _structured(operators: Sequence[StructuredOperator]) -> tuple[StructuredOperator, ...]:
    if not isinstance(operators, Sequence) or not operators or not all(isinstance(operator, StructuredOperator) for operator in operators):
        raise TypeError("operators must be a sequence of at least one structured operator")
    return tuple(operators)


def _described(operator: StructuredOperator) -> str:
    return f"{'torch' if is_torch(operator._factor) else 'NumPy'} {operator.dtype}"
