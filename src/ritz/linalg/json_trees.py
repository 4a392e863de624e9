"""Many JSON values taken apart level by level, so that what happens at one depth happens to all of them at once.

No recursion: a value may be as deep as `DEEPEST`. Members of an object come in the order of their keys, whatever order they are stored in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real

import numpy as np

from ritz.linalg.json_paths import below
from ritz.linalg.json_text import parse_json

DEEPEST = 5_000  # a value that is deeper most likely contains itself
TYPES = ("null", "boolean", "number", "string", "object", "array")


@dataclass
class Level:
    """The nodes of one depth, of all records, in the order of their parents.

    Attributes
    ----------
    values, types : list
        The JSON value of each node and its name in `TYPES`.
    parents : list of int
        The place of its parent in the level above.
    edges : list of str or int
        The key, or the place in the array, that leads to it.
    paths : list of str
        Its path, places in arrays left out.
    """

    values: list = field(default_factory=list)
    types: list[str] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    edges: list[str | int] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    def of_type(self, *types: str) -> np.ndarray:
        """The places of the nodes of some types."""
        return np.flatnonzero([type_ in types for type_ in self.types])

    def sizes(self) -> np.ndarray:
        """The number of members of each node."""
        return np.array([len(value) if type_ in ("object", "array") else 0 for value, type_ in zip(self.values, self.types)], dtype=np.int64)


def levels(values: Sequence[object], name: Callable[[int], str], root: str = "") -> list[Level]:
    """Take values apart.

    Parameters
    ----------
    values : sequence
        JSON values.
    name : callable
        What value i is called in messages.
    root : str
        The path that the values are at.

    Raises
    ------
    TypeError, ValueError
        If something is no JSON value, or no finite number, or nested too deep; the message says where it is.
    """
    found = [Level(list(values), parents=[0] * len(values), edges=[""] * len(values), paths=[root] * len(values))]
    while found[-1].values:
        if len(found) > DEEPEST:
            raise ValueError(f"{_where(found, 0, name)} must nest at most {DEEPEST} deep; does it contain itself?")
        level = found[-1]
        level.types = [_type(value) for value in level.values]
        for i in level.of_type("", "not finite"):
            _refuse(found, int(i), name)
        found.append(_members(level, found, name))
    return found[:-1]


def batches(records: Sequence[object], most: int) -> Iterator[list[object]]:
    """Parse the records that are text, and yield groups of at most `most` nodes, or of one record."""
    group: list[object] = []
    nodes = 0
    for i, record in enumerate(records):
        value = _parsed(record, i)
        size = _size(value, most)
        if group and nodes + size > most:
            yield group
            group, nodes = [], 0
        group.append(value)
        nodes += size
    yield group


def _parsed(record: object, i: int) -> object:
    if not isinstance(record, str):
        return record
    try:
        return parse_json(record)
    except ValueError as error:
        raise ValueError(f"X[{i}] must be JSON: {error}") from error


def _size(value: object, most: int) -> int:
    """The number of nodes, counted to a little more than `most`."""
    count, waiting = 1, [value]
    while waiting and count <= most:
        node = waiting.pop()
        if isinstance(node, dict | list | tuple):
            count += len(node)
            waiting.extend(node.values() if isinstance(node, dict) else node)
    return count


def _type(value: object) -> str:
    if isinstance(value, str):
        return "string"
    if value is None:
        return "null"
    if isinstance(value, bool | np.bool_):
        return "boolean"
    if isinstance(value, Real):
        return "number" if isinstance(value, Integral) or math.isfinite(value) else "not finite"
    if isinstance(value, Mapping):
        return "object"
    return "array" if isinstance(value, list | tuple) else ""


def _members(level: Level, found: list[Level], name: Callable[[int], str]) -> Level:
    below_ = Level()
    known: dict[tuple[str, object], str] = {}
    for parent in level.of_type("object", "array"):
        value, path = level.values[parent], level.paths[parent]
        is_object = level.types[parent] == "object"
        if is_object and not all(isinstance(key, str) for key in value):
            raise TypeError(f"{_where(found, int(parent), name)} must have text as keys, got {next(k for k in value if not isinstance(k, str))!r}")
        for edge, member in ((key, value[key]) for key in sorted(value)) if is_object else enumerate(value):
            below_.values.append(member)
            below_.parents.append(int(parent))
            below_.edges.append(edge)
            step = (path, edge if is_object else None)
            if step not in known:
                known[step] = below(*step)
            below_.paths.append(known[step])
    return below_


def _refuse(found: list[Level], i: int, name: Callable[[int], str]) -> None:
    value = found[-1].values[i]
    where = _where(found, i, name)
    if _type(value) == "not finite":
        raise ValueError(f"{where} must be a finite number, got {value}")
    raise TypeError(f"{where} must be a JSON value (dict, list, text, number, True, False, None), got {type(value).__name__}")


def _where(found: list[Level], i: int, name: Callable[[int], str]) -> str:
    """Say where node i of the last level is, from its record down, places in arrays included."""
    trail: list[str | int] = []
    for level in found[:0:-1]:
        trail.append(level.edges[i])
        i = level.parents[i]
    path = found[0].paths[i]
    for step in reversed(trail):
        path = below(path, step)
    return name(i) + (f" at {path!r}" if path else "")
