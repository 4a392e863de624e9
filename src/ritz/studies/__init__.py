"""Evidence: one study per method, and the harness that runs them.

A study is a function of a `Run`, in `ritz/studies/<room>/<slug>.py`. It measures the method and its baselines, shows tables and figures,
and ends in claims. `ritz study <slug>` runs it; the report lands in `runs/<slug>/report.json`.
"""

from typing import TYPE_CHECKING

from ritz.core.lazy import lazy_exports

if TYPE_CHECKING:
    from ritz.studies.harness import Options as Options
    from ritz.studies.harness import execute as execute
    from ritz.studies.registry import Study as Study
    from ritz.studies.registry import find_study as find_study
    from ritz.studies.registry import study as study
    from ritz.studies.run import Run as Run
    from ritz.studies.timing import Comparison as Comparison
    from ritz.studies.timing import benchmark as benchmark
    from ritz.studies.timing import compare as compare
    from ritz.studies.timing import within as within

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
