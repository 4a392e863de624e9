r"""Paths into JSON values, written as ``patient.labs[2].name``: keys joined by dots, places in arrays in brackets.

In a key, a backslash comes before each of ``. [ ] \``. ``labs[].name`` is the path of all places of the array at once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ritz.core import integer

_SPECIAL = re.compile(r"[.\[\]\\]")
_STEP = re.compile(r"\[(\d+)\]|(\.?)((?:[^.\[\]\\]|\\.)*)", re.DOTALL)


def below(path: str, step: str | int | None) -> str:
    """The path one step further: into a key, a place, or (None) any place of an array."""
    if isinstance(step, str):
        key = _SPECIAL.sub(r"\\\g<0>", step)
        return f"{path}.{key}" if path else key
    return f"{path}[{'' if step is None else step}]"


def steps(path: str | Sequence[str | int]) -> list[str | int]:
    """The keys and places of a path, which may also be given as their sequence (a first key that is empty cannot be written otherwise).

    Examples
    --------
    >>> steps(r"patient.labs[2].dotted\\.name")
    ['patient', 'labs', 2, 'dotted.name']
    """
    if not isinstance(path, str):
        return _checked_steps(path)
    found: list[str | int] = []
    place = 0
    while place < len(path):
        step = _STEP.match(path, place)
        bracket, dot, key = step.groups()
        if bracket is not None:
            found.append(int(bracket))
        elif step.end() == place or bool(dot) != bool(found):
            raise ValueError(f"path must be like 'patient.labs[2].name', got {path!r}, which ends to make sense at character {place}")
        else:
            found.append(re.sub(r"\\(.)", r"\1", key, flags=re.DOTALL))
        place = step.end()
    return found


def _checked_steps(path: Sequence[str | int]) -> list[str | int]:
    if not isinstance(path, Sequence) or isinstance(path, bytes):
        raise TypeError(f"path must be text like 'patient.labs[2].name', or a sequence of keys and places, got {type(path).__name__}")
    return [step if isinstance(step, str) else integer(step, "path", at_least=0) for step in path]
