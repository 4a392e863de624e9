"""What every graph network must be indifferent to, and pairs of graphs that weak ones confuse."""

from __future__ import annotations

import networkx as nx
import numpy as np
import torch


def relabelled(edge_index: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """The edges of the graph whose node i is node order[i] of the given one."""
    return torch.argsort(order)[edge_index]


def random_order(n: int, seed: int = 0) -> torch.Tensor:
    """A random order of n nodes."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))


def edges_of(graph: nx.Graph) -> torch.Tensor:
    """Both directions of each edge (2, 2E), nodes numbered in the graph's order."""
    number = {node: i for i, node in enumerate(graph)}
    ends = torch.tensor([(number[u], number[v]) for u, v in graph.edges], dtype=torch.long).reshape(-1, 2).T
    return torch.cat([ends, ends.flip(0)], dim=1)


def assert_pair_equivariant(function, pairs: torch.Tensor, *, tolerance: float, seed: int = 0) -> None:
    """A map of pair tensors (B, n, n, C) must commute with every permutation of the nodes; relative to the largest entry."""
    order = random_order(pairs.shape[1], seed)
    expected, permuted = function(pairs), function(pairs[:, order][:, :, order])
    if expected.dim() >= 3 and expected.shape[1] == pairs.shape[1]:
        expected = expected[:, order]
        if expected.dim() == 4:
            expected = expected[:, :, order]
    torch.testing.assert_close(permuted, expected, rtol=0, atol=tolerance * max(1.0, float(expected.detach().abs().max())))


def random_basis_change(values: np.ndarray, vectors: np.ndarray, rng: np.random.Generator, *, tolerance: float = 1e-8) -> np.ndarray:
    """The eigenvectors turned at random within each numerical eigenspace; columns of zeros (padding) stay."""
    turned = np.array(vectors, copy=True)
    real = np.flatnonzero(np.abs(vectors).sum(axis=0))
    cuts = np.flatnonzero(np.diff(values[real]) > tolerance) + 1
    for space in np.split(real, cuts):
        Q, _ = np.linalg.qr(rng.standard_normal((len(space), len(space))))
        turned[:, space] = vectors[:, space] @ Q
    return turned


def two_triangles() -> nx.Graph:
    """Like the cycle of six to colour refinement."""
    return nx.disjoint_union(nx.cycle_graph(3), nx.cycle_graph(3))


def decalin() -> nx.Graph:
    """Two hexagons that share an edge."""
    graph = nx.cycle_graph(10)
    graph.add_edge(0, 5)
    return graph


def bicyclopentyl() -> nx.Graph:
    """Two pentagons joined by an edge; like decalin to colour refinement."""
    graph = nx.disjoint_union(nx.cycle_graph(5), nx.cycle_graph(5))
    graph.add_edge(0, 5)
    return graph


def rook() -> nx.Graph:
    """The rook's graph on 4 x 4 squares, strongly regular (16, 6, 2, 2)."""
    return nx.convert_node_labels_to_integers(nx.cartesian_product(nx.complete_graph(4), nx.complete_graph(4)))


def shrikhande() -> nx.Graph:
    """The other strongly regular graph (16, 6, 2, 2)."""
    squares = [(i, j) for i in range(4) for j in range(4)]
    graph = nx.Graph()
    graph.add_nodes_from(range(16))
    for i, j in squares:
        for di, dj in ((1, 0), (0, 1), (1, 1)):
            graph.add_edge(4 * i + j, 4 * ((i + di) % 4) + (j + dj) % 4)
    return graph
