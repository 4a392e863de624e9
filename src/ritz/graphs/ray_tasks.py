"""A function over blocks of work, on threads of this process or as tasks of a ray cluster: the same code on the same arrays, so the same bits.

Arrays that all blocks read are `Placed` once. Threads share them; ray's object store holds one copy on each machine, which the tasks there map into
memory without copying. A task whose worker dies runs again elsewhere.
"""

from __future__ import annotations

import itertools
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

import numba
import numpy as np

from ritz.core import choice, integer, optional_import

BACKENDS = ("local", "ray")
_RETRIES = 3  # times a task is run again after its worker died


class Backend(NamedTuple):
    """Where blocks run: "local" or "ray", and how many at a time (None: numba's threads, or the cluster's cores)."""

    name: str
    num_workers: int | None

    @classmethod
    def checked(cls, backend: object, num_workers: object) -> Backend:
        """Return the backend for two arguments of the public door; ray must be installed if it is named."""
        if choice(backend, "backend", BACKENDS) == "ray":
            _ray()
        return cls(backend, None if num_workers is None else integer(num_workers, "num_workers", at_least=1))

    @property
    def workers(self) -> int:
        """How many blocks run at a time."""
        if self.num_workers is not None:
            return self.num_workers
        return numba.get_num_threads() if self.name == "local" else max(1, int(_ray().cluster_resources().get("CPU", 1)))

    def run(self, function: Callable, placed: Sequence[Placed], blocks: Sequence[tuple]) -> Iterator:
        """Yield function(*values of placed, *block) for each block, in order."""
        run = _on_threads if self.name == "local" else _on_ray
        return run(function, placed, blocks, self.workers)


class Placed:
    """A named tuple of arrays that tasks read, made read-only: ray's arrays are, and threads then run the same compiled code."""

    def __init__(self, value: tuple):
        self.value = value._make(_read_only(array) for array in value)
        self._reference = self._place = None

    def reference(self, ray):
        """The value in ray's object store, put there once for as long as this process stays with one cluster."""
        context = ray.get_runtime_context()
        place = context.get_node_id(), context.get_job_id()
        if self._place != place:
            self._reference, self._place = ray.put(self.value), place
        return self._reference

    def __getstate__(self) -> dict:
        return {"value": self.value, "_reference": None, "_place": None}


@contextmanager
def at_most_threads(count: int | None) -> Iterator[None]:
    """Let numba's parallel loops use at most so many threads inside the block (None: as many as before)."""
    before = numba.get_num_threads()
    numba.set_num_threads(min(before, count or before))
    try:
        yield
    finally:
        numba.set_num_threads(before)


def contiguous_blocks(count: int, blocks: int) -> list[tuple[int, int]]:
    """Cut range(count) into so many contiguous pieces (first, last), equal to within one; fewer where there are not so many items."""
    cuts = np.linspace(0, count, min(blocks, count) + 1).round().astype(int).tolist()
    return list(itertools.pairwise(cuts))


def _on_threads(function: Callable, placed: Sequence[Placed], blocks: Sequence[tuple], workers: int) -> Iterator:
    values = [each.value for each in placed]
    if workers == 1:
        yield from (function(*values, *block) for block in blocks)
        return
    pool, pending = ThreadPoolExecutor(workers), deque()
    try:
        for block in blocks:
            if len(pending) == 2 * workers:  # what waits to be taken stays small
                yield pending.popleft().result()
            pending.append(pool.submit(function, *values, *block))
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _on_ray(function: Callable, placed: Sequence[Placed], blocks: Sequence[tuple], workers: int) -> Iterator:
    ray = _ray()
    references = [each.reference(ray) for each in placed]
    task = ray.remote(num_cpus=1, max_retries=_RETRIES)(_one_block)
    running, pending = [], deque()
    try:
        for block in blocks:
            if len(running) == workers:
                _, running = ray.wait(running)
            pending.append(task.remote(function, block, *references))
            running.append(pending[-1])
            while pending[0] not in running:
                yield ray.get(pending.popleft())
        while pending:
            yield ray.get(pending.popleft())
    finally:
        for reference in pending:
            ray.cancel(reference)


def _one_block(function: Callable, block: tuple, *values: tuple):
    numba.set_num_threads(1)  # a task has one core
    return function(*values, *block)


def _ray():
    """The library, connected: to the cluster that RAY_ADDRESS names or that runs on this machine, else to a new one of this machine's cores."""
    ray = optional_import("ray", extra="distributed")
    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR)
    return ray


def _read_only(array: np.ndarray) -> np.ndarray:
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view
