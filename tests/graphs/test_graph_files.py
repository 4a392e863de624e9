"""Graph files of all kinds are read to the same graph; bad lines are named."""

import gzip

import numpy as np
import pytest
import scipy.io
import scipy.sparse
from specimens import Specimen

from ritz.graphs import read_graph, read_labels

PATH = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], dtype=float)


def _write(tmp_path, name, text):
    file = tmp_path / name
    file.write_text(text)
    return file


def _mat(tmp_path, **matrices):
    file = tmp_path / "graph.mat"
    scipy.io.savemat(file, matrices)
    return file


def _specimen_file():
    import tempfile
    from pathlib import Path

    return _mat(Path(tempfile.mkdtemp()), network=PATH, group=np.eye(3, 2))


SPECIMENS = {
    "read_graph": Specimen(
        lambda directed, key: read_graph(_specimen_file(), directed=directed, key=key),
        lambda: {"directed": True, "key": "network"},
        accepts={"key": ("none",)},
    ),
    "read_labels": Specimen(lambda key: read_labels(_specimen_file(), key=key), lambda: {"key": "group"}, accepts={"key": ("none", "number")}),
}


@pytest.mark.parametrize(
    "text",
    [
        "1 2\n2 3\n",
        "# comment\n1\t2\n\n2 3\n",
        "% comment\n1,2\n2, 3\n",
        "1 2 1.0\n2 3 1\n",
        "2 1\n1 2\n3 2\n2 3\n",
    ],
)
def test_edge_lists_of_all_looks(tmp_path, text):
    graph = read_graph(_write(tmp_path, "edges.txt", text))
    np.testing.assert_array_equal(graph.matrix.toarray(), PATH)
    assert graph.nodes.tolist() == [1, 2, 3]


def test_words_as_labels_and_weights(tmp_path):
    graph = read_graph(_write(tmp_path, "edges.csv", "bob,ann,2\nann,eve,3\n"))
    assert graph.nodes.tolist() == ["ann", "bob", "eve"]
    np.testing.assert_array_equal(graph.matrix.toarray(), [[0, 2, 3], [2, 0, 0], [3, 0, 0]])


def test_integers_sort_by_value_beside_long_ones(tmp_path):
    assert read_graph(_write(tmp_path, "edges.txt", "10 9\n9 100\n")).nodes.tolist() == [9, 10, 100]


def test_directions_are_kept_when_asked(tmp_path):
    np.testing.assert_array_equal(read_graph(_write(tmp_path, "e.txt", "0 1\n"), directed=True).matrix.toarray(), [[0, 1], [0, 0]])


def test_gzip_matrix_market_npz_and_mat(tmp_path):
    with gzip.open(tmp_path / "edges.txt.gz", "wt") as file:
        file.write("0 1\n1 2\n")
    scipy.io.mmwrite(tmp_path / "graph.mtx", scipy.sparse.coo_array(PATH))
    (tmp_path / "graph2.mtx.gz").write_bytes(gzip.compress((tmp_path / "graph.mtx").read_bytes()))
    scipy.sparse.save_npz(tmp_path / "graph.npz", scipy.sparse.csr_array(PATH))
    files = ["edges.txt.gz", "graph.mtx", "graph2.mtx.gz", "graph.npz"]
    for file in [*(tmp_path / name for name in files), _mat(tmp_path, network=scipy.sparse.csc_matrix(PATH), group=np.ones((3, 2)))]:
        np.testing.assert_array_equal(read_graph(file).matrix.toarray(), PATH)


def test_gml(tmp_path):
    text = 'graph [ node [ id 0 label "b" ] node [ id 1 label "a" ] node [ id 2 label "c" ] edge [ source 0 target 1 ] edge [ source 1 target 2 ] ]'
    graph = read_graph(_write(tmp_path, "graph.gml", text))
    assert graph.nodes.tolist() == ["b", "a", "c"]
    np.testing.assert_array_equal(graph.matrix.toarray(), PATH)
    with pytest.raises(ValueError, match="no GML file"):
        read_graph(_write(tmp_path, "bad.gml", "graph ["))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 1\n1 2 3 4\n", "line 2: expected 'source target"),
        ("0 1\n\n1\n", "line 3: expected 'source target"),
        ("0 1\n1 2 heavy\n", "line 2: the weight must be a number, got 'heavy'"),
        ("0 1 1\n1 2 -4\n", "line 2: the weight must be finite and not negative"),
        ("0 1 1\n# x\n1 2 nan\n", "line 3: the weight must be finite"),
        ("# nothing\n", "holds no edge"),
        ("", "holds no edge"),
    ],
)
def test_a_bad_line_is_named(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_graph(_write(tmp_path, "edges.txt", text))


def test_files_that_hold_no_graph_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_graph(tmp_path / "nothing.txt")
    with pytest.raises(ValueError, match="no Matrix Market file"):
        read_graph(_write(tmp_path, "bad.mtx", "hello\n"))
    with pytest.raises(ValueError, match="no MATLAB file"):
        read_graph(_write(tmp_path, "bad.mat", "hello\n" * 100))
    with pytest.raises(ValueError, match="has no matrix 'graph'; it has network"):
        read_graph(_mat(tmp_path, network=PATH), key="graph")
    with pytest.raises(ValueError, match="2 square matrices"):
        read_graph(_mat(tmp_path, one=PATH, two=PATH))
    (tmp_path / "bytes.txt").write_bytes(bytes(range(256)))
    with pytest.raises(ValueError, match="no text file"):
        read_graph(tmp_path / "bytes.txt")


def test_labels(tmp_path):
    groups = np.eye(3, 2)
    np.testing.assert_array_equal(read_labels(_mat(tmp_path, network=PATH, group=scipy.sparse.csc_matrix(groups))), groups)
    assert read_labels(_mat(tmp_path, classes=np.array([[3], [1], [2]])), key="classes").tolist() == [3, 1, 2]
    np.save(tmp_path / "y.npy", np.array([0, 1, 1]))
    assert read_labels(tmp_path / "y.npy").tolist() == [0, 1, 1]
