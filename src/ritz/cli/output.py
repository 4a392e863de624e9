"""What all commands print with: tables for people, JSON for scripts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ritz.studies.verdicts import cell

if TYPE_CHECKING:
    from rich.console import Console


def console() -> Console:
    """Standard output; a width of 160 where it is no terminal, so that tables are not folded in files."""
    from rich.console import Console

    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=160)


def print_json(value: object) -> None:
    """Print a value as indented JSON."""
    print(json.dumps(value, indent=1, ensure_ascii=False))


def print_summary(summary: dict, json: bool) -> None:
    """Print what a job did, as JSON or a line for each entry."""
    if json:
        print_json(summary)
    else:
        print("\n".join(f"{name.replace('_', ' ')}: {value}" for name, value in summary.items()))


def print_table(
    title: str | None, columns: Sequence[str], rows: Iterable[Sequence[object]], *, note: str | None = None, whole: Iterable[str] = ()
) -> None:
    """Print a table; numbers to four significant digits, right-aligned; the columns named in `whole` are never folded."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    rows = [list(row) for row in rows]
    table = Table(title=escape(title) if title else None, box=box.SIMPLE_HEAD, title_justify="left", caption=note, caption_justify="left")
    for i, column in enumerate(columns):
        numeric = any(_is_number(row[i]) for row in rows)
        table.add_column(escape(column), justify="right" if numeric else "left", overflow="fold", no_wrap=column in set(whole))
    for row in rows:
        table.add_row(*(escape(cell(value)) for value in row))
    console().print(table)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
