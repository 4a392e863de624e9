"""Sparse times sparse: row-wise tables against inner products, against expanding and sorting, against SciPy; hashing by low and by high bits."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import scipy.sparse

from ritz.linalg import spgemm, spgemm_flops, spgemm_symbolic, triple_product
from ritz.studies import Comparison, Run, compare, study
from ritz.studies.data.graphs import rmat
from ritz.studies.data.linear_systems import poisson
from ritz.studies.data.sparse_matrices import aggregation_hierarchy, documents, erdos_renyi
from ritz.studies.linalg.sparse_product_baselines import HASHES, count_probes, expand_sort_compress, inner_products

BUFFER_READ = 12  # bytes of B that one product reads


@study("smash-spgemm", minutes=4)
def study_spgemm(run: Run) -> None:
    """A row-wise product with tables is faster than inner products and than expanding and sorting, takes half the memory, and keeps up with SciPy."""
    seed = run.seeds(1)[0]
    matrices = matrices_by_name(seed, small=run.scale == "smoke")
    pairs = run.pick(smoke=1, default=5)
    rows, ratios = [], {"SciPy": [], "expand, sort, compress": [], "inner products": []}
    memory = {}
    for name, (A, B) in run.progress(list(matrices.items()), "multiplying"):
        timings = _timings(A, B, pairs)
        for peer, timing in timings.items():
            ratios[peer].append(timing.ratio)
        flops, entries = int(spgemm_flops(A, B).sum()), spgemm(A, B).nnz
        memory[name] = flops / entries, _share_of_memory(A, B)
        rows.append(_row(name, flops, entries, timings, memory[name][1]))
    run.table("products of two matrices, one thread", rows, note="SciPy against the automatic choice, the others against the hash table")
    run.figure("ratios", lambda axes: _draw(axes, rows), caption="Time of the other ways / time of ours, one thread", size=(7.5, 4.0))
    _claim_ratios(run, ratios, memory)
    _probes(run)
    _galerkin(run, pairs)


def _row(name: str, flops: int, entries: int, timings: dict[str, Comparison], share: float) -> dict[str, object]:
    seconds = timings["SciPy"].seconds
    row = {"matrix": name, "products": flops, "entries": entries, "compression": flops / entries, "auto, ms": 1e3 * seconds}
    row |= {"GB/s of B": BUFFER_READ * flops / seconds / 1e9, "hash, ms": 1e3 * timings["inner products"].seconds}
    return row | {f"{peer} / ours": timing.ratio for peer, timing in timings.items()} | {"peak memory / that of expanding": share}


def _claim_ratios(run: Run, ratios: dict[str, list[float]], memory: dict[str, tuple[float, float]]) -> None:
    inner = _geometric_mean(ratios["inner products"])
    run.claim(
        "row-wise hash at least 3 times as fast as inner products (geometric mean)",
        baseline="inner products of rows and columns",
        measured=inner,
        holds=inner >= 3,
        paper="9.4 times over other ways on simulated hardware",
    )
    expanded = _geometric_mean(ratios["expand, sort, compress"])
    run.claim(
        "row-wise hash at least 1.5 times as fast as expanding, sorting and compressing (geometric mean)",
        baseline="outer products, sorted and compressed",
        measured=expanded,
        holds=expanded >= 1.5,
    )
    shares = [share for compression, share in memory.values() if compression >= 1.9]
    most = max(shares, default=0.0)
    run.claim(
        "at most half of its peak memory where the compression is at least 1.9 (largest share)",
        baseline="outer products, sorted and compressed",
        measured=most,
        holds=bool(shares) and most <= 0.5,
    )
    scipy_ratios = ratios["SciPy"]
    run.claim(
        "at least 0.75 of SciPy's speed on every matrix (least)",
        baseline="SciPy A @ B",
        measured=min(scipy_ratios),
        holds=min(scipy_ratios) >= 0.75,
    )
    mean = _geometric_mean(scipy_ratios)
    run.claim("at least SciPy's speed (geometric mean)", baseline="SciPy A @ B", measured=mean, holds=mean >= 1)


def _probes(run: Run) -> None:
    """Slots that a product looks at, by hash: squares of banded matrices, in a table of twice the longest row."""
    n, rows = run.pick(smoke=2000, default=50_000), []
    for bandwidth in (4, 8, 16, 32):
        offsets = range(-bandwidth, bandwidth + 1)
        A = scipy.sparse.csr_array(scipy.sparse.diags_array([np.ones(n - abs(offset)) for offset in offsets], offsets=offsets))
        products, lengths = spgemm_flops(A, A).sum(), spgemm_symbolic(A, A)[0]
        bits = int(2 * lengths.max() - 1).bit_length()
        probes = {name: count_probes(A.indptr, A.indices, bits, n, code) / products for name, code in HASHES.items()}
        rows.append({"half bandwidth": bandwidth} | {f"probes a product, {name}": count for name, count in probes.items()})
    run.table("probes of a product on banded matrices", rows)
    gains = [row["probes a product, high bits"] / row["probes a product, low bits"] for row in rows]
    run.claim(
        "low-order bits need at least 1.5 times fewer probes than high-order bits on banded matrices (least gain)",
        baseline="hashing by high-order bits (first version)",
        measured=min(gains),
        holds=min(gains) >= 1.5,
    )


def _galerkin(run: Run, pairs: int) -> None:
    """The coarse matrices of a hierarchy, R A P by windows against SciPy's two products."""
    side, rows = run.pick(smoke=30, default=300), []
    for level, (A, P) in enumerate(aggregation_hierarchy(side)):
        timing = _compare_triple(A, P, pairs)
        rows.append({"level": level, "unknowns": A.shape[0], "coarse": P.shape[1], "ms": 1e3 * timing.seconds, "SciPy / ours": timing.ratio})
    run.table(f"Galerkin products of smoothed aggregation, {side} x {side} Poisson", rows)
    first = rows[0]["SciPy / ours"]
    run.claim("triple product of the finest level at least at 0.75 of SciPy's speed", baseline="SciPy R @ A @ P", measured=first, holds=first >= 0.75)


