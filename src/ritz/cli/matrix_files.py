"""Matrices in files, in and out: Matrix Market, NumPy, SciPy sparse, comma-separated text, JSON; .mtx and .csv also gzipped."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import scipy.io
import scipy.sparse

from ritz.core import atomic_path, existing_file, write_json


def read_matrix(path: Path, name: str = "matrix") -> np.ndarray | scipy.sparse.csr_array:
    """Read a matrix, or a vector, by the ending of its file.

    Parameters
    ----------
    path : Path
        ``.mtx`` or ``.mtx.gz``: Matrix Market. ``.npz``: a matrix of `scipy.sparse.save_npz`, or the only array of `numpy.savez`. ``.npy``.
        ``.csv`` or ``.csv.gz``: numbers separated by commas, a first line of names skipped. ``.json``: a list, or a list of lists, of numbers.
    name : str
        What the file is, for messages.

    Returns
    -------
    numpy.ndarray or scipy.sparse.csr_array

    Raises
    ------
    ValueError, FileNotFoundError
        If there is no such file, its ending is another or its contents are no matrix of numbers.
    """
    path = existing_file(path, name)
    ending = _ending(path)
    if ending not in _READERS:
        raise ValueError(f"{name}: '{path}' must end in one of {', '.join(_READERS)} (.mtx and .csv may end in .gz)")
    try:
        matrix = _READERS[ending](path)
    except (ValueError, OverflowError, KeyError, EOFError, UnicodeDecodeError, zipfile.BadZipFile, gzip.BadGzipFile) as error:
        raise ValueError(f"{name}: '{path}' is no {ending} file of a matrix: {error}") from error
    if matrix.dtype.kind not in "biufc":
        raise ValueError(f"{name}: '{path}' must hold numbers, got dtype {matrix.dtype}")
    return matrix


def read_vector(path: Path, name: str = "vector") -> np.ndarray:
    """Read a dense vector (n,), or right-hand sides (n, k), by the ending of its file; a matrix of one column counts as a vector."""
    matrix = read_matrix(path, name)
    matrix = matrix.toarray() if scipy.sparse.issparse(matrix) else matrix
    return matrix[:, 0] if matrix.ndim == 2 and matrix.shape[1] == 1 else matrix


def check_ending(path: Path, *endings: str) -> Path:
    """Return the path of an output if it ends in one of `endings`; a job asks before it computes."""
    if path.suffix.lower() not in endings:
        raise ValueError(f"out must end in {' or '.join(endings)}, got '{path}'")
    return path


def write_matrix(path: Path, matrix) -> None:
    """Write one matrix or vector by the ending, whole or not at all: ``.mtx``, ``.npz`` (sparse), ``.npy`` or ``.csv`` (dense)."""
    ending = path.suffix.lower()
    dense = ending in (".npy", ".csv") and scipy.sparse.issparse(matrix)
    matrix = matrix.toarray() if dense else matrix
    with atomic_path(path) as temporary:
        if ending == ".mtx":
            scipy.io.mmwrite(temporary, matrix if scipy.sparse.issparse(matrix) else np.atleast_2d(np.asarray(matrix).T).T)
        elif ending == ".npz":
            scipy.sparse.save_npz(temporary, scipy.sparse.csr_array(matrix))
        elif ending == ".npy":
            np.save(temporary, matrix)
        else:
            np.savetxt(temporary, matrix, delimiter=",", fmt="%.17g")


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays, whole or not at all: ``.npz``, or ``.json`` as nested lists."""
    if path.suffix.lower() == ".json":
        if any(np.iscomplexobj(array) for array in arrays.values()):
            raise ValueError(f"out must end in .npz for complex numbers, got '{path}'")
        write_json(path, {name: np.asarray(array).tolist() for name, array in arrays.items()})
        return
    with atomic_path(path) as temporary:
        np.savez(temporary, **arrays)


def _read_matrix_market(path: Path):
    with _opened(path) as file:
        matrix = scipy.io.mmread(file, spmatrix=False)
    return scipy.sparse.csr_array(matrix) if scipy.sparse.issparse(matrix) else matrix


def _read_npz(path: Path):
    with np.load(path, allow_pickle=False) as file:
        if "format" not in file.files:
            if len(file.files) != 1:
                raise ValueError(f"it holds {len(file.files)} arrays ({', '.join(file.files[:5])})")
            return file[file.files[0]]
    return scipy.sparse.csr_array(scipy.sparse.load_npz(path))


def _read_npy(path: Path):
    return np.load(path, allow_pickle=False)


def _read_csv(path: Path):
    with _opened(path) as file:
        first = file.readline().decode("utf-8")
        skipped = 0 if _is_numbers(first) else 1
        if skipped and not file.read(1):
            raise ValueError("it holds no number")
    with _opened(path) as file:
        return np.loadtxt(file, delimiter=",", ndmin=2, skiprows=skipped, comments=None)


def _read_json(path: Path):
    matrix = np.asarray(json.loads(path.read_text(encoding="utf-8")))
    if matrix.ndim not in (1, 2):
        raise ValueError("it must hold a list of numbers, or a list of lists of equal lengths")
    return matrix


def _is_numbers(line: str) -> bool:
    try:
        [float(word) for word in line.split(",")]
    except ValueError:
        return False
    return True


def _opened(path: Path):
    return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb")


def _ending(path: Path) -> str:
    gzipped = path.suffix.lower() == ".gz"
    ending = (path.with_suffix("") if gzipped else path).suffix.lower()
    return ending if not gzipped or ending in (".mtx", ".csv") else ending + ".gz"


_READERS = {".mtx": _read_matrix_market, ".npz": _read_npz, ".npy": _read_npy, ".csv": _read_csv, ".json": _read_json}
