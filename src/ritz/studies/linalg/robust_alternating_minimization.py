"""Matrix completion with half-steps solved approximately: iterations and time against exact alternating least squares, and two other baselines."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

from ritz.core import ConvergenceWarning, random_generator
from ritz.linalg import MatrixCompletion, complete_matrix
from ritz.studies import Run, study
from ritz.studies.timing import fixed_threads

GOAL = 1e-5
MOST_ITERATIONS = 100
REGULARIZATIONS = (0.01, 0.03, 0.1, 0.3, 1.0)
THRESHOLDS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
HELD_OUT = 0.1


@study("robust-alternating-minimization", minutes=8)
def study_completion(run: Run) -> None:
    """A few warm-started steps of conjugate gradients in the place of an exact half-step: as many outer iterations, each of them cheaper in k."""
    with fixed_threads(1):
        _iterations(run)
        _seconds(run)
        _robustness(run)
        _digits(run)


def _iterations(run: Run) -> None:
    size, ranks = run.pick(smoke=(200, (4,)), default=(2000, (8, 32, 64)))
    rows = []
    settings = [(k, over, condition, seed) for k in ranks for over in (3, 4) for condition in (2, 20) for seed in run.seeds(3)]
    for k, over, condition, seed in run.progress(settings, "completing"):
        observed, _ = problem(size, k, over, condition, seed)
        counts = {solver: _iterations_to_goal(observed, k, solver, seed) for solver in ("exact", "cg")}
        rows.append({"k": k, "oversampling": over, "condition": condition, "seed": seed} | counts)
    run.table(
        f"outer iterations to a residual of {GOAL:g}, {size} x {size}",
        rows,
        note=f"empty: not within {MOST_ITERATIONS}; oversampling: entries / k (m + n)",
    )
    reached = [row for row in rows if row["exact"] is not None]
    run.note(f"exact alternating least squares reaches {GOAL:g} within {MOST_ITERATIONS} iterations in {len(reached)} of {len(rows)} cases")
    apart = max((abs((row["cg"] or MOST_ITERATIONS) - row["exact"]) for row in reached), default=0)
    run.claim(
        f"as many outer iterations to {GOAL:g} as exact, give or take one, wherever exact gets there (largest difference)",
        baseline="exact alternating least squares",
        measured=apart,
        holds=apart <= 1,
        paper="an inexact half-step costs no convergence",
    )


def _seconds(run: Run) -> None:
    size, ranks = run.pick(smoke=(200, (4, 8)), default=(2000, (16, 32, 64, 128)))
    rows = []
    for k in run.progress(ranks, "timing"):
        observed, _ = problem(size, k, 3.5, 2, run.seed)
        ours, exact = _paired_seconds(observed, k, run.pick(smoke=1, default=3))
        rows.append({"k": k, "cg (s)": ours, "exact (s)": exact, "ratio": ours / exact})
    run.table("seconds per outer iteration, one thread, oversampling 3.5", rows)
    run.figure("seconds", lambda axes: _draw_seconds(axes, rows), caption="Seconds per outer iteration by rank")
    middle = rows[ranks.index(64)] if 64 in ranks else rows[-1]
    run.claim(
        f"time per iteration at k = {middle['k']} at most 0.6 of exact's",
        baseline="exact alternating least squares",
        measured=middle["ratio"],
        holds=middle["ratio"] <= 0.6,
        paper="O(|Omega| k) instead of O(|Omega| k^2)",
    )
    slopes = {name: float(np.polyfit(np.log(ranks), np.log([row[name] for row in rows]), 1)[0]) for name in ("cg (s)", "exact (s)")}
    difference = slopes["exact (s)"] - slopes["cg (s)"]
    run.claim(
        f"log-log slope of time against k over {ranks[0]} to {ranks[-1]} smaller than exact's by at least 0.5 (entries grow with k)",
        baseline=f"exact: {slopes['exact (s)']:.2f}",
        measured=difference,
        holds=difference >= 0.5,
        paper="k^2 instead of k^3 where |Omega| grows with k",
    )


def _robustness(run: Run) -> None:
    """Error by iteration for ever rougher half-steps."""
    size, k = run.pick(smoke=(200, 4), default=(2000, 32))
    iterations = run.pick(smoke=8, default=30)
    settings = {"exact": ("exact", 0.1, 1), "0.001": ("cg", 1e-3, 10), "0.1": ("cg", 0.1, 10), "0.9, one step": ("cg", 0.9, 1)}
    seeds = run.seeds(3)
    curves = {}
    for seed in run.progress(seeds, "rougher half-steps"):
        observed, _ = problem(size, k, 4, 2, seed)
        for name, (solver, inner_tol, max_inner) in settings.items():
            found = _complete(observed, k, seed, solver=solver, inner_tol=inner_tol, max_inner=max_inner, iterations=iterations, tol=0.0)
            curves[name, seed] = found.residual_norms
    rows = [
        {"inner tolerance": name, "seed": seed, "residual at 5": curve[min(5, iterations) - 1], f"residual at {iterations}": curve[-1]}
        for (name, seed), curve in curves.items()
    ]
    run.table(f"relative residual, k = {k}, oversampling 4", rows)
    run.figure("robustness", lambda axes: _draw_curves(axes, curves, seeds[0]), caption="Residual by outer iteration for inner tolerances, one seed")
    rough = max(curves["0.1", seed][-1] for seed in seeds)
    run.claim(f"inner tolerance 0.1 converges: residual below {GOAL:g} after {iterations} iterations", measured=rough, holds=rough < GOAL)
    slower = min(curves["0.9, one step", seed][-1] / curves["exact", seed][-1] for seed in seeds)
    run.claim(
        f"inner tolerance 0.9 and one step is slower: residual at least 10 times exact's after {iterations} iterations",
        baseline="exact",
        measured=slower,
        holds=slower >= 10,
    )


def _digits(run: Run) -> None:
    """Digits with 60 % of the pixels hidden; each method's strength is chosen on a tenth of the observed pixels."""
    rows = []
    for seed in run.progress(run.seeds(3), "digits"):
        images, visible = _hidden_digits(seed, run.pick(smoke=300, default=1797))
        fitted, checked = _held_out(visible, seed)
        for name, candidates in _imputers(seed, run.pick(smoke=2, default=10)).items():
            errors = [_rmse(impute(np.where(fitted, images, np.nan)), images, checked) for impute in candidates]
            best = candidates[int(np.argmin(errors))]
            start = time.perf_counter()
            completed = best(np.where(visible, images, np.nan))
            rows.append({"method": name, "seed": seed, "RMSE": _rmse(completed, images, ~visible), "seconds": time.perf_counter() - start})
    run.table("digits with 60 % of the pixels hidden: error on the hidden ones (pixels are 0 to 1)", rows)


