"""The `ritz` command.

Exit codes: 0 all is well, 1 something failed to run, 2 wrong usage or bad input,
3 a claim does not hold (or a target is missed) and `--strict` was asked for, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer

from ritz import __version__
from ritz.cli import bench, catalogue, compress, diffusion, graphs, linalg, report, study
from ritz.core import MissingExtra

app = typer.Typer(
    name="ritz",
    help="Published methods that work, each with a study that measures its claim.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ritz {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
) -> None:
    """Published methods that work, each with a study that measures its claim."""


app.command("list")(catalogue.list_methods)
app.command("show")(catalogue.show_method)
app.command("study")(study.study_methods)
app.command("report")(report.write_report)
app.command("bench")(bench.run_benchmarks)
app.add_typer(linalg.app, name="linalg")
app.add_typer(graphs.app, name="graphs")
app.add_typer(diffusion.app, name="diffusion")
app.command("compensate")(compress.compensate)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; bad input ends in one line and exit code 2, a bug in a traceback (RITZ_DEBUG=1 shows it for bad input too)."""
    try:
        app(arguments)
    except (ValueError, OSError, MissingExtra) as error:
        if os.environ.get("RITZ_DEBUG", "") not in ("", "0"):
            raise
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
