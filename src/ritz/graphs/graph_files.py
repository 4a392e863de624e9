"""Graphs from files: edge lists, Matrix Market, MATLAB, SciPy sparse and GML files, plain or gzipped."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import scipy.io
import scipy.sparse

from ritz.core import existing_file, flag, optional_import
from ritz.graphs.adjacency import Adjacency, as_adjacency, symmetrized

COMMENTS = ("#", "%", "//")


def read_graph(path: str | os.PathLike, *, directed: bool = False, key: str | None = None) -> Adjacency:
    """Read a graph from a file.

    Parameters
    ----------
    path : path
        By its ending: ``.mtx`` Matrix Market, ``.mat`` MATLAB, ``.npz`` of `scipy.sparse.save_npz`, ``.gml``; any other is an edge list, one
        ``source target [weight]`` a line, separated by blanks or commas, with labels that are integers or words, ``#``, ``%`` and ``//`` opening
        comments. A further ending ``.gz`` means gzip.
    directed : bool
        False (the default) joins both directions of an edge with the larger of their weights; True keeps edges as they stand.
    key : str, optional
        The name of the matrix in a ``.mat`` file; not needed where only one is square.

    Returns
    -------
    Adjacency
        Nodes of an edge list are sorted by label (integers by value), others as the file has them. Parallel edges are summed.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it does not hold a graph; for an edge list the message names the line.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "edges.txt"
    >>> _ = file.write_text("# a path\\n10 20\\n20 30\\n")
    >>> read_graph(file).nodes
    array([10, 20, 30])
    """
    path = existing_file(path)
    flag(directed, "directed")
    matrix, nodes = _READERS.get(_ending(path), _read_edge_list)(path, key)
    graph = as_adjacency(Adjacency(scipy.sparse.csr_array(matrix), nodes), name=path.name)
    return graph if directed else Adjacency(symmetrized(graph.matrix), graph.nodes)


def read_labels(path: str | os.PathLike, *, key: str = "group") -> np.ndarray:
    """Read node labels: a matrix (n, labels) of zeros and ones or a vector (n,) of classes from a ``.mat`` or ``.npy`` file.

    Raises
    ------
    ValueError
        If a ``.mat`` file has no matrix of that name.
    """
    path = existing_file(path)
    if _ending(path) != ".mat":
        return np.load(path, allow_pickle=False)
    labels = _mat_matrix(path, key)
    labels = labels.toarray() if scipy.sparse.issparse(labels) else np.asarray(labels)
    return labels.ravel() if 1 in labels.shape else labels


def _read_matrix_market(path: Path, _key: str | None):
    try:
        with _opened(path) as file:
            matrix = scipy.io.mmread(file)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"'{path}' is no Matrix Market file: {error}") from error
    return _square(matrix, path)


def _read_mat(path: Path, key: str | None):
    return _square(_mat_matrix(path, key), path)


def _read_npz(path: Path, _key: str | None):
    try:
        return _square(scipy.sparse.load_npz(path), path)
    except (KeyError, ValueError) as error:
        raise ValueError(f"'{path}' is no file of scipy.sparse.save_npz: {error}") from error


def _read_gml(path: Path, _key: str | None):
    networkx = optional_import("networkx", extra="graphs")
    try:
        with _opened(path) as file:
            graph = as_adjacency(networkx.read_gml(file), name=path.name)
    except (networkx.NetworkXError, UnicodeDecodeError) as error:
        raise ValueError(f"'{path}' is no GML file: {error}") from error
    return graph.matrix, graph.nodes


def _read_edge_list(path: Path, _key: str | None):
    first = _first_edge(path)
    if not first:
        raise ValueError(f"'{path}' holds no edge")
    separator = "," if "," in first else None
    try:
        with _opened(path, text=True) as file:
            table = np.loadtxt(file, comments=COMMENTS, delimiter=separator, ndmin=2, dtype=np.float64)
    except ValueError:
        table = None  # words as labels, or a line that does not parse: the careful reader tells which
    if table is not None and _is_plain(table):
        sources, targets = table[:, 0].astype(np.int64), table[:, 1].astype(np.int64)
        weights = table[:, 2] if table.shape[1] == 3 else np.ones(len(table))
    else:
        sources, targets, weights = _read_lines(path, separator)
    nodes, positions = np.unique(np.concatenate([sources, targets]), return_inverse=True)
    row, column = positions.reshape(2, -1)
    return scipy.sparse.coo_array((weights, (row, column)), shape=(len(nodes), len(nodes))), nodes


def _is_plain(table: np.ndarray) -> bool:
    """True for integer labels and, where there is a third column, weights that are finite and not negative."""
    is_edge_list = table.shape[1] in (2, 3) and np.array_equal(table[:, :2], np.round(table[:, :2]))
    return is_edge_list and bool(np.all(np.isfinite(table[:, 2:]) & (table[:, 2:] >= 0)))


def _read_lines(path: Path, separator: str | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    edges = [_parse_edge(fields, f"'{path}', line {number}") for number, fields in _fields(path, separator)]
    sources, targets, weights = zip(*edges)
    labels = [_as_integers(side) for side in (sources, targets)]
    if any(side is None for side in labels):
        labels = [np.array(side) for side in (sources, targets)]
    return labels[0], labels[1], np.array(weights)


def _parse_edge(fields: list[str], where: str) -> tuple[str, str, float]:
    if len(fields) not in (2, 3):
        raise ValueError(f"{where}: expected 'source target [weight]', got {len(fields)} field(s)")
    try:
        weight = float(fields[2]) if len(fields) == 3 else 1.0
    except ValueError:
        raise ValueError(f"{where}: the weight must be a number, got '{fields[2]}'") from None
    if not np.isfinite(weight) or weight < 0:
        raise ValueError(f"{where}: the weight must be finite and not negative, got {fields[2]}")
    return fields[0], fields[1], weight


def _as_integers(words: tuple[str, ...]) -> np.ndarray | None:
    try:
        return np.array([int(word) for word in words])
    except ValueError:
        return None


def _fields(path: Path, separator: str | None) -> Iterator[tuple[int, list[str]]]:
    with _opened(path, text=True) as file:
        for number, line in enumerate(file, start=1):
            line = line.strip()
            if line and not line.startswith(COMMENTS):
                yield number, [field.strip() for field in line.split(separator)]


def _first_edge(path: Path) -> str:
    """The first line that is no comment, empty if there is none."""
    try:
        with _opened(path, text=True) as file:
            return next((line for line in file if line.strip() and not line.startswith(COMMENTS)), "")
    except (UnicodeDecodeError, gzip.BadGzipFile) as error:
        raise ValueError(f"'{path}' is no text file: {error}") from error


def _mat_matrix(path: Path, key: str | None):
    try:
        held = {name: value for name, value in scipy.io.loadmat(path).items() if not name.startswith("__")}
    except (ValueError, NotImplementedError) as error:  # SciPy reads no MATLAB 7.3 files
        raise ValueError(f"'{path}' is no MATLAB file that SciPy can read: {error}") from error
    if key is not None:
        if key not in held:
            raise ValueError(f"key: '{path}' has no matrix '{key}'; it has {', '.join(sorted(held))}")
        return held[key]
    square = [name for name, value in held.items() if getattr(value, "ndim", 0) == 2 and value.shape[0] == value.shape[1] > 1]
    if len(square) != 1:
        raise ValueError(f"'{path}' has {len(square)} square matrices ({', '.join(sorted(held))}); name one with key")
    return held[square[0]]


def _square(matrix, path: Path):
    if len(matrix.shape) != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"'{path}' holds a matrix of shape {matrix.shape}; an adjacency matrix is square")
    return matrix, np.arange(matrix.shape[0])


def _opened(path: Path, *, text: bool = False):
    mode = "rt" if text else "rb"
    encoding = "utf-8" if text else None
    return gzip.open(path, mode, encoding=encoding) if path.suffix == ".gz" else open(path, mode, encoding=encoding)


def _ending(path: Path) -> str:
    return (path.with_suffix("") if path.suffix == ".gz" else path).suffix.lower()


_READERS = {".mtx": _read_matrix_market, ".mat": _read_mat, ".npz": _read_npz, ".gml": _read_gml}
