"""Real spherical harmonics: the functions that irreducible representations of rotations stand for.

Y_lm = sqrt(2) P_l|m|(cos t) cos(m p) for m > 0, P_l0 for m = 0, sqrt(2) P_l|m| sin(|m| p) for m < 0, with the polar angle t, the azimuth p and
associated Legendre functions that are orthonormal and carry no Condon-Shortley phase. With z = cos t, P_lm = sin(t)^m Q_lm(z), Q a polynomial, and
sin(t)^m e^(imp) = (x + iy)^m: everything is a polynomial in x, y, z, smooth at the poles too.

Luo, Chen and Krishnapriyan, "Enabling Efficient Equivariant Operations in the Fourier Basis via Gaunt Tensor Products", ICLR 2024,
arXiv:2401.10216, appendix A; recurrences as in Press et al., "Numerical Recipes", 3rd edition, section 6.7.
"""

from __future__ import annotations

import math

import numpy as np

from ritz.core import array, choice, integer, namespace

NORMALIZATIONS = ("orthonormal", "norm", "component")
CONVENTIONS = ("e3nn", "physics")


def real_spherical_harmonics(l_max: int, directions, *, convention: str = "e3nn", normalization: str = "orthonormal"):
    """Evaluate all real spherical harmonics of degrees 0 to `l_max`.

    Parameters
    ----------
    l_max : int
        The highest degree, at least 0.
    directions : array (..., 3)
        Vectors x, y, z of any length but zero: they are normalized. NumPy or torch; differentiable.
    convention : {"e3nn", "physics"}
        "physics": the polar axis is z, degree 1 is ordered y, z, x. "e3nn": the polar axis is y, degree 1 is ordered x, y, z. The one is the other at
        a permuted point: Y_e3nn(x, y, z) = Y_physics(z, x, y).
    normalization : {"orthonormal", "norm", "component"}
        "orthonormal": the square integrates to 1 over the sphere. "norm": the 2 l + 1 functions of a degree have squares that sum to 1.
        "component": they sum to 2 l + 1.

    Returns
    -------
    array (..., (l_max + 1)^2)
        Y_lm at index l^2 + l + m, of the dtype and kind of `directions`.

    Raises
    ------
    ValueError, TypeError
        If a direction has length zero, or an argument is not as above.

    Notes
    -----
    Costs O(l_max^2) per direction.

    References
    ----------
    .. [1] Luo, Chen and Krishnapriyan, ICLR 2024, arXiv:2401.10216.

    Examples
    --------
    >>> real_spherical_harmonics(1, [0.0, 0.0, 2.0], normalization="norm")
    array([1., 0., 0., 1.])
    """
    l_max = integer(l_max, "l_max", at_least=0)
    factors = normalization_factors(l_max, normalization)
    unit = unit_vectors(directions, "directions", convention)
    xp = namespace(unit)
    return stacked_harmonics(l_max, unit) * xp.asarray(factors, dtype=unit.dtype, device=getattr(unit, "device", None))


def unit_vectors(directions, name: str, convention: str):
    """Check directions (..., 3) and return them normalized, in the axes of "physics"."""
    directions = array(directions, name, allow_empty=True)
    choice(convention, "convention", CONVENTIONS)
    if directions.ndim == 0 or directions.shape[-1] != 3:
        raise ValueError(f"{name} must have shape (..., 3), got {tuple(directions.shape)}")
    xp = namespace(directions)
    largest = xp.max(xp.abs(directions), axis=-1, keepdims=True)
    zeros = int(xp.sum(xp.astype(largest == 0, xp.int64)))
    if zeros:
        raise ValueError(f"{name} must not have vectors of length zero, got {zeros}")
    scaled = directions / largest  # no square over- or underflows
    unit = scaled / xp.linalg.vector_norm(scaled, axis=-1, keepdims=True)
    return unit if convention == "physics" else xp.stack([unit[..., 2], unit[..., 0], unit[..., 1]], axis=-1)


def stacked_harmonics(l_max: int, unit):
    """The orthonormal harmonics (..., (l_max + 1)^2) at unit vectors (..., 3) in the axes of "physics"."""
    x, y, z = unit[..., 0], unit[..., 1], unit[..., 2]
    xp = namespace(unit)
    Q = legendre_polynomials(l_max, z)
    columns = [None] * (l_max + 1) ** 2
    cosine, sine = xp.ones_like(z), xp.zeros_like(z)
    for m in range(l_max + 1):
        for l in range(m, l_max + 1):
            center, weight = l * l + l, Q[l, m] * (math.sqrt(2) if m else 1)
            columns[center + m] = weight * cosine
            if m:
                columns[center - m] = weight * sine
        cosine, sine = x * cosine - y * sine, x * sine + y * cosine
    return xp.stack(columns, axis=-1)


def legendre_polynomials(l_max: int, z) -> dict:
    """The polynomials Q_lm(z) with sin(t)^m Q_lm(cos t) orthonormal on the sphere, by (l, m), 0 <= m <= l <= l_max."""
    Q = {}
    for m in range(l_max + 1):
        Q[m, m] = _diagonal(m) * namespace(z).ones_like(z)
        for l in range(m + 1, l_max + 1):
            lower = 0 if l == m + 1 else Q[l - 2, m] * _ratio(l - 1, m)
            Q[l, m] = (z * Q[l - 1, m] - lower) / _ratio(l, m)
    return Q


def degrees(l_max: int) -> np.ndarray:
    """The degree of each index, (l_max + 1)^2 of them."""
    return np.repeat(np.arange(l_max + 1), 2 * np.arange(l_max + 1) + 1)


def orders(l_max: int) -> np.ndarray:
    """The order m of each index."""
    l = degrees(l_max)
    return np.arange(len(l)) - l * l - l


def normalization_factors(l_max: int, normalization: str) -> np.ndarray:
    """What orthonormal harmonics are multiplied by, index by index."""
    choice(normalization, "normalization", NORMALIZATIONS)
    l = degrees(l_max)
    return {
        "orthonormal": np.ones(len(l)),
        "norm": np.sqrt(4 * np.pi / (2 * l + 1)),
        "component": np.full(len(l), math.sqrt(4 * np.pi)),
    }[normalization]


def _diagonal(m: int) -> float:
    """Q_mm = sqrt((2m + 1)!! / (2m)!! / (4 pi))."""
    return math.sqrt(math.prod((2 * k + 1) / (2 * k) for k in range(1, m + 1)) / (4 * math.pi))


def _ratio(l: int, m: int) -> float:
    """The recurrence z Q_(l-1) = r_l Q_l + r_(l-1) Q_(l-2) has r_l = sqrt((l^2 - m^2) / (4 l^2 - 1))."""
    return math.sqrt((l * l - m * m) / (4 * l * l - 1))
