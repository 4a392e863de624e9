"""Sensitivities: leverage scores at p = 2, the bounds, invariances, closed forms, estimates from above."""

import sys

import numpy as np
import pytest
import scipy.sparse
import torch
from specimens import Specimen

from ritz.core import ConvergenceWarning
from ritz.linalg import leverage_scores, lp_sensitivities
from ritz.linalg.least_p_norm import least_p_norms

RNG = np.random.default_rng(0)
HEAVY = RNG.standard_normal((90, 4)) * (0.1 + RNG.pareto(1.2, 90))[:, None]
POWERS = [1, 1.5, 2, 3, 4]
SPECIMENS = {
    "lp_sensitivities": Specimen(
        lp_sensitivities,
        lambda: {"A": HEAVY[:20], "p": 3.0, "method": "exact", "rows": np.array([0, 3]), "tol": 1e-4, "rng": 0},
        spare=frozenset({"rows"}),
        accepts={"rng": ("none",)},
    ),
}


def one_nonzero_per_row(n=80, d=4):
    groups = np.concatenate([np.arange(d), RNG.integers(d, size=n - d)])
    values = RNG.pareto(1.5, n) + 0.1
    A = np.zeros((n, d))
    A[np.arange(n), groups] = values
    return A, groups, values


def test_p_2_gives_leverage_scores_with_the_rank_as_sum():
    np.testing.assert_allclose(lp_sensitivities(HEAVY, 2), leverage_scores(HEAVY), atol=1e-8)
    deficient = HEAVY[:, :2] @ RNG.standard_normal((2, 4))
    np.testing.assert_allclose(lp_sensitivities(deficient, 2).sum(), 2, atol=1e-8)


@pytest.mark.parametrize("p", POWERS)
def test_the_bounds_hold(p):
    scores, tau, n, d = lp_sensitivities(HEAVY, p), leverage_scores(HEAVY), *HEAVY.shape
    assert np.all((scores > 0) & (scores <= 1))
    assert np.all(scores <= tau ** (p / 2) * n ** max(p / 2 - 1, 0) * (1 + 1e-8))
    assert scores.sum() <= d ** max(1, p / 2) + 1e-6
    np.testing.assert_allclose(lp_sensitivities(HEAVY, p, method="bound"), np.minimum(tau ** (p / 2) * n ** max(p / 2 - 1, 0), 1))


@pytest.mark.parametrize("p", POWERS)
def test_no_vector_exceeds_them_and_one_attains_them(p):
    scores = lp_sensitivities(HEAVY, p)
    X = np.column_stack([RNG.standard_normal((4, 2000)), np.linalg.pinv(HEAVY)])
    shares = np.abs(HEAVY @ X) ** p / np.sum(np.abs(HEAVY @ X) ** p, axis=0)
    assert np.all(shares <= scores[:, None] * (1 + 1e-6))
    Q, R = np.linalg.qr(HEAVY)
    Z = least_p_norms(Q, Q, p, 1e-7, 1000).z
    attained = 1 / np.sum(np.abs(HEAVY @ np.linalg.solve(R, Z.T)) ** p, axis=0)
    np.testing.assert_allclose(attained, scores, rtol=3e-6)


@pytest.mark.parametrize("p", POWERS)
def test_invariances(p):
    scores = lp_sensitivities(HEAVY, p)
    np.testing.assert_allclose(lp_sensitivities(HEAVY @ RNG.standard_normal((4, 4)), p), scores, rtol=2e-6, atol=1e-6)
    np.testing.assert_allclose(lp_sensitivities(1e150 * HEAVY, p), scores, rtol=2e-6)
    repeated = lp_sensitivities(np.vstack([HEAVY, HEAVY]), p)
    np.testing.assert_allclose(repeated, np.tile(scores / 2, 2), rtol=2e-6)
    more = lp_sensitivities(np.vstack([HEAVY, RNG.standard_normal((10, 4))]), p)
    assert np.all(more[:90] <= scores * (1 + 2e-6))


