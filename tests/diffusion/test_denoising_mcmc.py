"""Langevin-Gibbs chains: the joint law of sample and level, what is denoised, what it costs, and how the chains go on."""

import numpy as np
import pytest
import scipy.stats
import torch
from specimens import Specimen

from ritz.diffusion import (
    AnalyticNoisePosterior,
    ChainSamples,
    ChainState,
    DenoisingLangevinGibbs,
    GaussianMixtureDenoiser,
    MetropolisLangevin,
    ReverseIntegrator,
    ancestral_sample,
    dmcmc_transition,
    euler_maruyama_sample,
    langevin_move,
    noise_level_grid,
    train_noise_classifier,
)

LINE = GaussianMixtureDenoiser([0.4, 0.6], torch.tensor([[-0.7], [0.9]], dtype=torch.float64), [0.1, 0.2])
LINE_SIGMAS = torch.logspace(0.3, -0.6, 6, dtype=torch.float64)
MIXTURE = GaussianMixtureDenoiser([0.3, 0.7], [[1.0, -0.5], [-1.0, 0.8]], [0.02, 0.04])
LEVELS = 40
POSTERIOR = AnalyticNoisePosterior(MIXTURE, noise_level_grid(LEVELS))
HEUN = ReverseIntegrator(nodes=4)


def _chains(denoiser=MIXTURE, **options) -> DenoisingLangevinGibbs:
    return DenoisingLangevinGibbs(denoiser, POSTERIOR, **({"levels": LEVELS, "steps_between": 3, "step_size": 0.2} | options))


def _state(n: int = 6, seed: int = 0) -> ChainState:
    generator = torch.Generator().manual_seed(seed)
    return ChainState(MIXTURE.sample(n, generator).float() + 0.4 * torch.randn(n, 2, generator=generator), torch.full((n,), 0.4))


class _Counter:
    def __init__(self):
        self.calls = 0

    def __call__(self, x, sigma):
        self.calls += 1
        return MIXTURE(x, sigma)


SPECIMENS = {
    "ChainState": Specimen(
        lambda x, sigma: _chains().sample(6, HEUN, ChainState(x, sigma), 0),
        lambda: {"x": _state().x, "sigma": _state().sigma},
        spare=frozenset({"x"}),
    ),
    "ChainSamples": Specimen(lambda: _chains().sample(6, HEUN, _state(), 0), dict),
    "DenoisingLangevinGibbs": Specimen(
        _chains,
        lambda: {
            "step_size": 0.2,
            "steps_between": 3,
            "sigma_min": 0.01,
            "sigma_max": 50.0,
            "levels": LEVELS,
            "pick": "smallest",
            "gibbs": "argmax",
        },
    ),
    "DenoisingLangevinGibbs.init_chains": Specimen(
        lambda **options: _chains().init_chains(shape=(2,), burn_in=(1, 1), **options),
        lambda: {"n": 3, "generator": 0, "burn_in_step_size": 0.5, "burn_in_noise": 0.5},
        accepts={"generator": ("none",)},
    ),
    "DenoisingLangevinGibbs.sample": Specimen(
        lambda **options: _chains().sample(integrator=HEUN, state=_state(), **options),
        lambda: {"n_samples": 12, "generator": 0},
        accepts={"generator": ("none",)},
    ),
    "MetropolisLangevin": Specimen(MetropolisLangevin, lambda: {"log_prob": MIXTURE.log_prob}),
    "dmcmc_transition": Specimen(
        lambda **arguments: dmcmc_transition(denoiser=MIXTURE, noise_posterior=POSTERIOR, **arguments),
        lambda: {
            "x": _state().x,
            "sigma": _state().sigma,
            "sigmas": noise_level_grid(LEVELS),
            "step_size": 0.2,
            "gibbs": "argmax",
            "generator": 0,
        },
        spare=frozenset({"x"}),
        accepts={"generator": ("none",)},
    ),
    "langevin_move": Specimen(lambda: langevin_move(MIXTURE, _state().x, _state().sigma, 0.2, torch.Generator().manual_seed(0)), dict),
}


