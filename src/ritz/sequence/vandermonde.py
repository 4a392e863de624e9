"""Kernels of diagonal state-space models: K_l = 2 Re sum_n C_n exp(l dtA_n), l = 0..L-1, in memory O(N sqrt(L) + L) rather than O(N L).

With l = b T + j the exponential factors, exp(l z) = exp(b T z) exp(j z), so that two tables of about sqrt(L) powers and one real matrix product
of inner size N give all L values. The tables are built by doubling in double precision: phases l Im(dtA) reach 1e6, of which single precision
would keep no digit. The backward pass rebuilds the tables instead of storing them.

The kernel is that of Gu et al., "On the Parameterization and Initialization of Diagonal State Space Models", NeurIPS 2022, arXiv:2206.11893.
"""

from __future__ import annotations

import math

import torch

from ritz.core import array, integer


def vandermonde_kernel(C: torch.Tensor, dtA: torch.Tensor, L: int) -> torch.Tensor:
    """Evaluate K_l = 2 Re sum_n C_n exp(l dtA_n) for l = 0..L-1; differentiable in C and dtA.

    Parameters
    ----------
    C : torch.Tensor, shape (..., M)
        Complex weights of M modes (the conjugate modes are implied, hence 2 Re).
    dtA : torch.Tensor, shape (..., M)
        Complex log-poles: step times continuous pole. A leading shape that broadcasts with that of C.
    L : int
        Length of the kernel, at least 1.

    Returns
    -------
    torch.Tensor, shape (..., L)
        Real, in the precision of C and dtA (at least float32).

    Raises
    ------
    TypeError, ValueError
        If C or dtA is no finite, non-empty floating tensor, the shapes do not broadcast, or L is no positive integer.

    Notes
    -----
    O(M L) real multiply-adds per kernel, by matrix products; memory O(M sqrt(L) + L), forward and backward.
    Poles with Re(dtA) > 0 grow without bound and overflow when L Re(dtA) exceeds about 700.

    References
    ----------
    Gu, Gupta, Goel, Ré, "On the Parameterization and Initialization of Diagonal State Space Models", NeurIPS 2022, arXiv:2206.11893, section 3.

    Examples
    --------
    >>> vandermonde_kernel(torch.tensor([0.5 + 0j]), torch.tensor([-math.log(2) + math.pi * 1j]), 4)
    tensor([ 1.0000, -0.5000,  0.2500, -0.1250])
    """
    C, dtA = _modes(C, "C"), _modes(dtA, "dtA")
    L = integer(L, "L", at_least=1)
    if C.device != dtA.device:
        raise ValueError(f"dtA must be on the device of C, {C.device}, got {dtA.device}")
    try:
        torch.broadcast_shapes(C.shape, dtA.shape)
    except RuntimeError:
        raise ValueError(f"dtA must have a shape that broadcasts with that of C, {tuple(C.shape)}, got {tuple(dtA.shape)}") from None
    precision = torch.promote_types(torch.promote_types(C.dtype, dtA.dtype), torch.complex64).to_real()
    return mode_sum(C, dtA, L, precision)


def mode_sum(C: torch.Tensor, log_poles: torch.Tensor, L: int, dtype: torch.dtype) -> torch.Tensor:
    """`vandermonde_kernel` of trusted arguments, with matrix product and result in `dtype`, float32 or float64."""
    C, log_poles = torch.broadcast_tensors(C.to(torch.complex128), log_poles.to(torch.complex128))
    return _ModeSum.apply(C, log_poles, L, dtype)


def powers(log_poles: torch.Tensor, count: int) -> torch.Tensor:
    """exp(l log_poles) for l = 0..count-1 along a new last axis, by doubling: relative error about count times that of the precision.

    Examples
    --------
    >>> powers(torch.tensor([math.log(2.0)]), 5).round()
    tensor([[ 1.,  2.,  4.,  8., 16.]])
    """
    table, factor = torch.ones_like(log_poles).unsqueeze(-1), log_poles.exp().unsqueeze(-1)
    while (known := table.shape[-1]) < count:
        table = torch.cat([table, table[..., : count - known] * factor], dim=-1)
        factor = factor * factor
    return table


class _ModeSum(torch.autograd.Function):
    """The sum over modes with l = b T + j: K = 2 Re(coarse @ fine), coarse_bn = C_n exp(b T z_n), fine_nj = exp(j z_n)."""

    @staticmethod
    def forward(ctx, C, log_poles, L, dtype):
        ctx.save_for_backward(C, log_poles)
        coarse, fine = _tables(log_poles, L)
        coarse = C.unsqueeze(-2) * coarse
        left = torch.cat([2 * coarse.real, -2 * coarse.imag], dim=-1).to(dtype)
        right = torch.cat([fine.real, fine.imag], dim=-2).to(dtype)
        return (left @ right).flatten(-2)[..., :L]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        C, log_poles = ctx.saved_tensors
        coarse, fine = _tables(log_poles, gradient.shape[-1])
        blocks, width = coarse.shape[-2], fine.shape[-1]
        gradient = torch.nn.functional.pad(gradient, (0, blocks * width - gradient.shape[-1])).unflatten(-1, (blocks, width))
        j = torch.arange(width, device=gradient.device, dtype=torch.float64)
        b = torch.arange(blocks, device=gradient.device, dtype=torch.float64).unsqueeze(-1)
        inner = _real_times_complex(gradient, fine.mT)
        inner_weighted = _real_times_complex(gradient, (j * fine).mT)
        moment = (coarse * inner).sum(-2)
        first_moment = (coarse * (width * b * inner + inner_weighted)).sum(-2)
        return 2 * moment.conj(), 2 * (C * first_moment).conj(), None, None


def _tables(log_poles: torch.Tensor, L: int) -> tuple[torch.Tensor, torch.Tensor]:
    """exp(b T z) of shape (..., ceil(L / T), M) and exp(j z) of shape (..., M, T), with T = ceil(sqrt(L))."""
    width = math.isqrt(L - 1) + 1
    return powers(width * log_poles, -(-L // width)).mT, powers(log_poles, width)


def _real_times_complex(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """left @ right in the precision of the real factor, as complex128."""
    product = left @ torch.cat([right.real, right.imag], dim=-1).to(left.dtype)
    return torch.complex(*product.to(torch.float64).chunk(2, dim=-1))


def _modes(value: torch.Tensor, name: str) -> torch.Tensor:
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name} must be a torch tensor, got {type(value).__name__}")
    if value.ndim == 0:
        raise ValueError(f"{name} must have shape (..., M), got a scalar")
    return array(value, name, allow_complex=True)
