"""A test of isomorphism by attention over pivots with random weights: as strong as Weisfeiler-Leman refinement of pairs or triples.

"FloydNet: A Learning Paradigm for Global Relational Reasoning", arXiv:2601.19094, 2026, the experiment on BREC.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ritz.core import Result, integer
from ritz.graphs.adjacency import as_adjacency
from ritz.graphs.pivotal_attention import pivotal_attention, pivotal_attention3

CHANNELS, HEADS, SHARPNESS = 64, 8, 50.0
DIFFERENT = 1e-6  # relative distance; rounding stays below 1e-10


@dataclass(frozen=True)
class Distinguished(Result):
    """Whether two graphs were told apart.

    Attributes
    ----------
    distinguished : bool
        True proves that they are not isomorphic; False proves nothing.
    distance : float
        Between the two outputs, relative to their size.
    noise : float
        The same between the first graph and a reordered copy of it: rounding.
    """

    distinguished: bool
    distance: float
    noise: float

    def __bool__(self) -> bool:
        return self.distinguished


def floyd_isomorphism_test(G1, G2, order: int = 2, depth: int = 8, seed: int = 0) -> Distinguished:
    """Compare two undirected graphs by the outputs of a network with random weights, in double precision.

    Parameters
    ----------
    G1, G2 : graph with n nodes
        As for `as_adjacency`; weights are not looked at.
    order : {2, 3}
        Attention over pairs of nodes (as strong as 2-dimensional folklore Weisfeiler-Leman refinement) or over triples (3-dimensional).
    depth : int
        How many times attention is applied; 8 is enough for small graphs.
    seed : int
        Of the weights.

    Returns
    -------
    Distinguished
        True in a condition if they were told apart. Graphs with different numbers of nodes or edges are, at once.

    Raises
    ------
    ValueError
        If a graph is directed, or order is neither 2 nor 3.

    Notes
    -----
    Cost O(depth n^3 C) for pairs and O(depth n^4 C) for triples, C = 64 channels.

    Examples
    --------
    >>> import networkx
    >>> two_triangles = networkx.disjoint_union(networkx.cycle_graph(3), networkx.cycle_graph(3))
    >>> bool(floyd_isomorphism_test(networkx.cycle_graph(6), two_triangles))
    True
    """
    first, second = (_entries(graph, name) for graph, name in ((G1, "G1"), (G2, "G2")))
    integer(order, "order", at_least=2, at_most=3)
    depth, seed = integer(depth, "depth", at_least=1), integer(seed, "seed", at_least=0)
    if first.shape != second.shape or first.sum() != second.sum():
        return Distinguished(True, float("inf"), 0.0)
    describe = _of_pairs if order == 2 else _of_triples
    shuffled = torch.randperm(len(first), generator=torch.Generator().manual_seed(seed))
    a, b, c = (describe(A, depth, seed) for A in (first, second, first[shuffled][:, shuffled]))
    size = float(torch.maximum(a.norm(), b.norm()))
    distance, noise = float((a - b).norm()) / size, float((a - c).norm()) / size
    return Distinguished(distance > DIFFERENT, distance, noise)


def _entries(graph, name: str) -> torch.Tensor:
    A = torch.from_numpy(as_adjacency(graph, directed=False, name=name).matrix.toarray())
    return (A > 0).long().fill_diagonal_(2)


def _of_pairs(A: torch.Tensor, depth: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    R = torch.randn(3, CHANNELS, generator=generator, dtype=torch.float64)[A]
    for _ in range(depth):
        heads = _heads(R, 5, generator).permute(0, 3, 1, 2, 4).unsqueeze(1)
        R = pivotal_attention(*heads, scale=SHARPNESS * (HEADS / CHANNELS) ** 0.5)[0].permute(1, 2, 0, 3).flatten(-2)
    return R.mean((0, 1))


def _of_triples(A: torch.Tensor, depth: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    tables = torch.randn(3, 3, CHANNELS, generator=generator, dtype=torch.float64)
    R = tables[0][A][:, :, None] + tables[1][A][None, :, :] + tables[2][A][:, None, :]
    for _ in range(depth):
        heads = _heads(R, 7, generator).permute(0, 4, 1, 2, 3, 5).unsqueeze(1)
        attended = pivotal_attention3(heads[0], tuple(heads[1:4]), tuple(heads[4:]), scale=SHARPNESS * (HEADS / CHANNELS) ** 0.5)
        R = attended[0].permute(1, 2, 3, 0, 4).flatten(-2)
    return R.mean((0, 1, 2))


def _heads(R: torch.Tensor, parts: int, generator: torch.Generator) -> torch.Tensor:
    """Standardize the whole tensor and map it at random to (parts, ..., H, D)."""
    weights = torch.randn(CHANNELS, parts * CHANNELS, generator=generator, dtype=torch.float64) / CHANNELS**0.5
    mapped = ((R - R.mean()) / R.std()) @ weights
    return mapped.view(*R.shape[:-1], parts, HEADS, -1).movedim(-3, 0)
