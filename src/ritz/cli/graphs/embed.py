"""`ritz graphs embed`: node embeddings of a graph file."""

from __future__ import annotations

import time
from pathlib import Path

import typer

from ritz.cli.graph_files import GRAPH, JSON, KEY, SEED, count_edges, write_node_rows
from ritz.cli.output import print_summary


def embed(
    graph: Path = GRAPH,
    out: Path = typer.Option(..., "--out", "-o", help="Where the embedding goes: .npy (with a .nodes.txt beside it), .npz or .csv."),
    dim: int = typer.Option(128, help="Dimension of the embedding."),
    weights: str = typer.Option("0,0,1,1", help="The weight of each power of the random-walk matrix, comma-separated."),
    degree_power: float = typer.Option(-0.5, help="Exponent of the degrees, -1 to 1; negative damps hubs."),
    projection: str = typer.Option("sparse", help="sparse or gaussian."),
    directed: bool = typer.Option(False, help="Keep the directions of edges."),
    key: str = KEY,
    labels: Path = typer.Option(None, help="Labels of the nodes (.mat or .npy): prints how well the embedding predicts them."),
    labels_key: str = typer.Option("group", help="The labels' name in a .mat file."),
    train_fraction: float = typer.Option(0.1, help="The share of labelled nodes to train on."),
    seed: int = SEED,
    json: bool = JSON,
) -> None:
    """Embed the nodes of a graph by FastRP."""
    from ritz.cli.matrix_files import check_ending
    from ritz.graphs import fastrp, node_classification_score, read_graph, read_labels

    check_ending(out, ".npy", ".npz", ".csv")
    chosen = _numbers(weights)
    adjacency = read_graph(graph, directed=directed, key=key)
    start = time.perf_counter()
    embedding = fastrp(adjacency, dim, weights=chosen, degree_power=degree_power, projection=projection, rng=seed)
    summary = {
        "nodes": adjacency.n,
        "edges": count_edges(adjacency.matrix, directed=directed),
        "dim": dim,
        "seconds": round(time.perf_counter() - start, 3),
        "out": str(out),
    }
    write_node_rows(out, embedding, adjacency.nodes, "embedding")
    if labels is not None:
        score = node_classification_score(embedding, read_labels(labels, key=labels_key), train_fraction=train_fraction, rng=seed)
        summary |= {"train_fraction": train_fraction, "micro_f1": round(score.micro_f1, 4), "macro_f1": round(score.macro_f1, 4)}
    print_summary(summary, json)


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError:
        raise ValueError(f"weights must be numbers separated by commas, got '{text}'") from None
