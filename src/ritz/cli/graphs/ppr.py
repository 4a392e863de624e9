"""`ritz graphs ppr index` and `ritz graphs ppr query`: personalized PageRank of a graph file by PowerWalk."""

from __future__ import annotations

import time
from pathlib import Path

import typer

from ritz.cli.graph_files import GRAPH, JSON, KEY, SEED, count_edges
from ritz.cli.output import print_summary

app = typer.Typer(no_args_is_help=True, help="Personalized PageRank: an index of random walks, and queries on it.")

BACKEND = typer.Option("local", help="local (threads) or ray (tasks of a cluster; needs the extra 'distributed').")
WORKERS = typer.Option(None, help="Threads or tasks at a time; default: all cores.")


@app.command()
def index(
    graph: Path = GRAPH,
    out: Path = typer.Option(..., "--out", "-o", help="Where graph and index go (.npz)."),
    restart_prob: float = typer.Option(0.15, help="The probability of a return to the source before each step."),
    walks: int = typer.Option(100, help="Walks from each node; 0 makes no index."),
    max_steps: int = typer.Option(None, help="Cut walks short after so many steps."),
    dangling: str = typer.Option("self", help="Where a node without outgoing edges leads: self or uniform."),
    directed: bool = typer.Option(False, help="Keep the directions of edges."),
    key: str = KEY,
    backend: str = BACKEND,
    workers: int = WORKERS,
    seed: int = SEED,
    json: bool = JSON,
) -> None:
    """Walk from every node of a graph and keep the shares of the visits."""
    from ritz.cli.matrix_files import check_ending
    from ritz.graphs import PowerWalk, read_graph

    check_ending(out, ".npz")
    adjacency = read_graph(graph, directed=directed, key=key)
    options = {"restart_prob": restart_prob, "n_walks": walks, "max_steps": max_steps, "dangling": dangling}
    start = time.perf_counter()
    model = PowerWalk(**options, backend=backend, num_workers=workers, rng=seed).fit(adjacency)
    seconds = time.perf_counter() - start
    model.save(out)
    summary = {
        "nodes": adjacency.n,
        "edges": count_edges(adjacency.matrix, directed=directed),
        "walks_per_node": walks,
        "steps": model.n_steps_,
        "entries": int(model.index_.nnz),
        "seconds": round(seconds, 3),
        "out": str(out),
    }
    print_summary(summary, json)


@app.command()
def query(
    index: Path = typer.Argument(help="What `ritz graphs ppr index` wrote."),
    out: Path = typer.Option(..., "--out", "-o", help="Where the scores go: source, node and score a line, largest first (.tsv)."),
    sources: Path = typer.Option(..., help="The sources: a text file with the label of a node on each line."),
    top: int = typer.Option(100, help="How many nodes to name for each source."),
    iterations: int = typer.Option(6, help="Steps of the decomposition."),
    threshold: float = typer.Option(1e-5, help="Amounts of flow below this are dropped."),
    backend: str = BACKEND,
    workers: int = WORKERS,
    json: bool = JSON,
) -> None:
    """Rank the nodes of an indexed graph for each source."""
    from ritz.cli.matrix_files import check_ending
    from ritz.core import write_text
    from ritz.graphs import PowerWalk

    check_ending(out, ".tsv")
    labels = _labels(sources)
    model = PowerWalk.load(index).set_params(backend=backend, num_workers=workers)
    numbers = _numbers(labels, model.nodes_.tolist())
    start = time.perf_counter()
    ids, scores = model.query(numbers, iterations=iterations, threshold=threshold, top_k=top)
    seconds = time.perf_counter() - start
    found = ((label, model.nodes_[node], score) for label, row, own in zip(labels, ids, scores) for node, score in zip(row, own) if node >= 0)
    write_text(out, "source\tnode\tscore\n" + "".join(f"{label}\t{node}\t{score:.9g}\n" for label, node, score in found))
    print_summary({"sources": len(labels), "nodes": len(model.nodes_), "top": top, "seconds": round(seconds, 3), "out": str(out)}, json)


def _labels(path: Path) -> list[str]:
    from ritz.core import existing_file

    try:
        labels = [line.strip() for line in existing_file(path, "sources").read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise ValueError(f"sources: '{path}' is no text file ({error})") from error
    if not labels:
        raise ValueError(f"sources: '{path}' names no node")
    return labels


def _numbers(labels: list[str], nodes: list) -> list[int]:
    """The node numbers of labels."""
    number = {str(node): i for i, node in enumerate(nodes)}
    unknown = [label for label in labels if label not in number]
    if unknown:
        raise ValueError(f"sources: the graph has no node '{unknown[0]}'" + (f" (nor {len(unknown) - 1} others)" if len(unknown) > 1 else ""))
    return [number[label] for label in labels]
