"""Losses of masked diffusion: for exact conditionals all are -log p, by enumeration and by Monte Carlo."""

import itertools
import math

import numpy as np
import pytest
import torch
from specimens import Specimen

from ritz.diffusion import Geometric, LogLinear, TabularMaskedModel, masked_diffusion_loss, perplexity_bound
from ritz.diffusion.masked_losses import EARLIEST, draw_times

LENGTH = 4
MODEL = TabularMaskedModel(np.random.default_rng(0).gamma(0.5, size=(3,) * LENGTH) + 0.01)
ALL = torch.tensor(list(itertools.product(range(3), repeat=LENGTH)))
EXACT = -MODEL.log_prob(ALL)
MASKS = torch.tensor(list(itertools.product([False, True], repeat=LENGTH)))


class Wrong:
    """A model that is not exact, for bounds and gradients."""

    mask_id = 3

    def __init__(self):
        self.table = torch.randn(4, LENGTH, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)

    def __call__(self, tokens):
        return sum(self.table[tokens[:, i], :] for i in range(LENGTH))


def _cross_entropy(model, mask):
    """Sum over the masked positions of -log c, for all sequences."""
    logits = torch.log_softmax(model(ALL.masked_fill(mask, model.mask_id)), -1)
    return -(logits.gather(-1, ALL[..., None])[..., 0] * mask).sum(1)


def _lambda_dce(model):
    """The integral over lambda in closed form: weight B(m, L - m + 1) for m masked tokens."""
    total = 0.0
    for mask in MASKS:
        m = int(mask.sum())
        if m:
            total = total + math.gamma(m) * math.gamma(LENGTH - m + 1) / math.gamma(LENGTH + 1) * _cross_entropy(model, mask)
    return total


def _k_dce(model):
    return sum(_cross_entropy(model, mask) / (mask.sum() * math.comb(LENGTH, int(mask.sum()))) for mask in MASKS if mask.any())


def _any_order(model):
    total = torch.zeros(len(ALL), dtype=torch.float64)
    for order in itertools.permutations(range(LENGTH)):
        hidden = torch.ones(LENGTH, dtype=torch.bool)
        for position in order:
            logits = torch.log_softmax(model(ALL.masked_fill(hidden, model.mask_id)), -1)
            total -= logits[torch.arange(len(ALL)), position, ALL[:, position]]
            hidden[position] = False
    return total / math.factorial(LENGTH)


def test_with_exact_conditionals_the_bound_is_the_likelihood():
    assert torch.allclose(_lambda_dce(MODEL), EXACT, atol=1e-6)
    assert torch.allclose(_k_dce(MODEL), EXACT, atol=1e-6)
    assert torch.allclose(_any_order(MODEL), EXACT, atol=1e-6)
    for kind in ("ar_forward", "ar_backward", "ar_random"):
        assert torch.allclose(masked_diffusion_loss(MODEL, ALL, kind=kind, generator=0), EXACT, atol=1e-9)


def test_for_any_model_the_three_averages_are_one_number():
    with torch.no_grad():
        assert torch.allclose(_lambda_dce(Wrong()), _k_dce(Wrong()), atol=1e-9)
        assert torch.allclose(_lambda_dce(Wrong()), _any_order(Wrong()), atol=1e-9)


