"""One pass over a stream of rows: against incremental PCA, Oja's rule row by row, and the machine's memory bandwidth."""

from collections.abc import Iterator

import numpy as np
from sklearn.decomposition import IncrementalPCA

from ritz.linalg import StreamingTopEigenvector, oja
from ritz.studies import Comparison, benchmark, compare
from ritz.studies.linalg.random_order_top_eigenvector import light
from ritz.studies.timing import triad


@benchmark
def one_pass() -> Iterator[Comparison]:
    """2 10^5 rows of 400 numbers in batches of 1,000."""
    n, d = 200_000, 400
    A = light(n, d, 4.0, np.random.default_rng(0))
    batches = np.split(A, n // 1_000)

    def ours():
        stream = StreamingTopEigenvector(d, n_rows=n, rng=0)
        for batch in batches:
            stream.partial_fit(batch)
        return stream.finalize()

    def incremental():
        model = IncrementalPCA(1)
        for batch in batches:
            model.partial_fit(batch)
        return model

    yield compare("one pass, n = 2 10^5, d = 400", ours, incremental, peer_name="sklearn IncrementalPCA(1)", target=5.0, pairs=3, warmup=1)
    yield compare(
        "one pass, n = 2 10^5, d = 400", ours, lambda: oja(A, d, learning_rate=1e-5, rng=0), peer_name="Oja, numba row by row", target=2.0, pairs=3
    )
    yield compare("one pass, n = 2 10^5, d = 400", ours, triad(A.nbytes), peer_name="triad of as many bytes", target=0.5, pairs=3)
