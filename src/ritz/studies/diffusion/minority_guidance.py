"""Study: minority scores and guidance on a mixture with two rare modes, and on digits of which two classes are rare."""

from __future__ import annotations

import torch
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors

from ritz.diffusion import (
    EDMDenoiser,
    GaussianMixtureDenoiser,
    MinorityClassifier,
    MinorityGuidance,
    VPLinear,
    ancestral_sample,
    minority_labels,
    minority_score,
    timesteps,
    train_minority_classifier,
)
from ritz.studies.data.digits import digits
from ritz.studies.digit_diffusion import CLASSES, DigitNetwork
from ritz.studies.registry import study
from ritz.studies.run import Run
from ritz.studies.training import fit, minibatches, warmup_cosine

SCHEDULE = VPLinear()
TIMES = (0.2, 0.4, 0.6, 0.8, 0.9)
LEVELS = 10
MODES = torch.tensor([[-2.0, 0.0], [2.0, 0.0], [0.0, 3.0], [0.0, -3.0]], dtype=torch.float64)
VARIANCE = 0.16


@study("minority-guidance", minutes=2.0)
def minority_guidance(run: Run) -> None:
    """Guidance towards the rarest level brings eight times as many samples of rare modes, which still lie within the modes.

    A mixture of two common modes and two rare ones of 2 % each with its exact denoiser, then digits of which 8 and 9 are cut to 3 %, with a network
    trained here. Baselines: no guidance, a sharpened or flattened score, and rejection by the score, which costs as many samples as it drops
    (Um et al., ICLR 2024).
    """
    _mixture(run)
    _digits(run)


def _mixture(run: Run) -> None:
    mixture = GaussianMixtureDenoiser([0.48, 0.48, 0.02, 0.02], MODES, [VARIANCE] * 4)
    rows, scores = [], []
    for seed in run.progress(run.seeds(3), "mixtures"):
        data = mixture.sample(run.pick(smoke=500, default=10_000), seed).float()
        rare = mixture.responsibilities(data, 0.0)[:, 2:].sum(1) > 0.5
        scores.append(_score_row(mixture, data, rare, seed))
        classifier = _classifier(run, mixture, data, seed)
        start = SCHEDULE.rho(SCHEDULE.t_max) * torch.randn(run.pick(smoke=200, default=4000), 2, generator=torch.Generator().manual_seed(100 + seed))
        for name, denoiser in _guided(mixture, classifier).items():
            rows.append({"sampler": name, "seed": seed} | _mixture_row(mixture, _sampled(run, denoiser, start, seed)))
        rows.append({"sampler": "rejection by the score", "seed": seed} | _mixture_row(mixture, _rejected(run, mixture, data, start, seed)))
    run.table("mixture: area under the curve of scores that tell the rare modes", scores)
    run.table(
        "mixture: what samplers draw",
        rows,
        note="distance: squared Mahalanobis distance to the nearest mode over the dimension, 1 for true samples; rejection keeps one of ten",
    )
    _mixture_claims(run, rows, scores)


def _mixture_claims(run: Run, rows: list[dict], scores: list[dict]) -> None:
    def mean(sampler: str, column: str) -> float:
        chosen = [row[column] for row in rows if row["sampler"] == sampler]
        return sum(chosen) / len(chosen)

    plain, rarest = mean("unguided", "rare share"), mean("level 9, scale 3.5", "rare share")
    ratio = rarest / max(plain, 1e-9)
    paper = "higher average distance to neighbors and local outlier factor than unguided samplers on CelebA and LSUN"
    run.claim(
        "share of rare modes at scale 3.5 at least 8 times that of no guidance", measured=ratio, holds=ratio >= 8, baseline="unguided", paper=paper
    )
    distance = mean("level 9, scale 3.5", "distance")
    run.claim("samples stay valid: mean squared distance to the nearest mode at most 3", measured=distance, holds=distance <= 3)
    common = mean("level 0, scale 3.5", "rare share")
    run.claim("level 0 lowers the share below that of no guidance", measured=common / max(plain, 1e-9), holds=common < plain, baseline="unguided")
    late = min(row[f"t = {t}"] for row in scores for t in TIMES if t >= 0.4)
    run.claim("the score tells rare modes with an area of at least 0.95 from t = 0.4 on", measured=late, holds=late >= 0.95)


def _score_row(mixture: GaussianMixtureDenoiser, data: torch.Tensor, rare: torch.Tensor, seed: int) -> dict[str, float]:
    row: dict[str, float] = {"seed": seed}
    for t in TIMES:
        row[f"t = {t}"] = float(roc_auc_score(rare, minority_score(mixture, data, SCHEDULE, t=t, generator=seed)))
    return row | _rivals(data, rare, seed)


def _rivals(data: torch.Tensor, rare: torch.Tensor, seed: int) -> dict[str, float]:
    outlier = LocalOutlierFactor(20).fit(data.numpy())
    forest = IsolationForest(random_state=seed).fit(data.numpy())
    return {
        "local outlier factor": float(roc_auc_score(rare, -outlier.negative_outlier_factor_)),
        "isolation forest": float(roc_auc_score(rare, -forest.score_samples(data.numpy()))),
    }


