"""SINC against PyG's GCN and GATv2 of equal width, and the compiled sum over edges against gathering and scattering."""

import torch
from torch_geometric.nn import GATv2Conv, GCNConv

from ritz.graphs import SINCConv
from ritz.graphs.edge_kernels import EdgeOrder, neighbor_relu_sum
from ritz.studies import benchmark, compare

N, E, WIDTH = 100_000, 1_000_000, 64


def _graph():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(N, WIDTH, generator=generator), torch.randint(0, N, (2, E), generator=generator)


@benchmark(threads=2)
def against_graph_convolutions():
    """Forward and backward on 10^5 nodes and 10^6 edges, 64 channels."""
    x, edges = _graph()

    def step(layer):
        return lambda: layer(x, edges).sum().backward()

    ours = step(SINCConv(WIDTH, WIDTH, WIDTH))
    yield compare("forward and backward", ours, step(GCNConv(WIDTH, WIDTH)), peer_name="GCNConv", target=1 / 2.0)
    yield compare("forward and backward", ours, step(GATv2Conv(WIDTH, WIDTH)), peer_name="GATv2Conv", target=1 / 0.6)


@benchmark(threads=2)
def fused_sum_over_edges():
    """The sum of relu(q + k) over edges, forward and backward, edges sorted beforehand."""
    _, edges = _graph()
    order = EdgeOrder(edges, N, N)
    q, k = (torch.randn(N, WIDTH, requires_grad=True) for _ in range(2))

    def scattered():
        torch.zeros(N, WIDTH).index_add(0, edges[1], torch.relu(q[edges[1]] + k[edges[0]])).sum().backward()

    return compare(
        "sum of relu(q + k)", lambda: neighbor_relu_sum(q, k, order, "sum").sum().backward(), scattered, peer_name="gather, scatter", target=1.5
    )
