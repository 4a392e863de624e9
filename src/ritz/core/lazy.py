"""Rooms that name everything and load nothing.

A room's `__init__.py` lists its public names as ordinary imports under `if TYPE_CHECKING:`, where editors and type checkers read them.
At run time `lazy_exports` reads the same lines and imports a file of the room when one of its names is first asked for.
"""

import ast
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType


def lazy_exports(room: str, file: str) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """Return `__getattr__`, `__dir__` and `__all__` for the package `room` whose `__init__.py` is `file`.

    A public name wins over a file of the same name: importing ``room/eora.py`` would otherwise put the module in the place of the function `eora`.
    """
    homes = _guarded_imports(Path(file).read_text(encoding="utf-8"))

    def __getattr__(name: str):
        if name not in homes:
            raise AttributeError(f"module '{room}' has no attribute '{name}'")
        value = getattr(importlib.import_module(homes[name]), name)
        setattr(sys.modules[room], name, value)
        return value

    def __dir__() -> list[str]:
        return sorted(homes)

    class Room(ModuleType):
        def __setattr__(self, name: str, value: object) -> None:
            if not (name in homes and isinstance(value, ModuleType)):
                super().__setattr__(name, value)

    sys.modules[room].__class__ = Room
    return __getattr__, __dir__, sorted(homes)


def _guarded_imports(source: str) -> dict[str, str]:
    """Map each name imported under `if TYPE_CHECKING:` to the module it comes from."""
    guarded = (node for node in ast.parse(source).body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    return {
        alias.name: statement.module
        for block in guarded
        for statement in block.body
        if isinstance(statement, ast.ImportFrom) and statement.module
        for alias in statement.names
    }
