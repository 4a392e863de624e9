"""randomized_svd against scikit-learn's, dense 20,000 x 500, k = 50: time and what each leaves beyond the best approximation of rank k."""

import numpy as np
from sklearn.utils.extmath import randomized_svd as peer_svd

from ritz.linalg import randomized_svd
from ritz.studies import Comparison, benchmark, compare

ROWS, COLUMNS, K = 20_000, 500, 50


def _matrix(decay: float) -> tuple[np.ndarray, np.ndarray]:
    """A matrix with singular values ``j^-decay`` and random singular vectors, and these values."""
    rng = np.random.default_rng(0)
    U = np.linalg.qr(rng.standard_normal((ROWS, COLUMNS)))[0]
    V = np.linalg.qr(rng.standard_normal((COLUMNS, COLUMNS)))[0]
    s = np.arange(1, COLUMNS + 1) ** -decay
    return (U * s) @ V.T, s


def _excess(A: np.ndarray, s: np.ndarray, triplets: tuple) -> dict[str, float]:
    """How far the error is above the best possible, relatively, and the worst error of a singular value."""
    U, values, Vh = triplets
    left = A - (U * values) @ Vh
    return {
        "excess Frobenius": float(np.linalg.norm(left) / np.linalg.norm(s[K:]) - 1),
        "excess spectral": float(np.linalg.norm(left, 2) / s[K] - 1),
        "worst singular value": float(np.max(np.abs(values - s[:K]))),
    }


def _compared(decay: float) -> Comparison:
    A, s = _matrix(decay)

    def ours():
        found = randomized_svd(A, K, rng=0)
        return found.U, found.s, found.Vh

    def peer():
        return peer_svd(A, K, random_state=0)

    found = compare(f"singular values j^-{decay}", ours, peer, peer_name="sklearn randomized_svd", target=1.5)
    for who, triplets in (("ritz", ours()), ("sklearn", peer())):
        found.extra.update({f"{what}, {who}": value for what, value in _excess(A, s, triplets).items()})
    return found


@benchmark
def tall_dense():
    """Slow, medium and fast decay, both sides with their defaults."""
    yield _compared(0.5)
    yield _compared(1.0)
    yield _compared(2.0)
