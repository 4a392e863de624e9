"""Inner products through sketches: dense ones keep them, CountSketch has the heavy tails."""

import numpy as np
import pytest
from specimens import Specimen

from ritz.linalg import coordinate_embedding_constant, countsketch, gaussian_sketch, srct, srht

SPECIMENS = {
    "coordinate_embedding_constant": Specimen(
        lambda **options: coordinate_embedding_constant(srht(8, 16, rng=0), **options),
        lambda: {"g": np.ones(16), "h": np.arange(16.0), "trials": 4, "rng": 0},
        accepts={"rng": ("none",)},
    )
}


def test_it_is_the_definition():
    rng, g, h = np.random.default_rng(3), np.arange(1.0, 13.0), np.ones(12)
    found = coordinate_embedding_constant(srct(6, 12, rng=0), g, h, 5, rng=3)
    for constant in found:
        S = srct(6, 12, rng=rng).toarray()
        np.testing.assert_allclose(constant, np.sqrt(6) * abs(g @ S.T @ S @ h - g @ h) / np.linalg.norm(g) / np.linalg.norm(h), rtol=1e-10)


def test_countsketch_has_the_heavier_tail():
    """g and h are spread over disjoint few rows: a collision in CountSketch is rare and large."""
    g, h = np.zeros(512), np.zeros(512)
    g[0], h[1:4] = 1.0, 1.0
    tails = {}
    for name, draw in (("dense", srht), ("circulant", srct), ("gaussian", gaussian_sketch), ("count", countsketch)):
        constants = coordinate_embedding_constant(draw(64, 512, rng=0), g, h, 600, rng=1)
        tails[name] = np.quantile(constants, 0.98)
    assert tails["count"] > 1.5 * max(tails["dense"], tails["circulant"], tails["gaussian"])


def test_refusals():
    with pytest.raises(TypeError, match="S must be a sketch"):
        coordinate_embedding_constant(np.eye(3), np.ones(3), np.ones(3), 2)
    with pytest.raises(ValueError, match="h must not be zero"):
        coordinate_embedding_constant(srht(2, 3, rng=0), np.ones(3), np.zeros(3), 2)
