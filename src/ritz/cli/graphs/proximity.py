"""`ritz graphs proximity`: the matrix of proximities, or distances, of the nodes of a graph file."""

from __future__ import annotations

import time
from pathlib import Path

import typer

from ritz.cli.graph_files import GRAPH, JSON, KEY, count_edges, write_node_pairs
from ritz.cli.output import print_summary


def proximity(
    graph: Path = GRAPH,
    out: Path = typer.Option(..., "--out", "-o", help="Where the matrix goes: .npy (with a .nodes.txt beside it), .npz or .csv."),
    kind: str = typer.Option(
        "communicability", help="walk, forest, communicability, heat, normalized_heat, ppr, modified_ppr, heat_ppr or commute (which has no t)."
    ),
    t: str = typer.Option(None, help="The parameter, in (0, 1) on the unit scale; several, comma-separated, give as many matrices (.npy, .npz)."),
    scale: str = typer.Option("unit", help="unit or raw: the parameter as it stands in the formula."),
    log: bool = typer.Option(False, "--log", help="Take the logarithm of the proximities; the graph must be connected."),
    distance: bool = typer.Option(False, "--distance", help="Write distances d_ij = (k_ii + k_jj - k_ij - k_ji) / 2."),
    sqrt: bool = typer.Option(False, "--sqrt", help="With --distance: their square roots, in use for communicability."),
    key: str = KEY,
    json: bool = JSON,
) -> None:
    """Compute how near the nodes of an undirected graph are to each other."""
    from ritz.cli.matrix_files import check_ending
    from ritz.graphs import proximity as proximities
    from ritz.graphs import proximity_distance, read_graph

    check_ending(out, ".npy", ".npz", ".csv")
    times = _times(t)
    if sqrt and not distance:
        raise ValueError("sqrt needs distance: proximities have no square root here")
    if out.suffix == ".csv" and isinstance(times, list):
        raise ValueError(f"out must end in .npy or .npz for several t, got '{out}'")
    adjacency = read_graph(graph, key=key)
    start = time.perf_counter()
    matrix = proximities(adjacency, kind, times, log=log, scale=scale)
    if distance:
        matrix = _each(matrix, lambda K: proximity_distance(K, sqrt=sqrt))
    summary = {
        "nodes": adjacency.n,
        "edges": count_edges(adjacency.matrix, directed=False),
        "kind": kind,
        "t": times,
        "log": log,
        "holds": ("roots of distances" if sqrt else "distances") if distance else "proximities",
        "seconds": round(time.perf_counter() - start, 3),
        "out": str(out),
    }
    write_node_pairs(out, matrix, adjacency.nodes, "distance" if distance else "proximity")
    print_summary(summary, json)


def _times(text: str | None) -> float | list[float] | None:
    """One number, several, or None for a kind without a parameter."""
    try:
        numbers = [float(word) for word in text.split(",")] if text is not None else [None]
    except ValueError:
        raise ValueError(f"t must be a number, or several separated by commas, got '{text}'") from None
    return numbers[0] if len(numbers) == 1 else numbers


def _each(matrices, function):
    """Apply a function of a matrix to one or to each of a stack."""
    import numpy as np

    return function(matrices) if matrices.ndim == 2 else np.stack([function(K) for K in matrices])
