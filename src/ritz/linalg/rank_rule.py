"""How many directions of a matrix to keep: a count, a fraction, an energy, a threshold, or a budget over several matrices."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Literal

import numpy as np

from ritz.core import array, integer, real, to_numpy


@dataclass(frozen=True)
class RankRule:
    """How many directions of a matrix to keep.

    Parameters
    ----------
    kind : {"rank", "fraction", "energy", "threshold", "budget"}
        - ``rank``: `value` directions, or all if there are fewer;
        - ``fraction``: this fraction of ``min(rows, columns)``, rounded, at least one where it is above zero;
        - ``energy``: the fewest whose squared singular values reach this fraction of the sum of all;
        - ``threshold``: those with a singular value above `value`;
        - ``budget``: as many as `value` stored numbers pay for, where a direction of an (o, i) matrix costs ``o + i``; over several matrices
          the directions with the largest squared singular value per number come first.
    value : float
        What the kind needs.

    Examples
    --------
    >>> RankRule.of("energy:0.8").choose([3.0, 1.0, 0.1], (3, 5))
    1
    >>> RankRule.of(0.5).choose([3.0, 1.0, 0.1, 0.0], (4, 6))
    2
    >>> RankRule("budget", 24).allocate({"a": ([3.0, 2.0], (4, 4)), "b": ([2.5, 0.1], (2, 4))})
    {'a': 2, 'b': 1}
    """

    kind: Literal["rank", "fraction", "energy", "threshold", "budget"]
    value: float

    def __post_init__(self) -> None:
        checks = {
            "rank": lambda value: integer(value, "value", at_least=0),
            "fraction": lambda value: real(value, "value", at_least=0, at_most=1),
            "energy": lambda value: real(value, "value", above=0, at_most=1),
            "threshold": lambda value: real(value, "value", at_least=0),
            "budget": lambda value: integer(value, "value", at_least=0),
        }
        if not isinstance(self.kind, str) or self.kind not in checks:
            raise (ValueError if isinstance(self.kind, str) else TypeError)(f"kind must be one of {', '.join(map(repr, checks))}, got {self.kind!r}")
        object.__setattr__(self, "value", checks[self.kind](self.value))

    @classmethod
    def of(cls, rank: RankRule | int | float | str) -> RankRule:
        """Read a rule: an int is a rank, a float a fraction, a text either of them or ``"kind:value"``.

        Raises
        ------
        TypeError, ValueError
            If `rank` is none of these, or out of range.
        """
        if isinstance(rank, RankRule):
            return rank
        if isinstance(rank, bool) or not isinstance(rank, Integral | Real | str):
            raise TypeError(f"rank must be an integer, a fraction, a text such as 'energy:0.9' or a RankRule, got {type(rank).__name__}")
        try:
            return cls(*_kind_and_value(rank))
        except (ValueError, TypeError) as error:
            raise ValueError(f"rank must be a count, a fraction up to 1.0 or a text such as 'energy:0.9', got {rank!r}: {error}") from None

    @property
    def needs_spectrum(self) -> bool:
        """Whether the rule looks at the singular values, not only at the shape."""
        return self.kind in ("energy", "threshold", "budget")

    def choose(self, singular_values: Sequence[float], shape: tuple[int, int]) -> int:
        """Return the rank for one matrix of this shape with these singular values, descending (unused by ``rank`` and ``fraction``)."""
        most = min(shape)
        if self.kind == "rank":
            return min(self.value, most)
        if self.kind == "fraction":
            return max(round(self.value * most), 1 if self.value > 0 else 0)
        squares = _descending(singular_values) ** 2
        if self.kind == "energy":
            reached = np.cumsum(squares)
            return int(np.searchsorted(reached, self.value * reached[-1])) + 1 if squares.any() else 0
        if self.kind == "threshold":
            return int(np.sum(squares > self.value**2))
        return min(int(self.value // sum(shape)), int(np.sum(squares > 0)))

    def allocate(self, layers: Mapping[str, tuple[Sequence[float], tuple[int, int]]]) -> dict[str, int]:
        """Return the rank of every matrix, given the singular values and the shape of each; only ``budget`` weighs them against each other."""
        if self.kind != "budget":
            return {name: self.choose(values, shape) for name, (values, shape) in layers.items()}
        ranks, left = dict.fromkeys(layers, 0), self.value
        spectra = {name: _descending(values) ** 2 for name, (values, _) in layers.items()}
        costs = {name: sum(shape) for name, (_, shape) in layers.items()}
        waiting = [(-spectrum[0] / costs[name], name) for name, spectrum in spectra.items() if len(spectrum)]
        heapq.heapify(waiting)
        while waiting:
            gain, name = heapq.heappop(waiting)
            if gain == 0 or costs[name] > left:
                continue
            left -= costs[name]
            ranks[name] += 1
            if ranks[name] < len(spectra[name]):
                heapq.heappush(waiting, (-spectra[name][ranks[name]] / costs[name], name))
        return ranks


def _kind_and_value(rank: int | float | str) -> tuple[str, float]:
    if isinstance(rank, str):
        kind, colon, value = rank.rpartition(":")
        value = int(value) if value.strip().lstrip("-").isdigit() else float(value)
        return (kind, value) if colon else _kind_and_value(value)
    return ("rank", rank) if isinstance(rank, Integral) else ("fraction", rank)


def _descending(singular_values: Sequence[float]) -> np.ndarray:
    return array(to_numpy(singular_values, "singular_values"), "singular_values", ndim=1).astype(np.float64)
