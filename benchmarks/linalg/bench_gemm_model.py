"""The tiled product with recommended tiles against its default ones and BLAS, on shapes the model has not seen; and the model's own cost."""

from collections.abc import Iterator

import numpy as np

from ritz.linalg import GemmModel, measure_gemms, recommend_tiles, tiled_matmul
from ritz.linalg.gemm_measurements import random_shapes
from ritz.studies import Comparison, benchmark, compare, within

SEED = 0


def _model() -> GemmModel:
    measured = measure_gemms(random_shapes(40, 64, 512, np.random.default_rng(SEED)), repeats=3, budget_seconds=90, power=None, rng=SEED)
    return GemmModel(target="log_time_per_flop", rng=SEED).fit(measured)


@benchmark
def recommended_tiles() -> Iterator[Comparison]:
    """Eight new shapes; the last line is their geometric mean."""
    model, ratios = _model(), []
    rng = np.random.default_rng(SEED + 1)
    for m, n, k in random_shapes(8, 64, 512, rng):
        A, B = rng.standard_normal((m, k)).astype(np.float32), rng.standard_normal((k, n)).astype(np.float32)
        tiles = recommend_tiles(model, m, n, k).tiles
        found = compare(
            f"{m} x {n} x {k}, tiles {tiles}",
            lambda A=A, B=B, tiles=tiles: tiled_matmul(A, B, tiles=tiles),
            lambda A=A, B=B: tiled_matmul(A, B),
            peer_name="default tiles",
            pairs=5,
        )
        blas = compare("", lambda A=A, B=B, tiles=tiles: tiled_matmul(A, B, tiles=tiles), lambda A=A, B=B: A @ B, peer_name="BLAS", pairs=3)
        found.extra.update({"of BLAS's rate": blas.ratio, "GFLOP/s": 2e-9 * m * n * k / found.seconds})
        ratios.append(found.ratio)
        yield found
    mean = float(np.exp(np.mean(np.log(ratios))))
    yield Comparison("geometric mean of the shapes", "default tiles", mean, 0.0, 0.0, len(ratios), 1, 1.2)


@benchmark
def fit_and_predict() -> Comparison:
    """A forest of 100 trees on 1,500 rows, and 1,000 predictions."""
    rng = np.random.default_rng(SEED)
    sizes = np.concatenate([rng.integers(32, 500, (1_500, 3)), rng.choice([16, 64, 256], (1_500, 3))], axis=1)
    seconds = 1e-10 * sizes[:, :3].prod(axis=1) * rng.uniform(1, 2, 1_500)
    return within(
        "fit 1,500 rows, predict 1,000", lambda: GemmModel(target="log_time_per_flop", rng=0).fit(sizes, seconds).predict(sizes[:1_000]), limit=3.0
    )
