"""Data for studies: real data that comes with Python and scikit-learn, generators, and real files where they have been put.

Real files are found through the environment variable RITZ_DATA (default: `../shared/data` beside the working folder).
"""

import os
from pathlib import Path


class MissingData(FileNotFoundError):
    """A real data file is not on this machine; the study or test that wants it is skipped."""


def real_file(relative: str) -> Path:
    """Return the path of a real data file, e.g. ``real_file("blogcatalog/blogcatalog.mat")``.

    Raises
    ------
    MissingData
        If it is not there; the message says where it was looked for.
    """
    path = Path(os.environ.get("RITZ_DATA", "../shared/data")) / relative
    if not path.exists():
        raise MissingData(f"real data '{relative}' is not at '{path}' (set RITZ_DATA to the folder that holds it)")
    return path
