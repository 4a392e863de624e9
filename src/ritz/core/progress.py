"""Progress bars for long work: on a terminal, and nowhere else."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import TypeVar

Item = TypeVar("Item")

_quiet: ContextVar[bool] = ContextVar("quiet", default=False)


@contextmanager
def quiet() -> Iterator[None]:
    """Show no progress bars inside this block (the environment variable RITZ_QUIET=1 does so for a whole process)."""
    token = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(token)


def shows_progress() -> bool:
    """True if a bar would be seen: standard error is a terminal and nobody asked for silence."""
    return not _quiet.get() and os.environ.get("RITZ_QUIET", "") in ("", "0") and sys.stderr.isatty()


def progress(items: Iterable[Item], description: str, *, total: int | None = None) -> Iterator[Item]:
    """Iterate over `items` behind a progress bar; a plain iteration where no bar would be seen.

    Parameters
    ----------
    items : iterable
        What to iterate over.
    description : str
        What the work is, shown before the bar.
    total : int, optional
        Number of items, if ``len(items)`` is not known.

    Examples
    --------
    >>> list(progress(range(3), "count"))
    [0, 1, 2]
    """
    if not shows_progress():
        yield from items
        return
    from rich.progress import track

    yield from track(items, description=description, total=total, console=_console(), transient=True)


@cache
def _console():
    """The one console of all bars, so that a bar inside a bar is drawn below it."""
    from rich.console import Console

    return Console(stderr=True)
