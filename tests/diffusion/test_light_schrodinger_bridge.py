"""The light Schrodinger bridge against Gaussian closed forms, quadrature and its own stochastic differential equation."""

from functools import cache

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch
from sklearn.base import clone
from specimens import Specimen

from ritz.core import ConvergenceWarning
from ritz.diffusion import LightSchrodingerBridge
from ritz.diffusion.gaussian_potential import GaussianPotential

DOUBLE = torch.float64


def _small_fit(rng=0, **options):
    generator = np.random.default_rng(7)
    X, Y = generator.normal(size=(60, 2)), generator.normal(1.0, 0.5, size=(50, 2))
    return LightSchrodingerBridge(3, epsilon=0.5, steps=20, batch_size=16, tol=0, rng=rng, **options).fit(X, Y)


_fitted = cache(_small_fit)


def _points():
    return np.random.default_rng(1).normal(size=(4, 2))


def _call(method):
    return Specimen(lambda **arguments: getattr(_fitted(), method)(**arguments), lambda: {"X": _points()})


SPECIMENS = {
    "LightSchrodingerBridge": Specimen(
        lambda X, Y, **options: LightSchrodingerBridge(**options).fit(X, Y),
        lambda: {
            "X": np.random.default_rng(0).normal(size=(9, 2)),
            "Y": np.random.default_rng(1).normal(size=(8, 2)),
            "n_potentials": 2,
            "epsilon": 0.5,
            "covariance": "diag",
            "init": "samples",
            "initial_scale": 0.1,
            "steps": 3,
            "batch_size": 4,
            "lr": 1e-3,
            "tol": 0.0,
            "rng": 0,
        },
        accepts={"rng": ["none"]},
    ),
    "LightSchrodingerBridge.transform": _call("transform"),
    "LightSchrodingerBridge.conditional": _call("conditional"),
    "LightSchrodingerBridge.log_normalizer": _call("log_normalizer"),
    "LightSchrodingerBridge.log_potential": Specimen(lambda Y: _fitted().log_potential(Y), lambda: {"Y": _points()}),
    "LightSchrodingerBridge.score": Specimen(lambda X, Y: _fitted().score(X, Y), lambda: {"X": _points(), "Y": _points()}),
    "LightSchrodingerBridge.sample": Specimen(
        lambda X, rng: _fitted().sample(X, rng=rng), lambda: {"X": _points(), "rng": 0}, accepts={"rng": ["none"]}
    ),
    "LightSchrodingerBridge.sample_at": Specimen(
        lambda X, t, rng: _fitted().sample_at(X, t, rng=rng), lambda: {"X": _points(), "t": 0.5, "rng": 0}, accepts={"rng": ["none"]}
    ),
    "LightSchrodingerBridge.drift": Specimen(lambda X, t: _fitted().drift(X, t), lambda: {"X": _points(), "t": 0.5}),
    "LightSchrodingerBridge.sample_path": Specimen(
        lambda X, n_steps, rng: _fitted().sample_path(X, n_steps, rng=rng),
        lambda: {"X": _points(), "n_steps": 3, "rng": 0},
        accepts={"rng": ["none"]},
    ),
}


def _random_potential(d: int, *, full: bool, epsilon: float = 0.3, K: int = 4, seed: int = 0) -> GaussianPotential:
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(K, d, generator=generator, dtype=DOUBLE)
    factors = 0.3 + 0.4 * torch.rand(K, d, generator=generator, dtype=DOUBLE)
    if full:
        factors = torch.diag_embed(factors) + torch.tril(0.3 * torch.randn(K, d, d, generator=generator, dtype=DOUBLE), -1)
    return GaussianPotential(torch.randn(K, generator=generator, dtype=DOUBLE), means, factors, epsilon)


def _bridge(potential: GaussianPotential) -> LightSchrodingerBridge:
    bridge = LightSchrodingerBridge(len(potential.means), potential.epsilon, "diag" if potential.is_diagonal else "full")
    bridge._keep(potential)
    return bridge


def _gaussian_bridge(m0, S0, m1, S1, epsilon: float) -> GaussianPotential:
    """The exact potential between two Gaussians: S solves S S0 S + epsilon S = S1."""
    root = scipy.linalg.sqrtm(S0).real
    inner = scipy.linalg.sqrtm(epsilon**2 / 4 * np.eye(len(S0)) + root @ S1 @ root).real
    S = np.linalg.solve(root, np.linalg.solve(root, (inner - epsilon / 2 * np.eye(len(S0))).T).T)
    S = (S + S.T) / 2
    parts = np.zeros(1), (m1 - S @ m0)[None], np.linalg.cholesky(S)[None]
    return GaussianPotential(*(torch.from_numpy(part) for part in parts), epsilon)


