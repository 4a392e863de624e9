"""From JSON values, taken apart level by level, to vectors: leaves first, then what holds them, grouped by key, for many records at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ritz.linalg.json_leaves import NumberVectors, TextVectors, floats, horner, knots_of, position
from ritz.linalg.json_trees import TYPES, Level
from ritz.linalg.vector_symbols import symbol_vectors

if TYPE_CHECKING:
    from ritz.linalg.json_vectorizer import JSONVectorizer
    from ritz.linalg.orthogonal_families import OrthogonalFamily

ITEM, NEXT = "[]", "[next]"  # the names of the matrices of arrays; those of keys begin with a dot


class RecordEncoder:
    """The way from the levels of JSON values to vectors.

    Parameters
    ----------
    options : JSONVectorizer
        Its options, and what it has learned.
    family : OrthogonalFamily
        The matrices of keys and arrays.
    """

    def __init__(self, options: JSONVectorizer, family: OrthogonalFamily):
        D, seed = options.n_features, options.seed
        self.options, self.D = options, D
        self.root = options.normalize == "sqrt"
        self.family = family
        self.number_vectors = NumberVectors(D, seed)
        self.text_vectors = TextVectors(options.strings, D, seed, step=self.family[NEXT] if options.word_order else None, root=self.root)
        names = [*(f"type {name}" for name in TYPES), "null", "true", "false", "object empty", "array empty"]
        self.fixed = dict(zip(names, symbol_vectors(names, D, seed)))
        self.knots = getattr(options, "number_knots_", None) or knots_of(options.number_ranges or {})
        self.identifiers = getattr(options, "identifier_paths_", frozenset())

    def __call__(self, tree: list[Level]) -> np.ndarray:
        """Encode values from their leaves up: float32 (n, D)."""
        rows = np.zeros((0, self.D), np.float32)
        for level, below in zip(reversed(tree), [None, *reversed(tree)]):
            rows = self._level(level, below, rows)
        return rows

    def _level(self, level: Level, below: Level | None, members: np.ndarray) -> np.ndarray:
        """Encode the nodes of a level, given the vectors of the members of its objects and arrays."""
        rows = np.zeros((len(level.values), self.D), np.float32)
        self._add_numbers(level, rows)
        self._add_texts(level, rows)
        if below is not None:
            self._add_objects(level, below, members, rows)
            self._add_arrays(level, below, members, rows)
            if self.root:
                rows /= np.sqrt(np.maximum(level.sizes(), 1)).astype(np.float32)[:, None]
        self._add_fixed(level, rows)
        return rows

    def _add_numbers(self, level: Level, rows: np.ndarray) -> None:
        by_path: dict[str, list[int]] = {}
        for i in level.of_type("number"):
            by_path.setdefault(level.paths[i], []).append(int(i))
        for path, places in by_path.items():
            if path in self.identifiers:
                rows[places] = self.text_vectors([str(level.values[i]) for i in places])
                continue
            knots = self.knots.get(path)
            circle = self.options.numbers == "sincos" or (self.options.numbers == "auto" and knots is not None)
            rows[places] = self.number_vectors(position(floats([level.values[i] for i in places]), knots), circle=circle)

    def _add_texts(self, level: Level, rows: np.ndarray) -> None:
        places = level.of_type("string")
        if len(places):
            rows[places] = self.text_vectors([level.values[i] for i in places])

    def _add_objects(self, level: Level, below: Level, members: np.ndarray, rows: np.ndarray) -> None:
        by_key: dict[str, list[int]] = {}
        for j, edge in enumerate(below.edges):
            if isinstance(edge, str):
                by_key.setdefault(edge, []).append(j)
        keys = sorted(by_key)
        weight = np.float32(self.options.key_weight)
        presence = weight * symbol_vectors([f"key {key}" for key in keys], self.D, self.options.seed)
        parents = np.array(below.parents)
        for key, vector in zip(keys, presence):
            places = np.array(by_key[key])
            bound = self.family[key_name(key)].rows(members[places])
            bound += vector
            rows[parents[places]] += bound

    def _add_arrays(self, level: Level, below: Level, members: np.ndarray, rows: np.ndarray) -> None:
        arrays = level.of_type("array")
        places = np.flatnonzero([not isinstance(edge, str) for edge in below.edges])
        if not len(places):
            return
        lengths, item = level.sizes()[arrays], self.family[ITEM]
        if self.options.arrays == "sequence":
            rows[arrays] = horner(item.rows(members[places]), lengths, self.family[NEXT])
        else:
            filled = arrays[lengths > 0]
            starts = np.cumsum(lengths[lengths > 0]) - lengths[lengths > 0]
            rows[filled] = item.rows(np.add.reduceat(members[places], starts, axis=0))

    def _add_fixed(self, level: Level, rows: np.ndarray) -> None:
        """Add the vectors of types, and those of values that have one of their own."""
        by_name: dict[str, list[int]] = {}
        for i, (value, type_) in enumerate(zip(level.values, level.types)):
            by_name.setdefault(f"type {type_}", []).append(i)
            if type_ in ("null", "boolean") or (type_ in ("object", "array") and not value):
                by_name.setdefault(_own_name(value, type_), []).append(i)
        weight = np.float32(self.options.type_weight)
        for name, places in by_name.items():
            rows[places] += self.fixed[name] * (weight if name.startswith("type ") else np.float32(1))


def _own_name(value: object, type_: str) -> str:
    if type_ == "boolean":
        return "true" if value else "false"
    return type_ if type_ == "null" else f"{type_} empty"


def key_name(key: str) -> str:
    return f".{key}"
