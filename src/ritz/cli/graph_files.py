"""What the jobs on graph files share: their arguments, and how results of nodes are written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    import numpy as np
    import scipy.sparse

GRAPH = typer.Argument(help="An edge list ('source target [weight]' a line), or a .mtx, .mat, .npz or .gml file; any may be gzipped.")
KEY = typer.Option(None, help="The adjacency matrix's name in a .mat file.")
SEED = typer.Option(0, min=0, help="Seed of all random choices.")
JSON = typer.Option(False, "--json", help="Print the summary as JSON.")


def count_edges(matrix: scipy.sparse.csr_array, *, directed: bool) -> int:
    """The number of edges, each undirected one counted once."""
    return int(matrix.nnz if directed else (matrix.nnz + (matrix.diagonal() != 0).sum()) // 2)


def write_node_rows(out: Path, values: np.ndarray, nodes: np.ndarray, name: str) -> None:
    """Write a matrix (n, columns) whose rows belong to nodes: ``.npy`` (labels in a .nodes.txt beside it), ``.npz`` (labels inside) or ``.csv``."""
    import numpy as np

    from ritz.core import atomic_path, write_text

    with atomic_path(out) as path:
        if out.suffix == ".npy":
            np.save(path, values)
        elif out.suffix == ".npz":
            np.savez(path, **{name: values, "nodes": plain_labels(nodes)})
        else:
            columns = ",".join(f"{name[0]}{i}" for i in range(values.shape[1]))
            rows = (f"{node},{','.join(f'{value:.7g}' for value in row)}" for node, row in zip(nodes, values))
            path.write_text("\n".join([f"node,{columns}", *rows]) + "\n", encoding="utf-8")
    if out.suffix == ".npy":
        write_text(out.with_suffix(".nodes.txt"), "".join(f"{node}\n" for node in nodes))


def write_node_pairs(out: Path, values: np.ndarray, nodes: np.ndarray, name: str) -> None:
    """Write a matrix (n, n) whose rows and columns belong to nodes, in the forms of `write_node_rows`; ``.npy`` and ``.npz`` also a stack (k, n, n).

    A ``.csv`` has the labels in its first line and first column, quoted where needed.
    """
    import csv

    import numpy as np

    from ritz.core import atomic_path, write_text

    with atomic_path(out) as path:
        if out.suffix == ".npy":
            np.save(path, values)
        elif out.suffix == ".npz":
            np.savez(path, **{name: values, "nodes": plain_labels(nodes)})
        else:
            with path.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(["node", *nodes])
                writer.writerows([node, *(f"{value:.17g}" for value in row)] for node, row in zip(nodes, values))
    if out.suffix == ".npy":
        write_text(out.with_suffix(".nodes.txt"), "".join(f"{node}\n" for node in nodes))


def plain_labels(nodes: np.ndarray) -> np.ndarray:
    """Return labels as numbers or text: objects, such as the labels of a GML file, would be pickled."""
    return nodes.astype(str) if nodes.dtype == object else nodes


def write_node_labels(out: Path, labels: np.ndarray, nodes: np.ndarray) -> None:
    """Write one label for each node: ``.npy`` (the nodes in a .nodes.txt beside it), or ``.csv`` with a line of names."""
    import numpy as np

    from ritz.core import atomic_path, write_text

    if out.suffix == ".npy":
        with atomic_path(out) as path:
            np.save(path, labels)
        write_text(out.with_suffix(".nodes.txt"), "".join(f"{node}\n" for node in nodes))
    else:
        write_text(out, "node,label\n" + "".join(f"{node},{label}\n" for node, label in zip(nodes, labels)))


def read_attributes(path: Path, nodes: np.ndarray) -> np.ndarray:
    """Read the categories (n, attributes) of a graph's nodes as integers, words numbered column by column.

    Parameters
    ----------
    path : Path
        ``.npy``, a row for each node in the graph's order; or text, a line for each node, separated by commas or blanks. Text whose first line
        begins with ``node`` names the columns there, and each line begins with the node that it belongs to.
    nodes : ndarray (n,)
        The graph's nodes.

    Raises
    ------
    ValueError, FileNotFoundError
        If there is no such file, a line has another number of words than the first, a node is missing, unknown or named twice.
    """
    import numpy as np

    from ritz.core import existing_file

    path = existing_file(path, "attributes")
    if path.suffix == ".npy":
        try:
            held = np.load(path, allow_pickle=False)
        except ValueError as error:
            raise ValueError(f"attributes: '{path}' is no .npy file of numbers: {error}") from error
        return held.reshape(len(held), -1) if held.ndim else held
    table = _word_table(path)
    if table and table[0][0].lower() == "node":
        table = _in_order_of(nodes, table[1:], path)
    if len(table) != len(nodes) or not table[0]:
        raise ValueError(f"attributes: '{path}' must have a line of categories for each of the {len(nodes)} nodes, got {len(table)}")
    return np.stack([np.unique(column, return_inverse=True)[1] for column in zip(*table)], axis=1)


def _word_table(path: Path) -> list[list[str]]:
    """The words of each line that is not empty, as many in each."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise ValueError(f"attributes: '{path}' is no text file: {error}") from error
    table = []
    for number, line in enumerate(lines, start=1):
        if line:
            words = [word.strip() for word in line.split(",")] if "," in line else line.split()
            if table and len(words) != len(table[0]):
                raise ValueError(f"attributes: '{path}', line {number}: must have {len(table[0])} words as the first, got {len(words)}")
            table.append(words)
    return table


def _in_order_of(nodes: np.ndarray, table: list[list[str]], path: Path) -> list[list[str]]:
    rows = {words[0]: words[1:] for words in table}
    wanted = [str(node) for node in nodes]
    missing, unknown = set(wanted) - set(rows), set(rows) - set(wanted)
    if missing or unknown or len(rows) < len(table):
        wrong = f"no line for node {min(missing)}" if missing else f"a line for {min(unknown)}" if unknown else "two lines for one node"
        raise ValueError(f"attributes: '{path}' must have one line for each node of the graph, got {wrong}")
    return [rows[node] for node in wanted]
