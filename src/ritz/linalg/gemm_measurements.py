"""Matrix products timed on this machine, and the table of what was measured.

Liu and Halim, "Understanding GEMM Performance and Energy on NVIDIA Ada Lovelace: A Machine Learning-Based Analytical Approach", arXiv:2411.16954.
"""

from __future__ import annotations

import csv
import itertools
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ritz.core import Result, atomic_path, choice, existing_file, integer, positive, random_generator
from ritz.linalg.power_meter import EnergyCounter, GpuPowerMeter
from ritz.linalg.tiled_matmul import multiply_in_tiles, tile_sizes

COLUMNS = np.dtype(
    [(name, np.int64) for name in ("m", "n", "k", "tile_m", "tile_n", "tile_k")]
    + [("layout", "U2"), ("dtype", "U8")]
    + [(name, np.float64) for name in ("runtime_s", "power_w", "energy_j", "tflops")]
)
TILE_SIZES = (16, 64, 256)
GPU_TILES = tuple((m, n, 32) for m, n in ((64, 64), (128, 64), (64, 128), (128, 128), (256, 128), (128, 256), (256, 256)))  # the blocks of the paper
POWER_SECONDS = 0.5
SIZES = (64, 1024)


@dataclass(frozen=True, eq=False, repr=False)
class GemmMeasurements(Result):
    """What `measure_gemms` measured: one row for each shape and tile.

    Attributes
    ----------
    table : structured array (rows,)
        Fields ``m n k tile_m tile_n tile_k`` (numbers of entries), ``layout`` ("nn"), ``dtype``, ``runtime_s`` (seconds), ``power_w`` (watts, nan
        where unknown), ``energy_j`` (joules, runtime times power), ``tflops`` (2 m n k / runtime / 10^12). Read-only.

    Examples
    --------
    >>> found = GemmMeasurements.of([[512, 512, 512, 8, 8, 8]], [1e-3], power_w=[32.0])
    >>> found.table["energy_j"], found.table["tflops"]
    (array([0.032]), array([0.26843546]))
    """

    table: np.ndarray

    def __post_init__(self) -> None:
        if not isinstance(self.table, np.ndarray) or self.table.dtype != COLUMNS or self.table.ndim != 1:
            raise TypeError(f"table must be a structured array (rows,) with the fields {', '.join(COLUMNS.names)}")
        table = self.table.copy()
        table.flags.writeable = False
        object.__setattr__(self, "table", table)

    @classmethod
    def of(cls, sizes, runtime_s, *, power_w=None, dtype: str = "float32", layout: str = "nn") -> GemmMeasurements:
        """A table from sizes (rows, 6) ``[m, n, k, tile_m, tile_n, tile_k]``, seconds (rows,) and, where known, watts (rows,)."""
        sizes, runtime = np.asarray(sizes), np.asarray(runtime_s, dtype=np.float64)
        if sizes.ndim != 2 or sizes.shape[1] != 6 or runtime.shape != sizes.shape[:1]:
            raise ValueError(f"sizes must have shape (rows, 6) and runtime_s one entry a row, got {sizes.shape} and {runtime.shape}")
        if sizes.dtype.kind not in "iu" or np.any(sizes < 1) or not np.all(runtime > 0):
            raise ValueError("sizes must be positive integers and runtime_s positive seconds")
        power = np.full(len(runtime), np.nan) if power_w is None else np.asarray(power_w, dtype=np.float64)
        if power.shape != runtime.shape:
            raise ValueError(f"power_w must have one entry a row, got shape {power.shape}")
        table = np.empty(len(runtime), dtype=COLUMNS)
        for name, column in zip(COLUMNS.names, sizes.T):
            table[name] = column
        table["layout"], table["dtype"], table["runtime_s"], table["power_w"] = layout, dtype, runtime, power
        table["energy_j"] = runtime * power
        table["tflops"] = 2.0 * table["m"] * table["n"] * table["k"] / runtime / 1e12
        return cls(table)

    @property
    def sizes(self) -> np.ndarray:
        """The problem and tile sizes (rows, 6): what `GemmModel` predicts from."""
        return np.stack([self.table[name] for name in COLUMNS.names[:6]], axis=1)

    def to_csv(self, path: str | os.PathLike) -> None:
        """Write the table, one line a row, the units in the names of the columns; whole or not at all."""
        with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS.names)
            writer.writerows([[repr(value) if isinstance(value, float) else value for value in row] for row in self.table.tolist()])

    @classmethod
    def from_csv(cls, path: str | os.PathLike) -> GemmMeasurements:
        """Read a table that `to_csv` wrote.

        Raises
        ------
        ValueError, FileNotFoundError
            If there is no such file, or a line of it is wrong; the message names the line.
        """
        path = existing_file(path)
        with Path(path).open(newline="", encoding="utf-8") as file:
            lines = list(csv.reader(file))
        if not lines or lines[0] != list(COLUMNS.names):
            raise ValueError(f"'{path}', line 1: must name the columns {','.join(COLUMNS.names)}")
        rows = []
        for number, fields in enumerate(lines[1:], start=2):
            try:
                (row,) = np.array([tuple(fields)], dtype=[(name, "U32") for name in COLUMNS.names]).astype(COLUMNS)
            except ValueError:
                raise ValueError(f"'{path}', line {number}: must be {len(COLUMNS)} fields, integers and numbers, got {','.join(fields)}") from None
            rows.append(row)
        return cls(np.array(rows, dtype=COLUMNS))


