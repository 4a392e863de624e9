"""`ritz linalg stream-pca`: the top eigenvector of the rows of a file that is read once, of any size."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import typer

from ritz.cli.output import print_json

CHUNK = 4_096  # rows in memory at a time


def stream_pca(
    rows: Path = typer.Argument(help="Rows in random order: .csv (a first line of names is skipped) or .npy."),
    out: Path = typer.Option(None, "--out", "-o", help="Where the vector goes: .npy or .csv."),
    candidates: int = typer.Option(4, help="Columns of the iteration."),
    max_heavy: int = typer.Option(256, help="Long rows kept whole."),
    shuffle_buffer: int = typer.Option(0, help="Rows held back and given out in random order, for files that are sorted."),
    seed: int = typer.Option(0, min=0, help="Seed of the start."),
    json: bool = typer.Option(False, "--json", help="Print the summary as JSON."),
) -> None:
    """One pass over the rows a of a file: the top eigenvector of sum a a^T, its eigenvalue, and what makes it doubtful."""
    from ritz.cli.matrix_files import check_ending, write_matrix
    from ritz.core import existing_file
    from ritz.linalg import top_eigenvector_stream

    if out is not None:
        check_ending(out, ".npy", ".csv")
    existing_file(rows, "rows")
    batches = _batches(rows)
    first = next(batches)
    stream = itertools.chain([first], batches)
    found = top_eigenvector_stream(stream, first.shape[1], candidates=candidates, max_heavy=max_heavy, shuffle_buffer=shuffle_buffer, rng=seed)
    if out is not None:
        write_matrix(out, found.vector)
    summary = {
        "rows": found.rows,
        "columns": len(found.vector),
        "eigenvalue": found.eigenvalue,
        "gap_estimate": round(found.gap_estimate, 4),
        "heavy_rows": found.heavy_count,
        "warnings": list(found.warnings),
        "out": None if out is None else str(out),
    }
    if json:
        print_json(summary)
    else:
        print("\n".join(f"{name.replace('_', ' ')}: {value}" for name, value in summary.items()))


def _batches(path: Path) -> Iterator[np.ndarray]:
    if path.suffix.lower() == ".csv":
        yield from _csv_batches(path)
        return
    if path.suffix.lower() != ".npy":
        raise ValueError(f"rows: '{path}' must end in .csv or .npy, which can be read in pieces")
    try:
        A = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise ValueError(f"rows: '{path}' is no .npy file: {error}") from error
    if A.ndim != 2 or 0 in A.shape:
        raise ValueError(f"rows: '{path}' must hold a matrix with rows, got shape {A.shape}")
    for first in range(0, len(A), CHUNK):
        yield np.asarray(A[first : first + CHUNK])


def _csv_batches(path: Path) -> Iterator[np.ndarray]:
    width = None
    with path.open(encoding="utf-8") as file:
        numbered = enumerate(file, start=1)
        while lines := list(itertools.islice(numbered, CHUNK)):
            if width is None and not _is_numbers(lines[0][1]):  # a line of names
                lines = lines[1:]
            if lines:
                width = width or len(lines[0][1].split(","))
                yield _parsed(lines, width, path)
    if width is None:
        raise ValueError(f"rows: '{path}' holds no row")


def _parsed(lines: list[tuple[int, str]], width: int, path: Path) -> np.ndarray:
    """The matrix of some numbered lines; an error names the line."""
    for number, line in lines:
        if line.count(",") + 1 != width:
            raise ValueError(f"rows: '{path}', line {number}: must be {width} numbers separated by commas, got '{line.strip()[:60]}'")
    try:
        return np.loadtxt([line for _, line in lines], delimiter=",", ndmin=2)
    except ValueError:
        number, line = next((number, line) for number, line in lines if not _is_numbers(line))
        raise ValueError(f"rows: '{path}', line {number}: must be {width} numbers separated by commas, got '{line.strip()[:60]}'") from None


def _is_numbers(line: str) -> bool:
    try:
        [float(word) for word in line.split(",")]
    except ValueError:
        return False
    return True
