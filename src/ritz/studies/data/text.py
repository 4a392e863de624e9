"""Real text that is always there: the source code of Python's standard library, as bytes below 128."""

from __future__ import annotations

import sysconfig
from functools import cache
from pathlib import Path

import numpy as np


@cache
def standard_library_text(size: int = 1_500_000) -> np.ndarray:
    """Return the first `size` bytes of the standard library's top-level modules joined in sorted order, uint8, clamped to 127.

    Examples
    --------
    >>> int(standard_library_text(1000).max()) < 128
    True
    """
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    text = b"".join(file.read_bytes() for file in files)[:size]
    return np.minimum(np.frombuffer(text, dtype=np.uint8), 127)


def held_out_split(text: np.ndarray, fraction: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """Split a text into a beginning to train on and the last `fraction` to test on."""
    cut = int(len(text) * (1 - fraction))
    return text[:cut], text[cut:]


def windows(text: np.ndarray, count: int, length: int, rng: np.random.Generator) -> np.ndarray:
    """Draw `count` windows of `length` consecutive bytes at random places; int64 (count, length)."""
    starts = rng.integers(0, len(text) - length, size=count)
    return text[starts[:, None] + np.arange(length)].astype(np.int64)