def problem(size: int, k: int, oversampling: float, condition: float, seed: int) -> tuple[scipy.sparse.csr_array, np.ndarray]:
    """Observed entries, ``oversampling k (m + n)`` of them, of an incoherent matrix of rank k."""
    rng = np.random.default_rng([seed, 1])  # another stream than that of the method's start
    U, V = (np.linalg.qr(rng.standard_normal((size, k)))[0] for _ in range(2))
    s = np.geomspace(condition, 1, k)
    M = (U * (s * size / np.linalg.norm(s))) @ V.T
    rows, columns = np.divmod(rng.choice(M.size, int(min(oversampling * k * 2 * size, M.size)), replace=False), size)
    return scipy.sparse.csr_array((M[rows, columns], (rows, columns)), shape=M.shape), M


def _complete(observed, k: int, seed: int, **options) -> MatrixCompletion:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return complete_matrix(observed, k, rng=seed, **options)


def _iterations_to_goal(observed, k: int, solver: str, seed: int) -> int | None:
    found = _complete(observed, k, seed, solver=solver, iterations=MOST_ITERATIONS, tol=GOAL)
    return found.iterations if found.residual_norms[-1] <= GOAL else None


def _paired_seconds(observed, k: int, pairs: int) -> tuple[float, float]:
    """Median seconds of one outer iteration, ours and exact in alternation; what both share (start, transposes) is subtracted."""
    seconds = {"cg": [], "exact": []}
    for _ in range(pairs):
        for solver, measured in seconds.items():
            few, many = (
                _timed(lambda count=count, solver=solver: _complete(observed, k, 0, solver=solver, iterations=count, tol=0.0)) for count in (2, 8)
            )
            measured.append((many - few) / 6)
    return statistics.median(seconds["cg"]), statistics.median(seconds["exact"])


def _timed(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _hidden_digits(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    images = load_digits().data[:count] / 16
    return images, random_generator(seed).random(images.shape) >= 0.6


def _held_out(visible: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    checked = visible & (random_generator(seed + 1000).random(visible.shape) < HELD_OUT)
    return visible & ~checked, checked


def _imputers(seed: int, rounds: int) -> dict[str, list[Callable[[np.ndarray], np.ndarray]]]:
    """For each method its candidates: functions from images with NaN to whole images."""
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer

    def alternating(solver: str, regularization: float):
        return lambda images: _complete(images, 10, seed, solver=solver, regularization=regularization, tol=1e-4).dense()

    return {
        "ritz, cg": [alternating("cg", weight) for weight in REGULARIZATIONS],
        "exact alternating least squares": [alternating("exact", weight) for weight in REGULARIZATIONS],
        "soft-impute": [lambda images, t=t: soft_impute(images, t, 20 * rounds) for t in THRESHOLDS],
        "IterativeImputer": [
            lambda images: IterativeImputer(max_iter=rounds, random_state=seed, keep_empty_features=True).fit_transform(
                images
            )  # tunes its ridge itself
        ],
    }


def soft_impute(images: np.ndarray, threshold: float, iterations: int) -> np.ndarray:
    """Mazumder, Hastie and Tibshirani 2010: fill in, shrink the singular values, repeat."""
    visible = ~np.isnan(images)
    filled = np.where(visible, images, 0.0)
    for _ in range(iterations):
        U, s, Vh = np.linalg.svd(filled, full_matrices=False)
        completed = (U * np.maximum(s - threshold, 0)) @ Vh
        change = np.linalg.norm(np.where(visible, 0, completed - filled))
        filled = np.where(visible, images, completed)
        if change <= 1e-4 * np.linalg.norm(filled):
            break
    return completed


def _rmse(completed: np.ndarray, images: np.ndarray, where: np.ndarray) -> float:
    return float(np.sqrt(np.mean((completed - images)[where] ** 2)))


def _draw_seconds(axes, rows: list[dict]) -> None:
    for name, color in (("exact (s)", "#8a8f98"), ("cg (s)", "#1f4e8c")):
        axes.loglog([row["k"] for row in rows], [row[name] for row in rows], "o-", color=color, label=name.removesuffix(" (s)"))
    axes.set(xlabel="rank k", ylabel="seconds per iteration")
    axes.legend()


def _draw_curves(axes, curves: dict[tuple[str, int], np.ndarray], seed: int) -> None:
    for (name, of), curve in curves.items():
        if of == seed:
            axes.semilogy(np.arange(1, len(curve) + 1), np.maximum(curve, 1e-16), label=name)
    axes.set(xlabel="outer iteration", ylabel="relative residual")
    axes.legend(title="inner tolerance")
