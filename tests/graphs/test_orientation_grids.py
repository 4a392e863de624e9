"""Grids are unit vectors, seeded, and evenly spread."""

import numpy as np
import pytest
import torch
from specimens import Specimen

from ritz.graphs import sphere_grid

SPECIMENS = {
    "sphere_grid": Specimen(lambda n, dim, method: sphere_grid(n, dim, method), lambda: {"n": 6, "dim": 3, "method": "repulsion"}),
}


def _smallest_angle(grid: torch.Tensor) -> float:
    cosines = (grid @ grid.T).double().numpy()
    return float(np.arccos(np.clip(cosines[np.triu_indices(len(grid), 1)], -1, 1)).min())


@pytest.mark.parametrize("method", ["repulsion", "fibonacci"])
@pytest.mark.parametrize("n", [1, 2, 7, 16, 40])
def test_grids_are_unit_vectors_that_cover_the_sphere(n, method):
    grid = sphere_grid(n, method=method)
    assert grid.shape == (n, 3)
    torch.testing.assert_close(grid.norm(dim=1), torch.ones(n))
    if n >= 7:
        assert _smallest_angle(grid) > 0.6 * np.sqrt(4 * np.pi / n)


def test_repulsion_spreads_and_is_seeded():
    assert _smallest_angle(sphere_grid(12)) > _smallest_angle(sphere_grid(12, method="fibonacci"))
    assert torch.equal(sphere_grid(12, rng=1), sphere_grid(12, rng=1))
    assert not torch.equal(sphere_grid(12, rng=1), sphere_grid(12, rng=2))
    assert _smallest_angle(sphere_grid(12, rng=1)) > 0.7
    for n in (2, 6, 13):
        assert sphere_grid(n).sum(0).abs().max() < 1e-5


def test_the_circle_is_cut_into_equal_parts():
    grid = sphere_grid(5, dim=2)
    turn = 2 * np.pi / 5
    rotation = torch.tensor([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]).float()
    torch.testing.assert_close(grid @ rotation.T, grid.roll(-1, 0), atol=1e-6, rtol=0)
