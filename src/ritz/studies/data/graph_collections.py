"""Collections of graphs for studies, as PyG data: real ones where the files have been put, and pairs that weak networks confuse."""

from __future__ import annotations

from typing import NamedTuple

import networkx
import numpy as np
import torch
from torch_geometric.data import Data

from ritz.core import random_generator
from ritz.studies.data import real_file

TU_FILES = {"MUTAG": "MUTAG", "PTC_MR": "PTC", "PROTEINS": "PROTEINS", "IMDB-BINARY": "IMDBBINARY"}


class GraphCollection(NamedTuple):
    """Graphs (x: one-hot node labels, y: class) and ten folds (train, test) of their numbers."""

    graphs: list[Data]
    folds: list[tuple[np.ndarray, np.ndarray]]


def tu_collection(name: str) -> GraphCollection:
    """Read "MUTAG" (188 graphs), "PTC_MR" (344), "PROTEINS" (1,113) or "IMDB-BINARY" (1,000) with its ten published folds."""
    lines = iter(real_file(f"tu/{name}/{TU_FILES[name]}.txt").read_text().split("\n"))
    records = [_tu_graph(lines) for _ in range(int(next(lines)))]
    node_labels = np.unique(np.concatenate([labels for _, labels, _ in records]))
    classes = np.unique([y for _, _, y in records])
    graphs = [
        Data(
            x=torch.from_numpy((labels[:, None] == node_labels).astype(np.float32)),
            edge_index=torch.from_numpy(edges),
            y=torch.tensor([int(np.searchsorted(classes, y))]),
        )
        for edges, labels, y in records
    ]
    return GraphCollection(graphs, [_fold(name, number) for number in range(1, 11)])


def brec_pairs(part: str) -> list[tuple[networkx.Graph, networkx.Graph]]:
    """Read BREC's pairs of non-isomorphic graphs: "basic" (60), "regular" (50) or "extension" (100)."""
    texts = np.load(real_file(f"brec/{part}.npy"), allow_pickle=False).reshape(-1, 2)
    return [tuple(networkx.from_graph6_bytes(_as_bytes(text)) for text in pair) for pair in texts]


def strongly_regular_family(name: str) -> list[networkx.Graph]:
    """Read a family of strongly regular graphs: "sr16622" (2), "sr251256" (15) or "sr261034" (10)."""
    return [networkx.from_graph6_bytes(line) for line in real_file(f"strongly_regular/{name}.g6").read_bytes().split()]


class CountingGraphs(NamedTuple):
    """Adjacency matrices (n, n) of 5,000 random graphs of 10 to 30 nodes, and the numbers of those to train, validate and test on."""

    adjacencies: list[np.ndarray]
    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


def counting_graphs() -> CountingGraphs:
    """Read the random graphs on which substructures are counted."""
    with np.load(real_file("substructure_counts/graphs.npz"), allow_pickle=False) as held:
        bits, offsets, sizes = held["bits"], held["offsets"], held["sizes"]
        adjacencies = [
            np.unpackbits(bits[start:stop])[: n * n].reshape(n, n).astype(np.float64) for start, stop, n in zip(offsets[:-1], offsets[1:], sizes)
        ]
        return CountingGraphs(adjacencies, held["train"], held["val"], held["test"])


class WebGraph(NamedTuple):
    """A WebKB graph as PyG data (x, undirected edge_index, y) and its ten published splits (train, validation, test masks)."""

    data: Data
    splits: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]


def web_graph(name: str) -> WebGraph:
    """Read "texas" or "cornell": 183 pages, 1,703 words, 5 classes; neighbors tend to differ in class. Loops are dropped."""
    table = real_file(f"webkb/{name}/out1_node_feature_label.txt").read_text().splitlines()[1:]
    fields = sorted((line.split("\t") for line in table), key=lambda row: int(row[0]))
    x = torch.tensor([[float(word) for word in row[1].split(",")] for row in fields])
    edges = np.loadtxt(real_file(f"webkb/{name}/out1_graph_edges.txt"), skiprows=1, dtype=np.int64)
    edges = edges[edges[:, 0] != edges[:, 1]]
    edge_index = torch.from_numpy(np.unique(np.concatenate([edges, edges[:, ::-1]]), axis=0).T.copy())
    data = Data(x=x, edge_index=edge_index, y=torch.tensor([int(row[2]) for row in fields]))
    return WebGraph(data, [_web_split(name, number) for number in range(10)])


def random_regular_graphs(count: int, n: int, degree: int, *, rng=None) -> list[networkx.Graph]:
    """Draw regular graphs, which message passing on constant features cannot tell apart."""
    seeds = random_generator(rng).integers(2**31, size=count)
    return [networkx.random_regular_graph(degree, n, seed=int(seed)) for seed in seeds]


def counted_regular_graphs(count: int, n: int, degree: int, *, rng=None) -> list[Data]:
    """Draw regular graphs with their numbers of triangles and 4-cycles, standardized over the draw, in y (1, 2)."""
    drawn = random_regular_graphs(count, n, degree, rng=rng)
    A = np.stack([networkx.to_numpy_array(graph) for graph in drawn])
    common = A @ A
    triangles = np.einsum("gij,gij->g", common, A) / 6
    corners = common * (common - 1) / 2  # two nodes with c common neighbors are opposite corners of c (c - 1) / 2 cycles
    squares = (corners.sum(axis=(1, 2)) - np.trace(corners, axis1=1, axis2=2)) / 4
    counts = np.stack([triangles, squares], axis=1)
    y = torch.from_numpy((counts - counts.mean(axis=0)) / counts.std(axis=0)).float()
    return [as_data(graph, y=target[None]) for graph, target in zip(drawn, y)]


def as_data(graph: networkx.Graph, **attributes) -> Data:
    """Turn an undirected networkx graph into PyG data: both directions of each edge, nodes numbered in the graph's order."""
    rows, columns = networkx.to_numpy_array(graph).nonzero()
    return Data(edge_index=torch.from_numpy(np.stack([rows, columns])), num_nodes=len(graph), **attributes)


def _tu_graph(lines) -> tuple[np.ndarray, np.ndarray, int]:
    n, y = (int(word) for word in next(lines).split())
    rows = [[int(word) for word in next(lines).split()] for _ in range(n)]
    edges = [(node, neighbor) for node, row in enumerate(rows) for neighbor in row[2 : 2 + row[1]]]
    return np.array(edges, dtype=np.int64).reshape(-1, 2).T.copy(), np.array([row[0] for row in rows]), y


def _fold(name: str, number: int) -> tuple[np.ndarray, np.ndarray]:
    return tuple(np.loadtxt(real_file(f"tu/{name}/10fold_idx/{part}_idx-{number}.txt"), dtype=np.int64) for part in ("train", "test"))


def _web_split(name: str, number: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    with np.load(real_file(f"webkb/splits/{name}_split_0.6_0.2_{number}.npz"), allow_pickle=False) as held:
        return tuple(torch.from_numpy(held[f"{part}_mask"].astype(bool)) for part in ("train", "val", "test"))


def _as_bytes(text) -> bytes:
    return text if isinstance(text, bytes) else str(text).encode()
