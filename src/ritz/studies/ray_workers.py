"""Two workers of ray on this machine, for studies that show a backend of blocks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ritz.core import MissingExtra, optional_import
from ritz.studies.run import Run


@contextmanager
def two_workers() -> Iterator[None]:
    """Start a cluster of two workers on this machine and stop it in the end.

    Raises
    ------
    MissingExtra
        If ray is not installed.
    """
    ray = optional_import("ray", extra="distributed")
    ray.init("local", num_cpus=2, log_to_driver=False, include_dashboard=False, logging_level="ERROR")
    try:
        yield
    finally:
        ray.shutdown()


def compare_backends(run: Run, title: str, work: Callable[[str, int], object], same: Callable[[object, object], bool], bytes_moved: dict) -> None:
    """Do the same work on one thread, on two, and on two workers of ray; report seconds, the bytes that ray moves, and whether results are equal.

    Parameters
    ----------
    run : Run
        The study; ray's part is left out with a note where ray is missing or the scale is smoke.
    title : str
        Of the table and the claim.
    work : callable
        Maps a backend and a number of workers to the result.
    same : callable
        Tells whether two results have the same bits.
    bytes_moved : dict
        Names of what ray moves, and its bytes.
    """
    rows, results, settings = [], {}, [("local", 1), ("local", 2)]
    try:
        if run.scale == "smoke":
            run.note(f"{title}: ray is left out at this scale, whose seconds it would take to start.")
            _timed_rows(settings, work, rows, results)
        else:
            with two_workers():
                _timed_rows([*settings, ("ray", 2)], work, rows, results)
    except MissingExtra as missing:
        run.note(f"{title}: ray is left out: {missing}")
        _timed_rows(settings, work, rows, results)
    alone = results["local", 1]
    different = [setting for setting, result in results.items() if not same(alone, result)]
    for row in rows:
        row["same bits as one thread"] = (row["backend"], row["workers"]) not in different
    run.table(f"{title}: backends", rows, note="ray moves " + ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in bytes_moved.items()))
    if ("ray", 2) in results:
        run.claim(
            f"{title}: two workers of ray give the matrix of one thread, bit for bit (settings that differ)",
            measured=len(different),
            holds=not different,
        )


def _timed_rows(settings: list[tuple[str, int]], work: Callable, rows: list[dict], results: dict) -> None:
    for backend, workers in settings:
        work(backend, workers)  # compiled, and placed in the cluster, before it is timed
        start = time.perf_counter()
        results[backend, workers] = work(backend, workers)
        rows.append({"backend": backend, "workers": workers, "seconds": time.perf_counter() - start})
