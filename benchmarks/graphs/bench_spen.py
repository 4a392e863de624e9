"""SPEN: finding ego networks, a layer against the stack of its 15 maps, and a network against GIN."""

import time

import torch
from torch_geometric.data import Batch
from torch_geometric.nn import global_add_pool
from torch_geometric.nn.models import GIN

from ritz.graphs import SPEN, EgoBatch, EgoNetworks, SPENConv, equivariant_basis
from ritz.studies import benchmark, compare
from ritz.studies.data.graph_collections import tu_collection
from ritz.studies.timing import within

TRANSFORM, WIDTH = EgoBatch(1), 16


@benchmark
def ego_networks_of_mutag():
    """The ego networks of 188 graphs, each alone, and their batch."""
    graphs = tu_collection("MUTAG").graphs
    TRANSFORM(graphs[0])
    return within(
        "ego networks and batch of MUTAG", lambda: TRANSFORM.networks(Batch.from_data_list([TRANSFORM(data) for data in graphs])), limit=1.0
    )


@benchmark
def layer_against_stacked_maps():
    """Orders 2 and 1 to 2 and 1, 16 channels each, forward and backward on 32 graphs of PROTEINS; bytes are those saved for the backward pass."""
    batch = _proteins()
    egos, conv = TRANSFORM.networks(batch), SPENConv({2: WIDTH, 1: WIDTH}, {2: WIDTH, 1: WIDTH})
    groups = egos.groups()
    features = {2: torch.randn(egos.pairs.shape[1], WIDTH, requires_grad=True), 1: torch.randn(egos.num_nodes, WIDTH, requires_grad=True)}

    def ours():
        return conv(features, batch.edge_index, egos.num_nodes, egos=egos)

    def stacked():
        return {order: torch.cat([_stacked(conv, features, egos, groups, p, order) for p in (2, 1)], dim=1) for order in (2, 1)}

    for order, expected in stacked().items():
        torch.testing.assert_close(ours()[order], expected, atol=1e-4, rtol=1e-4)

    def step(function):
        return lambda: sum(values.sum() for values in function().values()).backward()

    kept = {"MB": _saved_bytes(ours) / 1e6, "MB of the peer": _saved_bytes(stacked) / 1e6}
    return compare("layer, forward and backward", step(ours), step(stacked), peer_name="15 stacked maps, einsum", target=3.0, extra=kept)


@benchmark
def network_against_gin():
    """Forward passes on 32 graphs of PROTEINS: 5 layers of 16 channels, ego networks found before, against 5 layers of GIN of 64."""
    batch = _proteins()
    egos, features = TRANSFORM.networks(batch), batch.x.shape[1]
    spen, gin = SPEN(features, WIDTH, num_classes=2).eval(), GIN(features, 64, 5, norm="batch_norm").eval()

    @torch.no_grad()
    def ours():
        return spen(batch.x, batch.edge_index, batch=batch.batch, egos=egos)

    @torch.no_grad()
    def peer():
        return global_add_pool(gin(batch.x, batch.edge_index), batch.batch)

    start = time.perf_counter()
    TRANSFORM.networks(Batch.from_data_list(batch.to_data_list()))
    extra = {"seconds to put the batch together": time.perf_counter() - start}
    return compare("forward pass", ours, peer, peer_name="GIN", target=1 / 5, extra=extra)


def _proteins() -> Batch:
    return Batch.from_data_list([TRANSFORM(data) for data in tu_collection("PROTEINS").graphs[:1024:32]])


def _stacked(conv: SPENConv, features: dict, egos: EgoNetworks, groups: dict, in_order: int, order: int) -> torch.Tensor:
    """Every map on dense tensors of the ego networks of one size, stacked, then one einsum with the coefficients, then the means."""
    layer, T = conv.maps[str(in_order)], features[in_order]
    width = conv.out_reps[order]
    rows = egos.pairs.shape[1] if order == 2 else egos.num_nodes
    total, count = T.new_zeros(rows, width), T.new_zeros(rows, 1)
    for m, group in groups.items():
        dense = T[group.pairs if in_order == 2 else group.nodes].movedim(-1, 1)
        images = torch.stack([function(dense) for function in equivariant_basis(in_order, order, m)])
        image = torch.einsum("cob,bvc...->v...o", layer.theta[str(order)][0], images)
        bias = layer.bias[str(order)][0]
        image = image + (bias[0] + torch.eye(m)[..., None] * bias[1] if order == 2 else bias[0])
        index = (group.pairs if order == 2 else group.nodes).reshape(-1)
        total = total.index_add(0, index, image.reshape(-1, width))
        count = count.index_add(0, index, torch.ones(len(index), 1))
    return total / count


def _saved_bytes(function) -> int:
    saved = {}

    def keep(tensor):
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        function()
    return sum(storage.nbytes() for storage in saved.values())
