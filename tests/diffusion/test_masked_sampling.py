"""Sampling from masked diffusion: the joint law, calls saved but nothing changed, prompts, counts of calls."""

import itertools
import math

import numpy as np
import pytest
import torch
from specimens import Specimen

from ritz.diffusion import RADD, Geometric, LogLinear, MaskedSamples, TabularMaskedModel, expected_nfe, sample_any_order, sample_masked

JOINT = np.random.default_rng(0).gamma(0.5, size=(3, 3, 3, 3))
MODEL = TabularMaskedModel(JOINT)
EXACT = torch.from_numpy(JOINT / JOINT.sum()).flatten()
DRAWS = 50_000


def _law(tokens):
    index = tokens @ torch.tensor([27, 9, 3, 1])
    return torch.bincount(index, minlength=81).double() / len(tokens)


def _distance(p, q):
    return float(0.5 * (p - q).abs().sum())


def _network():
    torch.manual_seed(0)
    model = RADD(6, hidden_size=16, blocks=1, heads=2, max_length=32).eval()
    torch.nn.init.normal_(model.head.weight)
    return model


@pytest.mark.parametrize("update", ["tweedie", "euler"])
def test_many_steps_draw_the_joint_law(update):
    assert _distance(_law(sample_masked(MODEL, 4, DRAWS, steps=4096, update=update, generator=0).tokens), EXACT) < 0.02


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [2, 0, 3, 1]])
def test_one_token_at_a_time_draws_the_joint_law_in_any_order(order):
    result = sample_any_order(MODEL, torch.tensor(order), DRAWS, generator=0)
    assert _distance(_law(result.tokens), EXACT) < 0.02
    assert torch.equal(result.nfe, torch.full((DRAWS,), 4))
    assert torch.equal(result.history[0], torch.tensor(order).argsort())


def test_one_step_draws_the_product_of_the_marginals():
    marginals = [torch.from_numpy(JOINT / JOINT.sum()).sum(tuple(set(range(4)) - {axis})) for axis in range(4)]
    product = torch.stack([math.prod(marginals[i][v] for i, v in enumerate(row)) for row in itertools.product(range(3), repeat=4)])
    law = _law(sample_masked(MODEL, 4, DRAWS, steps=1, generator=0).tokens)
    assert _distance(law, product) < 0.02
    assert _distance(law, EXACT) > 0.1


@pytest.mark.parametrize("schedule", [LogLinear(), Geometric()], ids=repr)
@pytest.mark.parametrize("steps", [3, 16, 200])
def test_the_cache_changes_no_token(steps, schedule):
    options = {"steps": steps, "schedule": schedule, "strategy": "top_p", "generator": 1}
    model = _network()
    cached, plain = (sample_masked(model, 24, 20, cache=cache, **options) for cache in (True, False))
    assert torch.equal(cached.tokens, plain.tokens)
    assert torch.equal(cached.history, plain.history)
    assert torch.equal(plain.nfe, torch.full((20,), steps))
    assert bool((cached.nfe <= min(steps, 24)).all())


def test_calls_are_counted_and_batches_stay_full():
    sizes = []

    class Counted:
        mask_id = 3

        def __call__(self, tokens):
            sizes.append(len(tokens))
            return torch.zeros(*tokens.shape, 3)

    result = sample_masked(Counted(), 12, 50, steps=64, generator=0)
    assert sum(sizes) == int(result.nfe.sum())
    assert len(sizes) == int(result.nfe.max())
    assert sizes[0] == 50


@pytest.mark.parametrize("update", ["tweedie", "euler"])
@pytest.mark.parametrize("schedule", [LogLinear(), Geometric()], ids=repr)
@pytest.mark.parametrize("steps", [4, 16, 256])
def test_the_expected_number_of_calls(steps, schedule, update):
    class Uniform:
        mask_id = 2

        def __call__(self, tokens):
            return torch.zeros(*tokens.shape, 2)

    nfe = sample_masked(Uniform(), 10, 3000, steps=steps, schedule=schedule, update=update, generator=0).nfe.double()
    error = 3 * float(nfe.std()) / math.sqrt(3000) + 1e-5
    assert float((nfe.mean() - expected_nfe(10, steps, schedule, update=update)).abs()) < error


def test_the_formula_for_the_log_linear_schedule():
    for length, steps in ((32, 16), (32, 64), (32, 1024), (5, 3)):
        assert expected_nfe(length, steps) == pytest.approx(steps * (1 - (1 - 1 / steps) ** length), rel=1e-3)


def test_steps_open_tokens_as_the_schedule_says():
    history = sample_masked(MODEL, 4, DRAWS, steps=5, generator=0).history
    assert torch.allclose(torch.bincount(history.flatten(), minlength=5) / (4 * DRAWS), torch.full((5,), 0.2), atol=0.005)


