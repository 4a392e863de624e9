"""FFT convolutions against direct sums, their gradients, and no wrap-around."""

import numpy as np
import pytest
import torch

from ritz.sequence.convolution import causal_convolution, two_sided_convolution


def _random(*shape, dtype=torch.float64):
    return torch.from_numpy(np.random.default_rng(sum(shape)).standard_normal(shape)).to(dtype)


@pytest.mark.parametrize("length", [1, 2, 7, 64, 129])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_causal_convolution_is_the_direct_sum(length, dtype, tolerance):
    signal, kernel = _random(2, 3, length, dtype=dtype), _random(3, length, dtype=dtype)
    direct = np.array([[np.convolve(s, k)[:length] for s, k in zip(batch, kernel.numpy())] for batch in signal.numpy()])
    result = causal_convolution(signal, kernel)
    assert result.dtype == dtype
    assert np.abs(result.numpy() - direct).max() <= tolerance * np.abs(direct).max()


@pytest.mark.parametrize("length", [1, 2, 7, 64])
def test_two_sided_convolution_adds_the_reversed_kernel_ahead(length):
    signal, kernel, reverse = _random(3, length), _random(3, length), _random(1, 3, length)[0]
    direct = torch.zeros_like(signal)
    for t in range(length):
        for s in range(length):
            weight = kernel[:, t - s] if s <= t else reverse[:, s - t - 1]
            direct[:, t] += weight * signal[:, s]
    torch.testing.assert_close(two_sided_convolution(signal, kernel, reverse), direct, rtol=1e-10, atol=1e-10)


def test_gradients():
    signal, kernel, reverse = (_random(*shape).requires_grad_() for shape in ((2, 3, 9), (3, 9), (1, 3, 9)))
    assert torch.autograd.gradcheck(causal_convolution, (signal, kernel))
    assert torch.autograd.gradcheck(lambda s, k, r: two_sided_convolution(s, k, r[0]), (signal, kernel, reverse))


def test_a_signal_without_batch_broadcasts_over_kernels_and_back():
    signal, kernels = _random(5).requires_grad_(), _random(4, 5).requires_grad_()
    assert causal_convolution(signal, kernels).shape == (4, 5)
    assert torch.autograd.gradcheck(causal_convolution, (signal, kernels))
