"""Networks as denoisers: every parameterization of one exact network gives the same denoiser."""

import math

import numpy as np
import pytest
import torch
from specimens import Specimen

from ritz.diffusion import (
    EDM,
    VE,
    ClassifierFreeGuidance,
    ClassifierGuidance,
    Discrete,
    DynamicThresholding,
    EDMDenoiser,
    Flow,
    GaussianMixtureDenoiser,
    NetworkDenoiser,
    VPCosine,
    VPLinear,
)

SCHEDULES = [VPLinear(), VPCosine(), VE(), EDM(), Flow(shift=2.0), Discrete(np.cumprod(1 - np.linspace(1e-4, 0.02, 1000)))]
EXACT = GaussianMixtureDenoiser(
    torch.tensor([0.3, 0.7]), torch.tensor([[0.5, -1.0, 0.2], [-0.4, 0.3, 0.9]], dtype=torch.float64), torch.tensor([0.2, 0.05])
)
SAMPLES = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
SIGMAS = torch.tensor([0.02, 0.2, 1.0, 3.0, 20.0], dtype=torch.float64)


def _exact_network(schedule, prediction):
    """The network that knows the data distribution, trained to predict what `prediction` says."""

    def network(x, t):
        alpha, sigma = schedule.alpha(t)[:, None], schedule.sigma(t)[:, None]
        data = EXACT(x / alpha, (sigma / alpha)[:, 0])
        noise = (x - alpha * data) / sigma
        outputs = {"noise": noise, "data": data, "velocity": alpha * noise - sigma * data, "score": -noise / sigma, "flow": noise - data}
        return outputs[prediction]

    return network


@pytest.mark.parametrize("prediction", ["noise", "data", "velocity", "score", "flow"])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_every_parameterization_gives_the_same_denoiser(schedule, prediction):
    denoiser = NetworkDenoiser(_exact_network(schedule, prediction), schedule, prediction)
    assert torch.allclose(denoiser(SAMPLES, SIGMAS), EXACT(SAMPLES, SIGMAS), rtol=1e-9, atol=1e-10)
    assert torch.allclose(denoiser(SAMPLES, 0.7), EXACT(SAMPLES, 0.7), rtol=1e-10, atol=1e-11)


