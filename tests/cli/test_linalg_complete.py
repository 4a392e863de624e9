"""`ritz linalg complete`: ratings in, factors out, rows and columns under their own names."""

import json

import numpy as np
import pytest
import scipy.io
from cli.command import ritz
from linalg.completion_problems import low_rank, observe

M = low_rank(40, 30, 2)
OBSERVED = observe(M, 0.5 * M.size)


def test_ratings_with_names_of_rows_and_columns(capsys, tmp_path):
    rows, columns = OBSERVED.nonzero()
    table = np.column_stack([10 * rows + 1, columns + 500, OBSERVED.data])
    np.savetxt(tmp_path / "ratings.csv", table, delimiter=",", header="user,item,rating", comments="")
    code, text, _ = ritz(capsys, "linalg", "complete", tmp_path / "ratings.csv", "--rank", 2, "--out", tmp_path / "f.npz", "--tol", 1e-9, "--json")
    assert code == 0
    summary = json.loads(text)
    assert summary["converged"]
    assert summary["observed"] == OBSERVED.nnz
    with np.load(tmp_path / "f.npz") as file:
        np.testing.assert_allclose(file["U"] @ file["V"].T, M, atol=1e-6)
        np.testing.assert_array_equal(file["rows"], 10 * np.arange(40) + 1)
        np.testing.assert_array_equal(file["columns"], np.arange(30) + 500)


def test_a_matrix_market_file(capsys, tmp_path):
    scipy.io.mmwrite(tmp_path / "a.mtx", OBSERVED)
    code, text, _ = ritz(capsys, "linalg", "complete", tmp_path / "a.mtx", "-k", 2, "-o", tmp_path / "f.npz", "--solver", "exact")
    assert code == 0
    assert "observed: 600" in text
    with np.load(tmp_path / "f.npz") as file:
        np.testing.assert_allclose(file["U"] @ file["V"].T, M, atol=1e-3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1,2\n3,4\n", "must have the three columns row,column,value, got 2"),
        ("0,0,1\n0,0,2\n", "must have each pair of row and column once, got 1 repetitions"),
        ("0,0.5,1\n", "must have whole numbers as rows and columns"),
        ("0,0,nan\n", "finite values"),
    ],
)
def test_a_file_that_is_no_list_of_ratings_is_refused(capsys, tmp_path, content, message):
    (tmp_path / "a.csv").write_text(content)
    code, _, err = ritz(capsys, "linalg", "complete", tmp_path / "a.csv", "-k", 1, "-o", tmp_path / "f.npz")
    assert code == 2
    assert message in err
    assert not (tmp_path / "f.npz").exists()


def test_a_dense_matrix_is_refused(capsys, tmp_path):
    np.save(tmp_path / "a.npy", M)
    code, _, err = ritz(capsys, "linalg", "complete", tmp_path / "a.npy", "-k", 1, "-o", tmp_path / "f.npz")
    assert code == 2
    assert "must be a .csv of row,column,value or a sparse matrix" in err
