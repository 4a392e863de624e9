"""Which studies there are: the decorator that makes one, and the way from a method's slug to its study."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Callable
from dataclasses import dataclass

from ritz.catalogue import Method, method, methods
from ritz.studies.run import Run


@dataclass(frozen=True)
class Study:
    """A study: what it measures (the docstring), how long it takes at default scale on two cores, and the function that does it."""

    slug: str
    minutes: float
    measure: Callable[[Run], None]

    @property
    def description(self) -> str:
        """The study's docstring, first sentence first."""
        return inspect.getdoc(self.measure) or ""


def study(slug: str, *, minutes: float) -> Callable[[Callable[[Run], None]], Study]:
    """Make a study of the function below.

    Parameters
    ----------
    slug : str
        The method's slug in the catalogue.
    minutes : float
        About how long it takes at default scale on two cores.
    """

    def decorate(measure: Callable[[Run], None]) -> Study:
        return Study(slug, minutes, measure)

    return decorate


def study_module(row: Method) -> str:
    """Return the dotted name of the module that holds the study of a method."""
    return f"ritz.studies.{row.room}.{row.module_name}"


def find_study(slug: str) -> Study:
    """Import and return the study of a method.

    Raises
    ------
    ValueError
        If there is no such method, or it has no study yet.
    """
    row = method(slug)
    if not _is_there(row):
        raise ValueError(f"the method '{slug}' is {row.status}: it has no study yet")
    module = importlib.import_module(study_module(row))
    return next(value for value in vars(module).values() if isinstance(value, Study) and value.slug == slug)


def studied_methods(*, room: str | None = None) -> list[Method]:
    """Return the methods that have a study, in the order of their numbers."""
    return [row for row in methods(room=room) if _is_there(row)]


def _is_there(row: Method) -> bool:
    try:
        return importlib.util.find_spec(study_module(row)) is not None
    except ModuleNotFoundError:
        return False
