"""The time-free transformer: shapes, no knowledge of masked tokens' order of arrival, rotary positions, training lowers the loss."""

import inspect

import pytest
import torch
from specimens import Specimen

from ritz.diffusion import RADD, masked_diffusion_loss
from ritz.diffusion.radd import rotary_angles, rotated


def _model(**options):
    torch.manual_seed(0)
    return RADD(5, **({"hidden_size": 32, "blocks": 2, "heads": 2, "max_length": 16, "dropout": 0.0} | options))


def test_it_starts_uniform_and_its_probabilities_sum_to_one():
    model, tokens = _model(), torch.tensor([[0, 5, 4, 5]])
    assert torch.equal(model(tokens), torch.zeros(1, 4, 5))
    torch.nn.init.normal_(model.head.weight)
    assert torch.allclose(model(tokens).softmax(-1).sum(-1), torch.ones(1, 4))
    assert model(tokens).shape[-1] == model.mask_id == 5


def test_there_is_no_time():
    assert list(inspect.signature(RADD.forward).parameters) == ["self", "tokens"]


def test_every_position_sees_every_other():
    model = _model()
    torch.nn.init.normal_(model.head.weight)
    tokens = torch.tensor([[0, 1, 2, 3, 4, 5]])
    for change in (0, 5):
        other = tokens.clone()
        other[0, change] = 2
        assert bool(((model(tokens) - model(other)).abs().amax(-1) > 1e-6).all())


def test_rotary_products_depend_on_the_distance_alone():
    angles = rotary_angles(12, 8).double()
    q, k = torch.randn(2, 8, generator=torch.Generator().manual_seed(0)).double()
    turned_q, turned_k = (rotated(x.expand(12, 8), angles.cos(), angles.sin()) for x in (q, k))
    products = turned_q @ turned_k.T
    for distance in range(-5, 6):
        diagonal = torch.diagonal(products, distance)
        assert torch.allclose(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-5)


def test_training_lowers_the_loss_and_reaches_all_parameters():
    model, generator = _model(dropout=0.02), torch.Generator().manual_seed(0)
    data = torch.arange(8)[None].repeat(64, 1) % 5
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        loss = masked_diffusion_loss(model, data, generator=generator).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: RADD(0), "vocab_size"),
        (lambda: RADD(5, hidden_size=30, heads=4), "hidden_size"),
        (lambda: _model()(torch.full((1, 4), 6)), "tokens"),
        (lambda: _model()(torch.zeros(1, 17, dtype=torch.long)), "tokens"),
        (lambda: RADD(5, hidden_size=8, heads=2, dropout=1.0), "dropout"),
    ],
)
def test_refusals(make, name):
    with pytest.raises(ValueError, match=name):
        make()


SPECIMENS = {
    "RADD": Specimen(RADD, lambda: {"vocab_size": 5, "hidden_size": 8, "blocks": 1, "heads": 2, "dropout": 0.1, "max_length": 8}),
    "RADD.forward": Specimen(_model(), lambda: {"tokens": torch.tensor([[0, 5, 1]])}),
}
