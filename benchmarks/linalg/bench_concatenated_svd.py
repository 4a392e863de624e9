"""The incremental bound against repeated SVDs of the growing matrix and scikit-learn's IncrementalPCA; clustering of 5000 blocks."""

import numpy as np
from sklearn.decomposition import IncrementalPCA

from ritz.linalg import ConcatenatedSVDClustering, IncrementalSVD
from ritz.studies import Comparison, benchmark, compare
from ritz.studies.timing import within

ROWS, COLUMNS, RANK = 768, 20, 20


def stream(count: int, seed: int = 0) -> list[np.ndarray]:
    """Blocks 768 x 20 of 50 spaces of dimension 15, with noise."""
    rng = np.random.default_rng(seed)
    bases = [np.linalg.qr(rng.standard_normal((ROWS, 15)))[0] for _ in range(50)]
    return [
        (0.5 + rng.random()) * (bases[i % 50] @ rng.standard_normal((15, COLUMNS)) + 1e-4 * rng.standard_normal((ROWS, COLUMNS)))
        for i in range(count)
    ]


def incremental(blocks: list[np.ndarray]) -> IncrementalSVD:
    """The bound after each block."""
    svd = IncrementalSVD(RANK)
    for block in blocks:
        svd.partial_fit(block)
    return svd


def repeated(blocks: list[np.ndarray]) -> None:
    """The error after each block from a decomposition of all so far."""
    for count in range(1, len(blocks) + 1):
        np.linalg.svd(np.hstack(blocks[:count]), full_matrices=False)


@benchmark
def against_repeated_svd():
    """A 1000 block run of the peer takes many minutes, and its cost per block only grows: 60 blocks bound the ratio from below."""
    blocks = stream(60)
    return compare("60 blocks 768 x 20, r = 20", lambda: incremental(blocks), lambda: repeated(blocks), peer_name="np.linalg.svd", target=50, pairs=1)


@benchmark
def against_incremental_pca():
    blocks = stream(1000)
    rows = [np.ascontiguousarray(block.T) for block in blocks]

    def peer():
        pca = IncrementalPCA(RANK)
        for block in rows:
            pca.partial_fit(block)

    return compare("1000 blocks 768 x 20, r = 20", lambda: incremental(blocks), peer, peer_name="sklearn IncrementalPCA", target=1.5, pairs=3)


@benchmark
def clustering() -> Comparison:
    blocks = stream(5000)
    return within("clusters of 5000 blocks 768 x 20", lambda: ConcatenatedSVDClustering(RANK, 0.05).fit(blocks), limit=60)