def test_flow_velocity_on_the_straight_path_is_x_minus_t_out():
    seen = {}

    def network(x, t):
        seen["x"], seen["t"] = x, t
        return torch.sin(x)

    data = NetworkDenoiser(network, Flow(), "flow")(SAMPLES, SIGMAS)
    assert torch.allclose(data, seen["x"] - seen["t"][:, None] * torch.sin(seen["x"]), rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("time_input", ["t", "1000t", "timestep", "c_noise", "1000sigma"])
def test_time_inputs(time_input):
    schedule, seen = VPLinear(), []
    denoiser = NetworkDenoiser(lambda x, time: seen.append(time) or x, schedule, "data", time_input)
    denoiser(SAMPLES, SIGMAS)
    denoiser(SAMPLES.float(), 0.2)
    t = schedule.inverse_lam(-SIGMAS.log())
    expected = {"t": t, "1000t": 1000 * t, "timestep": 1000 * t - 1, "c_noise": SIGMAS.log() / 4, "1000sigma": 1000 * schedule.sigma(t)}[time_input]
    assert torch.allclose(seen[0], expected, rtol=1e-10, atol=1e-12)
    assert seen[1].dtype == torch.float32
    assert torch.allclose(seen[1], expected[1].float().expand(5), rtol=1e-6)


def test_the_timestep_of_a_discrete_schedule_is_the_index_of_its_table():
    table, seen = np.cumprod(1 - np.linspace(1e-4, 0.02, 400)), []
    schedule = Discrete(table)
    denoiser = NetworkDenoiser(lambda x, time: seen.append(time) or x, schedule, "data", "timestep")
    denoiser(torch.zeros(1, 2, dtype=torch.float64), math.sqrt(1 / table[37] - 1))
    assert float(seen[0]) == pytest.approx(37, abs=1e-9)


def test_edm_preconditioning_keeps_unit_variances():
    seen, data = {}, 0.5 * torch.randn(20000, 2, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(20000, 2, generator=torch.Generator().manual_seed(1))

    def network(x, time):
        seen["input"], seen["time"] = x, time
        return torch.zeros_like(x)

    for sigma in (0.01, 0.5, 30.0):
        skipped = EDMDenoiser(network)(data + sigma * noise, sigma)
        c_out = sigma * 0.5 / math.sqrt(sigma**2 + 0.25)
        assert seen["input"].std() == pytest.approx(1, rel=0.02)
        assert ((data - skipped) / c_out).std() == pytest.approx(1, rel=0.02)
        assert float(seen["time"][0]) == pytest.approx(math.log(sigma) / 4, rel=1e-5)


def test_edm_loss_is_one_for_an_untrained_network():
    data = 0.5 * torch.randn(20000, 4, generator=torch.Generator().manual_seed(0))
    loss = EDMDenoiser(lambda x, time: torch.zeros_like(x)).loss(data, torch.Generator().manual_seed(1))
    assert float(loss) == pytest.approx(1, rel=0.05)


def test_a_denoiser_is_differentiable_forward_in_state_and_level():
    schedule = SCHEDULES[-1]
    denoiser = NetworkDenoiser(_exact_network(schedule, "noise"), schedule)
    sigma = SIGMAS.clamp(0.05, 3)
    _, change = torch.func.jvp(denoiser, (SAMPLES, sigma), (SAMPLES, sigma))
    step = 1e-5
    difference = (denoiser(SAMPLES * (1 + step), sigma * (1 + step)) - denoiser(SAMPLES * (1 - step), sigma * (1 - step))) / (2 * step)
    assert torch.allclose(change, difference, rtol=1e-5, atol=1e-7)


def test_classifier_free_guidance_interpolates():
    other = GaussianMixtureDenoiser([1.0], [[0.0, 0.0, 0.0]], [1.0])
    u, c = other(SAMPLES, SIGMAS), EXACT(SAMPLES, SIGMAS)
    for scale in (0.0, 1.0, 3.5):
        assert torch.allclose(ClassifierFreeGuidance(EXACT, other, scale)(SAMPLES, SIGMAS), u + scale * (c - u), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("sigma", [SIGMAS, 0.8], ids=["per sample", "float"])
def test_classifier_guidance_is_bayes_rule(sigma):
    parts = [GaussianMixtureDenoiser([1.0], EXACT.means[k : k + 1], EXACT.variances[k : k + 1]) for k in range(2)]

    def log_probability(x, sigma):
        return parts[0].log_prob(x, sigma) - EXACT.log_prob(x, sigma)

    guided = ClassifierGuidance(EXACT, log_probability)
    assert torch.allclose(guided(SAMPLES, sigma), parts[0](SAMPLES, sigma), rtol=1e-9, atol=1e-9)
    with torch.no_grad():
        assert torch.allclose(guided(SAMPLES, sigma), parts[0](SAMPLES, sigma), rtol=1e-9, atol=1e-9)


def test_dynamic_thresholding_divides_only_what_exceeds_the_limit():
    data = torch.linspace(-3, 3, 101).repeat(2, 1)
    data[1] /= 6
    out = DynamicThresholding(lambda x, sigma: x, quantile=0.9)(data, 1.0)
    threshold = torch.quantile(data[0].abs(), 0.9)
    assert torch.allclose(out[0], data[0].clamp(-threshold, threshold) / threshold)
    assert torch.equal(out[1], data[1])


def test_a_level_per_sample_must_fit_the_batch():
    with pytest.raises(ValueError, match="sigma"):
        EXACT(SAMPLES, torch.ones(4))
    with pytest.raises(ValueError, match="sigma"):
        NetworkDenoiser(_exact_network(VPLinear(), "noise"), VPLinear())(SAMPLES, torch.ones(5, 1))


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: NetworkDenoiser(3, VPLinear()), "network"),
        (lambda: NetworkDenoiser(EXACT, "vp"), "schedule"),
        (lambda: EDMDenoiser(None), "network"),
        (lambda: ClassifierFreeGuidance(EXACT, 1, 2.0), "unconditional"),
        (lambda: ClassifierGuidance(EXACT, 1), "log_probability"),
        (lambda: DynamicThresholding(1), "denoiser"),
    ],
)
def test_what_cannot_be_called_is_refused(make, name):
    with pytest.raises(TypeError, match=name):
        make()


SPECIMENS = {
    "NetworkDenoiser": Specimen(
        NetworkDenoiser, lambda: {"network": EXACT, "schedule": VPLinear(), "prediction": "velocity", "time_input": "timestep"}
    ),
    "EDMDenoiser": Specimen(EDMDenoiser, lambda: {"network": EXACT, "sigma_data": 0.5}),
    "ClassifierFreeGuidance": Specimen(ClassifierFreeGuidance, lambda: {"conditional": EXACT, "unconditional": EXACT, "scale": 2.0}),
    "ClassifierGuidance": Specimen(ClassifierGuidance, lambda: {"denoiser": EXACT, "log_probability": EXACT.log_prob, "scale": 1.0}),
    "DynamicThresholding": Specimen(DynamicThresholding, lambda: {"denoiser": EXACT, "quantile": 0.9, "limit": 1.0}),
}
