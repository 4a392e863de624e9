"""Charged particles that attract and repel each other: trajectories for networks that predict motion."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ritz.core import random_generator

STEP = 1e-3
STEPS_PER_FRAME = 100
LARGEST_FORCE = 0.1 / STEP  # of a pair: two particles that meet must not fly off to infinity


class Trajectories(NamedTuple):
    """Charges (m, n), +1 or -1, and positions and velocities (m, frames, n, 3)."""

    charges: np.ndarray
    positions: np.ndarray
    velocities: np.ndarray


def charged_particles(count: int, frames: int, *, particles: int = 5, rng=None) -> Trajectories:
    """Simulate Coulomb forces by leapfrog steps of 0.001, one frame every 100; positions start with deviation 1, speeds are 0.5."""
    rng = random_generator(rng)
    charges = rng.choice([-1.0, 1.0], size=(count, particles))
    x = rng.standard_normal((count, particles, 3))
    v = rng.standard_normal((count, particles, 3))
    v *= 0.5 / np.linalg.norm(v, axis=-1, keepdims=True)
    products = charges[:, :, None] * charges[:, None, :]
    positions, velocities = [], []
    force = _forces(x, products)
    for step in range((frames - 1) * STEPS_PER_FRAME + 1):
        if step % STEPS_PER_FRAME == 0:
            positions.append(x.copy())
            velocities.append(v.copy())
        v += STEP / 2 * force
        x += STEP * v
        force = _forces(x, products)
        v += STEP / 2 * force
    return Trajectories(charges, np.stack(positions, axis=1), np.stack(velocities, axis=1))


def _forces(x: np.ndarray, products: np.ndarray) -> np.ndarray:
    r = x[:, :, None] - x[:, None, :]
    squared = np.einsum("mijk,mijk->mij", r, r)
    squared[:, np.arange(x.shape[1]), np.arange(x.shape[1])] = 1
    distance = np.sqrt(squared)
    strength = products * np.minimum(1 / squared, LARGEST_FORCE) / distance
    return np.einsum("mij,mijk->mik", strength, r)
