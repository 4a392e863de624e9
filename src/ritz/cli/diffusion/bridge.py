"""`ritz diffusion bridge fit` and `ritz diffusion bridge map`: Schrodinger bridges between two files of points."""

from __future__ import annotations

import time
from pathlib import Path

import typer

from ritz.cli.output import print_summary

app = typer.Typer(no_args_is_help=True, help="Schrodinger bridges between two files of points.")

POINTS = ".npy, .csv or another matrix file, a point a line."
SEED = typer.Option(0, min=0, help="Seed of all random choices.")
JSON = typer.Option(False, "--json", help="Print the summary as JSON.")


@app.command()
def fit(
    source: Path = typer.Option(..., help=f"Points of the first distribution: {POINTS}"),
    target: Path = typer.Option(..., help="Points of the second one, as many columns."),
    out: Path = typer.Option(..., "--out", "-o", help="Where the bridge goes (.npz)."),
    epsilon: float = typer.Option(1.0, help="Entropic weight, in squared units of the points."),
    potentials: int = typer.Option(50, help="Components of the mixture."),
    covariance: str = typer.Option("diag", help="Of the components: diag or full."),
    initial_scale: float = typer.Option(0.1, help="First scale of the components."),
    steps: int = typer.Option(10_000, help="Training steps at most."),
    batch_size: int = typer.Option(128, help="Points of each sample a step."),
    lr: float = typer.Option(1e-3, help="Learning rate of Adam."),
    tol: float = typer.Option(1e-4, help="Change of the mean loss at which training ends; 0 takes all steps."),
    seed: int = SEED,
    json: bool = JSON,
) -> None:
    """Fit a light Schrodinger bridge, which is an entropic transport map, to two unpaired samples."""
    from ritz.cli.matrix_files import check_ending
    from ritz.diffusion import LightSchrodingerBridge

    check_ending(out, ".npz")
    X, Y = _read(source, "source"), _read(target, "target")
    bridge = LightSchrodingerBridge(
        potentials, epsilon, covariance, initial_scale=initial_scale, steps=steps, batch_size=batch_size, lr=lr, tol=tol, rng=seed
    )
    start = time.perf_counter()
    bridge.fit(X, Y)
    seconds = time.perf_counter() - start
    bridge.save(out)
    summary = {
        "source_points": len(X),
        "target_points": len(Y),
        "dimension": X.shape[1],
        "steps": bridge.n_iter_,
        "converged": bridge.converged_,
        "loss": round(-bridge.score(X, Y), 6),
        "seconds": round(seconds, 3),
        "out": str(out),
    }
    print_summary(summary, json)


@app.command("map")
def map_points(
    model: Path = typer.Argument(help="What `ritz diffusion bridge fit` wrote."),
    points: Path = typer.Argument(help=f"Points to be mapped: {POINTS}"),
    out: Path = typer.Argument(help="Where the mapped points go (.npy or .csv)."),
    at: float = typer.Option(None, help="Instead of the mean end, draw the position at this time, 1 for a drawn end."),
    seed: int = SEED,
    json: bool = JSON,
) -> None:
    """Map points by a fitted bridge: to their mean end, or to a drawn position on the way."""
    from ritz.cli.matrix_files import check_ending, write_matrix
    from ritz.diffusion import LightSchrodingerBridge

    check_ending(out, ".npy", ".csv")
    bridge, X = LightSchrodingerBridge.load(model), _read(points, "points")
    write_matrix(out, bridge.transform(X) if at is None else bridge.sample_at(X, at, rng=seed))
    print_summary({"points": len(X), "dimension": X.shape[1], "out": str(out)}, json)


def _read(path: Path, name: str):
    from ritz.cli.matrix_files import read_matrix
    from ritz.core import matrix

    return matrix(read_matrix(path, name), name)
