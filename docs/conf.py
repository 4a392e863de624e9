"""Sphinx configuration; the pages of the rooms are written from the catalogue."""

from pathlib import Path

from ritz import __version__
from ritz.catalogue import ROOMS, blocks, methods

project = "ritz"
author = "The ritz developers"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"ritz {__version__}"
exclude_patterns = ["_build"]
autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_rtype = False
myst_heading_anchors = 3
default_role = "code"
suppress_warnings = ["ref.python", "ref.footnote", "docutils"]


def _room_page(room: str) -> str:
    title = f"ritz.{room}"
    built = [row for row in methods(room=room) if row.public]
    sections = [f"{title}\n{'=' * len(title)}\n\n{ROOMS[room]}\n"]
    sections += [_section(row.slug, f"{row.title} ({row.year}){_arxiv(row)}. Status: {row.status}.", room, row.public) for row in built]
    sections += [_section("Building blocks", "What the methods of the room share.", room, blocks(room))] if blocks(room) else []
    return "\n".join(sections)


def _arxiv(row) -> str:
    return f", arXiv:{row.arxiv}" if row.arxiv else ""


def _section(title: str, text: str, room: str, names: tuple[str, ...]) -> str:
    entries = "\n".join(_entry(room, name) for name in names)
    return f"{title}\n{'-' * len(title)}\n\n{text}\n\n{entries}"


def _entry(room: str, name: str) -> str:
    import importlib
    import inspect

    value = getattr(importlib.import_module(f"ritz.{room}"), name)
    kind = "autoclass" if inspect.isclass(value) else "autofunction" if callable(value) else "autodata"
    scikit_learn = ("fit", "partial_fit", "predict", "predict_proba", "decision_function", "score", "transform")
    routing = ", ".join(f"set_{method}_request" for method in scikit_learn)
    members = f"\n   :members:\n   :exclude-members: {routing}" if inspect.isclass(value) else ""
    return f".. {kind}:: ritz.{room}.{name}{members}\n"


def _write_pages() -> None:
    folder = Path(__file__).parent / "api"
    folder.mkdir(exist_ok=True)
    built = [room for room in ROOMS if any(row.public for row in methods(room=room))]
    for room in built:
        (folder / f"{room}.rst").write_text(_room_page(room), encoding="utf-8")
    entries = "\n".join(f"   api/{room}" for room in built)
    (folder.parent / "api.rst").write_text(f"Rooms\n=====\n\n.. toctree::\n   :maxdepth: 2\n\n{entries}\n", encoding="utf-8")


_write_pages()
