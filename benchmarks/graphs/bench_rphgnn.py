"""RpHGNN's propagation against SciPy and NumPy, and an epoch of its training against one of HGT on sampled neighborhoods."""

import numpy as np
import scipy.sparse
import torch
from torch.nn import functional as F
from torch_geometric.data import HeteroData
from torch_geometric.nn import HGTConv
from torch_geometric.transforms import ToUndirected

from ritz.graphs import RpHGNN, RpHGNNPrecompute
from ritz.graphs.relation_operators import normalized, relation_matrices, reverses
from ritz.studies import benchmark, compare
from ritz.studies.data import MissingData
from ritz.studies.data.heterogeneous_graphs import dblp, planted_bibliography

LENGTH, HOPS, HIDDEN, BATCH = 256, 3, 256, 512
FANOUT = 20  # neighbors sampled for each node and relation, in each of two layers


def _graph() -> tuple[str, HeteroData]:
    try:
        return "DBLP", ToUndirected()(dblp())
    except MissingData:
        return "planted bibliography", ToUndirected()(planted_bibliography(4000))


@benchmark(threads=2)
def propagation():
    """Three hops of 256 features: the same algorithm in float32, every type squashed in every iteration."""
    name, data = _graph()
    transform = RpHGNNPrecompute("author", HOPS, feature_dim_random=LENGTH, rng=0)
    return compare(
        f"{name}, {HOPS} hops, length {LENGTH}", lambda: transform(data), lambda: _plain(data), peer_name="SciPy + NumPy", target=2.0, pairs=5
    )


@benchmark(threads=2)
def training_epoch():
    """All training authors once, in batches of 512: rows of stored tensors, against HGT (2 layers, 64 channels, 4 heads) on sampled neighborhoods."""
    name, data = _graph()
    train = data["author"].train_mask.nonzero().flatten()
    groups = RpHGNNPrecompute("author", HOPS, feature_dim_random=LENGTH, rng=0)(data).rp_groups
    ours = RpHGNN([tuple(group.shape[1:]) for group in groups], 4, hidden=HIDDEN, input_dropout=0.8, dropout=0.7)
    hgt = SampledHGT(data)
    y = data["author"].y
    return compare(
        f"{name}, an epoch",
        lambda: _epoch(ours, train, lambda nodes: F.cross_entropy(ours([group[nodes] for group in groups]), y[nodes])),
        lambda: _epoch(hgt, train, lambda nodes: F.cross_entropy(hgt(nodes), y[nodes])),
        peer_name=f"HGT, {FANOUT} neighbors a relation",
        target=5.0,
        pairs=3,
    )


def _plain(data: HeteroData) -> dict[tuple, list[np.ndarray]]:
    rng = np.random.default_rng(0)
    matrices = relation_matrices(data)
    reverse = reverses(matrices)
    means = {relation: normalized(matrix, "mean").astype(np.float32) for relation, matrix in matrices.items()}
    x = {kind: rng.standard_normal((data[kind].num_nodes, LENGTH), dtype=np.float32) for kind in data.node_types}
    collected: dict[tuple, list[np.ndarray]] = {}
    for _ in range(HOPS):
        received: dict[str, list[np.ndarray]] = {kind: [] for kind in x}
        for relation, mean in means.items():
            odd = mean @ x[relation[0]]
            even = means[reverse[relation]] @ odd
            for step, kind, message in (("odd", relation[2], odd), ("even", relation[0], even)):
                received[kind].append(message)
                if kind == "author":
                    collected.setdefault((step, relation), []).append(message)
        x = {kind: sum(_unit(message @ _signs(rng)) for message in messages) for kind, messages in received.items()}
    return {key: np.stack(hops, axis=1).astype(np.float16) for key, hops in collected.items()}


def _signs(rng: np.random.Generator) -> np.ndarray:
    return rng.choice(np.float32([3**0.5, 0, -(3**0.5)]), size=(LENGTH, LENGTH), p=[1 / 6, 2 / 3, 1 / 6])


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def _epoch(model: torch.nn.Module, train: torch.Tensor, loss) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for nodes in train.split(BATCH):
        optimizer.zero_grad()
        loss(nodes).backward()
        optimizer.step()


class SampledHGT(torch.nn.Module):
    """HGT over learned vectors, on the subgraph of the sampled neighbors of a batch's authors and of theirs."""

    def __init__(self, data: HeteroData, hidden: int = 64):
        super().__init__()
        self.vectors = torch.nn.ParameterDict({kind: torch.randn(data[kind].num_nodes, hidden) for kind in data.node_types})
        self.convs = torch.nn.ModuleList(HGTConv(hidden, hidden, data.metadata(), heads=4) for _ in range(2))
        self.classify = torch.nn.Linear(hidden, 4)
        self.matrices = relation_matrices(data)
        self.rng = np.random.default_rng(0)

    def forward(self, nodes: torch.Tensor) -> torch.Tensor:
        """Return the logits of a batch of authors."""
        kept, edges = {kind: np.zeros(0, dtype=np.int64) for kind in self.vectors}, {}
        kept["author"] = frontier = nodes.numpy()
        fresh = {"author": frontier}
        for _ in self.convs:
            found: dict[str, list[np.ndarray]] = {kind: [] for kind in kept}
            for relation, matrix in self.matrices.items():
                ends = _sampled(matrix, fresh.get(relation[2], np.zeros(0, dtype=np.int64)), self.rng)
                edges.setdefault(relation, []).append(ends)
                found[relation[0]].append(ends[0])
            fresh = {kind: np.setdiff1d(np.concatenate(parts), kept[kind]) for kind, parts in found.items()}
            kept = {kind: np.concatenate([kept[kind], fresh[kind]]) for kind in kept}
        place = {kind: np.zeros(len(self.vectors[kind]), dtype=np.int64) for kind in kept}
        for kind, numbers in kept.items():
            place[kind][numbers] = np.arange(len(numbers))
        local = {
            relation: torch.from_numpy(np.stack([place[kind][end] for kind, end in zip(relation[::2], np.concatenate(parts, axis=1))]))
            for relation, parts in edges.items()
        }
        x = {kind: self.vectors[kind][torch.from_numpy(numbers)] for kind, numbers in kept.items()}
        for conv in self.convs:
            x = {kind: value for kind, value in conv(x, local).items() if value is not None}
        return self.classify(x["author"][: len(nodes)])


def _sampled(matrix: scipy.sparse.csr_array, destinations: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """At most FANOUT edges (2, edges) into each destination, drawn with replacement where there are more."""
    degrees = np.diff(matrix.indptr)[destinations]
    counts = np.minimum(degrees, FANOUT)
    owner = np.repeat(np.arange(len(destinations)), counts)
    own = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    drawn = np.where(degrees[owner] > FANOUT, (rng.random(len(owner)) * degrees[owner]).astype(np.int64), own)
    return np.stack([matrix.indices[matrix.indptr[destinations][owner] + drawn], destinations[owner]]).astype(np.int64)
