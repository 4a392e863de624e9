"""A whole sparse product from windows of its rows: rows of about equal work, taken by threads as they get free, written without a symbolic pass.

The output gets room for the most entries that the rows can have, of which only what is written becomes memory, and is shortened in place.
Where that room would be too large, the lengths of the rows are counted first.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ritz.linalg.row_products import (
    Mask,
    Rows,
    Tables,
    count_products,
    count_rows,
    dense_rows,
    hash_rows,
    masked_dense_rows,
    masked_hash_rows,
    sort_rows,
)
from ritz.linalg.row_selection import select_entries
from ritz.linalg.threads import in_windows

DENSE_COLUMNS = 2**20  # columns up to which a stamp for each always pays
LONGEST_HASHED = 2**14  # entries of a row whose table of twice as many slots stays in a core's own cache
LARGEST_ROOM = 2**32  # bytes of output before the rows are counted first
ROOM_PER_ENTRY = 8  # the same, as a multiple of what a sample of the rows says
HARMLESS_ROOM = 2**28  # bytes that are not worth a sample
LAST_STAMP = 2**31 - 2
WINDOW_ROOM = 2**30
WINDOWS_PER_THREAD = 16


class Selection(NamedTuple):
    """What is kept of each row: entries above `drop_tolerance` in magnitude, the `top_k` best of them."""

    drop_tolerance: float
    top_k: int


@dataclass(frozen=True, eq=False)
class Job:
    """One product: its factors, what is wanted of it, and how many products and excluded or wanted columns each row has."""

    A: Rows
    B: Rows
    width: int
    accumulator: str
    semiring: int | None
    mask: Mask | None
    selection: Selection | None
    counts: np.ndarray
    masked: np.ndarray

    @property
    def room(self) -> np.ndarray:
        """The most entries each row can have."""
        most = np.minimum(self.counts, self.width)
        return self.masked if self.mask is not None and self.mask.only else most


def multiply(
    A: Rows,
    B: Rows,
    width: int,
    *,
    accumulator: str = "auto",
    semiring: int | None = None,
    mask: Mask | None = None,
    selection: Selection | None = None,
    threads: int = 1,
) -> Rows:
    """Return the product of A with B, which has `width` columns."""
    masked = np.diff(mask.starts) if mask is not None else np.zeros(len(A.starts) - 1, np.int64)
    job = Job(A, B, width, accumulator, semiring, mask, selection, products_by_row(A, B), masked)
    room = job.room
    if _wastes_memory(job, room):
        room = np.minimum(room, row_lengths(A, B, width, threads=threads))
    windows = cut_windows(job.counts + job.masked, WINDOWS_PER_THREAD * threads if threads > 1 else 1)
    offsets = np.concatenate([[0], np.cumsum(room)])
    starts = np.zeros(len(offsets), np.int64)
    columns, entries = np.empty(offsets[-1], np.int32), np.empty(offsets[-1], A.entries.dtype)

    def compute(window: tuple[int, int], workspace: Workspace) -> None:
        first, last = window
        begin = offsets[first] if threads > 1 else starts[first]
        workspace.compute(first, last, job, columns[begin:], entries[begin:], starts[1:])
        if threads == 1:
            starts[first + 1 : last + 1] += begin

    in_windows(windows, lambda: Workspace(width, A.entries.dtype), compute, threads)
    if threads > 1:
        _close_gaps(windows, offsets, starts, columns, entries)
    columns.resize(starts[-1], refcheck=False)
    entries.resize(starts[-1], refcheck=False)
    return Rows(starts, columns, entries)


def products_by_row(A: Rows, B: Rows) -> np.ndarray:
    """The number of products (multiply-adds) of each row of A B."""
    counts = np.empty(len(A.starts) - 1, np.int64)
    count_products(A.starts, A.columns, B.starts, counts)
    return counts


def row_lengths(A: Rows, B: Rows, width: int, *, threads: int = 1) -> np.ndarray:
    """The number of entries of each row of A B."""
    counts = products_by_row(A, B)
    lengths = np.zeros_like(counts)

    def count(window: tuple[int, int], workspace: Workspace) -> None:
        workspace.count(*window, A, B, counts, lengths)

    in_windows(cut_windows(counts, WINDOWS_PER_THREAD * threads), lambda: Workspace(width, A.entries.dtype), count, threads)
    return lengths


def cut_windows(work: np.ndarray, count: int) -> list[tuple[int, int]]:
    """Cut rows into at most about `count` windows [first, last) of about equal work, more where the stamps of one would run out."""
    total = np.cumsum(work)
    count = max(1, min(count, len(work)), -(-int(total[-1]) // WINDOW_ROOM) if len(work) else 1)
    cuts = np.searchsorted(total, np.arange(1, count) * (total[-1] / count), side="right") if len(work) else []
    edges = np.unique(np.concatenate([[0], cuts, [len(work)]]).astype(np.int64))
    return [(int(first), int(last)) for first, last in pairwise(edges)]


class Workspace:
    """The tables of one thread, grown as windows need them, and the next stamp."""

    def __init__(self, width: int, dtype: np.dtype):
        empty, entries = np.zeros(0, np.int32), np.empty(0, dtype)
        self._tables = Tables(width, empty, empty, empty, empty, entries, empty, entries)
        self._stamp = 1

    def compute(self, first: int, last: int, job: Job, columns: np.ndarray, entries: np.ndarray, ends: np.ndarray) -> None:
        """Write the rows [first, last) of a product from the beginning of `columns` and `entries`, and where they end."""
        only = job.mask is not None and job.mask.only
        most, masked = int(job.counts[first:last].max()), int(job.masked[first:last].max())
        longest = masked if only else min(most, job.width) + masked
        accumulator = job.accumulator if job.accumulator != "auto" else _choose(longest, job)
        if accumulator == "dense":
            kernel = masked_dense_rows if only else dense_rows
            self._grow(stamps=job.width, other_columns=masked)
        elif accumulator == "hash":
            kernel = masked_hash_rows if only else hash_rows
            self._grow(tags=_slots(longest), slots=_slots(longest), other_columns=masked)
        else:
            kernel = sort_rows
            self._grow(columns=most, entries=most, other_columns=most, other_entries=most)
        self._renew_stamps(int(job.counts[first:last].sum() + job.masked[first:last].sum()))
        self._stamp = kernel(first, last, job.A, job.B, job.mask, self._tables, self._stamp, job.semiring, columns, entries, ends)
        if job.selection is not None:
            select_entries(first, last, *job.selection, job.semiring, columns, entries, ends)

    def count(self, first: int, last: int, A: Rows, B: Rows, counts: np.ndarray, lengths: np.ndarray) -> None:
        """Write the lengths of the rows [first, last)."""
        longest = _slots(min(int(counts[first:last].max()), self._tables.width))
        self._grow(tags=longest, slots=longest)
        self._renew_stamps(last - first)
        self._stamp = count_rows(first, last, A, B, self._tables, self._stamp, lengths)

    def _grow(self, **sizes: int) -> None:
        for name, size in sizes.items():
            table = getattr(self._tables, name)
            if len(table) < size:
                self._tables = self._tables._replace(**{name: np.zeros(size, table.dtype)})

    def _renew_stamps(self, growth: int) -> None:
        if self._stamp + growth > LAST_STAMP:
            self._tables.stamps[:] = 0
            self._tables.slots[:] = 0
            self._stamp = 1


def _choose(longest: int, job: Job) -> str:
    """A stamp for each column is fastest unless the product hardly touches them; then short rows are hashed, in a table that stays in cache."""
    pays = job.width <= max(DENSE_COLUMNS, len(job.B.columns))
    return "dense" if pays or longest > LONGEST_HASHED else "hash"


def _slots(entries: int) -> int:
    return 1 << max(1, (2 * entries - 1).bit_length())


def _wastes_memory(job: Job, room: np.ndarray) -> bool:
    reserved = int(room.sum()) * (job.A.entries.itemsize + job.A.columns.itemsize)
    if reserved <= HARMLESS_ROOM or (job.mask is not None and job.mask.only):
        return False
    sampled = np.arange(0, len(room), 100)
    return reserved > LARGEST_ROOM or int(room[sampled].sum()) > ROOM_PER_ENTRY * int(_sampled_lengths(job, sampled).sum())


def _sampled_lengths(job: Job, rows: np.ndarray) -> np.ndarray:
    sizes = np.diff(job.A.starts)[rows]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    taken = np.repeat(job.A.starts[rows] - starts[:-1], sizes) + np.arange(starts[-1])
    return row_lengths(Rows(starts, job.A.columns[taken], job.A.entries[taken]), job.B, job.width)


def _close_gaps(windows: list[tuple[int, int]], offsets: np.ndarray, starts: np.ndarray, columns: np.ndarray, entries: np.ndarray) -> None:
    """Move what the windows wrote, each from its own offset, to lie without gaps, and make their row ends count from the beginning."""
    place = 0
    for first, last in windows:
        begin, length = offsets[first], starts[last]
        columns[place : place + length] = columns[begin : begin + length]
        entries[place : place + length] = entries[begin : begin + length]
        starts[first + 1 : last + 1] += place
        place += length
