"""Small directed graphs by rescaled degree matrices, against sampling nodes and edges at random."""

from __future__ import annotations

import time

import numpy as np
import scipy.sparse
from scipy.sparse.csgraph import connected_components

from ritz.core import random_generator
from ritz.graphs import degree_correlation_matrix, degree_distance, joint_degree_matrix, sample_directed_graph
from ritz.studies import Run, study
from ritz.studies.data import MissingData
from ritz.studies.data.graphs import scale_free_digraph, wiki_vote

RATIOS = (0.75, 0.5, 0.25)
KEPT = {"nearest": {}, "stochastic": {"rounding": "stochastic"}, "stochastic, completed": {"rounding": "stochastic", "complete": True}}


@study("directed-graph-sampling", minutes=0.5)
def study_directed_graph_sampling(run: Run) -> None:
    """Rescaling the counts of degrees keeps the distributions of in- and out-degrees where sampling nodes or edges does not (Yan and Jin 2022)."""
    nodes, hubs = run.pick(smoke=400, default=3000), run.pick(smoke=400, default=5000)
    graphs = {"random": random_digraph(nodes, 5.0, rng=run.seed), "scale-free": scale_free_digraph(hubs, rng=run.seed)}
    try:
        graphs |= {} if run.scale == "smoke" else {"wiki-Vote": wiki_vote()}
    except MissingData as missing:
        run.note(f"left out: {missing}")
    _table_matrices(run, graphs)
    rows = {name: _measure(run, name, graph) for name, graph in graphs.items()}
    _claim_random(run, rows["random"])
    if "wiki-Vote" in rows:
        _claim_votes(run, rows["wiki-Vote"])
    _note_hubs(run, rows["scale-free"])


def random_digraph(n: int, degree: float, *, rng=None) -> scipy.sparse.csr_array:
    """Draw a digraph whose edges are there independently, `degree` to a node on average."""
    rng = random_generator(rng)
    places = rng.choice(n * (n - 1), size=rng.binomial(n * (n - 1), degree / (n - 1)), replace=False)
    source, target = np.divmod(places, n - 1)
    target += target >= source  # no loops
    return scipy.sparse.csr_array((np.ones(len(places)), (source, target)), shape=(n, n))


def _table_matrices(run: Run, graphs: dict) -> None:
    rows = [
        {
            "graph": name,
            "nodes": graph.shape[0],
            "edges": graph.nnz,
            "classes of nodes": degree_correlation_matrix(graph).nnz,
            "classes of edges": joint_degree_matrix(graph).nnz,
        }
        for name, graph in graphs.items()
    ]
    run.table("the graphs, and how many pairs of degrees occur", rows)


def _measure(run: Run, name: str, graph) -> list[dict]:
    """Every method at every ratio, means over seeds."""
    sample_directed_graph(graph, 0.5, rng=0)  # compile before timing
    rows = []
    for ratio in run.progress(RATIOS, f"sampling {name}"):
        measured = [_one_seed(graph, ratio, seed) for seed in run.seeds(5)]
        for method in measured[0]:
            own = [result[method] for result in measured]
            rows.append({"method": method, "ratio": ratio} | {key: float(np.mean([row[key] for row in own])) for key in own[0]})
    run.table(f"{name}: distances to the whole graph, means of {len(run.seeds(5))} seeds", rows)
    run.figure(f"degrees-{name}", lambda axes: _lines(axes, rows), caption=f"{name}: Kolmogorov-Smirnov distance of in-degrees")
    return rows


def _one_seed(graph, ratio: float, seed: int) -> dict[str, dict[str, float]]:
    found = {}
    for method, options in KEPT.items():
        start = time.perf_counter()
        sample = sample_directed_graph(graph, ratio, rng=seed, **options)
        seconds = time.perf_counter() - start
        found[method] = _distances(graph, sample.adjacency) | {"dropped edges": sample.dropped_edges, "seconds": seconds}
    for method, sampler in (("random nodes", _induced_by_random_nodes), ("random edges", _spanned_by_random_edges)):
        start = time.perf_counter()
        sampled = sampler(graph, ratio, random_generator(seed))
        seconds = time.perf_counter() - start
        found[method] = _distances(graph, sampled) | {"dropped edges": 0, "seconds": seconds}
    return found


