"""The harness: reports are valid whatever happens, numbers are finite, failures do not stop the others."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from ritz.studies import harness, registry
from ritz.studies.data import MissingData, real_file
from ritz.studies.harness import Options, execute, execute_many, read_report
from ritz.studies.registry import Study, find_study, studied_methods
from ritz.studies.run import Run
from ritz.studies.verdicts import verdict, verdict_rows


@pytest.fixture
def studies(monkeypatch):
    """Replace the studies by toys, by slug."""

    def register(**measures):
        toys = {slug: Study(slug, 0.1, measure) for slug, measure in measures.items()}
        monkeypatch.setattr(harness, "find_study", toys.__getitem__)

    return register


def _good(run):
    """A toy claim (nobody 2026)."""
    for _ in run.progress(range(3), "work"):
        pass
    run.table("numbers", [{"x": np.float32(0.5), "word": "a"}, {"x": None, "steps": torch.tensor(3)}], note="toy")
    run.figure("line", lambda axes: axes.plot([0, 1]))
    run.note("a note")
    run.claim("x is at most 1", measured=0.5, holds=True, baseline="the old x", paper="0.4")


def test_a_report_holds_all_that_was_shown(studies, tmp_path):
    studies(good=_good)
    seen = []
    report = execute("good", Options(folder=tmp_path), show=seen.append)
    assert json.loads((tmp_path / "good" / "report.json").read_text()) == report == read_report(tmp_path, "good")
    assert report["status"] == "finished"
    assert report["tables"] == [{"title": "numbers", "columns": ["x", "word", "steps"], "rows": [[0.5, "a", None], [None, None, 3]], "note": "toy"}]
    assert report["claims"] == [{"claim": "x is at most 1", "baseline": "the old x", "measured": 0.5, "holds": True, "paper": "0.4"}]
    assert report["description"] == "A toy claim (nobody 2026)."
    assert report["environment"]["torch"] == torch.__version__
    assert (tmp_path / "good" / "line.png").read_bytes().startswith(b"\x89PNG")
    assert [part for part, _ in seen] == ["tables", "figures", "notes", "claims"]
    assert not (tmp_path / "good" / "progress.json").exists()
    assert verdict(report) == "holds"


def test_smoke_scale_checks_numbers_and_judges_nothing(studies, tmp_path):
    studies(good=_good)
    report = execute("good", Options(scale="smoke", folder=tmp_path))
    assert report["claims"][0]["holds"] is None
    assert verdict(report) == "measured"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("nan"), torch.tensor(float("-inf"))])
def test_a_number_that_is_not_finite_fails_the_study(studies, tmp_path, value):
    studies(bad_claim=lambda run: run.claim("c", measured=value, holds=True), bad_table=lambda run: run.table("t", [{"x": value}]))
    for slug in ("bad_claim", "bad_table"):
        report = execute(slug, Options(folder=tmp_path))
        assert report["status"] == "failed"
        assert "the measured value is" in report["error"]


def test_a_failing_study_does_not_stop_the_others(studies, tmp_path):
    def failing(run):
        run.note("before")
        raise RuntimeError("out of luck")

    def missing(run):
        real_file("no/such/file")

    studies(failing=failing, missing=missing, good=_good)
    reports = list(execute_many(["failing", "missing", "good"], Options(folder=tmp_path)))
    assert [report["status"] for report in reports] == ["failed", "skipped", "finished"]
    assert reports[0]["notes"] == ["before"]
    assert "out of luck" in reports[0]["error"]
    assert [row[-1] for row in verdict_rows(reports)] == ["failed", "skipped", "holds"]


def test_an_interruption_that_a_library_turned_into_an_error_is_one(studies, tmp_path):
    def compiled(run):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as interruption:
            raise RuntimeError("the compiler was stopped") from interruption

    studies(compiled=compiled)
    with pytest.raises(KeyboardInterrupt):
        execute("compiled", Options(folder=tmp_path))
    assert read_report(tmp_path, "compiled")["status"] == "interrupted"


def test_an_interruption_leaves_a_valid_report_and_goes_on_upwards(studies, tmp_path):
    def interrupted(run):
        run.table("t", [{"x": 1}])
        raise KeyboardInterrupt

    studies(interrupted=interrupted)
    with pytest.raises(KeyboardInterrupt):
        execute("interrupted", Options(folder=tmp_path))
    report = read_report(tmp_path, "interrupted")
    assert report["status"] == "interrupted"
    assert report["tables"][0]["rows"] == [[1]]


@pytest.mark.parametrize("content", ["not json", "[]", '{"schema": 0}'])
def test_a_file_that_is_no_report_is_refused_by_name(tmp_path, content):
    (tmp_path / "soap").mkdir()
    (tmp_path / "soap" / "report.json").write_text(content)
    with pytest.raises(ValueError, match=r"report\.json' is no report"):
        read_report(tmp_path, "soap")
    assert read_report(tmp_path, "fastrp") is None


def test_a_claim_that_does_not_hold_stays(studies, tmp_path):
    studies(fails=lambda run: run.claim("c", measured=2.0, holds=False))
    report = execute("fails", Options(folder=tmp_path))
    assert verdict(report) == "fails"
    assert verdict_rows([report]) == [["fails", "c", None, 2.0, "does not hold"]]


def test_seeds_scales_and_cache(tmp_path):
    run = Run("toy", tmp_path / "toy", seed=5)
    assert run.seeds(3) == [5, 6, 7]
    assert Run("toy", tmp_path, scale="smoke").seeds(3) == [0]
    assert [Run("toy", tmp_path, scale=s).pick(smoke=1, default=2) for s in ("smoke", "default", "full")] == [1, 2, 2]
    built = []
    for _ in range(2):
        path = run.cached("model-v1", lambda path: (built.append(1), path.write_text("weights")))
    assert path.read_text() == "weights"
    assert built == [1]


@pytest.mark.parametrize(
    ("options", "message"), [({"scale": "huge"}, "scale"), ({"jobs": 0}, "jobs"), ({"seed": -1}, "seed"), ({"device": "cuda:77"}, "device 'cuda:77'")]
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Options(**options)


def test_studies_are_found_by_slug():
    with pytest.raises(ValueError, match="did you mean"):
        find_study("fastpr")
    planned = next(row.slug for row in registry.methods(status="planned"))
    with pytest.raises(ValueError, match="it has no study yet"):
        find_study(planned)
    for row in studied_methods():
        assert find_study(row.slug).slug == row.slug


def test_real_files_are_looked_for_where_the_environment_says(tmp_path, monkeypatch):
    (tmp_path / "x.txt").write_text("")
    monkeypatch.setenv("RITZ_DATA", str(tmp_path))
    assert real_file("x.txt") == tmp_path / "x.txt"
    with pytest.raises(MissingData, match="set RITZ_DATA"):
        real_file("y.txt")


def test_studies_side_by_side_and_a_killed_process(tmp_path, monkeypatch):
    """Two processes: one runs a real study at smoke scale, the other dies without a word; both leave a report."""
    started = []

    def start(slug, options):
        started.append(slug)
        if slug == "soap":
            return original(slug, options)
        folder = options.folder / slug
        folder.mkdir(parents=True)
        (folder / "log.txt").write_text("last words")
        return subprocess.Popen([sys.executable, "-c", "import os; os._exit(9)"])

    original = harness._start
    monkeypatch.setattr(harness, "_start", start)
    states = []
    reports = {r["slug"]: r for r in execute_many(["soap", "fastrp"], Options(scale="smoke", folder=tmp_path, jobs=2), watch=states.append)}
    assert sorted(started) == ["fastrp", "soap"]
    assert reports["fastrp"]["status"] == "failed"
    assert "code 9" in reports["fastrp"]["error"]
    assert "last words" in reports["fastrp"]["error"]
    assert reports["soap"]["status"] == "finished", reports["soap"]["error"]
    assert any("soap" in state for state in states)


def test_a_process_that_does_not_stop_is_killed_and_its_report_closed(tmp_path):
    run = Run("soap", tmp_path / "soap")
    run.table("t", [{"x": 1}])
    deaf = subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)"])
    harness._interrupted("soap", deaf, Options(folder=tmp_path), patience=0.5)
    assert deaf.returncode == -signal.SIGKILL
    report = read_report(tmp_path, "soap")
    assert report["status"] == "interrupted"
    assert report["tables"][0]["rows"] == [[1]]


def test_control_c_leaves_valid_reports_of_real_processes(tmp_path):
    command = [sys.executable, "-m", "ritz", "study", "soap", "fastrp", "--jobs", "2", "--runs", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=os.environ | {"OMP_NUM_THREADS": "1"}, text=True)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not all((tmp_path / slug / "report.json").exists() for slug in ("soap", "fastrp")):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    for slug in ("soap", "fastrp"):
        assert read_report(tmp_path, slug)["status"] in ("interrupted", "finished")
