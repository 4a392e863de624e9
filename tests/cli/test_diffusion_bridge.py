"""`ritz diffusion bridge` fits and maps as `LightSchrodingerBridge` does."""

import json

import numpy as np
import pytest
from cli.command import ritz

from ritz.diffusion import LightSchrodingerBridge

RNG = np.random.default_rng(0)
SOURCE, TARGET = RNG.normal(size=(80, 2)), RNG.normal(3.0, 0.5, size=(70, 2))
OPTIONS = ["--epsilon", "0.5", "--potentials", "3", "--steps", "30", "--tol", "0"]


@pytest.fixture
def files(tmp_path):
    np.save(tmp_path / "a.npy", SOURCE)
    np.savetxt(tmp_path / "b.csv", TARGET, delimiter=",")
    return tmp_path


def test_fit_and_map(capsys, files):
    ends = ["--source", files / "a.npy", "--target", files / "b.csv", "--out", files / "bridge.npz"]
    code, out, _ = ritz(capsys, "diffusion", "bridge", "fit", *ends, *OPTIONS, "--json")
    summary = json.loads(out)
    assert code == 0
    assert (summary["source_points"], summary["target_points"], summary["steps"]) == (80, 70, 30)
    bridge = LightSchrodingerBridge(3, 0.5, steps=30, tol=0, rng=0).fit(SOURCE, TARGET)
    assert summary["loss"] == pytest.approx(-bridge.score(SOURCE, TARGET), abs=1e-5)
    expected = {
        (): bridge.transform(SOURCE),
        ("--at", "1", "--seed", "4"): bridge.sample_at(SOURCE, 1.0, rng=4),
        ("--at", "0.25"): bridge.sample_at(SOURCE, 0.25, rng=0),
    }
    for options, mapped in expected.items():
        code, _, _ = ritz(capsys, "diffusion", "bridge", "map", files / "bridge.npz", files / "a.npy", files / "y.npy", *options)
        assert code == 0
        np.testing.assert_allclose(np.load(files / "y.npy"), mapped, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "--source", "a.npy", "--target", "a.npy", "--out", "bridge.txt"], "out must end in .npz"),
        (["fit", "--source", "a.npy", "--target", "none.npy", "--out", "bridge.npz"], "none.npy"),
        (["fit", "--source", "a.npy", "--target", "a.npy", "--out", "bridge.npz", "--epsilon", "-1"], "epsilon"),
        (["map", "a.npy", "a.npy", "y.csv"], "a.npy"),
    ],
)
def test_bad_input(capsys, files, arguments, message, monkeypatch):
    monkeypatch.chdir(files)
    code, out, err = ritz(capsys, "diffusion", "bridge", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert not (files / "bridge.npz").exists()
