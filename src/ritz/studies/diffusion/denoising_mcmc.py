"""Study: samples of Langevin-Gibbs chains, denoised from their own small noise levels, against samplers from the largest level at equal cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from ritz.diffusion import (
    AnalyticNoisePosterior,
    DenoisingLangevinGibbs,
    GaussianMixtureDenoiser,
    ReverseIntegrator,
    dpm_solver_pp_sample,
    euler_maruyama_sample,
    heun_sample,
    noise_level_grid,
    train_noise_classifier,
)
from ritz.studies.digit_diffusion import digit_pixels, trained_digit_diffusion
from ritz.studies.registry import study
from ritz.studies.run import Run
from ritz.studies.sample_distances import energy_distance, mode_mass_error, noise_floor

LEVELS = 100
SIGMA_MAX = 50.0
ETA = 0.2
ETAS = (0.05, 0.1, 0.2, 0.5, 0.8, 1.0)
BUDGETS = {5: (2, 3), 7: (2, 5), 10: (5, 5)}  # denoiser calls of a sample: moves, and calls of the sampler
PLAIN = {5: 5, 7: 7, 10: 11}  # calls of the sampler alone that each is compared with
CLAIMED = {5: 0.1, 7: 0.1, 10: 0.3}
SAMPLERS = {"Heun": heun_sample, "Euler-Maruyama": euler_maruyama_sample, "DPM-Solver++(2M)": dpm_solver_pp_sample}


@dataclass(frozen=True)
class Problem:
    """A denoiser, the noise posterior of its data, held-out data, and what is measured of samples."""

    denoiser: Callable
    posterior: Callable
    reference: torch.Tensor
    measures: Callable[[torch.Tensor], dict[str, float]]
    levels: int

    def chains(self, eta: float, steps_between: int) -> DenoisingLangevinGibbs:
        return DenoisingLangevinGibbs(self.denoiser, self.posterior, step_size=eta, steps_between=steps_between, levels=self.levels)


@study("denoising-mcmc", minutes=2)
def denoising_mcmc(run: Run) -> None:
    """With ten denoiser calls a sample or fewer, chains that are denoised from small noise levels come much nearer to the data than samplers alone.

    Energy distances to the data of samples of 400 Langevin-Gibbs chains and of the same samplers from the largest noise level, at equal numbers of
    denoiser calls: for a mixture of 20 Gaussians in R^32 with its exact denoiser and noise posterior, then for 8 x 8 digits with a trained
    denoiser and a trained noise classifier (Kim and Ye, ICML 2023). The calls that started the chains are counted apart.
    """
    problem = _mixture_problem(run)
    rows = list(_budgets(run, problem, "mixture"))
    _claims(run, rows)
    _step_sizes(run, problem)
    run.table(
        "digits: trained denoiser and noise classifier", _averaged(_budgets(run, _digit_problem(run), "digits")), note="nothing is claimed here"
    )
    run.note(f"Noise posteriors tell {LEVELS} levels apart; their calls are not among the denoiser calls. At 10 calls the plain sampler takes 11.")


def _mixture_problem(run: Run) -> Problem:
    generator = torch.Generator().manual_seed(1000 + run.seed)
    means = torch.randn(20, 32, generator=generator)
    variances = 0.02 + 0.05 * torch.rand(20, generator=generator)
    mixture = GaussianMixtureDenoiser(torch.ones(20), means, variances)
    reference = mixture.sample(run.pick(smoke=200, default=4000, full=20_000), generator)

    def measures(x: torch.Tensor) -> dict[str, float]:
        squared = (x[:, None] - means).square().sum(2) / (32 * variances)
        mahalanobis = float((mixture.responsibilities(x, 0.0) * squared).sum(1).mean())
        return {"energy distance": energy_distance(x, reference), "mode error": mode_mass_error(x, mixture), "Mahalanobis": mahalanobis}

    run.note(f"Mixture: noise floor of the energy distance {noise_floor(energy_distance, reference):.4f}; Mahalanobis is 1 for the data.")
    return Problem(mixture, AnalyticNoisePosterior(mixture, noise_level_grid(LEVELS)), reference, measures, LEVELS)


def _digit_problem(run: Run) -> Problem:
    pixels = digit_pixels(run)
    train, held_out = pixels["train"], pixels["test"]
    denoiser = trained_digit_diffusion(run).unconditional
    steps = run.pick(smoke=20, default=2000, full=20_000)
    classifier = train_noise_classifier(train, LEVELS, steps=steps, generator=run.seed).classifier
    run.note(f"Digits: energy distance of the training images to the held-out ones {energy_distance(train, held_out):.4f}.")
    return Problem(denoiser, classifier, held_out, lambda x: {"energy distance": energy_distance(x, held_out)}, LEVELS)


def _budgets(run: Run, problem: Problem, name: str) -> Iterator[dict]:
    """Rows of all samplers, budgets and seeds."""
    shape = tuple(problem.reference.shape[1:])
    chains, rounds = run.pick(smoke=20, default=400, full=2000), run.pick(smoke=2, default=5)
    seeds = run.seeds(3)
    for seed in run.progress(seeds, name):
        for sampler, integrate in SAMPLERS.items():
            state = problem.chains(ETA, 1).init_chains(chains, shape, generator=seed)
            for budget, (moves, calls) in BUDGETS.items():
                found = problem.chains(ETA, moves).sample(chains * rounds, _with_calls(integrate, calls), state, generator=100 + seed)
                acf = float(found.acf[1]) if len(found.acf) > 1 else None
                yield {"sampler": sampler, "calls": found.nfe // rounds, "chains": True, "seed": seed} | problem.measures(found.x) | {"acf": acf}
                plain = _with_calls(integrate, PLAIN[budget])
                x = plain(problem.denoiser, *_noise(chains * rounds, shape, 200 + seed), torch.Generator().manual_seed(300 + seed))
                yield {"sampler": sampler, "calls": PLAIN[budget], "chains": False, "seed": seed} | problem.measures(x)
            yield {"sampler": sampler, "calls": state.nfe, "chains": None, "seed": seed}


def _with_calls(sampler: Callable, calls: int) -> ReverseIntegrator:
    """The sampler with so many calls in all; Heun's makes two a step but for one in the last."""
    return ReverseIntegrator(sampler, nodes=(calls + 1) // 2 + 1 if sampler is heun_sample else calls + 1)


def _noise(n: int, shape: tuple[int, ...], seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    x = SIGMA_MAX * torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed))
    return x, torch.full((n,), SIGMA_MAX)


