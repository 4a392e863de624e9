"""Stochastic estimates: unbiased, with the stated standard errors, exact where they should be, for every kind of input."""

import numpy as np
import pytest
import scipy.sparse
import torch
from linalg.kinds_of_input import DTYPES, KINDS, check_kind, with_eigenvalues
from specimens import Specimen

from ritz.linalg import diagonal, hutchinson_trace, hutchpp_trace, logdet

DECAY = np.arange(1, 101) ** -2.0
RNG = {"rng": ("none",)}


def positive():
    return with_eigenvalues(np.linspace(1, 2, 8))


SPECIMENS = {
    "hutchinson_trace": Specimen(hutchinson_trace, lambda: {"A": positive(), "probes": 4, "rng": 0}, accepts=RNG),
    "hutchpp_trace": Specimen(hutchpp_trace, lambda: {"A": positive(), "matvecs": 9, "rng": 0}, accepts=RNG),
    "logdet": Specimen(logdet, lambda: {"A": positive(), "probes": 4, "steps": 5, "rng": 0}, accepts=RNG),
    "diagonal": Specimen(diagonal, lambda: {"A": positive(), "probes": 4, "rng": 0}, accepts=RNG),
    "StochasticEstimate": Specimen(lambda: hutchinson_trace(positive()), dict),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_estimates_of_every_kind_are_within_four_standard_errors(kind, dtype):
    dense = with_eigenvalues(np.linspace(1, 3, 40), dtype)
    A = KINDS[kind](dense)
    for found in (hutchinson_trace(A, rng=0), hutchpp_trace(A, rng=0)):
        assert isinstance(found.value, complex if dtype.startswith("complex") else float)
        assert 0 < found.standard_error < 2
        assert abs(found.value - 80) < 4 * found.standard_error
    found = logdet(A, rng=0)
    assert isinstance(found.value, float)
    assert abs(found.value - np.sum(np.log(np.linspace(1, 3, 40)))) < 4 * found.standard_error
    found = diagonal(A, rng=0)
    value, error = check_kind(found.value, kind, dtype), check_kind(found.standard_error, kind, str(abs(dense).dtype))
    z = np.abs(value - np.diag(dense)) / error
    assert np.max(z) < 5
    assert 0.5 < np.mean(z**2) < 2


@pytest.mark.parametrize("kind", KINDS)
def test_all_kinds_draw_the_same_probes(kind):
    dense = with_eigenvalues(DECAY)
    for estimate in (hutchinson_trace, hutchpp_trace):
        expected, found = estimate(dense, rng=3), estimate(KINDS[kind](dense), rng=3)
        np.testing.assert_allclose(found.value, expected.value, rtol=1e-9)
        np.testing.assert_allclose(found.standard_error, expected.standard_error, rtol=1e-6)


@pytest.mark.parametrize("estimate", [hutchinson_trace, hutchpp_trace])
def test_the_trace_is_unbiased_and_its_standard_error_is_the_scatter(estimate):
    A = np.random.default_rng(0).standard_normal((50, 50)) + np.diag(np.arange(50.0))  # not symmetric
    found = [estimate(A, rng=seed) for seed in range(200)]
    errors = np.array([one.value - np.trace(A) for one in found])
    scatter = np.std(errors, ddof=1)
    assert abs(np.mean(errors)) < 4 * scatter / np.sqrt(200)
    stated = np.sqrt(np.mean([one.standard_error**2 for one in found]))
    assert 0.8 < stated / scatter < 1.25


def test_hutchinsons_variance_is_that_of_theory():
    A = with_eigenvalues(np.linspace(-1, 2, 50))
    errors = [hutchinson_trace(A, probes=10, rng=seed).value - np.trace(A) for seed in range(400)]
    theory = 2 * (np.sum(A**2) - np.sum(np.diag(A) ** 2)) / 10
    assert 0.75 < np.var(errors) / theory < 1.3  # 400 samples: relative standard error of a variance about 0.07


def test_hutchpp_beats_hutchinson_on_a_decaying_spectrum():
    A = with_eigenvalues(DECAY)

    def root_mean_square(estimate, **options):
        return np.sqrt(np.mean([(estimate(A, rng=seed, **options).value - np.sum(DECAY)) ** 2 for seed in range(20)]))

    assert root_mean_square(hutchpp_trace, matvecs=60) < root_mean_square(hutchinson_trace, probes=60) / 20


def test_exact_cases():
    assert hutchinson_trace(np.diag(np.arange(5.0)), rng=0).value == 10
    low_rank = with_eigenvalues(np.concatenate([[3.0, 2.0], np.zeros(38)]))
    found = hutchpp_trace(low_rank, matvecs=15, rng=0)
    np.testing.assert_allclose(found.value, 5, rtol=1e-12)
    assert found.standard_error < 1e-12
    whole = hutchpp_trace(np.arange(9.0).reshape(3, 3), matvecs=9)
    assert (whole.value, whole.standard_error) == (12, 0)
    assert hutchinson_trace([[7.0]]).value == 7
    assert np.array_equal(diagonal(np.diag([1.0, -2.0]), probes=2).value, [1, -2])
    np.testing.assert_allclose(logdet(3 * np.eye(50), rng=0).value, 50 * np.log(3), rtol=1e-12)
    np.testing.assert_allclose(logdet(np.diag([1.0, 2, 3, 4]), rng=0).value, np.log(24), rtol=1e-12)
    np.testing.assert_allclose(hutchinson_trace(1j * np.diag([1.0, 2.0])).value, 3j)


def test_logdet_with_full_lanczos_is_the_quadratic_form_of_the_logarithm():
    A = with_eigenvalues(np.geomspace(0.1, 10, 20))
    values, V = np.linalg.eigh(A)
    Z = 2.0 * np.random.default_rng(5).integers(2, size=(20, 6)) - 1
    forms = np.sum(Z * ((V * np.log(values)) @ V.T @ Z), axis=0)
    found = logdet(A, probes=6, steps=20, rng=5)
    np.testing.assert_allclose(found.value, np.mean(forms), atol=1e-10)
    np.testing.assert_allclose(found.standard_error, np.std(forms, ddof=1) / np.sqrt(6), rtol=1e-8)
    few = logdet(A, probes=6, steps=8, rng=5).value
    assert few >= found.value - 1e-12  # Gauss quadrature of a function whose even derivatives are negative is above the integral
    assert abs(few - found.value) < 20 * 2 * 5 * (9 / 11) ** 16


def test_a_large_sparse_logdet_against_lu():
    n = 3000
    A = scipy.sparse.diags_array([-np.ones(n - 1), 2.5 * np.ones(n), -np.ones(n - 1)], offsets=[-1, 0, 1]).tocsc()
    factors = scipy.sparse.linalg.splu(A)
    expected = np.sum(np.log(np.abs(factors.U.diagonal())))
    found = logdet(A, rng=0)
    assert abs(found.value - expected) < 4 * found.standard_error
    assert found.standard_error < 0.02 * expected


def test_the_same_seed_gives_the_same():
    A = positive()
    for estimate in (hutchinson_trace, hutchpp_trace, logdet):
        assert estimate(A, rng=7).value == estimate(A, rng=7).value
    assert np.array_equal(diagonal(A, rng=7).value, diagonal(A, rng=7).value)


def test_refusals():
    for estimate in (hutchinson_trace, hutchpp_trace, logdet, diagonal):
        with pytest.raises(ValueError, match="A must be square"):
            estimate(np.ones((3, 2)))
        with pytest.raises(ValueError, match="A must be finite"):
            estimate(torch.full((2, 2), torch.nan))
    with pytest.raises(ValueError, match="A must be symmetric"):
        logdet(np.triu(np.ones((5, 5))))
    with pytest.raises(ValueError, match="A must be positive definite"):
        logdet(np.diag([1.0, -1.0]))
    with pytest.raises(ValueError, match="probes must be"):
        diagonal(np.eye(2), probes=1)
    with pytest.raises(ValueError, match="matvecs must be"):
        hutchpp_trace(np.eye(2), matvecs=5)
