"""`ritz linalg eig` and `svd` on files of every format."""

import gzip
import json

import numpy as np
import pytest
import scipy.io
import scipy.sparse
from cli.command import ritz

from ritz.cli.matrix_files import read_matrix, read_vector, write_arrays, write_matrix


@pytest.fixture
def laplacian():
    return scipy.sparse.csr_array(scipy.sparse.diags_array([-np.ones(29), np.r_[1.0, np.full(28, 2.0), 1.0], -np.ones(29)], offsets=[-1, 0, 1]))


@pytest.mark.parametrize("ending", [".mtx", ".npz", ".npy", ".csv"])
def test_a_matrix_comes_back_from_its_file(tmp_path, laplacian, ending):
    write_matrix(tmp_path / f"a{ending}", laplacian)
    found = read_matrix(tmp_path / f"a{ending}")
    np.testing.assert_array_equal(found.toarray() if scipy.sparse.issparse(found) else found, laplacian.toarray())


@pytest.mark.parametrize("ending", [".mtx", ".npy", ".csv"])
def test_a_vector_comes_back_from_its_file(tmp_path, ending):
    write_matrix(tmp_path / f"b{ending}", np.arange(1.0, 4.0))
    np.testing.assert_array_equal(read_vector(tmp_path / f"b{ending}"), [1, 2, 3])


def test_gzip_header_and_json(tmp_path, laplacian):
    scipy.io.mmwrite(tmp_path / "a.mtx", laplacian)
    (tmp_path / "a.mtx.gz").write_bytes(gzip.compress((tmp_path / "a.mtx").read_bytes()))
    np.testing.assert_array_equal(read_matrix(tmp_path / "a.mtx.gz").toarray(), laplacian.toarray())
    (tmp_path / "a.csv").write_text("x,y\n1,2\n3,4\n")
    np.testing.assert_array_equal(read_matrix(tmp_path / "a.csv"), [[1, 2], [3, 4]])
    (tmp_path / "a.json").write_text("[[1, 2], [3, 4]]")
    np.testing.assert_array_equal(read_matrix(tmp_path / "a.json"), [[1, 2], [3, 4]])


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("a.txt", "1", "must end in one of .mtx"),
        ("a.csv", "1,2\n3\n", "is no .csv file of a matrix"),
        ("a.csv", "", "is no .csv file of a matrix"),
        ("a.csv", "1,2\n3,x\n", "is no .csv file of a matrix: could not convert string 'x'"),
        ("a.json", "[[1, 2], [3]]", "is no .json file of a matrix"),
        ("a.json", "{", "is no .json file of a matrix"),
        ("a.json", '["a"]', "must hold numbers"),
        ("a.mtx", "hello", "is no .mtx file of a matrix"),
        ("a.npy", "hello", "is no .npy file of a matrix"),
        ("a.npz", "hello", "is no .npz file of a matrix"),
        ("a.mtx.gz", "hello", "is no .mtx file of a matrix"),
    ],
)
def test_a_file_that_is_no_matrix_is_refused_by_name(capsys, tmp_path, file, content, message):
    (tmp_path / file).write_text(content)
    code, out, err = ritz(capsys, "linalg", "eig", tmp_path / file)
    assert (code, out) == (2, "")
    assert f"matrix: '{tmp_path / file}'" in err
    assert message in err


def test_several_arrays_in_one_npz_are_refused(tmp_path):
    write_arrays(tmp_path / "a.npz", {"a": np.eye(2), "b": np.eye(2)})
    with pytest.raises(ValueError, match=r"holds 2 arrays \(a, b\)"):
        read_matrix(tmp_path / "a.npz")


def test_eigenpairs_of_a_file(capsys, tmp_path, laplacian):
    write_matrix(tmp_path / "a.mtx", laplacian)
    code, out, _ = ritz(capsys, "linalg", "eig", tmp_path / "a.mtx", "-k", 3, "--which", "smallest", "-o", tmp_path / "pairs.npz", "--json")
    assert code == 0
    found, expected = json.loads(out), 4 * np.sin(np.arange(3) * np.pi / 60) ** 2
    np.testing.assert_allclose([pair["value"] for pair in found["eigenvalues"]], expected, atol=1e-12)
    assert all(pair["converged"] for pair in found["eigenvalues"])
    with np.load(tmp_path / "pairs.npz") as file:
        V, values = file["eigenvectors"], file["eigenvalues"]
    np.testing.assert_allclose(laplacian @ V, V * values, atol=1e-12)
    code, out, _ = ritz(capsys, "linalg", "eig", tmp_path / "a.mtx", "-k", 2)
    assert "eigenvalues of a 30 x 30 matrix" in out


def test_singular_triplets_of_a_file(capsys, tmp_path):
    A = np.random.default_rng(0).standard_normal((20, 7))
    write_matrix(tmp_path / "a.npy", A)
    code, out, _ = ritz(capsys, "linalg", "svd", tmp_path / "a.npy", "-k", 7, "-o", tmp_path / "s.json", "--json")
    assert code == 0
    np.testing.assert_allclose([row["value"] for row in json.loads(out)["singular_values"]], np.linalg.svd(A)[1], rtol=1e-10)
    s = {name: np.array(value) for name, value in json.loads((tmp_path / "s.json").read_text()).items()}
    np.testing.assert_allclose((s["U"] * s["singular_values"]) @ s["Vh"], A, atol=1e-10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["-o", "x.csv"], "out must end in .npz or .json"), (["-k", "0"], "k must be"), (["--which", "best"], "which must be")],
)
def test_bad_options_are_refused(capsys, tmp_path, laplacian, arguments, message):
    write_matrix(tmp_path / "a.npz", laplacian)
    for job in ("eig", "svd"):
        code, _, err = ritz(capsys, "linalg", job, tmp_path / "a.npz", *arguments)
        assert code == 2
        assert message in err
