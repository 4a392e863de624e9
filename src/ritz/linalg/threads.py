"""Work shared by threads: kernels that release the interpreter's lock, each on the next window of rows when it is free."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numba

from ritz.core import integer


def thread_count(threads: int | None) -> int:
    """Return the number of threads asked for, or for None numba's."""
    return numba.get_num_threads() if threads is None else integer(threads, "threads", at_least=1)


def in_windows(windows: Sequence, workspace: Callable, compute: Callable, threads: int) -> None:
    """Call ``compute(window, workspace())`` for all windows: each thread has a work space of its own and takes the next window when it is free."""
    tokens = iter(windows)

    def serve() -> None:
        own = workspace()
        for window in tokens:
            compute(window, own)

    if threads == 1 or len(windows) == 1:
        serve()
        return
    with ThreadPoolExecutor(threads) as pool:
        for served in [pool.submit(serve) for _ in range(threads)]:
            served.result()
