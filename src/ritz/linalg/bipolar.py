"""Exact products of matrices of a few bits an entry: bit planes, exclusive or, counting of bits.

"Efficient Arbitrary Precision Acceleration for Large Language Models on GPU Tensor Cores", ASP-DAC 2025, arXiv:2409.17870 (journal form: APT-LLM,
arXiv:2508.19087), sections 3 and 4.

An n-bit code with bits u_i stands for x = sum_i (2 u_i - 1) 2^i = 2 U - (2^n - 1), an odd integer: symmetric, no zero, no plane for the sign. So
W X^T = sum_ij 2^(i+j) W_i X_j^T with planes of +-1, and the product of two packed rows of planes is K - 2 popcount(w xor x). Bits beyond K are zero
in both and count for nothing. All planes of a row lie one after the other; the shifted sum over (i, j) is taken where the counts are made.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from ritz.core import choice, integer, is_torch, like, to_numpy
from ritz.linalg.threads import in_windows, thread_count

WORD = 64
MOST_BITS = 8
COLUMN_BLOCK = 64  # rows of X whose planes stay in cache while rows of W pass
WINDOW_ROWS = 64


@dataclass(frozen=True, eq=False)
class BipolarTensor:
    """A matrix (rows, K) of odd integers of `bits` bits, as packed bit planes; made by `from_int`, `from_signed` or `quantize_bipolar`.

    Attributes
    ----------
    packed : uint64 array (rows, bits, ceil(K / 64)), or int64 torch tensor
        The planes of each row, least significant first, entry k in bit k mod 64 of word k // 64; bits beyond K are zero.
    bits : int
        1 to 8: the integers are the odd ones from -(2^bits - 1) to 2^bits - 1.
    K : int
        Columns.
    scale : array (rows,) or (rows, groups), optional
        What the integers are to be multiplied by: one factor for a row or for each group of K / groups columns.

    Examples
    --------
    >>> W = BipolarTensor.from_int([[3, -1, 1]], 2)
    >>> W.to_int(), W.nbytes
    (array([[ 3, -1,  1]]), 16)
    """

    packed: object
    bits: int
    K: int
    scale: object = None

    def __post_init__(self) -> None:
        integer(self.bits, "bits", at_least=1, at_most=MOST_BITS)
        integer(self.K, "K", at_least=1)
        shape = getattr(self.packed, "shape", None)
        if shape is None or len(shape) != 3 or tuple(shape[1:]) != (self.bits, -(-self.K // WORD)):
            raise ValueError(f"packed must have shape (rows, {self.bits}, {-(-self.K // WORD)}), got {shape}")
        if str(self.packed.dtype).removeprefix("torch.") != ("int64" if is_torch(self.packed) else "uint64"):
            raise TypeError(f"packed must be a uint64 array or an int64 tensor, got {self.packed.dtype}")

    @classmethod
    def from_int(cls, values, bits: int) -> BipolarTensor:
        """Pack odd integers (rows, K) between -(2^bits - 1) and 2^bits - 1.

        Raises
        ------
        ValueError
            If there are even integers, or such as do not fit.
        """
        bits = integer(bits, "bits", at_least=1, at_most=MOST_BITS)
        x, largest = _integers(values), 2**bits - 1
        if np.any(x % 2 == 0):
            raise ValueError(f"values must be odd integers, got {x[x % 2 == 0][0]}")
        _check_range(x, -largest, largest, bits)
        return pack(((x + largest) // 2).astype(np.uint8), bits, values)

    @classmethod
    def from_signed(cls, values, bits: int) -> BipolarTensor:
        """Pack two's complement integers v (rows, K) between -2^(bits - 1) and 2^(bits - 1) - 1, as x = 2 v + 1."""
        bits = integer(bits, "bits", at_least=1, at_most=MOST_BITS)
        v, half = _integers(values), 2 ** (bits - 1)
        _check_range(v, -half, half - 1, bits)
        return pack((v + half).astype(np.uint8), bits, values)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.packed.shape[0], self.K

    @property
    def planes(self):
        """The planes as (bits, rows, ceil(K / 64)), least significant first; a view."""
        return self.packed.swapaxes(0, 1)

    @property
    def nbytes(self) -> int:
        """Bytes of the planes: bits * rows * 8 ceil(K / 64)."""
        return 8 * int(np.prod(self.packed.shape))

    def to_int(self) -> np.ndarray:
        """Unpack: the odd integers (rows, K), int64."""
        codes = np.empty(self.shape, np.int64)
        _unpack(words(self), codes)
        return like(2 * codes - (2**self.bits - 1), self.packed)

    def to_signed(self) -> np.ndarray:
        """Unpack what `from_signed` packed: v = (x - 1) / 2."""
        return (self.to_int() - 1) // 2

    def row_sums(self) -> np.ndarray:
        """The sums of the integers of each row, int64 (rows,), from bit counts."""
        weights = 2 ** np.arange(self.bits, dtype=np.int64)
        ones = np.bitwise_count(words(self)).sum(axis=2, dtype=np.int64) @ weights
        return like(2 * ones - self.K * (2**self.bits - 1), self.packed)

    def dequantize(self) -> np.ndarray:
        """Unpack and multiply by the scales: the real matrix (rows, K) that is represented, in the dtype of the scales."""
        x = to_numpy(self.to_int())
        if self.scale is None:
            return like(x.astype(np.float64), self.packed)
        scale = to_numpy(self.scale)
        groups = 1 if scale.ndim == 1 else scale.shape[1]
        return like((x.reshape(len(x), groups, -1) * scale.reshape(len(x), groups, 1)).reshape(self.shape).astype(scale.dtype), self.packed)

    def signed_matmul(self, X: BipolarTensor) -> np.ndarray:
        """The product V_W V_X^T of two matrices packed by `from_signed`, int64: (W X^T - rowsum(W) - rowsum(X)^T + K) / 4, exactly."""
        product = to_numpy(bipolar_matmul(self, X)).astype(np.int64)
        sums = to_numpy(self.row_sums())[:, None] + to_numpy(X.row_sums())
        return like((product - sums + self.K) // 4, self.packed)


def pack(codes: np.ndarray, bits: int, reference: object = None, scale: object = None) -> BipolarTensor:
    """Pack unsigned codes U (rows, K) uint8, x = 2 U - (2^bits - 1); a torch `reference` makes the planes a tensor on its device."""
    rows, K = codes.shape
    count = -(-K // WORD)
    if K % WORD:
        codes = np.pad(codes, ((0, 0), (0, count * WORD - K)))
    packed = np.empty((rows, bits, count), np.uint64)
    _pack(np.ascontiguousarray(codes).view(np.uint64), packed)
    tensor = object.__new__(BipolarTensor)  # nothing to check: a matrix of one row is packed in microseconds
    planes = like(packed.view(np.int64), reference) if is_torch(reference) else packed
    tensor.__dict__.update(packed=planes, bits=bits, K=K, scale=scale)
    return tensor


def bipolar_matmul(W: BipolarTensor, X: BipolarTensor, *, out_dtype: str = "int32", threads: int | None = None):
    """Multiply two matrices of few bits, W X^T, exactly.

    Parameters
    ----------
    W, X : BipolarTensor (M, K) and (N, K)
        The factors, of any bit widths.
    out_dtype : {"int32", "float32"}
        "int32": the integers, as int64 where K (2^n_W - 1) (2^n_X - 1) reaches 2^31. "float32": times the scales.
    threads : int, optional
        Threads that share the rows of W; by default as many as numba is set to use. The result is the same.

    Returns
    -------
    array (M, N)
        The product; a tensor if the planes are.

    Raises
    ------
    TypeError, ValueError
        If a factor is no BipolarTensor, the columns differ in number, or groups of scales do not start at words.

    Notes
    -----
    Cost: n_W n_X M N K / 64 exclusive-ors and bit counts. With one row of X it is bound by reading the n_W M K / 8 bytes of W. On processors that
    multiply 8-bit integers natively (VNNI, AMX), integer products win for n_W n_X > 2 and many rows; the gain here is in memory and in few rows.
    CUDA tensors go to a Triton kernel, which unpacks planes to 8-bit integers in registers and multiplies on tensor cores: the same integers.

    References
    ----------
    .. [1] "Efficient Arbitrary Precision Acceleration for Large Language Models on GPU Tensor Cores", ASP-DAC 2025, arXiv:2409.17870.

    Examples
    --------
    >>> W, X = BipolarTensor.from_int([[3, -1], [1, 1]], 2), BipolarTensor.from_int([[-1, 1]], 1)
    >>> bipolar_matmul(W, X)
    array([[-4],
           [ 0]], dtype=int32)
    """
    _check_factors(W, X)
    wide, threads = largest_product(W, X) >= 2**31, thread_count(threads)
    if choice(out_dtype, "out_dtype", ("int32", "float32")) == "int32":
        return _integer_product(W, X, threads, np.int64 if wide else np.int32)
    scales = [_group_scales(factor) for factor in (W, X)]
    groups = max(scale.shape[1] for scale in scales)
    if groups > 1:
        return like(_grouped_product(W, X, *scales, groups, threads), W.packed)
    product = to_numpy(_integer_product(W, X, threads, np.int64 if wide else np.int32))
    return like((product * (scales[0] * scales[1][:, 0])).astype(np.float32, copy=False), W.packed)


def largest_product(W: BipolarTensor, X: BipolarTensor) -> int:
    """The largest magnitude that an entry of W X^T can have."""
    return W.K * (2**W.bits - 1) * (2**X.bits - 1)


def words(tensor: BipolarTensor) -> np.ndarray:
    """The packed planes as a NumPy array of uint64."""
    return to_numpy(tensor.packed).view(np.uint64)


def _integer_product(W: BipolarTensor, X: BipolarTensor, threads: int, dtype: type):
    if is_torch(W.packed) and W.packed.is_cuda:
        from ritz.linalg.bipolar_triton import multiply_on_cuda

        return multiply_on_cuda(W.packed, X.packed, W.K)
    return like(_multiply_planes(words(W), words(X), W.K, threads, dtype), W.packed)


def _multiply_planes(W: np.ndarray, X: np.ndarray, K: int, threads: int, dtype: type) -> np.ndarray:
    product = np.empty((W.shape[0], X.shape[0]), dtype)
    bound = K * (2 ** W.shape[1] - 1) * (2 ** X.shape[1] - 1)
    if threads == 1:
        _multiply(0, W.shape[0], W, X, bound, product)
        return product
    windows = [(first, min(first + WINDOW_ROWS, len(W))) for first in range(0, len(W), WINDOW_ROWS)]
    in_windows(windows, lambda: None, lambda window, _: _multiply(*window, W, X, bound, product), threads)
    return product


def _grouped_product(W: BipolarTensor, X: BipolarTensor, W_scale: np.ndarray, X_scale: np.ndarray, groups: int, threads: int) -> np.ndarray:
    """The sum over groups of columns of their integer products times their scales."""
    size = W.K // groups
    if size % WORD:
        raise ValueError(f"W and X must have groups of a multiple of {WORD} columns to be multiplied, got {size}")
    total, planes = np.zeros((W.shape[0], X.shape[0])), (words(W), words(X))
    for g in range(groups):
        inside = slice(g * size // WORD, (g + 1) * size // WORD)
        product = _multiply_planes(*(np.ascontiguousarray(plane[:, :, inside]) for plane in planes), size, threads, np.int64)
        total += product * (W_scale[:, min(g, W_scale.shape[1] - 1), None] * X_scale[:, min(g, X_scale.shape[1] - 1)])
    return total.astype(np.float32)


def _group_scales(tensor: BipolarTensor) -> np.ndarray:
    if tensor.scale is None:
        return np.ones((tensor.shape[0], 1))
    scale = to_numpy(tensor.scale).astype(np.float64)
    return scale[:, None] if scale.ndim == 1 else scale


def _group_count(tensor: BipolarTensor) -> int:
    return 1 if tensor.scale is None or len(tensor.scale.shape) == 1 else tensor.scale.shape[1]


def _check_factors(W: BipolarTensor, X: BipolarTensor) -> None:
    for value, name in ((W, "W"), (X, "X")):
        if not isinstance(value, BipolarTensor):
            raise TypeError(f"{name} must be a BipolarTensor, got {type(value).__name__}")
    if X.K != W.K:
        raise ValueError(f"X must have as many columns as W, {W.K}, got {X.K}")
    if is_torch(W.packed) != is_torch(X.packed) or (is_torch(W.packed) and W.packed.device != X.packed.device):
        raise TypeError("X must be of the kind and on the device of W: both NumPy, or both tensors")
    if 1 < _group_count(W) != _group_count(X) > 1:
        raise ValueError(f"X must have as many groups of scales as W, {_group_count(W)}, got {_group_count(X)}")


def _integers(values) -> np.ndarray:
    x = to_numpy(values, "values")
    if x.dtype.kind not in "iu":
        raise TypeError(f"values must be an array of integers, got dtype {x.dtype}")
    if x.ndim != 2 or x.size == 0:
        raise ValueError(f"values must be a matrix that is not empty, got shape {x.shape}")
    return x.astype(np.int64)


def _check_range(x: np.ndarray, least: int, largest: int, bits: int) -> None:
    if x.min() < least or x.max() > largest:
        raise ValueError(f"values must be from {least} to {largest} for {bits} bits, got {x.min()} to {x.max()}")


@intrinsic
def _count_bits(typing_context, word):
    """The number of ones of a 64-bit word: one instruction, or a few for four words at once."""
    return types.uint64(types.uint64), lambda context, builder, signature, arguments: builder.ctpop(arguments[0])


@njit(cache=True, nogil=True)
def _pack(codes, packed):
    """`codes` holds eight codes a word; a product gathers bit i of each of the eight in one byte."""
    ones, gather = np.uint64(0x0101010101010101), np.uint64(0x0102040810204080)
    for row in range(packed.shape[0]):
        for i in range(packed.shape[1]):
            for t in range(packed.shape[2]):
                word = np.uint64(0)
                for byte in range(8):
                    bits = (codes[row, 8 * t + byte] >> np.uint64(i)) & ones
                    word |= ((bits * gather) >> np.uint64(56)) << np.uint64(8 * byte)
                packed[row, i, t] = word


@njit(cache=True, nogil=True)
def _unpack(packed, codes):
    for row in range(codes.shape[0]):
        for k in range(codes.shape[1]):
            code = 0
            for i in range(packed.shape[1]):
                code |= np.int64((packed[row, i, k // WORD] >> np.uint64(k % WORD)) & np.uint64(1)) << i
            codes[row, k] = code


@njit(cache=True, nogil=True)
def _multiply(first, last, W, X, bound, product):
    """Rows [first, last) of W X^T = bound - 2 sum_ij 2^(i+j) popcount(W_i xor X_j), four rows at a time."""
    whole = last - (last - first) % 4
    for block in range(0, X.shape[0], COLUMN_BLOCK):
        for m in range(first, whole, 4):
            for n in range(block, min(block + COLUMN_BLOCK, X.shape[0])):
                d0, d1, d2, d3 = np.int64(0), np.int64(0), np.int64(0), np.int64(0)
                for i in range(W.shape[1]):
                    w0, w1, w2, w3 = W[m, i], W[m + 1, i], W[m + 2, i], W[m + 3, i]
                    for j in range(X.shape[1]):
                        x, a0, a1, a2, a3 = X[n, j], np.uint64(0), np.uint64(0), np.uint64(0), np.uint64(0)
                        for t in range(X.shape[2]):
                            a0 += _count_bits(w0[t] ^ x[t])
                            a1 += _count_bits(w1[t] ^ x[t])
                            a2 += _count_bits(w2[t] ^ x[t])
                            a3 += _count_bits(w3[t] ^ x[t])
                        d0 += np.int64(a0) << (i + j)
                        d1 += np.int64(a1) << (i + j)
                        d2 += np.int64(a2) << (i + j)
                        d3 += np.int64(a3) << (i + j)
                product[m, n], product[m + 1, n] = bound - 2 * d0, bound - 2 * d1
                product[m + 2, n], product[m + 3, n] = bound - 2 * d2, bound - 2 * d3
    for m in range(whole, last):
        for n in range(X.shape[0]):
            product[m, n] = bound - 2 * _distance(W[m], X[n])


@njit(cache=True, nogil=True)
def _distance(w, x):
    total = np.int64(0)
    for i in range(w.shape[0]):
        for j in range(x.shape[0]):
            count = np.uint64(0)
            for t in range(x.shape[1]):
                count += _count_bits(w[i, t] ^ x[j, t])
            total += np.int64(count) << (i + j)
    return total
