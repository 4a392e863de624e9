"""Lloyd's k-means from many random starts, of which the partition of largest modularity is kept."""

from __future__ import annotations

import numpy as np
import scipy.sparse
from numba import njit, prange

from ritz.core import progress
from ritz.graphs.partition_quality import partition_modularity

BATCH = 4  # restarts run side by side, and labels held at once


def most_modular_kmeans(
    points: np.ndarray, graph: scipy.sparse.csr_array, clusters: int, *, restarts: int, iterations: int, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """Return the labels (n,) of largest modularity on `graph`, and that modularity, over `restarts` runs of Lloyd's iteration on `points` (n, d).

    Centroids start at distinct random points. One that loses all its points stays where it is, so fewer than `clusters` labels may occur.
    Of equal modularities the first run's is kept, whatever the number of threads.
    """
    starts = np.stack([rng.choice(len(points), size=clusters, replace=False) for _ in range(restarts)])
    structure = graph.indptr, graph.indices, graph.data
    best_labels, best = np.zeros(len(points), dtype=np.int64), -np.inf
    for batch in progress(np.array_split(starts, -(-restarts // BATCH)), "k-means restarts"):
        labels, modularities = _run_batch(points, batch, iterations, *structure)
        winner = int(np.argmax(modularities))
        if modularities[winner] > best:
            best_labels, best = labels[winner], float(modularities[winner])
    return best_labels, best


@njit(cache=True, nogil=True, parallel=True)
def _run_batch(points, starts, iterations, indptr, indices, weights):
    restarts, clusters = starts.shape
    labels = np.zeros((restarts, points.shape[0]), dtype=np.int64)
    modularities = np.empty(restarts)
    for run in prange(restarts):
        _lloyd(points, points[starts[run]], iterations, labels[run])
        modularities[run] = partition_modularity(indptr, indices, weights, labels[run], clusters)
    return labels, modularities


@njit(cache=True, nogil=True)
def _lloyd(points, centroids, iterations, labels):
    """Write the labels after so many iterations, or fewer if nothing changes; `centroids` is overwritten."""
    sums, counts = np.empty_like(centroids), np.empty(centroids.shape[0], dtype=np.int64)
    for iteration in range(iterations):
        sums[:], counts[:] = 0.0, 0
        changed = False
        for i in range(points.shape[0]):
            nearest = _nearest(points[i], centroids)
            changed |= nearest != labels[i] or iteration == 0
            labels[i] = nearest
            counts[nearest] += 1
            for d in range(points.shape[1]):
                sums[nearest, d] += points[i, d]
        if not changed:
            break
        for cluster in range(centroids.shape[0]):
            if counts[cluster] > 0:
                centroids[cluster] = sums[cluster] / counts[cluster]


@njit(cache=True, nogil=True)
def _nearest(point, centroids):
    nearest, least = 0, np.inf
    for cluster in range(centroids.shape[0]):
        distance = 0.0
        for d in range(point.shape[0]):
            distance += (point[d] - centroids[cluster, d]) ** 2
        if distance < least:
            nearest, least = cluster, distance
    return nearest