def measure_gemms(
    shapes: Sequence[Sequence[int]] | None = None,
    tiles: Sequence[Sequence[int]] | None = None,
    *,
    kernel: str = "tiled",
    dtype: str = "float32",
    repeats: int = 5,
    warmup: int = 1,
    budget_seconds: float = 60.0,
    power: str | None = "auto",
    rng: np.random.Generator | int | None = None,
) -> GemmMeasurements:
    """Time matrix products of several shapes with several tiles on this machine.

    Parameters
    ----------
    shapes : sequence of (m, n, k), optional
        By default 60, log-spaced at random between 64 and 1,024.
    tiles : sequence of (tile_m, tile_n, tile_k), optional
        By default all 27 of 16, 64, 256 for the CPU kernel, the paper's seven blocks for Triton. BLAS has no tiles to choose: it is measured once a
        shape, with tiles of 1 in the table.
    kernel : {"tiled", "blas", "triton"}
        `tiled_matmul` on the CPU, NumPy's product, or `tiled_matmul` on the GPU.
    dtype : {"float32", "float64"}
        Of the matrices.
    repeats : int
        Timings of each configuration, of which the least counts. Configurations take turns in random order, so that a drift of the machine does not
        favor a tile.
    warmup : int
        Runs of each configuration that are not timed.
    budget_seconds : float
        After this time what has not been measured is left out.
    power : {"auto"} or None
        "auto" reads energy counters where the machine has them and lets them be read: each configuration is then repeated for half a second, as far
        as the budget reaches.
    rng : numpy.random.Generator or int, optional
        For shapes, entries and the order.

    Returns
    -------
    GemmMeasurements
        Rows in the order of shapes, then tiles.

    Raises
    ------
    ValueError, TypeError
        If an option does not fit, there is no GPU for "triton", or nothing could be measured within the budget.

    Examples
    --------
    >>> found = measure_gemms([(32, 32, 32)], [(8, 8, 8), (32, 32, 32)], repeats=1, rng=0)
    >>> len(found.table), bool((found.table["runtime_s"] > 0).all())
    (2, True)
    """
    kernel, dtype = choice(kernel, "kernel", ("tiled", "blas", "triton")), choice(dtype, "dtype", ("float32", "float64"))
    repeats, warmup = integer(repeats, "repeats", at_least=1), integer(warmup, "warmup", at_least=0)
    deadline = time.perf_counter() + positive(budget_seconds, "budget_seconds")
    if power is not None:
        choice(power, "power", ("auto",))
    rng = random_generator(rng)
    shapes = random_shapes(60, *SIZES, rng=rng) if shapes is None else [tile_sizes(shape, f"shapes[{i}]") for i, shape in enumerate(shapes)]
    tiles = tile_candidates(tiles, kernel)
    if not shapes or not tiles:
        raise ValueError("shapes and tiles must not be empty")
    products = _Products(kernel, dtype, rng)
    configurations = list(itertools.product(shapes, tiles))
    times = _least_times(products, configurations, warmup, repeats, deadline, rng)
    measured = [i for i, seconds in enumerate(times) if np.isfinite(seconds)]
    if not measured:
        raise ValueError(f"budget_seconds must allow for at least one product, got {budget_seconds:g}")
    watts = _powers(products, [configurations[i] for i in measured], kernel, power, deadline)
    sizes = np.array([[*configurations[i][0], *configurations[i][1]] for i in measured])
    return GemmMeasurements.of(sizes, times[measured], power_w=watts, dtype=dtype)


