"""The decoder with every strategy: fills what is masked and nothing else, counts its calls, keeps the law where it decodes one token at a time."""

import math

import numpy as np
import pytest
import torch
from specimens import Specimen

from ritz.diffusion import (
    Decoded,
    Factor,
    LeftToRight,
    RandomK,
    RemaskLowest,
    RunningConfidence,
    TabularMaskedModel,
    Threshold,
    TopK,
    decoding_order_correlation,
    parallel_decode,
)

JOINT = np.random.default_rng(0).gamma(0.5, size=(3, 3, 3, 3)) + 0.01
MODEL = TabularMaskedModel(JOINT)
MASK = MODEL.mask_id
EXACT = torch.from_numpy(JOINT / JOINT.sum()).flatten()
STRATEGIES = [
    TopK(2),
    TopK(3, "margin"),
    TopK(4, "entropy"),
    TopK(4, "random"),
    RandomK(k=2),
    RandomK(steps=3),
    LeftToRight(),
    LeftToRight(3),
    Threshold(0.5),
    Threshold(0.7, "entropy"),
    Threshold(0.3, "margin"),
    Factor(1.0),
    Factor(0.5, "margin"),
    RemaskLowest(1, 2, TopK(4)),
    RemaskLowest(2, 3),
    RunningConfidence(3),
    lambda confidence, eligible: eligible & (confidence == confidence.amax(1, keepdim=True)),
]


class Fixed:
    """The same logits always; counts its calls, row by row."""

    mask_id = 5

    def __init__(self, length, seed=0):
        self.logits = 2 * torch.randn(length, 5, generator=torch.Generator().manual_seed(seed))
        self.rows = 0

    def __call__(self, tokens):
        self.rows += len(tokens)
        return self.logits.expand(len(tokens), -1, -1)


@pytest.mark.parametrize("temperature", [0.0, 1.0, 0.6])
@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda strategy: getattr(strategy, "__name__", str(strategy)))
def test_a_strategy_fills_the_masks_and_nothing_else(strategy, temperature):
    tokens = torch.tensor([[MASK] * 4, [0, MASK, 2, MASK], [1, 2, 0, MASK]]).repeat(5, 1)
    result = parallel_decode(MODEL, tokens, strategy=strategy, temperature=temperature, generator=0)
    given = tokens != MASK
    assert int(result.tokens.max()) < MASK
    assert torch.equal(result.tokens[given], tokens[given])
    assert bool((result.order[given] == -1).all())
    assert bool((result.order[~given] >= 0).all())
    extra = strategy.steps if isinstance(strategy, RemaskLowest) else 0
    assert bool((result.nfe >= 1).all())
    assert bool((result.nfe <= (~given).sum(1) + extra).all())
    assert torch.equal(result.history[-1], result.tokens)


ONE_PER_STEP = [
    RandomK(k=1),
    LeftToRight(),
    TopK(4, "random"),
    TopK(4, "entropy"),
    TopK(4, "margin"),
    Threshold(1.0, "margin"),
    Factor(1e-9, "entropy"),
]


@pytest.mark.parametrize("strategy", ONE_PER_STEP, ids=lambda strategy: getattr(strategy, "__name__", str(strategy)))
def test_one_token_per_step_is_ancestral_sampling(strategy):
    """As long as the confidence does not look at the candidate that was drawn."""
    n = 20_000
    result = parallel_decode(MODEL, torch.full((n, 4), MASK), strategy=strategy, temperature=1.0, generator=0)
    assert bool((result.nfe == 4).all())
    law = torch.bincount(result.tokens @ torch.tensor([27, 9, 3, 1]), minlength=81).double() / n
    assert float(0.5 * (law - EXACT).abs().sum()) < 0.03


def test_picking_the_likeliest_draws_is_not():
    """The probability of the drawn token prefers likely ones, even one at a time."""
    tokens = parallel_decode(MODEL, torch.full((20_000, 4), MASK), strategy=TopK(4), temperature=1.0, generator=0).tokens
    law = torch.bincount(tokens @ torch.tensor([27, 9, 3, 1]), minlength=81).double() / 20_000
    assert float(0.5 * (law - EXACT).abs().sum()) > 0.05


@pytest.mark.parametrize("block_length", [None, 4])
def test_extremes_of_the_thresholds(block_length):
    model, tokens = Fixed(8), torch.full((3, 8), 5)
    blocks = 1 if block_length is None else 2
    for strategy, calls in ((Threshold(0.0), blocks), (Factor(math.inf), blocks), (Threshold(1.0), 8), (Factor(1e-9), 8), (TopK(4), 4 * blocks)):
        assert parallel_decode(model, tokens, strategy=strategy, block_length=block_length).nfe.tolist() == [calls] * 3


def test_schedules_put_the_remainder_first():
    result = parallel_decode(Fixed(8), torch.full((1, 8), 5), strategy=TopK(3))
    assert torch.bincount(result.order[0]).tolist() == [3, 3, 2]
    assert parallel_decode(Fixed(8), torch.full((1, 8), 5), strategy=TopK(20)).nfe.tolist() == [8]


def test_the_most_confident_come_first():
    model = Fixed(8)
    probability = model.logits.softmax(-1)
    for kind, value in (
        ("probability", probability.amax(-1)),
        ("margin", -probability.topk(2).values.diff(dim=-1)[:, 0]),
        ("entropy", (probability * probability.log()).sum(-1)),
    ):
        order = parallel_decode(model, torch.full((1, 8), 5), strategy=TopK(8, kind)).order[0]
        assert torch.equal(order.argsort(), value.argsort(descending=True))


