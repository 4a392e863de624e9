"""`ritz graphs sample`: a small directed graph with the degrees of a large one."""

from __future__ import annotations

import time
from pathlib import Path

import typer

from ritz.cli.graph_files import GRAPH, JSON, KEY, SEED
from ritz.cli.output import print_summary


def sample(
    graph: Path = GRAPH,
    out: Path = typer.Option(..., "--out", "-o", help="Where the sampled edges go: 'source target' a line (.txt or .tsv)."),
    ratio: float = typer.Option(..., help="The share of nodes and edges to keep, above 0, at most 1."),
    rounding: str = typer.Option("nearest", help="nearest (the paper's) or stochastic (better where most classes of degrees have one member)."),
    loops: bool = typer.Option(False, "--loops", help="Allow edges from a node to itself."),
    complete: bool = typer.Option(False, help="Match what is left free at random, whatever the joint degrees."),
    report: Path = typer.Option(None, help="Write the summary to this .json file, too."),
    key: str = KEY,
    seed: int = SEED,
    json: bool = JSON,
) -> None:
    """Sample a directed graph that keeps the distributions of degrees and of pairs of degrees; loops of the input are left out."""
    from ritz.cli.matrix_files import check_ending
    from ritz.core import write_json, write_text
    from ritz.graphs import degree_distance, read_graph, sample_directed_graph

    check_ending(out, ".txt", ".tsv")
    if report is not None and report.suffix != ".json":
        raise ValueError(f"report must end in .json, got '{report}'")
    original = read_graph(graph, directed=True, key=key).matrix
    start = time.perf_counter()
    sampled = sample_directed_graph(original, ratio, rounding=rounding, simple=not loops, complete=complete, rng=seed)
    seconds = time.perf_counter() - start
    write_text(out, "".join(f"{source}\t{target}\n" for source, target in zip(*sampled.adjacency.nonzero())))
    summary = {
        "nodes": sampled.adjacency.shape[0],
        "edges": sampled.realized_edges,
        "dropped_edges": sampled.dropped_edges,
        "self_loops": sampled.num_self_loops,
        **{name: round(value, 4) for name, value in degree_distance(original, sampled.adjacency).items()},
        "original_nodes": original.shape[0],
        "original_edges": int(original.nnz),
        "seconds": round(seconds, 3),
        "out": str(out),
    }
    if report is not None:
        write_json(report, summary)
    print_summary(summary, json)
