"""`lstsq` solves the normal equations for every kind, shape and rank, and tests its own answer."""

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch
from linalg.kinds_of_input import DTYPES, KINDS, OPERATORS, assert_near, draw, matching, with_singular_values
from specimens import Specimen

from ritz.core import ConvergenceWarning
from ritz.linalg import lstsq

RNG = np.random.default_rng(0)
SPECIMENS = {
    "lstsq": Specimen(
        lstsq,
        lambda: {"A": draw(RNG, 6, 3), "b": np.ones(6), "damping": 0.1, "method": "auto", "tol": 1e-8, "max_iterations": 50},
        accepts={"max_iterations": ("none",)},
    ),
    "lstsq.sparse": Specimen(lstsq, lambda: {"A": scipy.sparse.csr_array(draw(RNG, 6, 3)), "b": np.ones(6)}),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(25, 8), (8, 25)])
def test_every_kind_of_input_gives_the_least_norm_solution(kind, dtype, shape):
    A, tol = with_singular_values(np.linspace(1, 3, 8), *shape, dtype), 50 * np.finfo(dtype).eps
    for b in (draw(RNG, shape[0], dtype=dtype), draw(RNG, shape[0], 3, dtype=dtype)):
        found = lstsq(KINDS[kind](A), matching(kind, b), tol=tol)
        assert np.all(np.asarray(found.converged))
        assert type(found.x) is type(matching(kind, b))
        assert found.x.dtype == matching(kind, b).dtype
        assert found.method == ("lsmr" if kind in OPERATORS else "qr")
        expected = np.linalg.pinv(A.astype(np.complex128)) @ b
        assert_near(found.x, expected, 200 * tol)
        residual = np.linalg.norm(b - A @ expected, axis=0) / np.linalg.norm(b, axis=0)
        np.testing.assert_allclose(np.asarray(found.residual_norms), residual, atol=200 * tol)


@pytest.mark.parametrize("method", ["qr", "svd", "lsmr"])
@pytest.mark.parametrize("damping", [0.0, 0.3])
def test_methods_and_damping(method, damping):
    A, b = draw(RNG, 40, 12), draw(RNG, 40, 2)
    found = lstsq(A, b, method=method, damping=damping, tol=1e-12)
    assert found.method == method
    np.testing.assert_allclose(found.x, np.linalg.solve(A.T @ A + damping**2 * np.eye(12), A.T @ b), atol=1e-9)


@pytest.mark.parametrize("method", ["qr", "svd", "lsmr"])
def test_rank_deficient_matrices_get_the_least_norm_solution(method):
    A = with_singular_values([3, 2, 1, 0, 0], 20, 5)
    b = draw(RNG, 20)
    found = lstsq(A, b, method=method, tol=1e-12)
    assert found.converged
    np.testing.assert_allclose(found.x, np.linalg.pinv(A, rcond=1e-12) @ b, atol=1e-9)
    assert "rank 3" in found.why or method == "lsmr"


def test_uneven_columns_are_scaled():
    A = scipy.sparse.random_array((3_000, 500), density=0.01, rng=0) @ scipy.sparse.diags_array(np.geomspace(1, 1e6, 500))
    A = scipy.sparse.csr_array(A)
    b = A @ np.ones(500) + draw(RNG, 3_000)
    found = lstsq(A, b)
    assert found.method == "lsmr"
    assert "columns scaled" in found.why
    assert found.converged
    expected = np.linalg.lstsq(A.toarray(), b, rcond=None)[0]
    np.testing.assert_allclose(A @ found.x, A @ expected, atol=1e-5 * np.linalg.norm(b))


def test_wide_sparse_matrices_with_empty_columns_get_the_least_norm_solution():
    A = scipy.sparse.random_array((600, 1_800), density=5e-3, rng=1)
    b = A @ RNG.standard_normal(1_800)
    found = lstsq(A, b)
    assert found.method == "lsmr"
    assert found.converged
    np.testing.assert_allclose(found.x, np.linalg.lstsq(A.toarray(), b, rcond=1e-12)[0], atol=1e-5)


def test_what_is_not_reached_is_flagged():
    A = scipy.sparse.linalg.aslinearoperator(with_singular_values(np.geomspace(1, 1e-6, 60), 80, 60))
    with pytest.warns(ConvergenceWarning, match="lstsq \\(lsmr\\): "):
        found = lstsq(A, np.ones(80), max_iterations=5)
    assert not found.converged
    assert found.iterations == 5


def test_zero_columns_and_zero_right_hand_sides():
    A = np.zeros((5, 3))
    assert not lstsq(A, np.ones(5)).x.any()
    assert not lstsq(np.ones((5, 3)), np.zeros(5)).x.any()
    sparse = scipy.sparse.csr_array(np.diag(np.r_[0.0, np.geomspace(1, 1e3, 399)]))
    assert lstsq(sparse, np.ones(400)).converged


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"b": np.ones(5)}, "b must have shape"),
        ({"b": torch.ones(6, dtype=torch.float64)}, "A and b must both be torch"),
        ({"A": scipy.sparse.linalg.aslinearoperator(np.ones((6, 3))), "method": "qr"}, "needs an explicit matrix"),
        ({"method": "magic"}, "method must be one of"),
        ({"damping": -1.0}, "damping must be"),
        ({"tol": 0.0}, "tol must be"),
    ],
)
def test_refusals(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        lstsq(**({"A": np.ones((6, 3)), "b": np.ones(6)} | options))
