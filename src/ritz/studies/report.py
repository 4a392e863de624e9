"""The report page: one static folder with a searchable table of all methods and a page per method. It loads nothing from any other host."""

from __future__ import annotations

import html
import inspect
import re
import shutil
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path

from ritz.catalogue import ROOMS, Method, methods, signature
from ritz.core import write_text
from ritz.studies.harness import read_report
from ritz.studies.registry import studied_methods, study_module
from ritz.studies.verdicts import VERDICTS, cell, claim_verdict, verdict


def write_site(runs: Path, out: Path) -> Path:
    """Write the report page of the reports in `runs` to the folder `out`, and return the path of its index.

    Raises
    ------
    FileNotFoundError
        If there is no folder `runs`.
    """
    if not runs.is_dir():
        raise FileNotFoundError(f"runs: there is no folder '{runs}'; `ritz study` makes it")
    studied = {row.slug for row in studied_methods()}
    reports = {row.slug: read_report(runs, row.slug) for row in methods()}
    verdicts = {row.slug: verdict(reports[row.slug]) if row.slug in studied else "planned" for row in methods()}
    for name in ("style.css", "search.js"):
        write_text(out / name, files("ritz.studies").joinpath("page", name).read_text(encoding="utf-8"))
    for row in methods():
        if row.slug in studied:
            write_text(out / "methods" / f"{row.slug}.html", _method_page(row, reports[row.slug], verdicts[row.slug]))
            _copy_figures(runs / row.slug, out / "methods" / row.slug, reports[row.slug])
    write_text(out / "index.html", _index_page(verdicts, reports, studied))
    return out / "index.html"


def _index_page(verdicts: dict[str, str], reports: dict[str, dict | None], studied: set[str]) -> str:
    counts = Counter(row.status for row in methods())
    built_first = sorted(methods(), key=lambda row: (row.slug not in studied, row.number))
    rows = "\n".join(_index_row(row, verdicts[row.slug], reports[row.slug], row.slug in studied) for row in built_first)
    body = f"""<h1>ritz: methods and verdicts</h1>
<p>Each method of the catalogue, and what its study measured on this machine: the paper's claim against the baseline it must beat.
{counts["works"]} methods work, {counts["partial"]} work in part, {counts["planned"]} are planned.</p>
<form role="search">
<label><span class="soft">Search</span><input type="search" name="search" placeholder="a method, a title, a word"></label>
<label><span class="soft">Room</span>{_select("room", ROOMS, "all rooms")}</label>
<label><span class="soft">Verdict</span>{_select("verdict", [v for v in VERDICTS if v in verdicts.values()], "all verdicts")}</label>
</form>
<p class="soft" id="count">{len(verdicts)} methods</p>
<table class="methods"><thead><tr><th class="number">No.</th><th>Method</th><th>Room</th><th>Paper</th><th>Claims</th><th>Verdict</th></tr></thead>
<tbody>
{rows}
</tbody></table>
<script src="search.js"></script>"""
    return _page("ritz: methods and verdicts", body, home="")


def _index_row(row: Method, word: str, report: dict | None, has_page: bool) -> str:
    slug = f'<a href="methods/{row.slug}.html">{row.slug}</a>' if has_page else row.slug
    claims = report["claims"] if report else []
    held = f"{sum(claim['holds'] is True for claim in claims)} of {len(claims)} hold" if claims and claims[0]["holds"] is not None else ""
    text = html.escape(f"{row.slug} {row.title} {row.room}".lower(), quote=True)
    return (
        f'<tr data-text="{text}" data-room="{row.room}" data-verdict="{word}"><td class="number">{row.number}</td><td>{slug}</td>'
        f'<td data-label="room">{row.room}</td><td>{html.escape(row.title)}{f" ({row.year})" if row.year else ""}</td>'
        f'<td data-label="claims">{held}</td><td>{_mark(word, word)}</td></tr>'
    )


def _method_page(row: Method, report: dict | None, word: str) -> str:
    parts = [
        f"<h1>{html.escape(row.slug)}</h1><p>{html.escape(row.title)}{f' ({row.year})' if row.year else ''}. {_paper_link(row)}</p>",
        f"<p>Room <code>ritz.{row.room}</code>, status {row.status}"
        + (f": {html.escape(row.missing)}" if row.missing else "")
        + f". {_mark(VERDICTS[word], word)}</p>",
        _what_it_is_for(row),
        _how_to_call_it(row),
        _claims(row, report),
        *_measured(row, report),
        _sources(row, report),
    ]
    return _page(f"ritz: {row.slug}", "\n".join(part for part in parts if part), home="../")


def _what_it_is_for(row: Method) -> str:
    """The opening of the file the method lives in: what it does, its source, how it works."""
    homes = dict.fromkeys(inspect.getmodule(value) for value in row.objects().values())
    return "<h2>What it is for</h2>" + "".join(_paragraphs(inspect.getdoc(home) or "") for home in homes) if homes else ""


def _how_to_call_it(row: Method) -> str:
    sections = [_call(row, name, value) for name, value in row.objects().items()]
    return "<h2>How to call it</h2>" + "".join(sections) if sections else ""


