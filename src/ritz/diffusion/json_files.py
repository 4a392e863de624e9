"""Small JSON files of solvers' settings: whole when written, checked when read."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable

from ritz.core import existing_file, write_json


def write_settings(path: str | os.PathLike, fields: dict[str, object]) -> None:
    """Write the fields to a ``.json`` file, whole or not at all."""
    write_json(_json_path(path), fields)


def read_settings(path: str | os.PathLike, names: Iterable[str]) -> dict[str, object]:
    """Read a ``.json`` file that holds exactly these fields.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no JSON file, or lacks a field or has another.
    """
    file = existing_file(_json_path(path))
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"path: '{file}' cannot be read: {error}") from error
    found = sorted(fields) if isinstance(fields, dict) else []
    if found != sorted(names):
        raise ValueError(f"path: '{file}' must hold {', '.join(sorted(names))}, got {', '.join(found) or 'something else'}")
    return fields


def _json_path(path: str | os.PathLike) -> str:
    path = os.fspath(path)
    if not path.endswith(".json"):
        raise ValueError(f"path must end in .json, got '{path}'")
    return path
