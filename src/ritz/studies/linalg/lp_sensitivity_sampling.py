"""Sampled rows for p-norms: sensitivities against leverage scores and uniform rows on a structured matrix, and coresets for absolute deviations."""

from __future__ import annotations

import numpy as np

from ritz.core import random_generator, spawn_seeds
from ritz.linalg import RowSample, lewis_weights, lp_distortion, lp_regression, lp_sensitivities, sample_rows
from ritz.linalg.leverage_scores import leverage_scores
from ritz.studies import Run, study
from ritz.studies.linalg.linf_sketched_regression import diabetes, housing_features

P = 4
SCHEMES = ("uniform", "leverage", "root leverage", "Lewis weights", "sensitivity", "sensitivity + leverage")


@study("lp-sensitivity-sampling", minutes=4)
def study_lp_sampling(run: Run) -> None:
    """Rows sampled by sensitivity keep every p-norm, p = 4, with about ten times the total sensitivity in rows (Woodruff and Yasuda 2023)."""
    _structured(run)
    _growth(run)
    _absolute_deviations(run)


def _structured(run: Run) -> None:
    """Total sensitivity d = 20, where the general bound is d^(p / 2) = 400."""
    n, d, sizes = run.pick(smoke=(600, 5, (100, 200)), default=(8000, 20, (200, 400, 800, 1600)), full=(200_000, 20, (200, 400, 800, 1600)))
    figures: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for seed in run.progress(run.seeds(5), "structured matrices"):
        instance, sampling = spawn_seeds(random_generator(seed), 2)
        A = structured_matrix(n, d, instance)
        scores = scores_by_scheme(A)
        for size in sizes:
            for scheme in SCHEMES:
                sample = sample_rows(A, P, size, scores=scores[scheme], rng=sampling)
                figures.setdefault((scheme, size), []).append(lp_distortion(A, sample, P, trials=20, rng=sampling))
    rows = []
    for (scheme, size), pairs in figures.items():
        upper, lower = np.mean(pairs, axis=0)
        rows.append({"size": size, "scores": scheme, "upper": upper, "lower": lower, "largest": np.max(pairs)})
    title = f"distortion of |A x|_4^4, n = {n}, d = {d}: mean over {len(run.seeds(5))} seeds of the adversary's findings"
    run.table(title, sorted(rows, key=lambda row: row["size"]))
    worst = {key: float(np.mean(np.max(pairs, axis=1))) for key, pairs in figures.items()}
    first = sizes[0]
    run.claim(
        f"sensitivity: distortion at most 0.35 at {first} rows, ten times the total sensitivity (mean over seeds of the worse side)",
        baseline=f"uniform rows: {worst['uniform', first]:.2g}",
        measured=worst["sensitivity", first],
        holds=worst["sensitivity", first] <= 0.35,
        paper="S^(2 - 2/p) rows, no experiments",
    )
    lost = min(lower for _, lower in figures["uniform", first])
    run.claim(f"uniform rows lose some x at {first} rows: lower distortion at least 0.95", measured=lost, holds=lost >= 0.95)
    ratio = worst["sensitivity", first] / worst["leverage", first]
    run.claim(f"sensitivity: at most 0.75 of leverage scores' distortion at {first} rows", baseline="leverage", measured=ratio, holds=ratio <= 0.75)
    slope = float(np.polyfit(np.log(sizes), np.log([worst["sensitivity", size] for size in sizes]), 1)[0])
    run.claim("sensitivity: log-log slope of distortion in rows is -0.5 +- 0.15", measured=slope, holds=abs(slope + 0.5) <= 0.15)
    run.note(
        "the distortion falls faster than the square root of the rows: ever more of the few rows that carry a direction are kept for certain, "
        "and such a direction has no error left"
    )
    run.figure("distortion", lambda axes: _draw_distortion(axes, worst, sizes), caption="worse of the two distortions, mean over seeds")


def _growth(run: Run) -> None:
    """Rows needed for a distortion of 0.3 as the total sensitivity, here equal to d, grows."""
    dimensions, n = run.pick(smoke=((3, 6), 400), default=((5, 10, 20, 40), 4000))
    needed = {d: [_rows_needed(structured_matrix(n, d, seed), d, seed) for seed in run.seeds(3)] for d in run.progress(dimensions, "growth with S")}
    means = {d: float(np.mean(rows)) for d, rows in needed.items()}
    run.table("rows for a distortion of 0.3, p = 4", [{"S = d": d, "rows": rows, "rows / S": rows / d} for d, rows in means.items()])
    exponent = float(np.polyfit(np.log(list(means)), np.log(list(means.values())), 1)[0])
    most = 2 - 2 / P
    run.claim(f"rows for a distortion of 0.3 grow like S^a, a <= {most:g}", measured=exponent, holds=exponent <= most, paper="S^(2 - 2/p)")
    run.figure("growth", lambda axes: _draw_growth(axes, means, most), caption="rows for a distortion of 0.3 by total sensitivity")


