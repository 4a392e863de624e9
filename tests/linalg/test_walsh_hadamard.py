"""The Walsh-Hadamard transform against the matrix, its involution, kinds of input, gradients."""

import numpy as np
import pytest
import scipy.linalg
import torch
from specimens import Specimen

from ritz.linalg import walsh_hadamard
from ritz.linalg.walsh_hadamard import sampled_transform

SPECIMENS = {"walsh_hadamard": Specimen(walsh_hadamard, lambda: {"X": np.arange(8.0)})}
RNG = np.random.default_rng(0)


@pytest.mark.parametrize("n", [1, 2, 4, 8, 16, 128, 1024])
@pytest.mark.parametrize("k", [1, 2, 5, 33])
def test_it_is_the_product_with_the_matrix(n, k):
    X = RNG.standard_normal((n, k))
    np.testing.assert_allclose(walsh_hadamard(X), scipy.linalg.hadamard(n) @ X, atol=1e-11)
    np.testing.assert_allclose(walsh_hadamard(torch.from_numpy(X)).numpy(), walsh_hadamard(X), atol=1e-11)


@pytest.mark.parametrize(("n", "k"), [(1 << 16, 1), (1 << 15, 3), (1 << 13, 40)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
def test_twice_gives_n_times_the_input(n, k, dtype):
    X = RNG.standard_normal((n, k)).astype(dtype) * (1 + 1j if dtype.startswith("complex") else 1)
    Y = walsh_hadamard(X)
    assert Y.dtype == X.dtype
    tolerance = 1e-4 if dtype in ("float32", "complex64") else 1e-11
    np.testing.assert_allclose(walsh_hadamard(Y) / n, X, atol=tolerance)
    np.testing.assert_allclose(np.linalg.norm(Y), np.sqrt(n) * np.linalg.norm(X), rtol=tolerance)
    np.testing.assert_allclose(walsh_hadamard(torch.from_numpy(X)).numpy(), Y, rtol=1e-3, atol=tolerance * n)


def test_views_are_not_changed_and_vectors_stay_vectors():
    wide = np.asfortranarray(RNG.standard_normal((16, 6)))
    before = wide.copy()
    assert walsh_hadamard(wide[:, 2]).shape == (16,)
    np.testing.assert_allclose(walsh_hadamard(wide[:, ::2]), scipy.linalg.hadamard(16) @ wide[:, ::2], atol=1e-12)
    assert np.array_equal(wide, before)


@pytest.mark.parametrize("n", [1, 3, 16, 100])
def test_zeros_are_appended_and_the_norm_is_kept(n):
    padded = 1 << (n - 1).bit_length()
    X, signs = RNG.standard_normal((n, 70)), RNG.choice([-1.0, 1.0], n)
    found = sampled_transform(X, signs, padded, np.arange(padded), 1 / np.sqrt(padded))
    whole = np.zeros((padded, 70))
    whole[:n] = signs[:, None] * X
    np.testing.assert_allclose(found, scipy.linalg.hadamard(padded) @ whole / np.sqrt(padded), atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(found, axis=0), np.linalg.norm(X, axis=0), rtol=1e-12)


def test_gradients_pass():
    x = torch.randn(8, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(walsh_hadamard, x)


def test_other_sizes_are_refused():
    with pytest.raises(ValueError, match="X must have a power of two"):
        walsh_hadamard(np.ones(6))