def _gaussians(d: int):
    rng = np.random.default_rng(3)
    A, B = rng.normal(size=(2, d, d))
    return rng.normal(size=d), A @ A.T + 0.5 * np.eye(d), rng.normal(size=d), B @ B.T + 0.5 * np.eye(d)


def test_one_component_is_exact_between_gaussians():
    m0, S0, m1, S1 = _gaussians(3)
    epsilon = 0.7
    potential = _gaussian_bridge(m0, S0, m1, S1, epsilon)
    S = potential.scales[0].numpy()
    np.testing.assert_allclose(S @ S0 @ S + epsilon * S, S1, atol=1e-8)
    root = scipy.linalg.sqrtm(S0).real
    middle = scipy.linalg.sqrtm(4 * root @ S1 @ root + epsilon**2 * np.eye(3)).real
    cross = 0.5 * (root @ middle @ np.linalg.inv(root) - epsilon * np.eye(3)).T
    np.testing.assert_allclose(S @ S0, cross, atol=1e-8)
    _, means, covariances = _bridge(potential).conditional(m0[None])
    np.testing.assert_allclose(means[0, 0], m1, atol=1e-10)
    np.testing.assert_allclose(S @ S0 @ S + covariances[0], S1, atol=1e-8)
    s0, s1 = 1.3, 0.4
    line = _gaussian_bridge(np.zeros(1), np.array([[s0**2]]), np.zeros(1), np.array([[s1**2]]), epsilon)
    assert line.scales.item() == pytest.approx((-epsilon + np.sqrt(epsilon**2 + 4 * s0**2 * s1**2)) / (2 * s0**2), abs=1e-10)


def test_the_population_loss_is_stationary_at_the_gaussian_solution():
    m0, S0, m1, S1 = _gaussians(2)
    exact = _gaussian_bridge(m0, S0, m1, S1, 0.7)
    nodes, weights = np.polynomial.hermite_e.hermegauss(4)
    grid = np.stack(np.meshgrid(nodes, nodes), -1).reshape(-1, 2)
    mass = torch.from_numpy(np.outer(weights, weights).ravel() / weights.sum() ** 2)
    x, y = (torch.from_numpy(m + grid @ np.linalg.cholesky(S).T) for m, S in ((m0, S0), (m1, S1)))
    means, factors = exact.means.clone().requires_grad_(), exact.factors.clone().requires_grad_()

    def loss(means, factors):
        potential = GaussianPotential(exact.log_weights, means, factors, exact.epsilon)
        return mass @ potential.log_normalizer(x) - mass @ potential.log_potential(y)

    value = loss(means, factors)
    value.backward()
    assert means.grad.abs().max() < 1e-6
    assert factors.grad.tril().abs().max() < 1e-6
    assert loss(exact.means + 0.1, exact.factors) > value
    assert loss(exact.means, 1.1 * exact.factors) > value


def test_the_normalizer_is_the_integral_of_the_potential():
    potential = _random_potential(1, full=False)
    y = torch.linspace(-12, 12, 40001, dtype=DOUBLE)
    for x in (-1.0, 0.3, 2.0):
        integrand = x * y / potential.epsilon + potential.log_potential(y[:, None])
        expected = torch.logsumexp(integrand, 0) + np.log(float(y[1] - y[0]))
        assert float(potential.log_normalizer(torch.tensor([[x]], dtype=DOUBLE))) == pytest.approx(float(expected), abs=1e-8)


@pytest.mark.parametrize("full", [False, True])
def test_conditionals_integrate_to_one_with_the_map_as_mean(full):
    bridge = _bridge(_random_potential(3, full=full))
    X = np.random.default_rng(0).normal(size=(20, 3))
    weights, means, covariances = bridge.conditional(X)
    assert covariances.shape == ((4, 3, 3) if full else (4, 3))
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-12)
    np.testing.assert_allclose(np.einsum("nk,nkd->nd", weights, means), bridge.transform(X), atol=1e-12)
    draws = bridge.sample(np.repeat(X[:1], 200_000, axis=0), rng=0)
    assert np.abs(draws.mean(0) - bridge.transform(X[:1])[0]).max() < 0.01
    centered = means[0] - draws.mean(0)
    within = covariances if full else np.stack([np.diag(row) for row in covariances])
    expected = np.einsum("k,kij->ij", weights[0], within + centered[:, :, None] * centered[:, None, :])
    np.testing.assert_allclose(np.cov(draws.T), expected, atol=0.02)


@pytest.mark.parametrize("full", [False, True])
def test_drift_at_the_start_points_to_the_map(full):
    bridge = _bridge(_random_potential(3, full=full))
    X = np.random.default_rng(0).normal(size=(20, 3))
    np.testing.assert_allclose(bridge.drift(X, 0.0), bridge.transform(X) - X, atol=1e-10)


