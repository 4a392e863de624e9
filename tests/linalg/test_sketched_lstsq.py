"""Sketched least squares: consistency, equivariance, linear refinement, the bounds, kinds of input, refusals."""

import numpy as np
import pytest
import scipy.sparse
import torch
from linalg.kinds_of_input import DTYPES, KINDS, check_kind, real_of, with_singular_values
from specimens import Specimen

from ritz.linalg import SketchedLstsq, sketched_lstsq, srht

SKETCHES = ("srht", "srct", "gaussian", "countsketch", "sparse")
RNG = np.random.default_rng(0)
A = RNG.standard_normal((300, 6))
B = A @ np.arange(1.0, 7.0) + RNG.standard_normal(300)

SPECIMENS = {
    "SketchedLstsq": Specimen(
        SketchedLstsq,
        lambda: {"x": np.ones(2), "sketch_rows": 3, "residual_norm": 1.0, "linf_bound": 1.0, "l2_bound": 1.0, "condition_number": 1.0},
        spare=frozenset({"x", "sketch_rows", "residual_norm", "linf_bound", "l2_bound", "condition_number"}),
    ),
    "sketched_lstsq": Specimen(
        sketched_lstsq,
        lambda: {"A": A, "b": B, "epsilon": 0.5, "delta": 0.01, "sketch": "srht", "rows": 60, "refine": 1, "rng": 0},
        accepts={"rows": ("none",), "rng": ("none",)},
    ),
    "sketched_lstsq (sparse)": Specimen(sketched_lstsq, lambda: {"A": scipy.sparse.csr_array(A), "b": B, "sketch": "sparse"}),
}


def exact(matrix, b):
    return np.linalg.lstsq(matrix, b, rcond=None)[0]


@pytest.mark.parametrize("sketch", SKETCHES)
@pytest.mark.parametrize("rows", [16, 40, 200])
def test_consistent_systems_are_solved_to_rounding(sketch, rows):
    x = np.arange(1.0, 7.0)
    for seed in range(10):
        found = sketched_lstsq(A, A @ x, sketch=sketch, rows=rows, rng=seed)
        np.testing.assert_allclose(found.x, x, rtol=0, atol=1e-10)
        assert found.residual_norm < 1e-9


@pytest.mark.parametrize("n", [256, 128])
def test_all_rows_of_an_orthonormal_sketch_give_the_solution(n):
    found = sketched_lstsq(A[:n], B[:n], rows=n, rng=1)
    np.testing.assert_allclose(found.x, exact(A[:n], B[:n]), atol=1e-12)


@pytest.mark.parametrize("sketch", SKETCHES)
def test_equivariance(sketch):
    z = RNG.standard_normal(6)
    plain, scaled, shifted = (sketched_lstsq(A, b, sketch=sketch, rng=7).x for b in (B, 3 * B, B + A @ z))
    np.testing.assert_allclose(scaled, 3 * plain, atol=1e-10)
    np.testing.assert_allclose(shifted, plain + z, atol=1e-10)


@pytest.mark.parametrize("sketch", ["srht", "srct", "gaussian", "sparse"])
@pytest.mark.parametrize("condition", [1.0, 1e2, 1e4])
def test_refinement_is_linear(sketch, condition):
    n, d = 2000, 40
    matrix = with_singular_values(np.geomspace(1, 1 / condition, d), n, d)
    x = RNG.standard_normal(d)
    noise = RNG.standard_normal(n)
    b = matrix @ x + 0.1 * np.linalg.norm(matrix @ x) / np.linalg.norm(noise) * noise
    true = exact(matrix, b)
    found = sketched_lstsq(matrix, b, rows=4 * d, sketch=sketch, refine=40, rng=0)
    assert np.linalg.norm(found.x - true) <= 1e-9 * np.linalg.norm(true)
    errors = [np.linalg.norm(matrix @ (sketched_lstsq(matrix, b, rows=4 * d, sketch=sketch, refine=k, rng=0).x - true)) for k in (0, 5, 10, 15)]
    rate = (errors[-1] / errors[0]) ** (1 / 15)
    assert rate <= 1.2 * np.sqrt(1 / 4)
    assert np.all(np.diff(errors) < 0)


def test_refinement_works_for_barely_more_rows_than_columns():
    found = sketched_lstsq(A, B, rows=12, refine=60, rng=3)
    np.testing.assert_allclose(found.x, exact(A, B), atol=1e-9)


