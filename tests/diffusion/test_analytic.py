"""Exact denoisers against direct linear algebra, automatic differentiation and each other."""

import pytest
import torch
from specimens import Specimen

from ritz.diffusion import EmpiricalDenoiser, GaussianMixtureDenoiser

GENERATOR = torch.Generator().manual_seed(0)
WEIGHTS = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
MEANS = torch.randn(3, 4, generator=GENERATOR, dtype=torch.float64)
FACTORS = torch.randn(3, 4, 4, generator=GENERATOR, dtype=torch.float64)
COVARIANCES = FACTORS @ FACTORS.mT / 4
Y = 2 * torch.randn(6, 4, generator=GENERATOR, dtype=torch.float64)
SIGMA = torch.tensor([0.05, 0.2, 0.5, 1.0, 4.0, 30.0], dtype=torch.float64)
DATA = torch.randn(9, 2, 2, generator=GENERATOR, dtype=torch.float64)


def _by_hand(covariances):
    """Density and posterior mean of each y from full matrices, one by one."""
    log_density, mean = [], []
    for y, sigma in zip(Y, SIGMA):
        noisy = covariances + sigma**2 * torch.eye(4, dtype=torch.float64)
        parts = torch.distributions.MultivariateNormal(MEANS, noisy).log_prob(y) + (WEIGHTS / WEIGHTS.sum()).log()
        posterior = MEANS + torch.einsum("kij,kjl,kl->ki", covariances, torch.linalg.inv(noisy), y - MEANS)
        log_density.append(torch.logsumexp(parts, 0))
        mean.append(torch.softmax(parts, 0) @ posterior)
    return torch.stack(log_density), torch.stack(mean)


