"""SPE on a batch of molecule-sized graphs: the share of W, one batched network against a loop over graphs, and eigenpairs by size."""

import networkx
import numpy as np
import torch
from torch_geometric.data import Batch, Data

from ritz.graphs import SPE, LaplacianEigenpairs
from ritz.studies import benchmark, compare
from ritz.studies.data.graph_collections import as_data

K, HIDDEN = 25, 64


def _molecules(count: int) -> list[Data]:
    """Trees of 20 to 30 nodes with three extra bonds: about as many edges as molecules have."""
    rng = np.random.default_rng(0)
    graphs = []
    for _ in range(count):
        n = int(rng.integers(20, 31))
        graph = networkx.random_labeled_tree(n, seed=int(rng.integers(2**31)))
        graph.add_edges_from(rng.choice(n, 2, replace=False).tolist() for _ in range(3))
        graphs.append(as_data(graph))
    return graphs


def _model() -> SPE:
    torch.manual_seed(0)
    return SPE(K, HIDDEN, num_filters=16, hidden=HIDDEN)


@benchmark
def share_of_the_projections():
    """Assembling W, with its gradients, is to take less than 15 % of a training step."""
    batch = Batch.from_data_list(LaplacianEigenpairs(K).for_all(_molecules(128)))
    model = _model()

    def step():
        model.from_data(batch).square().sum().backward()

    def projections():
        sum(W.square().sum() for W in model.weighted_projections(batch.eigval, batch.eigvec, batch.batch)).backward()

    return compare("W of 128 graphs, forward and backward", projections, step, peer_name="a training step", target=1 / 0.15)


@benchmark
def one_network_against_a_loop():
    """All columns of all graphs at once against one graph after the other."""
    graphs = LaplacianEigenpairs(K).for_all(_molecules(128))
    batch, model = Batch.from_data_list(graphs), _model().eval()

    def loop():
        return torch.cat([model.from_data(data) for data in graphs])

    with torch.no_grad():
        return compare("128 graphs, forward", lambda: model.from_data(batch), loop, peer_name="one graph at a time", target=5.0)


@benchmark
def eigenpairs_by_size():
    """Equal sizes go through LAPACK together; the peer decomposes each graph's dense Laplacian by torch."""
    graphs = _molecules(1000)
    transform = LaplacianEigenpairs(K)

    def one_by_one():
        found = []
        for data in graphs:
            n = data.num_nodes
            A = torch.zeros(n, n).index_put_(tuple(data.edge_index), torch.ones(()))
            half = A.sum(0).rsqrt()
            found.append(torch.linalg.eigh(torch.eye(n) - half[:, None] * A * half))
        return found

    return compare("1,000 graphs of 20 to 30 nodes", lambda: transform.for_all(graphs), one_by_one, peer_name="torch.linalg.eigh", target=2.0)
