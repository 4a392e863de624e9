"""Files that are whole: written to a temporary name beside the target and renamed, so that an interruption leaves the old file or the new one."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(target: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path in the target's folder; rename it to `target` on success, delete it on any error.

    The temporary name ends as the target does, since many writers choose the format by the suffix.

    Examples
    --------
    >>> folder = tempfile.mkdtemp()
    >>> with atomic_path(Path(folder) / "a.txt") as path:
    ...     _ = path.write_text("whole")
    >>> (Path(folder) / "a.txt").read_text()
    'whole'
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    suffix = "".join(target.suffixes)
    handle, name = tempfile.mkstemp(prefix=f".{target.name.removesuffix(suffix)}-", suffix=suffix, dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(target: str | os.PathLike, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with atomic_path(target) as path:
        path.write_text(text, encoding="utf-8")


def write_json(target: str | os.PathLike, value: object) -> None:
    """Write `value` as indented strict JSON (no NaN), whole or not at all."""
    write_text(target, json.dumps(value, indent=1, allow_nan=False) + "\n")


def existing_file(path: str | os.PathLike, name: str = "path") -> Path:
    """Return `path` as a Path if it is a readable file, or say what is wrong with it."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{name}: there is no file '{path}'")
    if not path.is_file():
        raise ValueError(f"{name}: '{path}' is not a file")
    return path


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
