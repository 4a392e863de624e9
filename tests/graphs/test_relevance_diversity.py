"""Relevance and diversity of features."""

import numpy as np
import pytest
import scipy.stats
import torch
from specimens import Specimen

from ritz.graphs import FeatureComponents, RelevanceDiversity, relevance_diversity

RNG = np.random.default_rng(0)
BUYER = RNG.standard_normal((50, 6)) @ RNG.standard_normal((6, 6))
SELLER = RNG.standard_normal((40, 6)) @ RNG.standard_normal((6, 6)) + 3

SPECIMENS = {
    "relevance_diversity": Specimen(
        relevance_diversity,
        lambda: {"X_buyer": BUYER.copy(), "X_seller": SELLER.copy(), "n_components": 3, "threshold": 0.0, "seller_norm": "norm"},
    ),
    "FeatureComponents": Specimen(
        FeatureComponents,
        lambda: {name: np.ones(1) for name in ("buyer_variances", "seller_variances", "relevances", "diversities")},
        spare=frozenset({"buyer_variances", "seller_variances", "relevances", "diversities"}),
    ),
    "RelevanceDiversity": Specimen(
        RelevanceDiversity,
        lambda: {"relevance": 1.0, "diversity": 0.0, "components": None},
        spare=frozenset({"relevance", "diversity", "components"}),
    ),
}


@pytest.mark.parametrize("seller_norm", ["norm", "quadratic"])
@pytest.mark.parametrize("d", [1, 3, 6])
def test_equals_the_definition(seller_norm, d):
    values, vectors = np.linalg.eigh(np.cov(BUYER.T))
    values, vectors = values[::-1][:d], vectors[:, ::-1][:, :d]
    C = np.cov(SELLER.T)
    theirs = np.array([np.linalg.norm(C @ u) if seller_norm == "norm" else u @ C @ u for u in vectors.T])
    largest = np.maximum(values, theirs)
    relevance, diversity, components = relevance_diversity(BUYER, SELLER, d, seller_norm=seller_norm)
    assert relevance == pytest.approx(np.prod(np.minimum(values, theirs) / largest) ** (1 / d), rel=1e-10)
    assert diversity == pytest.approx(np.prod(np.abs(values - theirs) / largest) ** (1 / d), rel=1e-8)
    np.testing.assert_allclose(components.buyer_variances, values, rtol=1e-10)
    np.testing.assert_allclose(components.seller_variances, theirs, rtol=1e-10)
    assert 0 <= relevance <= 1
    assert 0 <= diversity <= 1


def test_equal_features():
    relevance, diversity, _ = relevance_diversity(BUYER, BUYER, 4)
    assert relevance == pytest.approx(1, abs=1e-12)
    assert diversity == pytest.approx(0, abs=1e-12)


def test_no_variance_along_a_direction_of_the_buyer():
    X = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * [3.0, 2.0, 1.0]  # uncorrelated columns
    relevances = [relevance_diversity(X, X * [1, shrink, 1], 3).relevance for shrink in (1.0, 0.1, 1e-3, 1e-5, 0.0)]
    np.testing.assert_allclose(relevances, np.array([1.0, 1e-2, 1e-6, 1e-10, 0.0]) ** (1 / 3), atol=1e-9)
    assert relevance_diversity(X, np.ones((9, 3)), 3)[:2] == (0.0, 1.0)
    along = np.linalg.eigh(np.cov(BUYER.T))[1][:, -1]
    without = BUYER - np.outer(BUYER @ along, along)
    assert relevance_diversity(BUYER, without, 2).relevance == 0.0


def test_a_direction_flat_on_both_sides_is_fully_relevant():
    flat = np.column_stack([np.arange(5.0), np.zeros(5)])
    _, _, components = relevance_diversity(flat, flat, 2)
    np.testing.assert_allclose(components.relevances, 1)
    np.testing.assert_allclose(components.diversities, 0, atol=1e-12)


def test_scaling_the_sellers_features():
    for seller_norm in ("norm", "quadratic"):
        plain, doubled = (relevance_diversity(BUYER, c * SELLER, 4, seller_norm=seller_norm).components for c in (1, 2))
        np.testing.assert_allclose(doubled.seller_variances, 4 * plain.seller_variances, rtol=1e-12)


def test_rotations_and_the_order_of_rows_change_nothing():
    Q = np.linalg.qr(RNG.standard_normal((6, 6)))[0]
    plain = relevance_diversity(BUYER, SELLER, 4)
    for other in (relevance_diversity(BUYER @ Q, SELLER @ Q, 4), relevance_diversity(BUYER[::-1], RNG.permutation(SELLER), 4)):
        np.testing.assert_allclose(other[:2], plain[:2], rtol=1e-9)


def test_threshold_leaves_out_directions():
    values = relevance_diversity(BUYER, SELLER, 6).components.buyer_variances
    cut = relevance_diversity(BUYER, SELLER, 6, threshold=float(values[2]) * 0.999)
    np.testing.assert_allclose(cut.components.buyer_variances, values[:3])
    assert cut.relevance == pytest.approx(relevance_diversity(BUYER, SELLER, 3).relevance)
    assert cut.relevance == pytest.approx(scipy.stats.gmean(cut.components.relevances))
    with pytest.raises(ValueError, match="threshold must be at most the buyer's largest variance"):
        relevance_diversity(BUYER, SELLER, 6, threshold=1e9)


def test_one_column_and_torch():
    relevance, diversity, _ = relevance_diversity(torch.from_numpy(BUYER[:, :1]), 2 * BUYER[:, :1], 1)
    assert (relevance, diversity) == (pytest.approx(0.25), pytest.approx(0.75))


def test_many_components_do_not_underflow():
    X = np.random.default_rng(0).standard_normal((2000, 400))
    relevance, diversity, _ = relevance_diversity(X, 1e-3 * X, 400)
    assert relevance == pytest.approx(1e-6, rel=1e-6)
    assert diversity == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"X_seller": SELLER[:, :5]}, "X_seller must have the 6 columns of X_buyer, got 5"),
        ({"n_components": 7}, "n_components must be an integer of at least 1 and at most 6"),
        ({"n_components": 0}, "n_components"),
        ({"X_buyer": BUYER[:1]}, "X_buyer must have at least two rows"),
        ({"X_buyer": np.full((3, 6), np.nan)}, "X_buyer must be finite"),
        ({"seller_norm": "trace"}, "seller_norm must be one of"),
        ({"threshold": -1.0}, "threshold must be"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        relevance_diversity(**({"X_buyer": BUYER, "X_seller": SELLER, "n_components": 3} | arguments))