@pytest.mark.parametrize("t", [0.0, 0.2, 0.7, 0.98])
def test_drift_is_the_gradient_of_the_heat_flow_of_the_potential(t):
    """g = epsilon grad log of the integral of N(y | x, epsilon (1 - t)) e^{y^2 / 2 epsilon} v(y), whose gradient quadrature gives too."""
    potential = _random_potential(1, full=False)
    y = torch.linspace(-8, 8, 80001, dtype=DOUBLE)
    rest = y**2 / (2 * potential.epsilon) + potential.log_potential(y[:, None])
    x = torch.tensor([-0.8, 0.1, 1.5], dtype=DOUBLE, requires_grad=True)
    log_phi = torch.logsumexp(-((y - x[:, None]) ** 2) / (2 * potential.epsilon * (1 - t)) + rest, dim=1)
    (gradient,) = torch.autograd.grad(log_phi.sum(), x)
    torch.testing.assert_close(potential.drift(x.detach()[:, None], t)[:, 0], potential.epsilon * gradient, atol=1e-8, rtol=1e-8)


def test_full_and_diagonal_forms_agree():
    diagonal = _random_potential(3, full=False)
    full = GaussianPotential(diagonal.log_weights, diagonal.means, torch.diag_embed(diagonal.factors), diagonal.epsilon)
    x = torch.randn(10, 3, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    for name, arguments in {"log_potential": (x,), "log_normalizer": (x,), "mean": (x,), "drift": (x, 0.6), "component_means": (x,)}.items():
        torch.testing.assert_close(getattr(diagonal, name)(*arguments), getattr(full, name)(*arguments), atol=1e-11, rtol=1e-11)


def test_the_path_ends_in_the_conditional_law_with_an_error_of_first_order():
    potential = _random_potential(1, full=False)
    bridge = _bridge(potential)
    X = np.full((100_000, 1), 0.4)
    weights, means, variances = bridge.conditional(X[:1])
    levels = (np.arange(len(X)) + 0.5) / len(X)
    grid = np.linspace(-6, 6, 20001)
    law = (weights[0, :, None] * scipy.stats.norm.cdf((grid - means[0]) / np.sqrt(variances))).sum(0)
    quantiles = np.interp(levels, law, grid)
    errors = [np.abs(np.sort(bridge.sample_path(X, n, rng=0)[-1, :, 0]) - quantiles).mean() for n in (4, 16, 64)]
    assert errors[1] < 0.4 * errors[0]
    assert errors[2] < 0.5 * errors[1]
    exact = np.abs(np.sort(bridge.sample(X, rng=0)[:, 0]) - quantiles).mean()
    assert exact < 0.01


def test_positions_at_the_ends_and_in_between():
    bridge = _bridge(_random_potential(2, full=True))
    X = np.random.default_rng(0).normal(size=(50_000, 2))
    assert np.array_equal(bridge.sample_at(X, 0.0, rng=0), X)
    np.testing.assert_array_equal(bridge.sample_at(X, 1.0, rng=5), bridge.sample(X, rng=5))
    path = bridge.sample_path(X, 50, rng=1)
    assert path.shape == (51, 50_000, 2)
    np.testing.assert_allclose(np.cov(bridge.sample_at(X, 0.5, rng=2).T), np.cov(path[25].T), atol=0.05)


def test_a_strong_entropic_term_leaves_an_independent_plan():
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(1000, 1)), rng.normal(2.0, 1.0, size=(1000, 1))
    bridge = LightSchrodingerBridge(1, epsilon=100.0, initial_scale=0.01, steps=800, lr=0.03, tol=0, rng=0).fit(X, Y)
    assert bridge.transform(X).std() < 0.05
    assert bridge.transform(X).mean() == pytest.approx(Y.mean(), abs=0.2)
    assert bridge.sample(X, rng=0).std() == pytest.approx(Y.std(), abs=0.2)


def test_permuted_components_and_shifted_weights_change_nothing():
    potential = _random_potential(3, full=True)
    order = torch.tensor([2, 0, 3, 1])
    other = GaussianPotential(potential.log_weights[order] + 5.0, potential.means[order], potential.factors[order], potential.epsilon)
    X = np.random.default_rng(0).normal(size=(10, 3))
    np.testing.assert_allclose(_bridge(potential).transform(X), _bridge(other).transform(X), atol=1e-12)
    np.testing.assert_allclose(_bridge(potential).drift(X, 0.5), _bridge(other).drift(X, 0.5), atol=1e-12)
    assert _bridge(potential).score(X, X) == pytest.approx(_bridge(other).score(X, X), abs=1e-12)


