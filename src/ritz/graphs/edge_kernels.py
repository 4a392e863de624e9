"""Sums over a node's in-neighbors that store nothing for each edge: compiled loops over CSR on the CPU, with their gradients.

A sum over neighbors v of a node u runs over the edges sorted by target; its gradient with respect to v runs over them sorted by source.
"""

from __future__ import annotations

import torch
from numba import njit, prange

from ritz.graphs.sparse_products import multiply_rows


class EdgeOrder:
    """The edges (2, E) of a graph sorted by target and by source, with the weights of sums, means and normalized sums in both orders."""

    def __init__(self, edge_index: torch.Tensor, sources: int, targets: int):
        by_target, by_source = edge_index[1].argsort(stable=True), edge_index[0].argsort(stable=True)
        self.edge_index, self.sources, self.targets = edge_index, sources, targets
        self.pointer, self.source, self._by_target = _pointer(edge_index[1], targets), edge_index[0][by_target], by_target
        self.back_pointer, self.target, self._by_source = _pointer(edge_index[0], sources), edge_index[1][by_source], by_source
        self._weights: dict[tuple[str, torch.dtype], tuple[torch.Tensor, torch.Tensor]] = {}

    def weights(self, how: str, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """The weights of `edge_weights`, sorted by target and by source."""
        if (how, dtype) not in self._weights:
            weights = edge_weights(self.edge_index, self.sources, self.targets, how, dtype)
            self._weights[how, dtype] = weights[self._by_target], weights[self._by_source]
        return self._weights[how, dtype]


def edge_weights(edge_index: torch.Tensor, sources: int, targets: int, how: str, dtype: torch.dtype) -> torch.Tensor:
    """The weights (E,) that make sums over in-neighbors a "sum", a "mean", or "sym": 1 / sqrt(indegree(target) outdegree(source))."""
    if how == "sum":
        return torch.ones(edge_index.shape[1], dtype=dtype, device=edge_index.device)
    indegree = torch.bincount(edge_index[1], minlength=targets).to(dtype)[edge_index[1]]
    if how == "mean":
        return 1 / indegree
    return (indegree * torch.bincount(edge_index[0], minlength=sources).to(dtype)[edge_index[0]]).rsqrt()


def neighbor_sum(x: torch.Tensor, order: EdgeOrder, how: str) -> torch.Tensor:
    """Return the weighted sums (targets, F) of x_source over the edges into each node."""
    return _NeighborSum.apply(x, order, how)


def neighbor_relu_sum(q: torch.Tensor, k: torch.Tensor, order: EdgeOrder, how: str) -> torch.Tensor:
    """Return the weighted sums (targets, F) of relu(q_target + k_source) over the edges into each node, without a number per edge and channel."""
    return _NeighborReluSum.apply(q, k, order, how)


class _NeighborSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, order, how):
        ctx.order, ctx.how = order, how
        return _multiplied(order.pointer, order.source, order.weights(how, x.dtype)[0], x)

    @staticmethod
    def backward(ctx, gradient):
        order = ctx.order
        return _multiplied(order.back_pointer, order.target, order.weights(ctx.how, gradient.dtype)[1], gradient), None, None


class _NeighborReluSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, order, how):
        q, k = q.contiguous(), k.contiguous()
        ctx.save_for_backward(q, k)
        ctx.order, ctx.how = order, how
        total = torch.empty_like(q)
        _relu_sums(*_arrays(order.pointer, order.source, order.weights(how, q.dtype)[0], q, k, total))
        return total

    @staticmethod
    def backward(ctx, gradient):
        q, k = ctx.saved_tensors
        order, gradient = ctx.order, gradient.contiguous()
        forward, backward = order.weights(ctx.how, q.dtype)
        q_gradient, k_gradient = torch.empty_like(q), torch.empty_like(k)
        _count_open(*_arrays(order.pointer, order.source, forward, q, k, q_gradient))
        _spread_open(*_arrays(order.back_pointer, order.target, backward, k, q, gradient, k_gradient))
        return q_gradient.mul_(gradient), k_gradient, None, None


def _pointer(ends: torch.Tensor, count: int) -> torch.Tensor:
    pointer = torch.zeros(count + 1, dtype=torch.long)
    torch.cumsum(torch.bincount(ends, minlength=count), 0, out=pointer[1:])
    return pointer


def _arrays(*tensors: torch.Tensor):
    return tuple(tensor.detach().numpy() for tensor in tensors)


def _multiplied(pointer, indices, weight, x) -> torch.Tensor:
    total = x.new_empty(len(pointer) - 1, x.shape[1])
    rows = torch.arange(len(total))
    multiply_rows(*_arrays(pointer, indices, weight, x.contiguous(), rows, total))
    return total


@njit(cache=True, nogil=True, parallel=True, fastmath={"contract", "nsz"})
def _relu_sums(pointer, source, weight, q, k, total):
    for u in prange(q.shape[0]):
        mine, sums = q[u], total[u]
        sums[:] = 0
        for e in range(pointer[u], pointer[u + 1]):
            other, w = k[source[e]], weight[e]
            for j in range(mine.shape[0]):
                sums[j] += w * max(mine[j] + other[j], 0)


@njit(cache=True, nogil=True, parallel=True, fastmath={"contract", "nsz"})
def _count_open(pointer, source, weight, q, k, total):
    """The weight of the edges into u whose channel is open."""
    for u in prange(q.shape[0]):
        mine, sums = q[u], total[u]
        sums[:] = 0
        for e in range(pointer[u], pointer[u + 1]):
            other, w = k[source[e]], weight[e]
            for j in range(mine.shape[0]):
                sums[j] += w if mine[j] + other[j] > 0 else 0


@njit(cache=True, nogil=True, parallel=True, fastmath={"contract", "nsz"})
def _spread_open(pointer, target, weight, k, q, gradient, total):
    """What the edges out of v bring back from their targets through open channels."""
    for v in prange(k.shape[0]):
        mine, sums = k[v], total[v]
        sums[:] = 0
        for e in range(pointer[v], pointer[v + 1]):
            u, w = target[e], weight[e]
            other, back = q[u], gradient[u]
            for j in range(mine.shape[0]):
                sums[j] += w * back[j] if mine[j] + other[j] > 0 else 0
