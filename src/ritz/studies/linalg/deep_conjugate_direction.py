"""A learned search direction on Poisson's equation: iterations beside conjugate gradients, plain and preconditioned, and what they cost."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch

from ritz.core import random_generator
from ritz.linalg import DirectionNetwork, amg, cg, dcdm, train_direction_network
from ritz.studies import Run, study
from ritz.studies.data.linear_systems import poisson

KINDS = ("random", "point source", "constant", "A times random")
DCDM2, DCDM10, SMALL = "DCDM(2)", "DCDM(10)", "DCDM(10), trained on half the grid"


@study("deep-conjugate-direction", minutes=5)
def study_deep_conjugate_directions(run: Run) -> None:
    """A small network, trained for two minutes on one matrix, proposes directions that take conjugate gradients to the solution in fewer steps."""
    side, steps = run.pick(smoke=(16, 20), default=(64, 600), full=(64, 20_000))
    A = poisson(side, side)
    network, small = (_trained(run, (n, n), steps) for n in (side, side // 2))
    solvers = _solvers(A, network, small.on_grid((side, side)), maxiter=run.pick(smoke=40, default=1000))
    systems = [(kind, seed, _right_side(kind, A, seed)) for kind in KINDS for seed in run.seeds(1 if kind == "constant" else 5)]
    rows = []
    for kind, seed, b in run.progress(systems, "solving"):
        rows.append({"b": kind, "seed": seed} | {name: solve(b, 1e-4).iterations for name, solve in solvers.items()})
    run.table(f"iterations to 1e-4, Poisson {side} x {side}, one network, trained with seed {run.seed}", rows)
    for name, limit in ((DCDM2, 0.6), (DCDM10, 0.5)):
        ratio = max(row[name] / row["CG"] for row in rows if row["b"] in ("random", "point source"))
        run.claim(
            f"{name} takes at most {limit:g} times the iterations of CG, random b and point sources, to 1e-4 (largest ratio)",
            baseline="CG",
            measured=ratio,
            holds=ratio <= limit,
            paper="a small number of iterations, whatever the size",
        )
    tight = [solvers[name](b, 1e-8) for name in (DCDM2, DCDM10) for _, _, b in systems]
    share = float(np.mean([found.converged for found in tight]))
    run.claim("converges to 1e-8 (share of the solves)", measured=share, holds=share == 1.0, paper="to any tolerance")
    run.table(
        "iterations to 1e-8",
        [{"b": kind, "seed": seed, DCDM2: two.iterations, DCDM10: ten.iterations, "CG": solvers["CG"](b, 1e-8).iterations}
         for (kind, seed, b), two, ten in zip(systems, tight[: len(systems)], tight[len(systems) :])],
    )  # fmt: skip
    ratio = float(np.median([row[SMALL] / row["CG"] for row in rows if row["b"] in ("random", "point source")]))
    run.note(f"trained on {side // 2} x {side // 2} and used on {side} x {side}, DCDM(10) takes {ratio:.2f} of CG's iterations (median)")
    _costs(run, solvers, systems[0][2])
    run.figure("residuals", lambda axes: _draw(axes, solvers, systems[0][2]), caption="relative residual by iteration, random b")
    _three_dimensions(run)


def _trained(run: Run, grid: tuple[int, ...], steps: int) -> DirectionNetwork:
    """Train for `steps` batches of 16, the learning rate falling from 2e-3 to 1e-5, and report the loss and the time."""
    torch.manual_seed(run.seed)
    model = DirectionNetwork(grid, levels=2 if len(grid) == 3 else None).to(run.device)
    started = time.process_time()
    train_direction_network(
        poisson(*grid),
        grid,
        model=model,
        samples=16 * steps,
        epochs=1,
        batch_size=16,
        learning_rate=2e-3,
        final_learning_rate=1e-5,
        generator=run.seed,
    )
    seconds, losses = time.process_time() - started, model.training_losses
    shape = " x ".join(map(str, grid))
    row = {"steps": steps, "CPU seconds": seconds, "parameters": sum(p.numel() for p in model.parameters()), "levels": model.levels}
    run.table(f"training on {shape}", [row | {"first loss": losses[0], "loss, last 20": losses[-20:].mean()}])
    return model


def _solvers(A, network: DirectionNetwork, small: DirectionNetwork, maxiter: int) -> dict[str, Callable]:
    """Functions of a right-hand side and a tolerance."""
    cholesky, multigrid = incomplete_cholesky(A), amg(A)
    return {
        "CG": lambda b, tol: cg(A, b, tol=tol),
        "CG, incomplete Cholesky": lambda b, tol: cg(A, b, preconditioner=cholesky, tol=tol),
        "CG, pyamg": lambda b, tol: cg(A, b, preconditioner=multigrid, tol=tol),
        DCDM2: lambda b, tol: dcdm(A, b, network, tol=tol, maxiter=maxiter),
        DCDM10: lambda b, tol: dcdm(A, b, network, conjugate_to=10, tol=tol, maxiter=maxiter),
        SMALL: lambda b, tol: dcdm(A, b, small, conjugate_to=10, tol=tol, maxiter=maxiter),
    }


def incomplete_cholesky(A: scipy.sparse.csr_array) -> scipy.sparse.linalg.LinearOperator:
    """Incomplete Cholesky without fill for stencils without triangles: (D + L) D^-1 (D + L^T), of which only the diagonal D must be found."""
    diagonal = A.diagonal()
    for row in range(len(diagonal)):
        entries = slice(A.indptr[row], A.indptr[row + 1])
        before = A.indices[entries] < row
        diagonal[row] -= np.sum(A.data[entries][before] ** 2 / diagonal[A.indices[entries][before]])
    lower = scipy.sparse.csc_array(scipy.sparse.tril(A, -1) + scipy.sparse.diags_array(diagonal))
    factor = scipy.sparse.linalg.splu(lower, permc_spec="NATURAL", diag_pivot_thresh=0.0)
    return scipy.sparse.linalg.LinearOperator(A.shape, matvec=lambda r: factor.solve(diagonal * factor.solve(r.ravel()), "T"), dtype=A.dtype)


def _right_side(kind: str, A, seed: int) -> np.ndarray:
    rng, n = random_generator(seed), A.shape[0]
    if kind == "point source":
        b = np.zeros(n)
        b[rng.integers(n)] = 1.0
        return b
    return {"random": rng.standard_normal, "constant": np.ones, "A times random": lambda n: A @ rng.standard_normal(n)}[kind](n)


def _costs(run: Run, solvers: dict[str, Callable], b: np.ndarray) -> None:
    """Milliseconds per solve: on a CPU conjugate gradients win."""
    rows = []
    for name, solve in solvers.items():
        started = time.perf_counter()
        found = solve(b, 1e-4)
        rows.append({"solver": name, "milliseconds": 1e3 * (time.perf_counter() - started), "iterations": found.iterations})
    count = run.pick(smoke=2, default=32)
    batch = random_generator(run.seed).standard_normal((count, len(b)))
    started = time.perf_counter()
    found = solvers[DCDM2](batch, 1e-4)
    seconds = time.perf_counter() - started
    rows.append(
        {"solver": f"{DCDM2}, per system of a batch of {count}", "milliseconds": 1e3 * seconds / count, "iterations": int(found.iterations.max())}
    )
    run.table("time per solve to 1e-4, random b", rows, note="on a CPU the network costs more than the iterations that it saves")


def _three_dimensions(run: Run) -> None:
    """Wall time in three dimensions, where the paper's claim is made: a network trained on one grid and used on a larger one as well."""
    side, steps, sides = run.pick(smoke=(8, 5, (8,)), default=(8, 0, ()), full=(64, 5000, (64, 128)))
    if not sides:
        return
    network, rows = _trained(run, (side,) * 3, steps), []
    for n in sides:
        A, rng = poisson(n, n, n), random_generator(run.seed)
        b, multigrid = rng.standard_normal(n**3), amg(A)
        on_device, rhs = _on_device(A, run.device), torch.from_numpy(b).to(run.device)
        local = network.on_grid((n,) * 3)
        calls = {
            "CG": lambda M=on_device, v=rhs: cg(M, v, tol=1e-4),
            "CG, pyamg (CPU)": lambda A=A, b=b, M=multigrid: cg(A, b, preconditioner=M, tol=1e-4),
            DCDM2: lambda M=on_device, v=rhs, f=local: dcdm(M, v, f, maxiter=run.pick(smoke=20, default=1000)),
        }
        for name, call in calls.items():
            call()
            started = time.perf_counter()
            found = call()
            rows.append({"side": n, "solver": name, "seconds": time.perf_counter() - started, "iterations": found.iterations})
    run.table(f"three dimensions, on {run.device}", rows)


def _on_device(A: scipy.sparse.csr_array, device: str) -> torch.Tensor:
    pointers, columns, values = (torch.from_numpy(part) for part in (A.indptr.astype(np.int64), A.indices.astype(np.int64), A.data))
    return torch.sparse_csr_tensor(pointers, columns, values, A.shape, device=device)


def _draw(axes, solvers: dict[str, Callable], b: np.ndarray) -> None:
    for name, color in (("CG", "#8a8f98"), ("CG, incomplete Cholesky", "#5b8c5a"), ("CG, pyamg", "#7a4f9a"), (DCDM2, "#c2762d"), (DCDM10, "#1f4e8c")):
        norms = solvers[name](b, 1e-8).residual_norms
        axes.semilogy(norms / norms[0], color=color, label=name)
    axes.set(xlabel="iteration", ylabel="relative residual")
    axes.legend(fontsize="small")