def test_prompts_stay_and_masks_go():
    prompt = torch.tensor([1, 3, 3, 0])
    result = sample_masked(MODEL, 4, DRAWS, steps=300, prompt=prompt, generator=0)
    assert torch.equal(result.tokens[:, [0, 3]], prompt[[0, 3]].expand(DRAWS, 2))
    assert int(result.tokens.max()) < 3
    assert bool((result.history[:, [0, 3]] == -1).all())
    given = torch.from_numpy(JOINT)[1, :, :, 0]
    law = torch.bincount(result.tokens[:, 1] * 3 + result.tokens[:, 2], minlength=9).double() / DRAWS
    assert _distance(law, (given / given.sum()).flatten()) < 0.02
    complete = sample_masked(MODEL, 4, 1, steps=5, prompt=torch.tensor([[0, 1, 2, 0]]), generator=0)
    assert complete.tokens.tolist() == [[0, 1, 2, 0]]
    assert complete.nfe.tolist() == [0]


def test_likely_tokens_only():
    class Skewed:
        mask_id = 4

        def __call__(self, tokens):
            return torch.tensor([0.5, 0.3, 0.15, 0.05]).log().expand(*tokens.shape, 4)

    def drawn(strategy, value):
        tokens = sample_masked(Skewed(), 10, 2000, steps=2, strategy=strategy, strategy_value=value, generator=0).tokens
        return torch.bincount(tokens.flatten(), minlength=4) / tokens.numel()

    assert torch.allclose(drawn("direct", 0.9), torch.tensor([0.5, 0.3, 0.15, 0.05]), atol=0.015)
    assert torch.allclose(drawn("top_k", 2), torch.tensor([0.625, 0.375, 0.0, 0.0]), atol=0.015)
    assert torch.allclose(drawn("top_p", 0.6), torch.tensor([0.625, 0.375, 0.0, 0.0]), atol=0.015)
    assert torch.allclose(drawn("top_p", 0.9), torch.tensor([0.5, 0.3, 0.15, 0.0]) / 0.95, atol=0.015)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"steps": 0}, "steps"),
        ({"length": 0}, "length"),
        ({"n": 0}, "n must"),
        ({"strategy": "top_p", "strategy_value": 1.2}, "strategy_value"),
        ({"strategy": "top_k", "strategy_value": 0}, "strategy_value"),
        ({"strategy": "top_k", "strategy_value": 1.5}, "strategy_value"),
        ({"update": "heun"}, "update"),
        ({"prompt": torch.tensor([0, 1])}, "prompt"),
        ({"prompt": torch.zeros(3, 4, dtype=torch.long)}, "prompt"),
    ],
)
def test_refusals(change, name):
    with pytest.raises(ValueError, match=name):
        sample_masked(**({"model": MODEL, "length": 4, "n": 2, "steps": 3} | change))


def test_orders_that_are_none_are_refused():
    with pytest.raises(ValueError, match="order"):
        sample_any_order(MODEL, torch.tensor([0, 0, 1, 2]), 2)
    with pytest.raises(TypeError, match="order"):
        sample_any_order(MODEL, [0, 1, 2, 3], 2)
    with pytest.raises(TypeError, match="model"):
        sample_masked(len, 4, 2)


_EITHER = {"generator": ("none",), "prompt": ("none",)}
SPECIMENS = {
    "sample_masked": Specimen(
        lambda **arguments: sample_masked(MODEL, **arguments),
        lambda: {
            "length": 4,
            "n": 2,
            "steps": 3,
            "update": "euler",
            "cache": True,
            "strategy": "top_p",
            "strategy_value": 0.5,
            "prompt": torch.tensor([[0, 3, 3, 1], [3, 3, 3, 3]]),
            "generator": 0,
        },
        accepts=_EITHER,
    ),
    "sample_any_order": Specimen(
        lambda **arguments: sample_any_order(MODEL, **arguments),
        lambda: {
            "order": torch.tensor([[0, 1, 2, 3], [3, 2, 1, 0]]),
            "n": 2,
            "strategy": "top_k",
            "strategy_value": 2,
            "prompt": torch.tensor([[0, 3, 3, 1], [3, 3, 3, 3]]),
            "generator": 0,
        },
        accepts=_EITHER,
    ),
    "expected_nfe": Specimen(expected_nfe, lambda: {"length": 4, "steps": 3, "update": "tweedie"}),
    "MaskedSamples": Specimen(lambda: MaskedSamples(torch.zeros(1, 1), torch.ones(1), torch.zeros(1, 1)), dict),
}
