"""Randomness that belongs to a name: the same seed and the same bytes give the same signs and numbers in every process, on every machine.

A name is hashed with blake2b, keyed by the seed. Signs are the bits of blake2b run as a counter-based generator; other numbers come from Philox,
whose key is the hash. Python's own `hash` of a string would not do: it changes from process to process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

BLOCK = 64  # bytes that one call of blake2b yields


def name_bytes(name: str | bytes) -> bytes:
    """The bytes of a name; text is UTF-8, and lone surrogates, which JSON allows, keep their code."""
    return name if isinstance(name, bytes) else name.encode("utf-8", "surrogatepass")


def keyed_generator(name: str | bytes, seed: int) -> np.random.Generator:
    """Return the generator that belongs to a name."""
    return np.random.Generator(np.random.Philox(key=int.from_bytes(_digest(name_bytes(name), seed)[:16], "little")))


def keyed_signs(names: Sequence[str | bytes], size: int, seed: int) -> np.ndarray:
    """Return random signs (len(names), size) as int8, a row for each name."""
    blocks = -(-size // (8 * BLOCK))
    counters = [i.to_bytes(8, "little") for i in range(blocks)]
    digests = (_digest(name_bytes(name), seed) for name in names)
    stream = b"".join(hashlib.blake2b(counter, key=digest).digest() for digest in digests for counter in counters)
    bits = np.unpackbits(np.frombuffer(stream, np.uint8).reshape(-1, blocks * BLOCK), axis=1, count=size)
    return 2 * bits.view(np.int8) - 1


def _digest(name: bytes, seed: int) -> bytes:
    return hashlib.blake2b(name, key=seed.to_bytes(16, "little")).digest()
