"""`ritz graphs sample`: an edge list in, a smaller one and a report out."""

import json

import networkx as nx
import numpy as np
import pytest
from cli.command import ritz

from ritz.graphs import read_graph, sample_directed_graph


@pytest.fixture
def edges(tmp_path):
    path = tmp_path / "edges.txt"
    path.write_text("".join(f"{a} {b}\n" for a, b in nx.gnp_random_graph(80, 0.06, seed=0, directed=True).edges))
    return path


def test_edges_and_report_are_those_of_the_function(capsys, tmp_path, edges):
    out, report = tmp_path / "sample.tsv", tmp_path / "report.json"
    arguments = ["--ratio", 0.5, "--rounding", "stochastic", "--complete", "--report", report, "--seed", 4, "--json"]
    code, text, _ = ritz(capsys, "graphs", "sample", edges, "-o", out, *arguments)
    assert code == 0
    expected = sample_directed_graph(read_graph(edges, directed=True), 0.5, rounding="stochastic", complete=True, rng=4)
    np.testing.assert_array_equal(np.loadtxt(out, dtype=int).T, expected.adjacency.nonzero())
    summary = json.loads(text)
    assert summary == json.loads(report.read_text())
    assert (summary["nodes"], summary["edges"]) == (expected.adjacency.shape[0], expected.realized_edges)
    assert summary["dropped_edges"] == expected.dropped_edges
    assert 0 <= summary["ks_in"] <= 0.2


def test_bad_input_is_one_sentence_and_code_2(capsys, tmp_path, edges):
    out = tmp_path / "s.txt"
    for arguments, message in (
        (["-o", out, "--ratio", 0], "ratio must be"),
        (["-o", out, "--ratio", 0.5, "--rounding", "even"], "rounding must be"),
        (["-o", out, "--ratio", 0.001], "leaves no node"),
        (["-o", tmp_path / "s.npz", "--ratio", 0.5], "out must end in"),
        (["-o", out, "--ratio", 0.5, "--report", tmp_path / "r.txt"], "report must end in .json"),
    ):
        code, _, err = ritz(capsys, "graphs", "sample", edges, *arguments)
        assert code == 2
        assert message in err
    assert not out.exists()