def _classifier(run: Run, denoiser, data: torch.Tensor, seed: int) -> MinorityClassifier:
    torch.manual_seed(seed)
    labels, _ = minority_labels(minority_score(denoiser, data, SCHEDULE, generator=seed), LEVELS)
    classifier = MinorityClassifier(data.shape[1], LEVELS)
    train_minority_classifier(classifier, data, labels, SCHEDULE, steps=run.pick(smoke=20, default=3000), lr=2e-3, generator=seed)
    return classifier.eval().requires_grad_(False)


def _guided(denoiser, classifier: MinorityClassifier) -> dict:
    def scaled(factor: float):
        return lambda x, sigma: x + factor * (denoiser(x, sigma) - x)

    guided = {
        f"level {level % LEVELS}, scale {scale}": MinorityGuidance(denoiser, classifier, SCHEDULE, level, scale)
        for level, scale in ((-1, 1.0), (-1, 2.0), (-1, 3.5), (0, 3.5))
    }
    return {"unguided": denoiser, "score times 0.8": scaled(0.8), "score times 1.2": scaled(1.2)} | guided


def _sampled(run: Run, denoiser, start: torch.Tensor, seed: int) -> torch.Tensor:
    sigmas = SCHEDULE.rho(timesteps(SCHEDULE, run.pick(smoke=10, default=100, full=250)))
    return ancestral_sample(denoiser, start, sigmas, generator=seed).x


def _rejected(run: Run, mixture: GaussianMixtureDenoiser, data: torch.Tensor, start: torch.Tensor, seed: int) -> torch.Tensor:
    """Of true samples those in the rarest tenth by score, ten drawn for each."""
    drawn = mixture.sample(LEVELS * len(start) // 4, 200 + seed).float()
    _, quantiles = minority_labels(minority_score(mixture, data, SCHEDULE, generator=seed), LEVELS)
    return drawn[minority_score(mixture, drawn, SCHEDULE, generator=seed) > quantiles[-1]]


def _mixture_row(mixture: GaussianMixtureDenoiser, x: torch.Tensor) -> dict[str, float]:
    nearest = torch.cdist(x.double(), MODES).min(1)
    neighbors = NearestNeighbors(n_neighbors=6).fit(x.numpy()).kneighbors(x.numpy())[0][:, 1:]
    return {
        "rare share": float((nearest.indices >= 2).double().mean()),
        "distance": float((nearest.values**2).mean() / (2 * VARIANCE)),
        "distance to 5 neighbors": float(neighbors.mean()),
    }


def _digits(run: Run) -> None:
    """Zeros and ones whole, three per cent as many eights and nines: what the score finds and what guidance draws."""
    split, rows = digits(0), []
    pixels, labels = torch.from_numpy(2 * split.x_train - 1), torch.from_numpy(split.y_train)
    common, rare = (labels <= 1).nonzero().flatten(), (labels >= 8).nonzero().flatten()
    rare = rare[: max(4, round(0.03 * len(common)))]
    data, is_rare = pixels[torch.cat([common, rare])], torch.arange(len(common) + len(rare)) >= len(common)
    judge = NearestNeighbors(n_neighbors=1).fit(pixels[(labels <= 1) | (labels >= 8)].numpy())
    judge_labels = labels[(labels <= 1) | (labels >= 8)]
    denoiser = _digit_denoiser(run, data)
    axes = PCA(10, random_state=0).fit(data.numpy())
    components = torch.from_numpy(axes.components_).to(data)

    def features(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return ((a - b) @ components.T).square().sum(1)

    scores = {"pixels": "l2", "principal components": features}
    areas = {
        name: float(roc_auc_score(is_rare, minority_score(denoiser, data, SCHEDULE, distance=distance, repeats=20, generator=0)))
        for name, distance in scores.items()
    }
    run.table("digits: area under the curve of scores that tell 8 and 9", [areas | _rivals(data, is_rare, 0)])
    classifier = _classifier(run, denoiser, data, 0)
    start = SCHEDULE.rho(SCHEDULE.t_max) * torch.randn(run.pick(smoke=50, default=500), 64, generator=torch.Generator().manual_seed(0))
    for name, guided in _guided(denoiser, classifier).items():
        x = _sampled(run, guided, start, 0)
        distance, nearest = judge.kneighbors(x.numpy())
        rare_share = float((judge_labels[torch.from_numpy(nearest[:, 0])] >= 8).double().mean())
        rows.append({"sampler": name, "share of 8 and 9": rare_share, "distance to the nearest digit": float(distance.mean())})
    run.table(
        "digits: what samplers draw, classes by the nearest digit", rows, note="one network trained here for seconds; nothing is claimed about these"
    )


def _digit_denoiser(run: Run, data: torch.Tensor) -> EDMDenoiser:
    torch.manual_seed(run.seed)
    network, spread = DigitNetwork(run.pick(smoke=16, default=128)), float(data.std())
    denoiser = EDMDenoiser(lambda x, time: network(x, time, torch.full((len(x),), CLASSES)), spread)
    steps = run.pick(smoke=10, default=1500, full=20_000)
    generator = torch.Generator().manual_seed(run.seed)
    batches = minibatches(len(data), 64, generator)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    schedule = warmup_cosine(optimizer, steps, steps // 20)
    fit(optimizer, lambda _: denoiser.loss(data[next(batches)], generator), range(steps), scheduler=schedule, clip_norm=1.0)
    network.eval().requires_grad_(False)
    return denoiser
