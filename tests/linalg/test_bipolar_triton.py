"""The CUDA kernel gives the integers of the other one."""

import itertools

import numpy as np
import pytest
import torch

from ritz.linalg import BipolarTensor, bipolar_matmul
from ritz.linalg.bipolar_triton import multiply_on_cuda


def odd(rows, K, bits):
    return torch.from_numpy(2 * np.random.default_rng(rows + K).integers(0, 2**bits, (rows, K)) - (2**bits - 1))


@pytest.mark.gpu
@pytest.mark.parametrize("widths", list(itertools.product((1, 2, 3, 7, 8), repeat=2)), ids=str)
def test_the_product_is_exact(widths):
    for M, N, K in ((70, 5, 130), (1, 1, 1), (64, 128, 4097)):
        w, x = odd(M, K, widths[0]), odd(N, K, widths[1])
        found = bipolar_matmul(BipolarTensor.from_int(w.cuda(), widths[0]), BipolarTensor.from_int(x.cuda(), widths[1]))
        assert found.is_cuda
        assert torch.equal(found.cpu().long(), w @ x.T)


@pytest.mark.gpu
def test_what_does_not_fit_32_bits_is_refused():
    wide = torch.zeros((1, 8, 600), dtype=torch.int64, device="cuda")
    with pytest.raises(ValueError, match="too wide for 32-bit sums"):
        multiply_on_cuda(wide, wide, 600 * 64)
