"""Collections of matrices with equal numbers of rows."""

import numpy as np


def mixed(seed):
    """Some matrices of random shapes, ranks, decays and sizes, some of them sharing a space."""
    rng = np.random.default_rng(seed)
    m, count = int(rng.integers(5, 40)), int(rng.integers(1, 8))
    shared = np.linalg.qr(rng.standard_normal((m, min(m, 4))))[0]
    blocks = []
    for _ in range(count):
        n, inner = int(rng.integers(1, 30)), int(rng.integers(1, 12))
        own = rng.standard_normal((m, inner)) * np.arange(1, inner + 1) ** -rng.uniform(0, 2)
        left = shared if rng.random() < 0.4 else own
        blocks.append(10 ** rng.uniform(-1, 1) * (left @ rng.standard_normal((left.shape[1], n)) + 0.05 * rng.random() * rng.standard_normal((m, n))))
    return blocks, int(rng.integers(1, 12))


def true_error(blocks, rank):
    """Relative Frobenius error of the best approximation of this rank to the blocks side by side."""
    s = np.linalg.svd(np.hstack(blocks), compute_uv=False)
    total = np.linalg.norm(s)
    return np.linalg.norm(s[rank:]) / total if total else 0.0


def families(counts, *, rows=40, rank=4, columns=6, noise=0.0, seed=0):
    """Blocks of several families, each with a space of its own, of distinct norms; and the family of each."""
    rng = np.random.default_rng(seed)
    bases = [np.linalg.qr(rng.standard_normal((rows, rank)))[0] for _ in counts]
    of = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    blocks = [(1 + rng.random()) * (bases[f] @ rng.standard_normal((rank, columns)) + noise * rng.standard_normal((rows, columns))) for f in of]
    return blocks, of