def _distances(graph, sampled) -> dict[str, float]:
    labels = connected_components(sampled, directed=False)[1]
    largest = np.bincount(labels).max() / sampled.shape[0]
    sizes = {"nodes": sampled.shape[0], "edges": sampled.nnz, "largest weak component": largest}
    return degree_distance(graph, sampled) | sizes


def _induced_by_random_nodes(graph, ratio: float, rng: np.random.Generator) -> scipy.sparse.csr_array:
    kept = np.sort(rng.choice(graph.shape[0], size=round(ratio * graph.shape[0]), replace=False))
    return graph[kept][:, kept]


def _spanned_by_random_edges(graph, ratio: float, rng: np.random.Generator) -> scipy.sparse.csr_array:
    source, target = graph.nonzero()
    kept = rng.choice(len(source), size=round(ratio * len(source)), replace=False)
    nodes, ends = np.unique(np.stack([source[kept], target[kept]]), return_inverse=True)
    return scipy.sparse.csr_array((np.ones(len(kept)), tuple(ends.reshape(2, -1))), shape=(len(nodes), len(nodes)))


def _claim_random(run: Run, rows: list[dict]) -> None:
    ours = max(max(row["ks_in"], row["ks_out"]) for row in rows if row["method"] == "nearest")
    run.claim(
        "random digraph: Kolmogorov-Smirnov distances of at most 0.03 at every ratio (largest)",
        measured=ours,
        holds=ours <= 0.03,
        paper="in- and out-degree distributions are preserved provably",
    )
    gain = min(
        _cell(rows, baseline, ratio, key) / _cell(rows, "nearest", ratio, key)
        for baseline in ("random nodes", "random edges")
        for ratio in RATIOS
        for key in ("ks_in", "ks_out")
    )
    run.claim(
        "random digraph: at least 10 times below both baselines at every ratio (smallest factor)",
        baseline="random nodes, random edges",
        measured=gain,
        holds=gain >= 10,
    )


def _claim_votes(run: Run, rows: list[dict]) -> None:
    for baseline, limit in (("random nodes", 0.6), ("random edges", 1.0)):
        worst = max(_cell(rows, "stochastic", ratio, key) / _cell(rows, baseline, ratio, key) for ratio in RATIOS for key in ("ks_in", "ks_out"))
        run.claim(
            f"wiki-Vote, stochastic rounding: distances of in- and out-degrees at most {limit:g} times those of {baseline} at every ratio (largest)",
            baseline=baseline,
            measured=worst,
            holds=worst <= limit,
        )


def _note_hubs(run: Run, rows: list[dict]) -> None:
    plain, complete = (max(_cell(rows, method, ratio, "ks_out") for ratio in RATIOS) for method in ("stochastic", "stochastic, completed"))
    dropped = _cell(rows, "stochastic", 0.25, "dropped edges")
    run.note(
        f"scale-free: classes of hubs cannot be filled without doubling edges, so that at ratio 0.25 {dropped:.0f} edges are dropped beside "
        f"{_cell(rows, 'stochastic', 0.25, 'edges'):.0f} that are there, and out-degrees are up to {plain:.3f} away; matching the free ends "
        f"at random brings that to {complete:.3f}."
    )


def _cell(rows: list[dict], method: str, ratio: float, key: str) -> float:
    return next(row[key] for row in rows if row["method"] == method and row["ratio"] == ratio)


def _lines(axes, rows: list[dict]) -> None:
    for method in dict.fromkeys(row["method"] for row in rows):
        axes.plot(RATIOS, [_cell(rows, method, ratio, "ks_in") for ratio in RATIOS], marker="o", label=method)
    axes.set(yscale="log", xlabel="ratio", ylabel="KS distance of in-degrees")
    axes.legend()