def _call(row: Method, name: str, value: object) -> str:
    blocks = "".join(
        f"<pre>{html.escape(block)}</pre>" for block in (f"from ritz.{row.room} import {name}\n\n{name}{signature(value)}", _example(value)) if block
    )
    return f"<h3><code>ritz.{row.room}.{name}</code></h3>{_paragraphs(_opening(value))}{blocks}"


def _claims(row: Method, report: dict | None) -> str:
    if report is None:
        return f"<h2>Claims and what was measured</h2><p>Not run on this machine yet: <code>ritz study {row.slug}</code>.</p>"
    rows = [[c["claim"], c["baseline"], c["measured"], claim_verdict(c), c["paper"]] for c in report["claims"]]
    error = f"<pre>{html.escape(report['error'])}</pre>" if report.get("error") else ""
    text = _paragraphs(report.get("description", ""))
    return f"<h2>Claims and what was measured</h2>{text}{_table(['claim', 'baseline', 'measured', 'verdict', 'the paper says'], rows)}{error}"


def _measured(row: Method, report: dict | None) -> Iterable[str]:
    if report is None:
        return
    for note in report["notes"]:
        yield f'<p class="soft">Note: {html.escape(note)}</p>'
    for figure in report["figures"]:
        source, caption = html.escape(f"{row.slug}/{figure['file']}"), html.escape(figure["caption"])
        yield f'<figure><img src="{source}" alt="{caption}" loading="lazy"><figcaption>{caption}</figcaption></figure>'
    for table in report["tables"]:
        note = f'<p class="soft">{html.escape(table["note"])}</p>' if table["note"] else ""
        yield f"<h3>{html.escape(table['title'])}</h3>{_table(table['columns'], table['rows'])}{note}"


def _sources(row: Method, report: dict | None) -> str:
    modules = dict.fromkeys(inspect.getmodule(value).__name__ for value in row.objects().values())
    entries = [("method", ", ".join(f"src/{module.replace('.', '/')}.py" for module in modules))] if modules else []
    entries.append(("study", f"src/{study_module(row).replace('.', '/')}.py, run by: ritz study {row.slug}"))
    if report is not None:
        entries += [
            ("measured", f"{report['started']}, {report['seconds']:.0f} s, scale {report['scale']}, {report['device']}, first seed {report['seed']}")
        ]
        entries += [(name, str(value)) for name, value in report.get("environment", {}).items() if value is not None]
    return "<h2>Source</h2><dl>" + "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in entries) + "</dl>"


def _page(title: str, body: str, *, home: str) -> str:
    back = f'<p><a href="{home}index.html">all methods</a></p>' if home else ""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title><link rel="stylesheet" href="{home}style.css"><link rel="icon" href="data:,"></head>
<body>
{back}
{body}
</body></html>
"""


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    if not rows:
        return ""
    numeric = [any(isinstance(row[i], int | float) and not isinstance(row[i], bool) for row in rows) for i in range(len(columns))]
    kinds = [' class="number"' if is_number else "" for is_number in numeric]
    head = "".join(f"<th{kind}>{html.escape(column)}</th>" for column, kind in zip(columns, kinds))
    body = "".join("<tr>" + "".join(f"<td{kind}>{_marked_cell(value)}</td>" for value, kind in zip(row, kinds)) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _marked_cell(value: object) -> str:
    words = {"holds": "holds", "does not hold": "fails", "not judged": "measured"}
    return _mark(value, words[value]) if isinstance(value, str) and value in words else html.escape(cell(value))


def _mark(text: str, word: str) -> str:
    return f'<span class="verdict {word.replace(" ", "-")}">{html.escape(text)}</span>'


def _select(name: str, options: Iterable[str], everything: str) -> str:
    return f'<select name="{name}"><option value="">{everything}</option>' + "".join(f"<option>{option}</option>" for option in options) + "</select>"


def _paper_link(row: Method) -> str:
    return f'<a href="https://arxiv.org/abs/{row.arxiv}">arXiv:{row.arxiv}</a>' if row.arxiv else ""


def _opening(value: object) -> str:
    """The docstring before its first numpydoc section."""
    return re.split(r"\n[A-Z][a-z ]+\n-{3,}", inspect.getdoc(value) or "")[0].strip()


def _example(value: object) -> str:
    """The lines of the docstring's example."""
    _, found, example = (inspect.getdoc(value) or "").partition("Examples\n--------\n")
    return example.split("\n\n\n")[0].strip() if found else ""


def _paragraphs(text: str) -> str:
    """Docstring text as HTML: paragraphs, with indented ones (formulas) kept as they stand."""
    return "".join(_paragraph(paragraph) for paragraph in re.split(r"\n\s*\n", html.escape(text)) if paragraph.strip())


def _paragraph(text: str) -> str:
    lines = text.strip("\n").splitlines()
    if all(line.startswith("    ") for line in lines):
        return f"<pre>{textwrap.dedent(text.strip(chr(10)))}</pre>"
    return "<p>" + re.sub(r"``?([^`]+)``?", r"<code>\1</code>", text) + "</p>"


def _copy_figures(source: Path, target: Path, report: dict | None) -> None:
    for figure in report["figures"] if report else []:
        if (source / figure["file"]).exists():
            target.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / figure["file"], target / figure["file"])
