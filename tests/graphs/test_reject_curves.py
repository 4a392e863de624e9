"""Reject curves against counting."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_curve
from specimens import Specimen

from ritz.graphs import reject_curve

X = np.random.default_rng(0).standard_normal((20, 2)).round(1)
D = np.abs(X[:, None] - X[None]).sum(axis=2)
LABELS = np.arange(20) % 3

SPECIMENS = {"reject_curve": Specimen(reject_curve, lambda: {"D": D.copy(), "y": LABELS.astype(float)})}


def test_is_the_count_of_pairs_below_each_threshold():
    intra, inter = reject_curve(D, LABELS)
    first, second = np.triu_indices(20, k=1)
    within = LABELS[first] == LABELS[second]
    distances = D[first, second]
    thresholds = np.unique(distances)
    assert len(intra) == len(inter) == len(thresholds) + 1
    for point, threshold in enumerate(thresholds, start=1):
        assert intra[point] == (distances[within] <= threshold).mean()
        assert inter[point] == (distances[~within] <= threshold).mean()
    assert (intra[0], inter[0], intra[-1], inter[-1]) == (0, 0, 1, 1)


def test_is_a_receiver_operating_characteristic():
    first, second = np.triu_indices(20, k=1)
    false, true, _ = roc_curve(LABELS[first] == LABELS[second], -D[first, second], drop_intermediate=False)
    intra, inter = reject_curve(D, LABELS)
    np.testing.assert_allclose(intra, true)
    np.testing.assert_allclose(inter, false)


def test_a_perfect_distance_and_one_that_tells_nothing():
    labels = np.array([0, 0, 1, 1, 1])
    intra, inter = reject_curve((labels[:, None] != labels[None]).astype(float), labels)
    np.testing.assert_array_equal(intra, [0, 1, 1])
    np.testing.assert_array_equal(inter, [0, 0, 1])
    intra, inter = reject_curve(1 - np.eye(5), labels)
    np.testing.assert_array_equal(intra, inter)


def test_torch_and_refusals():
    assert isinstance(reject_curve(torch.from_numpy(D), LABELS)[0], torch.Tensor)
    for y in (np.zeros(20), np.arange(20)):
        with pytest.raises(ValueError, match="y must have at least two clusters"):
            reject_curve(D, y)
    with pytest.raises(ValueError, match="y must have a cluster for each of the 20 nodes of D, got 5"):
        reject_curve(D, LABELS[:5])
