"""Distances between samples: closed forms, no bias, and the noise floor."""

import math

import pytest
import torch
from scipy.stats import wasserstein_distance_nd

from ritz.diffusion import GaussianMixtureDenoiser
from ritz.studies.sample_distances import energy_distance, mode_mass_error, noise_floor, sliced_wasserstein, squared_mmd


def _normal(n, d, seed, mean=0.0):
    return mean + torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("distance", [energy_distance, squared_mmd])
def test_unbiased_distances_between_samples_of_one_distribution_average_to_zero(distance):
    values = torch.tensor([distance(_normal(40, 3, 2 * i), _normal(60, 3, 2 * i + 1)) for i in range(200)])
    assert abs(float(values.mean())) < 4 * float(values.std()) / math.sqrt(200)
    assert bool((values < 0).any())


def test_energy_distance_of_two_normals_on_the_line():
    """E|N(m, s^2)| is a folded normal's mean, so the distance is in closed form."""
    shift, s = 1.5, math.sqrt(2)
    folded = s * math.sqrt(2 / math.pi) * math.exp(-(shift**2) / (2 * s**2)) + shift * math.erf(shift / (s * math.sqrt(2)))
    exact = 2 * folded - 2 * s * math.sqrt(2 / math.pi)
    assert energy_distance(_normal(4000, 1, 0, shift), _normal(4000, 1, 1)) == pytest.approx(exact, rel=0.05)


def test_squared_mmd_of_two_normals_on_the_line():
    def expected_kernel(shift):
        return math.sqrt(1 / 3) * math.exp(-(shift**2) / 6)

    exact = 2 * expected_kernel(0.0) - 2 * expected_kernel(1.5)
    assert squared_mmd(_normal(3000, 1, 0, 1.5), _normal(3000, 1, 1), bandwidth=1.0) == pytest.approx(exact, rel=0.05)


def test_sliced_wasserstein_on_the_line_is_the_wasserstein_distance():
    x, y = torch.tensor([[0.0], [1.0], [5.0]]), torch.tensor([[1.0], [2.0]])
    exact = math.sqrt((1 * 2 + 0 + 1 + 9 * 2) / 6)  # thirds and halves meet at sixths: 0-1, 0-1, 1-1, 1-2, 5-2, 5-2
    assert sliced_wasserstein(x, y) == pytest.approx(exact, rel=1e-12)


def test_sliced_wasserstein_of_a_shift():
    """A shift by v moves the projections by v . u, so the root mean square is |v| / sqrt(d); transport in all coordinates costs |v|."""
    x = _normal(100, 4, 0)
    shift = torch.tensor([3.0, 0.0, 4.0, 0.0], dtype=torch.float64)
    assert sliced_wasserstein(x, x + shift, directions=4000) == pytest.approx(5 / 2, rel=0.03)
    assert wasserstein_distance_nd(x[:20], (x + shift)[:20]) == pytest.approx(5.0, rel=1e-6)


def test_mode_mass_error_sees_the_masses_and_not_the_shapes():
    mixture = GaussianMixtureDenoiser([0.2, 0.8], [[-5.0, 0.0], [5.0, 0.0]], [1.0, 1.0])
    assert mode_mass_error(mixture.sample(20000, 0), mixture) < 0.01
    half = torch.cat([_normal(50, 2, 0) + torch.tensor([-5.0, 0.0]), _normal(50, 2, 1) + torch.tensor([5.0, 0.0])])
    assert mode_mass_error(half, mixture) == pytest.approx(0.3, abs=1e-3)


def test_overlapping_components_cause_no_bias():
    mixture = GaussianMixtureDenoiser([0.2, 0.8], [[-0.5], [0.5]], [1.0, 1.0])
    assert mode_mass_error(mixture.sample(20000, 0), mixture) < 0.01


def test_noise_floor_falls_with_the_number_of_samples():
    floors = [noise_floor(energy_distance, _normal(n, 2, 0)) for n in (100, 1600)]
    assert 0 < floors[1] < floors[0] / 4
    assert noise_floor(energy_distance, _normal(100, 2, 0)) == floors[0]


@pytest.mark.parametrize("distance", [energy_distance, squared_mmd, sliced_wasserstein])
def test_samples_of_images_are_flattened(distance):
    x, y = _normal(20, 12, 0), _normal(30, 12, 1)
    assert distance(x.reshape(20, 3, 2, 2), y.reshape(30, 3, 2, 2)) == distance(x, y)


@pytest.mark.parametrize("distance", [energy_distance, squared_mmd, sliced_wasserstein])
def test_samples_that_do_not_fit_together_are_refused(distance):
    for x, y in ((torch.zeros(3, 2), torch.zeros(3, 4)), (torch.zeros(1, 2), torch.zeros(3, 2))):
        with pytest.raises(ValueError, match="x and y must be"):
            distance(x, y)
