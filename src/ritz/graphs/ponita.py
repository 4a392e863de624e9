"""PONITA: networks on clouds of points that turn with their input, by convolutions over positions and orientations.

Bekkers, Vadgama, Hesselink, van der Linden and Romero, "Fast, Expressive SE(n) Equivariant Networks through Weight-Sharing in Position-Orientation
Space", ICLR 2024, arXiv:2310.02970, section 4.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from ritz.core import choice, flag, integer, optional_import, positive, real
from ritz.graphs.orientation_grids import sphere_grid
from ritz.graphs.position_orientation import FiberBundleConv, KernelBasis, check_points, invariants, pair_invariants, polynomial_cutoff, safe_norm

_utils = optional_import("torch_geometric.utils", extra="graphs")


class ConvNeXtBlock(nn.Module):
    """``x + scale * W2 gelu(W1 norm(conv(x)))``, channel by channel in the convolution, point by point in the rest.

    Parameters
    ----------
    conv : FiberBundleConv
        The convolution.
    channels : int
        Of the features.
    widening : int
        How many times as wide the inner layer is.
    layer_scale : float or None
        Where the learned scale of each channel starts; none without it.

    Examples
    --------
    >>> block = ConvNeXtBlock(FiberBundleConv(8, 5, fiber=False), 8)
    >>> block(torch.randn(4, 1, 8), torch.tensor([[0, 1], [1, 2]]), torch.randn(2, 1, 5)).shape
    torch.Size([4, 1, 8])
    """

    def __init__(self, conv: nn.Module, channels: int, widening: int = 4, layer_scale: float | None = 1e-6):
        super().__init__()
        channels, widening = integer(channels, "channels", at_least=1), integer(widening, "widening", at_least=1)
        self.conv = conv
        self.mix = nn.Sequential(
            nn.LayerNorm(channels), nn.Linear(channels, widening * channels), nn.GELU(), nn.Linear(widening * channels, channels)
        )
        self.scale = None if layer_scale is None else nn.Parameter(torch.full((channels,), real(layer_scale, "layer_scale")))

    def forward(self, x: torch.Tensor, *geometry) -> torch.Tensor:
        """Apply the block to features (N, O, C); the rest is passed to the convolution."""
        change = self.mix(self.conv(x, *geometry))
        return x + (change if self.scale is None else self.scale * change)


class Geometry(NamedTuple):
    """Where features live: for each of P points its orientations (P or 1, O, dim), the edges among points, kernels' bases, and the input point."""

    orientations: torch.Tensor
    edge_index: torch.Tensor
    basis: torch.Tensor
    fiber_basis: torch.Tensor | None
    point: torch.Tensor


