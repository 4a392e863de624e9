"""Random numbers: every random choice in ritz comes from a generator the caller can name."""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def random_generator(rng: np.random.Generator | int | None = None, name: str = "rng") -> np.random.Generator:
    """Return a NumPy generator: the one given, one seeded with an integer, or a fresh one for None.

    Examples
    --------
    >>> int(random_generator(0).integers(100)) == int(random_generator(0).integers(100))
    True
    """
    if rng is None or isinstance(rng, np.random.Generator):
        return np.random.default_rng() if rng is None else rng
    return np.random.default_rng(_seed(rng, name, "numpy.random.Generator"))


def torch_generator(generator: torch.Generator | int | None = None, device: torch.device | str = "cpu", name: str = "generator"):
    """Return a torch generator on `device`: the one given, one seeded with an integer, or a fresh one for None.

    Raises
    ------
    ValueError
        If a generator of another device type is given: torch refuses to mix them, later and with less to say.
    """
    import torch

    device = torch.device(device)
    if isinstance(generator, torch.Generator):
        if generator.device.type != device.type:
            raise ValueError(f"{name} lives on {generator.device}, but the computation runs on {device}")
        return generator
    fresh = torch.Generator(device=device)
    if generator is None:
        fresh.seed()
        return fresh
    return fresh.manual_seed(_seed(generator, name, "torch.Generator"))


def spawn_seeds(rng: np.random.Generator, count: int) -> list[int]:
    """Draw `count` independent 63-bit seeds: one stream per task, whatever order the tasks run in."""
    return [int(seed) for seed in rng.integers(2**63, size=count)]


def _seed(value: object, name: str, kind: str) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be a {kind}, an integer seed or None, got {type(value).__name__}")
    if value < 0:
        raise ValueError(f"{name} must be a non-negative seed, got {value}")
    return int(value)
