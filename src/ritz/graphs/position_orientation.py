"""Convolutions over positions and orientations whose kernels see only what rotations and translations leave alone.

Bekkers, Vadgama, Hesselink, van der Linden and Romero, "Fast, Expressive SE(n) Equivariant Networks through Weight-Sharing in Position-Orientation
Space", ICLR 2024, arXiv:2310.02970, sections 3 and 4.
"""

from __future__ import annotations

import torch
from torch import nn

from ritz.core import flag, integer

UNIT_TOLERANCE = 1e-4
EDGES_AT_ONCE = 2048  # times orientations: small enough for the caches


def invariants(pos: torch.Tensor, edge_index: torch.Tensor, grid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return what rotations and translations of points and grid together leave alone, for each edge and orientation.

    With r = p_source - p_target and o an orientation at the target: r . o and the length of the rest of r (in the plane its signed part along o
    turned by a right angle: mirror images differ); between orientations o . o'; and |r|.

    Parameters
    ----------
    pos : Tensor (N, dim)
        Positions, dim 2 or 3.
    edge_index : LongTensor (2, E)
        Sources and targets.
    grid : Tensor (O, dim)
        Unit vectors.

    Returns
    -------
    spatial (E, O, 2), fiber (O, O, 1), dist (E, 1)

    Raises
    ------
    ValueError
        If shapes disagree, a position is not finite, or the grid is not made of unit vectors.

    Examples
    --------
    >>> spatial, _, dist = invariants(torch.tensor([[0.0, 0.0], [3.0, 4.0]]), torch.tensor([[1], [0]]), torch.tensor([[1.0, 0.0]]))
    >>> spatial, dist
    (tensor([[[3., 4.]]]), tensor([[5.]]))
    """
    check_points(pos, edge_index)
    if grid.dim() != 2 or grid.shape[1] != pos.shape[1]:
        raise ValueError(f"grid must have shape (orientations, {pos.shape[1]}), got {tuple(grid.shape)}")
    if not (grid.norm(dim=1) - 1).abs().max() <= UNIT_TOLERANCE:
        raise ValueError("grid must be made of unit vectors")
    r = pos[edge_index[0]] - pos[edge_index[1]]
    along = r @ grid.T
    if pos.shape[1] == 2:
        across = r @ torch.stack([-grid[:, 1], grid[:, 0]], dim=1).T
    else:
        across = safe_norm(r.unsqueeze(1) - along.unsqueeze(-1) * grid, dim=-1)
    return torch.stack([along, across], dim=-1), (grid @ grid.T).unsqueeze(-1), safe_norm(r, dim=-1).unsqueeze(-1)


def pair_invariants(pos: torch.Tensor, orientation: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
    """The three invariants (E, 1, 3) of pairs of points that have an orientation each."""
    source, target = edge_index
    r, o = pos[source] - pos[target], orientation[target]
    along = (r * o).sum(-1)
    across = (r * torch.stack([-o[:, 1], o[:, 0]], dim=1)).sum(-1) if pos.shape[1] == 2 else safe_norm(r - along.unsqueeze(-1) * o, dim=-1)
    return torch.stack([along, across, (o * orientation[source]).sum(-1)], dim=-1).unsqueeze(1)


def safe_norm(x: torch.Tensor, dim: int) -> torch.Tensor:
    """The Euclidean norm, with gradient 0 at 0."""
    squared = x.square().sum(dim)
    positive = squared > 0
    return torch.where(positive, torch.where(positive, squared, 1).sqrt(), 0)


def polynomial_cutoff(dist: torch.Tensor, radius: float | None, p: int = 6) -> torch.Tensor:
    """A weight that falls from 1 at distance 0 to 0 at the radius, with vanishing slope there; 1 everywhere without a radius."""
    if radius is None:
        return torch.ones_like(dist)
    t = dist / radius
    weight = 1 - (p + 1) * (p + 2) / 2 * t**p + p * (p + 2) * t ** (p + 1) - p * (p + 1) / 2 * t ** (p + 2)
    return torch.where(t < 1, weight, 0)


class KernelBasis(nn.Module):
    """All tensor powers of the invariants up to a degree, through a small perceptron: the functions that kernels are linear combinations of."""

    def __init__(self, invariants: int, degree: int, hidden: int, basis: int):
        super().__init__()
        self.degree = degree
        powers = sum(invariants**k for k in range(1, degree + 1))
        self.mix = nn.Sequential(nn.Linear(powers, hidden), nn.GELU(), nn.Linear(hidden, basis), nn.GELU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map invariants (..., k) to basis functions (..., basis)."""
        powers = [x]
        for _ in range(self.degree - 1):
            powers.append((powers[-1].unsqueeze(-1) * x.unsqueeze(-2)).flatten(-2))
        return self.mix(torch.cat(powers, dim=-1))


class FiberBundleConv(nn.Module):
    """A convolution channel by channel, first over positions, then over orientations.

    ``x1_i(a) = sum_j K1 B(i, j, a) * x_j(a)`` and ``x2_i(b) = mean_a K2 B(a, b) * x1_i(a)``, plus a bias. In training the first call scales K1 and K2
    so that either step keeps the standard deviation.

    Parameters
    ----------
    channels : int
        Of features and outputs.
    basis : int
        Number of basis functions of either kernel.
    fiber : bool
        False for features with one orientation a point: the second step is left out.
    mean : bool
        Average over a point's neighbors instead of adding up.

    Examples
    --------
    >>> x, edges, grid = torch.randn(4, 6, 8), torch.tensor([[0, 1], [1, 2]]), torch.randn(6, 6, 5)
    >>> FiberBundleConv(8, 5)(x, edges, torch.randn(2, 6, 5), grid).shape
    torch.Size([4, 6, 8])
    """

    def __init__(self, channels: int, basis: int, *, fiber: bool = True, mean: bool = False):
        super().__init__()
        channels, basis = integer(channels, "channels", at_least=1), integer(basis, "basis", at_least=1)
        self.mean, fiber = flag(mean, "mean"), flag(fiber, "fiber")
        self.kernel = nn.Linear(basis, channels, bias=False)
        self.fiber_kernel = nn.Linear(basis, channels, bias=False) if fiber else None
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("calibrated", torch.tensor(False))

    def forward(
        self, x: torch.Tensor, edge_index: torch.Tensor, basis: torch.Tensor, fiber_basis: torch.Tensor | None = None, targets: int | None = None
    ) -> torch.Tensor:
        """Map features (N, O, C), with basis functions (E, O, B) and (O, O, B), to (targets, O, C)."""
        targets = len(x) if targets is None else targets
        if self.training and not self.calibrated:
            self._calibrate(x, edge_index, basis, fiber_basis, targets)
        spread = self._over_positions(x, edge_index, basis, targets)
        return (spread if self.fiber_kernel is None else self._over_orientations(spread, fiber_basis)) + self.bias

    def _over_positions(self, x, edge_index, basis, targets: int) -> torch.Tensor:
        total = _KernelSum.apply(basis, self.kernel.weight, x, edge_index, targets)
        if not self.mean:
            return total
        return total / torch.bincount(edge_index[1], minlength=targets).clamp(min=1).to(x.dtype).view(-1, 1, 1)

    def _over_orientations(self, x, fiber_basis) -> torch.Tensor:
        return torch.einsum("nac,abc->nbc", x, self.fiber_kernel(fiber_basis)) / x.shape[1]

    @torch.no_grad()
    def _calibrate(self, x, edge_index, basis, fiber_basis, targets: int) -> None:
        self.calibrated.fill_(True)
        spread = self._over_positions(x, edge_index, basis, targets)
        spread = spread * _rescale(self.kernel, x, spread)
        if self.fiber_kernel is not None:
            _rescale(self.fiber_kernel, spread, self._over_orientations(spread, fiber_basis))


class _KernelSum(torch.autograd.Function):
    """sum over edges of (K basis) * x_source at the target, a few edges at a time: kernels and products are never all there at once."""

    @staticmethod
    def forward(ctx, basis, weight, x, edge_index, targets):
        ctx.save_for_backward(basis, weight, x, edge_index)
        total = x.new_zeros(targets, *x.shape[1:])
        for part in _parts(basis):
            total.index_add_(0, edge_index[1, part], (basis[part] @ weight.T).mul_(x[edge_index[0, part]]))
        return total

    @staticmethod
    def backward(ctx, gradient):
        basis, weight, x, edge_index = ctx.saved_tensors
        basis_gradient, weight_gradient, x_gradient = torch.empty_like(basis), torch.zeros_like(weight), torch.zeros_like(x)
        for part in _parts(basis):
            source, target = edge_index[:, part]
            arriving = gradient[target]
            x_gradient.index_add_(0, source, (basis[part] @ weight.T).mul_(arriving))
            kernel_gradient = arriving.mul_(x[source])
            torch.matmul(kernel_gradient, weight, out=basis_gradient[part])
            weight_gradient += kernel_gradient.flatten(0, 1).T @ basis[part].flatten(0, 1)
        return basis_gradient, weight_gradient, x_gradient, None, None


def _parts(basis: torch.Tensor):
    size = max(1, EDGES_AT_ONCE // basis.shape[1])
    return (slice(start, start + size) for start in range(0, len(basis), size))


def _rescale(linear: nn.Linear, before: torch.Tensor, after: torch.Tensor) -> float:
    """Scale a kernel by the ratio of two standard deviations, if they are positive, and return it."""
    wanted, found = float(before.std()), float(after.std())
    ratio = wanted / found if wanted > 0 and found > 0 else 1.0
    linear.weight.mul_(ratio)
    return ratio


def check_points(pos: torch.Tensor, edge_index: torch.Tensor | None) -> None:
    """Refuse positions and edges that are none."""
    if pos.dim() != 2 or pos.shape[1] not in (2, 3):
        raise ValueError(f"pos must have shape (points, 2 or 3), got {tuple(pos.shape)}")
    if not torch.isfinite(pos).all():
        raise ValueError("pos must be finite")
    if edge_index is not None and (edge_index.dim() != 2 or edge_index.shape[0] != 2):
        raise ValueError(f"edge_index must have shape (2, edges), got {tuple(edge_index.shape)}")
