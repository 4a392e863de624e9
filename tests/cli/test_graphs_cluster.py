"""`ritz graphs cluster` writes a label for each node of a file, with or without a file of attributes."""

import json

import networkx as nx
import numpy as np
import pytest
from cli.command import ritz

GRAPH = nx.planted_partition_graph(2, 20, 0.8, 0.05, seed=1)
NAMES = [f"n{i:02d}" for i in np.random.default_rng(0).permutation(40)]
TRUTH = {NAMES[i]: i // 20 for i in range(40)}


@pytest.fixture
def edges(tmp_path):
    file = tmp_path / "edges.txt"
    file.write_text("".join(f"{NAMES[u]} {NAMES[v]}\n" for u, v in GRAPH.edges))
    return file


def test_labels_as_csv_and_npy(capsys, tmp_path, edges):
    code, out, _ = ritz(capsys, "graphs", "cluster", edges, "-k", 2, "-o", tmp_path / "labels.csv", "--json")
    summary = json.loads(out)
    assert code == 0
    assert (summary["nodes"], summary["edges"], summary["attributes"], summary["clusters"]) == (40, GRAPH.number_of_edges(), 0, 2)
    assert summary["modularity"] > 0.2
    lines = (tmp_path / "labels.csv").read_text().splitlines()
    assert lines[0] == "node,label"
    found = dict(line.split(",") for line in lines[1:])
    assert np.mean([int(found[name]) == TRUTH[name] for name in NAMES]) in (0.0, 1.0)
    assert ritz(capsys, "graphs", "cluster", edges, "-k", 2, "-o", tmp_path / "labels.npy")[0] == 0
    nodes = (tmp_path / "labels.nodes.txt").read_text().split()
    assert {node: str(label) for node, label in zip(nodes, np.load(tmp_path / "labels.npy"))} == found


def test_attributes_in_any_order_or_in_that_of_the_nodes(capsys, tmp_path, edges):
    word = {name: "left" if TRUTH[name] else "right" for name in NAMES}
    named, ordered, numbers = tmp_path / "named.csv", tmp_path / "ordered.txt", tmp_path / "numbers.npy"
    named.write_text("node,side,same\n" + "".join(f"{name},{word[name]},x\n" for name in NAMES))
    ordered.write_text("".join(f"{word[name]} x\n" for name in sorted(NAMES)))
    np.save(numbers, np.array([[TRUTH[name], 7] for name in sorted(NAMES)]))
    written = []
    for file in (named, ordered, numbers):
        code, out, _ = ritz(capsys, "graphs", "cluster", edges, "-k", 2, "--attributes", file, "-o", tmp_path / "labels.csv", "--json")
        assert code == 0
        assert json.loads(out)["attributes"] == 2
        assert json.loads(out)["entropy"] == 0
        written.append((tmp_path / "labels.csv").read_text())
    assert written[0] == written[1] == written[2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\nb\n", "a line of categories for each of the 40 nodes, got 2"),
        ("a b\nc\n", "line 2: must have 2 words as the first, got 1"),
        ("node,side\nn00,a\nn00,b\n", "one line for each node of the graph"),
        ("", "got 0"),
    ],
)
def test_bad_attribute_files(capsys, tmp_path, edges, content, message):
    (tmp_path / "attributes.csv").write_text(content)
    code, out, err = ritz(capsys, "graphs", "cluster", edges, "-k", 2, "--attributes", tmp_path / "attributes.csv", "-o", tmp_path / "l.csv")
    assert (code, out) == (2, "")
    assert message in err
    assert not (tmp_path / "l.csv").exists()


def test_bad_options(capsys, tmp_path, edges):
    assert "n_clusters" in ritz(capsys, "graphs", "cluster", edges, "-k", 1, "-o", tmp_path / "l.csv")[2]
    assert ".csv or .npy" in ritz(capsys, "graphs", "cluster", edges, "-k", 2, "-o", tmp_path / "l.txt")[2]
