"""Schedules, denoisers, samplers and bridges."""

from ritz.core.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