def _averaged(rows) -> list[dict]:
    """Means over seeds, samplers and budgets in order."""
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        if row["chains"] is not None:
            groups.setdefault((row["sampler"], row["calls"], row["chains"]), []).append(row)
    means = []
    for (sampler, calls, chains), members in groups.items():
        measured = {key: [row[key] for row in members] for key in members[0] if key not in ("sampler", "calls", "chains", "seed")}
        mean = {key: None if None in values else float(np.mean(values)) for key, values in measured.items()}
        means.append({"sampler": sampler, "calls": calls, "with": "chains" if chains else "sampler alone"} | mean)
    return means


def _claims(run: Run, rows: list[dict]) -> None:
    started = next(row["calls"] for row in rows if row["chains"] is None)
    note = f"chains with eta = {ETA}; {started} more calls started them, once for all samples; acf: autocorrelation of a chain's successive samples"
    table = _averaged(rows)
    run.table("mixture: exact denoiser and noise posterior, means over seeds", table, note=note)
    run.figure("distances", partial(_draw, table), caption="mixture: energy distance to the data by denoiser calls per sample")
    paper = "CIFAR-10 FID 3.86 at about 10 calls and 2.63 at about 20"
    for budget, limit in CLAIMED.items():
        ours, alone = (
            np.mean([row["energy distance"] for row in rows if (row["sampler"], row["calls"], row["chains"]) == ("Heun", calls, chained)])
            for calls, chained in ((budget, True), (PLAIN[budget], False))
        )
        run.claim(
            f"{budget} calls: energy distance at most {limit} of that of Heun's method with {PLAIN[budget]}",
            baseline="Heun's method from sigma = 50 on the same kind of grid",
            measured=float(ours / alone),
            holds=bool(ours <= limit * alone),
            paper=paper,
        )


def _step_sizes(run: Run, problem: Problem) -> None:
    chains, rounds, rows = run.pick(smoke=20, default=400, full=2000), run.pick(smoke=2, default=5), []
    for eta in run.progress(run.pick(smoke=ETAS[1:3], default=ETAS), "step sizes"):
        walk = problem.chains(eta, 5)
        state = walk.init_chains(chains, (32,), generator=run.seed)
        row = {"eta": eta}
        for sampler, integrate in SAMPLERS.items():
            found = walk.sample(chains * rounds, _with_calls(integrate, 5), state, generator=100 + run.seed)
            row |= {sampler: problem.measures(found.x)["energy distance"]}
        rows.append(row | {"median level": float(state.sigma.median()), "acf": float(found.acf[1])})
    run.table("mixture: energy distance at 10 calls by step size", rows, note="one seed; median level: of the chains after their start")


def _draw(table: list[dict], axes) -> None:
    for sampler in SAMPLERS:
        for kind, style in (("chains", "-o"), ("sampler alone", "--s")):
            rows = [row for row in table if (row["sampler"], row["with"]) == (sampler, kind)]
            axes.plot([row["calls"] for row in rows], [row["energy distance"] for row in rows], style, label=f"{sampler}, {kind}")
    axes.set(xlabel="denoiser calls per sample", ylabel="energy distance", yscale="log")
    axes.legend(fontsize="small")
