"""Masks: exact counts, the right winners, ties by index."""

import pytest
import torch
from specimens import Specimen

from ritz.compress import activation_score, magnitude_score, n_m_mask, topk_mask

SPECIMENS = {
    "magnitude_score": Specimen(magnitude_score, lambda: {"weight": torch.randn(3, 4)}, accepts={"weight": ("more dimensions", "scalar")}),
    "activation_score": Specimen(activation_score, lambda: {"weight": torch.randn(3, 4), "second_moment": torch.rand(4)}),
    "n_m_mask": Specimen(n_m_mask, lambda: {"score": torch.rand(3, 8), "n": 2, "m": 4, "dim": -1}, accepts={"score": ("more dimensions",)}),
    "topk_mask": Specimen(
        topk_mask, lambda: {"scores": torch.rand(3, 8), "keep": 2, "scope": "layer"}, accepts={"scores": ("more dimensions", "scalar")}
    ),
}


@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (4, 8), (0, 2), (4, 4)])
def test_every_group_keeps_its_n_highest(n, m, dim):
    score = torch.rand(16, 24)
    mask = n_m_mask(score, n, m, dim)
    groups, kept = (part.movedim(dim, -1).reshape(-1, m) for part in (score, mask))
    assert (kept.sum(1) == n).all()
    lowest_kept = torch.where(kept, groups, torch.inf).amin(1)
    highest_dropped = torch.where(kept, -torch.inf, groups).amax(1)
    assert (lowest_kept > highest_dropped).all()


def test_ties_go_to_the_lower_index():
    assert n_m_mask(torch.ones(2, 8), 2, 4).tolist() == [[True, True, False, False] * 2] * 2
    assert topk_mask(torch.ones(5), 2).tolist() == [True, True, False, False, False]


def test_a_width_that_m_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="multiple of m = 4"):
        n_m_mask(torch.ones(4, 6), 2, 4)
    with pytest.raises(ValueError, match="n must be"):
        n_m_mask(torch.ones(4, 8), 5, 4)


@pytest.mark.parametrize("keep", [0, 7, 0.3, 1.0])
def test_counts_are_exact_in_every_scope(keep):
    scores = {"a": torch.rand(6, 8), "b": torch.rand(4, 10, 3) + 0.5}
    sizes = {"global": 48 + 120, "layer": (48, 120), "row": (8, 30)}

    def wanted(size):
        return keep if isinstance(keep, int) else round(keep * size)

    assert sum(int(mask.sum()) for mask in topk_mask(scores, keep).values()) == wanted(sizes["global"])
    assert tuple(int(mask.sum()) for mask in topk_mask(scores, keep, "layer").values()) == tuple(map(wanted, sizes["layer"]))
    for mask, size in zip(topk_mask(scores, keep, "row").values(), sizes["row"]):
        assert (mask.flatten(1).sum(1) == wanted(size)).all()


def test_filters_and_channels_go_as_a_whole_by_their_sum():
    score = torch.rand(6, 5, 3)
    for scope, dim in (("filter", 0), ("channel", 1)):
        mask = topk_mask(score, 2, scope).movedim(dim, 0).flatten(1)
        best = score.movedim(dim, 0).flatten(1).sum(1).topk(2).indices
        assert set(mask.all(1).nonzero().flatten().tolist()) == set(best.tolist())
        assert not mask[~mask.all(1)].any()


def test_too_many_and_too_few_dimensions_are_refused():
    with pytest.raises(ValueError, match="keep must be"):
        topk_mask(torch.rand(3), 4)
    with pytest.raises(ValueError, match="scores must have at least 2"):
        topk_mask(torch.rand(3), 1, "channel")


def test_the_activation_score_is_the_root_mean_square_of_what_a_weight_adds():
    weight, x = torch.randn(3, 4, dtype=torch.float64), torch.randn(1000, 4, dtype=torch.float64)
    added = (weight[:, None, :] * x[None]).square().mean(1).sqrt()
    assert torch.allclose(activation_score(weight, x.square().mean(0)), added)
    assert torch.equal(activation_score(weight, torch.ones(4)), magnitude_score(weight))
