"""Multigrid keeps the number of steps nearly constant while grids grow, and refuses what it cannot take."""

import numpy as np
import pytest
import scipy.sparse
import torch
from specimens import Specimen

from ritz.core import MissingExtra
from ritz.linalg import amg, cg
from ritz.studies.data.linear_systems import convection_diffusion, elasticity, poisson

SPECIMENS = {
    "amg": Specimen(
        amg,
        lambda: {"A": poisson(8, 8), "method": "smoothed-aggregation", "near_null_space": np.ones(64)},
        accepts={"near_null_space": ("none",)},
    ),
    "amg.dense": Specimen(amg, lambda: {"A": poisson(8, 8).toarray(), "method": "classical"}),
}


@pytest.mark.parametrize("method", ["smoothed-aggregation", "classical"])
def test_steps_hardly_grow_with_the_grid(method):
    steps = []
    for m in (32, 64, 128):
        A = poisson(m, m)
        M = amg(A, method=method)
        assert M.levels >= 2
        steps.append(cg(A, np.ones(m * m), preconditioner=M, tol=1e-8).iterations)
    assert steps[-1] <= 20
    assert steps[-1] <= 2 * steps[0]


@pytest.mark.parametrize("A", [poisson(20, 20), poisson(18, 18).astype(complex)])
def test_the_cycle_is_linear_and_hermitian(A):
    M, rng = amg(A), np.random.default_rng(0)
    x, y = rng.standard_normal((2, A.shape[0]))
    np.testing.assert_allclose(M @ (2 * x - y), 2 * (M @ x) - M @ y, atol=1e-12)
    np.testing.assert_allclose(x @ (M @ y), (M @ x) @ y, rtol=1e-10)
    np.testing.assert_allclose(M @ np.stack([x, y], axis=1), np.stack([M @ x, M @ y], axis=1))


def test_rigid_motions_help_elasticity():
    m = 24
    A = elasticity(m)
    x, y = (grid.ravel() for grid in np.meshgrid(np.arange(1, m + 1), np.arange(m + 1)))
    motions = np.zeros((A.shape[0], 3))
    motions[::2, 0], motions[1::2, 1], motions[::2, 2], motions[1::2, 2] = 1, 1, -y, x
    b = np.ones(A.shape[0])
    plain, informed = (cg(A, b, preconditioner=amg(A, near_null_space=modes), tol=1e-8).iterations for modes in (None, motions))
    assert informed < 0.5 * plain


def test_nonsymmetric_matrices_are_taken():
    A = convection_diffusion(20, 20, peclet=0.5)
    x = np.random.default_rng(0).standard_normal(400)
    assert np.linalg.norm(x - amg(A) @ (A @ x)) < np.linalg.norm(x)


def test_without_pyamg_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyamg", None)
    with pytest.raises(MissingExtra, match="linalg"):
        amg(poisson(8, 8))


@pytest.mark.parametrize(
    ("A", "options", "message"),
    [
        (torch.eye(4), {}, "whose entries multigrid needs"),
        (scipy.sparse.linalg.aslinearoperator(np.eye(4)), {}, "whose entries multigrid needs"),
        (np.ones((3, 4)), {}, "A must be square"),
        (np.eye(4), {"method": "magic"}, "method must be one of"),
        (np.eye(4), {"near_null_space": np.ones(3)}, "near_null_space must have 4 rows"),
        (np.eye(4), {"near_null_space": np.ones(4), "method": "classical"}, "method must be 'smoothed-aggregation'"),
    ],
)
def test_refusals(A, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        amg(A, **options)