def _joint_law(moves: int, step_size: float, *, move, start: str, chains: int = 6000) -> np.ndarray:
    """Counts (levels, bins) of the states of independent chains after some moves, in bins that are equally likely at their level."""
    generator = torch.Generator().manual_seed(0)
    posterior = AnalyticNoisePosterior(LINE, LINE_SIGMAS)
    if start == "law":
        sigma = LINE_SIGMAS[torch.randint(len(LINE_SIGMAS), (chains,), generator=generator)]
        x = LINE.sample(chains, generator) + sigma[:, None] * torch.randn(chains, 1, generator=generator, dtype=torch.float64)
    else:
        x, sigma = torch.full((chains, 1), 3.0, dtype=torch.float64), LINE_SIGMAS[-1].expand(chains)
    for _ in range(moves):
        x, sigma = dmcmc_transition(x, sigma, LINE, posterior, LINE_SIGMAS, step_size=step_size, gibbs="sample", move=move, generator=generator)
    counts = []
    for level in LINE_SIGMAS:
        spread = np.sqrt(np.array([0.1, 0.2]) + float(level) ** 2)
        here = x[sigma == level].numpy()
        uniform = (np.array([0.4, 0.6]) * scipy.stats.norm.cdf(here, [-0.7, 0.9], spread)).sum(1)
        counts.append(np.histogram(uniform, bins=8, range=(0, 1))[0])
    return np.array(counts)


def _distance(counts: np.ndarray) -> float:
    return float(np.abs(counts / counts.sum() - 1 / counts.size).sum() / 2)


def test_adjusted_chains_have_the_joint_law_of_samples_and_levels():
    counts = _joint_law(300, 0.2, move=MetropolisLangevin(LINE.log_prob), start="far away")
    assert scipy.stats.chisquare(counts.ravel()).pvalue > 0.01


def test_the_bias_of_unadjusted_chains_shrinks_with_the_step():
    far, middle, near = (_distance(_joint_law(round(6 / eta), eta, move=langevin_move, start="law")) for eta in (0.8, 0.2, 0.05))
    noise = _distance(_joint_law(0, 1.0, move=langevin_move, start="law"))
    assert far - noise > 2 * (middle - noise) > 0
    assert near < 1.2 * noise


def test_argmax_takes_the_likeliest_level_and_sampling_draws_from_the_posterior():
    x = torch.tensor([[0.3, 0.1]]).expand(20_000, 2)
    sigmas, stay = noise_level_grid(LEVELS), lambda denoiser, x, sigma, step_size, generator: x
    options = {"sigmas": sigmas, "move": stay, "generator": 0}
    _, best = dmcmc_transition(x, torch.ones(len(x)), MIXTURE, POSTERIOR, gibbs="argmax", **options)
    assert (best == sigmas.float()[POSTERIOR(x[:1]).argmax()]).all()
    _, drawn = dmcmc_transition(x, torch.ones(len(x)), MIXTURE, POSTERIOR, gibbs="sample", **options)
    counts = (drawn[:, None] == sigmas.float()).sum(0)
    expected = torch.softmax(POSTERIOR(x[:1].double()), dim=1)[0] * len(x)
    kept = expected > 5
    assert scipy.stats.chisquare(counts[kept], expected[kept] * counts[kept].sum() / expected[kept].sum()).pvalue > 0.01


def test_a_langevin_move_is_its_formula():
    state, generator = _state(), torch.Generator().manual_seed(4)
    moved = langevin_move(MIXTURE, state.x, state.sigma, 0.3, generator)
    noise = torch.randn(state.x.shape, generator=generator.manual_seed(4))
    torch.testing.assert_close(moved, state.x + 0.15 * MIXTURE.score(state.x, state.sigma) + 0.3**0.5 * noise)


