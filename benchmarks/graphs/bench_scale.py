"""Graphs of ten million edges (clustering: three hundred thousand): time and peak memory of whole jobs and of their peers, each in a process of its
own.

scikit-network and igraph are the extra `peers`; those that are not installed are left out. A peer that needs more than `LIMIT_SECONDS` or
`LIMIT_BYTES` counts as that limit and is said not to have finished.
"""

import importlib.util
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import scipy.sparse
from scipy.sparse.csgraph import connected_components

from ritz.studies import Comparison, benchmark
from ritz.studies.data.graphs import rmat
from ritz.studies.timing import current_threads

LIMIT_SECONDS, LIMIT_BYTES = 400, 14 * 2**30
DIM, QUERIES, RATIO, CLUSTERS = 128, 20, 0.5, 8


@benchmark(threads=2)
def embedding():
    """R-MAT, 10^7 edges: FastRP of dimension 128, four powers."""
    yield from _against("embed", rmat(20, 11_000_000, rng=0), {"sknetwork": "scikit-network RandomProjection", "sklearn": "sklearn TruncatedSVD"})


@benchmark(threads=2)
def personalized_pagerank():
    """R-MAT, 10^7 edges: the index of all nodes by 20 walks each and 20 queries, against the same queries alone."""
    peers = {"igraph": "igraph, 20 queries", "sknetwork": "scikit-network, 20 queries", "networkx": "networkx, 20 queries"}
    yield from _against("ppr", rmat(20, 11_000_000, rng=0), peers)


@benchmark(threads=2)
def sampling():
    """Directed R-MAT, 10^7 edges: half of it, against a random graph that keeps the degrees alone."""
    peers = {"igraph": "igraph Degree_Sequence, configuration", "networkx": "networkx directed_configuration_model"}
    yield from _against("sample", rmat(20, 5_300_000, rng=0), peers)


@benchmark(threads=2)
def clustering():
    """R-MAT, 3 10^5 edges, largest component: bootstrap multigrid does not end within the limit for ten times as many."""
    graph = rmat(15, 350_000, rng=0)
    _, component = connected_components(graph, directed=False)
    kept = np.flatnonzero(component == np.argmax(np.bincount(component)))
    peers = {"sknetwork": "scikit-network Louvain", "igraph": "igraph Leiden", "sklearn": "sklearn SpectralClustering"}
    yield from _against("cluster", scipy.sparse.csr_array(graph[kept][:, kept]), peers)


