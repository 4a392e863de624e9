"""Linear operators of a few numbers: diagonal, low rank, diagonal plus low rank, block diagonal and Kronecker products.

Each multiplies vectors (n,), matrices (n, k) and batches (..., n, k) of NumPy arrays or torch tensors, whichever its factors are, without forming
the matrix; leading dimensions of the factors are batches. Transposes stay in the family. Those that can be inverted at the price of a product or of
small dense solves have `solve`: the Woodbury identity for diagonal plus low rank, factor by factor for the others.
Sums, products and multiples of them are structured operators again (`A @ B`, `A + B`, `2 * A`).
"""

from __future__ import annotations

import numpy as np

from ritz.core import array, is_torch, namespace
from ritz.linalg.operators import StructuredOperator


class DiagonalOperator(StructuredOperator):
    """The matrix diag(d).

    Parameters
    ----------
    diagonal : array (..., n)
        Its entries, real or complex.

    Examples
    --------
    >>> D = DiagonalOperator(np.array([1.0, 2.0]))
    >>> D @ np.ones(2)
    array([1., 2.])
    >>> D.solve(np.ones(2))
    array([1. , 0.5])
    """

    def __init__(self, diagonal):
        (self.diagonal,) = _factors(diagonal=(diagonal, 1))
        n = self.diagonal.shape[-1]
        super().__init__(self.diagonal, (n, n))

    @property
    def T(self) -> DiagonalOperator:
        """The operator itself."""
        return self

    @property
    def H(self) -> DiagonalOperator:
        """The conjugate."""
        return DiagonalOperator(conj(self.diagonal))

    def solve(self, b):
        """Return x with ``diag(d) x = b``, b of shape (n,) or (..., n, k); refused if a diagonal entry is zero."""
        return _solved(self, b, lambda columns: columns / _without_zeros(self.diagonal)[..., None])

    def _apply(self, columns):
        return self.diagonal[..., None] * columns


class LowRankOperator(StructuredOperator):
    """The matrix U V^T of rank at most r.

    Parameters
    ----------
    U : array (..., m, r)
        Left factor.
    V : array (..., n, r)
        Right factor, transposed and not conjugated: the Hermitian U U^H is ``LowRankOperator(U, U.conj())``.

    Notes
    -----
    Cost: (m + n) r multiply-adds per column.

    Examples
    --------
    >>> LowRankOperator(np.ones((3, 1)), np.array([[1.0], [2.0]])).toarray()
    array([[1., 2.],
           [1., 2.],
           [1., 2.]])
    """

    def __init__(self, U, V):
        self.U, self.V = _factors(U=(U, 2), V=(V, 2))
        if self.U.shape[-1] != self.V.shape[-1]:
            raise ValueError(f"V must have as many columns as U, {self.U.shape[-1]}, got shape {tuple(self.V.shape)}")
        super().__init__(self.U, (self.U.shape[-2], self.V.shape[-2]))

    @property
    def rank(self) -> int:
        """The number of columns of both factors: the rank is at most this."""
        return self.U.shape[-1]

    @property
    def T(self) -> LowRankOperator:
        """The matrix V U^T."""
        return LowRankOperator(self.V, self.U)

    @property
    def H(self) -> LowRankOperator:
        """The conjugate of V U^T."""
        return LowRankOperator(conj(self.V), conj(self.U))

    def _apply(self, columns):
        return self.U @ (_swapped(self.V) @ columns)


