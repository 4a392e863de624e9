"""`ritz graphs proximity` writes what the library computes, with the labels of the nodes."""

import csv
import json

import networkx as nx
import numpy as np
import pytest
from cli.command import ritz

from ritz.graphs import proximity, proximity_distance

GRAPH = nx.barbell_graph(3, 1)
ADJACENCY = nx.to_numpy_array(GRAPH, nodelist=range(7))


@pytest.fixture
def edges(tmp_path):
    file = tmp_path / "edges.txt"
    file.write_text("".join(f"n{u} n{v}\n" for u, v in GRAPH.edges))
    return file


def test_one_matrix_in_every_form(capsys, tmp_path, edges):
    expected = proximity(ADJACENCY, "forest", 0.3, log=True)
    for ending in ("npy", "npz", "csv"):
        out = tmp_path / f"k.{ending}"
        code, text, _ = ritz(capsys, "graphs", "proximity", edges, "-o", out, "--kind", "forest", "--t", "0.3", "--log", "--json")
        assert code == 0
        assert json.loads(text)["nodes"] == 7
    nodes = [f"n{i}" for i in range(7)]
    np.testing.assert_array_equal(np.load(tmp_path / "k.npy"), expected)
    assert (tmp_path / "k.nodes.txt").read_text().split() == nodes
    with np.load(tmp_path / "k.npz") as held:
        np.testing.assert_array_equal(held["proximity"], expected)
        assert held["nodes"].tolist() == nodes
    header, *rows = csv.reader((tmp_path / "k.csv").open())
    assert header == ["node", *nodes]
    assert [row[0] for row in rows] == nodes
    np.testing.assert_array_equal(np.array([row[1:] for row in rows], dtype=float), expected)


def test_a_grid_of_distances(capsys, tmp_path, edges):
    out = tmp_path / "d.npz"
    code, text, _ = ritz(capsys, "graphs", "proximity", edges, "-o", out, "--t", "0.2,0.5,0.8", "--distance", "--sqrt")
    assert code == 0
    assert "holds: roots of distances" in text
    with np.load(out) as held:
        expected = [proximity_distance(K, sqrt=True) for K in proximity(ADJACENCY, "communicability", [0.2, 0.5, 0.8])]
        np.testing.assert_array_equal(held["distance"], expected)


def test_labels_of_a_gml_file_are_no_pickle(capsys, tmp_path):
    nx.write_gml(nx.relabel_nodes(GRAPH, lambda i: f"node, {i}"), tmp_path / "graph.gml")
    for ending in ("npz", "csv"):
        assert ritz(capsys, "graphs", "proximity", tmp_path / "graph.gml", "-o", tmp_path / f"k.{ending}", "--kind", "commute")[0] == 0
    with np.load(tmp_path / "k.npz", allow_pickle=False) as held:
        assert held["nodes"][1] == "node, 1"
        np.testing.assert_allclose(held["proximity"], proximity(GRAPH, "commute"), atol=1e-12)
    assert next(csv.reader((tmp_path / "k.csv").open()))[2] == "node, 1"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--t", "1.5"], "t must be a finite number above 0 and below 1"),
        (["--t", "a"], "t must be a number, or several separated by commas, got 'a'"),
        ([], "t must be given for kind 'communicability'"),
        (["--t", "0.5", "--sqrt"], "sqrt needs distance"),
        (["--t", "0.5", "--kind", "katz"], "kind must be one of"),
        (["--kind", "commute", "--log"], "log must be False"),
        (["--t", "0.2,0.3", "-o", "k.csv"], "out must end in .npy or .npz for several t"),
        (["--t", "0.2", "-o", "k.txt"], "out must end in .npy"),
    ],
)
def test_bad_options(capsys, tmp_path, edges, options, message):
    code, out, err = ritz(capsys, "graphs", "proximity", edges, "-o", tmp_path / "k.npy", *options)
    assert (code, out) == (2, "")
    assert message in err
    assert list(tmp_path.iterdir()) == [edges]
