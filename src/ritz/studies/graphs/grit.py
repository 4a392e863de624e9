"""GRIT: distances read off walk probabilities, counts that message passing cannot make, and communities."""

from __future__ import annotations

import networkx
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch_geometric.data import Batch, Data
from torch_geometric.nn import GIN, GINConv, GPSConv, global_add_pool

from ritz.core import random_generator
from ritz.graphs import AddRRWP, Grit, GritLayer
from ritz.studies import Run, study
from ritz.studies.data.graph_collections import as_data, counted_regular_graphs
from ritz.studies.data.graphs import planted_partition
from ritz.studies.graph_training import fit_graph_regression
from ritz.studies.training import fit, minibatches

DIM = 32
STEPS = 12  # of walks


@study("grit", minutes=6)
def study_grit(run: Run) -> None:
    """Attention with learned walk probabilities sees distances, cycles and communities without passing messages (Ma et al. 2023)."""
    _distances(run)
    _count(run)
    _communities(run)


class DistancePairs(nn.Module):
    """Two GRIT layers on normalized walk probabilities (high powers are tiny), and a number for each pair."""

    def __init__(self):
        super().__init__()
        self.norm, self.pair, self.node = nn.BatchNorm1d(STEPS), nn.Linear(STEPS, DIM), nn.Linear(STEPS, DIM)
        self.layers = nn.ModuleList(GritLayer(DIM, 4) for _ in range(2))
        self.head = nn.Sequential(nn.Linear(DIM, DIM), nn.ReLU(), nn.Linear(DIM, 1))

    def forward(self, batch) -> torch.Tensor:
        x, pairs = self.node(batch.rrwp), self.pair(self.norm(batch.rrwp_val))
        for layer in self.layers:
            x, pairs = layer(x, batch.rrwp_index, pairs, batch.log_deg)
        return self.head(pairs).squeeze(-1)


class DistanceEnds(nn.Module):
    """Four GIN layers on random node features, and a perceptron of both ends and their product."""

    def __init__(self):
        super().__init__()
        self.network = GIN(16, 2 * DIM, num_layers=4, norm="batch")
        self.head = nn.Sequential(nn.Linear(6 * DIM, 2 * DIM), nn.ReLU(), nn.Linear(2 * DIM, 1))

    def forward(self, batch) -> torch.Tensor:
        h = self.network(torch.randn(batch.num_nodes, 16), batch.edge_index)
        source, target = h[batch.rrwp_index[0]], h[batch.rrwp_index[1]]
        return self.head(torch.cat([source, target, source * target], dim=-1)).squeeze(-1)


def _distances(run: Run) -> None:
    """Distances of all pairs within reach of the walks, in random graphs and graphs of communities; rounded predictions that are right."""
    train, test, steps = run.pick(smoke=(12, 6, 3), default=(300, 100, 600))
    rows = []
    for seed in run.progress(run.seeds(run.pick(smoke=1, default=2)), "learning distances"):
        rng = random_generator(seed)
        graphs = AddRRWP(STEPS, spd=True).for_all([_sparse_graph(rng) for _ in range(train + test)])
        held = Batch.from_data_list(graphs[train:])
        for name, build in (("GRIT", DistancePairs), ("GIN and pairs of nodes", DistanceEnds)):
            torch.manual_seed(seed)
            model = _fitted(build(), graphs[:train], steps, seed, _distance_loss)
            with torch.no_grad():
                right = model(held).round() == held.rrwp_spd
            near = held.rrwp_spd <= 4
            rows.append({"network": name, "seed": seed, "right": right.float().mean().item(), "right up to 4": right[near].float().mean().item()})
    run.table("distances: share of pairs predicted exactly", rows)
    mean = {
        (row["network"], key): np.mean([r[key] for r in rows if r["network"] == row["network"]]) for row in rows for key in ("right", "right up to 4")
    }
    every, near, other = (float(mean[key]) for key in (("GRIT", "right"), ("GRIT", "right up to 4"), ("GIN and pairs of nodes", "right")))
    run.claim("at least 95 % of distances exact", measured=every, holds=every >= 0.95)
    run.claim("at least 98 % of distances up to 4 exact", measured=near, holds=near >= 0.98)
    run.claim("message passing and pairs of nodes get at most 90 %", baseline="GIN, random node features", measured=other, holds=other <= 0.9)


def _distance_loss(model: nn.Module, batch: Data) -> torch.Tensor:
    return F.l1_loss(model(batch), batch.rrwp_spd.float())


