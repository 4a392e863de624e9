"""Leverage scores: of the range only, summing to the rank, sketched within a factor of two."""

import numpy as np
import pytest
import scipy.sparse
import torch
from specimens import Specimen

from ritz.linalg import leverage_scores

RNG = np.random.default_rng(0)
A = RNG.standard_normal((60, 4)) * RNG.pareto(1.5, 60)[:, None]
SPECIMENS = {
    "leverage_scores": Specimen(leverage_scores, lambda: {"A": A, "method": "qr", "rng": 0}, accepts={"rng": ("none",)}),
    "leverage_scores (sparse)": Specimen(leverage_scores, lambda: {"A": scipy.sparse.csr_array(A), "method": "sketch"}),
}


def test_they_are_the_diagonal_of_the_projection():
    np.testing.assert_allclose(leverage_scores(A), np.diag(A @ np.linalg.pinv(A)), atol=1e-12)
    np.testing.assert_allclose(leverage_scores(A @ RNG.standard_normal((4, 4))), leverage_scores(A), atol=1e-10)
    np.testing.assert_allclose(leverage_scores(A * np.geomspace(1e-9, 1e9, 4)), leverage_scores(A), atol=1e-12)


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_they_sum_to_the_rank(rank):
    deficient = RNG.standard_normal((30, rank)) @ RNG.standard_normal((rank, 5))
    scores = leverage_scores(deficient)
    np.testing.assert_allclose(scores.sum(), rank, atol=1e-12)
    np.testing.assert_allclose(leverage_scores(deficient, method="sketch", rng=0).sum(), rank, rtol=1)
    assert leverage_scores(np.vstack([deficient, np.zeros(5)]))[-1] == 0


@pytest.mark.parametrize("kind", [np.asarray, scipy.sparse.csr_array])
def test_sketched_scores_are_within_a_factor_of_two(kind):
    tall = RNG.standard_normal((20_000, 12)) * (1 + RNG.pareto(2, 20_000))[:, None]
    ratio = leverage_scores(kind(tall), method="sketch", rng=1) / leverage_scores(tall)
    assert np.mean((ratio > 0.5) & (ratio < 2)) > 0.999
    assert 0.3 < ratio.min() <= ratio.max() < 3


def test_torch_and_sparse_input():
    expected = leverage_scores(A)
    for tensor in (torch.from_numpy(A), torch.from_numpy(A).to_sparse_csr(), torch.from_numpy(A).float()):
        scores = leverage_scores(tensor)
        assert scores.dtype == tensor.dtype
        np.testing.assert_allclose(scores.numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(leverage_scores(scipy.sparse.coo_matrix(A)), expected, atol=1e-12)
    with pytest.raises(ValueError, match="A must not be empty"):
        leverage_scores(scipy.sparse.csr_array((0, 3)))
