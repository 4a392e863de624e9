"""Frequent directions keeps its bound and its size."""

import numpy as np
import pytest

from ritz.linalg.frequent_directions import FrequentDirections


@pytest.mark.parametrize("batch", [1, 7, 500])
def test_the_bound_of_the_sketch(batch):
    rng = np.random.default_rng(0)
    A, limit = rng.standard_normal((500, 30)) * np.geomspace(1, 0.01, 30), 10
    sketch = FrequentDirections(30, limit)
    for first in range(0, 500, batch):
        sketch.add(A[first : first + batch])
        assert len(sketch.rows()) <= limit
    difference = A.T @ A - sketch.rows().T @ sketch.rows()
    values = np.linalg.eigvalsh(difference)
    tails = [np.sum(np.linalg.svd(A, compute_uv=False)[k:] ** 2) / (limit - k) for k in range(limit)]
    assert values[0] >= -1e-9
    assert values[-1] <= min(tails) * (1 + 1e-9)
