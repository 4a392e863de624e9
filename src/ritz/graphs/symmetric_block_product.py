"""Products of a symmetric sparse matrix of small blocks with node features, in one pass over the edges, forward and backward."""

from __future__ import annotations

import numba
import torch
from numba import njit, prange

from ritz.graphs.edge_structure import EdgeStructure

LEAST_PARALLEL = 200_000  # multiplications below which threads cost more than they give


def symmetric_block_product(structure: EdgeStructure, diagonal: torch.Tensor, blocks: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Return y_v = diagonal_v x_v + sum over neighbors u of blocks_vu x_u.

    Parameters
    ----------
    structure : EdgeStructure
        Of a graph with n nodes and E directed edges.
    diagonal : Tensor (n, d, d) or (n, d)
        Symmetric blocks, or their diagonals where all blocks are diagonal.
    blocks : Tensor (E, d, d) or (E, d)
        Of the edges in sorted order; the reverse of an edge has the transposed block, which the backward pass relies on.
    x : Tensor (n, d, h)
        Node features.
    """
    if x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64):
        return _CompiledProduct.apply(structure, diagonal.contiguous(), blocks.contiguous(), x.contiguous())
    return plain_block_product(structure, diagonal, blocks, x)


def plain_block_product(structure: EdgeStructure, diagonal: torch.Tensor, blocks: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The same by torch's own operations, on any device."""
    if blocks.dim() == 2:
        return (diagonal[:, :, None] * x).index_add(0, structure.rows, blocks[:, :, None] * x[structure.columns])
    return (diagonal @ x).index_add(0, structure.rows, blocks @ x[structure.columns])


class _CompiledProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx, structure, diagonal, blocks, x):
        ctx.structure = structure
        ctx.save_for_backward(diagonal, blocks, x)
        return _multiplied(structure, diagonal, blocks, x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        diagonal, blocks, x = ctx.saved_tensors
        gradient = gradient.contiguous()
        of_x = _multiplied(ctx.structure, diagonal, blocks, gradient) if ctx.needs_input_grad[3] else None
        if not any(ctx.needs_input_grad[1:3]):
            return None, None, None, of_x
        of_diagonal, of_blocks = torch.empty_like(diagonal), torch.empty_like(blocks)
        _run((_outer_diagonal, _outer_full), ctx.structure, blocks, x, gradient, x, of_diagonal, of_blocks)
        return None, of_diagonal, of_blocks, of_x


def _multiplied(structure, diagonal, blocks, x):
    product = torch.empty_like(x)
    _run((_multiply_diagonal, _multiply_full), structure, blocks, x, diagonal, blocks, x, product)
    return product


def _run(kernels: tuple, structure: EdgeStructure, blocks: torch.Tensor, x: torch.Tensor, *tensors: torch.Tensor) -> None:
    """Run the kernel for diagonal or full blocks, on all threads if there is enough to do for them."""
    threads = numba.get_num_threads()
    numba.set_num_threads(threads if blocks.numel() * x.shape[-1] >= LEAST_PARALLEL else 1)
    try:
        kernel = kernels[0] if blocks.dim() == 2 else kernels[1]
        kernel(*(tensor.detach().numpy() for tensor in (structure.indptr, structure.columns, *tensors)))
    finally:
        numba.set_num_threads(threads)


@njit(cache=True, nogil=True, parallel=True, fastmath={"contract"})
def _multiply_diagonal(indptr, columns, diagonal, blocks, x, product):
    for v in prange(product.shape[0]):
        for i in range(x.shape[1]):
            for c in range(x.shape[2]):
                product[v, i, c] = diagonal[v, i] * x[v, i, c]
        for e in range(indptr[v], indptr[v + 1]):
            u = columns[e]
            for i in range(x.shape[1]):
                weight = blocks[e, i]
                for c in range(x.shape[2]):
                    product[v, i, c] += weight * x[u, i, c]


@njit(cache=True, nogil=True, parallel=True, fastmath={"contract"})
def _multiply_full(indptr, columns, diagonal, blocks, x, product):
    for v in prange(product.shape[0]):
        for i in range(x.shape[1]):
            product[v, i] = 0.0
            for j in range(x.shape[1]):
                weight = diagonal[v, i, j]
                for c in range(x.shape[2]):
                    product[v, i, c] += weight * x[v, j, c]
        for e in range(indptr[v], indptr[v + 1]):
            u = columns[e]
            for i in range(x.shape[1]):
                for j in range(x.shape[1]):
                    weight = blocks[e, i, j]
                    for c in range(x.shape[2]):
                        product[v, i, c] += weight * x[u, j, c]


@njit(cache=True, nogil=True, parallel=True, fastmath={"contract"})
def _outer_diagonal(indptr, columns, gradient, x, of_diagonal, of_blocks):
    for v in prange(x.shape[0]):
        for i in range(x.shape[1]):
            of_diagonal[v, i] = _dot(gradient[v, i], x[v, i])
        for e in range(indptr[v], indptr[v + 1]):
            for i in range(x.shape[1]):
                of_blocks[e, i] = _dot(gradient[v, i], x[columns[e], i])


@njit(cache=True, nogil=True, parallel=True, fastmath={"contract"})
def _outer_full(indptr, columns, gradient, x, of_diagonal, of_blocks):
    for v in prange(x.shape[0]):
        for i in range(x.shape[1]):
            for j in range(x.shape[1]):
                of_diagonal[v, i, j] = _dot(gradient[v, i], x[v, j])
        for e in range(indptr[v], indptr[v + 1]):
            for i in range(x.shape[1]):
                for j in range(x.shape[1]):
                    of_blocks[e, i, j] = _dot(gradient[v, i], x[columns[e], j])


@njit(cache=True, nogil=True, fastmath=True)
def _dot(a, b):
    total = a[0] * b[0]
    for c in range(1, a.shape[0]):
        total += a[c] * b[c]
    return total
