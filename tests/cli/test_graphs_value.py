"""`ritz graphs value` prints what `rank_sellers` finds."""

import json

import networkx as nx
import numpy as np
import pytest
import scipy.io
import scipy.sparse
from cli.command import ritz

from ritz.graphs import rank_sellers

RNG = np.random.default_rng(0)
BUYER = nx.barabasi_albert_graph(20, 3, seed=0), RNG.standard_normal((20, 4))
OTHER = nx.cycle_graph(15), RNG.standard_normal((15, 4)) * [3, 1, 1, 1]


@pytest.fixture
def files(tmp_path):
    paths = []
    for name, (graph, X) in {"buyer": BUYER, "copy": BUYER, "other": OTHER}.items():
        scipy.io.mmwrite(tmp_path / f"{name}.mtx", scipy.sparse.coo_array(nx.to_scipy_sparse_array(graph, dtype=float)))
        np.save(tmp_path / f"{name}.npy", X)
        paths += [tmp_path / f"{name}.mtx", tmp_path / f"{name}.npy"]
    return paths


def test_json_and_table(capsys, files):
    options = ["--components", "3", "--proxy", "barabasi_albert", "--by", "structural_disparity"]
    code, out, _ = ritz(capsys, "graphs", "value", *files, *options, "--json")
    assert code == 0
    rows = json.loads(out)
    sellers = {str(files[2]): BUYER, str(files[4]): OTHER}
    expected = rank_sellers(BUYER, sellers, by="structural_disparity", n_components=3, proxy="barabasi_albert")
    assert [row["seller"] for row in rows] == [row["seller"] for row in expected] == [str(files[2]), str(files[4])]
    for row, other in zip(rows, expected):
        for key in ("structural_disparity", "relevance", "diversity"):
            assert row[key] == pytest.approx(other[key], abs=1e-9)
    code, out, _ = ritz(capsys, "graphs", "value", *files, *options)
    assert code == 0
    assert out.index("copy.mtx") < out.index("other.mtx")
    assert "structural_disparity" in out


@pytest.mark.parametrize(
    ("chosen", "options", "message"),
    [
        ([0, 1, 2], [], "sellers must be pairs of a graph and a features file, got 1 files"),
        ([0, 1, 2, 3, 2, 3], [], "sellers must have different graph files"),
        ([0, 5, 2, 3], ["--components", "2"], "buyer: X must have a row for each of the 20 nodes of adjacency, got 15"),
        ([0, 1, 2, 3], ["--components", "5"], "buyer: X must have at least the 5 columns of n_components, got 4"),
        ([0, 1, 2, 3], ["--components", "2", "--proxy-size", "10"], "buyer: adjacency must have at most the proxy's 10 nodes"),
        ([0, 1, 2, 3], ["--components", "2", "--by", "price"], "by must be one of"),
    ],
)
def test_bad_input(capsys, files, chosen, options, message):
    code, out, err = ritz(capsys, "graphs", "value", *(files[i] for i in chosen), *options)
    assert (code, out) == (2, "")
    assert message in err
