"""The matrix product in tiles: the kernel whose tile sizes are worth choosing.

C is computed tile by tile; for each, tiles of A and B that stay in cache (on a GPU: in shared memory) are multiplied and added up. The kernel of the
measurements in "Understanding GEMM Performance and Energy on NVIDIA Ada Lovelace", arXiv:2411.16954, for CPU caches.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit

from ritz.core import integer, is_torch, like, matrix, to_numpy

DEFAULT_TILES = (64, 256, 64)


def tiled_matmul(A, B, *, tiles: Sequence[int] = DEFAULT_TILES):
    """Return A B, computed in tiles of C of ``tiles[0] x tiles[1]``, in steps of ``tiles[2]`` along the inner dimension.

    It does not beat BLAS, and is not meant to: it is a kernel whose speed depends on its tiles as that of hand-written kernels does.

    Parameters
    ----------
    A : array or torch tensor (m, k)
        float32 or float64. CUDA tensors go through a Triton kernel (tiles must then be powers of two from 16 on).
    B : array or torch tensor (k, n)
        Of the kind and dtype of A.
    tiles : three int
        Sizes (tile_m, tile_n, tile_k), at least 1; larger than the matrix counts as the matrix.

    Returns
    -------
    array (m, n)
        Of the kind and dtype of A; zeros where k = 0.

    Raises
    ------
    ValueError, TypeError
        If shapes or kinds do not meet, entries are not finite, or a tile size is no positive integer.

    Notes
    -----
    2 m n k operations on one thread, with the order of the sums left to the compiler.

    Examples
    --------
    >>> tiled_matmul(np.eye(2), np.array([[1.0, 2.0], [3.0, 4.0]]), tiles=(1, 1, 1))
    array([[1., 2.],
           [3., 4.]])
    """
    A, B = matrix(A, "A", allow_empty=True), matrix(B, "B", allow_empty=True)
    if is_torch(A) != is_torch(B) or A.dtype != B.dtype:
        raise TypeError(f"B must be of the kind and dtype of A, {type(A).__name__} of {A.dtype}, got {type(B).__name__} of {B.dtype}")
    if A.shape[1] != B.shape[0]:
        raise ValueError(f"B must have {A.shape[1]} rows, as many as A has columns, got shape {tuple(B.shape)}")
    tiles = tile_sizes(tiles)
    if is_torch(A) and A.device.type == "cuda":
        from ritz.linalg.tiled_matmul_triton import multiply_on_cuda

        return multiply_on_cuda(A.detach(), B.detach(), tiles)
    a, b = (np.ascontiguousarray(to_numpy(X)) for X in (A, B))
    if a.dtype not in (np.float32, np.float64):
        raise TypeError(f"A must be of float32 or float64, got {a.dtype}")
    return like(multiply_in_tiles(a, b, tiles), A)


def multiply_in_tiles(A: np.ndarray, B: np.ndarray, tiles: tuple[int, int, int]) -> np.ndarray:
    """The product of two C-contiguous matrices of one dtype, unchecked."""
    C = np.zeros((A.shape[0], B.shape[1]), dtype=A.dtype)
    _multiply(A, B, C, *tiles)
    return C


def tile_sizes(tiles: Sequence[int], name: str = "tiles") -> tuple[int, int, int]:
    """Check three tile sizes."""
    if not isinstance(tiles, Sequence | np.ndarray) or isinstance(tiles, str) or len(tiles) != 3:
        raise ValueError(f"{name} must be three sizes (tile_m, tile_n, tile_k), got {tiles!r}")
    return tuple(integer(size, f"{name}[{i}]", at_least=1) for i, size in enumerate(tiles))


@njit(cache=True, nogil=True, fastmath=True)
def _multiply(A, B, C, tile_m, tile_n, tile_k):
    m, k = A.shape
    n = B.shape[1]
    for i0 in range(0, m, tile_m):
        for k0 in range(0, k, tile_k):
            for j0 in range(0, n, tile_n):
                last_j = min(j0 + tile_n, n)
                for i in range(i0, min(i0 + tile_m, m)):
                    c = C[i, j0:last_j]
                    for p in range(k0, min(k0 + tile_k, k)):
                        a, b = A[i, p], B[p, j0:last_j]
                        for j in range(c.size):
                            c[j] += a * b[j]
