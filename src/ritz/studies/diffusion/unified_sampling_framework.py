"""Study: plans found by search against all solvers of fixed form at the same number of denoiser calls, on an exact mixture and on digits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from ritz.diffusion import SamplingPlan, SearchResult, SolverSearch, VPLinear, usf_sample
from ritz.diffusion.schedules import SPACINGS
from ritz.studies.digit_diffusion import digit_pixels, trained_digit_diffusion
from ritz.studies.registry import study
from ritz.studies.run import Run
from ritz.studies.sample_distances import energy_distance, noise_floor
from ritz.studies.solver_problems import Problem, Sampler, deis, noise, solvers_of_diffusers, ten_gaussians

CLAIMED_CALLS = 5
OTHER_CALLS = (3, 4, 7, 10)


@dataclass(frozen=True)
class Found:
    """One search and what it is compared with; errors are means over starts that the search did not see, each chosen on those that it saw."""

    result: SearchResult
    error: float
    fixed_name: str
    fixed_error: float

    @property
    def ratio(self) -> float:
        """Held-out error over that of the best solver of fixed form."""
        return self.error / self.fixed_error


@study("unified-sampling-framework", minutes=3)
def unified_sampling_framework(run: Run) -> None:
    """A plan that decides step by step, searched once for a model, needs fewer denoiser calls than any solver of fixed form.

    Mean distance to a fine reference from 1,024 starts that the search, on 256 others, did not see: the best plan found, against the best of
    DPM-Solver(++), UniPC and DEIS on four grids at the same number of calls, for an exact mixture of ten Gaussians in R^8. Then the energy distance
    of a network's 8 x 8 digits from real ones (Liu et al., ICLR 2024).
    """
    _mixture_part(run)
    _digits_part(run)


def _mixture_part(run: Run) -> None:
    seeds, evaluations = run.seeds(3), run.pick(smoke=76, default=400)
    found, plain = {}, {}
    for seed in run.progress(seeds, "searches at 5 calls"):
        searched, held_out = _problems(run, seed)
        found[seed] = _search(searched, held_out, CLAIMED_CALLS, evaluations, seed, predictor=True)
        plain[seed] = _search(searched, held_out, CLAIMED_CALLS, evaluations, seed, predictor=False)
    kinds = {"with predictor": found, "every child tried": plain}
    run.table(
        f"mixture: searches of {evaluations} evaluations at {CLAIMED_CALLS} calls",
        [_row(one) | {"search": kind, "seed": seed} for kind, ones in kinds.items() for seed, one in ones.items()],
        note=f"errors over {len(held_out.starts)} starts that no search saw; the solver of fixed form is the best one on those that it saw",
    )
    _claims(run, found, plain)
    _other_calls(run, seeds[0])
    best = found[seeds[0]].result.best
    run.table(f"the plan found at {CLAIMED_CALLS} calls, first seed", _decisions(best), note=f"first step: {best.first_step}")
    run.figure("search", lambda axes: _draw(axes, kinds), caption="lowest error on the search's own starts after each evaluation, at 5 calls")


def _claims(run: Run, found: dict[int, Found], plain: dict[int, Found]) -> None:
    ratio = float(np.exp(np.mean([np.log(one.ratio) for one in found.values()])))
    run.claim(
        "held-out mean error of the best plan of 400 at 5 calls at most 0.65 of the best solver of fixed form (geometric mean over seeds)",
        baseline="DPM-Solver(++), UniPC bh1 and bh2 (ours and those of diffusers), DEIS, each on the best of four grids",
        measured=ratio,
        holds=ratio <= 0.65,
        paper="CIFAR-10 FID 6.86 at 5 calls, 2.69 at 10; twice as fast on Stable Diffusion",
    )
    shares = [_share_of_evaluations(found[seed].result, plain[seed].result.score) for seed in found]
    share = float(np.median(shares))
    run.claim(
        "with the predictor at most 60 % of the evaluations are needed for what the search without it reaches in all (median over seeds)",
        baseline="the same search without the predictor",
        measured=share,
        holds=share <= 0.6,
    )
    taus = [one.result.predictor_kendall_tau for one in found.values()]
    run.note(f"the predictor's rank correlation (Kendall) on plans it chose to try: {', '.join(f'{tau:.2f}' for tau in taus if tau is not None)}")


def _share_of_evaluations(result: SearchResult, score: float) -> float:
    """The part of the evaluations after which the score was reached; 2 where it was not."""
    reached = result.history <= score
    return float((np.argmax(reached) + 1) / len(reached)) if reached.any() else 2.0


def _other_calls(run: Run, seed: int) -> None:
    problems, evaluations = _problems(run, seed), run.pick(smoke=48, default=200)
    tried = run.progress(run.pick(smoke=(3,), default=OTHER_CALLS), "other numbers of calls")
    rows = [{"calls": calls} | _row(_search(*problems, calls, evaluations, seed, predictor=True)) for calls in tried]
    run.table(f"mixture: other numbers of calls, first seed, {evaluations} evaluations", rows)


def _search(searched: Problem, held_out: Problem, calls: int, evaluations: int, seed: int, *, predictor: bool) -> Found:
    search = SolverSearch(searched.denoiser, searched.starts, searched.schedule, nfe=calls, evaluations=evaluations, predictor=predictor, seed=seed)
    result = search.run()
    fixed = {"fixed plan": _planned(result.best_fixed)} | _named_solvers()
    grids = {name: ("",) if name == "fixed plan" else SPACINGS for name in fixed}
    cases = {(name, grid): float(searched.errors(fixed[name], grid, calls).mean()) for name in fixed for grid in grids[name]}
    name, grid = min(cases, key=cases.__getitem__)
    errors = [float(held_out.errors(sample, grid, calls).mean()) for sample in (_planned(result.best), fixed[name])]
    return Found(result, errors[0], f"{name} {grid}".strip(), errors[1])


def _named_solvers() -> dict[str, Sampler]:
    """The solvers of fixed form that are no plans."""
    return solvers_of_diffusers(3) | {f"tAB-DEIS-{order}": deis(order=order) for order in (1, 2, 3)}


def _planned(plan: SamplingPlan) -> Sampler:
    def sample(denoiser, y, schedule, calls: int, grid: str) -> torch.Tensor:
        return usf_sample(denoiser, y, schedule, plan).x

    return sample


def _problems(run: Run, seed: int) -> tuple[Problem, Problem]:
    generator, schedule = torch.Generator().manual_seed(seed), VPLinear()
    denoiser = ten_gaussians(generator)
    starts = [noise(schedule, run.pick(smoke=20, default=count), (8,), generator, torch.float64) for count in (256, 1024)]
    return tuple(Problem.with_reference(run, denoiser, schedule, one) for one in starts)


def _digits_part(run: Run) -> None:
    model, schedule, pixels = trained_digit_diffusion(run), VPLinear(), digit_pixels(run)
    generator = torch.Generator(run.device).manual_seed(run.seed)
    searched, held_out = (noise(schedule, run.pick(smoke=30, default=count), (64,), generator, torch.float32) for count in (256, 1000))
    rows = []
    for calls in run.progress(run.pick(smoke=(5,), default=(3, 5)), "digits"):
        evaluations = run.pick(smoke=72, default=150)
        objective = partial(energy_distance, y=pixels["train"])
        result = SolverSearch(model.unconditional, searched, schedule, nfe=calls, objective=objective, evaluations=evaluations, seed=run.seed).run()
        distances = {
            name: energy_distance(usf_sample(model.unconditional, held_out, schedule, plan).x, pixels["test"])
            for name, plan in {"best plan found": result.best, "best plan of fixed form": result.best_fixed}.items()
        }
        rows.append({"calls": calls, "evaluations": len(result.scores)} | distances)
    run.table(
        f"digits: energy distance of {len(held_out)} new samples from {len(pixels['test'])} real ones that the search did not see",
        rows,
        note=f"{noise_floor(energy_distance, pixels['test']):.4f} between two halves of the real ones; nothing is claimed about the network",
    )


def _row(found: Found) -> dict[str, object]:
    return {
        "best fixed form": found.fixed_name,
        "its error": found.fixed_error,
        "error of the plan found": found.error,
        "ratio": found.ratio,
        "Kendall tau": found.result.predictor_kendall_tau,
    }


def _decisions(plan: SamplingPlan) -> list[dict[str, object]]:
    return [
        {
            "from": plan.times[i],
            "to": plan.times[i + 1],
            "order": step.predictor.order,
            "prediction": step.prediction,
            "points of the slope": len(step.predictor.points[0]) if step.predictor.points else 0,
            "relaxation": str(step.predictor.relaxation) if isinstance(step.predictor.relaxation, str) else f"{step.predictor.relaxation:.3f}",
            "corrector": plan.correctors[i],
        }
        for i, step in enumerate(plan.steps)
    ]


def _draw(axes, kinds: dict[str, dict[int, Found]]) -> None:
    for color, (kind, ones) in zip(("tab:blue", "tab:orange"), kinds.items()):
        for i, one in enumerate(ones.values()):
            history = one.result.history[one.result.seeds - 1 :]
            axes.plot(np.arange(len(history)) + one.result.seeds, history, color=color, label=None if i else kind)
    axes.set(xlabel="plans tried", ylabel="mean endpoint error", yscale="log")
    axes.legend()
