"""Learning omega of SOR and of SSOR-preconditioned conjugate gradients over thousands of related systems."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

from ritz.core import random_generator, spawn_seeds
from ritz.linalg import BinnedBandit, ChebyshevBandit, TsallisINF, TunedSolver, ssor_cg
from ritz.linalg.sor import sweeps
from ritz.studies import Run, study

ACTIONS = np.linspace(1, 1.95, 20)
RANGE = (-0.15, 0.65)
SHIFTS = {"high variance": (0.5, 1.5), "low variance": (2.0, 6.0)}
TOL = 1e-8


@study("learning-to-relax", minutes=6)
def study_learning_to_relax(run: Run) -> None:
    """Bandits find a near-optimal omega from iteration counts alone, the contextual one a near-optimal omega for each system (Khodak et al. 2024)."""
    rounds = run.pick(smoke=100, default=5000, full=20_000)
    jobs = [(name, seed) for name in SHIFTS for seed in run.seeds(3)]
    costs = {job: _shifted_laplacians(rounds, SHIFTS[job[0]], seed=job[1]) for job in run.progress(jobs, "SOR on shifted Laplacians")}
    for name in SHIFTS:
        rows = [{"method": method, "seed": seed, **_summary(c)} for (kind, seed), by in costs.items() if kind == name for method, c in by.items()]
        run.table(f"sweeps per system, {rounds} systems of 100 unknowns, {name}", rows)
    run.figure("average", lambda axes: _draw(axes, costs["high variance", run.seed]), caption="Average sweeps so far, high variance, first seed")
    _claims_on_shifts(run, costs)
    _heat(run)


def _claims_on_shifts(run: Run, costs: dict) -> None:
    """Each claim on its worst seed."""
    for method, kind, baseline, limit in (
        ("ChebCB", "high variance", "best fixed omega", 0.80),
        ("ChebCB", "low variance", "best fixed omega", 0.80),
        ("ChebCB", "high variance", "omega*(A), known", 1.35),
        ("ChebCB", "low variance", "omega*(A), known", 1.35),
        ("Tsallis-INF", "high variance", "best fixed omega", 1.35),
        ("Tsallis-INF", "low variance", "best fixed omega", 1.15),
        ("ChebCB", "high variance", "omega = 1", 0.35),
        ("ChebCB", "low variance", "omega = 1", 0.35),
        ("Tsallis-INF", "high variance", "omega = 1", 0.35),
        ("Tsallis-INF", "low variance", "omega = 1", 0.35),
    ):
        ratio = max(by[method].mean() / by[baseline].mean() for (of, _), by in costs.items() if of == kind)
        run.claim(f"{method}, {kind}: at most {limit} of the sweeps (worst seed)", baseline=baseline, measured=ratio, holds=ratio <= limit)
    summaries = [_summary(by["Tsallis-INF"]) for by in costs.values()]
    falling = max(summary["last fifth"] / summary["first fifth"] for summary in summaries)
    run.claim("Tsallis-INF: the last fifth costs less than the first (worst seed)", baseline="first fifth", measured=falling, holds=falling < 1)


def _shifted_laplacians(rounds: int, beta: tuple[float, float], seed: int) -> dict[str, np.ndarray]:
    """The costs of every method on A + c I, one sequence of c and b for all."""
    rng = random_generator(seed)
    laplacian = _laplacian(10)
    diagonal = np.flatnonzero(laplacian.indices == np.repeat(np.arange(100), np.diff(laplacian.indptr)))
    shifts = -0.15 + 0.6 * rng.beta(*beta, size=rounds)
    fixed, known = np.empty((rounds, len(ACTIONS))), np.empty(rounds)
    for t, c in enumerate(shifts):
        A, b = laplacian.copy(), _truncated_normal(100, rng)
        A.data[diagonal] += c
        fixed[t] = [_sweep_count(A, b, omega) for omega in ACTIONS]
        known[t] = _sweep_count(A, b, _best_omega(c))
    first, second, third = spawn_seeds(rng, 3)  # their draws must not know of the contexts'
    learners = {
        "Tsallis-INF": TsallisINF(ACTIONS, rng=first),
        "Tsallis-INF, 5 bins": BinnedBandit(ACTIONS, RANGE, rng=second),
        "ChebCB": ChebyshevBandit(ACTIONS, RANGE, rng=third),
    }
    chosen = {f"omega = {omega:g}": fixed[:, np.argmin(np.abs(ACTIONS - omega))] for omega in (1.0, 1.4, 1.6, 1.8)}
    chosen |= {"best fixed omega": fixed[:, np.argmin(fixed.mean(axis=0))], "omega*(A), known": known}
    return chosen | {name: _played(learner, shifts, fixed) for name, learner in learners.items()}


def _best_omega(shift: float) -> float:
    """`optimal_omega` of the shifted Laplacian on 10 x 10 points, in closed form."""
    beta = 4 * np.cos(np.pi / 11) / (4 + shift)
    return 1 + (beta / (1 + np.sqrt(1 - beta**2))) ** 2


def _sweep_count(A, b, omega: float) -> int:
    return sweeps(A.indptr, A.indices, A.data, A.diagonal(), b, np.zeros(len(b)), omega, TOL, False, np.empty(10_001))


def _played(learner, contexts: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """What the learner pays; it sees the cost of the action it plays and no other."""
    paid = np.empty(len(contexts))
    for t, context in enumerate(contexts):
        i = np.argmin(np.abs(ACTIONS - learner.suggest(context)))
        paid[t] = costs[t, i]
        learner.update(paid[t])
    return paid


def _heat(run: Run) -> None:
    """The heat equation with a diffusion coefficient that changes in time, by Crank and Nicolson's scheme, one system a step."""
    steps = run.pick(smoke=30, default=2000, full=5000)
    rows, ratios = [], []
    for nx in run.pick(smoke=(10,), default=(25, 50), full=(25, 50, 100)):
        simulate = {f"omega = {omega:.3g}": _fixed(omega) for omega in ACTIONS}
        counts = {name: _simulated(nx, steps, solve) for name, solve in run.progress(simulate.items(), f"heat equation, nx = {nx}")}
        best = min(counts, key=lambda name: counts[name].steps)
        shown = {name: counts[name] for name in ("omega = 1", "omega = 1.5", "omega = 1.95")} | {f"best fixed: {best}": counts[best]}
        shown["CG"] = _simulated(nx, steps, _plain_cg)
        for seed in run.seeds(3):
            learners = {
                "Tsallis-INF": TsallisINF(ACTIONS, rng=seed),
                "Tsallis-INF, 6 bins": BinnedBandit(ACTIONS, _coefficient_range(steps), 6, rng=seed),
                "ChebCB": ChebyshevBandit(ACTIONS, _coefficient_range(steps), rng=seed),
            }
            for name, learner in learners.items():
                shown[f"{name}, seed {seed}"] = _simulated(nx, steps, _tuned(learner))
            ratios.append(shown[f"ChebCB, seed {seed}"].steps / counts[best].steps)
        direct, iterative = _simulated(nx, min(steps, 200), _direct), _simulated(nx, min(steps, 200), _fixed(1.5))
        apart = np.linalg.norm(iterative.solution - direct.solution) / np.linalg.norm(direct.solution)
        run.note(f"{(nx - 1) ** 2} unknowns: after {min(steps, 200)} time steps SSOR-CG is {apart:.1e} from sparse LU")
        shown["A \\ b, sparse LU"] = direct
        rows += [
            {"unknowns": (nx - 1) ** 2, "method": name, "steps per system": found.steps, "ms per system": found.milliseconds}
            for name, found in shown.items()
        ]
    run.table(
        f"heat equation, {steps} time steps, conjugate gradients with SSOR from the last solution, tol {TOL:g}",
        rows,
        note="A time step whose start is good enough counts as one. Milliseconds are those of a whole time step, timed once.",
    )
    ratio = float(max(ratios))
    run.claim("heat equation: ChebCB at most 1.05 of the steps (worst)", baseline="best fixed omega", measured=ratio, holds=ratio <= 1.05)


