"""Power drawn while something runs: Linux energy counters (RAPL) of the CPU, NVML of a GPU, or none."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
SAMPLES_PER_SECOND = 20


class EnergyCounter:
    """Mean power by the counters of all CPU packages that may be read.

    Examples
    --------
    >>> EnergyCounter(Path("/no/such/folder")).is_readable
    False
    """

    def __init__(self, folder: Path = POWERCAP):
        self._counters = []
        for zone in sorted(folder.glob("intel-rapl:?")):
            try:
                int((zone / "energy_uj").read_text())
                self._counters.append((zone / "energy_uj", int((zone / "max_energy_range_uj").read_text())))
            except (OSError, ValueError):
                continue

    @property
    def is_readable(self) -> bool:
        """Whether there is a counter."""
        return bool(self._counters)

    def mean_power(self, run: Callable[[], object], seconds: float) -> float:
        """Watts while `run` is repeated for so long."""
        before, start = self._read(), time.perf_counter()
        while time.perf_counter() - start < seconds:
            run()
        elapsed, after = time.perf_counter() - start, self._read()
        spent = sum((b - a) % (largest + 1) for a, b, (_, largest) in zip(before, after, self._counters))  # counters wrap around
        return spent * 1e-6 / elapsed

    def _read(self) -> list[int]:
        return [int(path.read_text()) for path, _ in self._counters]


class GpuPowerMeter:
    """Mean power of the first GPU by NVML, sampled 20 times a second."""

    def __init__(self):
        try:
            import pynvml

            pynvml.nvmlInit()
            self._handle, self._nvml = pynvml.nvmlDeviceGetHandleByIndex(0), pynvml
        except Exception:  # no library, no driver, no device: all mean that nothing can be read
            self._handle = None

    @property
    def is_readable(self) -> bool:
        """Whether there is a GPU whose power can be read."""
        return self._handle is not None

    def mean_power(self, run: Callable[[], object], seconds: float) -> float:
        """Watts while `run`, which must wait for the GPU, is repeated for so long."""
        samples, stop = [], threading.Event()

        def sample() -> None:
            while not stop.wait(1 / SAMPLES_PER_SECOND):
                samples.append(self._nvml.nvmlDeviceGetPowerUsage(self._handle) / 1000)

        sampler = threading.Thread(target=sample, daemon=True)
        sampler.start()
        start = time.perf_counter()
        while time.perf_counter() - start < seconds:
            run()
        stop.set()
        sampler.join()
        return sum(samples) / len(samples) if samples else float("nan")
