"""Logarithmic proximities against plain ones in clustering: planted partitions, and real graphs where they have been put."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import networkx
import numpy as np
import scipy.sparse
from scipy.sparse.csgraph import connected_components
from sklearn.cluster import SpectralClustering
from sklearn.metrics import adjusted_rand_score

from ritz.graphs import (
    ProximityClustering,
    as_adjacency,
    distance_to_kernel,
    free_energy,
    proximity,
    proximity_distance,
    randomized_shortest_path,
    reject_curve,
    shortest_path_commute,
    sigmoid_commute,
)
from ritz.graphs.proximity import ProximityFamily
from ritz.graphs.proximity_clustering import ward_clusters
from ritz.studies import Run, study
from ritz.studies.data import MissingData
from ritz.studies.data.graphs import LabelledGraph, community_graph, planted_partition

MEASURES = ("communicability", "forest", "heat", "walk", "ppr")
MORE_MEASURES = ("normalized_heat", "modified_ppr", "heat_ppr")
GAINERS = ("communicability", "forest", "heat")
SETTINGS = {  # sizes of the classes, probability of an edge inside and between them
    "two classes of 50 (0.3 : 0.1)": ((50, 50), 0.3, 0.1),
    "two classes of 50 (0.3 : 0.15)": ((50, 50), 0.3, 0.15),
    "four classes of 25 (0.3 : 0.1)": ((25, 25, 25, 25), 0.3, 0.1),
}


@study("log-proximity", minutes=2)
def study_log_proximity(run: Run) -> None:
    """The logarithm of a proximity clusters graphs better than the proximity itself, log communicability best of all (Ivashkin, Chebotarev 2016).

    Ward's method on each measure; the parameter of a measure is the best of a grid by the adjusted Rand index averaged over the graphs.
    """
    grid = np.arange(1, run.pick(smoke=3, default=16) + 1) / run.pick(smoke=4, default=17)
    settings = run.pick(smoke=dict(list(SETTINGS.items())[:1]), default=SETTINGS)
    for name, (sizes, inside, between) in settings.items():
        graphs = [planted_partition(sizes, inside, between, rng=seed) for seed in run.seeds(12)]
        graphs = [_giant_component(graph) for graph in graphs]
        _compete(run, name, graphs, grid)
    _draw_reject_curves(run)
    _cluster_real_graphs(run, grid)


def _compete(run: Run, name: str, graphs: list[LabelledGraph], grid: np.ndarray) -> None:
    """Table, figure and claims of one setting."""
    scores = {}
    for kind in run.progress((*MEASURES, *MORE_MEASURES), f"clustering {name}"):
        families = [ProximityFamily(as_adjacency(graph.adjacency).matrix, kind) for graph in graphs]
        for log in (False, True):
            scores[kind, log] = np.array([_scores_on_grid(family, graph, grid, log) for family, graph in zip(families, graphs)])
    best = {measure: values.mean(axis=0).max() for measure, values in scores.items()}
    others = {label: _best_of_others(make, graphs, grid) for label, make in _other_measures().items()}
    run.table(
        f"{name}: adjusted Rand index, mean of {len(graphs)} graphs at the best parameter",
        [_row(kind, scores, grid) for kind in (*MEASURES, *MORE_MEASURES)],
        note="; ".join(f"{label} {value:.3f}" for label, value in others.items()),
    )
    run.table(f"{name}: log communicability without labels to choose by", _chosen_by_modularity(graphs))
    run.figure(_file_name(name), lambda axes: _curves(axes, grid, scores), caption=f"{name}: adjusted Rand index against the parameter")
    gains = {kind: best[kind, True] - best[kind, False] for kind in MEASURES}
    worst, least = min(gains.values()), min(gains[kind] for kind in GAINERS)
    rival = max(best[kind, log] for kind in MEASURES for log in (False, True) if (kind, log) != ("communicability", True))
    lead = best["communicability", True] - rival
    run.claim(
        f"{name}: no logarithm of the five measures more than 0.03 below the plain one",
        baseline="the plain measure at its best parameter",
        measured=worst,
        holds=worst >= -0.03,
        paper="logarithmic measures are usually better",
    )
    run.claim(
        f"{name}: logarithms of communicability, forest and heat at least 0.05 above the plain ones",
        baseline="the plain measure at its best parameter",
        measured=least,
        holds=least >= 0.05,
        paper="logarithmic measures are usually better",
    )
    run.claim(
        f"{name}: log communicability is the best of the ten measures",
        baseline="the best of the nine others",
        measured=lead,
        holds=lead > 0,
        paper="log communicability is usually the leader",
    )


def _scores_on_grid(family: ProximityFamily, graph: LabelledGraph, grid: np.ndarray, log: bool) -> list[float]:
    classes = len(np.unique(graph.labels))
    clusters = (ward_clusters(family.matrix(family.time(x, "unit"), log=log), classes) for x in grid)
    return [adjusted_rand_score(graph.labels, labels) for labels in clusters]


def _other_measures() -> dict[str, Callable]:
    """Kernels of the other measures of the competition at x in (0, 1)."""
    return {
        "shortest path - commute": lambda A, x: distance_to_kernel(shortest_path_commute(A, x)),
        "randomized shortest path": lambda A, x: distance_to_kernel(randomized_shortest_path(A, (1 - x) / x)),
        "free energy": lambda A, x: distance_to_kernel(free_energy(A, (1 - x) / x)),
        "sigmoid commute": lambda A, x: sigmoid_commute(A, 0.5 * x / (1 - x)),
        "sigmoid corrected commute": lambda A, x: sigmoid_commute(A, 0.5 * x / (1 - x), corrected=True),
    }


def _best_of_others(make: Callable, graphs: list[LabelledGraph], grid: np.ndarray) -> float:
    scores = [
        [adjusted_rand_score(graph.labels, ward_clusters(make(graph.adjacency, float(x)), len(np.unique(graph.labels)))) for x in grid]
        for graph in graphs
    ]
    return float(np.mean(scores, axis=0).max())


def _chosen_by_modularity(graphs: list[LabelledGraph]) -> list[dict[str, object]]:
    """Each method of `ProximityClustering` with its own choice of the parameter, beside scikit-learn's spectral clustering."""
    rows = []
    for method in ("ward", "kernel_kmeans", "spectral"):
        found = [ProximityClustering(len(np.unique(graph.labels)), method=method, rng=0).fit_predict(graph.adjacency) for graph in graphs]
        rows.append({"method": f"ProximityClustering, {method}, t by modularity", "adjusted Rand index": _mean_score(graphs, found)})
    found = [
        SpectralClustering(len(np.unique(graph.labels)), affinity="precomputed", random_state=0).fit_predict(graph.adjacency.toarray())
        for graph in graphs
    ]
    return [*rows, {"method": "scikit-learn SpectralClustering", "adjusted Rand index": _mean_score(graphs, found)}]


