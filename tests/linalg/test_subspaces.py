"""Krylov and power spaces: orthonormal bases, their images, no direction twice."""

import numpy as np
import pytest
from linalg.kinds_of_input import orthonormal, with_singular_values

from ritz.linalg.products import as_products
from ritz.linalg.subspaces import krylov_space, power_space, tall_svd


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_the_krylov_space_has_the_power_spaces(dtype):
    dense = with_singular_values(np.arange(30, 0, -1.0), 40, 30, dtype)
    A = as_products(dense)
    start = A.gaussian(np.random.default_rng(0), 30, 4)
    Z, Y = krylov_space(A, A.rmatmat, start, 2)
    assert Z.shape == (30, 12)
    np.testing.assert_allclose(Z.conj().T @ Z, np.eye(12), atol=1e-13)
    np.testing.assert_allclose(Y, dense @ Z, atol=1e-12)
    for depth in range(3):
        P, images = power_space(A, A.rmatmat, start, depth)
        np.testing.assert_allclose(Z @ (Z.conj().T @ P), P, atol=1e-10)
        np.testing.assert_allclose(images, dense @ P, atol=1e-12)


@pytest.mark.parametrize("values", [[5.0, 5.0, 5.0, 5.0, 5.0, 5.0], [3.0, 2.0, 0, 0, 0, 0], [0.0] * 6, [1.0, 1e-5, 1e-9, 1e-12, 0, 0]])
def test_exhausted_spaces_stay_orthonormal(values):
    A = as_products(with_singular_values(values, 20, 6))
    Z, _ = krylov_space(A, A.rmatmat, A.rmatmat(A.gaussian(np.random.default_rng(0), 20, 2)), 5)
    assert 2 <= Z.shape[1] <= 6
    np.testing.assert_allclose(Z.T @ Z, np.eye(Z.shape[1]), atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
@pytest.mark.parametrize("decay", [0.0, 1.0, 3.0, 6.0, 15.0])
@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_the_tall_svd_is_accurate_for_every_decay(decay, dtype, scale):
    rng = np.random.default_rng(0)
    s = np.arange(1.0, 13.0) ** -decay * scale
    Y = ((orthonormal(rng, 60, 12, dtype) * s) @ orthonormal(rng, 12, 12, dtype)).astype(dtype)
    expected = np.linalg.svd(Y.astype(np.complex128), compute_uv=False)
    eps = np.finfo(Y.dtype).eps
    for k in (1, 5, 12):
        U, found, Vh = tall_svd(Y, k)
        assert np.max(np.abs(found - expected[:k])) < 100 * eps * scale
        np.testing.assert_allclose(U.conj().T @ U, np.eye(k), atol=200 * eps)
        np.testing.assert_allclose(Vh @ Vh.conj().T, np.eye(k), atol=200 * eps)
        # The left singular subspace for s below eps^(3/8) s_1 is found up to the rounding of a perturbed problem: the residual tells.
        np.testing.assert_allclose(Y @ Vh.conj().T, U * found, atol=1e3 * eps * scale)


def test_the_tall_svd_of_zero():
    U, s, Vh = tall_svd(np.zeros((5, 3)), 2)
    assert np.array_equal(s, [0, 0])
    np.testing.assert_allclose(U.T @ U, np.eye(2), atol=1e-15)
    np.testing.assert_allclose(Vh @ Vh.T, np.eye(2), atol=1e-15)
