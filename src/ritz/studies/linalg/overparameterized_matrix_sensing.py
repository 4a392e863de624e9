"""Matrix sensing with too many columns: one factor, two factors, two rebalanced factors, and scaled gradient descent."""

from __future__ import annotations

import warnings

import numpy as np

from ritz.core import ConvergenceWarning, random_generator
from ritz.linalg import MatrixSensing, MeasurementOperator, matrix_sensing
from ritz.studies import Run, study

STEP = 0.1
SCALES = (1e-1, 1e-2, 1e-3)
VALUES = (1.0, 0.8, 0.6)


@study("overparameterized-matrix-sensing", minutes=0.3)
def study_matrix_sensing(run: Run) -> None:
    """One factor with too many columns converges like 1/T, two unequal factors linearly at a rate of alpha^2, rebalanced ones at a constant rate."""
    n, steps = 50, run.pick(smoke=1200, default=5000)
    seeds = run.seeds(3)
    curves = {seed: _factorizations(n, steps, seed) for seed in run.progress(seeds, "factorizing")}
    rows = [
        {"method": method, "alpha": alpha, "seed": seed, "error at 1000": errors[1000], "error at the end": errors[-1]}
        for seed, by_setting in curves.items()
        for (method, alpha), errors in by_setting.items()
    ]
    run.table(f"Frobenius error, n = {n}, rank 3, 6 columns, measurements of every entry", rows)
    run.figure("errors", lambda axes: _draw(axes, curves[seeds[0]]), caption="Frobenius error by step, one seed; alpha is the size of the start")
    slopes = [_log_slope(by_setting["symmetric", 0.1], steps // 5, steps) for by_setting in curves.values()]
    run.claim(
        "one factor, too many columns: log-log slope of the error in [-1.3, -0.7] (the seed farthest from -1)",
        baseline="rank known, below",
        measured=max(slopes, key=lambda slope: abs(slope + 1)),
        holds=all(-1.3 <= slope <= -0.7 for slope in slopes),
        paper="squared error Omega(1/T^2)",
    )
    exact = max(by_setting["symmetric, rank known", 0.1][1000] for by_setting in curves.values())
    run.claim("one factor of the right rank: error below 1e-10 at 1000 steps", measured=exact, holds=exact < 1e-10)
    ratios = [_rate(by_setting["asymmetric", 0.1]) / _rate(by_setting["asymmetric", 0.03]) for by_setting in curves.values()]
    run.claim(
        "two factors: linear rates at alpha 0.1 and 0.03 in a ratio between 5 and 20 (the least and the greatest hold)",
        baseline="alpha^2 says 11",
        measured=float(np.mean(ratios)),
        holds=all(5 <= ratio <= 20 for ratio in ratios),
        paper="exp(-Omega(alpha^2 T))",
    )
    after = max(by_setting["accelerated", alpha][800 + 300] for by_setting in curves.values() for alpha in SCALES)
    run.claim("rebalanced at 800: error at most 1e-8 within 300 steps for every alpha", measured=after, holds=after <= 1e-8, paper="exp(-Omega(T))")
    scaled = max(by_setting["ScaledGD", 0.1][1000] for by_setting in curves.values())
    run.note(f"ScaledGD, which solves two k x k systems a step, is as strong a cure: its largest error at 1000 steps is {scaled:.1e}")
    _sense(run)


def _factorizations(n: int, steps: int, seed: int) -> dict[tuple[str, float], np.ndarray]:
    target = _target(n, seed)
    operator = MeasurementOperator.identity((n, n))
    settings = [("symmetric", alpha, {}) for alpha in SCALES] + [("asymmetric", alpha, {}) for alpha in (0.1, 0.03, 0.01, 0.001)]
    settings += [("accelerated", alpha, {"switch": 800}) for alpha in SCALES]
    curves = {(m, alpha): _errors(_solve(operator, target, 6, steps, seed, method=m, init_scale=alpha, **more)) for m, alpha, more in settings}
    curves["symmetric, rank known", 0.1] = _errors(_solve(operator, target, 3, steps, seed, method="symmetric", init_scale=0.1))
    curves["ScaledGD", 0.1] = scaled_gradient_descent(operator, target, 6, steps, seed)
    return curves


def _sense(run: Run) -> None:
    """Gaussian measurements, and 40 % of the entries of a larger matrix, rebalanced at 150, against one factor."""
    n, m, steps = run.pick(smoke=(20, 700, 200), default=(30, 1500, 600), full=(500, 20_000, 600))
    rows = []
    for seed in run.progress(run.seeds(3), "sensing"):
        rng = random_generator(seed)
        problems = {
            "Gaussian": (MeasurementOperator.gaussian(m, (n, n), rng=rng), n, STEP),
            "40 % of the entries": (MeasurementOperator.entries(*np.nonzero(rng.random((3 * n, 3 * n)) < 0.4), (3 * n, 3 * n)), 3 * n, STEP / 0.4),
        }
        for name, (operator, size, step) in problems.items():
            target = _target(size, seed)
            for method, more in (("symmetric", {}), ("asymmetric", {}), ("accelerated", {"switch": 150})):
                found = _solve(operator, target, 6, steps, seed, method=method, init_scale=0.1, step=step, **more)
                error = float(np.linalg.norm(found.left @ found.right.T - target))
                rows.append({"measurements": name, "size": size, "method": method, "seed": seed, "error": error})
    run.table(f"sensing, rank 3, 6 columns, {steps} steps", rows)
    gaussian = {method: [row["error"] for row in rows if (row["measurements"], row["method"]) == ("Gaussian", method)] for method in _METHODS}
    ratio = max(ours / slow for ours, slow in zip(gaussian["accelerated"], gaussian["symmetric"]))
    run.claim(
        "Gaussian sensing: error at most 1e-4 of one factor's after 600 steps (largest ratio)",
        baseline="one factor",
        measured=ratio,
        holds=ratio <= 1e-4,
    )


_METHODS = ("symmetric", "asymmetric", "accelerated")


def scaled_gradient_descent(operator: MeasurementOperator, target: np.ndarray, k: int, steps: int, seed: int, damping: float = 1e-9) -> np.ndarray:
    """ScaledGD (Tong, Ma and Chi 2021), slightly damped for too many columns, from the same start: errors by step."""
    rng, n = random_generator(seed), len(target)
    F, G = 0.1 * rng.standard_normal((n, k)), 0.1 / 3 * rng.standard_normal((n, k))
    y, ridge, errors = operator(target), damping * np.eye(k), []
    for _ in range(steps + 1):
        r = operator.of_product(F, G) - y
        errors.append(np.linalg.norm(r))
        to_F, to_G = operator.adjoint_products(r, F, G)
        F, G = F - STEP * np.linalg.solve(G.T @ G + ridge, to_F.T).T, G - STEP * np.linalg.solve(F.T @ F + ridge, to_G.T).T
    return np.array(errors)


def _target(n: int, seed: int) -> np.ndarray:
    U = np.linalg.qr(random_generator(seed).standard_normal((n, len(VALUES))))[0]
    return (U * VALUES) @ U.T


def _solve(operator, target, k: int, steps: int, seed: int, *, step: float = STEP, **options) -> MatrixSensing:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return matrix_sensing(operator, operator(target), target.shape, k, step=step, tol=0.0, maxiter=steps, rng=seed, **options)


def _errors(found: MatrixSensing) -> np.ndarray:
    """The Frobenius errors by step: with every entry measured they are the residuals."""
    return np.sqrt(2 * found.loss_history)


def _log_slope(errors: np.ndarray, start: int, stop: int) -> float:
    t = np.unique(np.geomspace(start, stop - 1, 50).astype(int))
    return float(np.polyfit(np.log(t), np.log(errors[t]), 1)[0])


def _rate(errors: np.ndarray) -> float:
    """The slope of -log(error) over the steps at which it falls from 1e-3 to 1e-6, or as far as it gets."""
    inside = np.flatnonzero((errors < 1e-3) & (errors > 1e-6))
    return float(-np.polyfit(inside, np.log(errors[inside]), 1)[0])


def _draw(axes, curves: dict[tuple[str, float], np.ndarray]) -> None:
    styles = {"symmetric": "#8a8f98", "asymmetric": "#c2762d", "accelerated": "#1f4e8c", "ScaledGD": "#5b8c5a"}
    for (method, alpha), errors in curves.items():
        if method in styles and alpha in SCALES:
            axes.plot(errors, color=styles[method], alpha=1 - 0.3 * SCALES.index(alpha), label=f"{method}, alpha {alpha:g}")
    axes.set(xscale="log", yscale="log", xlabel="step", ylabel="Frobenius error", ylim=(1e-15, None))
    axes.legend(fontsize="x-small")
