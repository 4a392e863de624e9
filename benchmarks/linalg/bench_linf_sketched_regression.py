"""Sketched least squares against LAPACK's on a tall dense matrix; the Hadamard transform against memory, the circulant one and CountSketch."""

from collections.abc import Iterator

import numpy as np
import scipy.linalg

from ritz.linalg import sketched_lstsq, srct, srht
from ritz.studies import Comparison, benchmark, compare
from ritz.studies.timing import triad

N, D, EPSILON = 1 << 17, 256, 0.5


def _problem() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    A = rng.standard_normal((N, D))
    return A, A @ np.ones(D) + rng.standard_normal(N)


@benchmark
def solving() -> Iterator[Comparison]:
    """n = 2^17, d = 256, epsilon = 0.5: 4096 rows."""
    A, b = _problem()
    found, exact = sketched_lstsq(A, b, epsilon=EPSILON, rng=0), np.linalg.lstsq(A, b, rcond=None)[0]
    extra = {"l_inf error": float(np.abs(found.x - exact).max()), "l_inf bound": found.linf_bound}
    peers = {
        "numpy.linalg.lstsq": lambda: np.linalg.lstsq(A, b, rcond=None),
        "scipy.linalg.lstsq, gelsy": lambda: scipy.linalg.lstsq(A, b, lapack_driver="gelsy", check_finite=False),
    }
    for name, peer in peers.items():
        yield compare(
            "sketched_lstsq, 2^17 x 256", lambda: sketched_lstsq(A, b, epsilon=EPSILON, rng=0), peer, peer_name=name, target=3.0, pairs=3, extra=extra
        )


@benchmark
def transforming() -> Iterator[Comparison]:
    """The transform of (2^17, 256): a triad of as many bytes, times log2(n) / 4, is what a radix-16 transform of full passes would cost."""
    A, _ = _problem()
    hadamard, circulant = srht(4096, N, rng=0), srct(4096, N, rng=0)
    one_pass = triad(2 * A.nbytes)

    def passes():
        for _ in range(17):
            one_pass()

    # four transforms beside 17 passes: the ratio is that of one to 17 / 4
    def four_transforms():
        for _ in range(4):
            hadamard @ A

    yield compare("srht @ A", four_transforms, passes, peer_name="log2(n) / 4 passes over A, read and written", target=1 / 3, pairs=3)
    yield compare("srht @ A", lambda: hadamard @ A, lambda: circulant @ A, peer_name="srct @ A", target=1.0, pairs=5)
    yield compare(
        "srht @ A",
        lambda: hadamard @ A,
        lambda: scipy.linalg.clarkson_woodruff_transform(A, 4096, 0),
        peer_name="scipy's CountSketch, worse in l_inf",
        pairs=5,
    )
