"""`ritz linalg stream-pca` reads files in pieces and names the line that is wrong."""

import json

import numpy as np
import pytest
from cli.command import ritz

ROWS = np.random.default_rng(0).standard_normal((9_000, 6)) * np.r_[1, 1, 3, 1, 1, 1]


@pytest.mark.parametrize("file", ["rows.csv", "rows.npy", "named.csv"])
def test_the_vector_of_a_file(capsys, tmp_path, file):
    if file.endswith("csv"):
        np.savetxt(tmp_path / file, ROWS, delimiter=",", header="a,b,c,d,e,f" if file == "named.csv" else "", comments="")
        if file == "rows.csv":
            lines = (tmp_path / file).read_text().splitlines()
            (tmp_path / file).write_text("\n".join(line for line in lines if line) + "\n")
    else:
        np.save(tmp_path / file, ROWS)
    code, out, _ = ritz(capsys, "linalg", "stream-pca", tmp_path / file, "-o", tmp_path / "v.npy", "--json")
    assert code == 0
    summary = json.loads(out)
    assert summary["rows"] == 9_000
    assert np.load(tmp_path / "v.npy")[2] > 0.99
    assert abs(summary["eigenvalue"] / np.linalg.eigvalsh(ROWS.T @ ROWS)[-1] - 1) < 0.1
    assert "gap estimate" in ritz(capsys, "linalg", "stream-pca", tmp_path / file)[1]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("rows.csv", "1,2\n3,4\n5\n", "line 3: must be 2 numbers"),
        ("rows.csv", "1,2\n3,x\n", "line 2: must be 2 numbers"),
        ("rows.csv", "", "holds no row"),
        ("rows.csv", "a,b\n", "holds no row"),
        ("rows.npy", "x", "is no .npy file"),
        ("rows.txt", "1,2", "must end in .csv or .npy"),
    ],
)
def test_bad_files(capsys, tmp_path, file, content, message):
    (tmp_path / file).write_text(content)
    code, out, err = ritz(capsys, "linalg", "stream-pca", tmp_path / file)
    assert (code, out) == (2, "")
    assert message in err