class DiagonalPlusLowRankOperator(StructuredOperator):
    """The matrix diag(d) + U V^T.

    Parameters
    ----------
    diagonal : array (..., n)
        Real or complex; free of zeros if `solve` is wanted.
    U, V : array (..., n, r)
        The low-rank part, V not conjugated.

    Notes
    -----
    `solve` is the Woodbury identity, ``x = y - D^-1 U (I + V^T D^-1 U)^-1 V^T y`` with ``y = D^-1 b``: O(n r^2 + n r k + r^3) for k columns.
    It loses digits where D is much worse conditioned than the whole matrix; a small diagonal under a large low-rank part is the usual case.

    Examples
    --------
    >>> A = DiagonalPlusLowRankOperator(np.ones(3), np.ones((3, 1)), np.ones((3, 1)))
    >>> A.solve(A @ np.array([1.0, 2.0, 3.0])).round(12)
    array([1., 2., 3.])
    """

    def __init__(self, diagonal, U, V):
        self.diagonal, self.U, self.V = _factors(diagonal=(diagonal, 1), U=(U, 2), V=(V, 2))
        n = self.diagonal.shape[-1]
        for factor, name in ((self.U, "U"), (self.V, "V")):
            if factor.shape[-2] != n or factor.shape[-1] != self.U.shape[-1]:
                raise ValueError(f"{name} must have shape (..., {n}, {self.U.shape[-1]}) beside this diagonal and U, got {tuple(factor.shape)}")
        super().__init__(self.diagonal, (n, n))

    @property
    def T(self) -> DiagonalPlusLowRankOperator:
        """The matrix diag(d) + V U^T."""
        return DiagonalPlusLowRankOperator(self.diagonal, self.V, self.U)

    @property
    def H(self) -> DiagonalPlusLowRankOperator:
        """The conjugate of the transpose."""
        return DiagonalPlusLowRankOperator(conj(self.diagonal), conj(self.V), conj(self.U))

    def solve(self, b):
        """Return x with ``(diag(d) + U V^T) x = b``, b of shape (n,) or (..., n, k).

        Raises
        ------
        numpy.linalg.LinAlgError
            A ValueError: a diagonal entry is zero, or the matrix is singular to working precision.
        """
        return _solved(self, b, self._woodbury)

    def _apply(self, columns):
        return self.diagonal[..., None] * columns + self.U @ (_swapped(self.V) @ columns)

    def _woodbury(self, columns):
        inverse = 1 / _without_zeros(self.diagonal)[..., None]
        y, scaled_U = inverse * columns, inverse * self.U
        capacitance = _swapped(self.V) @ scaled_U + _eye_like(self.U)
        return y - scaled_U @ _dense_solve(capacitance, _swapped(self.V) @ y)


class BlockDiagonalOperator(StructuredOperator):
    """The block-diagonal matrix of K equal-sized blocks, as one batched product.

    Parameters
    ----------
    blocks : array (..., K, p, q)
        The blocks in order; the matrix is (K p, K q).

    Examples
    --------
    >>> BlockDiagonalOperator(np.array([[[1.0, 2.0]], [[3.0, 4.0]]])).toarray()
    array([[1., 2., 0., 0.],
           [0., 0., 3., 4.]])
    """

    def __init__(self, blocks):
        (self.blocks,) = _factors(blocks=(blocks, 3))
        K, p, q = self.blocks.shape[-3:]
        super().__init__(self.blocks, (K * p, K * q))

    @property
    def T(self) -> BlockDiagonalOperator:
        """The blocks transposed."""
        return BlockDiagonalOperator(_swapped(self.blocks))

    @property
    def H(self) -> BlockDiagonalOperator:
        """The blocks transposed and conjugated."""
        return BlockDiagonalOperator(conj(_swapped(self.blocks)))

    def solve(self, b):
        """Return x with ``A x = b`` block by block, b of shape (n,) or (..., n, k); refused if blocks are not square or one is singular."""
        _refuse_rectangular(self.blocks, "blocks")
        return _solved(self, b, lambda columns: self._joined(_dense_solve(self.blocks, self._split(columns, self.blocks.shape[-2]))))

    def _apply(self, columns):
        return self._joined(self.blocks @ self._split(columns, self.blocks.shape[-1]))

    def _split(self, columns, size: int):
        return columns.reshape((*columns.shape[:-2], self.blocks.shape[-3], size, columns.shape[-1]))

    @staticmethod
    def _joined(blocks):
        return blocks.reshape((*blocks.shape[:-3], blocks.shape[-3] * blocks.shape[-2], blocks.shape[-1]))


