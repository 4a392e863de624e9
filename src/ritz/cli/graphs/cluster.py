"""`ritz graphs cluster`: clusters of a graph file's nodes, from its edges and the nodes' attributes."""

from __future__ import annotations

import time
from pathlib import Path

import typer

from ritz.cli.graph_files import GRAPH, JSON, KEY, SEED, count_edges, read_attributes, write_node_labels
from ritz.cli.output import print_summary


def cluster(
    graph: Path = GRAPH,
    clusters: int = typer.Option(..., "--clusters", "-k", help="How many clusters."),
    out: Path = typer.Option(..., "--out", "-o", help="Where the labels go: .csv ('node,label' a line) or .npy (with a .nodes.txt beside it)."),
    attributes: Path = typer.Option(
        None,
        help="Categories of the nodes: .npy (n, attributes) of integers, or a table of words, a line for each node in the graph's order; "
        "if its first line begins with 'node', lines begin with the node they belong to and may come in any order.",
    ),
    tol: float = typer.Option(1e-6, help="Convergence factor of the multigrid solver; smaller means more smooth vectors."),
    restarts: int = typer.Option(100, help="Runs of k-means; the partition of largest modularity is kept."),
    distance: str = typer.Option("block", help="block (a node with its categories) or plain (the node alone)."),
    embedding: str = typer.Option("amg", help="amg (smooth vectors) or eigen (eigenvectors of the Laplacian)."),
    sweeps: int = typer.Option(1, help="Rounds of pairwise matching per level of the multigrid."),
    key: str = KEY,
    seed: int = SEED,
    json: bool = JSON,
) -> None:
    """Cluster the nodes of a connected undirected graph by bootstrap multigrid."""
    from ritz.cli.matrix_files import check_ending
    from ritz.graphs import AttributedSpectralClustering, read_graph

    check_ending(out, ".csv", ".npy")
    adjacency = read_graph(graph, key=key)
    categories = None if attributes is None else read_attributes(attributes, adjacency.nodes)
    model = AttributedSpectralClustering(
        clusters, tol=tol, n_restarts=restarts, aggregation_sweeps=sweeps, distance=distance, embedding=embedding, rng=seed
    )
    start = time.perf_counter()
    model.fit(adjacency, categories)
    summary = {
        "nodes": adjacency.n,
        "edges": count_edges(adjacency.matrix, directed=False),
        "attributes": 0 if categories is None else categories.shape[1],
        "clusters": len(set(model.labels_.tolist())),
        "modularity": round(model.modularity_, 6),
        "entropy": round(model.entropy_, 6),
        "seconds": round(time.perf_counter() - start, 3),
        "out": str(out),
    }
    write_node_labels(out, model.labels_, adjacency.nodes)
    print_summary(summary, json)
