"""`ritz graphs value`: what sellers' graphs and features are worth to a buyer."""

from __future__ import annotations

from pathlib import Path

import typer

from ritz.cli.graph_files import JSON, KEY, SEED
from ritz.cli.output import print_json, print_table


def value(
    buyer: Path = typer.Argument(help="The buyer's graph: an edge list, .mtx, .mat, .npz or .gml file."),
    features: Path = typer.Argument(help="The buyer's features, a row for each node in the order of the graph: .npy, .npz, .csv or .mtx."),
    sellers: list[Path] = typer.Argument(help="For each seller, its graph and its features, in turn."),
    by: str = typer.Option("relevance", help="What sellers are sorted by: relevance, diversity or structural_disparity."),
    components: int = typer.Option(10, help="How many principal directions of the buyer's features are compared."),
    proxy: str = typer.Option("erdos_renyi", help="The public graph that graphs are aligned with: erdos_renyi or barabasi_albert."),
    proxy_size: int = typer.Option(None, help="Its number of nodes; default: that of the largest graph."),
    method: str = typer.Option("signature", help="How graphs are aligned: signature, faq or sinkhorn."),
    hops: int = typer.Option(0, help="Rounds in which features are averaged over neighbors first; 0 keeps structure and features apart."),
    threshold: float = typer.Option(0.0, help="Leave out directions of less variance."),
    sample_subgraphs: int = typer.Option(None, help="Compare subgraphs of so many nodes: for graphs of thousands."),
    seed: int = SEED,
    key: str = KEY,
    json: bool = JSON,
) -> None:
    """Value sellers' attributed graphs for a buyer by structural disparity, relevance and diversity."""
    from ritz.graphs import rank_sellers

    if len(sellers) % 2:
        raise ValueError(f"sellers must be pairs of a graph and a features file, got {len(sellers)} files")
    pairs = list(zip(sellers[::2], sellers[1::2]))
    names = [str(graph) for graph, _ in pairs]
    if len(set(names)) < len(names):
        raise ValueError(
            f"sellers must have different graph files, got {', '.join(sorted(name for name in set(names) if names.count(name) > 1))} twice"
        )
    rows = rank_sellers(
        _read(buyer, features, key),
        {name: _read(*pair, key) for name, pair in zip(names, pairs)},
        by=by,
        proxy_size=proxy_size,
        proxy=proxy,
        n_components=components,
        hops=hops,
        method=method,
        threshold=threshold,
        sample_subgraphs=sample_subgraphs,
        seed=seed,
    )
    if json:
        print_json(rows)
    else:
        columns = list(rows[0])
        print_table(None, columns, [[row[column] for column in columns] for row in rows], whole=["seller"])


def _read(graph: Path, features: Path, key: str | None):
    import scipy.sparse

    from ritz.cli.matrix_files import read_matrix
    from ritz.graphs import read_graph

    X = read_matrix(features, "features")
    return read_graph(graph, key=key), X.toarray() if scipy.sparse.issparse(X) else X
