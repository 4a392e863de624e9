"""The equivariant convolution: the Gaunt product of a feature with the spherical harmonics of an edge's direction.

The filter, sum_l b_l Y_l(edge) . Y_l(u), depends on the angle between u and the edge alone. Turned so that the edge is the polar axis, it is a
function of t, and multiplying by it mixes no orders m: for each m, a function of t is multiplied by one function of t, the convolution along u
of their Fourier coefficients for each v. Then it is turned back.

Luo, Chen and Krishnapriyan, "Enabling Efficient Equivariant Operations in the Fourier Basis via Gaunt Tensor Products", ICLR 2024,
arXiv:2401.10216, section 3.3; the turn is that of Passaro and Zitnick, "Reducing SO(3) Convolutions to SO(2)", ICML 2023, arXiv:2302.03655.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from ritz.core import choice, flag, integer, is_torch
from ritz.linalg.gaunt_product import DegreeWeights, checked_coefficients
from ritz.linalg.sphere_grid import Constants, SphereGrid
from ritz.linalg.spherical_harmonics import CONVENTIONS, degrees, normalization_factors, orders, unit_vectors
from ritz.linalg.wigner import PoleTurn, axis_exchange, unit_pair


class GauntConvolution(nn.Module):
    """The product of features on edges with the spherical harmonics of the edges' directions.

    Parameters
    ----------
    l_in, l_filter, l_out : int
        The highest degrees of the feature, of the edge's harmonics and of the output; ``l_out`` is at most ``l_in + l_filter``.
    weights : bool
        Whether every degree of feature, filter and output is scaled by a learnable number; they start at 1.
    convention : {"e3nn", "physics"}
        Of the axes, as in `real_spherical_harmonics`.
    normalization : {"orthonormal", "norm", "component"}
        Of the harmonics, of the features as of the filter.

    Raises
    ------
    ValueError, TypeError
        If a degree does not fit; in the forward pass if shapes do not fit, features are not float32 or float64, or an edge is zero or not finite.

    Notes
    -----
    ``forward(x, edge_vectors)`` maps (E, ..., (l_in + 1)^2) and (E, 3) to (E, ..., (l_out + 1)^2), and equals
    ``GauntTensorProduct(l_in, l_filter, l_out)(x, real_spherical_harmonics(l_filter, edge_vectors))`` in O(L^3) per edge.
    Functions of t are multiplied at Gauss-Legendre nodes, which is exact. Edges nearer to the polar axis than to the equator are first
    turned away from it, so that gradients with respect to edges are right everywhere.

    References
    ----------
    .. [1] Luo, Chen and Krishnapriyan, ICLR 2024, arXiv:2401.10216, section 3.3.

    Examples
    --------
    >>> convolution = GauntConvolution(1, 1, 1, weights=False)
    >>> x = torch.tensor([[math.sqrt(4 * math.pi), 0.0, 0.0, 0.0]])  # the function that is 1
    >>> convolution(x, torch.tensor([[0.0, 0.0, 5.0]])).numpy().round(3)  # the edge's own harmonics
    array([[0.282, 0.   , 0.   , 0.489]], dtype=float32)
    """

    def __init__(self, l_in: int, l_filter: int, l_out: int, *, weights: bool = True, convention: str = "e3nn", normalization: str = "orthonormal"):
        super().__init__()
        self.l_in, self.l_filter = integer(l_in, "l_in", at_least=0), integer(l_filter, "l_filter", at_least=0)
        self.l_out = integer(l_out, "l_out", at_least=0, at_most=l_in + l_filter)
        self.convention = choice(convention, "convention", CONVENTIONS)
        self.in_weights, self.out_weights = (DegreeWeights(l) if flag(weights, "weights") else nn.Identity() for l in (self.l_in, self.l_out))
        self.filter_weights = nn.Parameter(torch.ones(self.l_filter + 1)) if weights else None
        self._constants = Constants(**self._tables(normalization))

    def forward(self, x: torch.Tensor, edge_vectors: torch.Tensor) -> torch.Tensor:
        """Convolve (E, ..., (l_in + 1)^2) along the edges (E, 3): (E, ..., (l_out + 1)^2)."""
        x = self.in_weights(checked_coefficients(x, "x", self.l_in))
        if not is_torch(edge_vectors):
            raise TypeError(f"edge_vectors must be a torch tensor, got {type(edge_vectors).__name__}")
        directions = unit_vectors(edge_vectors, "edge_vectors", self.convention)
        if x.ndim < 2 or tuple(directions.shape) != (len(x), 3):
            raise ValueError(f"edge_vectors must have shape (E, 3) beside x (E, ..., {x.shape[-1]}), got {tuple(edge_vectors.shape)}")
        features = x.flatten(1, -2) if x.ndim > 2 else x[:, None]
        c, directions = self._constants.like(x), directions.to(x.dtype)
        near_pole = directions[:, 2].abs() > math.sqrt(0.5)
        exchanged = directions[:, [0, 2, 1]] * directions.new_tensor([-1.0, 1.0, 1.0])
        directions = torch.where(near_pole[:, None], exchanged, directions)
        cos_p, sin_p = unit_pair(directions[:, 0], directions[:, 1])
        cos_t, sin_t = directions[:, 2], torch.hypot(directions[:, 0], directions[:, 1])
        turns = [(cos_p[:, None], sin_p[:, None]), (cos_t[:, None], sin_t[:, None])]

        def exchange_near_pole(value: torch.Tensor, J: list[torch.Tensor]) -> torch.Tensor:
            return torch.where(near_pole[:, None, None], _by_degree(value, J), value)

        J_in, J_out = _blocks(c.exchange_in, self.l_in), _blocks(c.exchange_out, self.l_out)
        value = exchange_near_pole(features, J_in)
        for cosine, sine in turns:
            value = _by_degree(PoleTurn(self.l_in, cosine, sine).back(value), J_in)
        value = self._multiply_by_filter(value)
        for cosine, sine in reversed(turns):
            value = PoleTurn(self.l_out, cosine, sine)(_by_degree(value, J_out))
        return self.out_weights(exchange_near_pole(value, J_out).reshape(*x.shape[:-1], value.shape[-1]))

    def extra_repr(self) -> str:
        """Shown by print."""
        return f"{self.l_in}, {self.l_filter}, {self.l_out}"

    def _multiply_by_filter(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply functions whose edges are the polar axis by the filter: order by order, at the nodes in t."""
        c, highest = self._constants.like(x), min(self.l_in, self.l_out)
        values = c.filter if self.filter_weights is None else c.filter * self.filter_weights.to(x.dtype)[:, None]
        rows = x.reshape(-1, x.shape[-1])
        by_order = rows.index_select(1, c.gather).reshape(len(rows), 2 * highest + 1, self.l_in + 1).transpose(0, 1)
        products = (by_order @ c.evaluate * values.sum(dim=0)) @ c.project
        padded = torch.cat([products.transpose(0, 1).flatten(1), rows.new_zeros(len(rows), 1)], dim=1)
        return padded.index_select(1, c.scatter).reshape(*x.shape[:-1], len(c.scatter))

    def _tables(self, normalization: str) -> dict[str, np.ndarray]:
        l_in, l_out, highest = self.l_in, self.l_out, min(self.l_in, self.l_out)
        in_scale, filter_scale, out_scale = (normalization_factors(l, normalization) for l in (l_in, self.l_filter, l_out))
        grid = SphereGrid(l_in + self.l_filter + l_out)
        m = np.arange(-highest, highest + 1)
        # A filter's coefficients times the scaled harmonics: Y_l0 at the pole is sqrt((2 l + 1) / (4 pi)), and both factors carry the scale.
        zonal = np.sqrt((2 * np.arange(self.l_filter + 1) + 1) / (4 * np.pi)) * filter_scale[np.arange(self.l_filter + 1) ** 2] ** 2
        l, order = np.arange(l_in + 1), orders(l_out)
        inside = np.abs(m)[:, None] <= l
        index = np.where(inside, l * l + l + m[:, None], 0)
        evaluate = grid.legendre(l_in)[np.abs(m)] * in_scale[l * l][:, None]
        # 2 pi is the integral over the azimuth of the square of a wave
        project = grid.legendre(l_out)[np.abs(m)] * grid.t_weights * (2 * np.pi / out_scale[np.arange(l_out + 1) ** 2])[:, None]
        place = (order + highest) * (l_out + 1) + degrees(l_out)
        return {
            "exchange_in": axis_exchange(l_in),
            "exchange_out": axis_exchange(l_out),
            "gather": index.ravel(),
            "scatter": np.where(np.abs(order) <= highest, place, (2 * highest + 1) * (l_out + 1)),
            "filter": zonal[:, None] * grid.legendre(self.l_filter)[0],
            "evaluate": evaluate,
            "project": project.transpose(0, 2, 1),
        }


def _blocks(J: torch.Tensor, l_max: int) -> list[torch.Tensor]:
    return [J[l * l : (l + 1) ** 2, l * l : (l + 1) ** 2] for l in range(l_max + 1)]


def _by_degree(x: torch.Tensor, blocks: list[torch.Tensor]) -> torch.Tensor:
    """Multiply each degree of (..., (l_max + 1)^2) by its symmetric block."""
    return torch.cat([part @ block for part, block in zip(x.split([len(block) for block in blocks], dim=-1), blocks)], dim=-1)
