"""Valid calls of public names, and the ways to spoil them.

A test file `tests/<room>/test_<file>.py` declares `SPECIMENS`, a mapping from each public name it covers to a `Specimen`: a callable and fresh
valid arguments. `tests/test_bad_input.py` spoils the arguments one at a time and expects a refusal that names the argument.
A class is covered under its own name by its constructor; its methods that take data add keys such as "FastRP.fit".
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import scipy.sparse
import torch


@dataclass(frozen=True)
class Specimen:
    """A valid call.

    `arguments` returns fresh valid keyword arguments; `spare` names those that are not spoiled (modules, callables, iterables of batches that the
    test file tries by hand); `accepts` maps an argument to corruptions that are meaningful input for it and so must work, e.g. ``{"tol": ["none"]}``.
    """

    call: Callable[..., object]
    arguments: Callable[[], Mapping[str, object]]
    spare: frozenset[str] = frozenset()
    accepts: Mapping[str, tuple[str, ...]] | None = None


# What must be refused for each kind of argument, by name, and what may be refused or handled.
SCALARS = {
    "nan": float("nan"),
    "inf": float("inf"),
    "minus inf": float("-inf"),
    "text": "seven",
    "none": None,
    "list": [1.0, 2.0],
    "complex": 1j,
}
STRINGS = {"unknown word": "no such option", "number": 3, "none": None}
FLAGS = {"word": "no", "number": 0.5, "none": None}
ARRAY_REFUSED = ("nan", "inf", "text", "object", "more dimensions", "scalar")
ARRAY_EITHER = ("empty", "one element", "integers")


def corruptions(value: object) -> dict[str, bool]:
    """Map the name of each corruption that suits `value` to whether it must be refused."""
    if isinstance(value, bool):
        return dict.fromkeys(FLAGS, True)
    if isinstance(value, int | float):
        return dict.fromkeys(SCALARS, True)
    if isinstance(value, str):
        return dict.fromkeys(STRINGS, True)
    if isinstance(value, np.ndarray | torch.Tensor) or scipy.sparse.issparse(value):
        return dict.fromkeys(ARRAY_REFUSED, True) | dict.fromkeys(ARRAY_EITHER, False)
    return {}


def corrupt(value: object, how: str, position: int) -> object:
    """Return a spoiled copy of `value`; `position` picks the entry that turns NaN or infinite."""
    if isinstance(value, bool):
        return FLAGS[how]
    if isinstance(value, int | float):
        return SCALARS[how]
    if isinstance(value, str):
        return STRINGS[how]
    if isinstance(value, torch.Tensor):
        return _corrupt_tensor(value, how, position)
    if scipy.sparse.issparse(value):
        return _corrupt_sparse(value, how, position)
    return _corrupt_array(value, how, position)


def _corrupt_array(value: np.ndarray, how: str, position: int) -> object:
    if how in ("nan", "inf"):
        spoiled = value.astype(value.dtype if value.dtype.kind in "fc" else np.float64)
        spoiled.reshape(-1)[position % spoiled.size] = float(how)
        return spoiled
    return {
        "text": lambda: np.full(value.shape, "seven"),
        "object": object,
        "more dimensions": lambda: value[None, None, None, None],
        "scalar": lambda: np.float64(1.0),
        "empty": lambda: value.reshape(-1)[:0].reshape((0,) * value.ndim),
        "one element": lambda: value.reshape(-1)[:1].reshape((1,) * value.ndim),
        "integers": lambda: np.ones(value.shape, dtype=np.int32),
    }[how]()


def _corrupt_tensor(value: torch.Tensor, how: str, position: int) -> object:
    if how in ("nan", "inf"):
        spoiled = value.detach().clone() if value.is_floating_point() or value.is_complex() else value.double()
        spoiled.reshape(-1)[position % spoiled.numel()] = float(how)
        return spoiled
    if how in ("text", "object"):
        return _corrupt_array(np.zeros(tuple(value.shape)), how, position)
    spoiled = _corrupt_array(value.detach().numpy(), how, position)
    return torch.from_numpy(np.asarray(spoiled).copy())


def _corrupt_sparse(value: scipy.sparse.sparray, how: str, position: int) -> object:
    if how in ("nan", "inf"):
        spoiled = scipy.sparse.csr_array(value, dtype=np.float64, copy=True)
        spoiled.data[position % spoiled.nnz] = float(how)
        return spoiled
    if how == "empty":
        return scipy.sparse.csr_array((0, 0))
    if how == "one element":
        return scipy.sparse.csr_array((1, 1))
    return _corrupt_array(value.toarray(), how, position)


@cache
def all_specimens() -> dict[str, Specimen]:
    """Collect the specimens of all test files, keyed ``room.Name`` (``core.name`` for the ground floor)."""
    found = {}
    for file in sorted(Path(__file__).parent.glob("*/test_*.py")):
        specimens = getattr(_module(file), "SPECIMENS", {})
        found |= {f"{file.parent.name}.{name}": specimen for name, specimen in specimens.items()}
    return found


def _module(file: Path):
    name = f"specimens_of.{file.parent.name}.{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
