"""Long convolutions over the last axis by FFT, in O(L log L). The transforms are padded to at least 2L, so that nothing wraps around."""

from __future__ import annotations

import torch
from scipy.fft import next_fast_len
from torch.nn.functional import pad


def causal_convolution(signal: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """y_t = sum over l = 0..t of kernel_l signal_{t-l}, real, both of shape (..., L); the leading shapes broadcast.

    Equal to the direct sum up to the rounding of the transform, which spreads over all of y: a later input can change an earlier output's last bits.

    Examples
    --------
    >>> causal_convolution(torch.tensor([1.0, 0.0, 2.0]), torch.tensor([3.0, 2.0, 1.0])).round()
    tensor([3., 2., 7.])
    """
    return _CircularConvolution.apply(signal, kernel, _padded(signal))


def two_sided_convolution(signal: torch.Tensor, kernel: torch.Tensor, reverse_kernel: torch.Tensor) -> torch.Tensor:
    """`causal_convolution` plus the future: reverse_kernel_j weighs the signal j + 1 steps ahead.

    Examples
    --------
    >>> two_sided_convolution(torch.tensor([1.0, 0.0, 2.0]), torch.tensor([3.0, 2.0, 1.0]), torch.tensor([10.0, 20.0, 30.0])).round()
    tensor([43., 22.,  7.])
    """
    length, size = signal.shape[-1], _padded(signal)
    ahead = reverse_kernel[..., : length - 1].flip(-1)
    return _CircularConvolution.apply(signal, pad(kernel, (0, size - length)) + pad(ahead, (size - length + 1, 0)), size)


def _padded(signal: torch.Tensor) -> int:
    return next_fast_len(2 * signal.shape[-1], real=True)


class _CircularConvolution(torch.autograd.Function):
    """Convolution of period `size`. The backward pass is two correlations of real signals, for which torch would take complex transforms."""

    @staticmethod
    def forward(ctx, signal, kernel, size):
        signal_spectrum, kernel_spectrum = torch.fft.rfft(signal, n=size), torch.fft.rfft(kernel, n=size)
        ctx.save_for_backward(signal_spectrum, kernel_spectrum)
        ctx.size, ctx.lengths = size, (signal.shape[-1], kernel.shape[-1])
        return torch.fft.irfft(signal_spectrum * kernel_spectrum, n=size)[..., : signal.shape[-1]]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        signal_spectrum, kernel_spectrum = ctx.saved_tensors
        spectrum = torch.fft.rfft(gradient, n=ctx.size)
        for_signal = (spectrum * kernel_spectrum.conj()).sum_to_size(signal_spectrum.shape)
        for_kernel = (spectrum * signal_spectrum.conj()).sum_to_size(kernel_spectrum.shape)
        return *(torch.fft.irfft(s, n=ctx.size)[..., :length] for s, length in zip((for_signal, for_kernel), ctx.lengths)), None
