"""Wigner's matrices for real spherical harmonics: how coefficients turn when the sphere turns.

Y(R u) = D(R) Y(u). With Euler angles R = R_z(a) R_y(b) R_z(c) about the polar axis z and the axis y, D = X(a) J X(b) J X(c): X turns about the polar
axis and mixes only orders m and -m; J is the half turn about y + z, which exchanges the two axes, so that R_y = J R_z J.

Luo, Chen and Krishnapriyan, ICLR 2024, arXiv:2401.10216, section 3.3; Pinchon and Hoggan, "Rotation matrices for real spherical harmonics",
J. Phys. A 40, 2007.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from ritz.core import array, choice, integer, namespace
from ritz.linalg.sphere_grid import SphereGrid
from ritz.linalg.spherical_harmonics import CONVENTIONS, degrees, orders, stacked_harmonics


def wigner_d_real(l_max: int, rotation, *, convention: str = "e3nn"):
    """Return the block-diagonal matrix by which a rotation acts on coefficients of degrees 0 to `l_max`.

    Parameters
    ----------
    l_max : int
        The highest degree, at least 0.
    rotation : array (..., 3, 3)
        Rotation matrices: orthogonal to the root of the dtype's epsilon, determinant 1. NumPy or torch.
    convention : {"e3nn", "physics"}
        Of the axes, as in `real_spherical_harmonics`. With "e3nn" the block of degree 1 is the rotation itself.

    Returns
    -------
    array (..., (l_max + 1)^2, (l_max + 1)^2)
        D with Y(R u) = D(R) Y(u): if x are the coefficients of f, D x are those of u -> f(R^-1 u). Orthogonal, and D(R S) = D(R) D(S).

    Raises
    ------
    ValueError, TypeError
        If `rotation` is no rotation, or an argument is not as above.

    Notes
    -----
    Exact at the poles as well: what the first two angles leave is the third. Costs O(l_max^4) per rotation, most of it for storing zeros.

    References
    ----------
    .. [1] Luo, Chen and Krishnapriyan, ICLR 2024, arXiv:2401.10216.

    Examples
    --------
    >>> quarter = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    >>> bool(np.allclose(wigner_d_real(1, quarter)[1:, 1:], quarter))
    True
    """
    l_max = integer(l_max, "l_max", at_least=0)
    R = _rotations(rotation, convention)
    xp = namespace(R)
    cos_a, sin_a = unit_pair(R[..., 0, 2], R[..., 1, 2])
    cos_b, sin_b = unit_pair(R[..., 2, 2], cos_a * R[..., 0, 2] + sin_a * R[..., 1, 2])
    # What the first two turns leave, R_y(-b) R_z(-a) R, is a turn about the pole.
    forward = cos_a * R[..., 0, 0] + sin_a * R[..., 1, 0]
    cos_c, sin_c = unit_pair(cos_b * forward - sin_b * R[..., 2, 0], cos_a * R[..., 1, 0] - sin_a * R[..., 0, 0])
    J = xp.asarray(axis_exchange(l_max), dtype=R.dtype, device=R.device)
    columns = xp.eye(J.shape[0], dtype=R.dtype, device=R.device)  # the unit vectors as rows, each turned as coefficients are
    for cosine, sine in ((cos_c, sin_c), (cos_b, sin_b)):
        columns = PoleTurn(l_max, cosine[..., None], sine[..., None])(columns) @ J
    return xp.matrix_transpose(PoleTurn(l_max, cos_a[..., None], sin_a[..., None])(columns))


class PoleTurn:
    """X(a), the turn of coefficients about the polar axis, for angles given by their cosines and sines (...): applied to (..., (l_max + 1)^2)."""

    def __init__(self, l_max: int, cosine, sine):
        xp = namespace(cosine)
        waves = [(xp.ones_like(cosine), xp.zeros_like(cosine))]
        for _ in range(l_max):
            c, s = waves[-1]
            waves.append((cosine * c - sine * s, sine * c + cosine * s))
        m = orders(l_max)
        indices = xp.asarray(np.abs(m), device=cosine.device)
        signs = xp.asarray(np.sign(m), dtype=cosine.dtype, device=cosine.device)
        self._cosines = xp.take(xp.stack([c for c, _ in waves], axis=-1), indices, axis=-1)
        self._sines = xp.take(xp.stack([s for _, s in waves], axis=-1), indices, axis=-1) * signs
        self._mirror = xp.asarray(np.arange(len(m)) - 2 * m, device=cosine.device)  # from order m to -m

    def __call__(self, x):
        """Turn by a: order m becomes cos(m a) x_m - sin(m a) x_-m."""
        return self._cosines * x - self._sines * namespace(x).take(x, self._mirror, axis=-1)

    def back(self, x):
        """Turn by -a."""
        return self._cosines * x + self._sines * namespace(x).take(x, self._mirror, axis=-1)


@cache
def axis_exchange(l_max: int) -> np.ndarray:
    """The matrix J of the half turn (x, y, z) -> (-x, z, y) about y + z: symmetric, its own inverse, block-diagonal."""
    grid = SphereGrid(2 * l_max)
    there = stacked_harmonics(l_max, grid.directions[:, [0, 2, 1]] * np.array([-1.0, 1.0, 1.0]))
    J = there.T @ (stacked_harmonics(l_max, grid.directions) * grid.weights[:, None])
    l = degrees(l_max)
    return np.where(l[:, None] == l[None, :], (J + J.T) / 2, 0.0)


def unit_pair(x, y):
    """(x, y) divided by its length, (1, 0) where that is zero."""
    xp = namespace(x)
    length = xp.sqrt(x * x + y * y)
    zero = length == 0
    safe = xp.where(zero, xp.ones_like(length), length)
    return xp.where(zero, xp.ones_like(x), x / safe), y / safe


def _rotations(rotation, convention: str):
    """Check rotation matrices and return them in the axes of "physics"."""
    R = array(rotation, "rotation", allow_empty=True)
    choice(convention, "convention", CONVENTIONS)
    if R.ndim < 2 or tuple(R.shape[-2:]) != (3, 3):
        raise ValueError(f"rotation must have shape (..., 3, 3), got {tuple(R.shape)}")
    xp = namespace(R)
    error = xp.abs(R @ xp.matrix_transpose(R) - xp.eye(3, dtype=R.dtype, device=R.device))
    worst = float(xp.max(error)) if 0 not in R.shape else 0.0
    if worst > float(xp.finfo(R.dtype).eps) ** 0.5 or bool(xp.any(xp.linalg.det(R) < 0)):
        raise ValueError(f"rotation must hold rotations: R R^T differs from the identity by {worst:.2g}, or a determinant is negative")
    axes = xp.asarray([2, 0, 1], device=R.device)
    return R if convention == "physics" else xp.take(xp.take(R, axes, axis=-1), axes, axis=-2)
