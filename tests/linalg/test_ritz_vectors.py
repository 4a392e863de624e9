"""Training residuals: Ritz vectors are orthonormal, weights sit at the low end, null spaces stay out."""

import numpy as np
import pytest
import scipy.sparse
import torch
from specimens import Specimen

from ritz.linalg import ritz_training_vectors
from ritz.linalg.products import as_products
from ritz.linalg.ritz_vectors import ritz_pairs, ritz_weights
from ritz.studies.data.linear_systems import poisson

A = poisson(12, 11)

SPECIMENS = {
    "ritz_training_vectors": Specimen(
        ritz_training_vectors,
        lambda: {"A": A, "count": 3, "m": 10, "theta": 1, "low_weight": 9.0, "rng": 0},
        accepts={"rng": ("none",)},
    ),
}


def distinct(n=40, seed=0):
    Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))[0]
    return (Q * np.arange(1.0, n + 1)) @ Q.T, Q


@pytest.mark.parametrize("m", [5, 60, 100])
def test_ritz_vectors_are_orthonormal_and_values_are_rayleigh_quotients(m):
    values, vectors = ritz_pairs(as_products(A), m, np.random.default_rng(0))
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(len(values)), atol=1e-10)
    np.testing.assert_allclose(vectors @ (A @ vectors.T), np.diag(values), atol=1e-10)


def test_with_all_steps_they_are_eigenvectors():
    B, Q = distinct()
    values, vectors = ritz_pairs(as_products(B), 40, np.random.default_rng(1))
    np.testing.assert_allclose(values, np.arange(1.0, 41), atol=1e-9)
    np.testing.assert_allclose(np.abs(vectors @ Q), np.eye(40), atol=1e-8)


def test_an_exhausted_space_has_fewer_vectors():
    values, vectors = ritz_pairs(as_products(np.diag([1.0, 1.0, 2.0, 2.0])), 4, np.random.default_rng(0))
    np.testing.assert_allclose(values, [1, 2], atol=1e-12)
    assert vectors.shape == (2, 4)


def test_null_spaces_are_left_out():
    T = scipy.sparse.diags_array([-np.ones(9), np.r_[1.0, np.full(8, 2.0), 1.0], -np.ones(9)], offsets=[-1, 0, 1])
    neumann = scipy.sparse.csr_array(scipy.sparse.kronsum(T, 1.3 * T))
    r = ritz_training_vectors(neumann, 20, 100, theta=5, rng=0)
    np.testing.assert_allclose(r.sum(axis=1), 0, atol=1e-8)
    weights = ritz_weights(np.array([1e-12, 1.0, 2.0, 3.0, 4.0, 5.0]), 1, 9.0)
    np.testing.assert_array_equal(weights, [0, 9, 9, 9, 1, 1])


def test_unit_vectors_whose_low_half_is_heavy():
    B, Q = distinct()
    r = ritz_training_vectors(B, 4000, 40, theta=2, low_weight=9.0, rng=0)
    np.testing.assert_allclose(np.linalg.norm(r, axis=1), 1, rtol=1e-12)
    shares = ((r @ Q) ** 2).mean(axis=0)
    np.testing.assert_allclose(shares[:22] / shares[22:].mean(), 81, rtol=0.15)


def test_torch_and_seeds():
    dense = torch.from_numpy(A.toarray())
    r = ritz_training_vectors(dense, 3, 10, theta=1, rng=4)
    assert r.dtype == torch.float64
    np.testing.assert_allclose(r, ritz_training_vectors(A, 3, 10, theta=1, rng=4), atol=1e-10)
    assert np.array_equal(ritz_training_vectors(A, 3, 10, theta=1, rng=4), ritz_training_vectors(A, 3, 10, theta=1, rng=4))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"m": 0}, "m must be"), ({"m": 133}, "m must be"), ({"theta": 6}, "theta must be"), ({"A": np.triu(np.ones((9, 9)))}, "A must be symmetric")],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ritz_training_vectors(**({"A": A, "count": 1, "m": 10, "theta": 1, "rng": 0} | options))
