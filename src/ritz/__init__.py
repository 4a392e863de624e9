"""ritz: published methods that work, each with a study that measures its claim.

The methods live in rooms (`ritz.linalg`, `ritz.optim`, `ritz.diffusion`, ...); a room is imported when it is first used.
`ritz.catalogue` lists the methods, `ritz study <method>` measures one.
"""

import importlib

__version__ = "0.1.0"

_ROOMS = (
    "linalg",
    "optim",
    "sequence",
    "diffusion",
    "inference",
    "graphs",
    "pde",
    "compress",
    "recommend",
    "imaging",
    "distributed",
)
_FLOORS = ("core", *_ROOMS, "catalogue", "studies")

__all__ = [*_FLOORS, "__version__"]


def __getattr__(name: str):
    if name in _FLOORS:
        return importlib.import_module(f"ritz.{name}")
    raise AttributeError(f"module 'ritz' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
