"""Walks follow edges with the stated probabilities, and a start's walks depend on the seed alone."""

import numba
import numpy as np
import pytest
from specimens import Specimen

from ritz.graphs import random_walks, transition

WEIGHTS = np.array([[0, 1.0, 3.0, 0], [1.0, 0, 0, 0], [2.0, 2.0, 0, 4.0], [0, 0, 0, 0]])

SPECIMENS = {
    "random_walks": Specimen(
        lambda adjacency, starts, length, walks: random_walks(adjacency, starts, length, walks=walks, rng=0),
        lambda: {"adjacency": WEIGHTS.copy(), "starts": np.array([0, 2]), "length": 3, "walks": 2},
    ),
}


def test_every_step_follows_an_edge_and_dead_ends_stay():
    path = random_walks(WEIGHTS, np.arange(4), 20, walks=50, rng=0)
    assert path.shape == (4, 50, 21)
    np.testing.assert_array_equal(path[:, :, 0], np.repeat(np.arange(4)[:, None], 50, axis=1))
    source, target = path[:, :, :-1].ravel(), path[:, :, 1:].ravel()
    assert np.all((WEIGHTS[source, target] > 0) | ((source == 3) & (target == 3)))


@pytest.mark.parametrize("A", [WEIGHTS, (WEIGHTS > 0).astype(float), 2.5 * (WEIGHTS > 0)], ids=["weighted", "plain", "scaled"])
def test_steps_have_the_transition_probabilities(A):
    count = 40_000
    first = random_walks(A, [0, 2], 1, walks=count, rng=1)[:, :, 1]
    P = transition(A).toarray()
    for start, met in zip((0, 2), first):
        frequencies = np.bincount(met, minlength=4) / count
        deviation = np.sqrt(P[start] * (1 - P[start]) / count)
        assert np.all(np.abs(frequencies - P[start]) <= 5 * deviation)


def test_successive_steps_are_independent():
    complete = np.ones((3, 3)) - np.eye(3)
    path = random_walks(complete, [0], 2, walks=60_000, rng=2)[0]
    turned_back = np.mean(path[:, 2] == 0)
    assert abs(turned_back - 0.5) <= 5 * np.sqrt(0.25 / 60_000)


def test_threads_and_company_change_nothing():
    before = numba.get_num_threads()
    try:
        results = []
        for threads in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
            numba.set_num_threads(threads)
            results.append(random_walks(WEIGHTS, [2, 0, 1], 5, walks=7, rng=3))
    finally:
        numba.set_num_threads(before)
    np.testing.assert_array_equal(*results)
    np.testing.assert_array_equal(results[0][1], random_walks(WEIGHTS, [0], 5, walks=7, rng=3)[0])


def test_different_seeds_and_starts_give_different_walks():
    complete = np.ones((50, 50)) - np.eye(50)
    a, b = (random_walks(complete, [0, 1], 30, rng=seed) for seed in (0, 1))
    assert not np.array_equal(a, b)
    assert not np.array_equal(a[0, 0, 1:], a[1, 0, 1:])


@pytest.mark.parametrize("starts", [[4], [-1], [[0]]])
def test_starts_that_are_no_nodes_are_refused(starts):
    with pytest.raises(ValueError, match="starts"):
        random_walks(WEIGHTS, starts, 1)


def test_no_start_gives_no_walk():
    assert random_walks(WEIGHTS, [], 4).shape == (0, 1, 5)
