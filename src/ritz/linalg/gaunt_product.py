"""The Gaunt tensor product: the equivariant product of two features, as the product of the functions on the sphere that they stand for.

Coefficients x of degrees up to l1 and y of degrees up to l2 stand for f = sum x_lm Y_lm and g; the product h = f g has coefficients
z_lm = sum x_l1m1 y_l2m2 G(l1 m1, l2 m2, l m), a Clebsch-Gordan product with fixed path constants. Multiplying values costs O(L^3) instead of O(L^6).

Luo, Chen and Krishnapriyan, "Enabling Efficient Equivariant Operations in the Fourier Basis via Gaunt Tensor Products", ICLR 2024,
arXiv:2401.10216.
"""

from __future__ import annotations

import torch
from torch import nn

from ritz.core import choice, flag, integer, is_torch
from ritz.linalg.gaunt_coefficients import gaunt_coefficients
from ritz.linalg.sphere_grid import Constants, DirectTransform, SeparableTransform, SphereGrid
from ritz.linalg.spherical_harmonics import degrees, normalization_factors
from ritz.linalg.torus_transform import TorusTransform

BACKENDS = ("grid", "fourier", "dense")
SEPARABLE_FROM = 24  # the degree of the integrand from which on, measured on one core, the separable form is the faster
CACHED = 2**18  # so many values on the grid at a time stay in a core's cache


class GauntTensorProduct(nn.Module):
    """The product of two functions on the sphere, from coefficients to coefficients of real spherical harmonics.

    Parameters
    ----------
    l1, l2 : int
        The highest degrees of the two inputs, at least 0.
    l_out : int, optional
        The highest degree kept of the product, at most ``l1 + l2``, the default, with which nothing is lost.
    backend : {"grid", "fourier", "dense"}
        "grid": values on a Gauss-Legendre grid of the sphere, fastest at all sizes measured. "fourier": the published form, an FFT on the torus.
        "dense": an outer product and one product with the Gaunt tensor, O(L^6), for reference. All three are one bilinear map.
    weights : bool
        Whether every degree of both inputs and of the output is scaled by a learnable number, so that path (l1, l2, l) has the weight a_l1 b_l2 c_l.
        They start at 1.
    channels : int, optional
        With weights: as many sets of them, along the dimension before the last.
    normalization : {"orthonormal", "norm", "component"}
        Of the harmonics, as in `real_spherical_harmonics`.

    Raises
    ------
    ValueError, TypeError
        At construction if a degree is negative or `l_out` above ``l1 + l2``; in the forward pass if a last dimension is not ``(l + 1)^2``, or an
        input is not float32 or float64.

    Notes
    -----
    ``forward(x, y)`` maps (..., (l1 + 1)^2) and (..., (l2 + 1)^2) to (..., (l_out + 1)^2), Y_lm at index l^2 + l + m as e3nn orders
    ``0e + 1o + 2e + ...``; leading dimensions broadcast. Paths with l1 + l2 + l odd are absent: no cross product of two vectors.
    It commutes with every rotation and reflection, whatever convention of axes the coefficients have, with or without weights. Constants are kept
    in double precision and follow the input's dtype and device; they are no part of the module's state.
    The sphere's grid has floor((l1 + l2 + l_out) / 2) + 1 nodes times l1 + l2 + l_out + 1 azimuths. Up to L = 5 it is evaluated by one
    matrix product, O(L^4); above, order by order, O(L^3). On the CPU rows are multiplied in pieces that fit the cache.

    References
    ----------
    .. [1] Luo, Chen and Krishnapriyan, ICLR 2024, arXiv:2401.10216.

    Examples
    --------
    >>> product = GauntTensorProduct(1, 1)
    >>> x = torch.tensor([0.0, 1.0, 2.0, 3.0])
    >>> unit = torch.tensor([(4 * torch.pi) ** 0.5, 0.0, 0.0, 0.0])  # the function that is 1
    >>> product(x, unit).round(decimals=4).tolist()[:4]
    [0.0, 1.0, 2.0, 3.0]
    """

    def __init__(
        self,
        l1: int,
        l2: int,
        l_out: int | None = None,
        *,
        backend: str = "grid",
        weights: bool = False,
        channels: int | None = None,
        normalization: str = "orthonormal",
    ):
        super().__init__()
        self.l1, self.l2 = integer(l1, "l1", at_least=0), integer(l2, "l2", at_least=0)
        self.l_out = l1 + l2 if l_out is None else integer(l_out, "l_out", at_least=0, at_most=l1 + l2)
        self.backend = choice(backend, "backend", BACKENDS)
        self.channels = None if channels is None else integer(channels, "channels", at_least=1)
        if self.channels is not None and not weights:
            raise ValueError(f"channels must be None without weights, got {channels}")
        made = (DegreeWeights(l, self.channels) if flag(weights, "weights") else nn.Identity() for l in (self.l1, self.l2, self.l_out))
        self.first_weights, self.second_weights, self.out_weights = made
        self._multiply, self._row_size = self._multiplication(normalization)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Multiply (..., (l1 + 1)^2) by (..., (l2 + 1)^2): (..., (l_out + 1)^2)."""
        x = self.first_weights(checked_coefficients(x, "x", self.l1, self.channels))
        y = self.second_weights(checked_coefficients(y, "y", self.l2, self.channels))
        batch = torch.broadcast_shapes(x.shape[:-1], y.shape[:-1])
        if 0 in batch:
            return torch.empty(*batch, (self.l_out + 1) ** 2, dtype=torch.result_type(x, y), device=x.device)
        rows = [value.expand(*batch, -1).reshape(-1, value.shape[-1]) for value in (x, y)]
        z = in_pieces(self._multiply, self._row_size, *rows)
        return self.out_weights(z.reshape(*batch, z.shape[-1]))

    def extra_repr(self) -> str:
        """Shown by print."""
        return f"{self.l1}, {self.l2}, {self.l_out}, backend={self.backend!r}"

    def _multiplication(self, normalization: str):
        """The function from rows and rows to rows, and how many numbers it works with per row."""
        if self.backend == "dense":
            multiply = _DenseProduct(gaunt_coefficients(self.l1, self.l2, self.l_out, normalization=normalization))
            return multiply, (self.l1 + 1) ** 2 * (self.l2 + 1) ** 2
        factors = [normalization_factors(l, normalization) for l in (self.l1, self.l2, self.l_out)]
        if self.backend == "fourier":
            size = 2 * (self.l1 + self.l2) + 1
            first, second, out = (TorusTransform(size, l, f) for l, f in zip((self.l1, self.l2, self.l_out), factors))
            row_size = size**2
        else:
            grid = SphereGrid(self.l1 + self.l2 + self.l_out)
            first, second, out = (grid_transform(grid, l, f) for l, f in zip((self.l1, self.l2, self.l_out), factors))
            row_size = len(grid.weights)
        return (lambda x, y: out.project(first.evaluate(x) * second.evaluate(y))), row_size


class DegreeWeights(nn.Module):
    """One learnable factor per degree, and per channel if there are channels: (..., [channels,] (l_max + 1)^2) to the same shape."""

    def __init__(self, l_max: int, channels: int | None = None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones((l_max + 1,) if channels is None else (channels, l_max + 1)))
        self._constants = Constants(degrees=degrees(l_max))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scale every degree."""
        return x * self.weight.to(x.dtype)[..., self._constants.like(x).degrees]


