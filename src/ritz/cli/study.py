"""`ritz study`: run studies, show what they measure, and end in one table of verdicts."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import typer

from ritz.cli.output import console, print_json, print_table
from ritz.studies.verdicts import cell, claim_verdict, verdict, verdict_rows


def study_methods(
    slugs: list[str] = typer.Argument(None, help="The methods, e.g. soap fastrp."),
    every: bool = typer.Option(False, "--all", help="All methods that have a study."),
    room: str = typer.Option(None, help="All studies of a room."),
    scale: str = typer.Option("default", help="smoke (seconds), default (minutes) or full (one GPU)."),
    device: str = typer.Option("cpu", help="Where networks run: cpu, cuda, cuda:1, ..."),
    seed: int = typer.Option(0, min=0, help="The first seed."),
    runs: Path = typer.Option(Path("runs"), help="The folder that holds the reports."),
    jobs: int = typer.Option(1, min=1, help="How many studies run side by side."),
    strict: bool = typer.Option(False, help="End with exit code 3 if a claim does not hold."),
    json: bool = typer.Option(False, "--json", help="Print the reports as JSON and nothing else."),
) -> None:
    """Measure the claims of methods against the baselines they must beat."""
    from ritz.studies.harness import Options, execute_many

    chosen = _chosen(slugs, every, room)
    options = Options(scale=scale, device=device, seed=seed, folder=runs, jobs=min(jobs, len(chosen)))
    reports, interrupted = [], False
    with _live(options.jobs > 1 and not json) as watch:
        try:
            for report in execute_many(chosen, options, (lambda _: None) if json else _show, watch):
                reports.append(report)
                if options.jobs > 1 and not json:
                    print_report(report)
        except KeyboardInterrupt:
            interrupted = True
    _print_outcome(reports, json)
    if interrupted:
        console().print("interrupted; the reports so far are valid")
        raise typer.Exit(130)
    if any(report["status"] == "failed" for report in reports):
        raise typer.Exit(1)
    if strict and any(verdict(report) == "fails" for report in reports):
        raise typer.Exit(3)


def print_report(report: dict) -> None:
    """Print all that a report holds."""
    console().rule(f"{report['slug']} ({report['status']}, {report['seconds']:.0f} s)", align="left")
    for part in ("tables", "notes", "claims"):
        for entry in report[part]:
            _show((part, entry))


def _chosen(slugs: list[str] | None, every: bool, room: str | None) -> list[str]:
    from ritz.studies.registry import find_study, studied_methods

    if sum([bool(slugs), every, room is not None]) != 1:
        raise ValueError("name some methods, or give --all, or --room ROOM: one of the three")
    chosen = list(dict.fromkeys(slugs)) if slugs else [row.slug for row in studied_methods(room=room)]
    if not chosen:
        raise ValueError(f"the room '{room}' has no study yet")
    for slug in chosen:
        find_study(slug)
    return chosen


def _show(shown: tuple[str, object]) -> None:
    from rich.markup import escape

    part, entry = shown
    if part == "tables":
        print_table(entry["title"], entry["columns"], entry["rows"], note=entry["note"])
    elif part == "claims":
        color = {True: "green", False: "red", None: "yellow"}[entry["holds"]]
        paper = f" (paper: {entry['paper']})" if entry["paper"] else ""
        console().print(f"[{color}]{claim_verdict(entry)}[/]: {escape(entry['claim'])} - measured {cell(entry['measured'])}{escape(paper)}")
    elif part == "notes":
        console().print(f"note: {entry}", markup=False)


def _print_outcome(reports: list[dict], json: bool) -> None:
    if json:
        print_json(reports)
        return
    print_table("verdicts", ["method", "claim", "baseline", "measured", "verdict"], verdict_rows(reports), whole=["method", "measured", "verdict"])


@contextmanager
def _live(wanted: bool):
    """Yield a function that shows one bar per running study; does nothing where nobody would see it."""
    from ritz.core import shows_progress

    if not wanted or not shows_progress():
        yield lambda _: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    with Progress(TextColumn("{task.fields[slug]}"), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), transient=True) as bars:
        tasks = {}

        def watch(state: dict[str, dict | None]) -> None:
            for slug in set(tasks) - set(state):
                bars.remove_task(tasks.pop(slug))
            for slug, progress in state.items():
                task = tasks.setdefault(slug, None)
                if task is None:
                    task = tasks[slug] = bars.add_task("starting", slug=slug, total=None)
                if progress:
                    bars.update(task, description=progress["description"], completed=progress["done"], total=progress["total"])

        yield watch
