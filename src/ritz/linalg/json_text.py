"""Strict JSON text to values: no NaN, no Infinity, no number that overflows, no key twice, any depth."""

from __future__ import annotations

import json
import math
import re

_SPACE = re.compile(r"[ \t\n\r]*")
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
_WORDS = {"true": True, "false": False, "null": None}


def parse_json(text: str) -> object:
    """Parse one JSON text.

    Raises
    ------
    ValueError
        If it is no JSON, or has a key twice in one object, or NaN, Infinity or a number too large for a float.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)
    except RecursionError:
        return _parse_deep(text)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f"the key {twice!r} comes twice in one object")
    return found


def _no_constant(word: str) -> float:
    raise ValueError(f"{word} is no JSON number")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"the number {digits} is too large")
    return value


def _parse_deep(text: str) -> object:
    """Parse without recursion: open containers are on a stack. Objects are lists of pairs until they are closed."""
    reader = _Reader(text)
    open_: list[tuple[str, list]] = []
    while True:
        reader.skip_space()
        if reader.accept("["):
            open_.append(("]", []))
            if not reader.accept("]"):
                continue
            value: object = open_.pop()[1]
        elif reader.accept("{"):
            open_.append(("}", []))
            if not reader.accept("}"):
                open_[-1][1].append(reader.key())
                continue
            value = _unique(open_.pop()[1])
        else:
            value = reader.scalar()
        while open_:
            closing, members = open_[-1]
            members.append((members.pop(), value) if closing == "}" else value)
            if reader.accept(","):
                if closing == "}":
                    members.append(reader.key())
                break
            reader.expect(closing)
            open_.pop()
            value = _unique(members) if closing == "}" else members
        if not open_:
            reader.expect_end()
            return value


class _Reader:
    """A place in a JSON text."""

    def __init__(self, text: str):
        self.text, self.place = text, 0

    def skip_space(self) -> None:
        self.place = _SPACE.match(self.text, self.place).end()

    def accept(self, mark: str) -> bool:
        self.skip_space()
        found = self.text.startswith(mark, self.place)
        self.place += len(mark) if found else 0
        return found

    def expect(self, mark: str) -> None:
        if not self.accept(mark):
            raise json.JSONDecodeError(f"Expecting {mark!r}", self.text, self.place)

    def expect_end(self) -> None:
        self.skip_space()
        if self.place != len(self.text):
            raise json.JSONDecodeError("Extra data", self.text, self.place)

    def key(self) -> str:
        self.expect('"')
        key, self.place = json.decoder.scanstring(self.text, self.place)
        self.expect(":")
        return key

    def scalar(self) -> object:
        if self.accept('"'):
            value, self.place = json.decoder.scanstring(self.text, self.place)
            return value
        for word, value in _WORDS.items():
            if self.accept(word):
                return value
        number = _NUMBER.match(self.text, self.place)
        if number is None:
            raise json.JSONDecodeError("Expecting value", self.text, self.place)
        self.place = number.end()
        return _finite(number.group()) if number.group(1) or number.group(2) else int(number.group())