class Ponita(nn.Module):
    """Scalars and vectors in, scalars and vectors out; turning the input (and the grid of orientations) turns the output.

    Parameters
    ----------
    in_scalars, out_scalars : int
        Numbers of scalar channels, 0 or more.
    hidden : int
        Channels inside.
    in_vectors, out_vectors : int
        Numbers of vector channels.
    num_layers : int
        Blocks of convolution and perceptron.
    num_orientations : int
        Orientations that each point has a feature for ("bundle").
    dim : {2, 3}
        Of the space.
    radius : float, optional
        Distance beyond which points do not see each other; kernels fade out towards it.
    basis_dim : int, optional
        Basis functions of the kernels, by default `hidden`.
    degree : int
        Of the polynomials in the invariants.
    widening, layer_scale
        As for `ConvNeXtBlock`.
    task : {"graph", "node"}
        Outputs for each cloud, summed over its points, or for each point.
    readout_every_layer : bool
        Average a readout after each block; else the last one's.
    mode : {"bundle", "position", "edges"}
        Features over a grid of orientations at each point; over positions alone, where kernels see distances and no vector can come out; or one
        feature for each directed edge, oriented along it, which then stands for the point it arrives at.
    aggr : {"add", "mean"}
        How a point's neighbors are brought together.

    Raises
    ------
    ValueError, TypeError
        If an option is out of range, or vectors are asked of "position".

    Notes
    -----
    The equivariance is exact for rotations of points and grid together, for translations and reorderings, and in the plane for turns by 2 pi /
    num_orientations; for other turns of the points alone it is as good as the grid is dense. In space mirror images look alike, in the plane they
    do not. Cost O(E O C B) a layer for the kernels, whose bases all layers share, and O(N O^2 C) for the orientations.

    Examples
    --------
    >>> network = Ponita(1, 16, 2, out_vectors=1, num_orientations=8, num_layers=2)
    >>> scalars, vectors = network(torch.ones(5, 1), torch.randn(5, 3))
    >>> scalars.shape, vectors.shape
    (torch.Size([1, 2]), torch.Size([1, 1, 3]))
    """

    def __init__(
        self,
        in_scalars: int,
        hidden: int,
        out_scalars: int,
        *,
        in_vectors: int = 0,
        out_vectors: int = 0,
        num_layers: int = 5,
        num_orientations: int = 16,
        dim: int = 3,
        radius: float | None = None,
        basis_dim: int | None = None,
        degree: int = 3,
        widening: int = 4,
        layer_scale: float | None = 1e-6,
        task: str = "graph",
        readout_every_layer: bool = True,
        mode: str = "bundle",
        aggr: str = "add",
    ):
        super().__init__()
        self.in_scalars, self.out_scalars = integer(in_scalars, "in_scalars", at_least=0), integer(out_scalars, "out_scalars", at_least=0)
        self.in_vectors, self.out_vectors = integer(in_vectors, "in_vectors", at_least=0), integer(out_vectors, "out_vectors", at_least=0)
        hidden, self.dim = integer(hidden, "hidden", at_least=1), integer(dim, "dim", at_least=2, at_most=3)
        layers, degree = integer(num_layers, "num_layers", at_least=1), integer(degree, "degree", at_least=1)
        self.radius = None if radius is None else positive(radius, "radius")
        basis = hidden if basis_dim is None else integer(basis_dim, "basis_dim", at_least=1)
        self.task, self.mode = choice(task, "task", ["graph", "node"]), choice(mode, "mode", ["bundle", "position", "edges"])
        self.every = flag(readout_every_layer, "readout_every_layer")
        mean = choice(aggr, "aggr", ["add", "mean"]) == "mean"
        if self.mode == "position" and (in_vectors or out_vectors):
            raise ValueError(f"out_vectors and in_vectors must be 0 in mode 'position', got {out_vectors} and {in_vectors}")
        if in_scalars + in_vectors == 0 or out_scalars + out_vectors == 0:
            raise ValueError("in_scalars and in_vectors must not both be 0, nor out_scalars and out_vectors")
        orientations = (
            sphere_grid(integer(num_orientations, "num_orientations", at_least=1), self.dim) if self.mode == "bundle" else torch.zeros(1, dim)
        )
        self.register_buffer("grid", orientations)
        self.embed = nn.Linear(in_scalars + in_vectors, hidden, bias=False)
        self.basis = KernelBasis({"bundle": 2, "position": 1, "edges": 3}[self.mode], degree, hidden, basis)
        self.fiber_basis = KernelBasis(1, degree, hidden, basis) if self.mode == "bundle" else None
        convolutions = [FiberBundleConv(hidden, basis, fiber=self.mode == "bundle", mean=mean) for _ in range(layers)]
        self.blocks = nn.ModuleList(ConvNeXtBlock(conv, hidden, widening, layer_scale) for conv in convolutions)
        self.readouts = nn.ModuleList(nn.Linear(hidden, out_scalars + out_vectors) for _ in range(layers if self.every else 1))

    def forward(
        self,
        x: torch.Tensor | None,
        pos: torch.Tensor,
        edge_index: torch.Tensor | None = None,
        vec: torch.Tensor | None = None,
        batch: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Return scalars (B or N, out_scalars) and vectors (B or N, out_vectors, dim); None where there are none.

        Parameters
        ----------
        x : Tensor (N, in_scalars), or None if in_scalars is 0
            Scalar features.
        pos : Tensor (N, dim)
            Positions.
        edge_index : LongTensor (2, E), optional
            Sources and targets; by default all pairs of a cloud, within the radius if there is one. Each point also sees itself.
        vec : Tensor (N, in_vectors, dim), or None if in_vectors is 0
            Vector features.
        batch : LongTensor (N,), optional
            The cloud of each point; one cloud if missing.

        Raises
        ------
        ValueError
            If shapes disagree, features are missing or not expected, or a position is not finite.
        """
        check_points(pos, edge_index)
        self._check_features(x, pos, vec)
        batch = pos.new_zeros(len(pos), dtype=torch.long) if batch is None else batch
        edge_index = all_pairs(pos, batch, self.radius) if edge_index is None else edge_index
        geometry = self._geometry(pos, edge_index)
        h = self.embed(self._lifted(x, vec, geometry))
        outputs = []
        for block in self.blocks:
            h = block(h, geometry.edge_index, geometry.basis, geometry.fiber_basis)
            outputs.append(h)
        outputs = outputs if self.every else outputs[-1:]
        readout = sum(linear(h) for linear, h in zip(self.readouts, outputs)) / len(outputs)
        return self._gathered(readout, geometry, batch, len(pos))

    def _geometry(self, pos: torch.Tensor, edge_index: torch.Tensor) -> Geometry:
        if self.mode == "edges":
            return self._along_edges(pos, edge_index)
        looped, _ = _utils.add_remaining_self_loops(edge_index, num_nodes=len(pos))
        if self.mode == "position":
            dist = safe_norm(pos[looped[0]] - pos[looped[1]], dim=-1).view(-1, 1)
            attributes, fiber_basis = dist.unsqueeze(1), None
        else:
            attributes, fiber, dist = invariants(pos, looped, self.grid)
            fiber_basis = self.fiber_basis(fiber)
        basis = self.basis(attributes) * polynomial_cutoff(dist, self.radius).unsqueeze(1)
        return Geometry(self.grid.unsqueeze(0), looped, basis, fiber_basis, torch.arange(len(pos), device=pos.device))

    def _along_edges(self, pos: torch.Tensor, edge_index: torch.Tensor) -> Geometry:
        """Each edge is a point at its target that looks towards its source; points see those of neighboring targets, and of their own."""
        source, target = _utils.remove_self_loops(edge_index)[0]
        if not len(target):
            raise ValueError("edge_index must have an edge between different points in mode 'edges'")
        r = pos[source] - pos[target]
        orientation = r / safe_norm(r, dim=-1).clamp(min=1e-12).unsqueeze(-1)
        lifted = _joined(target, _utils.add_remaining_self_loops(torch.stack([source, target]), num_nodes=len(pos))[0], len(pos))
        attributes = pair_invariants(pos[target], orientation, lifted)
        dist = safe_norm(pos[target][lifted[0]] - pos[target][lifted[1]], dim=-1).view(-1, 1)
        basis = self.basis(attributes) * polynomial_cutoff(dist, self.radius).unsqueeze(1)
        return Geometry(orientation.unsqueeze(1), lifted, basis, None, target)

    def _lifted(self, x: torch.Tensor | None, vec: torch.Tensor | None, geometry: Geometry) -> torch.Tensor:
        """Features (P, O, channels): scalars the same for all orientations, vectors by their part along each."""
        count = geometry.orientations.shape[1]
        channels = [] if x is None else [x[geometry.point].unsqueeze(1).expand(-1, count, -1)]
        if vec is not None:
            channels.append((vec[geometry.point].unsqueeze(1) * geometry.orientations.unsqueeze(2)).sum(-1))
        return torch.cat(channels, dim=-1)

    def _gathered(self, readout: torch.Tensor, geometry: Geometry, batch: torch.Tensor, points: int):
        """Means over orientations (and over the edges that stand for a point), sums over the points of a cloud."""
        scalars, coefficients = readout.split([self.out_scalars, self.out_vectors], dim=-1)
        vectors = (coefficients.unsqueeze(-1) * geometry.orientations.unsqueeze(2)).mean(1)
        parts = [scalars.mean(1) if self.out_scalars else None, vectors if self.out_vectors else None]
        if self.mode == "edges":
            parts = [None if part is None else _utils.scatter(part, geometry.point, dim=0, dim_size=points, reduce="mean") for part in parts]
        if self.task == "graph":
            parts = [None if part is None else _utils.scatter(part, batch, dim=0, reduce="sum") for part in parts]
        return tuple(parts)

    def _check_features(self, x: torch.Tensor | None, pos: torch.Tensor, vec: torch.Tensor | None) -> None:
        if pos.shape[1] != self.dim:
            raise ValueError(f"pos must have shape (points, {self.dim}), got {tuple(pos.shape)}")
        expected = {"x": (x, (len(pos), self.in_scalars)), "vec": (vec, (len(pos), self.in_vectors, self.dim))}
        for name, (features, shape) in expected.items():
            if shape[1] == 0 and features is not None:
                raise ValueError(f"{name} must be None: the network takes none")
            if shape[1] > 0 and (features is None or tuple(features.shape) != shape):
                raise ValueError(f"{name} must have shape {shape}, got {None if features is None else tuple(features.shape)}")


def all_pairs(pos: torch.Tensor, batch: torch.Tensor, radius: float | None) -> torch.Tensor:
    """Ordered pairs (2, E) of different points of one cloud, within the radius if there is one."""
    same = batch.unsqueeze(0) == batch.unsqueeze(1)
    same.fill_diagonal_(False)
    if radius is not None:
        same &= torch.cdist(pos.detach(), pos.detach()) < radius
    return same.nonzero().T.flip(0).contiguous()


def _joined(point: torch.Tensor, edge_index: torch.Tensor, points: int) -> torch.Tensor:
    """Pairs (2, F) of lifted points whose input points are joined by an edge; `point` says which input point each stands for."""
    order = point.argsort(stable=True)
    counts = torch.bincount(point, minlength=points)
    first = counts.cumsum(0) - counts
    source, target = edge_index
    pairs = counts[source] * counts[target]
    edge = torch.arange(len(pairs), device=point.device).repeat_interleave(pairs)
    within = torch.arange(len(edge), device=point.device) - (pairs.cumsum(0) - pairs)[edge]
    width = counts[target][edge]
    return torch.stack([order[first[source][edge] + within // width], order[first[target][edge] + within % width]])
