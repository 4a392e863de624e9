"""Formulas found for e, e^2, tan(1) and a ratio of Bessel functions; none for random numbers; and what matching values finds in the same time."""

from __future__ import annotations

import time
from itertools import product

import mpmath
import numpy as np
import sympy

from ritz.core import random_generator
from ritz.linalg import Conjecture, find_conjectures, signed_continued_fraction
from ritz.linalg.conjectures import left_sides
from ritz.linalg.continued_fractions import convergents, quotient
from ritz.studies import Run, study

CONSTANTS = {
    "e": sympy.E,
    "e^2": sympy.exp(2),
    "tan(1)": sympy.tan(1),
    "I_1(2)/I_0(2)": sympy.besseli(1, 2) / sympy.besseli(0, 2),
}
DEPTH = 60  # of the baseline's fractions
CHUNK = 20_000


@study("esma-integer-sequences", minutes=2)
def study_conjectures(run: Run) -> None:
    """Berlekamp-Massey on signed continued fractions finds the published formulas of e and others, and nothing in random numbers."""
    _constants(run)
    _random_numbers(run)


def _constants(run: Run) -> None:
    rows, found_by_name = [], {}
    first = run.pick(smoke=1, default=2)
    for name, limit in run.progress([(name, limit) for name in CONSTANTS for limit in run.pick(smoke=(1,), default=(2, 3))], "constants"):
        start = time.perf_counter()
        found = find_conjectures(CONSTANTS[name], coefficient_limit=limit, sign_periods=(1, 2))
        seconds = time.perf_counter() - start
        matched, tried = by_value(CONSTANTS[name], limit, seconds)
        found_by_name[name, limit] = found
        known = {str(each.sympy_expression) for each in found}
        rows.append({"constant": name, "limit": limit, "found": len(found), "seconds": seconds, "matching: fractions tried": tried})
        rows[-1] |= {"matching: found": len(matched), "found by both": len(known & matched)}
    run.table("values with a verified formula, degree 1, periods 1 and 2; matching by value gets the same time", rows)
    published = find_conjectures(sympy.E, sign_periods=(2, 2))
    run.claim("e, limit 2, periods of length 2: exactly 13 values", measured=len(published), holds=len(published) == 13, paper="13 (its own test)")
    for name in list(CONSTANTS)[1:]:
        run.claim(f"{name}: at least one verified formula", measured=len(found_by_name[name, first]), holds=len(found_by_name[name, first]) >= 1)
    _faster_than_simple(run, {name: found_by_name[name, first] for name in CONSTANTS})


def _faster_than_simple(run: Run, found: dict[str, list[Conjecture]]) -> None:
    """Where a formula with mixed or negative signs and the simple continued fraction of the same number are both known, compare their rates."""
    rows = []
    for name, conjectures in found.items():
        for each in conjectures:
            signed = [one for one in (each, *each.alternatives) if set(one.signs) != {1}]
            if signed:
                best = max(signed, key=lambda one: one.digits_per_term)
                simple = simple_rate(each.sympy_expression)
                row = {"constant": name, "expression": each.expression, "signs": str(best.signs), "digits per term": best.digits_per_term}
                rows.append(row | {"simple fraction": simple, "ratio": best.digits_per_term / simple})
    rows.sort(key=lambda row: -row["ratio"])
    run.table("digits per term against the simple continued fraction of the same number", rows[:12], note=f"the best 12 of {len(rows)}")
    run.claim(
        "a formula that has more digits per term than its number's simple continued fraction (the greatest ratio)",
        baseline="simple continued fraction",
        measured=rows[0]["ratio"],
        holds=rows[0]["ratio"] > 1,
    )


