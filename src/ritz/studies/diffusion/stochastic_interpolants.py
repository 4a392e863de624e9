"""Study: what noise in the sampler does to errors of a learned velocity, exactly and on learned transports in the plane."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import torch
from scipy.stats import norm

from ritz.diffusion import GaussianMixtureInterpolant, Interpolant, ScoreFromDenoiser, interpolant_flow, interpolant_losses, interpolant_sde
from ritz.studies.registry import study
from ritz.studies.run import Run
from ritz.studies.sample_distances import energy_distance, noise_floor
from ritz.studies.training import fit, warmup_cosine

EPSILONS = (0.0, 0.25, 1.0, 2.0)
AMPLITUDE, FREQUENCY = 0.3, 5.0
WEIGHTS, MEANS, VARIANCES = (0.4, 0.6), (-2.0, 1.5), (0.15, 0.3)


@study("stochastic-interpolants", minutes=2.5)
def stochastic_interpolants(run: Run) -> None:
    """Diffusions keep the divergence below a bound that the error of their velocity sets; the flow of the same velocity does not.

    A known error is added to an exact velocity and the divergence of the samples is measured by histograms. Then velocities and denoisers are learned
    from a Gaussian, and from four modes, to a checkerboard (Albergo, Boffi and Vanden-Eijnden, arXiv:2303.08797).
    """
    _known_error(run)
    _learned(run)


def _known_error(run: Run) -> None:
    mixture = GaussianMixtureInterpolant([1.0], [[0.0]], [1.0], WEIGHTS, [[mean] for mean in MEANS], VARIANCES, Interpolant())

    def wrong(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return mixture.b(x, t) + AMPLITUDE * torch.sin(FREQUENCY * x)

    rows = []
    count, steps = run.pick(smoke=5000, default=100_000, full=1_000_000), run.pick(smoke=50, default=200, full=1000)
    for seed in run.progress(run.seeds(2), "known errors"):
        start = mixture.sample(count, 0, seed)
        for epsilon in EPSILONS:
            exact, disturbed = (
                _divergence(interpolant_sde(b, mixture.s, start, epsilon=epsilon, steps=steps, t_eps=1e-4, generator=seed).x[:, 0].numpy())
                for b in (mixture.b, wrong)
            )
            bound = AMPLITUDE**2 / (8 * epsilon) if epsilon else "none"
            rows.append({"epsilon": epsilon, "seed": seed, "exact velocity": exact, "with the error": disturbed, "bound": bound})
    run.table("divergence of the samples from the target", rows, note="by histograms; the exact velocity's is what their noise and the steps leave")
    worst = max(row["with the error"] / row["bound"] for row in rows if row["epsilon"])
    paper = "the divergence of a diffusion is bounded by the mean square error of its velocity over 4 epsilon, that of a flow is not"
    run.claim("divergence below its bound at every epsilon (largest ratio)", measured=worst, holds=worst <= 1, paper=paper)
    flow, diffusion = (np.mean([row["with the error"] for row in rows if row["epsilon"] == epsilon]) for epsilon in (0.0, 1.0))
    run.claim(
        "the flow's divergence at least 5 times that at epsilon = 1",
        baseline="the flow of the same wrong velocity",
        measured=float(flow / diffusion),
        holds=bool(flow >= 5 * diffusion),
        paper=paper,
    )


def _divergence(x: np.ndarray, bins: int = 160) -> float:
    """Kullback and Leibler's divergence of the target's law of bins from that of the samples, half a sample added to each bin."""
    edges = np.linspace(-5, 5, bins + 1)
    laws = [weight * norm.cdf(edges, mean, math.sqrt(variance)) for weight, mean, variance in zip(WEIGHTS, MEANS, VARIANCES)]
    target = np.diff(sum(laws))
    counts = np.histogram(x, edges)[0] + 0.5
    found = counts / (len(x) + 0.5 * bins)
    kept = target > 1e-12
    return float(np.sum(target[kept] * np.log(target[kept] / found[kept])))


def _learned(run: Run) -> None:
    starts = {"a Gaussian": lambda n, generator: torch.randn(n, 2, generator=generator), "four modes": _four_modes}
    count, rows = run.pick(smoke=200, default=4000), []
    reference = _checkerboard(2 * count, torch.Generator().manual_seed(1000))
    for start, draw in run.progress(list(starts.items()), "learned transports"):
        for gamma in ("brownian", "zero"):
            interpolant = Interpolant("linear", gamma)
            b, eta = _trained(run, interpolant, draw)
            x0 = draw(count, torch.Generator().manual_seed(2000))
            row = {"start": start, "gamma": gamma}
            for epsilon in run.pick(smoke=(0.0, 1.0), default=(0.0, 0.5, 1.0, 2.5)) if gamma != "zero" else (0.0,):
                with torch.no_grad():
                    if epsilon:
                        options = {"epsilon": epsilon, "steps": 100, "t_eps": 1e-3, "generator": run.seed}
                        x = interpolant_sde(b, ScoreFromDenoiser(eta, interpolant), x0, **options).x
                    else:
                        x = interpolant_flow(b, x0, steps=100, t_eps=1e-3).x
                row[f"epsilon = {epsilon}"] = energy_distance(x, reference[:count])
            rows.append(row)
    floor = noise_floor(energy_distance, reference)
    note = f"floor {floor:.4f}; gamma zero at epsilon 0 is flow matching; networks trained here for seconds, nothing is claimed about these"
    run.table("checkerboard: energy distance to the target", rows, note=note)


def _trained(run: Run, interpolant: Interpolant, draw) -> tuple[torch.nn.Module, torch.nn.Module]:
    torch.manual_seed(run.seed)
    width, steps = run.pick(smoke=16, default=128), run.pick(smoke=10, default=1500, full=20_000)
    b, eta = _Perceptron(width), _Perceptron(width)
    generator = torch.Generator().manual_seed(run.seed)
    noisy = interpolant.noise != "zero"
    optimizer = torch.optim.Adam([*b.parameters(), *eta.parameters()], lr=2e-3)

    def loss(_: int) -> torch.Tensor:
        x0, x1 = draw(512, generator), _checkerboard(512, generator)
        losses = interpolant_losses(interpolant, x0, x1, b=b, eta=eta if noisy else None, generator=generator)
        return sum(value.mean() for value in losses.values())

    fit(optimizer, loss, range(steps), scheduler=warmup_cosine(optimizer, steps, steps // 20), clip_norm=1.0)
    return b.eval(), eta.eval()


class _Perceptron(torch.nn.Module):
    """Three hidden layers on points of the plane and times."""

    def __init__(self, width: int):
        super().__init__()
        sizes = [3, width, width, width]
        layers = [layer for pair in pairwise(sizes) for layer in (torch.nn.Linear(*pair), torch.nn.SiLU())]
        self.layers = torch.nn.Sequential(*layers, torch.nn.Linear(width, 2))

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return self.layers(torch.cat([x, t[:, None]], dim=1))


def _checkerboard(n: int, generator: torch.Generator) -> torch.Tensor:
    """Uniform on the eight dark squares of a board of side 4 about zero."""
    column = torch.randint(4, (n,), generator=generator)
    row = 2 * torch.randint(2, (n,), generator=generator) + column % 2
    return torch.stack([column, row], dim=1) - 2 + torch.rand(n, 2, generator=generator)


def _four_modes(n: int, generator: torch.Generator) -> torch.Tensor:
    corners = torch.tensor([[-1.5, -1.5], [-1.5, 1.5], [1.5, -1.5], [1.5, 1.5]])
    return corners[torch.randint(4, (n,), generator=generator)] + 0.3 * torch.randn(n, 2, generator=generator)
