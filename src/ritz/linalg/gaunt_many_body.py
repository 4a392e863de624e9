"""Many-body features: a function on the sphere multiplied with itself, the equivariant core of the atomic cluster expansion and of MACE.

x -> sum over nu of w_nu * (x (x) ... (x) x), nu factors, by divide and conquer: f^nu = f^(nu // 2) f^(nu - nu // 2).

Luo, Chen and Krishnapriyan, "Enabling Efficient Equivariant Operations in the Fourier Basis via Gaunt Tensor Products", ICLR 2024,
arXiv:2401.10216, section 3.3.
"""

from __future__ import annotations

import torch
from torch import nn

from ritz.core import flag, integer
from ritz.linalg.gaunt_product import DegreeWeights, checked_coefficients, grid_transform, in_pieces
from ritz.linalg.sphere_grid import SphereGrid
from ritz.linalg.spherical_harmonics import normalization_factors


class GauntManyBody(nn.Module):
    """The sum of the Gaunt powers of a feature up to an order, each with weights per degree.

    Parameters
    ----------
    l : int
        The highest degree of the feature, at least 0.
    order : int
        The highest power, at least 1.
    l_out : int
        The highest degree kept, at most ``order * l``. Nothing is truncated before.
    weights : bool
        Whether each degree of each power is scaled by a learnable number; they start at 1.
    normalization : {"orthonormal", "norm", "component"}
        Of the harmonics, as in `real_spherical_harmonics`.

    Raises
    ------
    ValueError, TypeError
        If a degree does not fit; in the forward pass if the last dimension is not ``(l + 1)^2`` or the input is not float32 or float64.

    Notes
    -----
    ``forward(x)`` maps (..., (l + 1)^2) to (..., (l_out + 1)^2). `powers.weight` (order, l_out + 1) holds the weights.
    Powers are taken of values on a grid of the sphere that is exact for degree ``order * l + l_out``: one evaluation, ``order - 1``
    multiplications, one projection per order.

    References
    ----------
    .. [1] Luo, Chen and Krishnapriyan, ICLR 2024, arXiv:2401.10216, section 3.3.

    Examples
    --------
    >>> square = GauntManyBody(0, 2, 0, weights=False)
    >>> round(float(square(torch.tensor([2.0]))), 4)  # 2 + 2 * 2 / sqrt(4 pi)
    3.1284
    """

    def __init__(self, l: int, order: int, l_out: int, *, weights: bool = True, normalization: str = "orthonormal"):
        super().__init__()
        self.l, self.order = integer(l, "l", at_least=0), integer(order, "order", at_least=1)
        self.l_out = integer(l_out, "l_out", at_least=0, at_most=order * l)
        self.powers = DegreeWeights(self.l_out, self.order) if flag(weights, "weights") else None
        grid = SphereGrid(self.order * self.l + self.l_out)
        self._row_size = self.order * len(grid.weights)
        self._into, self._out_of = (grid_transform(grid, degree, normalization_factors(degree, normalization)) for degree in (self.l, self.l_out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Sum the weighted powers of (..., (l + 1)^2): (..., (l_out + 1)^2)."""
        x = checked_coefficients(x, "x", self.l)
        z = in_pieces(self._summed_powers, self._row_size, x.reshape(-1, x.shape[-1]))
        return z.reshape(*x.shape[:-1], z.shape[-1])

    def extra_repr(self) -> str:
        """Shown by print."""
        return f"{self.l}, {self.order}, {self.l_out}"

    def _summed_powers(self, rows: torch.Tensor) -> torch.Tensor:
        powers = {1: self._into.evaluate(rows)}
        for nu in range(2, self.order + 1):
            powers[nu] = powers[nu // 2] * powers[nu - nu // 2]
        if self.powers is None:
            return self._out_of.project(sum(powers.values()))
        return self.powers(torch.stack([self._out_of.project(powers[nu]) for nu in range(1, self.order + 1)], dim=-2)).sum(dim=-2)
