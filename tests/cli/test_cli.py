"""The command line: output for people and scripts, exit codes that mean something, no tracebacks for bad input."""

import json
import subprocess
import sys

import numpy as np
import pytest
from cli.command import ritz

from ritz.studies import harness
from ritz.studies.registry import Study


def test_list_and_show(capsys):
    code, out, _ = ritz(capsys, "list", "--json")
    assert code == 0
    assert len(json.loads(out)) == 137
    code, out, _ = ritz(capsys, "list", "--room", "graphs", "--search", "random projection")
    assert code == 0
    assert "fastrp" in out
    code, out, _ = ritz(capsys, "show", "fastrp")
    assert "arXiv:1908.11512" in out
    assert "ritz.graphs.FastRP(" in out
    assert json.loads(ritz(capsys, "show", "fastrp", "--json")[1])["number"] == 56


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "fastpr"], "there is no method 'fastpr'; did you mean fastrp"),
        (["list", "--room", "kitchen"], "there is no room 'kitchen'"),
        (["list", "--status", "done"], "there is no status 'done'"),
        (["study"], "name some methods"),
        (["study", "fastrp", "--all"], "one of the three"),
        (["study", "nothing"], "there is no method 'nothing'"),
        (["study", "fastrp", "--scale", "huge"], "scale must be one of"),
        (["study", "fastrp", "--device", "cuda:77"], "device 'cuda:77' cannot be used"),
        (["report", "--runs", "/no/such/folder"], "there is no folder"),
        (["bench", "nothing"], "no benchmark of nothing"),
        (["graphs", "embed", "/no/such/file", "-o", "x.npy"], "there is no file '/no/such/file'"),
    ],
)
def test_bad_input_ends_in_one_line_and_code_2(capsys, arguments, message):
    code, out, err = ritz(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert "Traceback" not in err


def test_wrong_usage_ends_in_code_2(capsys):
    assert ritz(capsys, "study", "--no-such-option")[0] == 2
    assert ritz(capsys, "no-such-command")[0] == 2


def test_version_and_module_form():
    done = subprocess.run([sys.executable, "-m", "ritz", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("ritz ")


@pytest.fixture
def toy_study(monkeypatch):
    def use(measure):
        monkeypatch.setattr(harness, "find_study", lambda slug: Study(slug, 0.1, measure))

    return use


def test_study_prints_verdicts_and_its_exit_code_says_how_it_ended(capsys, tmp_path, toy_study):
    toy_study(lambda run: (run.table("t [x]", [{"a": 1.23456}]), run.claim("a [b] holds", measured=1.0, holds=True)))
    code, out, _ = ritz(capsys, "study", "fastrp", "--runs", tmp_path)
    assert code == 0
    assert "1.235" in out
    assert "holds: a [b] holds - measured 1" in out
    reports = json.loads(ritz(capsys, "study", "fastrp", "--runs", tmp_path, "--json")[1])
    assert reports[0]["claims"][0]["holds"] is True


def test_a_claim_that_does_not_hold_is_code_3_when_strict(capsys, tmp_path, toy_study):
    toy_study(lambda run: run.claim("c", measured=1.0, holds=False))
    code, out, _ = ritz(capsys, "study", "fastrp", "--runs", tmp_path)
    assert code == 0
    assert "does not hold" in out
    assert ritz(capsys, "study", "fastrp", "--runs", tmp_path, "--strict")[0] == 3


def test_a_study_that_fails_is_code_1_and_an_interruption_130(capsys, tmp_path, toy_study):
    def fails(run):
        raise RuntimeError("out of luck")

    def interrupted(run):
        raise KeyboardInterrupt

    toy_study(fails)
    code, out, _ = ritz(capsys, "study", "fastrp", "--runs", tmp_path)
    assert code == 1
    assert "RuntimeError: out of luck" in out
    toy_study(interrupted)
    assert ritz(capsys, "study", "fastrp", "--runs", tmp_path)[0] == 130


def test_bench_writes_json_and_is_code_3_when_strict(capsys, tmp_path):
    (tmp_path / "graphs").mkdir()
    (tmp_path / "graphs" / "bench_toy.py").write_text(
        "from ritz.studies import benchmark, within\nimport time\n"
        "@benchmark\ndef slow(): return within('slow', lambda: time.sleep(0.01), limit=0.001)\n"
    )
    arguments = ["bench", "toy", "--folder", tmp_path, "--runs", tmp_path / "runs"]
    assert ritz(capsys, *arguments)[0] == 0
    code, out, _ = ritz(capsys, *arguments, "--strict", "--json")
    assert code == 3
    assert json.loads(out)[0]["met"] is False
    assert json.loads((tmp_path / "runs" / "benchmarks" / "graphs-toy.json").read_text())[0]["name"] == "slow"


@pytest.mark.parametrize("ending", [".npy", ".npz", ".csv"])
def test_embed_a_graph_file(capsys, tmp_path, ending):
    edges = tmp_path / "edges.txt"
    edges.write_text("ann bob\nbob eve\neve ann\neve dan\n")
    out = tmp_path / f"embedding{ending}"
    code, text, _ = ritz(capsys, "graphs", "embed", edges, "-o", out, "--dim", "8", "--json")
    assert code == 0
    assert json.loads(text)["nodes"] == 4
    assert json.loads(text)["edges"] == 4
    if ending == ".npy":
        assert np.load(out).shape == (4, 8)
        assert (tmp_path / "embedding.nodes.txt").read_text().split() == ["ann", "bob", "dan", "eve"]
    elif ending == ".npz":
        held = np.load(out)
        assert held["embedding"].shape == (4, 8)
        assert held["nodes"].tolist() == ["ann", "bob", "dan", "eve"]
    else:
        assert [line.split(",")[0] for line in out.read_text().splitlines()] == ["node", "ann", "bob", "dan", "eve"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--weights", "0,x"], "weights must be numbers"),
        (["--weights", "0,0"], "weights must not all be zero"),
        (["--dim", "0"], "n_components must be"),
    ],
)
def test_embed_refuses_bad_options(capsys, tmp_path, options, message):
    edges = tmp_path / "edges.txt"
    edges.write_text("1 2\n")
    code, _, err = ritz(capsys, "graphs", "embed", edges, "-o", tmp_path / "e.npy", *options)
    assert code == 2
    assert message in err
    assert not (tmp_path / "e.npy").exists()


def test_embed_names_the_line_and_the_ending(capsys, tmp_path):
    edges = tmp_path / "edges.txt"
    edges.write_text("1 2\n1 2 3 4\n")
    assert "line 2" in ritz(capsys, "graphs", "embed", edges, "-o", tmp_path / "e.npy")[2]
    assert "must end in .npy" in ritz(capsys, "graphs", "embed", edges, "-o", tmp_path / "e.txt")[2]