class Simulation(NamedTuple):
    """Mean iterations (None for a direct solver) and milliseconds of a time step, and the solution at the end."""

    steps: float | None
    milliseconds: float
    solution: np.ndarray


def _simulated(nx: int, steps: int, solve) -> Simulation:
    """Run the heat equation with ``solve(A, b, u, coefficient) -> (u, iterations or None)``, which starts at the last u."""
    heat, counts, start = HeatEquation(nx), [], time.perf_counter()
    for step in range(steps):
        heat.u, count = solve(*heat.system(step), heat.u, heat.coefficient(step))
        counts.append(count)
    seconds = time.perf_counter() - start
    return Simulation(None if counts[0] is None else float(np.mean(counts)), 1e3 * seconds / steps, heat.u)


def _direct(A, b, u, coefficient):
    return scipy.sparse.linalg.spsolve(scipy.sparse.csc_array(A), b), None


def _fixed(omega: float):
    def solve(A, b, u, coefficient):
        found = ssor_cg(A, b, omega=omega, x0=u, tol=TOL)
        return found.x, max(found.iterations, 1)

    return solve


def _plain_cg(A, b, u, coefficient):
    iterates: list = []
    x, _ = scipy.sparse.linalg.cg(A, b, x0=u, rtol=TOL, maxiter=10_000, callback=lambda _: iterates.append(None))
    return x, max(len(iterates), 1)


