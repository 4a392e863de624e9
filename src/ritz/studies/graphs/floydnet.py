"""FloydNet: which graphs random weights tell apart, and shortest paths in graphs larger than those it learned from."""

from __future__ import annotations

import itertools

import networkx
import numpy as np
import torch
from torch import nn
from torch_geometric.data import Batch, Data
from torch_geometric.nn import GINEConv
from torch_geometric.nn.models import GIN

from ritz.core import random_generator
from ritz.graphs import FloydNet, floyd_isomorphism_test
from ritz.graphs.pair_tensors import dense_nodes, pair_mask
from ritz.studies import Run, study
from ritz.studies.data import MissingData
from ritz.studies.data.graph_collections import as_data, brec_pairs, counting_graphs, strongly_regular_family
from ritz.studies.graph_training import fit_graph_regression
from ritz.studies.training import fit, minibatches

HIDDEN = 32


@study("floydnet", minutes=7)
def study_floydnet(run: Run) -> None:
    """Attention over pivots tells apart what refinement of pairs does, and learns shortest paths (FloydNet 2026)."""
    try:
        _tell_apart(run)
    except MissingData as missing:
        run.note(f"pairs of BREC left out: {missing}")
    _shortest_paths(run)
    if run.scale != "smoke":
        try:
            _count(run)
        except MissingData as missing:
            run.note(f"substructure counts left out: {missing}")


def _tell_apart(run: Run) -> None:
    """How many pairs each test tells apart: random attention, colour refinement, and GIN with random weights."""
    parts = run.pick(smoke={"basic": 6}, default={"basic": 60, "regular": 50, "extension": 100})
    rows = []
    for part, count in parts.items():
        pairs = brec_pairs(part)[:count]
        results = [floyd_isomorphism_test(*pair) for pair in run.progress(pairs, f"BREC, {part}")]
        rows.append(
            {
                "pairs": part,
                "number": len(pairs),
                "random attention": sum(map(bool, results)),
                "least distance": min(result.distance for result in results),
                "most noise": max(result.noise for result in results),
                "colour refinement": sum(_refinement_differs(*pair) for pair in pairs),
                "GIN": sum(_random_gin_differs(*pair) for pair in pairs),
            }
        )
    family = strongly_regular_family("sr16622")
    blind = floyd_isomorphism_test(*family)
    run.table("pairs told apart", rows)
    missed = sum(row["number"] - row["random attention"] for row in rows)
    run.claim(
        "all pairs are told apart (pairs that are not)",
        baseline="colour refinement; GIN",
        measured=missed,
        holds=missed == 0,
        paper="as strong as 3-WL on BREC",
    )
    noise = max(row["most noise"] for row in rows)
    run.claim("reordering moves the output by less than 1e-9 of its size", measured=noise, holds=noise < 1e-9)
    run.claim("two strongly regular graphs are not told apart (relative distance below 1e-12)", measured=blind.distance, holds=blind.distance < 1e-12)


def _refinement_differs(first: networkx.Graph, second: networkx.Graph) -> bool:
    return networkx.weisfeiler_lehman_graph_hash(first, iterations=8) != networkx.weisfeiler_lehman_graph_hash(second, iterations=8)


def _random_gin_differs(first: networkx.Graph, second: networkx.Graph) -> bool:
    torch.manual_seed(0)
    model = GIN(1, 16, num_layers=5).double().eval()
    with torch.no_grad():
        sums = [model(torch.ones(len(graph), 1, dtype=torch.float64), as_data(graph).edge_index).sum(0) for graph in (first, second)]
    return float((sums[0] - sums[1]).norm() / sums[0].norm()) > 1e-6


class PathNet(nn.Module):
    """FloydNet with a number for each pair."""

    def __init__(self):
        super().__init__()
        self.network = FloydNet(HIDDEN, 4, 4, edge_dim=1, out_channels=1, level="edge")

    def forward(self, batch) -> torch.Tensor:
        return self.network(None, batch.edge_index, batch.edge_attr, batch.batch).squeeze(-1)


class NodePairs(nn.Module):
    """GIN on random node features, which tell nodes apart, with edge weights in its messages, and a perceptron of both ends and their product."""

    def __init__(self, layers: int = 6):
        super().__init__()
        widths = [8, *[2 * HIDDEN] * layers]
        self.layers = nn.ModuleList(_weighted_gin(before, after) for before, after in itertools.pairwise(widths))
        self.head = nn.Sequential(nn.Linear(6 * HIDDEN, 4 * HIDDEN), nn.ReLU(), nn.Linear(4 * HIDDEN, 1))

    def forward(self, batch) -> torch.Tensor:
        x = torch.randn(batch.num_nodes, 8)
        for layer in self.layers:
            x = torch.relu(layer(x, batch.edge_index, batch.edge_attr))
        h, _ = dense_nodes(x, batch.batch)
        n = h.shape[1]
        first, second = h.unsqueeze(2).expand(-1, -1, n, -1), h.unsqueeze(1).expand(-1, n, -1, -1)
        return self.head(torch.cat([first, second, first * second], dim=-1)).squeeze(-1)


def _weighted_gin(inputs: int, outputs: int) -> GINEConv:
    """PyG's GIN whose messages also see the weight of the edge."""
    return GINEConv(nn.Sequential(nn.Linear(inputs, outputs), nn.LayerNorm(outputs), nn.ReLU(), nn.Linear(outputs, outputs)), edge_dim=1)


