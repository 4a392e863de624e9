"""Numbers and texts as vectors: near numbers and texts that share words or trigrams get similar vectors."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import scipy.sparse

from ritz.core import array
from ritz.linalg.keyed_randomness import keyed_generator
from ritz.linalg.orthogonal_families import Rotation, semi_orthogonal
from ritz.linalg.vector_symbols import symbol_vectors

THRESHOLDS = 33
LARGEST = 2.0**53  # beyond it a JSON number need not be an exact integer; a number of unknown range is placed on a signed-log scale up to it
_WORD = re.compile(r"\w+")


def floats(values: Sequence[float]) -> np.ndarray:
    """Numbers as floats; integers that are too large for one are cut."""
    largest = int(sys.float_info.max)
    return np.array([float(min(max(value, -largest), largest)) for value in values])


def position(x: np.ndarray, knots: np.ndarray | None) -> np.ndarray:
    """Place numbers in [0, 1]: by linear interpolation between the sorted knots of their path, clamped, or by sign and logarithm without any."""
    if knots is None:
        return 0.5 + 0.5 * np.sign(x) * np.log1p(np.minimum(np.abs(x), LARGEST)) / np.log1p(LARGEST)
    if knots[0] == knots[-1]:
        return 0.5 + 0.5 * np.sign(x - knots[0])
    return np.interp(x / 4, knots / 4, np.linspace(0.0, 1.0, len(knots)))  # quartered, so that no difference overflows


def thermometer_weights(u: np.ndarray) -> np.ndarray:
    """The weights (n, 2 THRESHOLDS) of the vectors of thresholds passed and of thresholds ahead.

    A threshold that is passed shows one vector and one that is ahead another, so every number has as many of them, and the cosine of two numbers
    falls linearly with their distance. The threshold next to the number shows both, in proportion.
    """
    passed = np.clip(u[:, None] * (THRESHOLDS - 1) - np.arange(THRESHOLDS) + 1, 0.0, 1.0)
    weights = np.hstack([passed, 1 - passed])
    return weights / np.linalg.norm(weights, axis=1, keepdims=True)


def angle_weights(u: np.ndarray) -> np.ndarray:
    """The weights (n, 2) of the vectors of the lowest and the highest number: a quarter of a circle."""
    return np.stack([np.cos(np.pi * u / 2), np.sin(np.pi * u / 2)], axis=1)


class NumberVectors:
    """Vectors (n, D) of numbers, for the places in [0, 1] that they have in their ranges."""

    def __init__(self, D: int, seed: int):
        self.thermometer = symbol_vectors([f"threshold {side} {j}" for side in ("passed", "ahead") for j in range(THRESHOLDS)], D, seed)
        lowest, highest = symbol_vectors(["number lowest", "number highest"], D, seed).astype(np.float64)
        highest = highest - (highest @ lowest) * lowest
        self.circle = np.array([lowest, highest / np.linalg.norm(highest)] if D > 1 else [lowest, lowest], np.float32)

    def __call__(self, u: np.ndarray, *, circle: bool) -> np.ndarray:
        """Encode by the angle on a quarter circle, or by a thermometer."""
        weights, vectors = (angle_weights(u), self.circle) if circle else (thermometer_weights(u), self.thermometer)
        return scipy.sparse.csr_array(weights.astype(np.float32)) @ vectors  # a dense product's bits would depend on the other rows


def words(text: str) -> list[str]:
    """The words of a text in lower case, marked as words; a text without any counts as one symbol."""
    found = _WORD.findall(text.lower())
    return [f"word {word}" for word in found] if found else whole(text)


def trigrams(text: str) -> list[str]:
    """The runs of three characters of a text in lower case, with a space at either end."""
    padded = f" {text.lower()} "
    return [f"trigram {padded[i : i + 3]}" for i in range(len(padded) - 2)] or whole(text)


def whole(text: str) -> list[str]:
    """The text as one symbol."""
    return [f"text {text}"]


class TextVectors:
    """Vectors (n, D) of texts.

    Parameters
    ----------
    strings : "words", "token", "trigrams" or callable
        What a text is made of, or an embedding: it takes a list of n texts and returns an array (n, d).
    D, seed : int
        Size and seed of the vectors.
    step : Rotation or None
        The matrix that puts words in order.
    root : bool
        Divide a sum of words by the square root of their number.
    """

    def __init__(self, strings: str | Callable, D: int, seed: int, *, step: Rotation | None, root: bool):
        self.strings, self.D, self.seed, self.step, self.root = strings, D, seed, step, root

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Encode texts; equal ones are computed once."""
        places: dict[str, int] = {}
        inverse = [places.setdefault(text, len(places)) for text in texts]
        different = list(places)
        return (self._embedded(different) if callable(self.strings) else self._composed(different))[inverse]

    def _embedded(self, texts: list[str]) -> np.ndarray:
        embedding = array(self.strings(texts), "strings(texts)", ndim=2)
        if embedding.shape[0] != len(texts):
            raise ValueError(f"strings must return a row for each of {len(texts)} texts, got shape {tuple(embedding.shape)}")
        lift = semi_orthogonal(self.D, embedding.shape[1], keyed_generator(f"embedding {embedding.shape[1]}", self.seed))
        return (np.asarray(embedding, np.float64) @ lift.T).astype(np.float32)

    def _composed(self, texts: list[str]) -> np.ndarray:
        parts = [{"words": words, "token": whole, "trigrams": trigrams}[self.strings](text) if text else ["text empty"] for text in texts]
        lengths = np.array([len(symbols) for symbols in parts])
        vocabulary: dict[str, int] = {}
        columns = np.array([vocabulary.setdefault(symbol, len(vocabulary)) for symbols in parts for symbol in symbols])
        vectors = symbol_vectors(vocabulary, self.D, self.seed)
        if self.strings == "words" and self.step is not None:
            found = horner(vectors[columns], lengths, self.step)
        else:
            found = (self._counts(columns, lengths, len(vocabulary)) @ vectors).astype(np.float32, copy=False)
        return found / np.sqrt(lengths, dtype=np.float32)[:, None] if self.root and self.strings == "words" else found

    def _counts(self, columns: np.ndarray, lengths: np.ndarray, width: int) -> scipy.sparse.csr_array:
        """How often a text has each symbol; trigrams, whose number is the length of a text and not its weight, scaled to norm one."""
        counts = scipy.sparse.csr_array(
            (np.ones(len(columns), np.float32), columns, np.concatenate([[0], np.cumsum(lengths)])), shape=(len(lengths), width)
        )
        counts.sum_duplicates()
        if self.strings == "trigrams":
            counts.data /= np.repeat(np.sqrt(counts.power(2).sum(axis=1)), np.diff(counts.indptr)).astype(np.float32)
        return counts


def horner(rows: np.ndarray, lengths: np.ndarray, step: Rotation) -> np.ndarray:
    """Sequences ``x_1 + Q x_2 + Q^2 x_3 + ...`` of groups of rows: of the first lengths[0] rows, of the lengths[1] after them, and so on."""
    starts = np.cumsum(lengths) - lengths
    found = np.zeros((len(lengths), rows.shape[1]), rows.dtype)
    for i in range(int(lengths.max(initial=0)) - 1, -1, -1):
        longer, as_long = np.flatnonzero(lengths > i + 1), np.flatnonzero(lengths > i)
        if len(longer):
            found[longer] = step.rows(found[longer])
        found[as_long] += rows[starts[as_long] + i]
    return found


def knots_of(ranges: Mapping[str, Iterable[float]]) -> dict[str, np.ndarray]:
    """Ranges (lowest, highest) as arrays of knots."""
    return {path: np.array(bounds, dtype=np.float64) for path, bounds in ranges.items()}
