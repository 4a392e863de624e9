"""The dual hypergraph of a graph: its edges become nodes, its nodes the hyperedges that join them.

Jo, Baek, Lee, Kim, Kang and Hwang, "Edge Representation Learning with Hypergraphs", NeurIPS 2021, arXiv:2106.15845, section 3.1.

A graph with node features X, incidence M (nodes, edges) and edge features E is (X, M, E); its dual is (E, M^T, X). Any network for the nodes of
hypergraphs, PyG's ``HypergraphConv`` first of all, run on the dual is then one for the edges of the graph. Unlike the line graph, whose edges
number the sum of squared degrees, the dual has the 2 m incidences of the graph itself: it costs nothing to build, and nothing is lost.
"""

from __future__ import annotations

import torch

from ritz.core import flag, is_torch, optional_import

_data = optional_import("torch_geometric.data", extra="graphs")
_transforms = optional_import("torch_geometric.transforms", extra="graphs")


def dual_hypergraph(
    edge_index: torch.Tensor, batch: torch.Tensor | None = None, *, add_loops: bool = True, undirected: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the incidences of a graph's dual hypergraph, and the graph of each of its edges.

    Parameters
    ----------
    edge_index : LongTensor (2, E)
        The edges. PyG stores both orientations of an undirected edge, and then both are nodes of the dual.
    batch : LongTensor (N,), optional
        The graph of each node; one graph if missing.
    add_loops : bool
        Leave out the hyperedges with one member (nodes of degree 1), which bring their edge nothing, and give each edge a hyperedge of its own.
    undirected : bool
        One node of the dual for each undirected edge, in the order of the orientations whose source is the smaller; both must be there.

    Returns
    -------
    hyperedge_index : LongTensor (2, *)
        Numbers of edges, and of the hyperedges they belong to: their two ends, in the order of the edges. Without `add_loops` the second row
        reshaped to (E, 2) is `edge_index` again, transposed: the dual is its own inverse. Loops count up from after the largest end.
    edge_batch : LongTensor (E,)
        The graph of each edge.

    Raises
    ------
    TypeError
        If a tensor does not hold integers, or an option is no flag.
    ValueError
        If shapes disagree, an end is no node, or, with `undirected`, an edge lacks its other orientation or is a loop.

    Notes
    -----
    Cost O(E); with `undirected`, O(E log E).

    Examples
    --------
    >>> hyperedge_index, edge_batch = dual_hypergraph(torch.tensor([[0, 1], [1, 2]]), add_loops=False)
    >>> hyperedge_index
    tensor([[0, 0, 1, 1],
            [0, 1, 1, 2]])
    """
    edge_index, batch = checked_edges(edge_index, batch)
    if flag(undirected, "undirected"):
        edge_index = edge_index[:, edge_pairs(edge_index)[0]]
    edges = edge_index.shape[1]
    hyperedge_index = torch.empty(2, 2 * edges, dtype=torch.long, device=edge_index.device)
    hyperedge_index[0].view(edges, 2).copy_(_numbers(edges, edge_index).unsqueeze(1).expand(edges, 2))
    for end in range(2):
        hyperedge_index[1, end::2] = edge_index[end]
    if flag(add_loops, "add_loops"):
        hyperedge_index = _with_loops(hyperedge_index, edges)
    return hyperedge_index, edge_index.new_zeros(edges) if batch is None else batch[edge_index[0]]


class DualHypergraph(_transforms.BaseTransform):
    """Store the dual hypergraph of a graph, loops added, as ``hyperedge_index`` and ``edge_batch``.

    A plain ``Data`` comes back as one that numbers edges and hyperedges apart when graphs are batched (PyG alone would count both by nodes);
    other kinds, batches among them, keep their kind, and are best transformed after batching.

    Examples
    --------
    >>> from torch_geometric.data import Batch, Data
    >>> path = Data(edge_index=torch.tensor([[0, 1], [1, 2]]), num_nodes=3)
    >>> Batch.from_data_list([DualHypergraph()(path), DualHypergraph()(path)]).edge_batch
    tensor([0, 0, 1, 1])
    """

    def forward(self, data):
        """Add the dual to a graph or a batch of graphs."""
        if type(data) is _data.Data:
            data = _DataWithDual.from_dict(data.to_dict())
        batch = getattr(data, "batch", None)
        data.hyperedge_index, data.edge_batch = dual_hypergraph(data.edge_index, batch)
        return data


class _DataWithDual(_data.Data):
    """PyG data whose edges and hyperedges are numbered on in a batch."""

    def __inc__(self, key: str, value, *args, **kwargs):
        if key == "hyperedge_index":
            hyperedges = int(value[1].max()) + 1 if value.numel() else 0
            return torch.tensor([[self.num_edges], [hyperedges]])
        return 1 if key == "edge_batch" else super().__inc__(key, value, *args, **kwargs)


def edge_pairs(edge_index: torch.Tensor) -> torch.Tensor:
    """Return the positions (2, E / 2) of the two orientations of each undirected edge, that with the smaller source first.

    ``ValueError`` if an edge lacks its other orientation, or is a loop. Parallel edges are paired in their order.
    """
    source, target = edge_index
    forward, backward = (source < target).nonzero().squeeze(1), (source > target).nonzero().squeeze(1)
    nodes = int(edge_index.max()) + 1 if edge_index.numel() else 0
    key = torch.minimum(source, target) * nodes + torch.maximum(source, target)
    forward_order, backward_order = torch.argsort(key[forward], stable=True), torch.argsort(key[backward], stable=True)
    complete = len(forward) == len(backward) and len(forward) + len(backward) == edge_index.shape[1]
    if not complete or not torch.equal(key[forward][forward_order], key[backward][backward_order]):
        raise ValueError("edge_index must hold both orientations of each edge, and no loops, where edges are undirected")
    partner = torch.empty_like(backward)
    partner[forward_order] = backward[backward_order]
    return torch.stack([forward, partner])


def checked_edges(edge_index: torch.Tensor, batch: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Refuse edges that do not have the shape (2, E), or whose ends are no nodes of the batch."""
    check_integers(edge_index, "edge_index")
    if edge_index.dim() != 2 or edge_index.shape[0] != 2:
        raise ValueError(f"edge_index must have shape (2, edges), got {tuple(edge_index.shape)}")
    least, largest = (int(end) for end in edge_index.aminmax()) if edge_index.numel() else (0, -1)
    if least < 0:
        raise ValueError(f"edge_index must hold numbers of nodes, got {least}")
    if batch is not None:
        check_integers(batch, "batch")
        if batch.dim() != 1 or (batch.numel() and int(batch.min()) < 0):
            raise ValueError(f"batch must hold the graph of each node, counted from 0, in shape (nodes,), got {tuple(batch.shape)}")
        if largest >= len(batch):
            raise ValueError(f"batch must hold the graph of every node of edge_index, up to node {largest}, got {len(batch)} nodes")
        batch = batch.long()
    return edge_index.long(), batch


def check_integers(value: object, name: str) -> None:
    """Refuse what is no tensor of integers."""
    if not is_torch(value) or value.is_floating_point() or value.is_complex() or value.dtype == torch.bool:
        raise TypeError(f"{name} must be a tensor of integers, got {value.dtype if is_torch(value) else type(value).__name__}")


def _with_loops(hyperedge_index: torch.Tensor, edges: int) -> torch.Tensor:
    if edges == 0:
        return hyperedge_index
    sizes = torch.bincount(hyperedge_index[1])
    if bool((sizes == 1).any()):
        hyperedge_index = hyperedge_index[:, sizes[hyperedge_index[1]] != 1]
    loops = _numbers(edges, hyperedge_index)
    return torch.cat([hyperedge_index, torch.stack([loops, loops + len(sizes)])], dim=1)


def _numbers(count: int, like: torch.Tensor) -> torch.Tensor:
    return torch.arange(count, device=like.device)
