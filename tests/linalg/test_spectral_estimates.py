"""Spectral intervals that hold the spectrum, condition numbers from below, numerical ranks."""

import numpy as np
import pytest
import scipy.sparse
import torch
from linalg.kinds_of_input import DTYPES, KINDS, real_of, with_eigenvalues, with_singular_values
from specimens import Specimen

from ritz.linalg import condition_estimate, estimate_rank, spectral_interval

RNG = {"rng": ("none",)}

SPECIMENS = {
    "spectral_interval": Specimen(spectral_interval, lambda: {"A": with_eigenvalues(np.arange(8.0)), "steps": 8, "rng": 0}, accepts=RNG),
    "estimate_rank": Specimen(estimate_rank, lambda: {"A": with_singular_values([3.0, 1.0], 8, 6), "tol": 1e-6, "rng": 0}, accepts=RNG),
    "condition_estimate": Specimen(condition_estimate, lambda: {"A": with_eigenvalues(np.arange(1.0, 9.0)), "steps": 5, "rng": 0}, accepts=RNG),
    "condition_estimate.sparse": Specimen(condition_estimate, lambda: {"A": scipy.sparse.csr_array(with_eigenvalues(np.arange(1.0, 9.0)))}),
    "SpectralInterval": Specimen(lambda: spectral_interval(np.eye(3)), dict),
    "ConditionEstimate": Specimen(lambda: condition_estimate(np.eye(3)), dict),
}

SPECTRA = {
    "uniform": np.linspace(-1, 3, 400),
    "clustered above": 1 - np.geomspace(1e-8, 1, 400),
    "outliers": np.concatenate([[-50.0, 70.0], np.linspace(0, 1, 398)]),
    "close outlier": np.concatenate([np.linspace(0, 1, 399), [1.01]]),
    "semicircle": np.cos(np.linspace(0, np.pi, 400)),
}


@pytest.mark.parametrize("spectrum", SPECTRA)
def test_the_interval_holds_the_spectrum_with_a_margin_of_a_tenth(spectrum):
    values = SPECTRA[spectrum]
    A = with_eigenvalues(values)
    low, high = np.min(values), np.max(values)
    for seed in range(20):
        found = spectral_interval(A, rng=seed)
        assert found.lower <= low
        assert high <= found.upper
        assert low - 1e-12 <= found.smallest
        assert found.largest <= high + 1e-12
        assert found.upper - found.lower < 1.15 * (high - low)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_intervals_and_ranks_and_conditions_of_every_kind(kind, dtype):
    interval = spectral_interval(KINDS[kind](with_eigenvalues(np.linspace(-1, 1, 60), dtype)), rng=0)
    assert -1.15 < interval.lower <= -1 < 1 <= interval.upper < 1.15
    low_rank = with_singular_values(np.concatenate([np.linspace(2, 1, 21), np.full(59, 1e-5)]), 90, 80, dtype)
    assert estimate_rank(KINDS[kind](low_rank), 1e-2, rng=0) == 21
    square = with_singular_values(np.linspace(1, 10, 40), 40, 40, dtype)
    found = condition_estimate(KINDS[kind](square), steps=40, rng=0)
    np.testing.assert_allclose(found.value, 10, rtol=1e-3 if real_of(dtype) == "float32" else 1e-8)
    np.testing.assert_allclose(found.norm, 10, rtol=1e-3 if real_of(dtype) == "float32" else 1e-8)


def test_invariant_spaces_leave_no_margin():
    for A, low, high in ((np.zeros((50, 50)), 0, 0), (3 * np.eye(50), 3, 3), (np.diag([1.0, 5.0] * 25), 1, 5), ([[2.0]], 2, 2)):
        found = spectral_interval(A, rng=0)
        np.testing.assert_allclose([found.lower, found.upper], [low, high], atol=1e-12)
        assert found.lower <= low <= high <= found.upper


def test_a_large_laplacian():
    n = 100_000
    path = scipy.sparse.diags_array([-np.ones(n - 1), 2 * np.ones(n), -np.ones(n - 1)], offsets=[-1, 0, 1])
    found = spectral_interval(path, rng=0)
    assert -0.4 < found.lower < 0 < 4 < found.upper < 4.4


def test_too_few_steps_are_refused_with_the_number_needed():
    A = scipy.sparse.eye_array(10**6)
    with pytest.raises(ValueError, match="steps must be at least 16 for a matrix of order 1000000, got 15"):
        spectral_interval(A, steps=15)
    assert spectral_interval(A, steps=16, rng=0).steps == 1


@pytest.mark.parametrize("shape", [(60, 40), (40, 60), (40, 40)])
@pytest.mark.parametrize("rank", [1, 15, 16, 17, 33, 40])
def test_the_rank_of_matrices_with_a_gap(shape, rank):
    A = with_singular_values(np.concatenate([np.geomspace(1, 1e-3, rank), np.full(40 - rank, 1e-7)]), *shape)
    assert estimate_rank(A, 1e-5, rng=0) == rank


def test_the_rank_never_exceeds_the_true_count_and_is_near_without_a_gap():
    s = np.geomspace(1, 1e-6, 300)
    A = with_singular_values(s, 400, 300)
    for seed in range(5):
        assert 98 <= estimate_rank(A, 1e-2, rng=seed) <= np.sum(s > 1e-2) == 100


def test_ranks_of_zero_and_one():
    assert estimate_rank(np.zeros((100, 90)), 1e-8, rng=0) == 0
    assert estimate_rank(np.ones((100, 90)), 1e-8, rng=0) == 1
    assert estimate_rank([[0.0]], 1e-8) == 0


@pytest.mark.parametrize("convert", [np.asarray, scipy.sparse.csr_array, torch.from_numpy])
@pytest.mark.parametrize("condition", [1.0, 1e3, 1e8, 1e12])
def test_the_condition_of_explicit_matrices(convert, condition):
    A = with_singular_values(np.geomspace(1, 1 / condition, 100), 100, 100)
    found = condition_estimate(convert(A), rng=0)
    assert found.method == "inverse"
    np.testing.assert_allclose(found.value, condition, rtol=1e-2 if condition < 1e10 else 0.1)
    assert found.value <= condition * (1 + (1e-6 if condition < 1e10 else 1e-3))


def test_the_condition_from_products_is_a_lower_bound_and_exact_when_the_space_is_exhausted():
    A = with_singular_values(np.geomspace(1, 1e-3, 50), 80, 50)
    for matrix in (A, A.T):
        few, all_steps = (condition_estimate(matrix, steps=steps, rng=0) for steps in (10, 50))
        assert few.method == all_steps.method == "bidiagonal"
        assert few.value <= 1e3 * (1 + 1e-9)
        np.testing.assert_allclose(all_steps.value, 1e3, rtol=1e-9)


def test_singular_matrices_have_an_infinite_condition():
    for A in (
        np.zeros((4, 4)),
        np.ones((3, 3)),
        scipy.sparse.csr_array((4, 4)),
        torch.ones(3, 3, dtype=torch.float64),
        np.zeros((5, 3)),
        np.diag([1.0, 0]),
    ):
        assert condition_estimate(A, rng=0).value > 1e15


def test_refusals():
    with pytest.raises(ValueError, match="A must be symmetric"):
        spectral_interval(np.triu(np.ones((5, 5))))
    for tol in (0, 1, -1, 1e-20):
        with pytest.raises(ValueError, match="tol must be"):
            estimate_rank(np.eye(3), tol)
    with pytest.raises(ValueError, match="A must be finite"):
        condition_estimate(np.diag([1.0, np.inf]))
