"""Rank rules: what each keeps, what is refused, and that a budget is spent well."""

import numpy as np
import pytest
from specimens import Specimen

from ritz.linalg import RankRule

SPECIMENS = {
    "RankRule": Specimen(RankRule, lambda: {"kind": "rank", "value": 3}),
    "RankRule.of": Specimen(RankRule.of, lambda: {"rank": 3}),
    "RankRule.choose": Specimen(RankRule("energy", 0.5).choose, lambda: {"singular_values": np.array([2.0, 1.0]), "shape": (2, 3)}),
}

VALUES = np.array([4.0, 2.0, 1.0, 0.5])


@pytest.mark.parametrize(
    ("rank", "expected"),
    [
        (3, 3),
        (9, 4),
        (0, 0),
        ("3", 3),
        (np.int64(2), 2),
        ("rank:1", 1),
        (RankRule("rank", 2), 2),
        (0.5, 2),
        ("0.5", 2),
        (1.0, 4),
        (0.0, 0),
        (0.01, 1),
        ("energy:0.75", 1),
        ("energy:0.9", 2),
        ("energy:1.0", 4),
        ("threshold:1.0", 2),
        ("threshold:0", 4),
        ("budget:25", 2),
    ],
)
def test_chooses(rank, expected):
    assert RankRule.of(rank).choose(VALUES, (4, 6)) == expected


@pytest.mark.parametrize("rank", [-1, 1.5, -0.1, "energy:0", "energy:2", "threshold:-1", "budget:0.5", "half", "mean:3", ":3", float("nan")])
def test_refuses(rank):
    with pytest.raises(ValueError, match="rank"):
        RankRule.of(rank)


@pytest.mark.parametrize("rank", [None, True, [3], 1j])
def test_refuses_other_types(rank):
    with pytest.raises(TypeError, match="rank"):
        RankRule.of(rank)


def test_zero_has_no_energy():
    assert RankRule.of("energy:0.9").choose([0.0, 0.0], (2, 2)) == 0


def test_a_budget_is_kept_and_spent_where_it_gains_most():
    layers = {"wide": (np.array([9.0, 8.0, 7.0]), (50, 50)), "thin": (np.array([3.0, 2.9]), (2, 8)), "nothing": (np.zeros(4), (4, 4))}
    for budget in (0, 9, 10, 100, 110, 120, 200, 320, 10_000):
        ranks = RankRule("budget", budget).allocate(layers)
        costs = {name: sum(shape) for name, (_, shape) in layers.items()}
        assert sum(ranks[name] * costs[name] for name in layers) <= budget
        assert ranks["nothing"] == 0
    assert RankRule("budget", 120).allocate(layers) == {"wide": 1, "thin": 2, "nothing": 0}
    assert RankRule("rank", 2).allocate(layers) == {"wide": 2, "thin": 2, "nothing": 2}


def test_a_budget_is_the_best_of_all_allocations_of_equal_cost():
    rng = np.random.default_rng(0)
    layers = {name: (np.sort(rng.random(3))[::-1], (3, 3)) for name in "abc"}
    ranks = RankRule("budget", 5 * 6).allocate(layers)
    kept = sum(np.sum(values[: ranks[name]] ** 2) for name, (values, _) in layers.items())
    everything = np.sort(np.concatenate([values for values, _ in layers.values()]) ** 2)[::-1]
    assert np.isclose(kept, everything[:5].sum())
