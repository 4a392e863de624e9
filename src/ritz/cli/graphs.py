"""`ritz graphs ...`: jobs on graph files."""

from __future__ import annotations

import time
from pathlib import Path

import typer

from ritz.cli.output import print_json

app = typer.Typer(no_args_is_help=True, help="Jobs on graph files: edge lists, .mtx, .mat, .npz, .gml.")


@app.callback()
def graphs() -> None:
    """Jobs on graph files: edge lists, .mtx, .mat, .npz, .gml, plain or gzipped."""


@app.command()
def embed(
    graph: Path = typer.Argument(help="An edge list ('source target [weight]' a line), or a .mtx, .mat, .npz or .gml file."),
    out: Path = typer.Option(..., "--out", "-o", help="Where the embedding goes: .npy (with a .nodes.txt beside it), .npz or .csv."),
    dim: int = typer.Option(128, help="Dimension of the embedding."),
    weights: str = typer.Option("0,0,1,1", help="The weight of each power of the random-walk matrix, comma-separated."),
    degree_power: float = typer.Option(-0.5, help="Exponent of the degrees, -1 to 1; negative damps hubs."),
    projection: str = typer.Option("sparse", help="sparse or gaussian."),
    directed: bool = typer.Option(False, help="Keep the directions of edges."),
    key: str = typer.Option(None, help="The adjacency matrix's name in a .mat file."),
    labels: Path = typer.Option(None, help="Labels of the nodes (.mat or .npy): prints how well the embedding predicts them."),
    labels_key: str = typer.Option("group", help="The labels' name in a .mat file."),
    train_fraction: float = typer.Option(0.1, help="The share of labelled nodes to train on."),
    seed: int = typer.Option(0, min=0, help="Seed of the projection and of the split."),
    json: bool = typer.Option(False, "--json", help="Print the summary as JSON."),
) -> None:
    """Embed the nodes of a graph by FastRP."""
    from ritz.graphs import fastrp, node_classification_score, read_graph, read_labels

    _check_ending(out)
    chosen = _numbers(weights)
    adjacency = read_graph(graph, directed=directed, key=key)
    start = time.perf_counter()
    embedding = fastrp(adjacency, dim, weights=chosen, degree_power=degree_power, projection=projection, rng=seed)
    summary = {
        "nodes": adjacency.n,
        "edges": int(adjacency.matrix.nnz if directed else (adjacency.matrix.nnz + (adjacency.matrix.diagonal() != 0).sum()) // 2),
        "dim": dim,
        "seconds": round(time.perf_counter() - start, 3),
        "out": str(out),
    }
    _write(out, embedding, adjacency.nodes)
    if labels is not None:
        score = node_classification_score(embedding, read_labels(labels, key=labels_key), train_fraction=train_fraction, rng=seed)
        summary |= {"train_fraction": train_fraction, "micro_f1": round(score.micro_f1, 4), "macro_f1": round(score.macro_f1, 4)}
    if json:
        print_json(summary)
    else:
        print("\n".join(f"{name.replace('_', ' ')}: {value}" for name, value in summary.items()))


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError:
        raise ValueError(f"weights must be numbers separated by commas, got '{text}'") from None


def _check_ending(out: Path) -> None:
    if out.suffix not in (".npy", ".npz", ".csv"):
        raise ValueError(f"out must end in .npy, .npz or .csv, got '{out}'")


def _write(out: Path, embedding, nodes) -> None:
    import numpy as np

    from ritz.core import atomic_path, write_text

    with atomic_path(out) as path:
        if out.suffix == ".npy":
            np.save(path, embedding)
        elif out.suffix == ".npz":
            np.savez(path, embedding=embedding, nodes=nodes)
        else:
            columns = ",".join(f"e{i}" for i in range(embedding.shape[1]))
            rows = (f"{node},{','.join(f'{value:.7g}' for value in row)}" for node, row in zip(nodes, embedding))
            path.write_text("\n".join([f"node,{columns}", *rows]) + "\n", encoding="utf-8")
    if out.suffix == ".npy":
        write_text(out.with_suffix(".nodes.txt"), "".join(f"{node}\n" for node in nodes))
