"""One run of a study: what the study function is given, and what it leaves behind.

Everything a study shows goes into `report.json` at once, so that a run that is interrupted or fails leaves a valid report of how far it came.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np

from ritz.core import atomic_path, choice, progress, write_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Scale = Literal["smoke", "default", "full"]
SCHEMA = 1  # of report.json; counts up when a reader of the old form would misread the new
SCALES: tuple[Scale, ...] = ("smoke", "default", "full")
Value = TypeVar("Value")


class Run:
    """A running study: measures at one scale and seed, on one device, and reports tables, figures and claims.

    Parameters
    ----------
    slug : str
        The study's name.
    folder : path
        Where its report and figures go.
    scale : {"smoke", "default", "full"}
        Seconds, minutes, or one GPU.
    device : str
        Where networks run, e.g. "cpu" or "cuda".
    seed : int
        The first seed; `seeds` counts up from it.
    show : callable
        What is called with each line or table to be seen; silent by default.
    """

    def __init__(self, slug: str, folder: Path, *, scale: Scale = "default", device: str = "cpu", seed: int = 0, show: Callable = lambda _: None):
        self.slug = slug
        self.folder = Path(folder)
        self.scale = choice(scale, "scale", SCALES)
        self.device = device
        self.seed = seed
        self._show = show
        self._started = time.time()
        self.report: dict = {
            "schema": SCHEMA,
            "slug": slug,
            "scale": scale,
            "device": device,
            "seed": seed,
            "status": "running",
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._started)),
            "seconds": 0.0,
            "tables": [],
            "figures": [],
            "claims": [],
            "notes": [],
        }

    @classmethod
    def reopened(cls, report: dict, folder: Path) -> Run:
        """Return the run that left `report` in `folder`, to be closed by somebody else."""
        run = cls(report["slug"], folder, scale=report["scale"], device=report["device"], seed=report["seed"])
        run.report = report
        run._started -= report["seconds"]
        return run

    def pick(self, *, smoke: Value, default: Value, full: Value | None = None) -> Value:
        """Return the value for this run's scale (`full` falls back to `default`)."""
        return {"smoke": smoke, "default": default, "full": default if full is None else full}[self.scale]

    def seeds(self, count: int) -> list[int]:
        """Return `count` seeds, fixed before anything was looked at: the run's first seed and those after it (one at smoke scale)."""
        return [self.seed + i for i in range(1 if self.scale == "smoke" else count)]

    def progress(self, items: Iterable[Value], description: str, *, total: int | None = None) -> Iterator[Value]:
        """Iterate behind a progress bar, and leave the state where another process can show it."""
        items = items if hasattr(items, "__len__") or total is not None else list(items)
        total = total or len(items)
        for done, item in enumerate(progress(items, f"{self.slug}: {description}", total=total)):
            self._leave_progress(description, done, total)
            yield item
        self._leave_progress(description, total, total)

    def table(self, title: str, rows: Sequence[Mapping[str, object]], *, note: str | None = None) -> None:
        """Report measured rows: mappings from column to number, string, bool or None (None where there is nothing to measure).

        Raises
        ------
        ValueError
            If a number is NaN or infinite: a study must notice that itself.
        """
        columns = list(dict.fromkeys(column for row in rows for column in row))
        plain = [[self._plain(row.get(column), f"table '{title}', column '{column}'") for column in columns] for row in rows]
        self._add("tables", {"title": title, "columns": columns, "rows": plain, "note": note})

    def figure(self, name: str, draw: Callable[[Axes], None], *, caption: str | None = None, size: tuple[float, float] = (6.4, 4.0)) -> None:
        """Draw a figure: `draw` gets a matplotlib Axes; the PNG lands beside the report."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure.subplots())
        file = f"{name}.png"
        with atomic_path(self.folder / file) as path:
            figure.savefig(path, dpi=150)
        self._add("figures", {"name": name, "file": file, "caption": caption or name})

    def claim(self, text: str, *, measured: float, holds: bool, baseline: str | None = None, paper: str | None = None) -> None:
        """Report a claim: the sentence with its threshold, the baseline, what was measured, whether it holds, and what the paper says.

        At smoke scale the number is checked to be finite and the verdict is left open.
        """
        verdict = None if self.scale == "smoke" else bool(holds)
        figure = self._plain(measured, f"claim '{text}'")
        self._add("claims", {"claim": text, "baseline": baseline, "measured": figure, "holds": verdict, "paper": paper})

    def note(self, text: str) -> None:
        """Report a sentence that a reader of the numbers should know."""
        self._add("notes", text)

    def cached(self, name: str, build: Callable[[Path], None]) -> Path:
        """Return the path of a file that studies share, built once: `build(path)` writes it (a trained checkpoint, say).

        The name must tell all that the content depends on: scale, seed and version of the recipe.
        """
        target = self.folder.parent / "cache" / name
        if not target.exists():
            with atomic_path(target) as path:
                build(path)
        return target

    def finish(self, status: Literal["finished", "failed", "interrupted", "skipped"], error: str | None = None) -> dict:
        """Close the report with a status and return it."""
        self.report |= {"status": status, "error": error}
        self.write()
        self._progress_file.unlink(missing_ok=True)
        return self.report

    def write(self) -> None:
        """Write the report as it stands."""
        self.report["seconds"] = round(time.time() - self._started, 2)
        write_json(self.folder / "report.json", self.report)

    def _add(self, part: str, entry: object) -> None:
        self.report[part].append(entry)
        self.write()
        self._show((part, entry))

    @property
    def _progress_file(self) -> Path:
        return self.folder / "progress.json"

    def _leave_progress(self, description: str, done: int, total: int) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._progress_file.write_text(json.dumps({"description": description, "done": done, "total": total}))

    def _plain(self, value: object, where: str) -> object:
        if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
            value = value.item()
        if value is None or isinstance(value, bool | str | int):
            return value
        if isinstance(value, float | np.floating):
            if not math.isfinite(value):
                raise ValueError(f"study '{self.slug}', {where}: the measured value is {value}")
            return float(value)
        raise TypeError(f"study '{self.slug}', {where}: a number, a string, a bool or None is expected, got {type(value).__name__}")
