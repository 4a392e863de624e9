"""Labeled one-channel sequences: digits read pixel by pixel, and pairs of distant spikes in noise."""

from __future__ import annotations

import numpy as np

from ritz.studies.data.digits import Split, digits


def sequential_digits(seed: int = 0, *, repeat: int = 4) -> Split:
    """Return the handwritten digits as sequences (n, 64 repeat, 1): pixels row by row, each held for `repeat` steps, in [-1, 1].

    Examples
    --------
    >>> sequential_digits().x_test.shape
    (450, 256, 1)
    """
    split = digits(seed)
    x_train, x_test = (2 * np.repeat(x, repeat, axis=1)[..., None] - 1 for x in (split.x_train, split.x_test))
    return Split(x_train, split.y_train, x_test, split.y_test)


def spike_pairs(count: int, rng: np.random.Generator, *, length: int = 512, gap: int = 400, height: float = 100.0) -> tuple[np.ndarray, np.ndarray]:
    """Return sequences (count, length, 1) float32 of unit white noise with two spikes `gap` apart, and labels (count,) int64.

    Each spike is +-`height`, the first at random in the first half of where it fits. The label is 1 if both have the same sign:
    neither alone tells anything.

    Examples
    --------
    >>> x, y = spike_pairs(10, np.random.default_rng(0))
    >>> x.shape, sorted(set(y.tolist()))
    ((10, 512, 1), [0, 1])
    """
    x = rng.standard_normal((count, length, 1), dtype=np.float32)
    signs = rng.choice(np.array([-1, 1], dtype=np.float32), size=(count, 2))
    first, row = rng.integers(0, (length - gap) // 2, size=count), np.arange(count)
    x[row, first, 0] += height * signs[:, 0]
    x[row, first + gap, 0] += height * signs[:, 1]
    return x, (signs.prod(axis=1) > 0).astype(np.int64)