def _sparse_graph(rng: np.random.Generator) -> Data:
    n, seed = int(rng.integers(20, 41)), int(rng.integers(2**31))
    if rng.random() < 0.5:
        return as_data(networkx.gnp_random_graph(n, 3 / n, seed=seed))
    adjacency = planted_partition([n // 2, n - n // 2], 5 / n, 0.6 / n, rng=rng).adjacency
    return as_data(networkx.from_scipy_sparse_array(adjacency))


class Counter(nn.Module):
    """GRIT with two numbers a graph."""

    def __init__(self):
        super().__init__()
        self.network = Grit(dim=DIM, num_layers=2, heads=4, walk_length=8, out_channels=2, attn_dropout=0.0)

    def forward(self, batch) -> torch.Tensor:
        return self.network(batch)


class NodeCounter(nn.Module):
    """GIN on constant features, which are all alike in a regular graph."""

    def __init__(self):
        super().__init__()
        mix = [nn.Sequential(nn.Linear(DIM, DIM), nn.LayerNorm(DIM), nn.ReLU(), nn.Linear(DIM, DIM)) for _ in range(3)]
        self.start, self.layers, self.head = nn.Parameter(torch.randn(DIM)), nn.ModuleList(map(GINConv, mix)), nn.Linear(DIM, 2)

    def forward(self, batch) -> torch.Tensor:
        h = self.start.expand(batch.num_nodes, -1)
        for layer in self.layers:
            h = layer(h, batch.edge_index)
        return self.head(global_add_pool(h, batch.batch))


def _count(run: Run) -> None:
    """Triangles and 4-cycles of random 4-regular graphs on 12 nodes, standardized; mean absolute error on graphs that were not trained on."""
    train, test = run.pick(smoke=(126, 63), default=(1000, 400))
    rows = []
    for seed in run.progress(run.seeds(run.pick(smoke=1, default=2)), "counting"):
        graphs = AddRRWP(8).for_all(counted_regular_graphs(train + test, 12, 4, rng=seed))
        batch = Batch.from_data_list(graphs[train:])
        for name, build in (("GRIT", Counter), ("GIN", NodeCounter)):
            torch.manual_seed(seed)
            model = fit_graph_regression(build(), graphs[:train], epochs=run.pick(smoke=1, default=40), learning_rate=2e-3, clip_norm=1.0, seed=seed)
            with torch.no_grad():
                errors = (model(batch) - batch.y).abs().mean(0).tolist()
            rows.append({"network": name, "seed": seed, "triangles": errors[0], "4-cycles": errors[1]})
    run.table("error of counts, in standard deviations", rows)
    worst = max(float(np.mean([row[key] for row in rows if row["network"] == "GRIT"])) for key in ("triangles", "4-cycles"))
    run.claim("counts triangles and 4-cycles to 0.2 standard deviations (the worse)", baseline="GIN", measured=worst, holds=worst <= 0.2)


class Transformer(nn.Module):
    """GPS: GIN beside attention, on the diagonal walk probabilities."""

    def __init__(self, inputs: int, classes: int):
        super().__init__()
        self.start, self.own = nn.Linear(inputs, DIM), nn.Linear(STEPS, DIM)
        mix = [nn.Sequential(nn.Linear(DIM, DIM), nn.ReLU(), nn.Linear(DIM, DIM)) for _ in range(3)]
        self.layers, self.head = nn.ModuleList(GPSConv(DIM, GINConv(m), heads=4) for m in mix), nn.Linear(DIM, classes)

    def forward(self, batch) -> torch.Tensor:
        h = self.start(batch.x) + self.own(batch.rrwp)
        for layer in self.layers:
            h = layer(h, batch.edge_index, batch.batch)
        return self.head(h)


class Messages(nn.Module):
    """GIN, five layers."""

    def __init__(self, inputs: int, classes: int):
        super().__init__()
        self.network = GIN(inputs, DIM, num_layers=5, out_channels=classes, norm="batch")

    def forward(self, batch) -> torch.Tensor:
        return self.network(batch.x, batch.edge_index)


def _communities(run: Run) -> None:
    """Six communities of 8 to 14 nodes, one labelled node in each: accuracy on graphs that were not trained on."""
    count, steps = run.pick(smoke=(12, 2), default=(150, 300))
    rows = []
    for seed in run.progress(run.seeds(run.pick(smoke=1, default=2)), "finding communities"):
        rng = random_generator(seed)
        graphs = AddRRWP(STEPS).for_all([_community_graph(rng) for _ in range(count)])
        train, held = graphs[: 2 * count // 3], Batch.from_data_list(graphs[2 * count // 3 :])
        grit = Grit(7, dim=DIM, num_layers=3, heads=4, walk_length=STEPS, out_channels=6, level="node")
        for name, build in (("GRIT", lambda grit=grit: grit), ("GIN", lambda: Messages(7, 6)), ("GPS", lambda: Transformer(7, 6))):
            torch.manual_seed(seed)
            model = _fitted(build(), train, steps, seed, _class_loss, size=10)
            with torch.no_grad():
                accuracy = (model(held).argmax(-1) == held.y).float().mean().item()
            rows.append({"network": name, "seed": seed, "accuracy": accuracy})
    run.table("six communities, one labelled node each: accuracy", rows)
    mean = {name: float(np.mean([row["accuracy"] for row in rows if row["network"] == name])) for name in ("GRIT", "GIN", "GPS")}
    run.figure("communities", lambda axes: axes.bar(list(mean), list(mean.values())), caption="accuracy on graphs of six communities")
    for other, margin in (("GIN", 0.05), ("GPS", -0.02)):
        gain = mean["GRIT"] - mean[other]
        run.claim(f"communities: accuracy of {other}'s {margin:+g} at least", baseline=other, measured=gain, holds=gain >= margin)


def _class_loss(model: nn.Module, batch: Data) -> torch.Tensor:
    return F.cross_entropy(model(batch), batch.y)


def _community_graph(rng: np.random.Generator) -> Data:
    graph = planted_partition(rng.integers(8, 15, size=6), 0.55, 0.25, rng=rng)
    x = torch.zeros(len(graph.labels), 7)
    x[:, 6] = 1
    for community in range(6):
        x[rng.choice(np.flatnonzero(graph.labels == community))] = F.one_hot(torch.tensor(community), 7).float()
    return as_data(networkx.from_scipy_sparse_array(graph.adjacency), x=x, y=torch.from_numpy(graph.labels))


def _fitted(model: nn.Module, graphs: list[Data], steps: int, seed: int, loss, size: int = 32) -> nn.Module:
    batches = minibatches(len(graphs), min(size, len(graphs)), torch.Generator().manual_seed(seed))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-5)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps + 1)

    def batch_loss(_step: int) -> torch.Tensor:
        return loss(model.train(), Batch.from_data_list([graphs[i] for i in next(batches)]))

    fit(optimizer, batch_loss, range(steps), scheduler=scheduler, clip_norm=1.0)
    return model.eval()
