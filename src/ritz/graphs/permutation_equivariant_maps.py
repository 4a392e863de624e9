"""All linear maps between tensors over m nodes that commute with permutations, and their application to many overlapping subgraphs at once.

The bases are those of Maron, Ben-Hamu, Shamir and Lipman, "Invariant and Equivariant Graph Networks", ICLR 2019, arXiv:1812.09902, scaled so that
outputs stay bounded as m grows. Each map is a statistic (a row's mean, the diagonal, the total) put back in some place (along rows, along columns, on
the diagonal, everywhere). So a combination of all 15 is a few products with coefficient matrices: of statistics, before they are spread out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial

import torch
from torch import nn
from torch.nn import functional as F

from ritz.core import integer
from ritz.graphs.ego_networks import EgoNetworks

Map = Callable[[torch.Tensor], torch.Tensor]


def equivariant_basis(in_order: int, out_order: int, m: int) -> list[Map]:
    """Return a basis of the linear maps from order-p to order-q tensors over m nodes that commute with all permutations of the nodes.

    Parameters
    ----------
    in_order, out_order : int
        p of 1 or 2, q of 0, 1 or 2: a tensor of order p has p trailing dimensions of length m.
    m : int
        Number of nodes.

    Returns
    -------
    list of callable
        15 maps from order 2 to 2, 5 from 2 to 1 and from 1 to 2, 2 from 1 to 1 and from 2 to 0, 1 from 1 to 0. Each maps (..., m, m) or (..., m) to
        (..., m, m), (..., m) or (...). Sums over p nodes are divided by m^p. For small m (below 4 from order 2 to 2) they are not independent.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range.

    Examples
    --------
    >>> len(equivariant_basis(2, 2, 5))
    15
    >>> equivariant_basis(1, 0, 4)[0](torch.tensor([1.0, 2.0, 3.0, 6.0]))
    tensor(3.)
    """
    orders = integer(in_order, "in_order", at_least=1, at_most=2), integer(out_order, "out_order", at_least=0, at_most=2)
    m = integer(m, "m", at_least=1)
    statistics = {2: _pair_statistics, 1: _node_statistics}[orders[0]]
    places = {2: _in_pairs(m), 1: {"node": lambda value: value, "all": partial(_repeated, m=m, times=1)}, 0: {"all": lambda value: value}}[orders[1]]

    def of(statistic: str, place: str) -> Map:
        def apply(T: torch.Tensor) -> torch.Tensor:
            if T.dim() < orders[0] or any(size != m for size in T.shape[T.dim() - orders[0] :]):
                raise ValueError(f"T must end in {orders[0]} dimension(s) of length {m}, got shape {tuple(T.shape)}")
            return places[place](statistics(T)[statistic])

        return apply

    return [of(statistic, place) for statistic, place in BASES[orders]]


# The maps of each basis in the order of their coefficients: a statistic, and where it is put.
BASES = {
    (2, 2): [
        ("diagonal", "diagonal"),
        ("trace", "whole diagonal"),
        ("rows", "diagonal"),
        ("columns", "diagonal"),
        ("total", "whole diagonal"),
        ("columns", "along rows"),
        ("rows", "along rows"),
        ("columns", "along columns"),
        ("rows", "along columns"),
        ("tensor", "itself"),
        ("tensor", "transposed"),
        ("diagonal", "along rows"),
        ("diagonal", "along columns"),
        ("trace", "all"),
        ("total", "all"),
    ],
    (2, 1): [("diagonal", "node"), ("trace", "all"), ("rows", "node"), ("columns", "node"), ("total", "all")],
    (1, 2): [("values", "diagonal"), ("total", "whole diagonal"), ("values", "along columns"), ("values", "along rows"), ("total", "all")],
    (1, 1): [("values", "node"), ("total", "all")],
    (2, 0): [("trace", "all"), ("total", "all")],
    (1, 0): [("total", "all")],
}


def _pair_statistics(T: torch.Tensor) -> dict[str, torch.Tensor]:
    diagonal = T.diagonal(dim1=-2, dim2=-1)
    return {
        "tensor": T,
        "diagonal": diagonal,
        "rows": T.mean(-1),
        "columns": T.mean(-2),
        "trace": diagonal.mean(-1),
        "total": T.mean((-2, -1)),
    }


def _node_statistics(x: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"values": x, "total": x.mean(-1)}


def _in_pairs(m: int) -> dict[str, Map]:
    return {
        "itself": lambda T: T,
        "transposed": lambda T: T.mT,
        "diagonal": torch.diag_embed,
        "whole diagonal": lambda value: torch.diag_embed(_repeated(value, m, 1)),
        "along rows": lambda values: values.unsqueeze(-1).expand(*values.shape, m),
        "along columns": lambda values: values.unsqueeze(-2).expand(*values.shape[:-1], m, m),
        "all": partial(_repeated, m=m, times=2),
    }


def _repeated(value: torch.Tensor, m: int, times: int) -> torch.Tensor:
    return value.reshape(*value.shape, *[1] * times).expand(*value.shape, *[m] * times)


# What is computed for each seat, and for each subgraph, and where a seat's outputs go, by order.
SEAT_STATISTICS = {2: ("columns", "rows", "diagonal"), 1: ("values",)}
EGO_STATISTICS = {2: ("total", "trace"), 1: ("total",)}  # the means over the seats of the last of those above
SEAT_PLACES = {2: ("along rows", "along columns", "diagonal"), 1: ("node",), 0: ()}
EGO_PLACES = {2: ("all", None, "whole diagonal"), 1: ("all",), 0: ("all",)}  # what is everywhere goes along rows


class SubgraphMap(nn.Module):
    """Apply all equivariant maps from one order to others within every subgraph, and average where subgraphs overlap.

    Parameters
    ----------
    in_order, in_channels : int
        Of the input: features of pairs (order 2) or of nodes (order 1).
    out_channels : mapping of int to int
        Channels of each output order.
    num_buckets : int
        How many sets of coefficients; a subgraph uses that of its size's bucket.
    bias : bool
        Add a constant to each channel; to pairs one to all and one to the diagonal.

    Notes
    -----
    ``theta["q"]`` has shape (buckets, in, out, maps), maps in the order of `BASES`. Cost O(S C + M C^2 + P C^2), with S slots, M seats and P pairs
    (see `EgoNetworks`); stored for the backward pass are O(M + P) C numbers, whatever the number of maps.
    """

    def __init__(self, in_order: int, in_channels: int, out_channels: Mapping[int, int], num_buckets: int, bias: bool):
        super().__init__()
        self.in_order, self.out_channels = in_order, dict(out_channels)
        self.theta, self.bias = nn.ParameterDict(), nn.ParameterDict()
        for order, channels in self.out_channels.items():
            shape = num_buckets, in_channels, channels, len(BASES[in_order, order])
            self.theta[str(order)] = nn.Parameter(torch.randn(shape) * (2 / (in_channels + channels)) ** 0.5)
            if bias:
                self.bias[str(order)] = nn.Parameter(torch.zeros(num_buckets, 2 if order == 2 else 1, channels))

    def forward(self, T: torch.Tensor, egos: EgoNetworks, buckets: torch.Tensor | None) -> dict[int, torch.Tensor]:
        """Map (P, in) or (N, in) to outputs by order: (P, out), (N, out) and, for order 0, (V, out); `buckets` (V,) are the subgraphs' buckets."""
        seats, statistics = self._statistics(T, egos)
        outputs = {}
        if 0 in self.out_channels:
            outputs[0] = self._of_egos(0, statistics, buckets)
        for order in sorted(self.out_channels.keys() - {0}):
            parts = _by_bucket(seats, self._matrix(order, SEAT_STATISTICS, SEAT_PLACES), None if buckets is None else buckets[egos.ego])
            parts = parts + egos.from_egos.mean(self._of_egos(order, statistics, buckets))
            outputs[order] = egos.to_nodes.mean(parts) if order == 1 else self._on_pairs(parts, T, egos, buckets)
        return outputs

    def _statistics(self, T: torch.Tensor, egos: EgoNetworks) -> tuple[torch.Tensor, torch.Tensor]:
        """The statistics of seats where seats have outputs, and the means of the last of them over each subgraph."""
        if self.in_order == 1:
            seats = egos.own_nodes.mean(T)
            return seats, egos.to_egos.mean(seats)
        seats = torch.cat([egos.rows.mean(T), egos.own_pairs.mean(T)], dim=1)
        statistics = egos.to_egos.mean(seats)
        if self.out_channels.keys() == {0}:
            return seats, statistics
        return torch.cat([egos.columns.mean(T), seats], dim=1), statistics

    def _of_egos(self, order: int, statistics: torch.Tensor, buckets: torch.Tensor | None) -> torch.Tensor:
        outputs = _by_bucket(statistics, self._matrix(order, EGO_STATISTICS, EGO_PLACES), buckets)
        if str(order) not in self.bias:
            return outputs
        bias = self.bias[str(order)]
        if order == 2:
            bias = torch.stack([bias[:, 0], torch.zeros_like(bias[:, 0]), bias[:, 1]], dim=1)
        return outputs + bias.flatten(1)[0 if buckets is None else buckets]

    def _on_pairs(self, parts: torch.Tensor, T: torch.Tensor, egos: EgoNetworks, buckets: torch.Tensor | None) -> torch.Tensor:
        """Put seats' outputs along rows, along columns and on the diagonal; what goes along columns is the transpose of going along rows."""
        width = self.out_channels[2]
        lines, diagonal = parts.split([2 * width, width], dim=1)
        lines = egos.overlaps.mean(lines)
        if self.in_order == 2:
            lines = self._plus_pair_by_pair(lines, T, egos, buckets)
        return egos.folded(lines).index_add_(0, egos.diagonal, egos.to_nodes.mean(diagonal))

    def _plus_pair_by_pair(self, lines: torch.Tensor, T: torch.Tensor, egos: EgoNetworks, buckets: torch.Tensor | None) -> torch.Tensor:
        """Add the tensor itself and its transpose, coefficients averaged over the subgraphs that hold a pair."""
        matrices = self._matrix(2, {2: ("tensor",)}, {2: ("itself", "transposed")})
        if buckets is None:
            return torch.addmm(lines, T, matrices[0])
        shares = egos.overlaps.mean(F.one_hot(buckets[egos.ego], len(matrices)).to(T.dtype))
        for share, matrix in zip(shares.T, matrices):
            rows = share.nonzero().squeeze(1)
            lines = lines.index_add(0, rows, share[rows, None] * (T.index_select(0, rows) @ matrix))
        return lines

    def _matrix(self, order: int, statistics: Mapping, places: Mapping) -> torch.Tensor:
        """The coefficients (buckets, statistics * in, places * out) of the maps from these statistics to these places, zero where there is none."""
        numbers = _numbers(self.in_order, order, statistics[self.in_order], places[order])
        theta = F.pad(self.theta[str(order)], (0, 1))[..., numbers]
        return theta.permute(0, 3, 1, 4, 2).flatten(3, 4).flatten(1, 2)


@cache
def _numbers(in_order: int, out_order: int, statistics: tuple[str, ...], places: tuple[str | None, ...]) -> torch.Tensor:
    """The numbers (statistics, places) of the maps in their basis; the number after the last where there is no such map."""
    basis = BASES[in_order, out_order]
    wanted = [[(statistic, place) for place in places] for statistic in statistics]
    return torch.tensor([[basis.index(pair) if pair in basis else len(basis) for pair in row] for row in wanted])


def _by_bucket(x: torch.Tensor, matrices: torch.Tensor, buckets: torch.Tensor | None) -> torch.Tensor:
    """Multiply each row by its bucket's matrix."""
    if buckets is None:
        return x @ matrices[0]
    outputs = x.new_zeros(len(x), matrices.shape[2])
    for number, matrix in enumerate(matrices):
        rows = (buckets == number).nonzero().squeeze(1)
        outputs = outputs.index_copy(0, rows, x.index_select(0, rows) @ matrix)
    return outputs