class KroneckerOperator(StructuredOperator):
    """The Kronecker product A ⊗ B: with x = vec(X) row by row, ``(A ⊗ B) x = vec(A X B^T)``.

    Parameters
    ----------
    A : array (..., m, n)
        Left factor.
    B : array (..., p, q)
        Right factor; the product is (m p, n q).

    Notes
    -----
    Cost: ``n p q + m n p`` multiply-adds per column instead of ``m n p q``.

    Examples
    --------
    >>> A, B = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[0.0, 1.0], [1.0, 0.0]])
    >>> bool((KroneckerOperator(A, B).toarray() == np.kron(A, B)).all())
    True
    """

    def __init__(self, A, B):
        self.A, self.B = _factors(A=(A, 2), B=(B, 2))
        (m, n), (p, q) = self.A.shape[-2:], self.B.shape[-2:]
        super().__init__(self.A, (m * p, n * q))

    @property
    def T(self) -> KroneckerOperator:
        """The product of the transposes, in the same order."""
        return KroneckerOperator(_swapped(self.A), _swapped(self.B))

    @property
    def H(self) -> KroneckerOperator:
        """The product of the conjugate transposes, in the same order."""
        return KroneckerOperator(conj(_swapped(self.A)), conj(_swapped(self.B)))

    def solve(self, b):
        """Return x with ``(A ⊗ B) x = b`` by solving with A and with B, b (n,) or (..., n, k); refused unless both are square and regular."""
        _refuse_rectangular(self.A, "A")
        _refuse_rectangular(self.B, "B")
        return _solved(self, b, lambda columns: self._through(columns, _dense_solve))

    def _apply(self, columns):
        return self._through(columns, lambda factor, operand: factor @ operand)

    def _through(self, columns, act):
        """Let B act on the inner index of each column, then A on the outer one."""
        n, q, width = self.A.shape[-1], self.B.shape[-1], columns.shape[-1]
        inner = act(self.B[..., None, :, :], columns.reshape((*columns.shape[:-2], n, q, width)))
        outer = act(self.A, inner.reshape((*inner.shape[:-2], -1)))
        return outer.reshape((*outer.shape[:-2], -1, width))


def _factors(**factors):
    """Check the factors, given as name=(value, least number of dimensions): finite, of one kind and dtype."""
    checked = {name: array(value, name, allow_complex=True) for name, (value, _) in factors.items()}
    for name, x in checked.items():
        if x.ndim < factors[name][1]:
            raise ValueError(f"{name} must have at least {factors[name][1]} dimension(s), got shape {tuple(x.shape)}")
    first_name, first = next(iter(checked.items()))
    for name, x in checked.items():
        if is_torch(x) != is_torch(first) or x.dtype != first.dtype:
            raise TypeError(f"{name} must be of the kind and dtype of {first_name}, {type(first).__name__} of {first.dtype}, got {x.dtype}")
    return tuple(checked.values())


def _solved(operator: StructuredOperator, b, solve_columns):
    """Check b as the right-hand side of `operator`, a vector or columns, and solve."""
    columns = operator.T._right_operand(array(b, "b", allow_complex=True), "b")
    return solve_columns(columns) if columns.ndim > 1 else solve_columns(columns[:, None])[..., 0]


def _dense_solve(A, b):
    """Solve with dense square matrices; singular to working precision is an error, not a solution without digits."""
    xp = namespace(A, b)
    try:
        x = xp.linalg.solve(A, b)
    except (np.linalg.LinAlgError, RuntimeError) as error:  # torch's is a RuntimeError
        raise np.linalg.LinAlgError(f"the operator is singular ({error})") from error
    growth = xp.linalg.matrix_norm(A, keepdims=True)[..., 0] * xp.linalg.vector_norm(x, axis=-2)
    if bool(xp.any(growth * xp.finfo(A.dtype).eps > xp.linalg.vector_norm(b, axis=-2))):  # so the condition number is above 1 / eps
        raise np.linalg.LinAlgError("the operator is singular to working precision")
    return x


def _without_zeros(diagonal):
    if not bool(namespace(diagonal).all(diagonal != 0)):
        raise np.linalg.LinAlgError("the operator has zeros on its diagonal: solve needs every entry nonzero")
    return diagonal


def _refuse_rectangular(factor, name: str) -> None:
    if factor.shape[-1] != factor.shape[-2]:
        raise ValueError(f"{name} must be square to solve, got shape {tuple(factor.shape)}")


def _eye_like(U):
    device = {"device": U.device} if is_torch(U) else {}
    return namespace(U).eye(U.shape[-1], dtype=U.dtype, **device)


def _swapped(x):
    return namespace(x).matrix_transpose(x)


def conj(x):
    """The complex conjugate; a real array as it is."""
    xp = namespace(x)
    return xp.conj(x) if xp.isdtype(x.dtype, "complex floating") else x
