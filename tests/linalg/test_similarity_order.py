"""Similarity orders: permutations, chains that are recovered, path lengths, groups, features."""

import numpy as np
import pytest
import torch
from specimens import Specimen

from ritz.linalg import low_mode_features, similarity_order

RNG = np.random.default_rng(0)
SPECIMENS = {
    "similarity_order": Specimen(
        similarity_order, lambda: {"parameters": np.random.default_rng(0).random((9, 3)), "group_size": 4, "start": 2}, accepts={"start": ("none",)}
    ),
    "low_mode_features": Specimen(low_mode_features, lambda: {"fields": np.random.default_rng(0).random((9, 8, 8)), "modes": 4, "components": 3}),
}


def length(points: np.ndarray, order: np.ndarray) -> float:
    rows = points.reshape(len(points), -1)[order]
    return float(np.linalg.norm(np.diff(rows, axis=0), axis=1).sum())


def greedy(points: np.ndarray, start: int) -> list[int]:
    """The definition, one step at a time."""
    order, left = [start], set(range(len(points))) - {start}
    while left:
        order.append(min(left, key=lambda j: np.linalg.norm(points[order[-1]] - points[j])))
        left.remove(order[-1])
    return order


def test_it_is_the_greedy_chain():
    points = RNG.standard_normal((40, 3, 2))
    np.testing.assert_array_equal(similarity_order(points, start=7), greedy(points, 7))


@pytest.mark.parametrize("group_size", [1, 7, 25, 1000])
@pytest.mark.parametrize("shape", [(60,), (60, 4), (60, 5, 5)])
def test_it_is_a_permutation_that_begins_at_the_start(shape, group_size):
    points = RNG.standard_normal(shape) + 1j * RNG.standard_normal(shape)
    order = similarity_order(points, group_size=group_size, start=11)
    assert order[0] == 11
    np.testing.assert_array_equal(np.sort(order), np.arange(60))


@pytest.mark.parametrize("group_size", [10, 1000])
def test_a_shuffled_line_is_recovered(group_size):
    shuffle = RNG.permutation(50)
    line = np.outer(np.arange(50.0), [1.0, -2.0, 0.5])[shuffle] + 1e6  # far from the origin: distances must not cancel
    order = similarity_order(line, group_size=group_size, start=int(np.flatnonzero(shuffle == 0)[0]))
    np.testing.assert_array_equal(shuffle[order], np.arange(50))


@pytest.mark.parametrize("group_size", [20, 1000])
def test_the_path_is_shorter_than_the_given_one(group_size):
    ratios = []
    for seed in range(10):
        points = np.random.default_rng(seed).random((100, 2))
        ratios.append(length(points, similarity_order(points, group_size=group_size)) / length(points, np.arange(100)))
    assert np.mean(ratios) < 0.4


def test_a_drawn_start_follows_the_seed_and_tensors_are_read():
    points = RNG.standard_normal((30, 2))
    draws = {int(similarity_order(points, start=None, rng=seed)[0]) for seed in range(20)}
    assert len(draws) > 5
    np.testing.assert_array_equal(similarity_order(points, start=None, rng=3), similarity_order(points, start=None, rng=3))
    np.testing.assert_array_equal(similarity_order(torch.from_numpy(points)), similarity_order(points))


def test_equal_members_and_single_ones():
    np.testing.assert_array_equal(similarity_order(np.ones((4, 2))), np.arange(4))
    np.testing.assert_array_equal(similarity_order(np.ones((4, 2)), group_size=2), np.arange(4))
    np.testing.assert_array_equal(similarity_order(np.ones(1)), [0])


def test_low_modes_tell_smooth_fields_apart_and_rough_noise_not():
    x = np.linspace(0, 2 * np.pi, 33)[:-1]
    smooth = np.array([a * np.cos(x)[:, None] * np.ones(32) for a in np.linspace(0, 1, 12)])
    rough = 0.3 * (-1.0) ** np.arange(32)[:, None] * np.ones(32)
    signs = RNG.choice([-1.0, 1.0], size=12)
    features = low_mode_features(smooth + signs[:, None, None] * rough)
    np.testing.assert_array_equal(similarity_order(features), np.arange(12))
    exact = low_mode_features(smooth, modes=32, components=12)
    distances = np.linalg.norm(exact[:, None] - exact[None], axis=2)
    expected = 32 * np.linalg.norm(smooth[:, None] - smooth[None], axis=(2, 3))
    np.testing.assert_allclose(distances, expected, atol=1e-9)


@pytest.mark.parametrize("options", [{"start": 9}, {"start": -1}, {"group_size": 0}, {"parameters": np.zeros((0, 3))}])
def test_refusals(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        similarity_order(**({"parameters": np.ones((9, 2))} | options))
