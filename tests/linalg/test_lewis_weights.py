"""Lewis weights: the fixed point, its sum, p = 2, invariance, few factorizations."""

import numpy as np
import pytest
import scipy.sparse
import torch
from specimens import Specimen

from ritz.core import ConvergenceWarning
from ritz.linalg import leverage_scores, lewis_weights
from ritz.linalg.leverage_scores import orthonormal_basis
from ritz.linalg.lewis_weights import fixed_point

RNG = np.random.default_rng(0)
HEAVY = RNG.standard_normal((400, 6)) * RNG.pareto(0.8, 400)[:, None]
GROUPED = np.eye(6)[RNG.integers(6, size=400)] * RNG.pareto(1, 400)[:, None]
SPECIMENS = {
    "lewis_weights": Specimen(lewis_weights, lambda: {"A": HEAVY[:60], "p": 1.5, "iterations": 50, "tol": 1e-4}, accepts={"iterations": ("none",)}),
}


@pytest.mark.parametrize("p", [1, 1.5, 2, 3, 4, 6, 12])
@pytest.mark.parametrize("A", [HEAVY, GROUPED], ids=["heavy tails", "groups"])
def test_they_are_the_fixed_point_and_sum_to_the_rank(p, A):
    w = lewis_weights(A, p)
    np.testing.assert_allclose(w.sum(), 6, atol=1e-5)
    R = np.linalg.qr(w[:, None] ** (0.5 - 1 / p) * A)[1]
    scores = np.sum(np.linalg.solve(R.T, (w[:, None] ** (0.5 - 1 / p) * A).T) ** 2, axis=0)
    assert np.max(np.abs(scores / w - 1)) <= 1e-6 * (1 + 1e-3)


def test_p_2_gives_leverage_scores():
    np.testing.assert_allclose(lewis_weights(HEAVY, 2), leverage_scores(HEAVY), atol=1e-12)


@pytest.mark.parametrize("p", [1, 4])
def test_one_nonzero_per_row_gives_shares(p):
    shares = np.abs(GROUPED) ** p / np.sum(np.abs(GROUPED) ** p, axis=0)
    np.testing.assert_allclose(lewis_weights(GROUPED, p, tol=1e-10), shares.sum(axis=1), atol=1e-9)


@pytest.mark.parametrize("p", [1, 1.5, 2, 3, 4])
def test_fifteen_factorizations_suffice(p):
    for A in (HEAVY, GROUPED):
        assert fixed_point(orthonormal_basis(A), p, 15, 1e-6)[1] <= 1e-6


@pytest.mark.parametrize("p", [1, 3, 8])
def test_the_basis_does_not_matter(p):
    np.testing.assert_allclose(lewis_weights(HEAVY @ RNG.standard_normal((6, 6)), p), lewis_weights(HEAVY, p), rtol=1e-5)


def test_rank_deficient_zero_and_torch():
    deficient = np.vstack([HEAVY[:, :3] @ RNG.standard_normal((3, 5)), np.zeros((2, 5))])
    w = lewis_weights(deficient, 1)
    np.testing.assert_allclose(w.sum(), 3, atol=1e-5)
    assert np.array_equal(w[-2:], [0, 0])
    assert np.array_equal(lewis_weights(np.zeros((3, 2)), 1), np.zeros(3))
    np.testing.assert_allclose(lewis_weights(torch.from_numpy(deficient).float(), 1).numpy(), w, atol=1e-4)
    np.testing.assert_allclose(lewis_weights(scipy.sparse.csr_array(deficient), 1), w, atol=1e-6)


def test_not_converging_is_warned():
    with pytest.warns(ConvergenceWarning, match="after 2 factorizations"):
        lewis_weights(HEAVY, 1, iterations=2)
    with pytest.raises(ValueError, match="p must be"):
        lewis_weights(HEAVY, 0.5)
