"""R A P against two products."""

import sys

import numpy as np
import pytest
import scipy.sparse
import torch
from specimens import Specimen

from ritz.linalg import triple_product
from ritz.linalg.spgemm import spgemm

MODULE = sys.modules[triple_product.__module__]


def sparse(n, m, seed=0, density=0.1, dtype=np.float64):
    return scipy.sparse.random_array((n, m), density=density, rng=seed, format="csr", dtype=dtype)


SPECIMENS = {
    "triple_product": Specimen(
        triple_product, lambda: {"R": sparse(3, 5), "A": sparse(5, 6), "P": sparse(6, 2), "threads": 1}, accepts={"threads": ("none",)}
    ),
}


@pytest.mark.parametrize("threads", [1, 2])
def test_a_galerkin_product(threads, monkeypatch):
    monkeypatch.setattr(MODULE, "WINDOW_PRODUCTS", 100)
    A, P = sparse(400, 400), sparse(400, 60, seed=1)
    found, expected = triple_product(P.T, A, P, threads=threads), P.T @ A @ P
    assert found.nnz == expected.nnz
    assert abs(found - expected).max() <= 1e-12 * abs(expected).max()


def test_windows_and_threads_change_no_bit(monkeypatch):
    R, A, P = sparse(90, 300), sparse(300, 200, seed=1), sparse(200, 70, seed=2)
    whole = triple_product(R, A, P, threads=1)
    monkeypatch.setattr(MODULE, "WINDOW_PRODUCTS", 1)
    for found in (triple_product(R, A, P, threads=1), triple_product(R, A, P, threads=2), spgemm(spgemm(R, A), P)):
        for part in ("indptr", "indices", "data"):
            np.testing.assert_array_equal(getattr(found, part), getattr(whole, part))


def test_booleans_empty_matrices_and_tensors():
    B = sparse(20, 20, density=0.2) > 0
    found = triple_product(B, B, B)
    assert found.dtype == bool
    np.testing.assert_array_equal(found.toarray(), (B @ B @ B).toarray())
    assert triple_product(scipy.sparse.csr_array((0, 3)), sparse(3, 4), sparse(4, 2)).shape == (0, 2)
    dense = torch.arange(9.0).reshape(3, 3)
    torch.testing.assert_close(triple_product(dense, dense, dense).to_dense(), dense @ dense @ dense)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="A must have as many rows as R has columns"):
        triple_product(np.eye(2), np.eye(3), np.eye(3))
    with pytest.raises(ValueError, match="P must have as many rows as A has columns"):
        triple_product(np.eye(3), np.eye(3), np.eye(2))
    with pytest.raises(ValueError, match="P must be finite"):
        triple_product(np.eye(2), np.eye(2), np.full((2, 2), np.nan))
