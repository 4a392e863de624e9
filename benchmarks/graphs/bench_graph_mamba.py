"""Graph Mamba: tokens against a loop over networkx, and a forward pass against full attention."""

import random

import networkx
import numpy as np
import torch
from torch import nn
from torch_geometric.nn import GINConv, GPSConv

from ritz.graphs import GraphMamba, WalkTokens
from ritz.studies import benchmark, compare, within
from ritz.studies.data.graphs import sparse_partition

M, WALKS, REPEATS = 8, 4, 2


@benchmark(threads=2)
def tokens_of_large_graphs():
    """All tokens of 10^5 nodes of degree 10, 8 steps, 4 walks, 2 repeats: 2.9e7 steps; and of 300 nodes against networkx."""
    large = sparse_partition(100_000, 10, 10, 0.5, rng=0).adjacency
    transform = WalkTokens(M, WALKS, REPEATS, rng=0)
    small = sparse_partition(300, 3, 10, 0.5, rng=0).adjacency
    transform.tokens(small)
    yield within("tokens of 10^5 nodes", lambda: transform.tokens(large), limit=3.0)
    graph, rng = networkx.from_scipy_sparse_array(small), random.Random(0)

    def loop():
        return [[_token(graph, node, length, rng) for length in range(M, -1, -1) for _ in range(REPEATS)] for node in graph]

    yield compare("tokens of 300 nodes", lambda: transform.tokens(small), loop, peer_name="networkx loop", target=50.0)


def _token(graph: networkx.Graph, start: int, length: int, rng: random.Random) -> set[int]:
    met = {start}
    for _ in range(WALKS):
        node = start
        for _ in range(length):
            node = rng.choice(list(graph.neighbors(node)))
            met.add(node)
    return met


class Attention(nn.Module):
    """Layers of full attention beside GIN."""

    def __init__(self, channels: int, depth: int):
        super().__init__()
        mixes = [nn.Sequential(nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, channels)) for _ in range(depth)]
        self.layers = nn.ModuleList(GPSConv(channels, GINConv(mix), heads=4) for mix in mixes)

    def forward(self, x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x, edge_index)
        return x


@benchmark(threads=2)
def forward_against_attention():
    """Four blocks against one layer of attention on 2 * 10^4 nodes, 64 channels: nodes as one sequence, and tokens of walks, their means encoded."""
    n, channels = 20_000, 64
    A = sparse_partition(n, 10, 10, 0.5, rng=0).adjacency.tocoo()
    edge_index, x = torch.from_numpy(np.stack(A.coords).astype(np.int64)), torch.randn(n, channels)
    attention = Attention(channels, 1).eval()
    nodes = GraphMamba(channels, channels, 2, walk_length=0, node_layers=4, mpnn="gin").eval()
    short = {"walk_length": 3, "walks_per_token": 2, "repeats": 2}
    walks = GraphMamba(channels, channels, 2, token_encoder="mean", mpnn="gin", **short).eval()
    tokens = WalkTokens(**short, rng=0).tokens(A)
    forwards = {"sequence of nodes": lambda: nodes(x, edge_index), "tokens of 3 steps, twice": lambda: walks(x, edge_index, tokens=tokens)}
    with torch.no_grad():
        for name, forward in forwards.items():
            yield compare(name, forward, lambda: attention(x, edge_index), peer_name="one GPSConv", target=5.0, pairs=1, warmup=0, shortest=0.0)
