"""`ritz list` and `ritz show`: what there is, and how to call it. Neither loads torch before it must."""

from __future__ import annotations

import typer

from ritz.catalogue import Method, method, methods, signature
from ritz.cli.output import print_json, print_table


def list_methods(
    room: str = typer.Option(None, help="Only this room."),
    status: str = typer.Option(None, help="Only these: works, partial or planned."),
    search: str = typer.Option(None, help="Only methods whose slug or title contains this."),
    json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """List the methods of the catalogue."""
    rows = [row for row in methods(room=room, status=status) if not search or search.lower() in f"{row.slug} {row.title}".lower()]
    if json:
        print_json([row.as_dict() for row in rows])
        return
    print_table(None, ["number", "method", "room", "status", "title"], ([r.number, r.slug, r.room, r.status, r.title] for r in rows))


def show_method(
    slug: str = typer.Argument(help="The method, e.g. soap."),
    json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Show one method: its paper, its public names and how to call them, its study."""
    row = method(slug)
    if json:
        print_json(row.as_dict())
        return
    print(f"{row.title}\n{_source(row)}\nroom ritz.{row.room}, status {row.status}" + (f": {row.missing}" if row.missing else ""))
    if row.public:
        _print_public(row)
        print(f"\nmeasure it: ritz study {row.slug}")


def _print_public(row: Method) -> None:
    import inspect

    for name, value in row.objects().items():
        print(f"\nritz.{row.room}.{name}{signature(value)}\n")
        print("\n".join("    " + line for line in (inspect.getdoc(value) or "").splitlines()))
    absent = [name for name in row.public if name not in row.objects()]
    if absent:
        print(f"\nneeds an optional library that is not installed: {', '.join(absent)}")


def _source(row: Method) -> str:
    return (
        ", ".join([str(row.year)] * (row.year is not None) + [f"arXiv:{row.arxiv}"] * (row.arxiv is not None)) or "no year or arXiv number recorded"
    )
