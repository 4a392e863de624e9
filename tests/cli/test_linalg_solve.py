"""`ritz linalg solve` on files: square, least squares, and what it says about the way."""

import json

import numpy as np
import pytest
from cli.command import ritz

from ritz.cli.matrix_files import read_matrix, read_vector, write_matrix
from ritz.studies.data.linear_systems import poisson


@pytest.fixture
def files(tmp_path):
    A, x = poisson(14, 14), np.random.default_rng(0).standard_normal((196, 2))
    write_matrix(tmp_path / "A.mtx", A)
    write_matrix(tmp_path / "b.npy", A @ x)
    return tmp_path, x


@pytest.mark.parametrize("ending", [".npy", ".csv", ".mtx"])
def test_a_square_system(capsys, files, ending):
    folder, x = files
    code, out, _ = ritz(capsys, "linalg", "solve", folder / "A.mtx", folder / "b.npy", "-o", folder / f"x{ending}", "--json")
    assert code == 0
    summary = json.loads(out)
    assert summary["method"] == "direct"
    assert summary["converged"] == [True, True]
    np.testing.assert_allclose(read_matrix(folder / f"x{ending}"), x, atol=1e-8)


def test_a_table_for_people(capsys, files):
    folder, _ = files
    code, out, _ = ritz(
        capsys, "linalg", "solve", folder / "A.mtx", folder / "b.npy", "-o", folder / "x.npy", "--method", "cg", "--preconditioner", "amg"
    )
    assert code == 0
    assert "cg: asked for; amg" in out


def test_least_squares(capsys, tmp_path):
    rng = np.random.default_rng(0)
    A, b = rng.standard_normal((30, 4)), rng.standard_normal(30)
    write_matrix(tmp_path / "A.csv", A)
    write_matrix(tmp_path / "b.csv", b)
    code, out, _ = ritz(capsys, "linalg", "solve", tmp_path / "A.csv", tmp_path / "b.csv", "-o", tmp_path / "x.csv", "--json")
    assert code == 0
    assert json.loads(out)["method"] == "qr"
    np.testing.assert_allclose(read_vector(tmp_path / "x.csv"), np.linalg.lstsq(A, b, rcond=None)[0])
    write_matrix(tmp_path / "S.npy", np.diag([1.0, 2.0]))
    write_matrix(tmp_path / "c.npy", np.ones(2))
    ritz(capsys, "linalg", "solve", tmp_path / "S.npy", tmp_path / "c.npy", "-o", tmp_path / "y.npy", "--damping", 1.0)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), [0.5, 0.4])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["A.mtx", "A.mtx", "-o", "x.npz"], "out must end in .npy"),
        (["A.mtx", "nothing.npy", "-o", "x.npy"], "right side: there is no file"),
        (["A.mtx", "c.npy", "-o", "x.npy"], "b must have shape"),
    ],
)
def test_bad_input(capsys, files, arguments, message):
    folder, _ = files
    np.save(folder / "c.npy", np.ones(5))
    code, out, err = ritz(capsys, "linalg", "solve", *(folder / word if "." in word else word for word in arguments))
    assert (code, out) == (2, "")
    assert message in err
    assert not (folder / "x.npy").exists()