@pytest.mark.parametrize("kind", ["full", "diagonal", "scalar"])
def test_a_mixture_agrees_with_direct_linear_algebra(kind):
    diagonal = torch.diagonal(COVARIANCES, dim1=1, dim2=2)
    given = {"full": COVARIANCES, "diagonal": diagonal, "scalar": diagonal[:, 0]}[kind]
    full = {
        "full": COVARIANCES,
        "diagonal": torch.diag_embed(diagonal),
        "scalar": diagonal[:, 0, None, None] * torch.eye(4, dtype=torch.float64),
    }[kind]
    mixture = GaussianMixtureDenoiser(WEIGHTS, MEANS, given)
    log_density, mean = _by_hand(full)
    assert torch.allclose(mixture.log_prob(Y, SIGMA), log_density, rtol=1e-11, atol=1e-11)
    assert torch.allclose(mixture(Y, SIGMA), mean, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize(
    ("denoiser", "y"),
    [(GaussianMixtureDenoiser(WEIGHTS, MEANS, COVARIANCES), Y), (EmpiricalDenoiser(DATA), Y.reshape(6, 2, 2))],
    ids=["mixture", "empirical"],
)
def test_the_score_is_the_gradient_and_gives_the_posterior_mean(denoiser, y):
    gradient = torch.func.grad(lambda y: denoiser.log_prob(y, SIGMA).sum())(y)
    sigma = SIGMA.reshape(-1, *(1,) * (y.ndim - 1))
    assert torch.allclose(denoiser.score(y, SIGMA), gradient, rtol=1e-8, atol=1e-9)
    assert torch.allclose(y + sigma**2 * denoiser.score(y, SIGMA), denoiser(y, SIGMA), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("sigma", [SIGMA, 0.3], ids=["per sample", "float"])
def test_a_data_set_is_a_mixture_of_points(sigma):
    points = GaussianMixtureDenoiser(torch.ones(9), DATA.flatten(1), torch.zeros(9))
    empirical = EmpiricalDenoiser(DATA)
    assert torch.allclose(empirical(Y.reshape(6, 2, 2), sigma).flatten(1), points(Y, sigma), rtol=1e-9, atol=1e-10)
    assert torch.allclose(empirical.log_prob(Y.reshape(6, 2, 2), sigma), points.log_prob(Y, sigma), rtol=1e-9, atol=1e-8)


@pytest.mark.parametrize("covariances", [COVARIANCES, torch.diagonal(COVARIANCES, dim1=1, dim2=2)], ids=["full", "diagonal"])
def test_derivatives_of_a_mixture_forward_and_backward(covariances):
    """Closed forms against automatic differentiation of the plain formula."""
    mixture = GaussianMixtureDenoiser(WEIGHTS, MEANS, covariances)

    def plain(y, sigma):
        return mixture.posterior_mean(y, sigma.reshape(-1, 1, 1) ** 2)

    change = (torch.flip(Y, (0,)), 0.3 * SIGMA)
    assert torch.allclose(torch.func.jvp(mixture, (Y, SIGMA), change)[1], torch.func.jvp(plain, (Y, SIGMA), change)[1], rtol=1e-9, atol=1e-9)
    only_y = torch.func.jvp(lambda y: mixture(y, 0.5), (Y,), change[:1])[1]
    assert torch.allclose(only_y, torch.func.jvp(lambda y: plain(y, torch.tensor(0.5)), (Y,), change[:1])[1], rtol=1e-9, atol=1e-9)
    ours, theirs = (torch.func.vjp(function, Y, SIGMA)[1](change[0]) for function in (mixture, plain))
    assert all(torch.allclose(a, b, rtol=1e-9, atol=1e-9) for a, b in zip(ours, theirs))
    y = Y.clone().requires_grad_()
    assert torch.allclose(torch.autograd.grad((mixture(y, 0.5) * change[0]).sum(), y)[0], _pulled_back(plain, change[0]), rtol=1e-9, atol=1e-9)


def _pulled_back(function, gradient):
    return torch.func.vjp(lambda y: function(y, torch.tensor(0.5)), Y)[1](gradient)[0]


def test_one_level_for_all_is_that_level_for_each():
    for denoiser, y in ((GaussianMixtureDenoiser(WEIGHTS, MEANS, COVARIANCES), Y), (EmpiricalDenoiser(DATA), Y.reshape(6, 2, 2))):
        each = torch.full((6,), 0.4, dtype=torch.float64)
        for method in (denoiser, denoiser.score, denoiser.log_prob):
            assert torch.allclose(method(y, 0.4), method(y, each), rtol=1e-12, atol=1e-12)


def test_a_constant_coordinate_is_denoised_to_its_constant():
    flat = GaussianMixtureDenoiser([1.0, 1.0], [[0.0, 2.0], [1.0, 2.0]], [[0.1, 0.0], [0.2, 0.0]])
    y = torch.tensor([[0.3, 5.0], [400.0, -300.0]], dtype=torch.float64)
    for sigma in (1e-4, 1.0, 100.0):
        assert torch.equal(flat(y, sigma)[:, 1], torch.full((2,), 2.0, dtype=torch.float64))
        assert torch.isfinite(flat.score(y, sigma)).all()


def test_a_rank_deficient_covariance_is_welcome():
    direction = torch.tensor([[1.0, 1.0]], dtype=torch.float64)
    line = GaussianMixtureDenoiser([1.0], [[0.0, 0.0]], (direction.mT @ direction)[None])
    out = line(torch.tensor([[3.0, 1.0]], dtype=torch.float64), 1e-3)
    assert torch.allclose(out, torch.tensor([[2.0, 2.0]], dtype=torch.float64), atol=1e-4)


def test_samples_have_the_moments_of_the_mixture():
    mixture = GaussianMixtureDenoiser(WEIGHTS, MEANS, COVARIANCES)
    x = mixture.sample(200_000, 0)
    weights = mixture.weights
    mean = weights @ MEANS
    second = torch.einsum("k,kij->ij", weights, COVARIANCES + MEANS[:, :, None] * MEANS[:, None, :])
    assert torch.allclose(x.mean(0), mean, atol=0.02)
    assert torch.allclose(x.T @ x / len(x), second, atol=0.05)
    assert torch.equal(mixture.sample(5, 3), mixture.sample(5, 3))


def test_samples_of_a_data_set_are_its_members():
    x = EmpiricalDenoiser(DATA).sample(100, 0)
    assert all(any(torch.equal(one, member) for member in DATA) for one in x)
    assert len({float(one.sum()) for one in x}) == len(DATA)


def test_computation_keeps_the_dtype_of_y():
    for denoiser, y in ((GaussianMixtureDenoiser(WEIGHTS, MEANS, COVARIANCES), Y), (EmpiricalDenoiser(DATA), Y.reshape(6, 2, 2))):
        assert denoiser(y.float(), SIGMA.float()).dtype == torch.float32
        assert denoiser.log_prob(y.float(), 0.5).dtype == torch.float32


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: GaussianMixtureDenoiser([1.0, -1.0], [[0.0], [1.0]], [1.0, 1.0]), "weights"),
        (lambda: GaussianMixtureDenoiser([1.0], [[0.0], [1.0]], [1.0, 1.0]), "weights"),
        (lambda: GaussianMixtureDenoiser([1.0], [[0.0, 1.0]], [[1.0]]), "covariances"),
        (lambda: GaussianMixtureDenoiser([1.0], [[0.0, 1.0]], [-1.0]), "covariances"),
        (lambda: GaussianMixtureDenoiser([1.0], [[0.0, 1.0]], [[[1.0, 2.0], [2.0, 1.0]]]), "covariances"),
        (lambda: GaussianMixtureDenoiser([1.0], [[0.0, 1.0]], [[[1.0, 0.5], [0.0, 1.0]]]), "covariances"),
        (lambda: EmpiricalDenoiser([1.0, 2.0]), "data"),
        (lambda: GaussianMixtureDenoiser(WEIGHTS, MEANS, COVARIANCES)(Y[:, :2], 1.0), "y must have shape"),
        (lambda: EmpiricalDenoiser(DATA)(Y, 1.0), "y must have shape"),
        (lambda: EmpiricalDenoiser(DATA).sample(0), "n must be"),
    ],
)
def test_refusals(make, name):
    with pytest.raises(ValueError, match=name):
        make()


SPECIMENS = {
    "GaussianMixtureDenoiser": Specimen(
        GaussianMixtureDenoiser,
        lambda: {"weights": WEIGHTS.clone(), "means": MEANS.clone(), "covariances": COVARIANCES.clone()},
    ),
    "GaussianMixtureDenoiser.sample": Specimen(
        GaussianMixtureDenoiser(WEIGHTS, MEANS, COVARIANCES).sample, lambda: {"n": 3, "generator": 0}, accepts={"generator": ("none",)}
    ),
    "EmpiricalDenoiser": Specimen(EmpiricalDenoiser, lambda: {"data": DATA.clone()}, accepts={"data": ("more dimensions",)}),
    "EmpiricalDenoiser.sample": Specimen(EmpiricalDenoiser(DATA).sample, lambda: {"n": 3, "generator": 0}, accepts={"generator": ("none",)}),
}


@pytest.mark.parametrize("covariances", [COVARIANCES[:, 0, 0], COVARIANCES.diagonal(dim1=1, dim2=2), COVARIANCES])
def test_log_densities_at_many_levels_are_those_at_each(covariances):
    mixture = GaussianMixtureDenoiser(WEIGHTS, MEANS, covariances)
    expected = torch.stack([mixture.log_prob(Y, float(sigma)) for sigma in SIGMA], dim=1)
    torch.testing.assert_close(mixture.log_prob_at(Y, SIGMA), expected, rtol=1e-10, atol=1e-10)
