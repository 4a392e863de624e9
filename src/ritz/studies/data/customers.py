"""Synthetic customer records, and the same records as somebody else would have typed them."""

from __future__ import annotations

import string

import numpy as np

from ritz.core import random_generator

FIRST = (
    "Anna", "Bruno", "Clara", "David", "Elena", "Felix", "Greta", "Hugo", "Irene", "Jonas", "Karla", "Lukas", "Maria", "Nora", "Oskar",
    "Paula", "Quentin", "Rosa", "Simon", "Tilda", "Ulrich", "Vera", "Walter", "Yara",
)  # fmt: skip
LAST = (
    "Adler", "Berger", "Conrad", "Dorn", "Engel", "Fischer", "Graf", "Huber", "Iten", "Jaeger", "Keller", "Lang", "Meier", "Nagel", "Ott",
    "Peter", "Reber", "Schmid", "Thoma", "Ullmann", "Vogt", "Weber", "Zbinden",
)  # fmt: skip
STREETS = ("Bahnhof", "Garten", "Haupt", "Linden", "Markt", "Muehle", "Park", "Rosen", "Schul", "See", "Wald", "Wiesen")
CITIES = ("Aarau", "Basel", "Bern", "Biel", "Chur", "Genf", "Luzern", "Olten", "Thun", "Winterthur", "Zug", "Zurich")
PRODUCTS = ("lamp", "chair", "desk", "shelf", "mirror", "rug", "vase", "clock", "kettle", "stove", "bench", "drawer")


def customers(count: int, *, rng: np.random.Generator | int) -> list[dict]:
    """Return customers with a name, a birth year, an address, contacts and orders; names repeat, whole records do not."""
    rng = random_generator(rng)
    return [_customer(i, rng) for i in range(count)]


def with_mistakes(records: list[dict], *, rng: np.random.Generator | int) -> list[dict]:
    """Return records that were typed again: typos in texts, each with a chance of 0.3, every fourth field missing, another order, another id."""
    rng = random_generator(rng)
    return [_retyped(record, rng) | {"id": int(rng.integers(10**9))} for record in records]


def _customer(i: int, rng: np.random.Generator) -> dict:
    first, last = FIRST[rng.integers(len(FIRST))], LAST[rng.integers(len(LAST))]
    number = int(rng.integers(1, 200))
    return {
        "id": i,
        "name": {"first": first, "last": last},
        "born": int(rng.integers(1930, 2006)),
        "address": {
            "street": f"{STREETS[rng.integers(len(STREETS))]}strasse {number}",
            "zip": int(rng.integers(1000, 9999)),
            "city": CITIES[rng.integers(len(CITIES))],
        },
        "contact": {"mail": f"{first.lower()}.{last.lower()}{int(rng.integers(100))}@example.org", "phone": f"+41 {int(rng.integers(10**8, 10**9))}"},
        "orders": [
            {"product": PRODUCTS[rng.integers(len(PRODUCTS))], "price": round(float(rng.gamma(2.0, 60.0)), 2)} for _ in range(int(rng.integers(1, 5)))
        ],
    }


def _retyped(value: object, rng: np.random.Generator) -> object:
    if isinstance(value, dict):
        kept = [key for key in value if rng.random() > 0.25] or list(value)[:1]
        return {key: _retyped(value[key], rng) for key in rng.permutation(kept).tolist()}
    if isinstance(value, list):
        return [_retyped(item, rng) for item in value]
    return _typo(value, rng) if isinstance(value, str) and rng.random() < 0.3 else value


def _typo(text: str, rng: np.random.Generator) -> str:
    """Replace, leave out, double or exchange a character."""
    place = int(rng.integers(len(text)))
    before, here, after = text[:place], text[place], text[place + 1 :]
    letter = string.ascii_lowercase[rng.integers(26)]
    return before + (letter + after, after, 2 * here + after, after[:1] + here + after[1:])[rng.integers(4)]