def checked_coefficients(x: torch.Tensor, name: str, l_max: int, channels: int | None = None) -> torch.Tensor:
    """Refuse what is no float32 or float64 tensor (..., [channels,] (l_max + 1)^2)."""
    if not is_torch(x) or x.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"{name} must be a float32 or float64 tensor, got {x.dtype if is_torch(x) else type(x).__name__}")
    expected = ((l_max + 1) ** 2,) if channels is None else (channels, (l_max + 1) ** 2)
    if tuple(x.shape[-len(expected) :]) != expected:
        raise ValueError(f"{name} must have shape (..., {', '.join(map(str, expected))}), got {tuple(x.shape)}")
    return x


def grid_transform(grid: SphereGrid, l_max: int, factors) -> DirectTransform | SeparableTransform:
    """The faster form of the transform between coefficients and values on this grid."""
    return (SeparableTransform if len(grid.azimuths) > SEPARABLE_FROM else DirectTransform)(grid, l_max, factors)


def in_pieces(function, row_size: int, *rows: torch.Tensor) -> torch.Tensor:
    """Apply a function of rows; on the CPU to so many rows at a time that the `row_size` numbers of each stay in the cache."""
    count, piece = len(rows[0]), max(16, CACHED // row_size)
    if rows[0].device.type != "cpu" or count <= piece:
        return function(*rows)
    return torch.cat([function(*some) for some in zip(*(value.split(piece) for value in rows))])


class _DenseProduct:
    def __init__(self, G):
        self._constants = Constants(G=G.reshape(-1, G.shape[-1]))

    def __call__(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        pairs = (x[:, :, None] * y[:, None, :]).flatten(1)
        return pairs @ self._constants.like(pairs).G
