"""Study: DEIS against Euler, DDIM, Heun and the multistep solvers of `diffusers` at few denoiser calls, on an exact mixture and on digits."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import numpy as np
import torch

from ritz.diffusion import VPLinear, dpm_solver_plan, multistep, timesteps
from ritz.studies.digit_diffusion import digit_pixels, trained_digit_diffusion
from ritz.studies.registry import study
from ritz.studies.run import Run
from ritz.studies.sample_distances import energy_distance, noise_floor
from ritz.studies.solver_problems import Problem, Sampler, deis, noise, of_diffusers, planned, solvers_of_diffusers, ten_gaussians

CALLS = (5, 6, 8, 10, 15, 20)
GRIDS = ("logsnr", "uniform", "quadratic")
OURS = "tAB-DEIS-3"
CLAIMED_CALLS = 10


def solvers() -> dict[str, Sampler]:
    """All that is compared."""
    ours = {f"tAB-DEIS-{order}": deis(order=order) for order in (1, 2, 3)}
    ours |= {"rhoAB-DEIS-3": deis(variant="rho_ab"), "iPNDM-3": deis(variant="ipndm")}
    ours |= {"rhoRK kutta3": _stages(3, rk="kutta3"), "Heun (EDM)": _stages(2, rk="heun2")}
    return ours | {"Euler": _euler, "DDIM": planned(partial(dpm_solver_plan, order=1))} | rivals()


def rivals() -> dict[str, Sampler]:
    """The multistep solvers of `diffusers`."""
    return solvers_of_diffusers(3) | {
        f"DEIS of diffusers, order {order}": of_diffusers("DEISMultistepScheduler", solver_order=order) for order in (2, 3)
    }


@study("deis", minutes=1)
def deis_study(run: Run) -> None:
    """With a polynomial in time for the noise prediction and all else exact, ten denoiser calls come three times nearer to the solution than DDIM.

    The distance to a fine reference solution from the same starts, at the same number of calls and on the same grids, for an exact mixture of ten
    Gaussians in R^8; then the energy distance of a network's 8 x 8 digits from real ones (Zhang and Chen, ICLR 2023).
    """
    _mixture_part(run)
    _digits_part(run)


def _mixture_part(run: Run) -> None:
    seeds, compared, errors = run.seeds(3), solvers(), {}
    for seed in run.progress(seeds, "mixtures"):
        problem = _mixture_problem(run, seed)
        for name, sample in compared.items():
            for grid in GRIDS:
                for calls in CALLS:
                    errors[seed, name, grid, calls] = problem.errors(sample, grid, calls)
    for statistic, reduce in (("mean", torch.mean), ("median", torch.median)):
        for grid in GRIDS:
            rows = [
                {"solver": name, "seed": seed} | {f"{n} calls": float(reduce(errors[seed, name, grid, n])) for n in CALLS}
                for name in compared
                for seed in seeds
            ]
            run.table(f"mixture: {statistic} endpoint error over {len(problem.starts)} starts, {grid} grid", rows)
    mean = {
        (name, grid, n): float(np.mean([errors[seed, name, grid, n].mean() for seed in seeds])) for name in compared for grid in GRIDS for n in CALLS
    }
    _claims(run, mean)
    run.figure("mixture", lambda axes: _draw(axes, mean, list(compared)), caption="mean endpoint error on the quadratic grid")


def _claims(run: Run, mean: dict) -> None:
    def ratio(*names: str) -> float:
        return mean[OURS, "quadratic", CLAIMED_CALLS] / min(mean[name, "quadratic", CLAIMED_CALLS] for name in names)

    where = "mean error of tAB-DEIS-3 with 10 calls on the quadratic grid"
    for name in ("DDIM", "Euler"):
        run.claim(
            f"{where} at most a third of {name}'s",
            baseline=name,
            measured=ratio(name),
            holds=ratio(name) <= 1 / 3,
            paper="CIFAR-10 FID 4.17 at 10 calls, 3.37 at 15" if name == "DDIM" else None,
        )
    run.claim(
        f"{where} at most 0.7 of the best multistep solver of diffusers",
        baseline="DPM-Solver++ 2M and 3M, UniPC-3 bh1 and bh2, DEIS in log rho of orders 2 and 3",
        measured=ratio(*rivals()),
        holds=ratio(*rivals()) <= 0.7,
    )
    worse = [n for n in CALLS if mean[OURS, "uniform", n] > mean["DDIM", "uniform", n]]
    run.note(f"on the uniform grid {OURS} is worse than DDIM at {', '.join(map(str, worse)) or 'none'} of {', '.join(map(str, CALLS))} calls")


def _mixture_problem(run: Run, seed: int) -> Problem:
    generator, schedule = torch.Generator().manual_seed(seed), VPLinear()
    denoiser = ten_gaussians(generator)
    starts = noise(schedule, run.pick(smoke=32, default=256), (8,), generator, torch.float64)
    return Problem.with_reference(run, denoiser, schedule, starts)


def _digits_part(run: Run) -> None:
    model, schedule, real = trained_digit_diffusion(run), VPLinear(), digit_pixels(run)["test"]
    starts = noise(schedule, run.pick(smoke=50, default=1000), (64,), torch.Generator(run.device).manual_seed(run.seed), torch.float32)
    compared = {name: sample for name, sample in solvers().items() if name not in ("iPNDM-3", "tAB-DEIS-1")}
    calls = run.pick(smoke=(5, 10), default=(5, 10, 20))
    rows = []
    for name in run.progress(list(compared), "digits"):
        samples = {n: compared[name](model.unconditional, starts, schedule, n, "quadratic") for n in calls}
        rows.append({"solver": name} | {f"{n} calls": energy_distance(samples[n], real) for n in calls})
    fine = run.pick(smoke=50, default=500)
    exact = multistep(model.unconditional, starts, schedule.lam(timesteps(schedule, fine)), dpm_solver_plan(fine, order=3)).x
    floor = noise_floor(energy_distance, real)
    run.table(
        f"digits: energy distance of {len(starts)} samples from {len(real)} real ones, quadratic grid",
        rows,
        note=f"{energy_distance(exact, real):.4f} with {fine} calls, {floor:.4f} between two halves of the real ones; nothing is claimed here",
    )


def _stages(stages: int, rk: str) -> Sampler:
    """A Runge-Kutta method in rho with as many steps as the calls allow."""

    def sample(denoiser, y, schedule, calls: int, grid: str) -> torch.Tensor:
        return deis(variant="rho_rk", rk=rk)(denoiser, y, schedule, calls // stages, grid)

    return sample


def _euler(denoiser, y, schedule, calls: int, grid: str) -> torch.Tensor:
    """Euler's method on ``dx/dt = dlog_alpha x + g^2 eps / (2 sigma)``, whose linear part is not split off."""
    times = timesteps(schedule, calls, grid)
    x = schedule.alpha(times[0]) * y
    for t, later in pairwise(times.tolist()):
        rho = schedule.rho(t)
        noise = (x / schedule.alpha(t) - denoiser(x / schedule.alpha(t), rho)) / rho
        x = x + (later - t) * (schedule.dlog_alpha(t) * x + schedule.g2(t) / (2 * schedule.sigma(t)) * noise)
    return x / schedule.alpha(times[-1])


def _draw(axes, mean: dict, names: list[str]) -> None:
    for name in names:
        style = {"color": "black", "linewidth": 2.5} if name == OURS else {"linestyle": "--"}
        axes.plot(CALLS, [mean[name, "quadratic", n] for n in CALLS], marker="o", label=name, **style)
    axes.set(xlabel="denoiser calls", ylabel="mean distance to the exact endpoint", yscale="log")
    axes.legend(fontsize="xx-small", ncols=2)
