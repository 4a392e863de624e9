"""`ritz linalg complete`: the low-rank factors of a matrix of which a file has some entries."""

from __future__ import annotations

import time
from pathlib import Path

import typer

from ritz.cli.output import print_json


def complete(
    entries: Path = typer.Argument(
        help="Observed entries. .csv: lines row,column,value with any whole numbers as names; .mtx or sparse .npz: what is stored."
    ),
    rank: int = typer.Option(..., "--rank", "-k", help="Rank of the completed matrix."),
    out: Path = typer.Option(..., "--out", "-o", help="Where the factors go: .npz with U, V, rows, columns, residual_norms; M is about U V^T."),
    solver: str = typer.Option("cg", help="cg, sketch or exact: how half-steps are solved."),
    iterations: int = typer.Option(50, help="Most pairs of half-steps."),
    tol: float = typer.Option(1e-6, help="Relative residual to reach, or relative change to stop at."),
    regularization: float = typer.Option(0.0, help="Weight against overfitting, compared with the observed fraction of the entries."),
    seed: int = typer.Option(0, min=0, help="Seed of the start."),
    json: bool = typer.Option(False, "--json", help="Print the summary as JSON."),
) -> None:
    """Complete a matrix: row i of U and row j of V belong to rows[i] and columns[j], and their product predicts the entry."""
    from ritz.cli.matrix_files import check_ending, write_arrays
    from ritz.linalg import complete_matrix

    check_ending(out, ".npz", ".json")
    M, rows, columns = _observed(entries)
    start = time.perf_counter()
    found = complete_matrix(M, rank, solver=solver, iterations=iterations, tol=tol, regularization=regularization, rng=seed)
    seconds = time.perf_counter() - start
    write_arrays(out, {"U": found.U, "V": found.V, "rows": rows, "columns": columns, "residual_norms": found.residual_norms})
    summary = {
        "shape": list(M.shape), "observed": M.nnz, "rank": rank, "relative_residual": float(found.residual_norms[-1]), "converged": found.converged,
        "iterations": found.iterations, "underdetermined": found.underdetermined, "seconds": round(seconds, 3), "out": str(out),
    }  # fmt: skip
    if json:
        print_json(summary)
    else:
        print("\n".join(f"{name}: {value}" for name, value in summary.items()))


def _observed(path: Path):
    """The observed entries as a sparse matrix, and the names of its rows and columns."""
    import numpy as np
    import scipy.sparse

    from ritz.cli.matrix_files import read_matrix

    found = read_matrix(path, "entries")
    if scipy.sparse.issparse(found):
        return found, np.arange(found.shape[0]), np.arange(found.shape[1])
    if path.name.removesuffix(".gz").endswith(".csv"):
        return _of_triplets(found, path)
    raise ValueError(f"entries: '{path}' must be a .csv of row,column,value or a sparse matrix, got a dense one")


def _of_triplets(table, path: Path):
    import numpy as np
    import scipy.sparse

    if table.shape[1] != 3:
        raise ValueError(f"entries: '{path}' must have the three columns row,column,value, got {table.shape[1]}")
    if not np.all(np.isfinite(table)) or np.any(table[:, :2] != np.floor(table[:, :2])):
        raise ValueError(f"entries: '{path}' must have whole numbers as rows and columns, and finite values")
    (rows, row_of), (columns, column_of) = (np.unique(table[:, i].astype(np.int64), return_inverse=True) for i in (0, 1))
    pairs = row_of * len(columns) + column_of
    if len(np.unique(pairs)) < len(pairs):
        raise ValueError(f"entries: '{path}' must have each pair of row and column once, got {len(pairs) - len(np.unique(pairs))} repetitions")
    return scipy.sparse.csr_array((table[:, 2], (row_of, column_of)), shape=(len(rows), len(columns))), rows, columns