def test_no_moves_from_the_largest_level_are_the_plain_sampler():
    x, sigma = 50 * torch.randn(5, 2), torch.full((5,), 50.0)
    for integrator in (HEUN, ReverseIntegrator(ancestral_sample, nodes=6), ReverseIntegrator(euler_maruyama_sample, nodes=6)):
        ours = _chains(steps_between=0).sample(5, integrator, ChainState(x, sigma), generator=3)
        assert torch.equal(ours.x, integrator(MIXTURE, x, sigma, torch.Generator().manual_seed(3)))


@pytest.mark.parametrize(("pick", "gibbs"), [("smallest", "argmax"), ("last", "sample")])
def test_a_long_run_is_two_short_ones(pick, gibbs):
    chains, integrator = _chains(pick=pick, gibbs=gibbs), ReverseIntegrator(ancestral_sample, nodes=4)
    generator = torch.Generator().manual_seed(1)
    first = chains.sample(12, integrator, _state(), generator)
    second = chains.sample(18, integrator, first.state, generator)
    whole = chains.sample(30, integrator, _state(), torch.Generator().manual_seed(1))
    assert torch.equal(torch.cat([first.x, second.x]), whole.x)
    assert torch.equal(second.state.x, whole.state.x)
    assert torch.equal(second.state.sigma, whole.state.sigma)
    assert whole.nfe == whole.state.nfe == first.nfe + second.nfe == second.state.nfe


@pytest.mark.parametrize(("move", "calls_a_move"), [(langevin_move, 1), (MetropolisLangevin(MIXTURE.log_prob), 2)])
def test_calls_are_counted(move, calls_a_move):
    counter = _Counter()
    chains = _chains(counter, move=move)
    state = chains.init_chains(6, (2,), burn_in=(2, 3), generator=0)
    assert state.nfe == counter.calls == 37 + 5 * calls_a_move
    result = chains.sample(18, HEUN, state, generator=0)
    assert result.nfe == 3 * (3 * calls_a_move + 2 * 3 - 1) == counter.calls - state.nfe
    assert result.state.nfe == counter.calls


def test_the_smallest_level_since_the_last_sample_is_denoised():
    seen = []

    def integrator(denoiser, x, sigma, generator):
        seen.append((x, sigma))
        return x

    start = _state()
    chains, generator = _chains(steps_between=4), torch.Generator().manual_seed(7)
    chains.sample(6, integrator, start, generator)
    x, sigma, generator = start.x, start.sigma, torch.Generator().manual_seed(7)
    states = [(x, sigma)]
    for _ in range(4):
        x, sigma = dmcmc_transition(x, sigma, MIXTURE, POSTERIOR, chains.sigmas, step_size=0.2, generator=generator)
        states.append((x, sigma))
    levels = torch.stack([sigma for _, sigma in states])
    torch.testing.assert_close(seen[0][1], levels.amin(0))
    picked = torch.stack([x for x, _ in states])[levels.argmin(0), torch.arange(6)]
    torch.testing.assert_close(seen[0][0], picked)
    _chains(steps_between=4, pick="last").sample(6, integrator, start, torch.Generator().manual_seed(7))
    torch.testing.assert_close(seen[1][0], x)


def test_samples_of_exact_chains_are_the_datas():
    chains = _chains(gibbs="sample", pick="last", step_size=0.5, move=MetropolisLangevin(MIXTURE.log_prob))
    result = chains.sample(8000, ReverseIntegrator(nodes=8), chains.init_chains(800, (2,), generator=0), generator=1)
    assert isinstance(result, ChainSamples)
    weights = MIXTURE.responsibilities(result.x, 0.0).mean(0)
    assert abs(float(weights[0]) - 0.3) < 0.06
    spread = ((result.x[:, None] - MIXTURE.means).square().sum(2) / MIXTURE.variances[:, 0] / 2).amin(1)
    assert abs(float(spread.mean()) - 1) < 0.15


