"""Oja's rule against its definition and the adaptive choice of its rate."""

import numpy as np
import pytest
from linalg.test_streaming_eigenvector import spiked, top
from specimens import Specimen

from ritz.linalg import adaptive_oja, oja

ROWS = spiked(3_000, 10, 9, 0)
SPECIMENS = {
    "oja": Specimen(oja, lambda: {"rows": ROWS[:50], "d": 10, "learning_rate": 1e-2, "rng": 0}, accepts={"rng": ("none",)}),
    "adaptive_oja": Specimen(adaptive_oja, lambda: {"rows": ROWS[:50], "d": 10, "rng": 0}, accepts={"rng": ("none",)}),
}


def test_oja_is_its_definition():
    z = np.random.default_rng(4).standard_normal(10)
    for row in ROWS[:200]:
        z = z + 0.01 * row * (row @ z)
    z /= np.linalg.norm(z)
    found = oja(ROWS[:200], 10, learning_rate=0.01, rng=4)
    np.testing.assert_allclose(found, z * np.sign(z[np.argmax(np.abs(z))]), atol=1e-12)
    np.testing.assert_allclose(oja(iter(np.split(ROWS[:200], 4)), 10, learning_rate=0.01, rng=4), found, atol=1e-12)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e5])
def test_adaptive_oja_finds_its_rate_at_any_scale(scale):
    assert (adaptive_oja(scale * ROWS, 10, rng=0) @ top(ROWS)) ** 2 > 0.9


def test_refusals():
    with pytest.raises(ValueError, match="rows must have d = 9 columns"):
        oja(ROWS, 9, learning_rate=0.1)
    with pytest.raises(TypeError, match="rows must be a matrix"):
        adaptive_oja(3, 9)
