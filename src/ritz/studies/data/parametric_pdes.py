"""Families of sparse linear systems from partial differential equations with random coefficients, by finite differences on the unit square."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
import scipy.sparse

from ritz.core import random_generator


@dataclass(frozen=True)
class Family:
    """Systems ``A_i x_i = b_i``, with the parameters (N, ...) that define them."""

    name: str
    systems: list
    parameters: np.ndarray


def gaussian_random_fields(count: int, n: int, *, alpha: float = 2.5, tau: float = 7.0, rng=None) -> np.ndarray:
    """Draw fields (count, n, n) from N(0, tau^(2 alpha - 2) (-Laplacian + tau^2)^-alpha), Neumann conditions, mean zero (Li et al. 2021)."""
    noise = random_generator(rng).standard_normal((count, n, n))
    k = np.arange(n)
    spread = tau ** (alpha - 1) * (np.pi**2 * (k[:, None] ** 2 + k**2) + tau**2) ** (-alpha / 2)
    spread[0, 0] = 0
    return scipy.fft.idctn(n * spread * noise, axes=(1, 2), norm="ortho")


def darcy(count: int, n: int, rng=None) -> Family:
    """``-div(K grad h) = 1`` with K = exp(field): conservative five-point stencil on n x n cells, K averaged harmonically, h = 0 on the boundary."""
    fields = np.exp(gaussian_random_fields(count, n, rng=rng))
    return Family("Darcy", [(_divergence_form(K), np.ones(n * n)) for K in fields], fields)


def helmholtz(count: int, n: int, rng=None) -> Family:
    """``(Laplacian + k^2) u = 1`` with wave numbers k = 12 exp(0.2 field), u = 0 on the boundary: indefinite."""
    waves = 12 * np.exp(0.2 * gaussian_random_fields(count, n, rng=rng))
    laplacian = _laplacian(n)
    return Family("Helmholtz", [(scipy.sparse.csr_array(scipy.sparse.diags_array(k.ravel() ** 2) - laplacian), np.ones(n * n)) for k in waves], waves)


def convection(count: int, n: int, rng=None, peclet: float = 60.0) -> Family:
    """``-Laplacian u + peclet (cos, sin)(angle) . grad u = 1`` with a random angle of the wind: central differences, u = 0 on the boundary."""
    angles = random_generator(rng).uniform(0, 2 * np.pi, count)
    center = scipy.sparse.diags_array([-np.ones(n - 1), np.ones(n - 1)], offsets=[-1, 1]) * ((n + 1) / 2)
    one = scipy.sparse.eye_array(n)
    along_x, along_y, laplacian = scipy.sparse.kron(one, center), scipy.sparse.kron(center, one), _laplacian(n)
    matrices = [scipy.sparse.csr_array(laplacian + peclet * (np.cos(a) * along_x + np.sin(a) * along_y)) for a in angles]
    return Family("convection", [(A, np.ones(n * n)) for A in matrices], np.stack([np.cos(angles), np.sin(angles)], axis=1))


def _laplacian(n: int) -> scipy.sparse.csr_array:
    """The negative Laplacian on n x n inner points."""
    T = scipy.sparse.diags_array([-np.ones(n - 1), 2 * np.ones(n), -np.ones(n - 1)], offsets=[-1, 0, 1]) * (n + 1) ** 2
    return scipy.sparse.csr_array(scipy.sparse.kronsum(T, T))


def _divergence_form(K: np.ndarray) -> scipy.sparse.csr_array:
    """``-div(K grad)`` on n x n cells: the flux between two cells has the harmonic mean of their K, that to the boundary twice the cell's own."""
    n = len(K)
    index = np.arange(n * n).reshape(n, n)
    diagonal = np.zeros((n, n))
    rows, columns, values = [], [], []
    for left, right in ((np.s_[:-1, :], np.s_[1:, :]), (np.s_[:, :-1], np.s_[:, 1:])):
        flux = 2 * K[left] * K[right] / (K[left] + K[right])
        rows += [index[left].ravel(), index[right].ravel()]
        columns += [index[right].ravel(), index[left].ravel()]
        values += [-flux.ravel(), -flux.ravel()]
        diagonal[left] += flux
        diagonal[right] += flux
    for edge in (np.s_[0, :], np.s_[-1, :], np.s_[:, 0], np.s_[:, -1]):
        diagonal[edge] += 2 * K[edge]
    rows, columns, values = (
        np.concatenate([*parts, own]) for parts, own in ((rows, index.ravel()), (columns, index.ravel()), (values, diagonal.ravel()))
    )
    return scipy.sparse.csr_array((values * n**2, (rows, columns)), shape=(n * n, n * n))