def _against(task: str, graph: scipy.sparse.csr_array, peers: dict[str, str]):
    """One comparison for each peer that is installed; our own run is measured once."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "graph.npz"
        scipy.sparse.save_npz(file, graph, compressed=False)
        ours = _measured(task, "ritz", file)
        if not ours["finished"]:
            raise RuntimeError(f"{task}: not finished within {LIMIT_SECONDS} s")
        for library, peer_name in peers.items():
            if importlib.util.find_spec(library) is None:
                continue
            theirs = _measured(task, library, file)
            seconds, ending = theirs.pop("seconds"), "" if theirs.pop("finished") else " (not finished)"
            extra = {f"our {name}": value for name, value in ours.items() if name not in ("seconds", "finished")}
            extra |= {f"their {name}": value for name, value in theirs.items()}
            name = f"{task}: {graph.shape[0]} nodes, {graph.nnz / (1 if task == 'sample' else 2) / 1e6:.1f} million edges"
            yield Comparison(name, peer_name + ending, seconds / ours["seconds"], ours["seconds"], seconds, 1, current_threads(), None, extra)


def _measured(task: str, library: str, file: Path) -> dict[str, float]:
    """Run a task in a fresh process: seconds, peak memory over that of the graph, and what the task says of its result."""
    try:
        finished = subprocess.run([sys.executable, __file__, task, library, str(file)], capture_output=True, text=True, timeout=LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        return {"seconds": LIMIT_SECONDS, "finished": False}
    if finished.returncode:
        if library == "ritz" or "MemoryError" not in finished.stderr:
            raise RuntimeError(finished.stderr)
        return {"seconds": LIMIT_SECONDS, "finished": False, "peak MiB": LIMIT_BYTES / 2**20}
    return json.loads(finished.stdout.splitlines()[-1]) | {"finished": True}


def _run(task: str, library: str, file: str) -> None:
    """What the fresh process does: compile and import on a small graph first, then time the task."""
    if library != "ritz":
        resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))
    graph = scipy.sparse.csr_array(scipy.sparse.load_npz(file)).astype(np.float32)
    function = TASKS[task, library]
    small = rmat(8, 3000, rng=0)
    function(scipy.sparse.csr_array(small[small.sum(axis=1) > 0][:, small.sum(axis=1) > 0]))
    before, start = _high_water_mark(), time.perf_counter()
    said = function(graph)
    print(json.dumps({"seconds": time.perf_counter() - start, "peak MiB": _high_water_mark() - before} | said))


def _high_water_mark() -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def _queried(graph) -> np.ndarray:
    return np.random.default_rng(0).choice(graph.shape[0], QUERIES, replace=False)


def _fastrp(graph):
    from ritz.graphs import fastrp

    fastrp(graph, DIM, weights=(1.0, 1.0, 1.0, 1.0), rng=0)
    return {}


def _random_projection(graph):
    from sknetwork.embedding import RandomProjection

    RandomProjection(DIM).fit_transform(scipy.sparse.csr_matrix(graph))
    return {}


def _truncated_svd(graph):
    from sklearn.decomposition import TruncatedSVD

    TruncatedSVD(min(DIM, graph.shape[0] - 1), n_iter=4, random_state=0).fit_transform(graph)
    return {}


def _powerwalk(graph):
    from ritz.graphs import PowerWalk

    start = time.perf_counter()
    index = PowerWalk(n_walks=20, rng=0).fit(graph)
    built = time.perf_counter() - start
    index.query(_queried(graph))
    return {"seconds for the index": built}


def _igraph_pagerank(graph):
    network = _igraph(graph, directed=True)
    for node in _queried(graph).tolist():
        network.personalized_pagerank(reset_vertices=[node], damping=0.85)
    return {}


def _sknetwork_pagerank(graph):
    from sknetwork.ranking import PageRank

    matrix = scipy.sparse.csr_matrix(graph)
    for node in _queried(graph).tolist():
        PageRank(0.85).fit_predict(matrix, {node: 1})
    return {}


def _networkx_pagerank(graph):
    import networkx

    network = networkx.from_scipy_sparse_array(graph, create_using=networkx.DiGraph)
    for node in _queried(graph).tolist():
        networkx.pagerank(network, 0.85, personalization={node: 1})
    return {}


def _sampled(graph):
    from ritz.graphs import sample_directed_graph

    return {"edges": int(sample_directed_graph(graph, RATIO, rounding="stochastic", rng=0).realized_edges)}


def _half_degrees(graph) -> tuple[list[int], list[int]]:
    """The out- and in-degrees of a random half of the nodes, the larger total cut to the smaller."""
    rng = np.random.default_rng(0)
    kept = np.sort(rng.choice(graph.shape[0], graph.shape[0] // 2, replace=False))
    out, into = np.diff(graph.indptr)[kept], np.bincount(graph.indices, minlength=graph.shape[0])[kept]
    larger, excess = (out, out.sum() - into.sum()) if out.sum() > into.sum() else (into, into.sum() - out.sum())
    ends = np.repeat(np.arange(len(larger)), larger)
    np.subtract.at(larger, rng.choice(ends, excess, replace=False), 1)
    return out.tolist(), into.tolist()


def _igraph_degrees(graph):
    import igraph

    return {"edges": igraph.Graph.Degree_Sequence(*_half_degrees(graph), method="configuration").ecount()}


def _networkx_degrees(graph):
    import networkx

    out, into = _half_degrees(graph)
    return {"edges": networkx.directed_configuration_model(into, out, seed=0).number_of_edges()}


def _bootstrap(graph):
    from ritz.graphs import AttributedSpectralClustering

    model = AttributedSpectralClustering(CLUSTERS, n_restarts=10, rng=0).fit(graph)
    return {"modularity": model.modularity_}


def _louvain(graph):
    from sknetwork.clustering import Louvain

    return _modularity(graph, Louvain(random_state=0).fit_predict(scipy.sparse.csr_matrix(graph)))


def _leiden(graph):
    network = _igraph(scipy.sparse.csr_array(scipy.sparse.triu(graph)), directed=False)
    return _modularity(graph, np.array(network.community_leiden("modularity").membership))


def _spectral(graph):
    from sklearn.cluster import SpectralClustering

    return _modularity(graph, SpectralClustering(CLUSTERS, affinity="precomputed", random_state=0).fit_predict(scipy.sparse.csr_matrix(graph)))


def _modularity(graph, labels):
    from ritz.graphs import modularity

    return {"modularity": float(modularity(graph, labels))}


def _igraph(graph, *, directed: bool):
    import igraph

    return igraph.Graph(graph.shape[0], np.stack(graph.nonzero(), axis=1), directed=directed)


TASKS = {
    ("embed", "ritz"): _fastrp,
    ("embed", "sknetwork"): _random_projection,
    ("embed", "sklearn"): _truncated_svd,
    ("ppr", "ritz"): _powerwalk,
    ("ppr", "igraph"): _igraph_pagerank,
    ("ppr", "sknetwork"): _sknetwork_pagerank,
    ("ppr", "networkx"): _networkx_pagerank,
    ("sample", "ritz"): _sampled,
    ("sample", "igraph"): _igraph_degrees,
    ("sample", "networkx"): _networkx_degrees,
    ("cluster", "ritz"): _bootstrap,
    ("cluster", "sknetwork"): _louvain,
    ("cluster", "igraph"): _leiden,
    ("cluster", "sklearn"): _spectral,
}

if __name__ == "__main__":
    _run(*sys.argv[1:])
