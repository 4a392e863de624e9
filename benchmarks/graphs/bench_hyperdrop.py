"""The dual hypergraph of a million edges, and HyperDrop against a convolution on the line graph of a graph with hubs."""

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv
from torch_geometric.nn.pool.select.topk import topk
from torch_geometric.transforms import LineGraph
from torch_geometric.utils import to_undirected

from ritz.graphs import HyperDrop, dual_hypergraph
from ritz.studies import benchmark, compare
from ritz.studies.timing import within

CHANNELS, RATIO = 32, 0.8


@benchmark
def dual():
    """A million edges between 100,000 nodes: the incidences alone, and with loops."""
    edges = torch.randint(0, 100_000, (2, 1_000_000), generator=torch.Generator().manual_seed(0))
    results = []
    for add_loops in (False, True):

        def build(add_loops=add_loops):
            dual_hypergraph(edges, add_loops=add_loops)

        build()
        results.append(within(f"dual of 10^6 edges, {'with' if add_loops else 'no'} loops", build, limit=0.02))
    return results


@benchmark
def hubs():
    """100 hubs with 100 neighbors each among 5,000 nodes: one layer of pooling, the dual or the line graph built in it."""
    torch.manual_seed(0)
    hubs = torch.arange(100).repeat_interleave(100)
    edges = to_undirected(torch.stack([hubs, torch.randint(100, 5000, (10_000,))]))
    E, ours_layer, line_layer = torch.randn(edges.shape[1], CHANNELS), HyperDrop(CHANNELS, RATIO), LineGraphDrop()

    def ours():
        return ours_layer(edges, E)

    def line():
        return line_layer(edges, E)

    memory = {"our MB": _allocated(ours), "line graph's MB": _allocated(line)}
    memory["ratio of memory"] = memory["line graph's MB"] / memory["our MB"]
    return compare("HyperDrop, hubs of degree 100", ours, line, peer_name="PyG LineGraph + GCN + topk", target=10.0, pairs=5, extra=memory)


class LineGraphDrop(nn.Module):
    """The same pooling with scores from a GCN on PyG's line graph, whose nodes are undirected edges."""

    def __init__(self):
        super().__init__()
        self.score_conv = GCNConv(CHANNELS, 1)

    def forward(self, edge_index, edge_attr):
        """Return the kept undirected edges' features and weights."""
        line = LineGraph(force_directed=False)(Data(edge_index=edge_index, edge_attr=edge_attr, num_nodes=int(edge_index.max()) + 1))
        score = torch.tanh(self.score_conv(line.x, line.edge_index).squeeze(-1))
        perm = topk(score, RATIO, torch.zeros(len(score), dtype=torch.long))
        return line.x[perm], score[perm].clamp(0, 1)


def _allocated(function) -> float:
    """Megabytes that torch allocates in all during one call."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        function()
    return sum(max(0, event.self_cpu_memory_usage) for event in record.events()) / 2**20
