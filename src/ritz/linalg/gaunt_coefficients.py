"""Gaunt coefficients: integrals of three real spherical harmonics over the sphere.

G(l1 m1, l2 m2, l3 m3) = sqrt((2 l1 + 1)(2 l2 + 1)(2 l3 + 1) / (4 pi)) (l1 l2 l3; 0 0 0) times the real 3j symbol: a Clebsch-Gordan coefficient
with a fixed constant per path (l1, l2, l3), which vanishes where l1 + l2 + l3 is odd.

Gaunt, "The triplets of helium", Phil. Trans. R. Soc. A 228, 1929; Luo, Chen and Krishnapriyan, ICLR 2024, arXiv:2401.10216, section 3.1.
"""

from __future__ import annotations

import numpy as np

from ritz.core import integer
from ritz.linalg.sphere_grid import SphereGrid
from ritz.linalg.spherical_harmonics import degrees, normalization_factors, orders


def gaunt_coefficients(l1: int, l2: int, l3: int, *, normalization: str = "orthonormal") -> np.ndarray:
    """Return the Gaunt coefficients of all degrees up to l1, l2 and l3.

    Parameters
    ----------
    l1, l2, l3 : int
        The highest degrees, at least 0.
    normalization : {"orthonormal", "norm", "component"}
        Of the harmonics whose coefficients are multiplied, as in `real_spherical_harmonics`: what is returned is always the tensor that takes the
        coefficients of two functions to those of their product. It is symmetric in the three index pairs with "orthonormal" only.

    Returns
    -------
    array ((l1 + 1)^2, (l2 + 1)^2, (l3 + 1)^2)
        float64. Zeros of the selection rules (parity, triangle, orders) are exact. It does not depend on the convention of axes.

    Raises
    ------
    ValueError, TypeError
        If a degree is negative or no integer, or the normalization unknown.

    Notes
    -----
    Gauss-Legendre quadrature, exact to rounding: O(L^7) operations and O(L^6) memory.

    References
    ----------
    .. [1] Luo, Chen and Krishnapriyan, ICLR 2024, arXiv:2401.10216, section 3.1.

    Examples
    --------
    >>> G = gaunt_coefficients(1, 1, 2)
    >>> bool(np.isclose(G[0, 2, 2], 1 / np.sqrt(4 * np.pi)))
    True
    """
    l1, l2, l3 = (integer(l, name, at_least=0) for l, name in ((l1, "l1"), (l2, "l2"), (l3, "l3")))
    factors = [normalization_factors(l, normalization) for l in (l1, l2, l3)]
    grid = SphereGrid(l1 + l2 + l3)
    first, second, third = (_along_t(grid, l) for l in (l1, l2, l3))
    pairs = (first[:, None, :] * second[None, :, :] * grid.t_weights).reshape(-1, len(grid.cosines))
    G = (pairs @ third.T).reshape(len(first), len(second), len(third))
    G *= _along_p(grid, l1, l2, l3)[np.ix_(*(orders(l) + l for l in (l1, l2, l3)))]
    a, b, c = np.ix_(*(degrees(l) for l in (l1, l2, l3)))
    G[((a + b + c) % 2 == 1) | (c > a + b) | (c < np.abs(a - b))] = 0.0
    return G * factors[0][:, None, None] * factors[1][:, None] / factors[2]


def _along_t(grid: SphereGrid, l_max: int) -> np.ndarray:
    """P_l|m| at the nodes by index: ((l_max + 1)^2, nodes)."""
    return grid.legendre(l_max)[np.abs(orders(l_max)), degrees(l_max)]


def _along_p(grid: SphereGrid, l1: int, l2: int, l3: int) -> np.ndarray:
    """The integrals of products of three waves over the azimuth by order: (2 l1 + 1, 2 l2 + 1, 2 l3 + 1), zeros exact."""
    first, second, third = (grid.waves(l) for l in (l1, l2, l3))
    integrals = np.einsum("pa,pb,pc->abc", first, second, third, optimize=True) * (2 * np.pi / len(grid.azimuths))
    return np.where(np.abs(integrals) > 1, integrals, 0.0)  # those that are not zero are at least sqrt(2) pi
