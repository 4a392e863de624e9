"""`ritz bench`: paired timings of ours and a peer, from the benchmark files of a checkout."""

from __future__ import annotations

from pathlib import Path

import typer

from ritz.cli.output import print_json, print_table
from ritz.studies.verdicts import cell


def run_benchmarks(
    only: list[str] = typer.Argument(None, help="Rooms or methods, e.g. graphs soap; all if none is named."),
    folder: Path = typer.Option(Path("benchmarks"), help="Where the benchmark files are."),
    runs: Path = typer.Option(Path("runs"), help="Results are written to benchmarks/ in this folder."),
    threads: int = typer.Option(None, min=1, help="Threads of BLAS, torch and numba for both sides; default: what each benchmark is stated for."),
    json: bool = typer.Option(False, "--json", help="Print JSON and nothing else."),
    strict: bool = typer.Option(False, help="End with exit code 3 if a target is missed."),
) -> None:
    """Time methods against their peers, in alternation in one process; the ratio is the median over the pairs."""
    from ritz.core import progress, write_json
    from ritz.studies.timing import Comparison, as_row, find_benchmarks, fixed_threads

    comparisons = []
    for name, functions in find_benchmarks(folder, only).items():
        rows = []
        for function in progress(functions, f"bench {name}"):
            with fixed_threads(threads or function.threads):
                result = function()
                rows += [as_row(c) for c in ([result] if isinstance(result, Comparison) else result)]
        write_json(runs / "benchmarks" / f"{name.replace('/', '-')}.json", rows)
        comparisons += rows
        if not json:
            _print(name, rows)
    if json:
        print_json(comparisons)
    if strict and any(row["met"] is False for row in comparisons):
        raise typer.Exit(3)


def _print(name: str, rows: list[dict]) -> None:
    columns = ["what", "peer", "ours (ms)", "peer (ms)", "ratio", "target", "met", "threads", "further"]
    print_table(
        name,
        columns,
        [
            [
                r["name"],
                r["peer"],
                r["seconds"] * 1e3,
                r["peer_seconds"] * 1e3,
                r["ratio"],
                r["target"],
                r["met"],
                r["threads"],
                _further(r["extra"]),
            ]
            for r in rows
        ],
    )


def _further(extra: dict[str, float]) -> str:
    return ", ".join(f"{key} {cell(value)}" for key, value in extra.items())
