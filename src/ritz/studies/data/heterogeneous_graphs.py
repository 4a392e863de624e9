"""Heterogeneous graphs for studies, as PyG data: a real one where its file has been put, and a planted one."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Sequence

import numpy as np
import torch
from torch_geometric.data import HeteroData

from ritz.core import random_generator
from ritz.studies.data import real_file


def dblp(*, validation: int = 240, rng=0) -> HeteroData:
    """Read HGB's DBLP: 4,057 authors of four fields, 14,328 papers, 7,723 terms and 20 venues, no features; reverse relations are left to the reader.

    The authors of `label.dat` train, but for `validation` drawn ones; those of `label.dat.test` test; labels of others are -1.
    """
    with zipfile.ZipFile(real_file("hgb/DBLP.zip")) as held:
        meta, info = (json.loads(held.read(f"DBLP/{name}.dat")) for name in ("meta", "info"))
        kinds = info["node.dat"]["node type"]
        sizes = {kind: int(meta[f"Node Type_{number}"]) for number, kind in kinds.items()}  # nodes are numbered type by type
        links = np.loadtxt(held.open("DBLP/link.dat"), dtype=np.int64, usecols=(0, 1, 2))
        labels, test_labels = (_labels(held.read(f"DBLP/{name}").decode()) for name in ("label.dat", "label.dat.test"))
    data = HeteroData({kind: {"num_nodes": size} for kind, size in sizes.items()})
    first = dict(zip(sizes, np.cumsum([0, *sizes.values()])))
    for number, link in list(info["link.dat"]["link type"].items())[:3]:  # the other three are the reverses
        source, destination = kinds[link["start"]], kinds[link["end"]]
        ends = links[links[:, 2] == int(number), :2] - [first[source], first[destination]]
        data[source, "to", destination].edge_index = torch.from_numpy(ends.T.copy())
    return _with_labels(data, "author", labels, test_labels, validation, random_generator(rng))


def planted_bibliography(authors: int = 300, *, fields: int = 3, papers: int = 4, venues: int = 4, inside: float = 0.9, rng=0) -> HeteroData:
    """Draw authors with `papers` papers each, whose venues (and one of 20 terms a field) are of the author's field with probability `inside`."""
    rng = random_generator(rng)
    y = rng.integers(fields, size=authors)
    writer = np.repeat(np.arange(authors), papers)
    count = len(writer)

    def of_the_field(each: int) -> np.ndarray:
        field = np.where(rng.random(count) < inside, y[writer], rng.integers(fields, size=count))
        return field * each + rng.integers(each, size=count)

    data = HeteroData(
        {"author": {"num_nodes": authors}, "paper": {"num_nodes": count}, "term": {"num_nodes": 20 * fields}, "venue": {"num_nodes": venues * fields}}
    )
    relations = {("author", "paper"): (writer, np.arange(count)), ("paper", "term"): (np.arange(count), of_the_field(20))}
    relations["paper", "venue"] = (np.arange(count), of_the_field(venues))
    for (source, destination), ends in relations.items():
        data[source, "to", destination].edge_index = torch.from_numpy(np.stack(ends))
    numbers = rng.permutation(authors)
    train, test = numbers[: authors // 2], numbers[authors // 2 :]
    return _with_labels(data, "author", np.stack([train, y[train]], 1), np.stack([test, y[test]], 1), authors // 8, rng)


def metapaths(data: HeteroData, target: str, length: int) -> list[tuple[str, ...]]:
    """List the walks over node types that start at the target and have 1 to `length` steps along relations or against them."""
    steps = {(source, destination) for source, _, destination in data.edge_types}
    steps |= {(destination, source) for source, destination in steps}
    paths, longest = [], [(target,)]
    for _ in range(length):
        longest = [(*path, end) for path in longest for start, end in sorted(steps) if start == path[-1]]
        paths += longest
    return paths


def _labels(text: str) -> np.ndarray:
    """The columns node and class (labels, 2) of a file of labels: names of nodes may hold anything but tabs."""
    return np.array([(int(row[0]), int(row[-1])) for row in (re.split("\t", line) for line in text.splitlines())])


def _with_labels(data: HeteroData, target: str, labels: np.ndarray, test: np.ndarray, validation: int, rng: np.random.Generator) -> HeteroData:
    store, chosen = data[target], rng.permutation(labels[:, 0])
    store.y = torch.full((store.num_nodes,), -1)
    for rows in (labels, test):
        store.y[torch.from_numpy(rows[:, 0])] = torch.from_numpy(rows[:, 1])
    store.train_mask, store.val_mask, store.test_mask = (
        _mask(store.num_nodes, numbers) for numbers in (chosen[validation:], chosen[:validation], test[:, 0])
    )
    return data


def _mask(count: int, numbers: Sequence[int]) -> torch.Tensor:
    mask = torch.zeros(count, dtype=torch.bool)
    mask[torch.as_tensor(numbers)] = True
    return mask