def _rows_needed(A: np.ndarray, d: int, seed: int) -> float:
    """Where a line through log(distortion) by log(size) crosses 0.3."""
    scores, sizes = lp_sensitivities(A, P), [5 * d, 10 * d, 20 * d, 40 * d]
    distortions = [max(lp_distortion(A, sample_rows(A, P, size, scores=scores, rng=seed), P, trials=20, rng=seed)) for size in sizes]
    slope, offset = np.polyfit(np.log(sizes), np.log(distortions), 1)
    return float(np.exp((np.log(0.3) - offset) / slope))


def _absolute_deviations(run: Run) -> None:
    """p = 1: regression on a twentieth of the rows, with outliers in the rows and in the right-hand side."""
    n, patients = run.pick(smoke=(2000, 150), default=(20640, 442))
    small = tuple(part[:patients] for part in diabetes())
    data = {"housing-like, degree 2": (with_outliers(*housing_features(n), seed=n), 20), "diabetes": (small, 4)}
    rows, excess = [], {}
    for name, ((A, b), part) in data.items():
        size, best = len(A) // part, lp_regression(A, b, 1).objective
        schemes = {"uniform": np.ones(len(A)), "root leverage": "root_leverage", "Lewis weights": lewis_weights(np.column_stack([A, b]), 1)}
        if len(A) < 1000:
            schemes["sensitivity"] = lp_sensitivities(np.column_stack([A, b]), 1)
        for scheme, scores in schemes.items():
            samples = [sample_rows(A, 1, size, scores=scores, b=b, rng=seed) for seed in run.seeds(10)]
            found = [_excess(A, b, sample, best) for sample in samples]
            excess[name, scheme] = float(np.mean(found))
            rows.append({"data": name, "rows": size, "of": len(A), "scores": scheme, "excess": excess[name, scheme], "largest": max(found)})
    run.table("least absolute deviations on a coreset: objective over the optimum, minus one", rows)
    housing = "housing-like, degree 2"
    ours, uniform = excess[housing, "root leverage"], excess[housing, "uniform"]
    run.claim(
        "absolute deviations on 5 % of the rows within 5 % of the optimum (recursive root leverage scores, mean)",
        baseline=f"uniform rows: {uniform:.2g}",
        measured=ours,
        holds=ours <= 0.05,
    )
    run.claim("uniform rows: at least twice the excess", baseline="uniform rows", measured=uniform / ours, holds=uniform >= 2 * ours)


def _excess(A: np.ndarray, b: np.ndarray, sample: RowSample, best: float) -> float:
    return lp_regression(A, b, 1, coreset=sample).objective / best - 1


def structured_matrix(n: int, d: int, seed: int) -> np.ndarray:
    """One nonzero per row, in groups of geometric sizes, of Pareto-distributed magnitude; then rotated."""
    rng = random_generator(seed)
    shares = np.geomspace(1, 1e-3, d)
    groups = np.concatenate([np.arange(d), rng.choice(d, n - d, p=shares / shares.sum())])
    A = np.zeros((n, d))
    A[np.arange(n), groups] = (1 + rng.pareto(4, n)) * rng.choice([-1.0, 1.0], n)
    return A @ np.linalg.qr(rng.standard_normal((d, d)))[0]


def scores_by_scheme(A: np.ndarray) -> dict[str, np.ndarray]:
    """The scores of each scheme, found once for all sizes."""
    leverage, sensitivity = leverage_scores(A), lp_sensitivities(A, P)
    return {
        "uniform": np.ones(len(A)),
        "leverage": leverage,
        "root leverage": leverage ** (P / 2),
        "Lewis weights": lewis_weights(A, P),
        "sensitivity": sensitivity,
        "sensitivity + leverage": sensitivity / sensitivity.sum() + leverage / A.shape[1],
    }


def with_outliers(A: np.ndarray, b: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Make two hundredths of the right-hand side wild, and one hundredth of the rows thirty times as long."""
    rng = random_generator(seed)
    A, b = A.copy(), b.copy()
    wild, long = rng.random(len(b)) < 0.02, rng.random(len(b)) < 0.01
    b[wild] += 50 * rng.standard_normal(int(wild.sum()))
    A[long] *= 30
    b[long] *= 30
    return A, b


def _draw_distortion(axes, worst: dict[tuple[str, int], float], sizes: tuple[int, ...]) -> None:
    for scheme in SCHEMES:
        axes.plot(sizes, [worst[scheme, size] for size in sizes], marker="o", label=scheme)
    axes.set(xscale="log", yscale="log", xlabel="expected rows", ylabel="distortion")
    axes.legend(fontsize="x-small")


def _draw_growth(axes, means: dict[int, float], exponent: float) -> None:
    dimensions = np.array(list(means))
    rows = np.array(list(means.values()))
    axes.plot(dimensions, rows, marker="o", label="measured")
    axes.plot(dimensions, rows[0] * (dimensions / dimensions[0]) ** exponent, linestyle="--", label=f"S^{exponent:g}")
    axes.set(xscale="log", yscale="log", xlabel="total sensitivity S = d", ylabel="rows for a distortion of 0.3")
    axes.legend(fontsize="x-small")
