"""RQGNN on batches of molecule-sized graphs: pooling of all graphs at once, and quotients edge by edge."""

import networkx
import numpy as np
import torch
from torch.nn import functional as F
from torch_geometric.data import Batch, Data
from torch_geometric.utils import unbatch

from ritz.graphs import rayleigh_quotient
from ritz.studies import benchmark, compare
from ritz.studies.data.graph_collections import as_data


def _molecules(count: int, seed: int = 0) -> list[Data]:
    rng = np.random.default_rng(seed)
    graphs = []
    for _ in range(count):
        graph = networkx.random_labeled_tree(int(rng.integers(20, 33)), seed=int(rng.integers(2**31)))
        labels = torch.from_numpy(rng.integers(8, size=len(graph)))
        graphs.append(as_data(graph, x=F.one_hot(labels, 8).float()))
    return graphs


@benchmark
def scores_of_all_graphs():
    """The attention of 512 graphs by gathering, against the published loop over graphs; forward and backward."""
    batch = Batch.from_data_list(_molecules(512))
    z = torch.randn(batch.num_nodes, 64, requires_grad=True)
    a = torch.randn(512, 64, requires_grad=True)

    def gathered():
        scores = (z * a[batch.batch]).sum(1, keepdim=True)
        z.new_zeros(512, 64).index_add(0, batch.batch, scores * z).sum().backward()

    def loop():
        torch.stack([own.T @ (own @ attention) for own, attention in zip(unbatch(z, batch.batch), a)]).sum().backward()

    return compare("pooling 512 graphs", gathered, loop, peer_name="one graph at a time", target=5.0)


@benchmark
def quotients_edge_by_edge():
    """Quotients of 2,000 graphs against dense Laplacians, one graph after the other."""
    batch = Batch.from_data_list(_molecules(2000))
    graphs = batch.to_data_list()

    def dense():
        found = []
        for data in graphs:
            A = torch.zeros(data.num_nodes, data.num_nodes).index_put_(tuple(data.edge_index), torch.ones(()))
            half = A.sum(0).rsqrt()
            L = torch.eye(len(A)) - half[:, None] * A * half
            found.append((data.x.T @ L @ data.x).diagonal() / data.x.square().sum(0))
        return torch.stack(found)

    return compare(
        "quotients of 2,000 graphs",
        lambda: rayleigh_quotient(batch.x, batch.edge_index, batch.batch),
        dense,
        peer_name="dense Laplacians",
        target=20.0,
    )