@pytest.mark.parametrize("p", POWERS)
def test_duplicating_a_row_halves_its_share(p):
    """One row twice: where it has the whole of a direction, exactly half of it."""
    A = np.vstack([np.eye(3), np.eye(3)[:1]])
    np.testing.assert_allclose(lp_sensitivities(A, p), [0.5, 1, 1, 0.5], atol=1e-6)


@pytest.mark.parametrize("p", POWERS)
def test_one_nonzero_per_row(p):
    A, groups, values = one_nonzero_per_row()
    expected = values**p / np.bincount(groups, values**p)[groups]
    rotated = A @ np.linalg.qr(RNG.standard_normal((4, 4)))[0]
    for matrix in (A, rotated, scipy.sparse.csr_array(A)):
        scores = lp_sensitivities(matrix, p)
        np.testing.assert_allclose(scores, expected, rtol=3e-6)
        np.testing.assert_allclose(scores.sum(), 4, rtol=3e-6)


@pytest.mark.parametrize("p", [*POWERS, 20])
def test_one_column(p):
    a = RNG.standard_normal((30, 1))
    np.testing.assert_allclose(lp_sensitivities(a, p), np.abs(a[:, 0]) ** p / np.sum(np.abs(a) ** p), rtol=2e-6)


@pytest.mark.parametrize("p", [1, 1.5, 4])
def test_without_full_rank_and_with_zero_rows(p):
    factor = HEAVY[:, :2]
    deficient = np.vstack([factor @ RNG.standard_normal((2, 5)), np.zeros((1, 5))])
    scores = lp_sensitivities(deficient, p)
    np.testing.assert_allclose(scores[:-1], lp_sensitivities(factor, p), rtol=1e-5)
    assert scores[-1] == 0
    assert np.array_equal(lp_sensitivities(np.zeros((3, 2)), p), np.zeros(3))


@pytest.mark.parametrize("p", [1.5, 4])
def test_groups_estimate_from_above(p, monkeypatch):
    monkeypatch.setattr(sys.modules[lp_sensitivities.__module__], "GROUPS", 45)
    exact, group, bound = (lp_sensitivities(HEAVY, p, method=method, rng=0) for method in ("exact", "group", "bound"))
    assert np.mean(group >= exact * (1 - 1e-6)) >= 0.85  # of one draw half, of three seven eighths at least
    assert np.all(group <= bound * (1 + 1e-12))
    assert np.median(group / exact) <= 2 ** (p / 2 + 1)
    few = lp_sensitivities(HEAVY, p, method="group", rows=np.arange(40), rng=0)
    np.testing.assert_allclose(few, exact[:40], rtol=2e-6)


def test_some_rows_and_torch():
    scores = lp_sensitivities(HEAVY, 3)
    np.testing.assert_allclose(lp_sensitivities(HEAVY, 3, rows=[5, 2]), scores[[5, 2]], rtol=1e-12)
    tensor = lp_sensitivities(torch.from_numpy(HEAVY).float(), 3)
    assert tensor.dtype == torch.float32
    np.testing.assert_allclose(tensor.numpy(), scores, rtol=1e-4)


def test_refusals_and_warnings():
    for p in (0.5, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="p must be"):
            lp_sensitivities(HEAVY, p)
    with pytest.raises(ValueError, match="rows must be row numbers"):
        lp_sensitivities(HEAVY, 3, rows=[90])
    with pytest.raises(TypeError, match="rows must be a list"):
        lp_sensitivities(HEAVY, 3, rows=[0.5])
    with pytest.raises(ValueError, match="A must not be empty"):
        lp_sensitivities(np.empty((0, 3)), 3)
    with pytest.warns(ConvergenceWarning, match="duality gap"):
        lp_sensitivities(HEAVY, 3, tol=1e-30)