def _tuned(learner):
    tuned = TunedSolver("ssor-cg", learner=learner, tol=TOL)

    def solve(A, b, u, coefficient):
        found = tuned.solve(A, b, context=coefficient, x0=u)
        return found.x, found.cost

    return solve


class HeatEquation:
    """``u_t = k(t) Laplacian u + f`` on the unit square, (nx - 1)^2 inner points: k swings up to 0.1 and 10 in turn, f is a bump that circles."""

    TIME_STEP = 1e-3

    def __init__(self, nx: int):
        axis = np.arange(1, nx) / nx
        self._points = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
        self._laplacian = _laplacian(nx - 1) * nx**2
        self._identity = scipy.sparse.eye_array(len(self._points))
        self.u = _bump(self._points, (0.5, 0.5), 0.25)

    def coefficient(self, step: int) -> float:
        """k in the middle of a time step."""
        return _coefficient((step + 0.5) * self.TIME_STEP)

    def system(self, step: int) -> tuple:
        """The matrix and right-hand side of a time step by Crank and Nicolson's scheme."""
        now = (step + 0.5) * self.TIME_STEP
        half = self._laplacian * (0.5 * self.coefficient(step) * self.TIME_STEP)
        center = 0.5 + np.array([np.cos(16 * np.pi * now), np.sin(16 * np.pi * now)]) / 4
        b = self.u - half @ self.u + self.TIME_STEP * 32 * _bump(self._points, center, 0.125)
        return scipy.sparse.csr_array(self._identity + half), b


def _coefficient(now: float) -> float:
    return float(max(0.1 * np.sin(2 * np.pi * now), -10 * np.sin(2 * np.pi * now)))


def _coefficient_range(steps: int) -> tuple[float, float]:
    values = [_coefficient((step + 0.5) * HeatEquation.TIME_STEP) for step in range(steps)]
    return min(values), max(values)


def _bump(points: np.ndarray, center, radius: float) -> np.ndarray:
    """A smooth bump of height 1, zero outside the radius."""
    inside = np.minimum(((points - np.asarray(center)) ** 2).sum(axis=1) / radius**2, 1)
    with np.errstate(divide="ignore"):
        return np.exp(1 - 1 / (1 - inside))


def _laplacian(n: int) -> scipy.sparse.csr_array:
    """The negative five-point Laplacian on n x n points, for unit spacing."""
    T = scipy.sparse.diags_array([-np.ones(n - 1), 2 * np.ones(n), -np.ones(n - 1)], offsets=[-1, 0, 1])
    return scipy.sparse.csr_array(scipy.sparse.kronsum(T, T))


def _truncated_normal(n: int, rng: np.random.Generator) -> np.ndarray:
    """A standard normal vector, given that its norm is at most the root of n."""
    while True:
        b = rng.standard_normal(n)
        if b @ b <= n:
            return b


def _summary(costs: np.ndarray) -> dict[str, float]:
    fifth = max(1, len(costs) // 5)
    return {"mean": float(costs.mean()), "first fifth": float(costs[:fifth].mean()), "last fifth": float(costs[-fifth:].mean())}


def _draw(axes, by_method: dict[str, np.ndarray]) -> None:
    colors = {
        "best fixed omega": "#8a8f98",
        "Tsallis-INF": "#c2762d",
        "Tsallis-INF, 5 bins": "#e0b87a",
        "ChebCB": "#1f4e8c",
    }
    for method, color in (colors | {"omega*(A), known": "#5b8c5a"}).items():
        costs = by_method[method]
        axes.plot(np.cumsum(costs) / np.arange(1, len(costs) + 1), color=color, label=method)
    axes.set(xscale="log", yscale="log", xlabel="system", ylabel="average sweeps so far")
    axes.legend(fontsize="x-small")
