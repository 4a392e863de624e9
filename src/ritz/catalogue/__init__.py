"""The list of methods: one TOML file per room, one `[[method]]` row per paper.

Examples
--------
>>> method("soap").title
'SOAP: Improving and Stabilizing Shampoo using Adam'
>>> len(methods())
137
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import inspect
import tomllib
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

from ritz.core import MissingExtra

Status = Literal["works", "partial", "planned"]

ROOMS = {
    "linalg": "operators, sketches, eigenproblems, structured and integer matrix products",
    "optim": "optimizers, second-order and compressed preconditioners, programs with guarantees, private and derivative-free methods",
    "sequence": "state-space layers, linear recurrences, monarch mixers, attention variants, decoding",
    "diffusion": "samplers, schedules, guidance, bridges, discrete and distributed diffusion",
    "inference": "Gaussian processes, particle methods, manifold statistics, spectral and causal estimators",
    "graphs": "graph networks, encodings, partitioning, random walks, generation",
    "pde": "learned and classical solvers, operator learning, physics-informed methods",
    "compress": "pruning, low rank, quantization, merging, adapters",
    "recommend": "embeddings, ranking losses, graph recommenders, retrieval",
    "imaging": "restoration, super-resolution, coding, meshes, magnetic resonance",
    "distributed": "decentralized and federated training, robust aggregation, compressed and overlapped communication",
}


@dataclass(frozen=True)
class Method:
    """One row of the catalogue."""

    number: int
    slug: str
    title: str
    room: str
    public: tuple[str, ...]
    status: Status
    year: int | None = None
    arxiv: str | None = None
    missing: str | None = None

    @property
    def module_name(self) -> str:
        """The slug as a Python module name: the name of the method's study file."""
        return self.slug.replace("-", "_")

    def objects(self) -> dict[str, object]:
        """Import the method's public functions and classes; those whose optional library is not installed are left out."""
        room, found = importlib.import_module(f"ritz.{self.room}"), {}
        for name in self.public:
            with contextlib.suppress(MissingExtra):
                found[name] = getattr(room, name)
        return found

    def as_dict(self) -> dict[str, object]:
        """The row as plain values, for JSON."""
        return asdict(self)


def methods(*, room: str | None = None, status: Status | None = None) -> list[Method]:
    """Return the methods in the order of their numbers, of one room or status if asked.

    Raises
    ------
    ValueError
        If there is no such room or status.
    """
    _known(room, "room", list(ROOMS))
    _known(status, "status", ["works", "partial", "planned"])
    return [row for row in _rows() if room in (None, row.room) and status in (None, row.status)]


def method(slug: str) -> Method:
    """Return the method with this slug.

    Raises
    ------
    ValueError
        If there is none; the message suggests near ones.
    """
    by_slug = {row.slug: row for row in _rows()}
    _known(slug, "method", list(by_slug))
    return by_slug[slug]


def blocks(room: str) -> tuple[str, ...]:
    """Return the public names of a room that are shared building blocks, not methods."""
    return tuple(_table(room)["blocks"])


def room_table() -> str:
    """Return the counts of methods by room and status as a Markdown table: what the README shows."""
    statuses = ("works", "partial", "planned")
    counts = {room: [len(methods(room=room, status=status)) for status in statuses] for room in ROOMS}
    rows = [f"| `ritz.{room}` | {ROOMS[room]} | {' | '.join(map(str, numbers))} |" for room, numbers in counts.items()]
    totals = " | ".join(str(sum(column)) for column in zip(*counts.values()))
    return "\n".join(["| room | its methods | works | partial | planned |", "| --- | --- | ---: | ---: | ---: |", *rows, f"| | | {totals} |"])


def signature(value: object) -> str:
    """Return how a public object is called, without annotations and one argument a line where it is long; empty where it has no signature.

    Examples
    --------
    >>> signature(method)
    '(slug)'
    """
    try:
        found = inspect.signature(value)
    except (TypeError, ValueError):
        return ""
    plain = [parameter.replace(annotation=parameter.empty) for parameter in found.parameters.values()]
    line = str(found.replace(parameters=plain, return_annotation=found.empty))
    return line if len(line) <= 100 else f"(\n    {_wrapped(plain)}\n)"


def _wrapped(parameters: list[inspect.Parameter]) -> str:
    lines = []
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in lines:
            lines.append("*")
        lines.append(str(parameter))
    return ",\n    ".join(lines)


@cache
def _rows() -> tuple[Method, ...]:
    rows = (Method(room=room, **(row | {"public": tuple(row["public"])})) for room in ROOMS for row in _table(room)["method"])
    return tuple(sorted(rows, key=lambda row: row.number))


@cache
def _table(room: str) -> dict:
    return tomllib.loads(files(__package__).joinpath(f"{room}.toml").read_text(encoding="utf-8"))


def _known(value: str | None, what: str, options: list[str]) -> None:
    if value is None or value in options:
        return
    near = difflib.get_close_matches(value, options, n=3) or (options if len(options) <= 12 else [])
    raise ValueError(f"there is no {what} '{value}'" + (f"; did you mean {', '.join(near)}?" if near else ""))
