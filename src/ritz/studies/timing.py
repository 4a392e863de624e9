"""Paired timing: ours and the peer alternate in one process, and the ratio is the median over the pairs.

A ratio from alternating runs survives a busy or throttled machine, where two separate timings do not.
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path

from ritz.core import Result, integer, real


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(Result):
    """What a paired timing measured: seconds are medians, `ratio` is the median of peer / ours over the pairs (above 1: ours is faster)."""

    name: str
    peer: str
    ratio: float
    seconds: float
    peer_seconds: float
    pairs: int
    threads: int
    target: float | None = None
    extra: dict[str, float] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the ratio reaches the target; None where there is none."""
        return None if self.target is None else self.ratio >= self.target


def compare(
    name: str,
    ours: Callable[[], object],
    peer: Callable[[], object],
    *,
    peer_name: str,
    target: float | None = None,
    pairs: int = 7,
    warmup: int = 1,
    shortest: float = 0.02,
    extra: dict[str, float] | None = None,
) -> Comparison:
    """Time two functions in alternation.

    Parameters
    ----------
    name, peer_name : str
        What is compared with what.
    ours, peer : callable
        Take no argument; each call does the whole work.
    target : float, optional
        The ratio peer / ours to reach.
    pairs : int
        How many alternating pairs are timed.
    warmup : int
        Calls of each before timing.
    shortest : float
        Seconds a single measurement should last at least; faster functions are called several times in a row.
    extra : dict, optional
        Further figures to report: errors, bandwidths, memory.
    """
    integer(pairs, "pairs", at_least=1)
    real(shortest, "shortest", at_least=0)
    for _ in range(warmup):
        ours()
        peer()
    calls = [_calls_for(function, shortest) for function in (ours, peer)]
    measured = [(_seconds(ours, calls[0]), _seconds(peer, calls[1])) for _ in range(pairs)]
    return Comparison(
        name,
        peer_name,
        ratio=statistics.median(theirs / mine for mine, theirs in measured),
        seconds=statistics.median(mine for mine, _ in measured),
        peer_seconds=statistics.median(theirs for _, theirs in measured),
        pairs=pairs,
        threads=current_threads(),
        target=target,
        extra=extra or {},
    )


def within(name: str, ours: Callable[[], object], *, limit: float, extra: dict[str, float] | None = None) -> Comparison:
    """Time one call of `ours` against a limit in seconds: the ratio is limit / seconds, its target 1."""
    seconds = _seconds(ours, 1)
    return Comparison(name, f"limit of {limit:g} s", limit / seconds, seconds, limit, 1, current_threads(), 1.0, extra or {})


def benchmark(function: Callable | None = None, *, threads: int = 1) -> Callable:
    """Mark a function of a file `benchmarks/<room>/bench_*.py` as a benchmark: it takes no argument and returns one comparison or several.

    Parameters
    ----------
    threads : int
        How many threads both sides work with, unless `ritz bench --threads` says otherwise.
    """
    if function is None:
        return partial(benchmark, threads=threads)
    function.threads = threads
    return function


def find_benchmarks(folder: Path, only: list[str] | None = None) -> dict[str, list[Callable]]:
    """Import the benchmark files below `folder` and return their benchmarks by ``room/file``.

    Parameters
    ----------
    folder : path
        Usually ``benchmarks``.
    only : list of str, optional
        Rooms or file names ("graphs", "soap") to keep.

    Raises
    ------
    ValueError
        If nothing is left.
    """
    files = sorted(folder.glob("*/bench_*.py"))
    names = {file: (file.parent.name, file.stem.removeprefix("bench_")) for file in files}
    kept = [file for file in files if not only or any(word.replace("-", "_") in names[file] for word in only)]
    if not kept:
        raise ValueError(f"no benchmark{' of ' + ', '.join(only) if only else ''} below '{folder}'")
    return {"/".join(names[file]): _marked(file) for file in kept}


def triad(moved_bytes: int) -> Callable[[], None]:
    """Return a function that moves so many bytes by ``a = b + s c`` on all of numba's threads: the measure of memory bandwidth."""
    import numpy as np

    a, b, c = (np.ones(max(1, moved_bytes // 12), dtype=np.float32) for _ in range(3))
    kernel = _triad_kernel()
    return lambda: kernel(a, b, c)


@cache
def _triad_kernel():
    import numpy as np
    from numba import njit, prange

    @njit(parallel=True, fastmath=True)
    def kernel(a, b, c):
        for i in prange(a.shape[0]):
            a[i] = b[i] + np.float32(3.0) * c[i]

    return kernel


@contextmanager
def fixed_threads(count: int) -> Iterator[None]:
    """Fix the number of threads of BLAS, OpenMP, torch and numba inside the block."""
    import numba
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads(), numba.get_num_threads()
    torch.set_num_threads(count)
    numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))
    try:
        with threadpool_limits(count):
            yield
    finally:
        torch.set_num_threads(before[0])
        numba.set_num_threads(before[1])


def current_threads() -> int:
    """The number of threads torch works with: the figure reported beside a timing."""
    torch = sys.modules.get("torch")
    return torch.get_num_threads() if torch else (os.cpu_count() or 1)


def as_row(comparison: Comparison) -> dict[str, object]:
    """A comparison as plain values with its verdict, for JSON."""
    return asdict(comparison) | {"met": comparison.met}


def _calls_for(function: Callable[[], object], shortest: float) -> int:
    return max(1, round(shortest / max(_seconds(function, 1), 1e-7)))


def _seconds(function: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - start) / calls


def _marked(file: Path) -> list[Callable]:
    spec = importlib.util.spec_from_file_location(f"ritz_benchmarks.{file.parent.name}.{file.stem}", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return [value for value in vars(module).values() if hasattr(value, "threads") and getattr(value, "__module__", None) == spec.name]
