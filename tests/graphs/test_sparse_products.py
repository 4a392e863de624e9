"""The row-parallel product equals SciPy's, whatever the number of threads; the projection has the stated law."""

import math

import numba
import numpy as np
import pytest
import scipy.sparse
from specimens import Specimen

from ritz.graphs import sparse_projection, spmm

SPECIMENS = {
    "spmm": Specimen(spmm, lambda: {"A": scipy.sparse.random_array((4, 3), density=0.7, rng=0), "X": np.ones((3, 2))}),
    "sparse_projection": Specimen(sparse_projection, lambda: {"n": 5, "dim": 3, "sparsity": 2.0}),
}


@pytest.mark.parametrize("shape", [(50, 40, 17), (1, 1, 1), (30, 5, 64), (7, 9, 0)])
@pytest.mark.parametrize("density", [0.0, 0.1, 1.0])
def test_product_equals_scipy(shape, density):
    m, n, k = shape
    A = scipy.sparse.random_array((m, n), density=density, rng=1, format="csr")
    X = np.random.default_rng(2).standard_normal((n, k))
    np.testing.assert_allclose(spmm(A, X), (A @ X).astype(np.float32), atol=2e-6 * max(1, n))


def test_one_and_two_threads_agree_bit_for_bit():
    A = scipy.sparse.random_array((300, 300), density=0.1, rng=1, format="csr")
    X = np.random.default_rng(2).standard_normal((300, 40))
    before = numba.get_num_threads()
    try:
        products = []
        for threads in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
            numba.set_num_threads(threads)
            products.append(spmm(A, X))
    finally:
        numba.set_num_threads(before)
    np.testing.assert_array_equal(products[0], products[1])


@pytest.mark.parametrize("sparsity", [1.0, 3.0, math.sqrt(2000)])
def test_projection_has_the_stated_law(sparsity):
    n, dim = 2000, 64
    R = sparse_projection(n, dim, sparsity, rng=0)
    expected = n * dim / sparsity
    assert abs(R.nnz - expected) <= 5 * math.sqrt(expected * (1 - 1 / sparsity))
    assert np.array_equal(np.unique(np.abs(R.data)), np.float32([math.sqrt(sparsity)]))
    assert abs((R.data > 0).sum() - R.nnz / 2) <= 5 * math.sqrt(R.nnz) / 2


def test_projection_is_a_function_of_the_seed():
    first, second, other = (sparse_projection(50, 8, 3.0, rng=seed).toarray() for seed in (0, 0, 1))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)
