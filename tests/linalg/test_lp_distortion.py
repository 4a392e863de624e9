"""The adversary finds what random directions cannot, and nothing where there is nothing."""

import numpy as np
import pytest
from specimens import Specimen

from ritz.linalg import lp_distortion, sample_rows

RNG = np.random.default_rng(0)
A = RNG.standard_normal((150, 3))
SAMPLE = sample_rows(A, 3, 40, scores="leverage", rng=0)
SPECIMENS = {
    "lp_distortion": Specimen(
        lp_distortion,
        lambda: {"A": A, "sample": SAMPLE, "p": 3.0, "trials": 2, "rng": 0},
        spare=frozenset({"sample"}),
        accepts={"rng": ("none",)},
    )
}


@pytest.mark.parametrize("p", [1, 1.5, 2, 4])
def test_it_is_at_least_what_random_directions_show(p):
    sample = sample_rows(A, p, 60, scores="leverage", rng=1)
    upper, lower = lp_distortion(A, sample, p, trials=10, rng=0)
    X = RNG.standard_normal((3, 5000))
    ratios = np.sum(np.abs(sample.A @ X) ** p, axis=0) / np.sum(np.abs(A @ X) ** p, axis=0)
    assert upper >= ratios.max() - 1 - 1e-3
    assert lower >= 1 - ratios.min() - 1e-3


def test_p_2_is_the_extreme_eigenvalues():
    sample = sample_rows(A, 2, 60, scores="leverage", rng=1)
    R = np.linalg.qr(A)[1]
    s = np.linalg.svd(sample.A @ np.linalg.inv(R), compute_uv=False) ** 2
    np.testing.assert_allclose(lp_distortion(A, sample, 2, rng=0), (s[0] - 1, 1 - s[-1]), atol=1e-6)


def test_all_rows_and_lost_directions():
    np.testing.assert_allclose(lp_distortion(A, sample_rows(A, 4, 150), 4, trials=2, rng=0), (0, 0), atol=1e-9)
    lone = np.vstack([A * [1, 1, 0], [[0, 0, 1.0]]])
    scores = np.append(np.ones(150), 0)
    assert lp_distortion(lone, sample_rows(lone, 4, 60, scores=scores, rng=0), 4, rng=0)[1] > 0.999
    assert lp_distortion(np.zeros((3, 2)), SAMPLE.__class__(np.arange(0), np.ones(0), np.zeros((0, 2)), np.ones(0)), 2) == (0.0, 0.0)


def test_refusals():
    with pytest.raises(TypeError, match="sample must be a RowSample"):
        lp_distortion(A, A, 2)
    with pytest.raises(ValueError, match="sample must be a sample of A"):
        lp_distortion(A[:5], SAMPLE, 2)