def _compare_triple(A: scipy.sparse.csr_array, P: scipy.sparse.csr_array, pairs: int) -> Comparison:
    R = scipy.sparse.csr_array(P.T)
    return compare("R A P", lambda: triple_product(R, A, P, threads=1), lambda: R @ A @ P, peer_name="SciPy R @ A @ P", pairs=pairs)


def matrices_by_name(seed: int, *, small: bool = False) -> dict[str, tuple[scipy.sparse.csr_array, scipy.sparse.csr_array]]:
    """Pairs of factors by name."""
    shrink = 10 if small else 1
    words = documents(seed, 1500 // shrink, 20_000 // shrink)
    A, P = next(aggregation_hierarchy(300 // shrink))
    squares = {
        "2-D Laplacian": poisson(500 // shrink, 500 // shrink),
        "3-D Laplacian": poisson(*(3 * [50 // (2 if small else 1)])),
        "Erdos-Renyi, 8 a row": erdos_renyi(100_000 // shrink, 8, seed),
        "Erdos-Renyi, 32 a row": erdos_renyi(20_000 // shrink, 32, seed),
        "R-MAT": scipy.sparse.csr_array(rmat(10 if small else 14, 8 * 2 ** (10 if small else 14), rng=seed), dtype=np.float64),
    }
    pairs = {name: (matrix, matrix) for name, matrix in squares.items()}
    return pairs | {"documents and their transpose": (words, scipy.sparse.csr_array(words.T)), "aggregation: A P": (A, P)}


def _timings(A: scipy.sparse.csr_array, B: scipy.sparse.csr_array, pairs: int) -> dict[str, Comparison]:
    by_column = scipy.sparse.csc_array(B)
    by_column.sort_indices()
    few = min(pairs, 3)

    def against(peer: str, accumulator: str, function: Callable, pairs: int) -> Comparison:
        return compare(peer, lambda: spgemm(A, B, accumulator=accumulator, threads=1), function, peer_name=peer, pairs=pairs)

    return {
        "SciPy": against("SciPy", "auto", lambda: A @ B, pairs),
        "expand, sort, compress": against("expand, sort, compress", "hash", lambda: expand_sort_compress(A, B), few),
        "inner products": against("inner products", "hash", lambda: inner_products(A, by_column), few),
    }


def _share_of_memory(A: scipy.sparse.csr_array, B: scipy.sparse.csr_array) -> float:
    return _peak(lambda: spgemm(A, B, accumulator="hash", threads=1)) / _peak(lambda: expand_sort_compress(A, B))


def _peak(function: Callable) -> int:
    """The most bytes allocated at once, reserved ones counted as if used."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _geometric_mean(values: list[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))


def _draw(axes, rows: list[dict]) -> None:
    peers = [key for key in rows[0] if key.endswith(" / ours")]
    places = np.arange(len(rows))
    for k, peer in enumerate(peers):
        axes.bar(places + 0.27 * (k - 1), [row[peer] for row in rows], 0.25, label=peer, color=("#1f4e8c", "#c2762d", "#5b8c5a")[k])
    axes.axhline(1, color="#8a8f98", linewidth=0.8)
    axes.set_xticks(places, [row["matrix"] for row in rows], rotation=20, ha="right", fontsize="x-small")
    axes.set(ylabel="time / ours", yscale="log")
    axes.legend(fontsize="x-small")
