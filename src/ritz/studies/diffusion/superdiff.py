"""Study: superposition of diffusion models against averaging and adding their scores, and against an oracle that draws the model first."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from ritz.diffusion import EDM, EDMDenoiser, GaussianMixtureDenoiser, VPLinear, euler_maruyama_sample, log_likelihood, superdiff, timesteps
from ritz.studies.digit_diffusion import CLASSES, DigitNetwork, digit_pixels, trained_digit_diffusion
from ritz.studies.registry import study
from ritz.studies.run import Run
from ritz.studies.sample_distances import energy_distance, mode_mass_error, noise_floor
from ritz.studies.training import fit, minibatches, warmup_cosine

SCHEDULE = VPLinear()
LEVEL = SCHEDULE.rho(SCHEDULE.t_min)
UP = GaussianMixtureDenoiser([0.5, 0.5], torch.tensor([[-2.0, 2.0], [2.0, 2.0]], dtype=torch.float64), [0.16, 0.16])
DOWN = GaussianMixtureDenoiser([0.5, 0.5], torch.tensor([[-2.0, -2.0], [2.0, -2.0]], dtype=torch.float64), [0.16, 0.16])
BOTH = GaussianMixtureDenoiser([0.25] * 4, torch.cat([UP.means, DOWN.means]), [0.16] * 4)
Denoisers = Sequence[Callable]


@study("superdiff", minutes=3)
def superdiff_study(run: Run) -> None:
    """Two trained models become their mixture, or what both find likely, at the cost of their forward passes.

    Two pairs of modes in the plane, with exact scores and with small networks, and networks of the digits 0-4 and 5-9 (Skreta et al., ICLR 2025).
    """
    _mixtures(run)
    _estimators(run)
    _digits(run)


def _mixtures(run: Run) -> None:
    n, steps = run.pick(smoke=200, default=2000), run.pick(smoke=50, default=1000)
    rows_or, rows_and, summary = [], [], {}
    truth = BOTH.sample(2 * n, 10_000)
    floor = noise_floor(energy_distance, truth)
    for seed in run.progress(run.seeds(3), "mixtures"):
        models = {"exact": [UP, DOWN]}
        if seed == run.seed:
            models["networks"] = [_small_network(run, mixture, seed) for mixture in (UP, DOWN)]
        starts = SCHEDULE.rho(1.0) * torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))
        for kind, pair in models.items():
            samples = {mode: superdiff(pair, starts, SCHEDULE, mode=mode, steps=steps, generator=seed).x for mode in ("or", "and", "average")}
            samples["sum of scores"] = _summed(pair, starts, steps, seed)
            samples["oracle"] = _oracle(pair, starts, steps, seed)
            for name in ("or", "average", "sum of scores", "oracle"):
                x = samples[name]
                row = {"mode masses, total variation": mode_mass_error(x, BOTH), "energy distance": energy_distance(x.double(), truth)}
                rows_or.append({"scores": kind, "seed": seed, "sampler": name} | row)
                summary.setdefault((kind, name), []).append(list(row.values()))
            for name in ("and", "average", "sum of scores"):
                x = samples[name].double()
                densities = torch.stack([UP.log_prob(x, LEVEL), DOWN.log_prob(x, LEVEL)])
                row = {
                    "lesser of the models' mean log q": float(densities.mean(1).min()),
                    "mean of each sample's lesser log q": float(densities.amin(0).mean()),
                    "median gap of log q": float((densities[0] - densities[1]).abs().median()),
                }
                rows_and.append({"scores": kind, "seed": seed, "sampler": name} | row)
                summary.setdefault((kind, name, "and"), []).append(list(row.values()))
    run.table("or: the mixture of both models", rows_or, note=f"noise floor of the energy distance {floor:.4f}")
    run.table("and: what both models find likely (densities are exact)", rows_and)
    mean = {name: np.mean(values, axis=0) for name, values in summary.items()}
    paper = "better CIFAR-10 FID than averaging two half-data models; higher least CLIP score than averaging and joint prompting"
    mass, energy = mean["exact", "or"]
    run.claim("or: total variation of the modes' masses at most 0.05", measured=float(mass), holds=mass <= 0.05, paper=paper)
    run.claim("or: energy distance to the mixture within the noise floor", measured=float(energy / floor), holds=energy <= floor)
    difference = mean["exact", "and", "and"] - mean["exact", "average", "and"]
    for column, quantity in enumerate(("lesser of the models' mean log-densities", "mean over samples of the lesser log-density")):
        run.claim(
            f"and: {quantity} at least 2 nats above averaging's",
            baseline="average of scores",
            measured=float(difference[column]),
            holds=difference[column] >= 2,
            paper="the least CLIP score over both prompts, averaged over images, is higher than averaging's" if column else None,
        )
    gap = float(mean["exact", "and", "and"][2] / mean["exact", "average", "and"][2])
    run.claim("and: gap of log-densities at most 5 % of averaging's", baseline="average of scores", measured=gap, holds=gap <= 0.05)


def _summed(pair: Denoisers, starts: torch.Tensor, steps: int, seed: int) -> torch.Tensor:
    """The product of densities, as far as the sum of scores samples it."""
    return euler_maruyama_sample(lambda y, sigma: sum(d(y, sigma) for d in pair) - y, starts, _levels(steps), generator=seed).x


def _oracle(pair: Denoisers, starts: torch.Tensor, steps: int, seed: int) -> torch.Tensor:
    """Half of the samples from each model."""
    parts = zip(pair, starts.tensor_split(len(pair)))
    return torch.cat([euler_maruyama_sample(denoiser, part, _levels(steps), generator=seed).x for denoiser, part in parts])


def _levels(steps: int) -> np.ndarray:
    return SCHEDULE.rho(timesteps(SCHEDULE, steps, "uniform"))


def _estimators(run: Run) -> None:
    """Log-densities of data points: Itô's estimator, and the flow with random signs, at the same number of calls."""
    points, rows = UP.sample(run.pick(smoke=50, default=500), run.seed), []
    exact = UP.log_prob(points, 0.02)
    for calls in (200, 1000):
        options = {"log_prior": UP.log_prob, "generator": run.seed}
        schedule = EDM(0.02, 50.0)
        estimates = {
            "Itô, no derivatives": log_likelihood(UP, points, schedule, method="ito", steps=calls, **options),
            "flow, one random sign": log_likelihood(UP, points, schedule, steps=calls // 2, **options),
            "flow, exact trace": log_likelihood(UP, points, schedule, steps=calls // 2, probes="exact", **options),
        }
        for name, estimate in estimates.items():
            error = estimate - exact
            derivatives = {"Itô, no derivatives": 0, "flow, one random sign": 1, "flow, exact trace": 2}[name]
            rows.append(
                {
                    "estimator": name,
                    "calls": calls,
                    "derivatives per call": derivatives,
                    "mean error": float(error.mean()),
                    "root mean square": float(error.square().mean().sqrt()),
                }
            )
    run.table("log-density of data points, nats", rows)


def _small_network(run: Run, mixture: GaussianMixtureDenoiser, seed: int) -> EDMDenoiser:
    torch.manual_seed(seed)
    network = _PlaneNetwork()
    denoiser, steps = EDMDenoiser(network, 2.0), run.pick(smoke=30, default=2000)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    fit(
        optimizer,
        lambda _: denoiser.loss(mixture.sample(512, generator).float(), generator),
        run.progress(range(steps), "networks"),
        scheduler=warmup_cosine(optimizer, steps, steps // 20),
        clip_norm=1.0,
    )
    network.eval().requires_grad_(False)
    return denoiser


class _PlaneNetwork(torch.nn.Module):
    def __init__(self, width: int = 96):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(10, width),
            torch.nn.SiLU(),
            torch.nn.Linear(width, width),
            torch.nn.SiLU(),
            torch.nn.Linear(width, width),
            torch.nn.SiLU(),
            torch.nn.Linear(width, 2),
        )
        self.register_buffer("frequencies", 2.0 ** torch.arange(-1, 3))

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        angle = time[:, None] * self.frequencies
        return self.layers(torch.cat([x, angle.sin(), angle.cos()], dim=1))


def _digits(run: Run) -> None:
    """Either half of the digits; and the digit that two classes have in common."""
    pixels, n, steps = digit_pixels(run), run.pick(smoke=40, default=400), run.pick(smoke=20, default=300)
    judge = LogisticRegression(max_iter=2000).fit(pixels["train"].cpu(), pixels["train_labels"].cpu())
    halves = [_half_network(run, pixels, low) for low in (0, 5)]
    starts = SCHEDULE.rho(1.0) * torch.randn(n, 64, generator=torch.Generator().manual_seed(run.seed)).to(run.device)
    samples = {mode: superdiff(halves, starts, SCHEDULE, mode=mode, steps=steps, generator=run.seed).x for mode in ("or", "average")}
    samples["or, temperature 1e6"] = superdiff(halves, starts, SCHEDULE, mode="or", temperature=1e6, steps=steps, generator=run.seed).x
    samples |= {"sum of scores": _summed(halves, starts, steps, run.seed), "oracle": _oracle(halves, starts, steps, run.seed)}
    rows = [
        {
            "sampler": name,
            "energy distance to test digits": energy_distance(x.cpu().double(), pixels["test"].cpu().double()),
            "share of 0-4": float((judge.predict(x.cpu().double()) < 5).mean()),
            "mean confidence": float(judge.predict_proba(x.cpu().double()).max(1).mean()),
        }
        for name, x in samples.items()
    ]
    floor = noise_floor(energy_distance, pixels["test"].cpu().double())
    run.table("digits 0-4 or 5-9", rows, note=f"noise floor of the energy distance {floor:.3f}")
    _common_digits(run, judge, starts, steps)


def _common_digits(run: Run, judge: LogisticRegression, starts: torch.Tensor, steps: int) -> None:
    model, rows = trained_digit_diffusion(run), []
    for pair in ((3, 8), (1, 7)):
        classes = [model.conditional(torch.full((len(starts),), label, device=starts.device)) for label in pair]
        for mode in ("and", "average"):
            x = superdiff(classes, starts, SCHEDULE, mode=mode, steps=steps, generator=run.seed).x
            probability = judge.predict_proba(x.cpu().double())[:, list(pair)]
            rows.append(
                {
                    "classes": f"{pair[0]} and {pair[1]}",
                    "sampler": mode,
                    "mean of the less likely class's log-probability": float(np.log(probability.min(1).clip(1e-12)).mean()),
                    "samples in either class": float((probability.sum(1) > 0.5).mean()),
                }
            )
    run.table("digits of two classes at once, judged by logistic regression", rows)


def _half_network(run: Run, pixels: dict, low: int) -> EDMDenoiser:
    torch.manual_seed(run.seed + low)
    chosen = (pixels["train_labels"] >= low) & (pixels["train_labels"] < low + 5)
    data, network = pixels["train"][chosen], DigitNetwork(run.pick(smoke=32, default=128)).to(run.device)
    steps, generator = run.pick(smoke=20, default=2000), torch.Generator().manual_seed(run.seed)
    batches = minibatches(len(data), 128, generator)

    def unlabeled(x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        return network(x, time, torch.full((len(x),), CLASSES, device=x.device))

    denoiser = EDMDenoiser(unlabeled, float(pixels["train"].std()))
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    fit(
        optimizer,
        lambda _: denoiser.loss(data[next(batches)]),
        run.progress(range(steps), f"digits from {low}"),
        scheduler=warmup_cosine(optimizer, steps, steps // 20),
        clip_norm=1.0,
    )
    network.eval().requires_grad_(False)
    return denoiser
