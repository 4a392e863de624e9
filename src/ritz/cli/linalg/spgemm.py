"""`ritz linalg spgemm`: the product of two sparse matrices in files."""

from __future__ import annotations

import time
from pathlib import Path

import typer

from ritz.cli.output import print_json


def spgemm(
    left: Path = typer.Argument(help="A: .mtx, .npz, .npy, .csv or .json."),
    right: Path = typer.Argument(help="B, with as many rows as A has columns."),
    out: Path = typer.Argument(help="Where the product goes: .mtx or .npz."),
    semiring: str = typer.Option("plus_times", help="plus_times, min_plus (shortest paths of two steps), or_and (reachability) or max_times."),
    mask: Path = typer.Option(None, help="A matrix: only entries of the product where it has entries are computed."),
    mask_complement: bool = typer.Option(False, "--mask-complement", help="Only entries where the mask has none."),
    drop_tolerance: float = typer.Option(None, help="Leave out entries of at most this magnitude."),
    top_k: int = typer.Option(None, help="Keep so many entries of each row, the best."),
    accumulator: str = typer.Option("auto", help="auto, hash, dense or sort."),
    threads: int = typer.Option(None, min=1, help="Threads that share the rows; all by default."),
    json: bool = typer.Option(False, "--json", help="Print the summary as JSON."),
) -> None:
    """Multiply two sparse matrices, over a semiring and under a mask if wanted; the product's columns are sorted."""
    from ritz.cli.matrix_files import check_ending, read_matrix, write_matrix
    from ritz.linalg import spgemm as multiply

    check_ending(out, ".mtx", ".npz")
    A, B = read_matrix(left, "left"), read_matrix(right, "right")
    wanted = None if mask is None else read_matrix(mask, "mask")
    start = time.perf_counter()
    C = multiply(
        A,
        B,
        accumulator=accumulator,
        semiring=semiring,
        mask=wanted,
        mask_complement=mask_complement,
        sort_indices=True,
        drop_tolerance=drop_tolerance,
        top_k=top_k,
        threads=threads,
    )
    seconds = time.perf_counter() - start
    write_matrix(out, C.astype("int64") if C.dtype == bool else C)  # Matrix Market knows no truth values
    summary = {"shape": list(C.shape), "entries": C.nnz, "dtype": str(C.dtype), "seconds": round(seconds, 3), "out": str(out)}
    if json:
        print_json(summary)
    else:
        print("\n".join(f"{name}: {value}" for name, value in summary.items()))
