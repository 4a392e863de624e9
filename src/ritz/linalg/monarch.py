"""Monarch matrices: products of two block-diagonal matrices with a transposition between them, O(n^1.5) numbers and time.

Dao, Chen, Sohoni, Desai, Poli, Grogan, Liu, Rao, Rudra and Ré, "Monarch: Expressive Structured Matrices for Efficient and Accurate Training",
ICML 2022, arXiv:2204.00595, sections 3.1-3.3.

With n = m^2 and blocks of m x m, M = P L P^T R, where P transposes the m x m grid of indices. In general R has K blocks of J x I and L has J blocks
of O x K: the entry of row (o, j) and column (k, i) is L[j, o, k] R[k, j, i]. For fixed j and k that is an outer product in (o, i), which makes the
best Monarch approximation of a matrix a set of independent truncated singular value decompositions. The class contains the butterfly matrices;
products of two contain the Fourier, Hadamard and Toeplitz transforms.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ritz.core import Result, array, integer, is_torch, namespace, square_matrix, to_numpy
from ritz.linalg.operators import OperatorProduct, StructuredOperator


class MonarchOperator(StructuredOperator):
    """The linear operator of a Monarch matrix, of shape (O * J, K * I).

    Parameters
    ----------
    R : array (..., K, Q, I)
        K blocks of Q x I. Q = J for rank 1 and rank * J in general, the row of middle index j and rank index a being a * J + j.
    L : array (..., J, O, S)
        J blocks of O x S, with S = K for rank 1 and K * rank in general, J * S = K * Q.
        NumPy or torch, real or complex, both factors of one dtype; leading dimensions are batches.

    Notes
    -----
    ``M @ x`` takes a vector (n,), a matrix (n, k), or a batch of matrices (..., n, k), and returns the kind it was given. Unbatched NumPy operators
    can be handed to any SciPy solver. Cost: K Q I + J O S multiply-adds per column, as two batched products.

    References
    ----------
    .. [1] Dao et al., ICML 2022, arXiv:2204.00595.

    Examples
    --------
    >>> R, L = np.ones((2, 3, 4)), np.ones((3, 2, 2))
    >>> M = MonarchOperator(R, L)
    >>> M.shape
    (6, 8)
    >>> M @ np.ones(8)
    array([8., 8., 8., 8., 8., 8.])
    """

    def __init__(self, R, L):
        R, L = (array(factor, name, allow_complex=True) for factor, name in ((R, "R"), (L, "L")))
        for factor, name in ((R, "R"), (L, "L")):
            if factor.ndim < 3:
                raise ValueError(f"{name} must have shape (..., blocks, rows, columns), got {tuple(factor.shape)}")
        if is_torch(R) != is_torch(L) or R.dtype != L.dtype:
            raise TypeError(f"R and L must be of one kind and dtype, got {type(R).__name__} of {R.dtype} and {type(L).__name__} of {L.dtype}")
        (K, Q, I), (J, O, S) = R.shape[-3:], L.shape[-3:]
        if K * Q != J * S:
            raise ValueError(f"R and L must meet: blocks * rows of R is {K} * {Q}, blocks * columns of L is {J} * {S}")
        self.R, self.L = R, L
        super().__init__(R, (O * J, K * I))

    @property
    def rank(self) -> int:
        """The rank of each block of the matrix (row block of middle index j, column block k); at least 1."""
        return max(1, self.R.shape[-2] // self.L.shape[-3])

    @property
    def T(self) -> TransposedMonarch:
        """The transpose: L's blocks first, then R's, all transposed."""
        return TransposedMonarch(self.R, self.L)

    @property
    def H(self) -> TransposedMonarch:
        """The conjugate transpose."""
        xp = namespace(self.R)
        is_complex = xp.isdtype(self.R.dtype, "complex floating")
        return TransposedMonarch(xp.conj(self.R), xp.conj(self.L)) if is_complex else self.T

    def _apply(self, columns):
        z = monarch_mix(self.R, self.L, columns)
        xp = namespace(z)
        return xp.reshape(xp.moveaxis(z, -2, -3), (*z.shape[:-3], self.shape[0], z.shape[-1]))


class TransposedMonarch(StructuredOperator):
    """The transpose of the Monarch matrix with factors R and L: a Monarch matrix between two permutations.

    Parameters
    ----------
    R, L : arrays
        The factors of the Monarch matrix that is transposed, as for `MonarchOperator`.

    Examples
    --------
    >>> TransposedMonarch(np.ones((2, 3, 4)), np.ones((3, 2, 2))).shape
    (8, 6)
    """

    def __init__(self, R, L):
        self._transposed = MonarchOperator(R, L)
        super().__init__(R, self._transposed.shape[::-1])

    @property
    def T(self) -> MonarchOperator:
        """The Monarch matrix itself."""
        return self._transposed

    @property
    def H(self) -> MonarchOperator:
        """The conjugate of the Monarch matrix."""
        return self._transposed.H.T

    def _apply(self, columns):
        R, L = self._transposed.R, self._transposed.L
        (K, Q, I), (J, O, _) = R.shape[-3:], L.shape[-3:]
        xp = namespace(columns)
        batch, width = columns.shape[:-2], columns.shape[-1]
        y = xp.matmul(_swapped(L), xp.moveaxis(xp.reshape(columns, (*batch, O, J, width)), -3, -2))
        y = xp.reshape(xp.moveaxis(y, -3, -2), (*y.shape[:-3], K, Q, width))
        z = xp.matmul(_swapped(R), y)
        return xp.reshape(z, (*z.shape[:-3], K * I, width))


def compose(operators: Sequence[MonarchOperator | TransposedMonarch]) -> OperatorProduct:
    """Return the product of Monarch operators, e.g. ``compose([M1, M2.H])`` of the class MM*; the same as ``M1 @ M2.H``.

    Raises
    ------
    ValueError, TypeError
        If there is none, or two neighbors' shapes do not meet.

    Examples
    --------
    >>> M = MonarchOperator(np.ones((2, 2, 2)), np.ones((2, 2, 2)))
    >>> compose([M, M.T]).shape
    (4, 4)
    """
    return OperatorProduct(operators)


def monarch_project(M, *, blocks: int | tuple[int, int] | None = None, rank: int = 1) -> MonarchOperator:
    """Return the Monarch matrix nearest to M in the Frobenius norm (theorem 1 of the paper).

    The O x I block of M for middle index j and column block k is replaced by its best approximation of the given rank, its singular values split
    evenly between the factors. The squared error is ||M||^2 minus the sum of the squared singular values kept.

    Parameters
    ----------
    M : array (..., m, n)
        NumPy or torch, real or complex.
    blocks : int or (int, int), optional
        The number K of blocks of R, which must divide n, and the number J of blocks of L, which must divide m. One integer K means J = m / K.
        The default K is the common divisor of m and n nearest to (m n)^(1/4), the larger of two that are as near.
    rank : int
        The rank of each block, at most min(m / J, n / K), where the approximation is exact.

    Returns
    -------
    MonarchOperator
        Its R is (..., K, rank * J, n / K), its L is (..., J, m / J, K * rank).

    Notes
    -----
    Leading vectors come from the Gram matrix of each block's smaller side, formed in double precision.
    Cost: O(m n min(m / J, n / K)), which is O(n^2.5) for square matrices and sqrt(n) blocks.

    Examples
    --------
    >>> fourier = np.fft.fft(np.eye(16)).reshape(16, 4, 4).transpose(0, 2, 1).reshape(16, 16)
    >>> bool(np.allclose(monarch_project(fourier).toarray(), fourier))
    True
    """
    M = array(M, "M", allow_complex=True)
    if M.ndim < 2:
        raise ValueError(f"M must have shape (..., m, n), got {tuple(M.shape)}")
    K, J = _block_counts(*M.shape[-2:], blocks)
    O, I = M.shape[-2] // J, M.shape[-1] // K
    rank = integer(rank, "rank", at_least=1, at_most=min(O, I))
    xp = namespace(M)
    grid = _moved(xp, xp.reshape(M, (*M.shape[:-2], O, J, K, I)), (1, 2, 0, 3))
    left, right = _truncated(grid, rank)  # (..., J, K, O, rank) and (..., J, K, rank, I)
    L = xp.reshape(_moved(xp, left, (0, 2, 1, 3)), (*M.shape[:-2], J, O, K * rank))
    R = xp.reshape(_moved(xp, right, (1, 2, 0, 3)), (*M.shape[:-2], K, rank * J, I))
    return MonarchOperator(R, L)


@dataclass(frozen=True, eq=False, repr=False)
class MonarchFactorization(Result):
    """A = (P L1 P^T) R (P L2 P^T), unpacked as ``L1, D, L2``: `monarch_factorize` found it.

    L1 and L2 are (m, m, m), one block per index; D is (m, m, m) with D[i, j] the diagonal of block (i, j) of P^T R P. `residual` is the off-diagonal
    mass that the diagonals leave, relative to all of it.
    """

    L1: np.ndarray
    D: np.ndarray
    L2: np.ndarray
    residual: float

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter((self.L1, self.D, self.L2))

    def toarray(self) -> np.ndarray:
        """Multiply out: (m^2, m^2)."""
        m = self.L1.shape[0]
        shuffled = np.einsum("iab,ijb,jbc->iajc", self.L1, self.D, self.L2)
        return shuffled.transpose(1, 0, 3, 2).reshape(m * m, m * m)


def monarch_factorize(A, m: int) -> MonarchFactorization:
    """Recover the factors of a matrix of the class MM* (theorem 2 of the paper).

    Parameters
    ----------
    A : array (m^2, m^2)
        A = (P L1 P^T) R (P L2 P^T) with block-diagonal L1, R, L2 of m x m blocks, all invertible. Real A may
        have complex factors.
    m : int
        The block size.

    Returns
    -------
    MonarchFactorization
        Unpacks as ``L1, D, L2``; `residual` says how well A is of this class. Factors are unique up to scale and order,
        fixed by D[0, :] = D[:, 0] = 1.

    Raises
    ------
    ValueError
        If A is not (m^2, m^2), or a block of P^T A P is singular.

    Notes
    -----
    The eigenvectors of A_00 A_i0^-1 A_ij A_0j^-1 are the first block of L1 where its eigenvalues are distinct; of the first index pairs (i, j)
    the one with the best-conditioned eigenvectors is taken. Cost: O(m^5).

    Examples
    --------
    >>> A = MonarchFactorization(*np.random.default_rng(0).standard_normal((3, 3, 3, 3)), 0.0).toarray()
    >>> monarch_factorize(A, 3).residual < 1e-8
    True
    """
    m = integer(m, "m", at_least=1)
    A = to_numpy(square_matrix(A, "A", allow_complex=True))
    if A.shape[0] != m * m:
        raise ValueError(f"A must have shape ({m * m}, {m * m}) for m = {m}, got {A.shape}")
    blocks = A.reshape(m, m, m, m).transpose(1, 3, 0, 2)  # (i, j) block of P^T A P
    worst = np.linalg.cond(blocks).max()
    if not worst < 1 / (m * np.finfo(blocks.dtype).eps):
        raise ValueError(f"A must have invertible blocks in the shuffled order: the worst condition number is {worst:.2g}")
    first = _common_left_basis(blocks)
    C = np.linalg.solve(first, blocks[0])  # D[0, j] = 1
    left = blocks[:, 0] @ np.linalg.inv(C[0])  # D[i, 0] = 1
    left[0] = first
    middle = np.linalg.solve(left[:, None], blocks) @ np.linalg.inv(C)[None]
    D = np.diagonal(middle, axis1=-2, axis2=-1).copy()
    off_diagonal = middle * ~np.eye(m, dtype=bool)
    return MonarchFactorization(left, D, C, float(np.linalg.norm(off_diagonal) / np.linalg.norm(middle)))


def monarch_mix(R, L, columns):
    """Apply both factors to columns (..., K * I, width): (..., J, O, width), the output not yet in its order (o, j).

    With the columns innermost both products read their operands in place: the transposition between them is a change of strides.
    """
    xp = namespace(columns)
    (K, _, I), (J, _, S) = R.shape[-3:], L.shape[-3:]
    batch, width = columns.shape[:-2], columns.shape[-1]
    y = xp.matmul(R, xp.reshape(columns, (*batch, K, I, width)))
    y = xp.reshape(y, (*y.shape[:-3], S, J, width))
    return xp.matmul(L, xp.moveaxis(y, -2, -3))


def nearest_block_count(m: int, n: int) -> int:
    """The common divisor of m and n nearest to (m n)^(1/4) in ratio, the larger of two that are as near."""
    common = math.gcd(m, n)
    divisors = [d for d in range(1, common + 1) if common % d == 0]
    return min(divisors, key=lambda d: (round(abs(math.log(d) - math.log(m * n) / 4), 12), -d))


def _block_counts(m: int, n: int, blocks: int | tuple[int, int] | None) -> tuple[int, int]:
    if isinstance(blocks, tuple):
        if len(blocks) != 2:
            raise ValueError(f"blocks must be one integer or two, got {blocks}")
        K, J = (integer(count, "blocks", at_least=1) for count in blocks)
    else:
        K = nearest_block_count(m, n) if blocks is None else integer(blocks, "blocks", at_least=1)
        J = m // K if m % K == 0 else 0
    if n % K or not J or m % J:
        raise ValueError(f"blocks must divide the shape of M, {(m, n)}, got {blocks}")
    return K, J


def _truncated(grid, rank: int):
    """Best approximations left @ right of each matrix of a stack, both factors carrying the root of the singular values."""
    xp = namespace(grid)
    wide = grid.shape[-2] <= grid.shape[-1]
    double = xp.astype(grid, xp.complex128 if xp.isdtype(grid.dtype, "complex floating") else xp.float64)
    small = double if wide else _adjoint(double)
    vectors = xp.linalg.eigh(xp.matmul(small, _adjoint(small)))[1][..., -rank:]
    others = xp.matmul(_adjoint(vectors), small)  # rows of length sigma
    root = xp.sqrt(xp.linalg.vector_norm(others, axis=-1, keepdims=True))
    others = others / xp.where(root > 0, root, xp.ones_like(root))
    vectors = vectors * xp.astype(_swapped(root), vectors.dtype)
    left, right = (vectors, others) if wide else (_adjoint(others), _adjoint(vectors))
    return xp.astype(left, grid.dtype), xp.astype(right, grid.dtype)


def _common_left_basis(blocks: np.ndarray) -> np.ndarray:
    """The best-conditioned eigenvectors of A_00 A_i0^-1 A_ij A_0j^-1 over the first index pairs (i, j)."""
    m = len(blocks)
    if m == 1:
        return np.ones((1, 1), dtype=blocks.dtype)
    pairs = [(i, j) for i in range(1, m) for j in range(1, m)][:16]
    candidates = (
        np.linalg.eig(blocks[0, 0] @ np.linalg.solve(blocks[i, 0], blocks[i, j]) @ np.linalg.inv(blocks[0, j])).eigenvectors for i, j in pairs
    )
    return min(candidates, key=np.linalg.cond)


def _swapped(x):
    return namespace(x).matrix_transpose(x)


def _adjoint(x):
    xp = namespace(x)
    return _swapped(xp.conj(x) if xp.isdtype(x.dtype, "complex floating") else x)


def _moved(xp, x, order: Sequence[int]):
    """Permute the last four dimensions."""
    first = x.ndim - 4
    return xp.permute_dims(x, (*range(first), *(first + i for i in order)))
