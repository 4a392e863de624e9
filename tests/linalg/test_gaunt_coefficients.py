"""Gaunt coefficients: selection rules, symmetry, the 3j symbol, products of harmonics."""

from math import factorial, pi, sqrt

import numpy as np
import pytest
from specimens import Specimen

from ritz.linalg import gaunt_coefficients, real_spherical_harmonics

SPECIMENS = {"gaunt_coefficients": Specimen(gaunt_coefficients, lambda: {"l1": 2, "l2": 1, "l3": 3, "normalization": "orthonormal"})}


def part(l):
    return slice(l * l, (l + 1) ** 2)


def three_j_of_zeros(l1, l2, l3):
    """The squared 3j symbol (l1 l2 l3; 0 0 0), in closed form."""
    total = l1 + l2 + l3
    if total % 2 or l3 > l1 + l2 or l3 < abs(l1 - l2):
        return 0.0
    g = total // 2
    triangle = factorial(total - 2 * l1) * factorial(total - 2 * l2) * factorial(total - 2 * l3) / factorial(total + 1)
    return triangle * (factorial(g) / (factorial(g - l1) * factorial(g - l2) * factorial(g - l3))) ** 2


def test_a_path_has_the_size_of_its_three_j_symbol_and_odd_paths_are_exactly_zero():
    G = gaunt_coefficients(4, 4, 8)
    for l1 in range(5):
        for l2 in range(5):
            for l3 in range(9):
                block = G[part(l1), part(l2), part(l3)]
                squared = (2 * l1 + 1) * (2 * l2 + 1) * (2 * l3 + 1) / (4 * pi) * three_j_of_zeros(l1, l2, l3)
                np.testing.assert_allclose(np.sum(block**2), squared, atol=1e-13)
                if (l1 + l2 + l3) % 2:
                    assert not block.any()


def test_symmetric_in_the_three_index_pairs():
    G = gaunt_coefficients(4, 4, 4)
    for order in ((1, 0, 2), (0, 2, 1), (2, 1, 0), (1, 2, 0)):
        np.testing.assert_allclose(G.transpose(order), G, atol=1e-14)


def test_one_factor_constant():
    G = gaunt_coefficients(0, 5, 5)
    np.testing.assert_allclose(G[0], np.eye(36) / sqrt(4 * pi), atol=1e-15)


@pytest.mark.parametrize("normalization", ["orthonormal", "norm", "component"])
def test_products_of_harmonics(normalization):
    u = np.random.default_rng(0).standard_normal((6, 3))
    Y = real_spherical_harmonics(5, u, normalization=normalization)
    G = gaunt_coefficients(3, 2, 5, normalization=normalization)
    np.testing.assert_allclose(np.einsum("ijk,uk->uij", G, Y), Y[:, :16, None] * Y[:, None, :9], atol=1e-12)


def test_negative_degrees_are_refused():
    with pytest.raises(ValueError, match="l2 must be"):
        gaunt_coefficients(1, -1, 2)