def test_the_factor_rule_by_hand():
    """Confidences .99 .8 .7 .3 against 1 - 1 / (j + 1) = .5 .667 .75 .8: two pass."""
    model = Fixed(4)
    for i, c in enumerate((0.99, 0.8, 0.7, 0.3)):
        model.logits[i] = torch.tensor([c, *[(1 - c) / 4] * 4]).log()
    assert (parallel_decode(model, torch.full((1, 4), 5), strategy=Factor(1.0)).order[0] == 0).tolist() == [True, True, False, False]


def test_blocks_are_filled_from_left_to_right():
    result = parallel_decode(Fixed(8), torch.full((2, 8), 5), strategy=TopK(4), block_length=4)
    assert bool((result.order[:, :4].amax(1) < result.order[:, 4:].amin(1)).all())
    ragged = torch.tensor([[0, 1, 2, 3, 5, 5, 5, 5], [5, 5, 5, 5, 5, 5, 5, 5]])
    assert parallel_decode(Fixed(8), ragged, strategy=TopK(2), block_length=4).nfe.tolist() == [2, 4]


def test_remasking_decodes_the_least_confident_again():
    model = Fixed(8)
    plain = parallel_decode(model, torch.full((1, 8), 5), strategy=TopK(8))
    again = parallel_decode(model, torch.full((1, 8), 5), strategy=RemaskLowest(2, 3, TopK(8)))
    assert again.nfe.tolist() == [8 + 3]
    assert torch.equal(again.tokens, plain.tokens)
    assert int((again.history[6] == 5).sum()) == 1 + 2


def test_running_confidence_keeps_to_its_schedule():
    result = parallel_decode(MODEL, torch.full((20, 4), MASK), strategy=RunningConfidence(2), temperature=1.0, generator=0)
    assert bool((result.nfe == 2).all())
    assert bool(((result.history[0] == MASK).sum(1) == 2).all())


def test_guidance_mixes_the_logits_with_and_without_the_prompt():
    prompt = torch.tensor([[0, MASK, MASK, 1]])
    result = parallel_decode(MODEL, prompt, strategy=Threshold(0.0), guidance=1.5)
    with_prompt, without = MODEL(prompt), MODEL(torch.full((1, 4), MASK))
    mixed = without + 2.5 * (with_prompt - without)
    assert torch.equal(result.tokens[0, 1:3], mixed[0, 1:3].argmax(-1))
    assert result.nfe.tolist() == [2]


def test_what_follows_an_end_is_filled_with_ends():
    model = Fixed(8)
    model.logits[:] = 0.0
    model.logits[2, 4] = 9.0
    model.logits[[0, 1], 1] = 9.0
    result = parallel_decode(model, torch.full((1, 8), 5), strategy=LeftToRight(), eos_id=4)
    assert result.tokens.tolist() == [[1, 1, 4, 4, 4, 4, 4, 4]]
    assert result.nfe.tolist() == [3]


def test_calls_are_counted_and_finished_rows_are_not_asked():
    model = Fixed(6)
    tokens = torch.tensor([[5] * 6, [0, 0, 0, 0, 0, 5]])
    result = parallel_decode(model, tokens, strategy=LeftToRight())
    assert result.nfe.tolist() == [6, 1]
    assert model.rows == 7


def test_the_seed_decides():
    first, second, third = (
        parallel_decode(MODEL, torch.full((30, 4), MASK), strategy=RandomK(k=1), temperature=1.0, generator=seed).tokens for seed in (0, 0, 1)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def test_order_correlations():
    assert decoding_order_correlation(np.array([[3, 2, 1, 0]])) == (-1.0, -1.0)
    left = parallel_decode(MODEL, torch.full((3, 4), MASK), strategy=LeftToRight()).order
    assert decoding_order_correlation(left) == (1.0, 1.0)
    assert math.isnan(decoding_order_correlation(np.zeros((2, 3)))[0])


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"tokens": torch.zeros(1, 4, dtype=torch.long)}, "tokens must have a masked position"),
        ({"block_length": 3}, "block_length must divide"),
        ({"temperature": -1.0}, "temperature"),
        ({"guidance": -0.5}, "guidance"),
        ({"strategy": lambda confidence, eligible: eligible & False}, "opened nothing"),
        ({"strategy": lambda confidence, eligible: confidence}, "strategy must return a boolean"),
        ({"model": type("Bad", (), {"mask_id": 3, "__call__": lambda self, tokens: tokens})()}, "model must return logits"),
    ],
)
def test_refusals(change, name):
    with pytest.raises(ValueError, match=name):
        parallel_decode(**({"model": MODEL, "tokens": torch.full((1, 4), MASK), "strategy": TopK(2)} | change))


def test_wrong_types():
    with pytest.raises(TypeError, match="strategy"):
        parallel_decode(MODEL, torch.full((1, 4), MASK), strategy="topk")
    with pytest.raises(TypeError, match="model"):
        parallel_decode(len, torch.full((1, 4), MASK), strategy=TopK(2))


SPECIMENS = {
    "parallel_decode": Specimen(
        lambda **arguments: parallel_decode(MODEL, strategy=TopK(2), **arguments),
        lambda: {
            "tokens": torch.tensor([[0, MASK, MASK, 1]]),
            "block_length": 2,
            "temperature": 0.5,
            "guidance": 0.5,
            "eos_id": 2,
            "generator": 0,
        },
        accepts={"block_length": ("none",), "eos_id": ("none",), "generator": ("none",)},
    ),
    "decoding_order_correlation": Specimen(decoding_order_correlation, lambda: {"order": np.array([[0.0, 1.0, 2.0]])}),
    "Decoded": Specimen(lambda: Decoded(torch.zeros(1, 1), torch.ones(1), torch.zeros(1, 1), ()), dict),
}
