"""GCRO-DR: GMRES where nothing is recycled, the invariants of the recycled pair, deflation in theory, kinds of input, refusals."""

import warnings

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch
from linalg.kinds_of_input import DTYPES, KINDS, assert_near, draw, matching
from specimens import Specimen

from ritz.core import ConvergenceWarning
from ritz.linalg import RecycledSolve, RecycleSpace, gcrodr, gmres, incomplete_lu, jacobi
from ritz.linalg.gcrodr import leading_subspace
from ritz.linalg.givens_least_squares import GivensLeastSquares

RNG = np.random.default_rng(0)


def convection(m: int, wind: float = 0.3) -> scipy.sparse.csr_array:
    T = scipy.sparse.diags_array([-(1 + wind) * np.ones(m - 1), (2 + wind) * np.ones(m), -np.ones(m - 1)], offsets=[-1, 0, 1])
    return scipy.sparse.csr_array(scipy.sparse.kronsum(T, T))


def helmholtz(m: int) -> scipy.sparse.csr_array:
    """Indefinite, with absorption: complex."""
    return convection(m, wind=0.0) - (0.35 - 0.02j) * scipy.sparse.eye_array(m * m)


PROBLEMS = {"convection": convection(20), "Helmholtz": scipy.sparse.csr_array(helmholtz(16))}


def small_matrix() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((12, 12)) / 4 + 2 * np.eye(12)


SPECIMENS = {
    "gcrodr": Specimen(
        gcrodr,
        lambda: {"A": small_matrix(), "b": np.ones((12, 2)), "M": np.eye(12), "restart": 6, "recycle": 2, "tol": 1e-6, "maxiter": 60},
    ),
    "gcrodr.x0": Specimen(gcrodr, lambda: {"A": scipy.sparse.csr_array(small_matrix()), "b": np.ones(12), "x0": np.ones(12)}),
    "RecycleSpace": Specimen(RecycleSpace, lambda: {"U": np.eye(5)[:, :2], "preimage": np.eye(5)[:, 1:3]}),
    "RecycledSolve": Specimen(
        RecycledSolve,
        lambda: {
            "x": np.ones(2),
            "converged": True,
            "iterations": 1,
            "residual_norms": np.ones(2),
            "reason": "converged",
            "space": None,
            "matvecs": 2,
        },
        spare=frozenset({"x", "converged", "iterations", "residual_norms", "reason", "space", "matvecs"}),
    ),
}


