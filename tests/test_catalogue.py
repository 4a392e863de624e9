"""The catalogue tells the truth: 137 rows, and a row that works can be imported, is documented, tested and studied."""

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from ritz.catalogue import ROOMS, blocks, method, methods
from ritz.studies.registry import find_study

TESTS = Path(__file__).parent
BUILT = [row for row in methods() if row.status != "planned"]


def test_there_are_137_rows_with_unique_numbers_and_slugs():
    rows = methods()
    assert [row.number for row in rows] == list(range(1, 138))
    assert len({row.slug for row in rows}) == 137
    assert all(row.title and row.status in ("works", "partial", "planned") for row in rows)


def test_partial_rows_and_only_they_say_what_is_missing():
    assert all((row.missing is not None) == (row.status == "partial") for row in methods())


def test_planned_rows_name_nothing_public():
    assert all(row.public == () for row in methods(status="planned"))


@pytest.mark.parametrize("row", BUILT, ids=lambda row: row.slug)
def test_a_built_row_is_importable_documented_tested_and_studied(row):
    assert row.public
    assert list(row.objects()) == list(row.public)
    for name, value in row.objects().items():
        assert inspect.getdoc(value), f"ritz.{row.room}.{name} has no docstring"
        file = inspect.getmodule(value).__name__.rpartition(".")[2]
        assert (TESTS / row.room / f"test_{file}.py").exists(), f"no test file for ritz.{row.room}.{name}"
    study = find_study(row.slug)
    assert study.description
    assert study.minutes > 0


@pytest.mark.parametrize("row", BUILT, ids=lambda row: row.slug)
def test_a_built_row_shows_its_source_and_an_example(row):
    documentation = "\n".join(inspect.getdoc(value) + (inspect.getdoc(inspect.getmodule(value)) or "") for value in row.objects().values())
    assert ">>>" in documentation, f"{row.slug}: no example in any public docstring"
    assert row.arxiv is None or row.arxiv in documentation, f"{row.slug}: arXiv:{row.arxiv} is not named in its docstrings"


@pytest.mark.parametrize("room", ROOMS)
def test_everything_public_is_in_the_catalogue_once(room):
    exported = importlib.import_module(f"ritz.{room}").__all__
    listed = [name for row in methods(room=room) for name in row.public] + list(blocks(room))
    assert sorted(listed) == sorted(exported)


@pytest.mark.parametrize("room", ROOMS)
def test_every_block_is_documented(room):
    module = importlib.import_module(f"ritz.{room}")
    assert [name for name in blocks(room) if not inspect.getdoc(getattr(module, name))] == []


def test_names_whose_optional_library_is_missing_are_left_out():
    code = "import sys; sys.modules['diffusers'] = None; from ritz.catalogue import method; print(*method('dpm-solver-v3').objects())"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert set(method("dpm-solver-v3").public) - set(found) == {"DPMSolverV3Scheduler"}


def test_an_unknown_method_is_refused_with_near_names():
    with pytest.raises(ValueError, match="did you mean soap"):
        method("soup")
