"""Masked diffusion's blocks: schedules against their definitions, the tabular model against sums by hand, draws against their law."""

import itertools
import math

import numpy as np
import pytest
import torch
from specimens import Specimen

from ritz.diffusion import Geometric, LogLinear, MaskedLanguageModel, TabularMaskedModel
from ritz.diffusion.masked import check_masked_model, check_tokens, draw

JOINT = np.random.default_rng(0).gamma(0.5, size=(3, 3, 3, 3))
MODEL = TabularMaskedModel(JOINT)
MASK = MODEL.mask_id


@pytest.mark.parametrize("schedule", [LogLinear(), LogLinear(0.0), Geometric(), Geometric(0.01, 5.0)], ids=repr)
def test_schedules_are_consistent(schedule):
    t = torch.linspace(0.01, 0.98, 50, dtype=torch.float64)
    step = 1e-6
    slope = (schedule.total_noise(t + step) - schedule.total_noise(t - step)) / (2 * step)
    assert torch.allclose(schedule.noise_rate(t), slope, rtol=1e-6)
    assert torch.allclose(schedule.masking_probability(t), 1 - torch.exp(-schedule.total_noise(t)), rtol=1e-9, atol=1e-12)
    assert schedule.total_noise(0.3) == pytest.approx(float(schedule.total_noise(torch.tensor(0.3, dtype=torch.float64))))
    assert schedule.masking_probability(0.3) == pytest.approx(-math.expm1(-schedule.total_noise(0.3)))
    assert bool((schedule.noise_rate(t) > 0).all())


def test_the_ends_of_the_schedules():
    assert LogLinear(1e-3).masking_probability(1.0) == pytest.approx(0.999)
    assert LogLinear().masking_probability(0.0) == 0
    assert Geometric().masking_probability(1.0) > 1 - 1e-8


def test_the_tabular_model_is_bayes_rule():
    """All partly hidden sequences of length 4 over 3 tokens, by sums over the table."""
    joint = JOINT / JOINT.sum()
    partly = torch.tensor(list(itertools.product(range(4), repeat=4)))
    probabilities = MODEL(partly).exp()
    for row, answer in zip(partly.tolist(), probabilities):
        shown = tuple(slice(None) if token == MASK else slice(token, token + 1) for token in row)
        kept = joint[shown]
        for i, token in enumerate(row):
            marginal = kept.sum(axis=tuple(axis for axis in range(4) if axis != i)) / kept.sum()
            expected = marginal if token == MASK else np.eye(3)[token]
            assert np.allclose(answer[i], expected, atol=1e-12)


def test_the_tabular_model_sums_out_what_is_hidden():
    tokens = torch.tensor([[0, 2, 1, 1], [MASK, 2, MASK, 1], [MASK] * 4])
    joint = JOINT / JOINT.sum()
    expected = [joint[0, 2, 1, 1], joint[:, 2, :, 1].sum(), 1.0]
    assert torch.allclose(MODEL.log_prob(tokens).exp(), torch.tensor(expected))


def test_an_impossible_context_is_answered_uniformly():
    equal = TabularMaskedModel(np.eye(2)[:, :, None] * np.ones(2))
    answer = equal(torch.tensor([[0, 1, equal.mask_id]])).exp()
    assert torch.allclose(answer[0, 2], torch.full((2,), 0.5, dtype=torch.float64))
    assert torch.isneginf(equal.log_prob(torch.tensor([[0, 1, 2]])))


def test_draws_have_the_law_and_never_a_category_of_probability_zero():
    probabilities = torch.tensor([0.0, 0.2, 0.0, 0.5, 0.3, 0.0]).repeat(100_000, 1)
    uniform = torch.rand(100_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    uniform[:3] = torch.tensor([0.0, 1.0, 1 - 1e-16], dtype=torch.float64)
    counts = torch.bincount(draw(probabilities, uniform), minlength=6) / 100_000
    assert torch.allclose(counts, probabilities[0], atol=0.006)
    assert set(torch.nonzero(counts)[:, 0].tolist()) == {1, 3, 4}


def test_a_language_model_never_predicts_its_mask():
    class Answer:
        logits = torch.randn(2, 3, 5)

    model = MaskedLanguageModel(lambda tokens: Answer, mask_id=1)
    logits = model(torch.zeros(2, 3, dtype=torch.long))
    assert torch.isneginf(logits[..., 1]).all()
    assert torch.equal(logits[..., [0, 2, 3, 4]], Answer.logits[..., [0, 2, 3, 4]])
    outside = MaskedLanguageModel(lambda tokens: Answer.logits, mask_id=5)
    assert torch.equal(outside(torch.zeros(2, 3, dtype=torch.long)), Answer.logits)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: LogLinear(1.0), "eps"),
        (lambda: Geometric(1.0, 0.5), "noise_max"),
        (lambda: TabularMaskedModel(np.ones((2, 3))), "joint"),
        (lambda: TabularMaskedModel(-np.eye(2)), "joint"),
        (lambda: TabularMaskedModel(np.zeros((2, 2))), "joint"),
        (lambda: MODEL(torch.zeros(1, 3, dtype=torch.long)), "tokens"),
        (lambda: MODEL(torch.full((1, 4), 4)), "tokens"),
        (lambda: MODEL(torch.full((1, 4), -1)), "tokens"),
        (lambda: check_tokens(torch.zeros(0, 4, dtype=torch.long), "tokens"), "tokens"),
        (lambda: MaskedLanguageModel(lambda tokens: tokens, -1), "mask_id"),
    ],
)
def test_refusals(make, name):
    with pytest.raises(ValueError, match=name):
        make()


@pytest.mark.parametrize(
    ("make", "name"),
    [(lambda: MODEL(torch.zeros(1, 4)), "tokens"), (lambda: check_masked_model(3), "model"), (lambda: check_masked_model(len), "mask_id")],
)
def test_wrong_types(make, name):
    with pytest.raises(TypeError, match=name):
        make()


SPECIMENS = {
    "LogLinear": Specimen(LogLinear, lambda: {"eps": 0.01}),
    "Geometric": Specimen(Geometric, lambda: {"noise_min": 0.01, "noise_max": 3.0}),
    "TabularMaskedModel": Specimen(TabularMaskedModel, lambda: {"joint": JOINT.copy()}, accepts={"joint": ("more dimensions",)}),
    "TabularMaskedModel.__call__": Specimen(MODEL, lambda: {"tokens": torch.tensor([[0, 3, 3, 1]])}),
    "TabularMaskedModel.log_prob": Specimen(MODEL.log_prob, lambda: {"tokens": torch.tensor([[0, 3, 3, 1]])}),
    "MaskedLanguageModel": Specimen(lambda mask_id: MaskedLanguageModel(lambda tokens: tokens, mask_id), lambda: {"mask_id": 3}),
}
