"""The tiled product on CUDA: a Triton kernel with the tile sizes of `tiled_matmul`.

PyTorch for CUDA brings Triton; without it the kernel below is a plain function that nobody calls.
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


SMALLEST_TILE = 16  # of a tensor core's product


def multiply_on_cuda(A: torch.Tensor, B: torch.Tensor, tiles: tuple[int, int, int]) -> torch.Tensor:
    """Return A B for CUDA matrices of one floating dtype.

    Raises
    ------
    ValueError
        If a tile size is no power of two, or below 16.
    """
    if triton is None:
        raise MissingExtra("this needs the library 'triton', which comes with PyTorch for CUDA")
    for size in tiles:
        if size < SMALLEST_TILE or size & (size - 1):
            raise ValueError(f"tiles must be powers of two from {SMALLEST_TILE} on for CUDA tensors, got {tiles}")
    (m, k), n = A.shape, B.shape[1]
    A, B = A.contiguous(), B.contiguous()
    C = torch.zeros((m, n), dtype=A.dtype, device=A.device)
    if C.numel() and k:
        grid = (triton.cdiv(m, tiles[0]), triton.cdiv(n, tiles[1]))
        _multiply[grid](A, B, C, m, n, k, *tiles)
    return C


@kernel
def _multiply(A, B, C, m, n, k, TILE_M: tl.constexpr, TILE_N: tl.constexpr, TILE_K: tl.constexpr):
    rows = tl.program_id(0) * TILE_M + tl.arange(0, TILE_M)
    columns = tl.program_id(1) * TILE_N + tl.arange(0, TILE_N)
    total = tl.zeros((TILE_M, TILE_N), dtype=C.dtype.element_ty)
    for first in range(0, k, TILE_K):
        inner = first + tl.arange(0, TILE_K)
        a = tl.load(A + rows[:, None] * k + inner[None, :], mask=(rows[:, None] < m) & (inner[None, :] < k), other=0.0)
        b = tl.load(B + inner[:, None] * n + columns[None, :], mask=(inner[:, None] < k) & (columns[None, :] < n), other=0.0)
        total += tl.dot(a, b, input_precision="ieee", out_dtype=C.dtype.element_ty)
    tl.store(C + rows[:, None] * n + columns[None, :], total, mask=(rows[:, None] < m) & (columns[None, :] < n))
