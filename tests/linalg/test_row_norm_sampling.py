"""Sampling by norm is unbiased and keeps long rows."""

import numpy as np
import pytest
from specimens import Specimen

from ritz.linalg import row_norm_sampler

SPECIMENS = {
    "row_norm_sampler": Specimen(row_norm_sampler, lambda: {"target_rows": 5, "d": 3, "rng": 0}, accepts={"rng": ("none",)}),
}


def test_sampling_is_unbiased_and_keeps_long_rows():
    X = np.random.default_rng(0).standard_normal((60, 3)) * np.geomspace(0.1, 1, 60)[:, None]
    X[17] *= 50
    draws = np.array([row_norm_sampler(12, 3, rng=seed).partial_fit(X[:30]).partial_fit(X[30:]).rows for seed in range(2_000)], dtype=object)
    grams = np.array([S.T @ S for S in draws])
    error = np.abs(grams.mean(axis=0) - X.T @ X)
    assert np.all(error <= 4 * grams.std(axis=0) / np.sqrt(len(grams)) + 1e-9)
    assert all((np.abs(S - X[17]).max(axis=1) < 1e-9).any() for S in draws)
    sampler = row_norm_sampler(12, 3, rng=0).partial_fit(X)
    np.testing.assert_allclose(sampler.squared_norm, np.sum(X**2))
    assert sampler.probabilities.max() == 1
    assert sampler.rows_seen == 60


def test_refusals_and_zero_rows():
    with pytest.raises(ValueError, match="X must have 4 columns"):
        row_norm_sampler(3, 4).partial_fit(np.ones((2, 3)))
    assert not row_norm_sampler(3, 4).partial_fit(np.zeros((2, 4))).rows.size
