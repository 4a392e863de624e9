"""Nystrom approximation: the trace-norm bound, exactness, kinds of input, refusals."""

import numpy as np
import pytest
import scipy.sparse
from linalg.kinds_of_input import DTYPES, KINDS, check_kind, real_of, tolerance, with_eigenvalues
from specimens import Specimen

from ritz.linalg import nystrom

SPECIMENS = {
    "nystrom": Specimen(nystrom, lambda: {"A": with_eigenvalues(np.arange(9.0)), "k": 2, "oversampling": 3, "rng": 0}, accepts={"rng": ("none",)}),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_low_rank_matrices_are_found_whole(kind, dtype):
    values = np.concatenate([[6.0, 4.0, 4.0, 1.0], np.zeros(46)])
    dense = with_eigenvalues(values, dtype)
    found = nystrom(KINDS[kind](dense), 5, rng=0)
    V, theta = check_kind(found.eigenvectors, kind, dtype), check_kind(found.eigenvalues, kind, real_of(dtype))
    np.testing.assert_allclose(V.conj().T @ V, np.eye(5), atol=tolerance(dtype))
    np.testing.assert_allclose(theta, values[:5], atol=tolerance(dtype))
    np.testing.assert_allclose((V * theta) @ V.conj().T, dense, atol=tolerance(dtype))


@pytest.mark.parametrize("decay", [0.5, 1.0, 2.0, 6.0])
@pytest.mark.parametrize(("k", "p"), [(1, 2), (5, 3), (10, 10), (20, 4)])
def test_the_mean_trace_norm_error_is_within_the_bound(decay, k, p):
    values = np.arange(1, 101) ** -decay
    A = with_eigenvalues(values)
    errors = []
    for seed in range(20):
        found = nystrom(A, k, oversampling=p, rng=seed)
        left = A - (found.eigenvectors * found.eigenvalues) @ found.eigenvectors.T
        errors.append(np.sum(np.abs(np.linalg.eigvalsh(left))))
        assert np.all(found.eigenvalues <= values[:k] + 1e-12)
    assert np.mean(errors) <= (1 + k / (p - 1)) * np.sum(values[k:])


def test_without_truncation_the_error_is_positive_semidefinite():
    A = with_eigenvalues(np.arange(1, 51) ** -1.0)
    found = nystrom(A, 12, oversampling=0, rng=0)
    left = A - (found.eigenvectors * found.eigenvalues) @ found.eigenvectors.T
    assert np.linalg.eigvalsh(left)[0] > -1e-12


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_the_scale_does_not_matter(scale):
    values = np.concatenate([[2.0, 1.0], np.zeros(28)]) * scale
    np.testing.assert_allclose(nystrom(with_eigenvalues(values), 2, rng=0).eigenvalues, values[:2], rtol=1e-12)


def test_small_whole_and_zero_matrices():
    np.testing.assert_allclose(nystrom([[4.0]], 1).eigenvalues, [4.0])
    np.testing.assert_allclose(nystrom(np.diag([3.0, 2.0, 1.0]), 3, rng=0).eigenvalues, [3, 2, 1], rtol=1e-12)
    assert np.array_equal(nystrom(np.zeros((20, 20)), 3, rng=0).eigenvalues, np.zeros(3))


def test_the_same_seed_gives_the_same_and_the_residual_is_near():
    A = with_eigenvalues(np.arange(1, 101) ** -1.0)
    first, second = nystrom(A, 10, rng=4), nystrom(A, 10, rng=4)
    assert np.array_equal(first.eigenvectors, second.eigenvectors)
    true = np.linalg.norm(A - (first.eigenvectors * first.eigenvalues) @ first.eigenvectors.T)
    np.testing.assert_allclose(first.residual_norm**2, true**2, rtol=1.34)  # three standard errors of 10 probes at their worst


def test_refusals():
    with pytest.raises(ValueError, match="A must be positive semidefinite"):
        nystrom(with_eigenvalues(np.linspace(-1, 1, 30)), 3, rng=0)
    with pytest.raises(ValueError, match="A must be symmetric"):
        nystrom(np.triu(np.ones((5, 5))), 2)
    with pytest.raises(ValueError, match="k must be"):
        nystrom(scipy.sparse.eye_array(5), 6)