def _samples(kind, repeats=400, model=MODEL, **options):
    """Losses (repeats,) averaged over all sequences."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        return torch.stack([masked_diffusion_loss(model, ALL, kind=kind, generator=generator, **options).mean() for _ in range(repeats)])


@pytest.mark.parametrize("time_sampling", ["decoupled", "antithetic", "uniform"])
@pytest.mark.parametrize("kind", ["lambda_dce", "k_dce"])
def test_monte_carlo_of_the_losses(kind, time_sampling):
    values = _samples(kind, time_sampling=time_sampling)
    assert float((values.mean() - EXACT.mean()).abs()) < 3 * float(values.std()) / math.sqrt(len(values))


@pytest.mark.parametrize("schedule", [LogLinear(), Geometric()], ids=repr)
@pytest.mark.parametrize("kind", ["t_dce", "t_dse"])
def test_monte_carlo_of_the_losses_in_time(kind, schedule):
    """What the times below 1e-3 and the noise missing at t = 1 leave out is of their size."""
    values = _samples(kind, schedule=schedule)
    left_out = LENGTH * math.log(3) * (schedule.masking_probability(EARLIEST) + 1 - schedule.masking_probability(1.0))
    assert float((values.mean() - EXACT.mean()).abs()) < 3 * float(values.std()) / math.sqrt(len(values)) + left_out


def test_t_dce_tends_to_lambda_dce_as_eps_falls():
    """By quadrature over t of the expectation over masks."""
    errors = []
    for eps in (0.1, 0.01, 0.001):
        nodes, weights = np.polynomial.legendre.leggauss(40)
        total = 0.0
        for t, weight in zip((nodes + 1) / 2, weights / 2):
            schedule = LogLinear(eps)
            m = schedule.masking_probability(t)
            factor = weight * schedule.noise_rate(t) / math.expm1(schedule.total_noise(t))
            total = total + factor * sum(m ** int(k.sum()) * (1 - m) ** (LENGTH - int(k.sum())) * _cross_entropy(MODEL, k) for k in MASKS if k.any())
        errors.append(float((total - EXACT).abs().max()))
    assert errors[0] > 5 * errors[1] > 25 * errors[2]
    assert errors[2] < 0.01


def test_score_entropy_has_the_value_and_gradient_of_the_cross_entropy():
    gradients = []
    for kind in ("t_dce", "t_dse"):
        model = Wrong()
        loss = masked_diffusion_loss(model, ALL, kind=kind, generator=3)
        loss.sum().backward()
        gradients.append((loss.detach(), model.table.grad))
    assert torch.allclose(gradients[0][0], gradients[1][0], rtol=1e-9)
    assert torch.allclose(gradients[0][1], gradients[1][1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("how", ["decoupled", "antithetic", "uniform"])
def test_times_are_uniform_one_by_one_and_spread_together(how):
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack([draw_times(8, how, generator, torch.device("cpu")) for _ in range(4000)])
    assert bool(((draws >= 0) & (draws < 1)).all())
    for column in draws.T:
        assert float((column.sort().values - torch.linspace(0, 1, 4000)).abs().max()) < 0.03
    if how == "decoupled":
        assert torch.equal((draws * 8).floor().sort(1).values, torch.arange(8.0).double().expand(4000, 8))
    if how == "antithetic":
        assert torch.allclose(torch.diff(draws.sort(1).values), torch.full((4000, 7), 0.125, dtype=torch.float64))


def test_the_bound_in_bits():
    uniform = TabularMaskedModel(np.ones((4, 4, 4)))
    for kind in ("ar_forward", "k_dce"):
        assert perplexity_bound(uniform, torch.tensor([[0, 1, 2], [3, 3, 3]]), kind=kind, samples=3, generator=0) == pytest.approx(2.0)
    assert perplexity_bound(MODEL, ALL, samples=300, generator=0) == pytest.approx(float(EXACT.mean()) / LENGTH / math.log(2), rel=0.02)


def test_the_seed_decides():
    first = masked_diffusion_loss(MODEL, ALL, generator=4)
    assert torch.equal(first, masked_diffusion_loss(MODEL, ALL, generator=4))
    assert not torch.equal(first, masked_diffusion_loss(MODEL, ALL, generator=5))


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"kind": "mdlm"}, "kind"),
        ({"time_sampling": "sobol"}, "time_sampling"),
        ({"tokens": torch.tensor([[0, 1, 2, 3]])}, "tokens must be clean"),
        ({"tokens": torch.zeros(1, 0, dtype=torch.long)}, "tokens"),
        ({"tokens": torch.full((1, 4), 9)}, "tokens"),
    ],
)
def test_refusals(change, name):
    with pytest.raises(ValueError, match=name):
        masked_diffusion_loss(**({"model": MODEL, "tokens": ALL[:2]} | change))


@pytest.mark.parametrize(("change", "name"), [({"model": len}, "model"), ({"schedule": 0.1}, "schedule"), ({"tokens": ALL.float()}, "tokens")])
def test_wrong_types(change, name):
    with pytest.raises(TypeError, match=name):
        masked_diffusion_loss(**({"model": MODEL, "tokens": ALL[:2]} | change))


def _specimen(call, **options):
    arguments = {"tokens": ALL[:4].clone(), "kind": "lambda_dce", "time_sampling": "uniform", "generator": 0} | options
    return Specimen(lambda **given: call(MODEL, **given), lambda: dict(arguments), accepts={"generator": ("none",)})


SPECIMENS = {"masked_diffusion_loss": _specimen(masked_diffusion_loss), "perplexity_bound": _specimen(perplexity_bound, samples=2)}
