"""`ritz linalg gemm`: measure, fit, recommend, one after the other."""

import json

import joblib
from cli.command import ritz

from ritz.linalg import GemmMeasurements


def test_from_a_measurement_to_a_recommendation(capsys, tmp_path):
    table, model = tmp_path / "t.csv", tmp_path / "m.joblib"
    options = ["--shapes", 3, "--smallest", 16, "--largest", 40, "--repeats", 1]
    code, out, _ = ritz(capsys, "linalg", "gemm", "measure", table, *options)
    assert (code, out) == (0, f"81 rows in {table}\n")
    assert len(GemmMeasurements.from_csv(table).table) == 81
    code, out, _ = ritz(capsys, "linalg", "gemm", "fit", table, model)
    assert code == 0
    assert "held-out median error" in out
    code, out, _ = ritz(capsys, "linalg", "gemm", "recommend", model, 30, 31, 32, "--json")
    assert code == 0
    assert len(json.loads(out)["tiles"]) == 3
    assert "tiles for 30 x 31 x 32" in ritz(capsys, "linalg", "gemm", "recommend", model, 30, 31, 32, "--no-verify")[1]


def test_bad_files(capsys, tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n")
    joblib.dump({"no": "model"}, tmp_path / "m.joblib")
    (tmp_path / "junk.joblib").write_text("junk")
    for arguments, message in (
        (["measure", tmp_path / "t.npy"], "out must end in .csv"),
        (["fit", tmp_path / "t.csv", tmp_path / "n.joblib"], "line 1: must name the columns"),
        (["fit", tmp_path / "t.csv", tmp_path / "n.txt"], "out must end in .joblib"),
        (["recommend", tmp_path / "m.joblib", 1, 1, 1], "holds no GemmModel but a dict"),
        (["recommend", tmp_path / "junk.joblib", 1, 1, 1], "is no joblib file"),
    ):
        code, _, err = ritz(capsys, "linalg", "gemm", *arguments)
        assert code == 2
        assert message in err
