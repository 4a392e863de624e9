"""Linear systems of all characters: what a solver that chooses by itself has to cope with."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.fft
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg
import scipy.spatial

from ritz.core import random_generator
from ritz.linalg import KroneckerOperator


class LinearSystem(NamedTuple):
    """A system A x = b; `solvable` says whether b is in the range of A."""

    A: np.ndarray | scipy.sparse.csr_array | scipy.sparse.linalg.LinearOperator
    b: np.ndarray
    solvable: bool = True


def path_laplacian(m: int) -> scipy.sparse.dia_array:
    """The second difference on m points with zero values beyond the ends."""
    return scipy.sparse.diags_array([-np.ones(m - 1), 2 * np.ones(m), -np.ones(m - 1)], offsets=[-1, 0, 1])


def poisson(*shape: int, weights: tuple[float, ...] | None = None) -> scipy.sparse.csr_array:
    """The negative Laplacian on a grid, zero on the boundary, unit mesh width; `weights` scale the directions."""
    weights = weights or (1.0,) * len(shape)
    A = scipy.sparse.csr_array((1, 1))
    for m, weight in zip(shape, weights):
        A = scipy.sparse.kronsum(weight * path_laplacian(m), A)
    return scipy.sparse.csr_array(A)


def diffusion(k: np.ndarray) -> scipy.sparse.csr_array:
    """The negative divergence of k grad on a grid with the coefficient k (m1, m2) per cell, harmonic means on faces, zero on the boundary."""
    index, n = np.arange(k.size).reshape(k.shape), k.size
    rows, columns, values, diagonal = [], [], [], np.zeros(n)
    for axis in (0, 1):
        first, second = (np.moveaxis(array, axis, 0) for array in (index, k))
        face = 2 * second[1:] * second[:-1] / (second[1:] + second[:-1])
        for here, there in ((first[1:], first[:-1]), (first[:-1], first[1:])):
            rows.append(here.ravel())
            columns.append(there.ravel())
            values.append(-face.ravel())
            np.add.at(diagonal, here.ravel(), face.ravel())
        for end in (0, -1):
            np.add.at(diagonal, first[end], 2 * second[end])
    entries = np.concatenate([*values, diagonal])
    places = (np.concatenate([*rows, np.arange(n)]), np.concatenate([*columns, np.arange(n)]))
    return scipy.sparse.csr_array(scipy.sparse.coo_array((entries, places), shape=(n, n)))


def convection_diffusion(*shape: int, peclet: float) -> scipy.sparse.csr_array:
    """Diffusion and a constant wind along all axes, upwind differences; `peclet` is wind times mesh width over diffusion."""
    A = scipy.sparse.csr_array((1, 1))
    for m in shape:
        T = scipy.sparse.diags_array([-(1 + peclet) * np.ones(m - 1), (2 + peclet) * np.ones(m), -np.ones(m - 1)], offsets=[-1, 0, 1])
        A = scipy.sparse.kronsum(T, A)
    return scipy.sparse.csr_array(A)


def elasticity(m: int, poisson_ratio: float = 0.3) -> scipy.sparse.csr_array:
    """Plane strain on a square of m x m bilinear elements, clamped on one side: displacement unknowns interleaved."""
    lame, shear = poisson_ratio / ((1 + poisson_ratio) * (1 - 2 * poisson_ratio)), 1 / (2 * (1 + poisson_ratio))
    D = np.array([[lame + 2 * shear, lame, 0], [lame, lame + 2 * shear, 0], [0, 0, shear]])
    K, corners, point = np.zeros((8, 8)), np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]), 1 / np.sqrt(3)
    for x, y in point * corners:
        gradients = corners * (1 + corners[:, ::-1] * np.array([y, x])) / 4 * 2  # of the four shape functions, on elements of width one
        B = np.zeros((3, 8))
        B[0, ::2], B[1, 1::2], B[2, ::2], B[2, 1::2] = gradients[:, 0], gradients[:, 1], gradients[:, 1], gradients[:, 0]
        K += B.T @ D @ B / 4
    nodes = np.arange((m + 1) ** 2).reshape(m + 1, m + 1)
    cells = np.stack([nodes[:-1, :-1], nodes[:-1, 1:], nodes[1:, 1:], nodes[1:, :-1]], axis=-1).reshape(-1, 4)
    unknowns = (2 * cells[:, :, None] + np.arange(2)).reshape(-1, 8)
    rows, columns = np.repeat(unknowns, 8, axis=1).ravel(), np.tile(unknowns, 8).ravel()
    A = scipy.sparse.csr_array(scipy.sparse.coo_array((np.tile(K.ravel(), len(cells)), (rows, columns)), shape=(2 * nodes.size,) * 2))
    free = (2 * nodes[:, 1:, None] + np.arange(2)).ravel()
    return A[free][:, free]


def graph_laplacian(weights: scipy.sparse.csr_array) -> scipy.sparse.csr_array:
    """Degrees minus weights."""
    return scipy.sparse.csr_array(scipy.sparse.diags_array(np.asarray(weights.sum(axis=1)).ravel()) - weights)


def geometric_graph(n: int, degree: float, rng: np.random.Generator) -> scipy.sparse.csr_array:
    """Random points of the unit square, joined where they are near: `degree` neighbors on average."""
    points = rng.random((n, 2))
    pairs = scipy.spatial.cKDTree(points).query_pairs(np.sqrt(degree / (np.pi * n)), output_type="ndarray")
    half = scipy.sparse.coo_array((np.ones(len(pairs)), pairs.T), shape=(n, n))
    return scipy.sparse.csr_array(half + half.T)


def expander(n: int, degree: int, rng: np.random.Generator) -> scipy.sparse.csr_array:
    """The union of `degree` / 2 random cycles: a graph that no separator cuts."""
    orders = [rng.permutation(n) for _ in range(degree // 2)]
    half = sum(scipy.sparse.coo_array((np.ones(n), (order, np.roll(order, 1))), shape=(n, n)) for order in orders)
    return scipy.sparse.csr_array(half + half.T)


def linear_systems(scale: float = 1.0, seed: int = 0) -> dict[str, Callable[[], LinearSystem]]:
    """Functions that build the systems of the suite, by name.

    Parameters
    ----------
    scale : float
        Grid widths are multiplied by it: 1 gives systems that take about a second, 0.1 those of a test.
    seed : int
        Of coefficients, graphs and right-hand sides.
    """

    def width(m: int) -> int:
        return max(4, round(scale * m))

    def count(n: int) -> int:
        return max(60, round(scale * n))

    def with_solution(A, rng) -> LinearSystem:
        return LinearSystem(A, A @ rng.standard_normal(A.shape[1]))

    def with_right_side(A, rng) -> LinearSystem:
        return LinearSystem(A, rng.standard_normal(A.shape[0]))

    def random_field(m: int, rng) -> np.ndarray:
        """The exponential of a smooth Gaussian field: a coefficient that varies a thousandfold."""
        decay = 1 / (1 + np.add.outer(np.arange(m) ** 2, np.arange(m) ** 2))
        field = scipy.fft.idctn(decay * rng.standard_normal((m, m)), norm="ortho")
        return np.exp(3.5 * field / np.abs(field).max())

    def helmholtz(m: int, waves: float, damping: complex) -> scipy.sparse.csr_array:
        """The grid's Laplacian less (k h)^2, with so many waves across the grid."""
        shift = (2 * np.pi * waves / (m + 1)) ** 2 * (1 - damping)
        return scipy.sparse.csr_array(poisson(m, m) - shift * scipy.sparse.eye_array(m * m))

    def components(rng) -> scipy.sparse.csr_array:
        return scipy.sparse.csr_array(scipy.sparse.block_diag([geometric_graph(count(4_000), 8, rng) for _ in range(4)]))

    def ill_conditioned(n: int, rng) -> np.ndarray:
        Q, P = (np.linalg.qr(rng.standard_normal((n, n)))[0] for _ in range(2))
        return (Q * np.geomspace(1, 1e-9, n)) @ P

    def kernel(n: int, rng) -> np.ndarray:
        points = rng.random((n, 2))
        return np.exp(-np.sum((points[:, None] - points) ** 2, axis=-1) / 0.02) + 1e-4 * np.eye(n)

    def toeplitz(n: int) -> scipy.sparse.linalg.LinearOperator:
        """A symmetric positive definite circulant matrix, known by its products alone."""
        symbol = 1e-2 + np.abs(np.fft.fftfreq(n)) * 2
        return scipy.sparse.linalg.LinearOperator((n, n), matvec=lambda x: np.fft.ifft(symbol * np.fft.fft(x.ravel())).real, dtype=np.float64)

    def kronecker(m: int, rng) -> KroneckerOperator:
        return KroneckerOperator(kernel(m, rng), np.eye(m) + rng.standard_normal((m, m)) / np.sqrt(4 * m))

    def neumann(m: int) -> scipy.sparse.csr_array:
        T = scipy.sparse.diags_array([-np.ones(m - 1), np.r_[1.0, np.full(m - 2, 2.0), 1.0], -np.ones(m - 1)], offsets=[-1, 0, 1])
        return scipy.sparse.csr_array(scipy.sparse.kronsum(T, T))

    def inconsistent(rng) -> LinearSystem:
        return LinearSystem(graph_laplacian(geometric_graph(count(6_000), 8, rng)), rng.standard_normal(count(6_000)), solvable=False)

    def convected(A, rng) -> LinearSystem:
        return with_right_side(A, rng)

    builders = {
        "Poisson, 2-D": lambda rng: with_right_side(poisson(width(300), width(300)), rng),
        "Poisson, 3-D": lambda rng: with_right_side(poisson(width(40), width(40), width(40)), rng),
        "anisotropic, 1 : 1000": lambda rng: with_right_side(poisson(width(200), width(200), weights=(1.0, 1e-3)), rng),
        "diffusion, rough coefficient": lambda rng: with_right_side(diffusion(random_field(width(200), rng)), rng),
        "convection-diffusion, 2-D": lambda rng: convected(convection_diffusion(width(200), width(200), peclet=0.5), rng),
        "convection-diffusion, 3-D": lambda rng: convected(convection_diffusion(width(32), width(32), width(32), peclet=5.0), rng),
        "Helmholtz, real": lambda rng: with_right_side(helmholtz(width(150), 8, 0), rng),
        "Helmholtz, damped": lambda rng: with_right_side(helmholtz(width(150), 8, 0.1j), rng),
        "elasticity": lambda rng: with_right_side(elasticity(width(100)), rng),
        "graph Laplacian, connected": lambda rng: with_solution(graph_laplacian(geometric_graph(count(20_000), 12, rng)), rng),
        "graph Laplacian, four components": lambda rng: with_solution(graph_laplacian(components(rng)), rng),
        "graph Laplacian, expander": lambda rng: with_solution(graph_laplacian(expander(count(10_000), 8, rng)), rng),
        "near-singular": lambda rng: with_solution(neumann(width(120)) + 1e-8 * scipy.sparse.eye_array(width(120) ** 2, format="csr"), rng),
        "inconsistent": inconsistent,
        "tridiagonal": lambda rng: with_right_side(
            scipy.sparse.csr_array(path_laplacian(count(200_000)) + 1e-3 * scipy.sparse.eye_array(count(200_000))), rng
        ),
        "Kronecker": lambda rng: with_right_side(kronecker(width(120), rng), rng),
        "operator, circulant": lambda rng: with_right_side(toeplitz(count(30_000)), rng),
        "dense": lambda rng: with_right_side(rng.standard_normal((count(1_000), count(1_000))), rng),
        "dense, positive definite": lambda rng: with_right_side(kernel(count(1_000), rng), rng),
        "dense, ill-conditioned": lambda rng: with_solution(ill_conditioned(count(600), rng), rng),
        "tiny": lambda rng: with_right_side(rng.standard_normal((5, 5)), rng),
    }
    return {name: (lambda build=build: build(random_generator(seed))) for name, build in builders.items()}