def test_the_autocorrelation_is_that_of_a_known_chain():
    """Denoised or not is the sampler's business: an autoregressive move with coefficient 0.8, and samples as they are."""

    def move(denoiser, x, sigma, step_size, generator):
        return 0.8 * x + 0.6 * torch.randn(x.shape, generator=generator)

    chains = _chains(move=move, steps_between=1, pick="last")
    start = ChainState(torch.randn(2000, 2, generator=torch.Generator().manual_seed(0)), torch.ones(2000))
    acf = chains.sample(2000 * 9, lambda denoiser, x, sigma, generator: x, start, generator=1).acf
    np.testing.assert_allclose(acf, 0.8 ** np.arange(5), atol=0.02)
    assert chains.sample(2000, lambda denoiser, x, sigma, generator: x, start, generator=0).acf.tolist() == [1.0]


def test_no_gradient_is_recorded_and_any_integrator_of_the_form_will_do():
    weight = torch.ones(1, requires_grad=True)
    chains = _chains(lambda x, sigma: weight * MIXTURE(x, sigma))
    assert not chains.sample(6, lambda denoiser, x, sigma, generator: denoiser(x, sigma), _state(), 0).x.requires_grad


def test_a_classifier_takes_the_place_of_the_posterior():
    classifier = train_noise_classifier(MIXTURE.sample(500, 0).float(), 10, width=2, steps=5, generator=0).classifier
    chains = DenoisingLangevinGibbs(MIXTURE, classifier, levels=10, steps_between=2)
    assert chains.sample(6, HEUN, _state(), 0).x.shape == (6, 2)
    with pytest.raises(ValueError, match="noise_posterior must tell apart the 11 levels"):
        DenoisingLangevinGibbs(MIXTURE, classifier, levels=11)
    with pytest.raises(ValueError, match="noise_posterior must tell apart"):
        DenoisingLangevinGibbs(MIXTURE, classifier, levels=10, sigma_max=80.0)
    with pytest.raises(ValueError, match=r"noise_posterior must return logits \(6, 11\)"):
        DenoisingLangevinGibbs(MIXTURE, lambda x: classifier(x), levels=11).sample(6, HEUN, _state(), 0)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"step_size": 0.0}, "step_size"),
        ({"step_size": -1.0}, "step_size"),
        ({"sigma_min": 50.0}, "sigma_max"),
        ({"steps_between": -1}, "steps_between"),
        ({"levels": 1}, "levels"),
    ],
)
def test_bad_options_are_refused(options, name):
    with pytest.raises(ValueError, match=name):
        _chains(**options)


def test_chains_that_are_not_finite_are_named():
    broken = _state()
    broken.x[4, 1] = float("nan")
    with pytest.raises(ValueError, match=r"state\.x of chain 4 is not finite"):
        _chains().sample(6, HEUN, broken)

    def explode(denoiser, x, sigma, step_size, generator):
        return torch.where(torch.arange(len(x))[:, None] == 2, float("inf"), x)

    with pytest.raises(ValueError, match="chain 2 is not finite"):
        DenoisingLangevinGibbs(MIXTURE, lambda x: torch.zeros(len(x), LEVELS), levels=LEVELS, move=explode).sample(6, HEUN, _state())


@pytest.mark.parametrize(
    ("state", "error", "name"),
    [
        (None, TypeError, "state must be a ChainState"),
        (ChainState(torch.zeros(3), torch.ones(3)), ValueError, "state.x"),
        (ChainState(torch.zeros(3, 2), torch.ones(2)), ValueError, "state.sigma"),
        (ChainState(torch.zeros(3, 2), torch.zeros(3)), ValueError, "state.sigma must be positive"),
    ],
)
def test_states_that_are_none_are_refused(state, error, name):
    with pytest.raises(error, match=name):
        _chains().sample(3, HEUN, state)


def test_numbers_of_samples_and_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="n_samples must be a multiple of the number of chains, 6"):
        _chains().sample(7, HEUN, _state())
    for options in ({"shape": 2}, {"shape": ()}, {"shape": (2,), "burn_in": 3}):
        with pytest.raises(TypeError, match=r"shape|burn_in"):
            _chains().init_chains(3, **options)
