"""HiPPO matrices: exact kernels, dissipation identities, the normal part and its spectrum, and the normal part alone as an approximation of LegS."""

import numpy as np
import pytest
from scipy.linalg import expm
from scipy.special import eval_legendre

from ritz.sequence.hippo import MEASURES, fout, legs, legt, normal_plus_low_rank

RANK = {"legs": 1, "legt": 2, "fout": 1}


@pytest.mark.parametrize("N", [1, 2, 8, 16])
def test_kernels_of_legs_are_warped_legendre_polynomials(N):
    A, B, _ = legs(N)
    n = np.arange(N)
    for t in (0.0, 0.3, 1.0, 5.0):
        exact = np.sqrt(2 * n + 1) * np.exp(-t) * eval_legendre(n, 2 * np.exp(-t) - 1)
        np.testing.assert_allclose(expm(t * A) @ B, exact, atol=1e-10)


def test_legs_dissipates_as_minus_its_input_and_identity():
    A, B, _ = legs(12)
    np.testing.assert_allclose(A + A.T, -(np.outer(B, B) + np.eye(12)), atol=1e-12)


def test_kernels_of_legt_are_legendre_polynomials_on_the_window_and_vanish_beyond():
    A, B, _ = legt(64)
    for t in (0.1, 0.3, 0.5, 0.7, 0.9):
        exact = np.sqrt(2 * np.arange(4) + 1) * eval_legendre(np.arange(4), 1 - 2 * t)
        np.testing.assert_allclose((expm(t * A) @ B)[:4], exact, atol=0.15)
    assert np.abs((expm(1.3 * A) @ B)[:4]).max() <= 0.01


def test_kernels_of_fout_are_harmonics_on_the_window_and_vanish_beyond():
    A, B, _ = fout(256)
    for t in (0.1, 0.3, 0.5, 0.7, 0.9):
        phase = 2 * np.pi * np.arange(1, 4) * t
        exact = np.concatenate([[1, 0], np.sqrt(2) * np.stack([np.cos(phase), np.sin(phase)], axis=1).ravel()])
        np.testing.assert_allclose((expm(t * A) @ B)[:8], exact, atol=0.02)
    assert np.linalg.norm((expm(1.15 * A) @ B)[:8]) <= 0.03


def test_fout_dissipates_through_its_input_and_leaves_the_sine_of_frequency_zero_alone():
    A, B, _ = fout(10)
    np.testing.assert_allclose(A + A.T, -np.outer(B, B), atol=1e-12)
    assert not A[1].any()
    assert not A[:, 1].any()
    assert B[1] == 0


@pytest.mark.parametrize("N", [2, 8, 64])
@pytest.mark.parametrize("measure", list(MEASURES))
def test_normal_plus_low_rank_reassembles_the_system(measure, N):
    A, B, _ = MEASURES[measure](N)
    eigenvalues, P, B_modes, V = normal_plus_low_rank(measure, N)
    assert P.shape == (N, RANK[measure])
    np.testing.assert_allclose(V @ V.conj().T, np.eye(N), atol=1e-12)
    np.testing.assert_allclose(V @ (np.diag(eigenvalues) - P @ P.conj().T) @ V.conj().T, A, atol=1e-10 * np.abs(A).max())
    np.testing.assert_allclose(V @ B_modes, B, atol=1e-12 * N)


@pytest.mark.parametrize("measure", list(MEASURES))
def test_the_normal_part_has_conjugate_eigenvalues_of_one_real_part(measure):
    eigenvalues = normal_plus_low_rank(measure, 16).eigenvalues
    np.testing.assert_allclose(eigenvalues.real, -0.5 if measure == "legs" else 0, atol=1e-12)
    np.testing.assert_allclose(eigenvalues.imag, -eigenvalues.imag[::-1], atol=1e-10)


@pytest.mark.parametrize("N", [16, 32, 64, 128])
def test_the_largest_frequency_of_legs_follows_its_law(N):
    assert 0.99 <= normal_plus_low_rank("legs", N).eigenvalues.imag.max() / (N**2 / np.pi) <= 1.0


def _normal_part_error(N, scale):
    """Worst |f_LegS(iw) - f_normal(iw)| over 20 random unit C and w in {0.5, 1, 2}, with scale * B as the input of the normal part."""
    A, B, P = legs(N)
    C = np.random.default_rng(0).standard_normal((20, N))
    C /= np.linalg.norm(C, axis=1, keepdims=True)
    responses = [
        np.linalg.solve(1j * w * np.eye(N) - A, B) - scale * np.linalg.solve(1j * w * np.eye(N) - (A + P @ P.T), B.astype(complex))
        for w in (0.5, 1.0, 2.0)
    ]
    return max(np.abs(C @ response).max() for response in responses)


def test_the_normal_part_with_half_the_input_has_the_transfer_function_of_legs_in_the_limit():
    error = {N: _normal_part_error(N, 0.5) for N in (16, 32, 64, 128)}
    assert error[32] <= 0.04
    assert error[64] <= 0.015
    rates = [error[N] / error[2 * N] for N in (16, 32, 64)]
    assert np.exp(np.mean(np.log(rates))) == pytest.approx(2.7, rel=0.15)
    assert min(rates) >= 2


def test_without_the_factor_one_half_it_does_not():
    error = {N: _normal_part_error(N, 1.0) for N in (32, 64, 128)}
    assert min(error.values()) >= 0.1
