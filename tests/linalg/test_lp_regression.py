"""Regression in the p-norm: optimality, known cases, coresets."""

import sys
import warnings

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
import torch
from specimens import Specimen

from ritz.core import ConvergenceWarning
from ritz.linalg import LpRegression, lp_regression, sample_rows

RNG = np.random.default_rng(0)
A = RNG.standard_normal((200, 4))
B = A @ np.arange(1.0, 5.0) + RNG.standard_t(2, 200)
SPECIMENS = {
    "LpRegression": Specimen(
        LpRegression,
        lambda: {"x": np.ones(2), "objective": 1.0, "converged": True, "iterations": 1},
        spare=frozenset({"x", "objective", "converged", "iterations"}),
    ),
    "lp_regression": Specimen(
        lp_regression, lambda: {"A": A, "b": B, "p": 1.5, "coreset": 50, "tol": 1e-6, "rng": 0}, accepts={"coreset": ("none",), "rng": ("none",)}
    ),
    "lp_regression (sparse)": Specimen(lp_regression, lambda: {"A": scipy.sparse.csr_array(A), "b": B, "p": 3}),
}


@pytest.mark.parametrize("p", [1, 1.1, 1.5, 2, 3, 6, 20])
def test_it_is_the_minimum(p):
    found = lp_regression(A, B, p)
    assert found.converged
    np.testing.assert_allclose(found.objective, np.linalg.norm(A @ found.x - B, p), rtol=1e-12)
    peer = scipy.optimize.minimize(lambda x: np.log(np.linalg.norm(A @ x - B, p)), found.x, method="Nelder-Mead", options={"fatol": 1e-13})
    assert np.exp(peer.fun) >= found.objective * (1 - 2e-8)


@pytest.mark.parametrize("p", [1.5, 3])
def test_the_residual_is_stationary(p):
    x = lp_regression(A, B, p, tol=1e-13).x
    r = A @ x - B
    gradient = A.T @ (np.sign(r) * np.abs(r) ** (p - 1))
    assert np.linalg.norm(gradient) <= 1e-5 * np.linalg.norm(np.abs(r) ** (p - 1)) * np.linalg.norm(A, 2)


def test_known_cases():
    ones = np.ones((5, 1))
    b = np.array([1.0, 2.0, 4.0, 7.0, 21.0])
    np.testing.assert_allclose(lp_regression(ones, b, 1).x, [4], atol=1e-9)
    np.testing.assert_allclose(lp_regression(ones, b, 2).x, [7], atol=1e-9)
    np.testing.assert_allclose(lp_regression(ones, b, 400, tol=1e-4).x, [11], rtol=0.01)
    np.testing.assert_allclose(lp_regression(A, B, 2).x, np.linalg.lstsq(A, B, rcond=None)[0], atol=1e-10)


@pytest.mark.parametrize("p", [1, 1.5, 4])
def test_consistent_and_deficient_systems(p):
    exact = lp_regression(A, A @ np.ones(4), p)
    assert exact.converged
    np.testing.assert_allclose(exact.x, np.ones(4), atol=1e-12)
    assert lp_regression(A, np.zeros(200), p).objective == 0
    doubled = lp_regression(np.column_stack([A, A[:, 0], np.zeros(200)]), B, p)
    np.testing.assert_allclose(doubled.objective, lp_regression(A, B, p).objective, rtol=1e-7)
    wide = lp_regression(A[:3], B[:3], p)
    np.testing.assert_allclose(wide.objective, 0, atol=1e-10)


@pytest.mark.parametrize("p", [1, 1.5, 4])
def test_kinds_of_input(p):
    x = lp_regression(A, B, p).x
    np.testing.assert_allclose(lp_regression(scipy.sparse.csr_array(A), B, p).x, x, atol=1e-6)
    tensor = lp_regression(torch.from_numpy(A), torch.from_numpy(B), p).x
    assert isinstance(tensor, torch.Tensor)
    np.testing.assert_allclose(tensor.numpy(), x, atol=1e-12)
    scaled = lp_regression(A * np.geomspace(1e-8, 1e8, 4), 1e5 * B, p).x
    np.testing.assert_allclose(scaled * np.geomspace(1e-8, 1e8, 4), 1e5 * x, rtol=1e-4)


@pytest.mark.parametrize("p", [1, 1.5, 3])
def test_a_coreset_is_nearly_as_good(p):
    tall = RNG.standard_normal((4000, 4))
    b = tall @ np.ones(4) + RNG.standard_t(3, 4000)
    best = lp_regression(tall, b, p)
    for coreset in (600, sample_rows(tall, p, 600, scores="leverage", b=b, rng=1)):
        found = lp_regression(tall, b, p, coreset=coreset, rng=0)
        assert best.objective <= found.objective <= 1.03 * best.objective
    assert lp_regression(tall, b, p, coreset="auto", rng=0).objective <= 1.5 * best.objective
    everything = lp_regression(tall, b, p, coreset=4000)
    np.testing.assert_allclose(everything.objective, best.objective, rtol=1e-8)


def test_refusals_and_warnings(monkeypatch):
    with pytest.raises(ValueError, match="b must have shape"):
        lp_regression(A, B[:-1], 1)
    with pytest.raises(ValueError, match="coreset must be a size"):
        lp_regression(A, B, 1, coreset=0)
    with pytest.raises(TypeError, match="coreset must be a size"):
        lp_regression(A, B, 1, coreset=[1, 2])
    with pytest.raises(ValueError, match="coreset must have rows, all of A"):
        lp_regression(A[:10], B[:10], 1, coreset=sample_rows(A, 1, 50, scores="leverage", rng=0))
    monkeypatch.setattr(sys.modules[lp_regression.__module__], "MAX_ITERATIONS", 1)
    with pytest.warns(ConvergenceWarning, match="duality gap.* after 1 iterations"):
        found = lp_regression(A, B, 6)
    assert not found.converged
    monkeypatch.undo()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lp_regression(A, B, 6)