def simple_rate(expression: sympy.Expr, terms: int = 200) -> float:
    """Digits per term of the simple continued fraction: the slope over the second half of its convergents' errors."""
    fractions = convergents(signed_continued_fraction(expression, [1], terms, digits=1200), [1])
    with mpmath.workdps(1200):
        value = mpmath.mpmathify(sympy.N(expression, 1200))
        errors = [float(mpmath.log10(abs(mpmath.mpf(a) / b - value))) for a, b in fractions[: terms - 1]]
    half = np.arange(len(errors) // 2, len(errors))
    return float(-np.polyfit(half, np.array(errors)[half], 1)[0])


def by_value(constant: sympy.Expr, limit: int, seconds: float) -> tuple[set[str], int]:
    """The baseline: values of fractions with a_2m = k m + l and a_2m+1 = r m + s, small coefficients first, looked up among the left sides.

    Thousands at a time in double precision; what agrees to 1e-12 is checked to 100 digits. It stops after so many seconds.
    """
    start, sides = time.perf_counter(), left_sides(constant, 1, limit, None, 200)
    order = np.argsort([float(side.value) for side in sides])
    values = np.array([float(sides[i].value) for i in order])
    matched: set[str] = set()
    tried = 0
    for turn, signs in enumerate(((1,), (-1,), (-1, 1), (1, -1)), start=1):
        for chunk in _coefficients():
            value = _values(chunk, signs)
            near = np.clip(np.searchsorted(values, value), 1, len(values) - 1)
            for shift in (near - 1, near):
                for hit in np.flatnonzero(np.abs(values[shift] - value) < 1e-12 * values[shift]):
                    side = sides[order[shift[hit]]]
                    if str(side.expression) not in matched and _agrees(chunk[hit].tolist(), signs, side.value):
                        matched.add(str(side.expression))
            tried += len(chunk)
            if time.perf_counter() - start > seconds * turn / 4:
                break
    return matched, tried


def _coefficients():
    """All (k, l, r, s), 0 <= k, r and 1 <= l, s, in shells of growing size."""
    for size in range(1, 200):
        shell = np.array([c for c in product(range(size + 1), range(1, size + 1), range(size + 1), range(1, size + 1)) if max(c) == size])
        for first in range(0, len(shell), CHUNK):
            yield shell[first : first + CHUNK]


def _values(coefficients: np.ndarray, signs: tuple[int, ...]) -> np.ndarray:
    k, l, r, s = coefficients.T.astype(float)
    with np.errstate(all="ignore"):
        value = np.full(len(coefficients), 1e300)
        for n in reversed(range(DEPTH)):
            m = n // 2
            value = (k * m + l if n % 2 == 0 else r * m + s) + signs[n % len(signs)] / value
    return np.where(np.isfinite(value), value, -1.0)


def _agrees(coefficients: list[int], signs: tuple[int, ...], value: mpmath.mpf) -> bool:
    k, l, r, s = coefficients
    a = [k * (n // 2) + l if n % 2 == 0 else r * (n // 2) + s for n in range(1000)]
    numerator, denominator = convergents(a, signs)[-1]
    with mpmath.workdps(200):
        return denominator != 0 and abs(quotient(numerator, denominator, 200) - value) < value * mpmath.mpf(10) ** -100


def _random_numbers(run: Run) -> None:
    count = run.pick(smoke=2, default=200)
    hits = [len(find_conjectures(random_number(run.seed + i), coefficient_limit=1, progress=False)) for i in run.progress(range(count), "random")]
    quiet = float(np.mean([hit == 0 for hit in hits]))
    run.table("random numbers", [{"numbers": count, "without a hit": quiet, "verified formulas": sum(hits)}])
    run.claim(f"more than 0.9 of {count} random numbers give no hit", measured=quiet, holds=quiet > 0.9)
    run.claim("random numbers: no verified formula", measured=sum(hits), holds=sum(hits) == 0)


def random_number(seed: int):
    """A number between 0 and 256 whose digits are random as far as anybody looks."""
    numerator = int.from_bytes(random_generator(seed).bytes(1000), "little")

    def at(digits: int) -> mpmath.mpf:
        with mpmath.workdps(digits):
            return mpmath.mpf(numerator) / mpmath.mpf(256) ** 999

    return at
