"""Between coefficients of spherical harmonics and values on a grid: Gauss-Legendre in cos t times uniform in the azimuth.

A function of degree d is integrated exactly by floor(d / 2) + 1 nodes in cos t and d + 1 in the azimuth. Two forms of one map: a product with one
matrix, O(L^4) for degree L, and a product per order m along t followed by one along the azimuth, O(L^3).

Luo, Chen and Krishnapriyan, ICLR 2024, arXiv:2401.10216, section 3.2, multiply in the Fourier basis of the torus; a grid of the sphere
itself does the same with fewer points.
"""

from __future__ import annotations

from functools import cached_property
from types import SimpleNamespace

import numpy as np
import torch

from ritz.linalg.spherical_harmonics import legendre_polynomials, orders, stacked_harmonics


class SphereGrid:
    """A product grid that integrates functions up to a degree exactly; `directions` (n, 3) and `weights` (n,) run over t first, then the azimuth."""

    def __init__(self, degree: int):
        self.cosines, self.t_weights = np.polynomial.legendre.leggauss(degree // 2 + 1)
        self.azimuths = 2 * np.pi * np.arange(degree + 1) / (degree + 1)
        self.weights = np.repeat(self.t_weights, len(self.azimuths)) * (2 * np.pi / len(self.azimuths))

    @cached_property
    def directions(self) -> np.ndarray:
        """The unit vectors of the grid, polar axis z."""
        z, p = np.repeat(self.cosines, len(self.azimuths)), np.tile(self.azimuths, len(self.cosines))
        sine = np.sqrt(1 - z * z)
        return np.stack([sine * np.cos(p), sine * np.sin(p), z], axis=-1)

    def legendre(self, l_max: int) -> np.ndarray:
        """P_lm at the nodes: (l_max + 1, l_max + 1, nodes) for m, l, zero where l < m."""
        return legendre_table(l_max, self.cosines, np.sqrt(1 - self.cosines**2))

    def waves(self, l_max: int) -> np.ndarray:
        """sqrt(2) sin(|m| p), 1, sqrt(2) cos(m p) for m = -l_max .. l_max at the azimuths: (azimuths, 2 l_max + 1)."""
        m = np.arange(-l_max, l_max + 1)
        angles = np.outer(self.azimuths, m)
        return np.where(m == 0, 1.0, np.sqrt(2) * np.where(m > 0, np.cos(angles), -np.sin(angles)))


def legendre_table(l_max: int, cosines: np.ndarray, sines: np.ndarray) -> np.ndarray:
    """P_lm = sin^m Q_lm(cos) as (l_max + 1, l_max + 1, points) for m, l, zero where l < m; signed sines extend it to the torus."""
    table = np.zeros((l_max + 1, l_max + 1, len(cosines)))
    for (l, m), Q in legendre_polynomials(l_max, cosines).items():
        table[m, l] = sines**m * Q
    return table


class Constants:
    """Tables in double precision, given as tensors of the dtype and device that the data has: constants of a module, no state of it."""

    def __init__(self, **tables: np.ndarray):
        self._tables = {name: torch.from_numpy(np.ascontiguousarray(table)) for name, table in tables.items()}
        self._given = {}

    def like(self, x: torch.Tensor) -> SimpleNamespace:
        """The tables for data like x; complex ones in the matching complex dtype, integers as they are."""
        key = (x.dtype, x.device)
        if key not in self._given:
            self._given[key] = SimpleNamespace(**{name: self._cast(table, x) for name, table in self._tables.items()})
        return self._given[key]

    def __deepcopy__(self, memo) -> Constants:
        return self

    @staticmethod
    def _cast(table: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        if table.is_complex():
            return table.to(x.device, x.dtype.to_complex())
        return table.to(x.device, x.dtype) if table.is_floating_point() else table.to(x.device)


class DirectTransform:
    """Values (batch, points) of functions of degree `l_max` on a grid, and back, each by one matrix; `factors` scale the harmonics."""

    def __init__(self, grid: SphereGrid, l_max: int, factors: np.ndarray):
        Y = stacked_harmonics(l_max, grid.directions).T
        self._constants = Constants(evaluate=Y * factors[:, None], project=(Y * grid.weights / factors[:, None]).T)

    def evaluate(self, x: torch.Tensor) -> torch.Tensor:
        """Values of the functions with coefficients x (batch, (l_max + 1)^2)."""
        return x @ self._constants.like(x).evaluate

    def project(self, values: torch.Tensor) -> torch.Tensor:
        """Coefficients (batch, (l_max + 1)^2) of the projections on degrees up to l_max."""
        return values @ self._constants.like(values).project


class SeparableTransform:
    """Values (azimuths, batch, nodes) of functions of degree `l_max` on a grid, and back, one direction after the other."""

    def __init__(self, grid: SphereGrid, l_max: int, factors: np.ndarray):
        m, l = np.arange(-l_max, l_max + 1)[:, None], np.arange(l_max + 1)[None, :]
        inside, index = np.abs(m) <= l, l * l + l + m
        P, scale = grid.legendre(l_max)[np.abs(m[:, 0])], np.where(inside, factors[np.where(inside, index, 0)], 1.0)[:, :, None]
        place = orders(l_max) + l_max, np.sqrt(np.arange(factors.size)).astype(int)
        self._l_max = l_max
        self._constants = Constants(
            gather=np.where(inside, index, 0).ravel(),
            scatter=place[0] * (l_max + 1) + place[1],
            evaluate=P * scale,
            project=(P * grid.t_weights / scale).transpose(0, 2, 1),
            waves=grid.waves(l_max),
            wave_weights=grid.waves(l_max).T * (2 * np.pi / len(grid.azimuths)),
        )

    def evaluate(self, x: torch.Tensor) -> torch.Tensor:
        """Values of the functions with coefficients x (batch, (l_max + 1)^2)."""
        c, M = self._constants.like(x), 2 * self._l_max + 1
        by_order = x.index_select(1, c.gather).reshape(len(x), M, self._l_max + 1).transpose(0, 1) @ c.evaluate  # (orders, batch, nodes)
        return (c.waves @ by_order.reshape(M, -1)).reshape(-1, *by_order.shape[1:])

    def project(self, values: torch.Tensor) -> torch.Tensor:
        """Coefficients (batch, (l_max + 1)^2) of the projections on degrees up to l_max."""
        c = self._constants.like(values)
        by_order = (c.wave_weights @ values.reshape(len(values), -1)).reshape(-1, *values.shape[1:]) @ c.project
        return by_order.transpose(0, 1).reshape(values.shape[1], -1).index_select(1, c.scatter)
