"""The posterior of the noise level: exact for mixtures, and approached by a trained classifier."""

import pytest
import torch
from specimens import Specimen

from ritz.diffusion import AnalyticNoisePosterior, GaussianMixtureDenoiser, NoiseClassifier, noise_level_grid, train_noise_classifier

MIXTURE = GaussianMixtureDenoiser([0.3, 0.7], [[1.0], [-1.0]], [0.04, 0.09])


def _normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


SPECIMENS = {
    "noise_level_grid": Specimen(noise_level_grid, lambda: {"levels": 5, "sigma_min": 0.1, "sigma_max": 3.0}),
    "AnalyticNoisePosterior": Specimen(lambda sigmas: AnalyticNoisePosterior(MIXTURE, sigmas), lambda: {"sigmas": noise_level_grid(5)}),
    "NoiseClassifier": Specimen(
        lambda **options: NoiseClassifier((4,), **options), lambda: {"levels": 5, "sigma_min": 0.1, "sigma_max": 3.0, "width": 2}
    ),
    "train_noise_classifier": Specimen(
        lambda **options: train_noise_classifier(generator=0, **options),
        lambda: {
            "data": _normal(6, 2),
            "levels": 4,
            "sigma_min": 0.1,
            "sigma_max": 3.0,
            "width": 2,
            "steps": 2,
            "batch_size": 3,
            "lr": 1e-3,
        },
        spare=frozenset({"data"}),
    ),
    "NoiseClassifierTraining": Specimen(lambda: train_noise_classifier(_normal(6, 2), 4, width=2, steps=1, generator=0), dict),
}


def test_the_grid_is_the_authors():
    sigmas = noise_level_grid(1000)
    assert sigmas[0] == pytest.approx(50)
    assert sigmas[-1] == pytest.approx(0.01 * 5000**1e-3)
    assert sigmas.log().diff().std() < 1e-12
    assert (sigmas.diff() < 0).all()


def test_the_exact_posterior_is_the_softmax_of_log_densities():
    sigmas = noise_level_grid(30)
    x = MIXTURE.sample(7, 0).double() * torch.linspace(0.1, 40, 7, dtype=torch.float64)[:, None]
    by_hand = torch.softmax(torch.stack([MIXTURE.log_prob(x, float(sigma)) for sigma in sigmas], dim=1), dim=1)
    torch.testing.assert_close(torch.softmax(AnalyticNoisePosterior(MIXTURE, sigmas)(x), dim=1), by_hand, rtol=1e-10, atol=1e-14)


def test_a_trained_classifier_approaches_the_exact_posterior():
    training = train_noise_classifier(
        MIXTURE.sample(50_000, 0).float(), 12, sigma_min=0.1, sigma_max=20.0, width=8, steps=1000, batch_size=256, lr=3e-3, generator=0
    )
    exact = AnalyticNoisePosterior(MIXTURE, training.classifier.sigmas)
    level = torch.randint(12, (4000,), generator=torch.Generator().manual_seed(1))
    x = MIXTURE.sample(4000, 2).float() + training.classifier.sigmas[level, None].float() * _normal(4000, 1, seed=3)
    total_variation = 0.5 * (torch.softmax(training.classifier(x), 1) - torch.softmax(exact(x), 1)).abs().sum(1)
    assert total_variation.mean() < 0.05
    assert training.losses.shape == (1000,)
    assert training.losses[-100:].mean() < training.losses[:50].mean()


def test_the_seed_decides_the_classifier():
    first, again, other = (train_noise_classifier(_normal(9, 3), 5, width=2, steps=3, generator=seed) for seed in (0, 0, 1))
    assert (first.losses == again.losses).all()
    assert (first.losses != other.losses).any()


def test_images_take_the_convolutional_classifier():
    training = train_noise_classifier(_normal(4, 3, 16, 24), 6, width=2, steps=2, batch_size=2, generator=0)
    assert training.classifier(_normal(2, 3, 16, 24)).shape == (2, 6)
    with pytest.raises(ValueError, match="x must have shape"):
        training.classifier(_normal(2, 3, 24, 16))


@pytest.mark.parametrize("shape", [(3, 8, 32), (2, 2), (1, 1, 1, 1)])
def test_shapes_that_are_neither_flat_nor_images_are_refused(shape):
    with pytest.raises(ValueError, match="shape must be"):
        NoiseClassifier(shape)


@pytest.mark.parametrize("data", [torch.full((3, 2), float("nan")), torch.zeros(3), torch.zeros(0, 2)])
def test_bad_data_are_refused(data):
    with pytest.raises(ValueError, match="data"):
        train_noise_classifier(data, steps=1)


def test_ranges_that_are_none_are_refused():
    with pytest.raises(ValueError, match="sigma_max"):
        noise_level_grid(5, 1.0, 1.0)
    with pytest.raises(ValueError, match="sigmas must be positive"):
        AnalyticNoisePosterior(MIXTURE, [1.0, 0.0])
    with pytest.raises(TypeError, match="mixture"):
        AnalyticNoisePosterior(lambda x, sigma: x, [1.0])
