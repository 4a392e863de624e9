"""Optimizers and programs with guarantees."""

from typing import TYPE_CHECKING

from ritz.core.lazy import lazy_exports

if TYPE_CHECKING:
    # torch optimizers
    from ritz.optim.soap import SOAP as SOAP

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