@pytest.mark.parametrize("sketch", ["srht", "srct", "gaussian"])
@pytest.mark.parametrize("refine", [0, 3])
def test_the_bounds_hold_as_often_as_they_say(sketch, refine):
    true, failures = exact(A, B), 0
    for seed in range(200):
        found = sketched_lstsq(A, B, sketch=sketch, rows=64, delta=0.05, refine=refine, rng=seed)
        error = found.x - true
        failures += np.abs(error).max() > found.linf_bound or np.linalg.norm(error) > found.l2_bound
        assert found.linf_bound <= found.l2_bound
    assert failures <= 10  # of 200, at delta = 0.05
    np.testing.assert_allclose(found.residual_norm, np.linalg.norm(B - A @ found.x))


def test_the_bound_is_not_idle():
    """The median error is within a factor of ten of the estimate."""
    true = exact(A, B)
    found = [sketched_lstsq(A, B, rows=64, rng=seed) for seed in range(30)]
    assert np.median([result.linf_bound / np.abs(result.x - true).max() for result in found]) < 10


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "LinearOperator" and "structured" not in kind])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_kind_of_input(kind, dtype):
    matrix = with_singular_values(np.linspace(1, 2, 5), 90, 5, dtype)
    x = np.stack([np.arange(1.0, 6.0), np.ones(5)], axis=1).astype(dtype)
    b = matrix @ x
    b_kind = torch.from_numpy(b) if kind.startswith("torch") else b
    for sketch in SKETCHES:
        found = sketched_lstsq(KINDS[kind](matrix), b_kind, sketch=sketch, refine=1, rng=0)
        np.testing.assert_allclose(check_kind(found.x, kind, dtype), x, atol=1e-4 if real_of(dtype) == "float32" else 1e-10)
        assert found.residual_norm.shape == found.linf_bound.shape == found.l2_bound.shape == (2,)


@pytest.mark.parametrize("sketch", SKETCHES)
def test_the_same_seed_gives_the_same_bits(sketch):
    first, second = (sketched_lstsq(A, B, sketch=sketch, refine=2, rng=5) for _ in range(2))
    assert np.array_equal(first.x, second.x)


def test_nearly_dependent_columns_are_pivoted():
    matrix = with_singular_values(np.geomspace(1, 1e-11, 8), 200, 8)
    b = matrix @ np.ones(8)
    for refine in (0, 2):
        found = sketched_lstsq(matrix, b, refine=refine, rng=0)
        assert found.residual_norm <= 1e-13
        np.testing.assert_allclose(found.condition_number, 1e11, rtol=1)


def test_a_sketch_of_ones_own_is_used():
    S = srht(64, 300, rng=0)
    found = sketched_lstsq(A, B, sketch=S)
    assert found.sketch_rows == 64
    np.testing.assert_allclose(found.x, exact(S.toarray() @ A, S.toarray() @ B), atol=1e-12)


def test_the_row_rule():
    assert sketched_lstsq(A, B, epsilon=0.5, rng=0).sketch_rows == 96
    assert sketched_lstsq(A, B, epsilon=3.0, rng=0).sketch_rows == 16
    assert sketched_lstsq(A, B, epsilon=0.01, rng=0).sketch_rows == 300


@pytest.mark.parametrize("sketch", SKETCHES)
def test_more_rows_than_the_matrix_has_are_warned(sketch):
    with pytest.warns(UserWarning, match="600 rows, more than the 300 of A"):
        found = sketched_lstsq(A, B, rows=600, sketch=sketch, rng=0)
    assert np.abs(found.x - exact(A, B)).max() <= found.linf_bound


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"A": A[:4], "b": B[:4]}, ValueError, "A must have at least as many rows"),
        ({"sketch": srht(64, 200, rng=0)}, ValueError, "sketch must have 300 columns"),
        ({"sketch": srht(64, 300, rng=0), "rows": 64}, ValueError, "rows must be None"),
        ({"rows": 5}, ValueError, "rows must be at least the 6 columns"),
        ({"A": np.ones((300, 2))}, ValueError, "A must have full column rank.*lstsq"),
        ({"A": np.zeros((300, 2))}, ValueError, "A must have full column rank"),
        ({"b": B[:-1]}, ValueError, "b must have shape"),
        ({"b": torch.from_numpy(B)}, TypeError, "b must be of A's kind"),
        ({"b": B + 1j}, TypeError, "b must be real"),
        ({"A": scipy.sparse.linalg.aslinearoperator(A)}, TypeError, "A must be an explicit matrix"),
        ({"delta": 1.0}, ValueError, "delta must be"),
    ],
)
def test_bad_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        sketched_lstsq(**({"A": A, "b": B, "rng": 0} | arguments))