def _shortest_paths(run: Run) -> None:
    """Lengths of shortest paths in random weighted graphs: learned on 8 to 12 nodes, tested on 16."""
    count, steps = run.pick(smoke=(40, 5), default=(1500, 1200))
    rows = []
    for seed in run.progress(run.seeds(run.pick(smoke=1, default=2)), "learning shortest paths"):
        rng = random_generator(seed)
        train = [_weighted_graph(int(rng.integers(8, 13)), rng) for _ in range(count)]
        test = Batch.from_data_list([_weighted_graph(16, rng) for _ in range(count // 10)])
        for name, build in (("FloydNet", PathNet), ("GIN and pairs of nodes", NodePairs)):
            torch.manual_seed(seed)
            model = build()
            _fit_paths(model, train, steps, seed)
            with torch.no_grad():
                rows.append({"network": name, "seed": seed, "error": float(_pair_error(model.eval(), test))})
    run.table("mean absolute error of path lengths (weights 1 to 10, divided by 5), 16 nodes", rows)
    mean = {name: float(np.mean([row["error"] for row in rows if row["network"] == name])) for name in dict.fromkeys(r["network"] for r in rows)}
    run.figure("paths", lambda axes: axes.barh(list(mean), list(mean.values())), caption="error of shortest path lengths on larger graphs")
    ours, other = mean["FloydNet"], mean["GIN and pairs of nodes"]
    run.claim("shortest paths in graphs of 16 nodes to 0.15", measured=ours, holds=ours <= 0.15, paper="CLRS-30: 96.64 % on average")
    run.claim(
        "at most half of the error of message passing",
        baseline="GIN with random node features, six layers",
        measured=ours / other,
        holds=ours <= 0.5 * other,
    )


def _weighted_graph(n: int, rng: np.random.Generator) -> Data:
    graph = networkx.Graph()
    while not (len(graph) == n and networkx.is_connected(graph)):
        graph = networkx.gnp_random_graph(n, 0.35, seed=int(rng.integers(2**31)))
    A = networkx.to_numpy_array(graph) * np.triu(rng.integers(1, 11, size=(n, n)) / 5, 1)
    A = A + A.T
    lengths = networkx.floyd_warshall_numpy(networkx.from_numpy_array(A))
    rows, columns = A.nonzero()
    edges, weights = torch.from_numpy(np.stack([rows, columns])), torch.from_numpy(A[rows, columns]).float().unsqueeze(-1)
    return Data(edge_index=edges, edge_attr=weights, num_nodes=n, lengths=torch.from_numpy(np.asarray(lengths)).float().flatten())


def _fit_paths(model: nn.Module, graphs: list[Data], steps: int, seed: int) -> None:
    batches = minibatches(len(graphs), min(32, len(graphs)), torch.Generator().manual_seed(seed))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-3, total_steps=steps + 1)

    def loss(_step: int) -> torch.Tensor:
        return _pair_error(model.train(), Batch.from_data_list([graphs[i] for i in next(batches)]))

    fit(optimizer, loss, range(steps), scheduler=scheduler, clip_norm=1.0)


def _pair_error(model: nn.Module, batch: Batch) -> torch.Tensor:
    """The mean absolute error over pairs of different nodes."""
    _, nodes = dense_nodes(batch.batch.new_ones(batch.num_nodes, 1), batch.batch)
    predicted = model(batch)[pair_mask(nodes)]
    different = batch.lengths > 0
    return (predicted - batch.lengths)[different].abs().mean()


class Counter(nn.Module):
    """FloydNet with two numbers a graph."""

    def __init__(self):
        super().__init__()
        self.network = FloydNet(HIDDEN, 4, 3, out_channels=2)

    def forward(self, batch) -> torch.Tensor:
        return self.network(None, batch.edge_index, batch=batch.batch)


def _count(run: Run) -> None:
    """5-cycles and 4-cycles with a chord in random graphs of at most 14 nodes, standardized; the error is reported, nothing is claimed."""
    held = counting_graphs()
    small = {name: [i for i in getattr(held, name) if len(held.adjacencies[i]) <= 14] for name in ("train", "test")}
    counts = np.array([_cycles_and_chords(A) for A in held.adjacencies])
    chosen = small["train"] + small["test"]
    y = torch.from_numpy((counts - counts[chosen].mean(axis=0)) / counts[chosen].std(axis=0)).float()
    graphs = {name: [as_data(networkx.from_numpy_array(held.adjacencies[i]), y=y[i : i + 1]) for i in numbers] for name, numbers in small.items()}
    torch.manual_seed(0)
    model = fit_graph_regression(Counter(), graphs["train"], epochs=30, batch_size=32, learning_rate=2e-3, clip_norm=1.0)
    test = Batch.from_data_list(graphs["test"])
    with torch.no_grad():
        errors = (model(test) - test.y).abs().mean(0).tolist()
    sizes = {"graphs to learn from": len(graphs["train"]), "to test": len(graphs["test"])}
    run.table("counts in random graphs: error in standard deviations", [sizes | dict(zip(("5-cycles", "chordal 4-cycles"), errors))])


def _cycles_and_chords(A: np.ndarray) -> tuple[float, float]:
    """The numbers of 5-cycles (Alon, Yuster and Zwick 1997) and of 4-cycles with a chord."""
    squared = A @ A
    cubed = squared @ A
    degrees = A.sum(axis=1)
    fives = np.trace(squared @ cubed) - 5 * np.trace(cubed) - 5 * np.sum((degrees - 2) * np.diagonal(cubed))
    chords = (A * squared * (squared - 1) / 2).sum() / 2
    return fives / 10, chords
