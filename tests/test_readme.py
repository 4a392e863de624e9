"""The README tells the truth: its table of rooms is the catalogue's, its code runs, the commands it names exist."""

import re
from pathlib import Path

import pytest

from ritz.catalogue import room_table

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_the_table_of_rooms_is_the_catalogues():
    shown = re.search(r"<!-- rooms: .*? -->\n(.*?)\n<!-- end of rooms -->", README, flags=re.DOTALL).group(1)
    assert shown == room_table(), f"replace the table in README.md by:\n{room_table()}"


@pytest.mark.parametrize("code", BLOCKS, ids=range(len(BLOCKS)))
def test_the_code_runs(code):
    exec(compile(code, "README.md", "exec"), {})


def test_three_rooms_are_shown_in_ten_lines_or_so():
    assert len(BLOCKS) == 3
    assert all(len(code.strip().splitlines()) <= 12 for code in BLOCKS)


def test_the_commands_are_targets_of_the_makefile():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z]+)", README)) - {"and"}
    assert {"tour", "test"} <= named <= targets


@pytest.mark.parametrize("call", sorted(set(re.findall(r"`ritz\.(\w+\.\w+)", README))))
def test_what_the_table_calls_exists(call):
    import ritz

    room, name = call.split(".")
    assert callable(getattr(getattr(ritz, room), name))