def test_rotations_commute():
    potential = _random_potential(3, full=True)
    Q = torch.linalg.qr(torch.randn(3, 3, dtype=DOUBLE, generator=torch.Generator().manual_seed(4)))[0]
    scales = Q @ potential.scales @ Q.T
    rotated = GaussianPotential(potential.log_weights, potential.means @ Q.T, torch.linalg.cholesky(scales), potential.epsilon)
    x = torch.randn(10, 3, dtype=DOUBLE, generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(rotated.mean(x @ Q.T), potential.mean(x) @ Q.T, atol=1e-10, rtol=0)
    torch.testing.assert_close(rotated.drift(x @ Q.T, 0.4), potential.drift(x, 0.4) @ Q.T, atol=1e-10, rtol=0)
    torch.testing.assert_close(rotated.log_potential(x @ Q.T), potential.log_potential(x), atol=1e-10, rtol=0)


@pytest.mark.parametrize("covariance", ["diag", "full"])
def test_training_finds_the_gaussian_bridge(covariance):
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(4000, 2)), np.array([1.0, -2.0]) + rng.normal(size=(4000, 2)) * [0.5, 1.5]
    bridge = LightSchrodingerBridge(1, epsilon=0.5, covariance=covariance, steps=1500, lr=2e-2, tol=0, rng=0).fit(X, Y)
    exact = _gaussian_bridge(np.zeros(2), np.eye(2), np.array([1.0, -2.0]), np.diag([0.25, 2.25]), 0.5)
    test = rng.normal(size=(500, 2))
    off = bridge.transform(test) - _bridge(exact).transform(test)
    assert (off**2).sum(1).mean() < 0.01 * (0.25 + 2.25)
    assert bridge.loss_curve_[-200:].mean() < bridge.loss_curve_[:200].mean()


def test_same_seed_same_bridge_and_estimator_conventions():
    first, second, other = _small_fit(rng=3), _small_fit(rng=3), _small_fit(rng=4)
    assert np.array_equal(first.means_, second.means_)
    assert not np.array_equal(first.means_, other.means_)
    assert clone(first).get_params() == first.get_params()
    assert first.n_iter_ == len(first.loss_curve_) == 20
    assert np.exp(first.weights_log_).sum() == pytest.approx(1)
    assert _small_fit(init="normal").means_.shape == (3, 2)


def test_training_stops_where_the_loss_has_settled_and_says_when_it_has_not():
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(200, 2)), rng.normal(5.0, 1.0, size=(200, 2))
    settled = LightSchrodingerBridge(2, epsilon=1.0, lr=0.05, tol=0.02, steps=20_000, rng=0).fit(X, Y)
    assert settled.converged_
    assert settled.n_iter_ < 20_000
    assert settled.n_iter_ % 200 == 0
    with pytest.warns(ConvergenceWarning, match="mean loss still changes"):
        assert not LightSchrodingerBridge(2, steps=10, rng=0).fit(X, Y).converged_


def test_saved_and_loaded(tmp_path):
    for covariance in ("diag", "full"):
        bridge = _small_fit(covariance=covariance)
        bridge.save(tmp_path / "bridge.npz")
        loaded = LightSchrodingerBridge.load(tmp_path / "bridge.npz")
        np.testing.assert_allclose(loaded.transform(_points()), bridge.transform(_points()), atol=1e-12)
        np.testing.assert_allclose(loaded.log_potential(_points()), bridge.log_potential(_points()), atol=1e-10)
    np.savez(tmp_path / "other.npz", means=np.ones(3))
    with pytest.raises(ValueError, match="without epsilon, scales, weights_log"):
        LightSchrodingerBridge.load(tmp_path / "other.npz")
    with pytest.raises(ValueError, match=r"end in \.npz"):
        bridge.save(tmp_path / "bridge.bin")


def test_tensors_come_back_as_tensors_and_single_precision_stays():
    bridge = _small_fit()
    assert bridge.transform(torch.ones(2, 2)).dtype == torch.float32
    assert bridge.transform(np.ones((2, 2), dtype=np.float32)).dtype == np.float32
    assert isinstance(bridge.sample_path([[0.0, 1.0]], 2, rng=0), np.ndarray)


def test_what_is_refused():
    X, Y = np.random.default_rng(0).normal(size=(2, 10, 2))
    with pytest.raises(ValueError, match="n_potentials must be at most the number of points of Y, 10"):
        LightSchrodingerBridge(11).fit(X, Y)
    with pytest.raises(ValueError, match="Y must have as many columns as X, 2, got 1"):
        LightSchrodingerBridge(2).fit(X, Y[:, :1])
    with pytest.raises(ValueError, match="at least two points"):
        LightSchrodingerBridge(1).fit(X[:1], Y)
    with pytest.raises(ValueError, match="epsilon"):
        LightSchrodingerBridge(2, epsilon=0.0).fit(X, Y)
    with pytest.raises(ValueError, match="X must have 2 columns"):
        _small_fit().transform(np.ones((3, 1)))
