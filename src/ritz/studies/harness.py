"""Running studies: one here, or several one after another or side by side, each to a valid report whatever happens to the others."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ritz.core import choice, integer
from ritz.studies.data import MissingData
from ritz.studies.registry import find_study
from ritz.studies.run import SCALES, SCHEMA, Run, Scale


@dataclass(frozen=True)
class Options:
    """How studies are run: scale, device, first seed, the folder of the reports, and how many run side by side."""

    scale: Scale = "default"
    device: str = "cpu"
    seed: int = 0
    folder: Path = Path("runs")
    jobs: int = 1

    def __post_init__(self) -> None:
        choice(self.scale, "scale", SCALES)
        integer(self.seed, "seed", at_least=0)
        integer(self.jobs, "jobs", at_least=1)
        if self.device != "cpu":
            _check_device(self.device)


def execute(slug: str, options: Options | None = None, show: Callable = lambda _: None) -> dict:
    """Run one study in this process and return its report.

    An error inside the study ends in a report with status "failed" and the traceback; Ctrl-C in one with status "interrupted", and is raised again.
    """
    found = find_study(slug)
    options = options or Options()
    run = Run(slug, options.folder / slug, scale=options.scale, device=options.device, seed=options.seed, show=show)
    run.report |= {"description": found.description, "environment": environment()}
    run.write()
    try:
        found.measure(run)
    except MissingData as missing:
        return run.finish("skipped", str(missing))
    except KeyboardInterrupt:
        run.finish("interrupted")
        raise
    except Exception as error:
        if _comes_of_an_interruption(error):
            run.finish("interrupted")
            raise KeyboardInterrupt from error
        return run.finish("failed", traceback.format_exc())
    return run.finish("finished")


def _comes_of_an_interruption(error: BaseException | None) -> bool:
    """Whether an error was raised while Ctrl-C was handled: compilers and importers make errors of their own of it."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


def execute_many(slugs: list[str], options: Options, show: Callable = lambda _: None, watch: Callable = lambda _: None) -> Iterator[dict]:
    """Run several studies and yield each report as it is done; `options.jobs` of them at a time, in processes of their own when more than one.

    Parameters
    ----------
    slugs : list of str
        The studies.
    options : Options
        How to run them.
    show : callable
        Called with (part, entry) as a study in this process reports.
    watch : callable
        Called a few times a second with the state of the studies that run side by side: ``{slug: progress or None}``.
    """
    for slug in slugs:
        find_study(slug)
    if options.jobs == 1:
        for slug in slugs:
            yield execute(slug, options, show)
    else:
        yield from _side_by_side(slugs, options, watch)


def read_report(folder: Path, slug: str) -> dict | None:
    """Return the report of a study, or None if it was never run.

    Raises
    ------
    ValueError
        If the file is no report, or one of another version of ritz.
    """
    path = folder / slug / "report.json"
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"'{path}' is no report of a study: {error}") from error
    if not isinstance(report, dict) or report.get("schema") != SCHEMA:
        raise ValueError(f"'{path}' is no report of this version of ritz; run `ritz study {slug}` again")
    return report


def environment() -> dict[str, object]:
    """Describe what the numbers were measured on."""
    import torch

    from ritz import __version__

    versions = {name: sys.modules[name].__version__ for name in ("numpy", "scipy", "numba", "sklearn") if name in sys.modules}
    return {
        "ritz": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        **versions,
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _side_by_side(slugs: list[str], options: Options, watch: Callable) -> Iterator[dict]:
    waiting, running = list(slugs), {}
    try:
        while waiting or running:
            while waiting and len(running) < options.jobs:
                slug = waiting.pop(0)
                running[slug] = _start(slug, options)
            for slug in [slug for slug, process in running.items() if process.poll() is not None]:
                yield _collect(slug, running.pop(slug), options)
            watch({slug: _progress(options.folder / slug) for slug in running})
            time.sleep(0.2)
    finally:
        for process in running.values():
            process.send_signal(signal.SIGINT)
        for slug, process in running.items():
            _interrupted(slug, process, options)


def _start(slug: str, options: Options) -> subprocess.Popen:
    folder = options.folder / slug
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").unlink(missing_ok=True)
    threads = str(max(1, (os.cpu_count() or 1) // options.jobs))
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    command = [sys.executable, "-m", "ritz", "study", slug, "--scale", options.scale, "--device", options.device]
    command += ["--seed", str(options.seed), "--runs", str(options.folder)]
    with open(folder / "log.txt", "w", encoding="utf-8") as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=os.environ | dict.fromkeys(names, threads))


def _collect(slug: str, process: subprocess.Popen, options: Options) -> dict:
    """Return the report a study's process left; a process that died without one gets a report that says so."""
    report = read_report(options.folder, slug)
    if report is not None and report["status"] != "running":
        return report
    folder = options.folder / slug
    run = Run(slug, folder, scale=options.scale, device=options.device, seed=options.seed) if report is None else Run.reopened(report, folder)
    tail = (folder / "log.txt").read_text(encoding="utf-8", errors="replace")[-4000:]
    return run.finish("failed", f"the process ended with code {process.returncode}\n{tail}")


def _interrupted(slug: str, process: subprocess.Popen, options: Options, *, patience: float = 30.0) -> None:
    """Wait for a study's process to end, kill it if it does not, and close the report that it left open."""
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    report = read_report(options.folder, slug)
    if report is not None and report["status"] == "running":
        Run.reopened(report, options.folder / slug).finish("interrupted")


def _progress(folder: Path) -> dict | None:
    try:
        return json.loads((folder / "progress.json").read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def _check_device(device: str) -> None:
    import torch

    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device '{device}' cannot be used: {str(error).splitlines()[0]}") from error


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())
