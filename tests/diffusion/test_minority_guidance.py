"""Minority scores against their closed form, levels of equal counts, guidance against finite differences and on an unbalanced mixture."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from specimens import Specimen

from ritz.diffusion import (
    GaussianMixtureDenoiser,
    MinorityClassifier,
    MinorityGuidance,
    MinorityScoreTransformer,
    MinorityTraining,
    VPLinear,
    ancestral_sample,
    minority_labels,
    minority_score,
    timesteps,
    train_minority_classifier,
)

SCHEDULE = VPLinear()
MIXTURE = GaussianMixtureDenoiser([0.48, 0.48, 0.02, 0.02], [[-2.0, 0.0], [2.0, 0.0], [0.0, 3.0], [0.0, -3.0]], [0.16] * 4)


def _normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _classifier(levels: int = 3, seed: int = 0) -> MinorityClassifier:
    torch.manual_seed(seed)
    return MinorityClassifier(2, levels, width=16)


SPECIMENS = {
    "minority_score": Specimen(
        lambda x0, t, distance, repeats, batch_size: minority_score(
            MIXTURE, x0, SCHEDULE, t=t, distance=distance, repeats=repeats, batch_size=batch_size, generator=0
        ),
        lambda: {"x0": _normal(4, 2), "t": 0.6, "distance": "l2", "repeats": 2, "batch_size": 3},
        accepts={"batch_size": ["none"]},
        spare=frozenset({"x0"}),
    ),
    "minority_labels": Specimen(minority_labels, lambda: {"scores": np.arange(6.0), "levels": 3}),
    "MinorityClassifier": Specimen(MinorityClassifier, lambda: {"dim": 2, "levels": 3, "width": 8, "depth": 2}),
    "train_minority_classifier": Specimen(
        lambda data, **options: train_minority_classifier(_classifier(2), data, torch.arange(8) % 2, SCHEDULE, generator=0, **options),
        lambda: {"data": _normal(8, 2), "steps": 2, "batch_size": 4, "lr": 1e-3, "weight_decay": 0.05, "validation": 0.2},
        spare=frozenset({"data"}),
    ),
    "MinorityTraining": Specimen(lambda: MinorityTraining(np.ones(2), 1.0, 0.5), dict),
    "MinorityGuidance": Specimen(
        lambda level, scale: MinorityGuidance(MIXTURE, _classifier(), SCHEDULE, level=level, scale=scale)(_normal(2, 2), 0.5),
        lambda: {"level": 1, "scale": 3.5},
    ),
    "MinorityScoreTransformer": Specimen(
        lambda X, t, repeats, seed: MinorityScoreTransformer(MIXTURE, SCHEDULE, t=t, repeats=repeats, seed=seed).fit(X).score_samples(X),
        lambda: {"X": np.random.default_rng(0).normal(size=(4, 2)), "t": 0.6, "repeats": 2, "seed": 0},
        spare=frozenset({"X"}),  # how many columns fit, the denoiser says
    ),
}


def test_the_score_of_gaussian_data_has_its_closed_form():
    m, v, rho = torch.tensor([1.0, -2.0, 0.5]), 0.7, 1.3
    denoiser = GaussianMixtureDenoiser([1.0], [m.tolist()], [v])
    x0 = m + torch.linspace(0.1, 4, 12)[:, None] * torch.tensor([0.6, 0.0, 0.8])
    scores = minority_score(denoiser, x0, SCHEDULE, sigma=rho, repeats=2000, generator=0)
    k = v / (v + rho**2)
    expected = (x0 - m).square().sum(1) * (1 - k) ** 2 + 3 * k**2 * rho**2
    assert ((scores - expected).abs() / expected).max() < 0.05
    assert (scores.diff() > 0).all()
    assert scipy.stats.spearmanr(scores, -denoiser.log_prob(x0.double(), 1e-6)).statistic == pytest.approx(1)


def test_the_time_is_a_share_of_the_schedule():
    x0 = _normal(5, 2)
    by_time = minority_score(MIXTURE, x0, SCHEDULE, t=0.6, generator=3)
    by_level = minority_score(MIXTURE, x0, SCHEDULE, sigma=SCHEDULE.rho(0.6), generator=3)
    assert torch.equal(by_time, by_level)
    in_parts = minority_score(MIXTURE, x0, SCHEDULE, t=0.6, batch_size=2, generator=3)
    torch.testing.assert_close(in_parts, by_time)


@pytest.mark.parametrize(("t", "low", "high"), [(0.2, 0.0, 0.85), (0.4, 0.95, 1.0), (0.6, 0.95, 1.0), (0.8, 0.95, 1.0), (0.9, 0.95, 1.0)])
def test_the_score_finds_small_modes_from_a_time_on(t, low, high):
    x0 = MIXTURE.sample(10_000, 0).float()
    minority = MIXTURE.responsibilities(x0, 0.0)[:, 2:].sum(1) > 0.5
    area = roc_auc_score(minority, minority_score(MIXTURE, x0, SCHEDULE, t=t, generator=1))
    assert low <= area <= high


def test_levels_have_equal_counts_and_follow_the_scores():
    scores = np.random.default_rng(0).exponential(size=1003)
    labels, quantiles = minority_labels(scores, levels=10)
    counts = np.bincount(labels)
    assert counts.max() - counts.min() <= 1
    assert (np.diff(labels[np.argsort(scores)]) >= 0).all()
    assert np.array_equal(labels, minority_labels(np.log(scores), levels=10)[0])
    assert np.array_equal(np.searchsorted(quantiles, scores), labels)
    tied = minority_labels(np.zeros(7), levels=3)[0]
    assert np.array_equal(tied, minority_labels(np.zeros(7), levels=3)[0])
    assert tied.tolist() == [0, 0, 0, 1, 1, 2, 2]
    as_tensors = minority_labels(torch.from_numpy(scores), levels=10)
    assert np.array_equal(as_tensors[0].numpy(), labels)
    assert isinstance(as_tensors[1], torch.Tensor)


def test_guidance_adds_the_gradient_of_the_classifier():
    classifier, x = _classifier().double(), _normal(6, 2).double()
    for sigma in (0.4, torch.linspace(0.1, 2.0, 6, dtype=torch.float64)):
        guided = MinorityGuidance(MIXTURE, classifier, SCHEDULE, level=1, scale=2.0)
        h, gradient = 1e-5, torch.zeros_like(x)
        for i in range(2):
            step = torch.zeros(2, dtype=torch.float64)
            step[i] = h
            gradient[:, i] = (guided.log_probability(x + step, sigma) - guided.log_probability(x - step, sigma)) / (2 * h)
        square = torch.as_tensor(sigma, dtype=torch.float64).reshape(-1, 1) ** 2
        torch.testing.assert_close(guided(x, sigma), MIXTURE(x, sigma) + 2.0 * square * gradient, atol=1e-5, rtol=0)


def test_no_scale_is_the_unguided_sampler_bit_for_bit():
    sigmas, start = SCHEDULE.rho(timesteps(SCHEDULE, 10)), 150 * _normal(20, 2)
    guided = MinorityGuidance(MIXTURE, _classifier(), SCHEDULE, scale=0.0)
    assert torch.equal(ancestral_sample(guided, start, sigmas, generator=0).x, ancestral_sample(MIXTURE, start, sigmas, generator=0).x)


def test_levels_can_differ_from_sample_to_sample():
    classifier, x = _classifier(), _normal(3, 2)
    together = MinorityGuidance(MIXTURE, classifier, SCHEDULE, level=torch.tensor([0, 2, -1]))(x, 0.5)
    for i, level in enumerate([0, 2, 2]):
        torch.testing.assert_close(together[i : i + 1], MinorityGuidance(MIXTURE, classifier, SCHEDULE, level=level)(x[i : i + 1], 0.5))


def test_a_trained_classifier_brings_samples_to_the_small_modes():
    torch.manual_seed(0)
    data = MIXTURE.sample(6000, 0).float()
    labels, _ = minority_labels(minority_score(MIXTURE, data, SCHEDULE, generator=0), levels=10)
    classifier = MinorityClassifier(2, 10, width=64)
    training = train_minority_classifier(classifier, data, labels, SCHEDULE, steps=500, lr=3e-3, generator=0)
    assert training.validation_after < training.validation_before - 0.1
    assert training.losses.shape == (500,)
    sigmas = SCHEDULE.rho(timesteps(SCHEDULE, 30))
    start = float(SCHEDULE.rho(SCHEDULE.t_max)) * _normal(1000, 2, seed=1)

    def minority(denoiser) -> float:
        x = ancestral_sample(denoiser, start, sigmas, generator=0).x
        return float((MIXTURE.responsibilities(x, 0.0)[:, 2:].sum(1) > 0.5).float().mean())

    plain = minority(MIXTURE)
    assert plain < 0.1
    assert minority(MinorityGuidance(MIXTURE, classifier, SCHEDULE, level=-1)) > 4 * plain
    assert minority(MinorityGuidance(MIXTURE, classifier, SCHEDULE, level=0)) < plain


def test_training_and_scores_are_reproducible():
    data, labels = _normal(60, 2), torch.arange(60) % 3
    weights = []
    for seed in (5, 5, 6):
        classifier = _classifier()
        train_minority_classifier(classifier, data, labels, SCHEDULE, steps=5, batch_size=8, generator=seed)
        weights.append(classifier.out.weight.detach().clone())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    scores = [minority_score(MIXTURE, data, SCHEDULE, generator=seed) for seed in (5, 5, 6)]
    assert torch.equal(scores[0], scores[1])
    assert not torch.equal(scores[0], scores[2])


def test_half_precision_networks_and_other_distances():
    x0 = 3 * _normal(50, 2)
    scores = minority_score(lambda x, sigma: MIXTURE(x, sigma).half(), x0, SCHEDULE, generator=0)
    assert scores.dtype == torch.float32
    assert torch.isfinite(scores).all()
    torch.testing.assert_close(scores, minority_score(MIXTURE, x0, SCHEDULE, generator=0), rtol=0.02, atol=0.02)
    absolute = minority_score(MIXTURE, x0, SCHEDULE, distance=lambda a, b: (a - b).abs().sum(1), generator=0)
    assert scipy.stats.spearmanr(absolute, scores).statistic > 0.9
    with pytest.raises(ValueError, match="distance must return"):
        minority_score(MIXTURE, x0, SCHEDULE, distance=lambda a, b: a - b, generator=0)


def test_the_estimator_gives_the_same_scores():
    X = np.random.default_rng(0).normal(size=(20, 2))
    scorer = MinorityScoreTransformer(MIXTURE, SCHEDULE, seed=3).fit(X)
    np.testing.assert_array_equal(scorer.score_samples(X), minority_score(MIXTURE, torch.from_numpy(X), SCHEDULE, generator=3).numpy())
    assert scorer.transform(X).shape == (20, 1)
    assert clone(scorer).get_params()["seed"] == 3


def test_what_is_refused():
    x0, labels = _normal(10, 2), torch.arange(10) % 2
    for t in (0.0, 1.0, math.nan):
        with pytest.raises(ValueError, match="t must"):
            minority_score(MIXTURE, x0, SCHEDULE, t=t)
    with pytest.raises(ValueError, match="X must be finite"):
        MinorityScoreTransformer(MIXTURE, SCHEDULE).score_samples(np.array([[0.0, math.nan]]))
    with pytest.raises(ValueError, match="levels must be at most the number of scores, 10"):
        minority_labels(np.arange(10), levels=11)
    with pytest.raises(ValueError, match="an output for each of the 2 levels"):
        train_minority_classifier(_classifier(3), x0, labels, SCHEDULE, steps=1)
    with pytest.raises(ValueError, match=r"levels 0, 1, \.\.\. each with a sample"):
        train_minority_classifier(_classifier(3), x0, 2 * labels, SCHEDULE, steps=1)
    with pytest.raises(TypeError, match="labels must be a tensor of integers"):
        train_minority_classifier(_classifier(2), x0, labels.float(), SCHEDULE, steps=1)
    with pytest.raises(ValueError, match="level must be among"):
        MinorityGuidance(MIXTURE, _classifier(3), SCHEDULE, level=3)(x0, 0.5)
    with pytest.raises(ValueError, match="a level for each of the 10 samples"):
        MinorityGuidance(MIXTURE, _classifier(3), SCHEDULE, level=torch.zeros(4, dtype=torch.long))(x0, 0.5)