def _mean_score(graphs: list[LabelledGraph], found: list[np.ndarray]) -> float:
    return float(np.mean([adjusted_rand_score(graph.labels, labels) for graph, labels in zip(graphs, found)]))


def _row(kind: str, scores: dict, grid: np.ndarray) -> dict[str, object]:
    row: dict[str, object] = {"measure": kind}
    for log, label in ((False, "plain"), (True, "log")):
        mean = scores[kind, log].mean(axis=0)
        row |= {
            label: float(mean.max()),
            f"best x, {label}": float(grid[mean.argmax()]),
            f"spread, {label}": float(scores[kind, log][:, mean.argmax()].std()),
        }
    return row | {"gain": row["log"] - row["plain"]}


def _draw_reject_curves(run: Run) -> None:
    """How well the distances tell pairs of one class from pairs of two, on one graph of the first setting."""
    sizes, inside, between = SETTINGS["two classes of 50 (0.3 : 0.1)"]
    graph = _giant_component(planted_partition(sizes, inside, between, rng=run.seed))
    curves = {
        f"{'log ' if log else ''}{kind}": reject_curve(proximity_distance(proximity(graph.adjacency, kind, 0.5, log=log)), graph.labels)
        for kind in ("communicability", "forest")
        for log in (False, True)
    }
    run.table(
        "area under the reject curve, two classes of 50, x = 0.5",
        [{"measure": label, "area": float(np.trapezoid(intra, inter))} for label, (intra, inter) in curves.items()],
    )
    run.figure("reject-curves", lambda axes: _reject_axes(axes, curves), caption="pairs below a distance, within against between classes, x = 0.5")


