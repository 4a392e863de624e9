"""Spherical harmonics in the Fourier basis of the torus, and back.

With a signed sine, Y_lm(t, p) extends to all t of a period and is a trigonometric polynomial whose only azimuthal frequencies are m and -m:
Y_lm = sum over |u| <= l and v = +-m of s_uv e^(iut + ivp). A real function has Hermitian coefficients, so v >= 0 is enough, and the product of
two functions, the linear convolution of their coefficients, is a product of values on a uniform grid of the torus.

Luo, Chen and Krishnapriyan, "Enabling Efficient Equivariant Operations in the Fourier Basis via Gaunt Tensor Products", ICLR 2024,
arXiv:2401.10216, section 3.2 and appendix C.
"""

from __future__ import annotations

import numpy as np
import torch

from ritz.linalg.sphere_grid import Constants, legendre_table
from ritz.linalg.spherical_harmonics import orders


class TorusTransform:
    """Values (batch, size, size) on the torus of functions of degree `l_max`, through their Fourier coefficients, and the projection back.

    Both ways cost O(l_max^3) per function for the change of basis and O(size^2 log size) for the FFT.
    """

    def __init__(self, size: int, l_max: int, factors: np.ndarray):
        m, l = np.arange(l_max + 1)[:, None], np.arange(l_max + 1)[None, :]
        inside, center = m <= l, l * l + l
        by_degree = np.where(inside, factors[np.where(inside, center + m, 0)], 1.0)
        norms = np.where(m > 0, np.sqrt(2), 1.0)
        P = _torus_coefficients(l_max)  # (m, l, u)
        frequencies = np.fft.fftfreq(size, 1 / size).round().astype(int)
        half_turn = _half_turn_integrals(frequencies[:, None] + np.arange(-l_max, l_max + 1)[None, :])  # (u, u')
        back = 2 * np.pi * np.einsum("mlw,uw->mul", P, half_turn) * (norms / by_degree)[:, None, :]
        order = orders(l_max)
        degree = np.sqrt(np.arange(len(order))).astype(int)
        self._size, self._l_max = size, l_max
        self._constants = Constants(
            plus=np.where(inside, center + m, 0).ravel(),
            minus=np.where(inside, center - m, 0).ravel(),
            imaginary=np.where(m > 0, -1.0, 0.0) * np.ones_like(l),
            evaluate=P * (by_degree / norms)[:, :, None],
            rows=np.arange(-l_max, l_max + 1) % size,
            project=back,
            scatter=2 * (np.abs(order) * (l_max + 1) + degree) + (order < 0),
            signs=np.where(order < 0, -1.0, 1.0),
        )

    def evaluate(self, x: torch.Tensor) -> torch.Tensor:
        """Values of the functions with coefficients x (batch, (l_max + 1)^2)."""
        return torch.fft.irfft2(self.coefficients(x), s=(self._size, self._size), norm="forward")

    def coefficients(self, x: torch.Tensor) -> torch.Tensor:
        """The Fourier coefficients (batch, size, size // 2 + 1): u in the order of the FFT, v >= 0."""
        c, count = self._constants.like(x), self._l_max + 1
        real, mirrored = (x.index_select(1, index).reshape(-1, count, count) for index in (c.plus, c.minus))
        by_order = torch.complex(real, mirrored * c.imaginary).transpose(0, 1) @ c.evaluate  # (v, batch, u)
        spectrum = by_order.new_zeros(len(x), self._size, self._size // 2 + 1)
        spectrum[:, c.rows, :count] = by_order.permute(1, 2, 0)
        return spectrum

    def project(self, values: torch.Tensor) -> torch.Tensor:
        """Coefficients (batch, (l_max + 1)^2) of the projections, on the sphere, of functions given on the torus."""
        c = self._constants.like(values)
        spectrum = torch.fft.rfft2(values, norm="forward")[..., : self._l_max + 1]
        by_order = spectrum.permute(2, 0, 1) @ c.project  # (v, batch, l)
        return torch.view_as_real(by_order.transpose(0, 1).contiguous()).flatten(1).index_select(1, c.scatter) * c.signs


def _torus_coefficients(l_max: int) -> np.ndarray:
    """P_lm(t) = sum_u P[m, l, u] e^(iut), |u| <= l_max, by an exact FFT of samples over the whole period."""
    t = 2 * np.pi * np.arange(2 * l_max + 1) / (2 * l_max + 1)
    samples = legendre_table(l_max, np.cos(t), np.sin(t))
    return np.fft.fftshift(np.fft.fft(samples, norm="forward"), axes=-1)


def _half_turn_integrals(k: np.ndarray) -> np.ndarray:
    """The integral of e^(ikt) sin t over [0, pi]: 2 / (1 - k^2) for even k, +-i pi / 2 for k = +-1, zero for other odd k."""
    even = k % 2 == 0
    return np.where(even, 2 / np.where(even, 1.0 - k * k, 1.0), 0) + 0.5j * np.pi * np.where(np.abs(k) == 1, k, 0)