def after(steps: int, A, b, **options) -> RecycledSolve:
    """The state after so many steps."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return gcrodr(A, b, tol=0, maxiter=steps, **options)


def assert_orthonormal_image(A, space: RecycleSpace) -> None:
    C = A @ space.U
    np.testing.assert_allclose(C.conj().T @ C, np.eye(C.shape[1]), atol=1e-10)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_without_recycling_it_is_restarted_gmres_of_scipy(problem):
    A, norms = PROBLEMS[problem], []
    b = draw(RNG, A.shape[0], dtype=A.dtype)
    scipy.sparse.linalg.gmres(A, b, rtol=1e-6, restart=15, maxiter=1000, callback=norms.append, callback_type="pr_norm")
    ours = gcrodr(A, b, restart=15, recycle=0, tol=1e-6)
    assert ours.space is None
    assert ours.iterations == len(norms) > 15
    np.testing.assert_allclose(ours.residual_norms[1:], np.array(norms) * np.linalg.norm(b), rtol=1e-8)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_first_cycle_of_a_cold_start_is_gmres(problem):
    A = PROBLEMS[problem]
    b = draw(RNG, A.shape[0], dtype=A.dtype)
    plain, recycled = after(15, A, b, restart=15, recycle=0), after(15, A, b, restart=15, recycle=5)
    np.testing.assert_allclose(recycled.residual_norms, plain.residual_norms, rtol=1e-12)
    np.testing.assert_allclose(recycled.x, plain.x, atol=1e-12)


@pytest.mark.parametrize("preconditioner", [None, jacobi, incomplete_lu])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_recycled_pair_and_the_residual_hold_after_every_cycle(problem, preconditioner):
    A, norms = PROBLEMS[problem], []
    b = draw(RNG, A.shape[0], dtype=A.dtype)
    if preconditioner is incomplete_lu:
        M = incomplete_lu(A, drop_tolerance=0.5, fill_factor=1)
    else:
        M = None if preconditioner is None else preconditioner(A)
    given = after(12, A + 0.01 * scipy.sparse.eye_array(A.shape[0]), b, restart=12, recycle=4, M=M).space
    for cycle in range(1, 8):
        norms.clear()
        found = after(8 * cycle, A, b, restart=12, recycle=4, M=M, space=given, callback=norms.append)
        assert_orthonormal_image(A, found.space)
        truth = np.linalg.norm(b - A @ found.x)
        assert abs(norms[-1] - truth) <= 1e-10 * np.linalg.norm(b)
        assert abs(found.residual_norms[-1] - truth) <= 1e-12 * np.linalg.norm(b)
        assert np.all(np.diff(found.residual_norms) <= 1e-12 * np.linalg.norm(b))
        assert len(norms) == found.iterations == len(found.residual_norms) - 1


def test_the_space_spans_the_harmonic_ritz_vectors_of_the_first_cycle():
    A = convection(8)
    b, m, k = draw(RNG, 64), 12, 4
    found = after(m, A, b, restart=m, recycle=k)
    V = np.linalg.qr(np.stack([np.linalg.matrix_power(A.toarray() / 8, j) @ b for j in range(m)], axis=1))[0]
    AV = A @ V
    theta, Y = scipy.linalg.eig(AV.T @ AV, AV.T @ V)
    k = found.space.U.shape[1]
    wanted = V @ Y[:, np.argsort(np.abs(theta))[:k]]
    basis = np.linalg.qr(found.space.U)[0]
    np.testing.assert_allclose(basis @ (basis.T @ wanted), wanted, atol=1e-6)
    assert not np.iscomplexobj(found.space.U)


@pytest.mark.parametrize("recycle", [3, 4, 5, 6])
def test_a_complex_pair_is_kept_whole(recycle):
    blocks = [np.array([[x, -y], [y, x]]) for x, y in zip(np.linspace(0.05, 3, 20), np.linspace(0.05, 1, 20))]
    A, b = scipy.linalg.block_diag(*blocks), np.ones(40)
    found = after(20, A, b, restart=20, recycle=recycle)
    assert found.space.U.shape[1] == recycle + recycle % 2
    assert_orthonormal_image(A, found.space)
    without_room = leading_subspace(A, recycle, recycle)
    assert without_room.shape[1] == recycle - recycle % 2
    np.testing.assert_allclose(without_room @ (without_room.T @ A @ without_room), A @ without_room, atol=1e-12)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_same_system_again_takes_no_more_steps_and_gcrodr_no_more_products_than_gmres(problem):
    A = PROBLEMS[problem]
    b = draw(RNG, A.shape[0], dtype=A.dtype)
    cold = gcrodr(A, b, restart=20, recycle=8)
    again = gcrodr(A, b, restart=20, recycle=8, space=cold.space)
    plain = gcrodr(A, b, restart=20, recycle=0)
    assert cold.converged
    assert again.converged
    assert again.iterations <= cold.iterations
    assert cold.matvecs <= plain.matvecs + 20


def test_an_exact_invariant_subspace_leaves_gmres_on_the_deflated_operator():
    n, k = 80, 5
    V = np.eye(n) + 0.1 * draw(RNG, n, n)
    A = V @ np.diag(np.r_[1e-4 * np.arange(1, k + 1), np.linspace(1, 5, n - k)]) @ np.linalg.inv(V)
    b = draw(RNG, n)
    Q = np.linalg.qr(V[:, :k])[0]
    outside = np.eye(n) - Q @ Q.T
    deflated = scipy.sparse.linalg.aslinearoperator(outside @ A)
    expected = gmres(deflated, outside @ b, restart=40, tol=1e-8 * np.linalg.norm(b) / np.linalg.norm(outside @ b))
    found = gcrodr(A, b, restart=40 + k, recycle=k, space=RecycleSpace(V[:, :k]))
    assert found.converged
    assert found.iterations == expected.iterations


def test_isolated_tiny_eigenvalues_cost_nothing_once_they_are_known():
    k, rest = 6, np.linspace(1, 4, 200)
    A, b = np.diag(np.r_[1e-3 * np.arange(1, k + 1), rest]), draw(RNG, 200 + k)
    options = {"restart": 30, "recycle": k}
    cold = gcrodr(A, b, **options)
    warm = gcrodr(A, draw(RNG, 200 + k), space=cold.space, **options)
    without = gcrodr(np.diag(rest), b[k:], restart=24, recycle=0)
    assert cold.iterations > without.iterations + k
    assert abs(warm.iterations - without.iterations) <= 2


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_all_kinds_of_matrices_give_the_dense_solution_cold_and_warm(kind, dtype):
    dense = draw(RNG, 12, 12, dtype=dtype) / 4 + 2 * np.eye(12, dtype=dtype)
    A, tol = KINDS[kind](dense), 300 * np.finfo(dtype).eps
    b = matching(kind, draw(RNG, 12, dtype=dtype))
    x0 = matching(kind, draw(RNG, 12, dtype=dtype))
    first = gcrodr(A, b, restart=6, recycle=2, tol=tol)
    second = gcrodr(A, b, x0=x0, restart=6, recycle=2, tol=tol, space=first.space)
    for found in (first, second):
        assert found.converged
        assert type(found.x) is type(b)
        assert found.x.dtype == b.dtype
        assert type(found.space.U) is type(b)
        assert_near(found.x, np.linalg.solve(dense.astype(np.complex128), np.asarray(b)), 30 * tol)


def test_columns_one_after_another_share_the_space():
    A = PROBLEMS["convection"]
    b = draw(RNG, A.shape[0], 3)
    b[:, 1] = 0
    together = gcrodr(A, b, restart=20, recycle=8)
    assert together.converged.all()
    assert together.iterations[1] == 0
    assert together.iterations[2] < together.iterations[0]
    assert together.residual_norms.shape == (together.iterations.max() + 1, 3)
    space = None
    for column in range(3):
        alone = gcrodr(A, b[:, column], restart=20, recycle=8, space=space)
        space = alone.space
        np.testing.assert_array_equal(alone.x, together.x[:, column])
        assert (alone.iterations, alone.matvecs) == (together.iterations[column], together.matvecs[column])
    np.testing.assert_array_equal(space.U, together.space.U)


@pytest.mark.parametrize("recycle", [0, 3])
def test_tiny_zero_and_singular_consistent_systems(recycle):
    one = gcrodr(np.array([[4.0]]), np.array([2.0]), recycle=recycle)
    assert one.x == pytest.approx(0.5)
    assert one.iterations == 1
    zero = gcrodr(np.eye(5), np.zeros(5), x0=np.ones(5), recycle=recycle)
    assert zero.converged
    assert zero.iterations == 0
    assert not zero.x.any()
    m = 8
    T = scipy.sparse.diags_array([-np.ones(m - 1), np.r_[1.0, 2 * np.ones(m - 2), 1.0], -np.ones(m - 1)], offsets=[-1, 0, 1])
    A = scipy.sparse.csr_array(scipy.sparse.kronsum(T, T))  # Neumann: constants are sent to zero
    b = draw(RNG, m * m)
    consistent = gcrodr(A, b - b.mean(), restart=12, recycle=recycle)
    assert consistent.converged
    if recycle:
        again = gcrodr(A, b[::-1] - b.mean(), restart=12, recycle=recycle, space=RecycleSpace(np.c_[np.ones(m * m), consistent.space.U]))
        assert again.converged


def test_a_space_that_holds_the_solution_needs_no_step():
    A, x = convection(6), draw(RNG, 36)
    found = gcrodr(A, A @ x, restart=6, recycle=2, space=RecycleSpace(np.stack([x, draw(RNG, 36)], axis=1)))
    assert found.converged
    assert found.iterations == 0
    np.testing.assert_allclose(found.x, x, atol=1e-10)


def test_dependent_columns_of_a_space_are_dropped():
    A, basis = convection(6), draw(RNG, 36, 2)
    found = gcrodr(A, draw(RNG, 36), restart=10, recycle=3, space=RecycleSpace(np.c_[basis, basis.sum(axis=1), np.zeros(36)]))
    assert found.converged
    assert_orthonormal_image(A, found.space)


def test_a_space_is_reused_under_another_preconditioner():
    A, b = PROBLEMS["convection"], np.ones(400)
    first = gcrodr(A, b, M=jacobi(A), restart=20, recycle=8)
    second = gcrodr(A, b, M=incomplete_lu(A, drop_tolerance=0.1), restart=20, recycle=8, space=first.space)
    assert second.converged
    assert_orthonormal_image(A, second.space)


def test_not_converging_is_warned_and_said():
    with pytest.warns(ConvergenceWarning, match="gcrodr did not converge: max_iterations"):
        found = gcrodr(PROBLEMS["convection"], np.ones(400), maxiter=3)
    assert found.reason == "max_iterations"
    assert found.iterations == 3
    with pytest.warns(ConvergenceWarning, match="singular|stagnated"):
        assert not gcrodr(np.diag([1.0, 0.0]), np.ones(2)).converged


def test_the_least_squares_problem_is_that_of_lapack():
    H = np.triu(draw(RNG, 6, 5, dtype=complex), -1)
    H[np.arange(1, 6), np.arange(5)] = np.abs(H[np.arange(1, 6), np.arange(5)])
    problem = GivensLeastSquares(2.0, 5, H.dtype)
    for j in range(5):
        norm, dropped = problem.append(H[: j + 2, j], False)
        right = 2.0 * np.eye(j + 2)[0]
        y = np.linalg.lstsq(H[: j + 2, : j + 1], right, rcond=None)[0]
        assert not dropped
        assert norm == pytest.approx(np.linalg.norm(right - H[: j + 2, : j + 1] @ y))
        np.testing.assert_allclose(problem.solution(), y, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"restart": 5, "recycle": 5}, ValueError, "restart"),
        ({"A": np.ones((3, 4)), "b": np.ones(3)}, ValueError, "A must be square"),
        ({"A": np.full((12, 12), np.nan)}, ValueError, "A must be finite"),
        ({"space": np.ones((12, 2))}, TypeError, "space"),
        ({"space": RecycleSpace(np.ones((11, 2)))}, ValueError, "space"),
        ({"space": RecycleSpace(1j * np.ones((12, 2)))}, ValueError, "space"),
        ({"space": RecycleSpace(torch.ones((12, 2)))}, ValueError, "space"),
        ({"space": RecycleSpace(np.ones((12, 2))), "recycle": 0}, ValueError, "space"),
        ({"space": RecycleSpace(np.ones((12, 6)))}, ValueError, "space must have fewer columns"),
        ({"callback": 3}, TypeError, "callback"),
        ({"M": np.eye(3)}, ValueError, "M must have the shape of A"),
    ],
)
def test_refusals(options, error, message):
    with pytest.raises(error, match=message):
        gcrodr(**({"A": small_matrix(), "b": np.ones(12), "restart": 6, "recycle": 2} | options))


def test_the_preimage_has_the_shape_of_the_basis():
    with pytest.raises(ValueError, match="preimage"):
        RecycleSpace(np.ones((4, 2)), np.ones((4, 3)))
