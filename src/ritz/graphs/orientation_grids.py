"""Directions spread evenly over the circle or the sphere."""

from __future__ import annotations

import numpy as np
import torch

from ritz.core import choice, integer, random_generator

REPULSION_STEPS = 100


def sphere_grid(n: int, dim: int = 3, method: str = "repulsion", *, rng=None) -> torch.Tensor:
    """Return n unit vectors (n, dim), spread evenly.

    Parameters
    ----------
    n : int
        How many.
    dim : {2, 3}
        Directions in the plane are equispaced angles, whatever the method.
    method : {"repulsion", "fibonacci"}
        On the sphere: the Fibonacci spiral, or that after steps down the sum of inverse squared angles between all pairs, balanced so that the
        directions add up to zero (then a signal that is the same along all of them has no direction).
    rng : Generator, int or None
        Where given, repulsion starts from random directions drawn from it; the grid then has no preferred axis.

    Returns
    -------
    Tensor (n, dim), float32

    Raises
    ------
    ValueError
        If dim is not 2 or 3, or n is less than 1.

    Examples
    --------
    >>> sphere_grid(4, dim=2).round(decimals=3)
    tensor([[ 1.,  0.],
            [ 0.,  1.],
            [-1.,  0.],
            [-0., -1.]])
    """
    n, dim = integer(n, "n", at_least=1), integer(dim, "dim", at_least=2, at_most=3)
    choice(method, "method", ["repulsion", "fibonacci"])
    if dim == 2:
        angles = 2 * np.pi * np.arange(n) / n
        return torch.from_numpy(np.stack([np.cos(angles), np.sin(angles)], axis=1)).float()
    directions = _fibonacci(n) if rng is None or method == "fibonacci" else _unit(random_generator(rng).standard_normal((n, 3)))
    return torch.from_numpy(_repelled(directions) if method == "repulsion" and n > 1 else directions).float()


def _fibonacci(n: int) -> np.ndarray:
    heights = 1 - (2 * np.arange(n) + 1) / n
    angles = np.pi * (1 + np.sqrt(5)) * np.arange(n)
    radii = np.sqrt(1 - heights**2)
    return np.stack([radii * np.cos(angles), radii * np.sin(angles), heights], axis=1)


def _repelled(directions: np.ndarray) -> np.ndarray:
    """Walk down the energy along the sphere, never further than a tenth of the mean spacing; the best of all steps is kept."""
    spacing = np.sqrt(4 * np.pi / len(directions))
    best, least = directions, _energy(directions)
    for _ in range(REPULSION_STEPS):
        cosines = np.clip(directions @ directions.T, -1, 1)
        np.fill_diagonal(cosines, 0)
        angles, sines = np.arccos(cosines), np.sqrt(np.maximum(1 - cosines**2, 1e-12))
        weights = 2 / (angles**3 * sines)
        np.fill_diagonal(weights, 0)
        push = -weights @ directions
        push -= (push * directions).sum(axis=1, keepdims=True) * directions
        directions = _unit(directions + 0.1 * spacing * push / max(np.linalg.norm(push, axis=1).max(), 1e-12))
        if (energy := _energy(directions)) < least:
            best, least = directions, energy
    return _balanced(best)


def _balanced(directions: np.ndarray) -> np.ndarray:
    """Take out the mean until nothing is left of it."""
    for _ in range(REPULSION_STEPS):
        directions = _unit(directions - directions.mean(axis=0))
    return directions


def _energy(directions: np.ndarray) -> float:
    angles = np.arccos(np.clip(directions @ directions.T, -1, 1))[np.triu_indices(len(directions), 1)]
    return float(np.sum(1 / np.maximum(angles, 1e-6) ** 2))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
