"""Building and applying a normalized sheaf Laplacian, forward and backward, against scalar coordinates, and a layer against graph convolution."""

import torch
from torch_geometric.nn import GCNConv

from ritz.graphs import SheafConv
from ritz.graphs.edge_structure import edge_structure
from ritz.graphs.sheaf_conv import SheafOperator
from ritz.graphs.sheaf_laplacian import normalized_blocks
from ritz.studies import benchmark, compare

NODES, EDGES, STALK, CHANNELS = 10_000, 100_000, 4, 32
KINDS = ("diagonal", "orthogonal", "general")


def _graph() -> torch.Tensor:
    """Both directions of 50,000 random edges: 100,000 directed ones."""
    ends = torch.randint(NODES, (2, EDGES), generator=torch.Generator().manual_seed(0))
    ends = ends[:, ends[0] != ends[1]].sort(dim=0).values
    keys = torch.unique(ends[0] * NODES + ends[1])
    keys = keys[torch.randperm(len(keys), generator=torch.Generator().manual_seed(1))[: EDGES // 2]]
    edges = torch.stack([keys // NODES, keys % NODES])
    return torch.cat([edges, edges.flip(0)], dim=1)


def _differentiated(function, *inputs: torch.Tensor):
    """A call that evaluates the function and its gradient in all inputs."""

    def call():
        leaves = [value.detach().requires_grad_() for value in inputs]
        function(*leaves).square().sum().backward()
        return [leaf.grad for leaf in leaves]

    return call


@benchmark
def fused_against_scalar_coordinates():
    """The same normalized blocks, applied in one pass over the edges or as a sparse matrix of n d rows by its scalar coordinates."""
    edge_index = _graph()
    structure = edge_structure(edge_index, NODES)
    torch.manual_seed(0)
    x = torch.randn(NODES, STALK, CHANNELS)
    nodes = torch.cat([structure.rows, torch.arange(NODES)]), torch.cat([structure.columns, torch.arange(NODES)])
    offsets = torch.arange(STALK)
    for kind in KINDS:
        maps = SheafConv(CHANNELS, d=STALK, kind=kind, edge_weights=False).restriction_maps(x.reshape(NODES, -1), edge_index)
        if kind == "diagonal":
            rows, columns = ((STALK * ends[:, None] + offsets).reshape(-1) for ends in nodes)
        else:
            rows = (STALK * nodes[0][:, None, None] + offsets[:, None]).expand(-1, STALK, STALK).reshape(-1)
            columns = (STALK * nodes[1][:, None, None] + offsets).expand(-1, STALK, STALK).reshape(-1)

        def blocks_of(maps, kind=kind):
            return normalized_blocks(structure, maps, None, kind == "orthogonal", augmented=True)

        def fused(maps, x, blocks_of=blocks_of):
            none = x.new_zeros(0)
            return SheafOperator(structure, *blocks_of(maps), none, none)(x)

        def by_coordinates(maps, x, blocks_of=blocks_of, rows=rows, columns=columns):
            diagonal, blocks = blocks_of(maps)
            diagonal = torch.diag_embed(diagonal) if diagonal.dim() < blocks.dim() else diagonal
            values, flat = torch.cat([blocks, diagonal]).reshape(-1, 1), x.reshape(-1, CHANNELS)
            return torch.zeros_like(flat).index_add(0, rows, values * flat[columns]).reshape(x.shape)

        ours, peer = _differentiated(fused, maps, x), _differentiated(by_coordinates, maps, x)
        error = max(float((mine - theirs).abs().max() / theirs.abs().max()) for mine, theirs in zip(ours(), peer()))
        yield compare(
            f"{kind}: build and apply, forward and backward; n = 10^4, E = 10^5, d = 4, h = 32",
            ours,
            peer,
            peer_name="gather and scatter by scalar coordinates",
            target=2.0,
            extra={"relative difference of gradients": error},
        )


@benchmark
def layer_against_graph_convolution():
    """A training step of one layer against PyG's GCNConv of as many channels: at most 8 times its time."""
    edge_index = _graph()
    torch.manual_seed(0)
    x = torch.randn(NODES, STALK * CHANNELS)
    convolution = GCNConv(STALK * CHANNELS, STALK * CHANNELS)
    for kind in KINDS:
        layer = SheafConv(CHANNELS, d=STALK, kind=kind)
        yield compare(
            f"{kind}: one layer, forward and backward; n = 10^4, E = 10^5, d = 4, h = 32",
            _differentiated(lambda x, layer=layer: layer(x, edge_index), x),
            _differentiated(lambda x: convolution(x, edge_index), x),
            peer_name="PyG GCNConv, 128 channels",
            target=1 / 8,
        )
