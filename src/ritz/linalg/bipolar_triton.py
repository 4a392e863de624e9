"""The exact product of bit planes on CUDA: planes become 8-bit odd integers in registers, tensor cores multiply those.

Planes stay packed in memory, so as many bits are read as the matrices have. Codes of up to 7 bits are odd integers of magnitude at most 127; eight
bits are split into two groups of four, x = 16 x_high + x_low: the decomposition into planes with radix 16 in place of 2.
PyTorch for CUDA brings Triton; without it the kernels below are plain functions that nobody calls.
"""

from __future__ import annotations

import torch

from ritz.core import MissingExtra

try:
    import triton
    from triton import language as tl

    kernel = triton.jit
except ModuleNotFoundError:
    triton = None

    def kernel(function):
        return function


TILE_ROWS, TILE_COLUMNS, TILE_K = 64, 64, 128


def multiply_on_cuda(W: torch.Tensor, X: torch.Tensor, K: int) -> torch.Tensor:
    """Return W X^T of packed planes (M, n_W, words) and (N, n_X, words), int64, as integers (M, N), int32.

    Raises
    ------
    ValueError
        If an entry could reach 2^31.
    """
    if triton is None:
        raise MissingExtra("this needs the library 'triton', which comes with PyTorch for CUDA")
    bound = K * (2 ** W.shape[1] - 1) * (2 ** X.shape[1] - 1)
    if bound >= 2**31:
        raise ValueError(f"W and X are too wide for 32-bit sums on CUDA: entries can reach {bound}")
    W, X = (planes.contiguous().view(torch.int32) for planes in (W, X))
    M, N = W.shape[0], X.shape[0]
    product = torch.empty((M, N), dtype=torch.int32, device=W.device)
    grid = (triton.cdiv(M, TILE_ROWS), triton.cdiv(N, TILE_COLUMNS))
    _multiply[grid](W, X, product, M, N, K, W.shape[2], W.shape[1], X.shape[1], TILE_ROWS, TILE_COLUMNS, TILE_K)
    return product


@kernel
def _integers(planes, rows, row_count, k, K, word_count, FIRST: tl.constexpr, LAST: tl.constexpr, BITS: tl.constexpr):
    """The odd integers of planes [FIRST, LAST) at `rows` x `k`, 8 bits wide; zero outside."""
    inside = (rows[:, None] < row_count) & (k[None, :] < K)
    code = tl.zeros((rows.shape[0], k.shape[0]), tl.int32)
    for i in tl.static_range(FIRST, LAST):
        word = tl.load(planes + (rows[:, None] * BITS + i) * word_count + k[None, :] // 32, mask=inside, other=0)
        code += ((word >> (k[None, :] % 32)) & 1) << (i - FIRST)
    return tl.where(inside, 2 * code - ((1 << (LAST - FIRST)) - 1), 0).to(tl.int8)


@kernel
def _multiply(
    W,
    X,
    product,
    M,
    N,
    K,
    word_count,
    W_BITS: tl.constexpr,
    X_BITS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    STEP: tl.constexpr,
):
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    W_LOW: tl.constexpr = 4 if W_BITS == 8 else W_BITS
    X_LOW: tl.constexpr = 4 if X_BITS == 8 else X_BITS
    total = tl.zeros((ROWS, COLUMNS), tl.int32)
    for begin in range(0, K, STEP):
        k = begin + tl.arange(0, STEP)
        w = _integers(W, rows, M, k, K, word_count, 0, W_LOW, W_BITS)
        x = tl.trans(_integers(X, columns, N, k, K, word_count, 0, X_LOW, X_BITS))
        total += tl.dot(w, x, out_dtype=tl.int32)
        if W_BITS == 8:
            w_high = _integers(W, rows, M, k, K, word_count, 4, 8, W_BITS)
            total += 16 * tl.dot(w_high, x, out_dtype=tl.int32)
        if X_BITS == 8:
            x_high = tl.trans(_integers(X, columns, N, k, K, word_count, 4, 8, X_BITS))
            total += 16 * tl.dot(w, x_high, out_dtype=tl.int32)
        if (W_BITS == 8) and (X_BITS == 8):
            total += 256 * tl.dot(w_high, x_high, out_dtype=tl.int32)
    inside = (rows[:, None] < M) & (columns[None, :] < N)
    tl.store(product + rows[:, None] * N + columns[None, :], total, mask=inside)
