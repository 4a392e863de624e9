"""`ritz linalg solve`: a linear system, or a least-squares problem, of a matrix in a file."""

from __future__ import annotations

import time
from pathlib import Path

import typer

from ritz.cli.output import print_json, print_table


def solve(
    matrix: Path = typer.Argument(help="A: .mtx, .npz, .npy, .csv or .json. Not square: least squares."),
    right_side: Path = typer.Argument(help="b, one column for each right-hand side: .mtx, .npy, .csv or .json."),
    out: Path = typer.Option(..., "--out", "-o", help="Where x goes: .npy, .csv or .mtx."),
    method: str = typer.Option("auto", help="auto, or a method of ritz.linalg.solve or, for least squares, of ritz.linalg.lstsq."),
    preconditioner: str = typer.Option(None, help="amg, ilu or jacobi, for the iterations of a square system."),
    damping: float = typer.Option(0.0, help="Weight of ||x|| in a least-squares problem."),
    least_squares: bool = typer.Option(False, "--least-squares", help="Least squares for a square matrix too."),
    tol: float = typer.Option(1e-8, help="Relative residual to reach."),
    json: bool = typer.Option(False, "--json", help="Print the summary as JSON."),
) -> None:
    """Solve A x = b; say which method was picked and why, what failed before it, and what residual was reached."""
    from ritz.cli.matrix_files import check_ending, read_matrix, read_vector, write_matrix
    from ritz.linalg import lstsq
    from ritz.linalg import solve as solve_square

    check_ending(out, ".npy", ".csv", ".mtx")
    A, b = read_matrix(matrix, "matrix"), read_vector(right_side, "right side")
    start = time.perf_counter()
    if least_squares or damping > 0 or A.shape[0] != A.shape[-1]:
        found = lstsq(A, b, damping=damping, method=method, tol=tol)
    else:
        found = solve_square(A, b, method=method, preconditioner=preconditioner, tol=tol)
    seconds = time.perf_counter() - start
    write_matrix(out, found.x)
    norms, converged = ([value] if b.ndim == 1 else value.tolist() for value in (found.residual_norms, found.converged))
    if json:
        summary = {"shape": list(A.shape), "method": found.method, "why": found.why, "attempts": list(found.attempts)}
        print_json(
            summary | {"iterations": found.iterations, "seconds": round(seconds, 3), "residual_norms": norms, "converged": converged, "out": str(out)}
        )
        return
    print_table(
        f"solution with a {' x '.join(map(str, A.shape))} matrix",
        ["right side", "relative residual", "converged"],
        [[i, norm, done] for i, (norm, done) in enumerate(zip(norms, converged))],
        note=f"{found.method}: {found.why}; {seconds:.3g} s",
    )
    for line in found.attempts:
        print(f"tried before: {line}")
