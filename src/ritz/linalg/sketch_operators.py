"""What all random sketches are as linear operators: their transposes, and the kinds of arrays they multiply."""

from __future__ import annotations

import numpy as np
import scipy.sparse

from ritz.core import is_torch, like, namespace, to_numpy
from ritz.linalg.krylov_system import is_sparse_tensor
from ritz.linalg.operators import StructuredOperator
from ritz.linalg.products import DTYPES

BLOCK_ENTRIES = 1 << 22  # of the dense blocks that sparse matrices, Fourier transforms and Gaussian sketches go through


class Sketch(StructuredOperator):
    """An (m, n) random matrix; a subclass defines ``_times(X)`` and ``_transpose_times(Y)`` for matrices, and how to draw another of its kind."""

    def __init__(self, m: int, n: int):
        super().__init__(np.empty(0), (m, n))

    @property
    def T(self) -> TransposedSketch:
        """The transpose, which for a real matrix is the adjoint."""
        return TransposedSketch(self)

    @property
    def H(self) -> TransposedSketch:
        """The adjoint."""
        return self.T

    def redraw(self, rng: np.random.Generator) -> Sketch:
        """Draw another sketch of this kind and shape."""
        raise NotImplementedError

    def _right_operand(self, x, name: str = "x"):
        return _operand(x, name, self.shape[1])

    def _apply(self, columns):
        if scipy.sparse.issparse(columns):
            return self._times_sparse(columns)
        return _as_matrix(self._times, columns)

    def _times_sparse(self, X):
        """Multiply a CSC array, a block of its columns made dense at a time."""
        width = max(1, BLOCK_ENTRIES // X.shape[0])
        blocks = [self._times(X[:, first : first + width].toarray()) for first in range(0, X.shape[1], width)]
        return np.concatenate(blocks, axis=1) if blocks else np.empty((self.shape[0], 0), X.dtype)


class TransposedSketch(StructuredOperator):
    """The transpose of a sketch."""

    def __init__(self, sketch: Sketch):
        self.sketch = sketch
        super().__init__(sketch._factor, sketch.shape[::-1])

    @property
    def T(self) -> Sketch:
        """The sketch."""
        return self.sketch

    @property
    def H(self) -> Sketch:
        """The sketch."""
        return self.sketch

    def _right_operand(self, x, name: str = "x"):
        return _operand(x, name, self.shape[1])

    def _apply(self, columns):
        return _as_matrix(self.sketch._transpose_times, columns.toarray() if scipy.sparse.issparse(columns) else columns)


def add_rows(rows: np.ndarray, Y, count: int):
    """Add the rows of Y (m, k) to the places `rows` of a zero matrix (count, k)."""
    if is_torch(Y):
        return Y.new_zeros((count, Y.shape[1])).index_add_(0, like(rows, Y), Y)
    return scipy.sparse.csr_array((np.ones(len(rows), Y.real.dtype), (rows, np.arange(len(rows)))), shape=(count, len(rows))) @ Y


def like_dtype(values: np.ndarray, X):
    """Bring a NumPy array to X's kind and device, in X's precision, complex only if it is itself."""
    dtype = to_numpy(X[:0]).dtype
    return like(values.astype(dtype if values.dtype.kind == "c" else dtype.type(0).real.dtype, copy=False), X)


def _operand(x, name: str, rows: int):
    """Return x as a floating NumPy array, CSC array or dense tensor, if it has so many rows."""
    if scipy.sparse.issparse(x):
        x = scipy.sparse.csc_array(x)
    elif is_torch(x):
        x = x.to_dense() if is_sparse_tensor(x) else x
    else:
        x = to_numpy(x, name)
    if not is_torch(x) and x.dtype.kind in "biu":
        x = x.astype(np.float64)
    if str(x.dtype).removeprefix("torch.") not in DTYPES:
        raise TypeError(f"{name} must have one of the dtypes {', '.join(DTYPES)}, got {x.dtype}")
    found = None if x.ndim == 0 else x.shape[-2] if x.ndim > 1 else x.shape[0]
    if found != rows:
        raise ValueError(f"{name} must have shape ({rows},) or (..., {rows}, k), got {tuple(x.shape)}")
    return x


def _as_matrix(multiply, columns):
    """Apply a function of matrices to (..., n, k), the leading dimensions beside the columns."""
    if columns.ndim == 2:
        return multiply(columns)
    xp = namespace(columns)
    first = xp.moveaxis(columns, -2, 0)
    product = multiply(xp.reshape(first, (first.shape[0], -1)))
    return xp.moveaxis(xp.reshape(product, (product.shape[0], *first.shape[1:])), 0, -2)
