"""Log-densities against the exact ones of mixtures."""

import pytest
import torch
from specimens import Specimen

from ritz.diffusion import EDM, GaussianMixtureDenoiser, VPLinear, log_likelihood

MIXTURE = GaussianMixtureDenoiser(torch.tensor([0.3, 0.7]), torch.tensor([[1.0, -0.5], [-1.0, 0.8]], dtype=torch.float64), torch.tensor([0.2, 0.4]))
POINTS = MIXTURE.sample(64, 0)


@pytest.mark.parametrize("schedule", [VPLinear()], ids=repr)
def test_the_flow_with_an_exact_trace_gives_the_exact_density(schedule):
    ours = log_likelihood(MIXTURE, POINTS[:16], schedule, probes="exact", steps=1000, log_prior=MIXTURE.log_prob)
    exact = MIXTURE.log_prob(POINTS[:16], schedule.rho(schedule.t_min))
    assert float((ours - exact).abs().max()) < 1e-3


def test_the_normal_prior_is_good_where_the_noise_drowns_the_data():
    ours = log_likelihood(MIXTURE, POINTS, EDM(0.01, 500.0), probes="exact", steps=200)
    assert torch.allclose(ours, MIXTURE.log_prob(POINTS, 0.01), atol=0.02)


def test_the_error_of_the_flow_falls_by_four_when_the_steps_double():
    errors = [
        (log_likelihood(MIXTURE, POINTS, EDM(0.05, 20.0), probes="exact", steps=steps, log_prior=MIXTURE.log_prob) - MIXTURE.log_prob(POINTS, 0.05))
        .abs()
        .mean()
        for steps in (40, 80)
    ]
    assert errors[0] / errors[1] > 3.5


def test_random_signs_are_unbiased():
    exact = log_likelihood(MIXTURE, POINTS[:1].repeat(400, 1), EDM(0.05, 20.0), probes="exact", steps=40)
    guessed = log_likelihood(MIXTURE, POINTS[:1].repeat(400, 1), EDM(0.05, 20.0), probes=2, steps=40, generator=0)
    error = guessed - exact
    assert error.std() > 0
    assert float(error.mean().abs()) < 3 * float(error.std()) / 20


def test_paths_of_noise_give_the_density_without_derivatives():
    """Unbiased up to the step, and the random error halves with four times the steps."""
    spread = []
    for steps in (250, 1000):
        ours = log_likelihood(MIXTURE, POINTS.repeat(4, 1), EDM(0.05, 20.0), method="ito", steps=steps, log_prior=MIXTURE.log_prob, generator=0)
        error = ours - MIXTURE.log_prob(POINTS.repeat(4, 1), 0.05)
        spread.append(float(error.std()))
    assert float(error.mean().abs()) < 4 * spread[1] / 16 + 0.02
    assert spread[0] / spread[1] == pytest.approx(2, rel=0.25)


def test_images_and_seeds():
    points = POINTS[:8].reshape(4, 2, 2, 1)
    shrink = GaussianMixtureDenoiser([1.0], torch.zeros(1, 8), [1.0])

    def denoiser(y, sigma):
        return shrink(y.flatten(1), sigma).reshape(y.shape)

    data = torch.cat([points, points], dim=3)
    first = log_likelihood(denoiser, data, EDM(0.01, 100.0), probes=1, steps=200, generator=0)
    assert torch.equal(first, log_likelihood(denoiser, data, EDM(0.01, 100.0), probes=1, steps=200, generator=0))
    assert torch.allclose(first, shrink.log_prob(data.flatten(1), 0.01), atol=0.05)


@pytest.mark.parametrize(
    ("change", "name"), [({"probes": 0}, "probes"), ({"method": "sde"}, "method"), ({"x0": torch.zeros(2)}, "x0"), ({"steps": 0}, "steps")]
)
def test_refusals(change, name):
    with pytest.raises(ValueError, match=name):
        log_likelihood(**({"denoiser": MIXTURE, "x0": POINTS, "schedule": VPLinear()} | change))


SPECIMENS = {
    "log_likelihood": Specimen(
        lambda **arguments: log_likelihood(lambda y, sigma: y / 2, schedule=EDM(), **arguments),
        lambda: {
            "x0": POINTS[:2].clone(),
            "method": "ode",
            "probes": 2,
            "steps": 3,
            "spacing": "karras",
            "t_start": 50.0,
            "t_end": 0.1,
            "generator": 0,
        },
        accepts={"x0": ("more dimensions",), "generator": ("none",), "t_start": ("none",), "t_end": ("none",)},
    ),
}
