"""`ritz linalg spgemm`: the product lands in the file that was named, or one sentence says why not."""

import json

import numpy as np
import pytest
import scipy.io
import scipy.sparse
from cli.command import ritz

A = scipy.sparse.random_array((20, 30), density=0.2, rng=0, format="csr")
B = scipy.sparse.random_array((30, 10), density=0.2, rng=1, format="csr")


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / name for name in ("a.mtx", "b.mtx")]
    for path, matrix in zip(paths, (A, B)):
        scipy.io.mmwrite(path, matrix)
    return paths


def test_a_product_of_matrix_market_files(capsys, tmp_path, files):
    code, text, _ = ritz(capsys, "linalg", "spgemm", *files, tmp_path / "out.mtx", "--json")
    assert code == 0
    assert json.loads(text)["entries"] == (A @ B).nnz
    np.testing.assert_allclose(scipy.io.mmread(tmp_path / "out.mtx").toarray(), (A @ B).toarray(), rtol=1e-12)


def test_options_reach_the_product(capsys, tmp_path, files):
    out = tmp_path / "out.npz"
    assert ritz(capsys, "linalg", "spgemm", *files, out, "--top-k", "1", "--accumulator", "hash", "--threads", "1")[0] == 0
    assert np.all(np.diff(scipy.sparse.load_npz(out).indptr) <= 1)
    assert ritz(capsys, "linalg", "spgemm", files[0], files[1], tmp_path / "reach.mtx", "--semiring", "or_and")[0] == 0
    np.testing.assert_array_equal(scipy.io.mmread(tmp_path / "reach.mtx").toarray(), ((A @ B).toarray() != 0).astype(int))
    mask = tmp_path / "mask.npy"
    np.save(mask, np.eye(20, 10))
    assert ritz(capsys, "linalg", "spgemm", *files, out, "--mask", mask)[0] == 0
    np.testing.assert_allclose(scipy.sparse.load_npz(out).toarray(), (A @ B).toarray() * np.eye(20, 10), rtol=1e-12)


def test_bad_input_is_one_sentence_and_code_2(capsys, tmp_path, files):
    code, _, err = ritz(capsys, "linalg", "spgemm", files[1], files[0], tmp_path / "out.mtx")
    assert code == 2
    assert err.startswith("error: B must have as many rows as A has columns")
    code, _, err = ritz(capsys, "linalg", "spgemm", *files, tmp_path / "out.csv")
    assert code == 2
    assert err.startswith("error: out must end in .mtx or .npz")
    assert not (tmp_path / "out.mtx").exists()