def _cluster_real_graphs(run: Run, grid: np.ndarray) -> None:
    rows = []
    for name, graph in run.progress(list(_real_graphs(run)), "clustering real graphs"):
        for kind in MEASURES:
            family = ProximityFamily(as_adjacency(graph.adjacency).matrix, kind)
            plain, log = (max(_scores_on_grid(family, graph, grid, log)) for log in (False, True))
            rows.append({"graph": name, "measure": kind, "plain": plain, "log": log, "gain": log - plain})
    run.table("real graphs: adjusted Rand index at the best parameter", rows)
    if run.scale == "smoke":
        return
    share = float(np.mean([row["log"] >= row["plain"] for row in rows]))
    run.claim(
        "real graphs: the logarithm is at least as good as the plain measure in more than half of the pairs of graph and measure",
        baseline="the plain measure at its best parameter",
        measured=share,
        holds=share > 0.5,
        paper="logarithmic measures are usually better",
    )
    graphs = list(dict.fromkeys(row["graph"] for row in rows))
    leads = [_lead_of_log_communicability([row for row in rows if row["graph"] == name]) for name in graphs]
    share = float(np.mean([lead >= 0 for lead in leads]))
    run.claim(
        "real graphs: log communicability is not surpassed by any of the ten measures on more than half of the graphs",
        baseline="the best of the nine others",
        measured=share,
        holds=share > 0.5,
        paper="log communicability is usually the leader",
    )


def _lead_of_log_communicability(rows: list[dict]) -> float:
    ours = next(row["log"] for row in rows if row["measure"] == "communicability")
    return ours - max(max(row["plain"], row["log"] if row["measure"] != "communicability" else -1) for row in rows)


def _real_graphs(run: Run) -> Iterator[tuple[str, LabelledGraph]]:
    yield "karate", _karate()
    if run.scale == "smoke":
        return
    for name in ("football", "dolphins", "news_2cl1"):
        try:
            yield name, _giant_component(community_graph(name))
        except MissingData as missing:
            run.note(f"left out: {missing}")


def _karate() -> LabelledGraph:
    graph = networkx.karate_club_graph()
    labels = np.array([graph.nodes[node]["club"] == "Officer" for node in graph]).astype(int)
    return LabelledGraph(scipy.sparse.csr_array(networkx.to_scipy_sparse_array(graph, weight=None, dtype=np.float64)), labels)


def _giant_component(graph: LabelledGraph) -> LabelledGraph:
    """The largest connected part: logarithms need a connected graph."""
    _, component = connected_components(graph.adjacency, directed=False)
    kept = np.flatnonzero(component == np.bincount(component).argmax())
    return LabelledGraph(scipy.sparse.csr_array(graph.adjacency[kept][:, kept]), graph.labels[kept])


def _file_name(name: str) -> str:
    return "-".join(re.findall(r"[\w.]+", name))


def _curves(axes, grid: np.ndarray, scores: dict) -> None:
    for color, kind in enumerate(MEASURES):
        for log, style in ((False, ":"), (True, "-")):
            axes.plot(grid, scores[kind, log].mean(axis=0), style, color=f"C{color}", label=f"log {kind}" if log else None)
    axes.set(xlabel="x (unit scale); dotted: plain", ylabel="adjusted Rand index")
    axes.legend()


def _reject_axes(axes, curves: dict) -> None:
    for label, (intra, inter) in curves.items():
        axes.plot(inter, intra, label=label)
    axes.set(xlabel="share of pairs between classes", ylabel="share of pairs within classes")
    axes.legend()
