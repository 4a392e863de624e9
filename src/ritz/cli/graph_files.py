"""What the jobs on graph files share: their arguments, how results of nodes are written, and the summary they end with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ritz.cli.output import print_json

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


def print_summary(summary: dict, json: bool) -> None:
    """Print what a job did, as JSON or a line for each entry."""
    if json:
        print_json(summary)
    else:
        print("\n".join(f"{name.replace('_', ' ')}: {value}" for name, value in summary.items()))


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
