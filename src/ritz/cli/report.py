"""`ritz report`: turn the reports of the studies into one static page."""

from __future__ import annotations

from pathlib import Path

import typer


def write_report(
    runs: Path = typer.Option(Path("runs"), help="The folder that holds the reports."),
    out: Path = typer.Option(None, help="Where the page goes; default: report/ in the folder of the runs."),
) -> None:
    """Write the report page: a searchable table of all methods, and a page per method."""
    from ritz.studies.report import write_site

    index = write_site(runs, out or runs / "report")
    print(f"report page: {index.resolve()}")