def random_shapes(count: int, smallest: int, largest: int, rng: np.random.Generator) -> list[tuple[int, int, int]]:
    """Shapes (m, n, k) whose sizes are log-uniform between two."""
    sizes = np.exp(rng.uniform(math.log(smallest), math.log(largest), size=(count, 3)))
    return [tuple(map(int, row)) for row in np.rint(sizes)]


def seconds_of(run: Callable[[], object]) -> float:
    """The seconds of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def product(shape, tiles, *, kernel: str, dtype: str, rng: np.random.Generator) -> Callable[[], object]:
    """A function that computes one product of this shape, and returns when it is done."""
    return _Products(kernel, dtype, rng).run(shape, tiles)


class _Products:
    """Products ready to be run; the matrices of the last shape are kept."""

    def __init__(self, kernel: str, dtype: str, rng: np.random.Generator):
        self._kernel, self._dtype, self._rng, self._shape = kernel, dtype, rng, None

    def run(self, shape: tuple[int, int, int], tiles: tuple[int, int, int]) -> Callable[[], object]:
        m, n, k = shape
        if shape != self._shape:
            self._shape = shape
            self._A, self._B = (self._rng.standard_normal(sides).astype(self._dtype) for sides in ((m, k), (k, n)))
            if self._kernel == "triton":
                self._A, self._B = _on_gpu(self._A), _on_gpu(self._B)
        A, B = self._A, self._B
        if self._kernel == "blas":
            return lambda: A @ B
        if self._kernel == "tiled":
            return lambda: multiply_in_tiles(A, B, tiles)
        return lambda: _run_on_gpu(A, B, tiles)


def _least_times(products: _Products, configurations: list, warmup: int, repeats: int, deadline: float, rng: np.random.Generator) -> np.ndarray:
    """The least seconds of each configuration, infinite where time ran out before its first."""
    times = np.full(len(configurations), np.inf)
    for round_number in range(warmup + repeats):
        for i in rng.permutation(len(configurations)):
            if time.perf_counter() > deadline:
                return times
            seconds = seconds_of(products.run(*configurations[i]))
            if round_number >= warmup:
                times[i] = min(times[i], seconds)
    return times


def _powers(products: _Products, configurations: list, kernel: str, power: str | None, deadline: float) -> np.ndarray:
    watts = np.full(len(configurations), np.nan)
    if power is None:
        return watts
    meter = GpuPowerMeter() if kernel == "triton" else EnergyCounter()
    if meter.is_readable:
        for i, configuration in enumerate(configurations):
            if time.perf_counter() + POWER_SECONDS > deadline:
                break
            watts[i] = meter.mean_power(products.run(*configuration), POWER_SECONDS)
    return watts


def tile_candidates(tiles, kernel: str) -> list[tuple[int, int, int]]:
    """Check tiles, or return the ones that are measured by default."""
    if kernel == "blas":
        if tiles is not None:
            raise ValueError("tiles must be None for BLAS, which has none to choose")
        return [(1, 1, 1)]
    if tiles is None:
        return list(GPU_TILES) if kernel == "triton" else list(itertools.product(TILE_SIZES, repeat=3))
    return [tile_sizes(tile, f"tiles[{i}]") for i, tile in enumerate(tiles)]


def _on_gpu(A: np.ndarray):
    import torch

    if not torch.cuda.is_available():
        raise ValueError("kernel must be 'tiled' or 'blas': there is no GPU for 'triton'")
    return torch.from_numpy(A).cuda()


def _run_on_gpu(A, B, tiles) -> None:
    import torch

    from ritz.linalg.tiled_matmul_triton import multiply_on_cuda

    multiply_on_cuda(A, B, tiles)
    torch.cuda.synchronize()
