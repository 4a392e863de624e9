"""`ritz linalg eig` and `ritz linalg svd`: a few eigenpairs or singular triplets of a matrix in a file."""

from __future__ import annotations

import time
from pathlib import Path

import typer

from ritz.cli.output import print_json, print_table

OUT = typer.Option(None, "--out", "-o", help="Where the result goes: .npz, or .json.")
JSON = typer.Option(False, "--json", help="Print the summary as JSON.")


def eig(
    matrix: Path = typer.Argument(help="A symmetric or Hermitian matrix: .mtx, .npz, .npy, .csv or .json."),
    k: int = typer.Option(6, "-k", help="How many eigenpairs."),
    which: str = typer.Option("largest", help="largest, smallest, magnitude or both."),
    sigma: float = typer.Option(None, help="Those nearest to this number instead."),
    tol: float = typer.Option(1e-8, help="Relative residual to reach."),
    method: str = typer.Option("auto", help="auto, or a route of ritz.linalg.eigsh."),
    out: Path = OUT,
    seed: int = typer.Option(0, min=0, help="Seed of the start block."),
    json: bool = JSON,
) -> None:
    """Eigenvalues of a symmetric matrix, each with its residual and whether it converged; with --out the eigenvectors too."""
    from ritz.cli.matrix_files import check_ending, read_matrix, write_arrays
    from ritz.linalg import eigsh

    if out is not None:
        check_ending(out, ".npz", ".json")
    A = read_matrix(matrix)
    start = time.perf_counter()
    found = eigsh(A, k, which=which, sigma=sigma, tol=tol, method=method, rng=seed)
    seconds = time.perf_counter() - start
    if out is not None:
        write_arrays(out, {"eigenvalues": found.eigenvalues, "eigenvectors": found.eigenvectors, "residual_norms": found.residual_norms})
    _show("eigenvalues", A.shape, found, found.eigenvalues, seconds, out, json)


def svd(
    matrix: Path = typer.Argument(help="A matrix: .mtx, .npz, .npy, .csv or .json."),
    k: int = typer.Option(6, "-k", help="How many singular triplets."),
    which: str = typer.Option("largest", help="largest or smallest."),
    tol: float = typer.Option(1e-8, help="Residual to reach, relative to the largest singular value."),
    out: Path = OUT,
    seed: int = typer.Option(0, min=0, help="Seed of the start block."),
    json: bool = JSON,
) -> None:
    """Singular values of a matrix, each with its residual and whether it converged; with --out the singular vectors too."""
    from ritz.cli.matrix_files import check_ending, read_matrix, write_arrays
    from ritz.linalg import svds

    if out is not None:
        check_ending(out, ".npz", ".json")
    A = read_matrix(matrix)
    start = time.perf_counter()
    found = svds(A, k, which=which, tol=tol, rng=seed)
    seconds = time.perf_counter() - start
    if out is not None:
        write_arrays(out, {"U": found.U, "singular_values": found.singular_values, "Vh": found.Vh, "residual_norms": found.residual_norms})
    _show("singular values", A.shape, found, found.singular_values, seconds, out, json)


def _show(what: str, shape: tuple[int, ...], found, values, seconds: float, out: Path | None, json: bool) -> None:
    """Print the values with their residuals; people get a table, scripts get JSON."""
    rows = [[float(value), float(norm), bool(done)] for value, norm, done in zip(values, found.residual_norms, found.converged)]
    if json:
        summary = {"shape": list(shape), "method": found.method, "matvecs": found.matvecs, "seconds": round(seconds, 3)}
        pairs = [dict(zip(("value", "residual_norm", "converged"), row)) for row in rows]
        print_json(summary | {what.replace(" ", "_"): pairs, "out": None if out is None else str(out)})
        return
    note = f"{found.method}, {found.matvecs} products, {seconds:.3g} s" + (f"; vectors in {out}" if out is not None else "")
    print_table(f"{what} of a {' x '.join(map(str, shape))} matrix", ["value", "residual norm", "converged"], rows, note=note)
