"""Random numbers, files, progress, results, optional libraries, lazy rooms."""

import dataclasses
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from specimens import Specimen

import ritz
from ritz.core import (
    ConvergenceWarning,
    MissingExtra,
    Result,
    atomic_path,
    existing_file,
    optional_import,
    progress,
    quiet,
    random_generator,
    shows_progress,
    spawn_seeds,
    torch_generator,
    warn_not_converged,
    write_json,
    write_text,
)


def _scratch() -> Path:
    return Path(tempfile.mkdtemp())


SPECIMENS = {
    "random_generator": Specimen(lambda rng: random_generator(rng), lambda: {"rng": 3}, accepts={"rng": ("none",)}),
    "torch_generator": Specimen(lambda generator: torch_generator(generator), lambda: {"generator": 3}, accepts={"generator": ("none",)}),
    "spawn_seeds": Specimen(lambda: spawn_seeds(np.random.default_rng(0), 2), dict),
    "optional_import": Specimen(optional_import, lambda: {"module": "json", "extra": "graphs"}, spare=frozenset({"module", "extra"})),
    "atomic_path": Specimen(lambda: atomic_path("unused"), dict),
    "existing_file": Specimen(lambda: existing_file(__file__), dict),
    "write_text": Specimen(lambda: write_text(_scratch() / "a.txt", ""), dict),
    "write_json": Specimen(lambda: write_json(_scratch() / "a.json", {}), dict),
}


def _python(code: str, **options) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, **options).stdout.strip()


def test_the_same_seed_gives_the_same_numbers():
    assert random_generator(7).random() == random_generator(7).random()
    assert torch.equal(torch.rand(3, generator=torch_generator(7)), torch.rand(3, generator=torch_generator(7)))
    generator = np.random.default_rng(0)
    assert random_generator(generator) is generator
    assert len(set(spawn_seeds(generator, 100))) == 100


@pytest.mark.parametrize("seed", [-1, 1.5, "x", True])
def test_bad_seeds_are_refused(seed):
    for make, name in ((random_generator, "rng"), (torch_generator, "generator")):
        with pytest.raises((TypeError, ValueError), match=name):
            make(seed)


def test_a_generator_of_another_device_is_refused():
    with pytest.raises(ValueError, match="generator lives on cpu, but the computation runs on meta"):
        torch_generator(torch.Generator(), "meta")


def test_files_are_whole_or_untouched(tmp_path):
    target = tmp_path / "folder" / "a.tar.gz"
    write_text(target, "old")

    def interrupted():
        with atomic_path(target) as path:
            assert path.suffixes == [".tar", ".gz"]
            path.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert target.read_text() == "old"
    assert [file.name for file in target.parent.iterdir()] == ["a.tar.gz"]


def test_a_written_file_has_the_usual_permissions(tmp_path):
    write_text(tmp_path / "ours", "")
    (tmp_path / "plain").write_text("")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_json_is_strict(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_existing_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="graph: there is no file"):
        existing_file(tmp_path / "nothing", "graph")
    with pytest.raises(ValueError, match="is not a file"):
        existing_file(tmp_path)


def test_progress_is_silent_without_a_terminal(capsys):
    assert list(progress(range(3), "work")) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")


def test_progress_shows_on_a_terminal_and_can_be_silenced(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.delenv("RITZ_QUIET", raising=False)
    assert shows_progress()
    with quiet():
        assert not shows_progress()
    monkeypatch.setenv("RITZ_QUIET", "1")
    assert not shows_progress()
    monkeypatch.delenv("RITZ_QUIET")
    assert list(progress(iter(range(3)), "work", total=3)) == [0, 1, 2]


def test_results_are_frozen_and_readable():
    @dataclasses.dataclass(frozen=True, eq=False, repr=False)
    class Solution(Result):
        x: torch.Tensor
        history: list
        iterations: int

    solution = Solution(torch.zeros(2, 3), list(range(9)), 4)
    assert repr(solution) == "Solution(x=float32[2, 3], history=list of 9, iterations=4)"
    assert solution.as_dict()["iterations"] == 4
    with pytest.raises(dataclasses.FrozenInstanceError):
        solution.iterations = 5


def test_not_converging_warns_at_the_caller():
    def solver():
        warn_not_converged("solver: 3 iterations left a residual of 0.1")

    def public():
        solver()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        public()
    assert caught[0].category is ConvergenceWarning
    assert caught[0].filename == __file__


def test_a_missing_library_names_the_extra():
    with pytest.raises(MissingExtra, match=r"pip install 'ritz\[graphs\]'"):
        optional_import("no_such_library.part", extra="graphs")


def test_an_error_inside_a_library_is_not_hidden(tmp_path, monkeypatch):
    (tmp_path / "broken_library.py").write_text("import no_such_dependency")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency") as error:
        optional_import("broken_library", extra="graphs")
    assert not isinstance(error.value, MissingExtra)


def test_importing_ritz_is_fast_and_light():
    code = "import time; start = time.perf_counter(); import ritz; print(time.perf_counter() - start)"
    assert min(float(_python(code)) for _ in range(3)) < 0.3
    optional = {"torch_geometric", "networkx", "botorch", "diffusers", "transformers", "faiss", "ray", "torch", "numba", "matplotlib"}
    loaded = set(_python("import sys, ritz; [getattr(ritz, name) for name in dir(ritz)]; print(' '.join(sys.modules))").split())
    assert not loaded & optional


def test_rooms_are_lazy_and_name_what_is_not_there():
    assert "FastRP" in dir(ritz.graphs)
    with pytest.raises(AttributeError, match=r"module 'ritz.graphs' has no attribute 'nothing'"):
        ritz.graphs.nothing  # noqa: B018
    with pytest.raises(AttributeError, match="module 'ritz' has no attribute 'nothing'"):
        ritz.nothing  # noqa: B018


def test_a_function_may_share_the_name_of_its_file():
    code = "import ritz.graphs.fastrp, ritz.graphs; from ritz.graphs import FastRP; print(callable(ritz.graphs.fastrp))"
    assert _python(code) == "True"


def test_the_list_of_methods_is_quick():
    start = time.perf_counter()
    _python("import sys; from ritz.cli import main; sys.argv = ['ritz', 'list', '--json']; main()")
    assert time.perf_counter() - start < 5
