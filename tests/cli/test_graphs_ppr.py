"""`ritz graphs ppr`: an edge list in, an index, and ranked nodes out."""

import json

import networkx as nx
import numpy as np
import pytest
from cli.command import ritz

from ritz.graphs import PowerWalk, read_graph


@pytest.fixture
def edges(tmp_path):
    path = tmp_path / "edges.txt"
    path.write_text("".join(f"u{a} u{b}\n" for a, b in nx.karate_club_graph().edges))
    return path


def test_index_and_query_do_what_the_class_does(capsys, tmp_path, edges):
    index, out, sources = tmp_path / "index.npz", tmp_path / "scores.tsv", tmp_path / "ids.txt"
    code, text, _ = ritz(capsys, "graphs", "ppr", "index", edges, "-o", index, "--walks", 50, "--seed", 3, "--workers", 1, "--json")
    assert code == 0
    summary = json.loads(text)
    model = PowerWalk(n_walks=50, rng=3).fit(read_graph(edges))
    assert (summary["nodes"], summary["edges"], summary["steps"]) == (34, 78, model.n_steps_)
    sources.write_text("u33\n\nu0\n")
    code, text, _ = ritz(capsys, "graphs", "ppr", "query", index, "--sources", sources, "--top", 3, "-o", out, "--json")
    assert code == 0
    assert json.loads(text)["sources"] == 2
    lines = [line.split("\t") for line in out.read_text().splitlines()]
    assert lines[0] == ["source", "node", "score"]
    nodes = model.nodes_.tolist()
    ids, scores = model.query([nodes.index("u33"), nodes.index("u0")], top_k=3)
    assert [line[:2] for line in lines[1:]] == [[label, nodes[i]] for label, row in zip(("u33", "u0"), ids) for i in row]
    np.testing.assert_allclose([float(line[2]) for line in lines[1:]], scores.ravel(), rtol=1e-8)


def test_directions_are_kept_when_asked(capsys, tmp_path):
    (tmp_path / "edges.txt").write_text("1 2\n2 3\n")
    (tmp_path / "ids.txt").write_text("2\n")
    ritz(capsys, "graphs", "ppr", "index", tmp_path / "edges.txt", "-o", tmp_path / "i.npz", "--directed")
    code, text, _ = ritz(capsys, "graphs", "ppr", "query", tmp_path / "i.npz", "--sources", tmp_path / "ids.txt", "-o", tmp_path / "o.tsv")
    assert code == 0
    assert "sources: 1" in text
    assert {line.split("\t")[1] for line in (tmp_path / "o.tsv").read_text().splitlines()[1:]} == {"2", "3"}


def test_bad_input_is_one_sentence_and_code_2(capsys, tmp_path, edges):
    index, ids = tmp_path / "i.npz", tmp_path / "ids.txt"
    assert ritz(capsys, "graphs", "ppr", "index", edges, "-o", index, "--walks", 2)[0] == 0
    (tmp_path / "empty.txt").write_text("\n")
    ids.write_text("u1\nnobody\n")
    query = ["query", index, "-o", tmp_path / "o.tsv", "--sources"]
    for arguments, message in (
        (["index", edges, "-o", tmp_path / "i.bin"], "out must end in .npz"),
        (["index", edges, "-o", index, "--restart-prob", 0], "restart_prob must be"),
        (["index", edges, "-o", index, "--walks", -1], "n_walks must be"),
        (["index", edges, "-o", index, "--backend", "dask"], "backend must be"),
        ([*query, ids], "the graph has no node 'nobody'"),
        ([*query, tmp_path / "empty.txt"], "names no node"),
        ([*query, tmp_path / "none.txt"], "there is no file"),
        (["query", edges, "-o", tmp_path / "o.tsv", "--sources", ids], "holds no index"),
        (["query", index, "-o", tmp_path / "o.txt", "--sources", ids], "out must end in .tsv"),
    ):
        code, _, err = ritz(capsys, "graphs", "ppr", *arguments)
        assert code == 2
        assert message in err
        assert err.count("\n") == 1
