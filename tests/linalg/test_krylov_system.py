"""Krylov solvers: equality with dense solves over kinds of input, convergence theory, honest failures, refusals."""

import warnings

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch
from linalg.kinds_of_input import DTYPES, KINDS, assert_near, draw, matching, with_eigenvalues
from specimens import Specimen

from ritz.core import ConvergenceWarning
from ritz.linalg import BlockDiagonalOperator, KrylovResult, cg, gmres, jacobi, lsmr, minres

RNG = np.random.default_rng(0)
SPD = np.linspace(1, 10, 12)
INDEFINITE = np.concatenate([np.linspace(-5, -1, 6), np.linspace(1, 5, 6)])
SOLVERS = {"cg": cg, "minres": minres, "gmres": gmres, "lsmr": lsmr}
HERMITIAN = {"cg": cg, "minres": minres}


def matrix_for(solver: str, dtype=np.float64) -> np.ndarray:
    """A well-conditioned matrix of the class that the solver is for."""
    if solver in ("gmres", "lsmr"):
        return draw(RNG, 12, 12, dtype=dtype) / 4 + 2 * np.eye(12, dtype=dtype)
    return with_eigenvalues(SPD if solver == "cg" else INDEFINITE, dtype, RNG)


def poisson(m: int) -> scipy.sparse.csr_array:
    T = scipy.sparse.diags_array([-np.ones(m - 1), 2 * np.ones(m), -np.ones(m - 1)], offsets=[-1, 0, 1])
    return scipy.sparse.csr_array(scipy.sparse.kronsum(T, T))


def arguments(solver):
    A = matrix_for(solver)
    return lambda: {"A": A.copy(), "b": np.ones((12, 2)), "preconditioner": np.eye(12), "tol": 1e-6, "max_iterations": 50}


ACCEPTS = {"max_iterations": ("none",)}
SPECIMENS = {name: Specimen(solve, arguments(name), accepts=ACCEPTS) for name, solve in SOLVERS.items()}
SPECIMENS |= {
    f"{name}.x0": Specimen(solve, lambda name=name: {"A": matrix_for(name), "b": np.ones(12), "x0": np.ones(12)}) for name, solve in SOLVERS.items()
}
SPECIMENS |= {
    f"{name}.sparse": Specimen(solve, lambda name=name: {"A": scipy.sparse.csr_array(matrix_for(name)), "b": np.ones(12)})
    for name, solve in SOLVERS.items()
}
SPECIMENS |= {
    "gmres.restart": Specimen(gmres, lambda: {"A": matrix_for("gmres"), "b": np.ones(12), "restart": 5}),
    "lsmr.damping": Specimen(lsmr, lambda: {"A": np.ones((4, 3)), "b": np.ones(4), "damping": 0.1}),
    "KrylovResult": Specimen(
        KrylovResult,
        lambda: {"x": np.ones(2), "converged": True, "iterations": 1, "residual_norms": np.ones(2), "reason": "converged"},
        spare=frozenset({"x", "converged", "iterations", "residual_norms", "reason"}),
    ),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_all_kinds_of_matrices_give_the_dense_solution(solver, kind, dtype):
    dense = matrix_for(solver, dtype)
    A, tol = KINDS[kind](dense), 200 * np.finfo(dtype).eps
    for b in (draw(RNG, 12, dtype=dtype), draw(RNG, 12, 3, dtype=dtype)):
        result = SOLVERS[solver](A, matching(kind, b), tol=tol)
        assert np.all(result.converged)
        assert tuple(result.x.shape) == b.shape
        assert type(result.x) is type(matching(kind, b))
        assert result.x.dtype == matching(kind, b).dtype
        assert_near(result.x, np.linalg.solve(dense.astype(np.complex128), b), 20 * tol)
        x = result.x.resolve_conj().numpy() if isinstance(result.x, torch.Tensor) else result.x
        np.testing.assert_allclose(result.residual_norms[-1], np.linalg.norm(b - dense @ x, axis=0), atol=0.2 * tol * np.linalg.norm(b))


@pytest.mark.parametrize("solver", SOLVERS)
def test_right_hand_sides_together_are_right_hand_sides_alone(solver):
    A = matrix_for(solver)
    b = draw(RNG, 12, 5)
    b[:, 1], b[:, 2] = 0, A @ np.eye(12)[0]
    together = SOLVERS[solver](A, b, tol=1e-10)
    assert together.residual_norms.shape[1] == 5
    for k in range(5):
        alone = SOLVERS[solver](A, b[:, k], tol=1e-10)
        assert alone.iterations == together.iterations[k]
        np.testing.assert_allclose(alone.x, together.x[:, k], atol=1e-9)
    assert together.iterations[1] == 0
    assert not together.x[:, 1].any()


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("n", [1, 2])
def test_tiny_systems_and_zero_right_hand_sides(solver, n):
    A = 3 * np.eye(n)
    np.testing.assert_allclose(SOLVERS[solver](A, np.ones(n)).x, np.ones(n) / 3, rtol=1e-12)
    zero = SOLVERS[solver](A, np.zeros(n))
    assert zero.converged
    assert zero.iterations == 0
    assert not zero.x.any()


@pytest.mark.parametrize("solver", ["cg", "minres", "gmres"])
def test_starting_at_the_solution_takes_no_step_and_zero_is_zero_whatever_x0(solver):
    A, x = matrix_for(solver), draw(RNG, 12)
    exact = SOLVERS[solver](A, A @ x, x0=x)
    assert exact.iterations == 0
    np.testing.assert_array_equal(exact.x, x)
    near = SOLVERS[solver](A, A @ x, x0=x + 1e-3 * draw(RNG, 12), tol=1e-10)
    np.testing.assert_allclose(near.x, x, atol=1e-8)
    assert not SOLVERS[solver](A, np.zeros(12), x0=x).x.any()


@pytest.mark.parametrize("solver", SOLVERS)
def test_arguments_are_not_changed(solver):
    A, b, x0 = matrix_for(solver), draw(RNG, 12), draw(RNG, 12)
    copies = A.copy(), b.copy(), x0.copy()
    SOLVERS[solver](A, b, x0=x0)
    for value, copy in zip((A, b, x0), copies):
        np.testing.assert_array_equal(value, copy)


@pytest.mark.parametrize("solver", HERMITIAN)
@pytest.mark.parametrize("distinct", [1, 2, 3, 5])
def test_as_many_steps_as_distinct_eigenvalues(solver, distinct):
    A = with_eigenvalues(np.resize(np.linspace(1, 4, distinct), 40), "float64", RNG)
    result = HERMITIAN[solver](A, draw(RNG, 40), tol=1e-12)
    assert result.iterations == distinct


@pytest.mark.parametrize("n", [3, 6, 10])
def test_cg_ends_in_n_steps(n):
    A = with_eigenvalues(np.linspace(1, n, n), "float64", RNG)
    b = draw(RNG, n)
    result = cg(A, b, tol=1e-12)
    assert result.iterations <= n
    np.testing.assert_allclose(result.x, np.linalg.solve(A, b), atol=1e-11)


def test_cg_obeys_the_chebyshev_bound_in_the_energy_norm():
    A = with_eigenvalues(np.geomspace(1, 100, 60), "float64", RNG)
    b, x = draw(RNG, 60), None
    x = np.linalg.solve(A, b)

    def energy(e):
        return np.sqrt(e @ A @ e)

    rate = (np.sqrt(100) - 1) / (np.sqrt(100) + 1)
    for steps in range(1, 40, 4):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            found = cg(A, b, tol=1e-14, max_iterations=steps).x
        assert energy(found - x) <= 2 * rate**steps * energy(x) * (1 + 1e-10)


def krylov_basis(A, b, steps):
    columns = [b / np.linalg.norm(b)]
    for _ in range(steps - 1):
        w = A @ columns[-1]
        for _ in range(2):
            w = w - np.stack(columns, 1) @ (np.stack(columns, 1).conj().T @ w)
        columns.append(w / np.linalg.norm(w))
    return np.stack(columns, 1)


@pytest.mark.parametrize("dtype", [float, complex])
@pytest.mark.parametrize("solver", ["minres", "gmres"])
def test_residuals_are_the_least_over_the_krylov_space(solver, dtype):
    A = with_eigenvalues(np.concatenate([np.linspace(-3, -0.5, 15), np.linspace(0.2, 4, 15)]), dtype, RNG)
    if solver == "gmres":
        A = A + draw(RNG, 30, 30, dtype=dtype) / 10
    b = draw(RNG, 30, dtype=dtype)
    result = SOLVERS[solver](A, b, tol=1e-10)
    assert np.all(np.diff(result.residual_norms) <= 1e-9 * result.residual_norms[0])
    for steps in (1, 2, 5, 9, 14):
        K = krylov_basis(A, b, steps)
        best = np.linalg.norm(b - A @ K @ np.linalg.lstsq(A @ K, b)[0])
        assert result.residual_norms[steps] == pytest.approx(best, rel=1e-6)


def test_gmres_residuals_never_grow_across_restarts_and_full_gmres_ends_in_n_steps():
    A, b = draw(RNG, 40, 40) / 6 + 2 * np.eye(40), draw(RNG, 40)
    restarted = gmres(A, b, restart=5, tol=1e-10)
    assert restarted.converged
    assert restarted.iterations > 5
    assert np.all(np.diff(restarted.residual_norms) <= 1e-9 * restarted.residual_norms[0])
    assert gmres(draw(RNG, 15, 15), draw(RNG, 15), tol=1e-8, restart=15).iterations <= 15


def test_gmres_says_that_a_restart_stagnates():
    shift = np.roll(np.eye(6), 1, axis=0)  # no progress before step n
    with pytest.warns(ConvergenceWarning, match="no longer decreases"):
        result = gmres(shift, np.eye(6)[0], restart=3)
    assert result.reason == "stagnated"
    assert gmres(shift, np.eye(6)[0], restart=6).converged


def test_gmres_says_that_a_matrix_is_singular():
    A = np.diag([1.0, 2.0, 0.0])
    with pytest.warns(ConvergenceWarning, match="singular"):
        result = gmres(A, np.ones(3))
    assert result.reason == "singular"
    assert result.residual_norms[-1] == pytest.approx(1.0)
    assert gmres(A, np.array([1.0, 1.0, 0.0])).converged
    with pytest.warns(ConvergenceWarning, match="singular"):
        assert not gmres(np.zeros((3, 3)), np.ones(3)).x.any()


@pytest.mark.parametrize("columns", [None, 3])
def test_cg_says_that_a_matrix_is_indefinite(columns):
    A = with_eigenvalues(INDEFINITE, "float64", RNG)
    b = draw(RNG, 12) if columns is None else draw(RNG, 12, columns)
    with pytest.warns(ConvergenceWarning, match="not positive definite"):
        result = cg(A, b)
    assert not np.any(result.converged)
    assert set(np.atleast_1d(result.reason)) == {"indefinite"}
    assert np.isfinite(result.x).all()
    assert np.all(minres(A, b).converged)


def test_one_bad_column_does_not_spoil_the_others():
    A = np.diag([1.0, 2.0, -1.0])
    with pytest.warns(ConvergenceWarning, match="1 of 2 right-hand sides"):
        result = cg(A, np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    assert result.converged.tolist() == [True, False]
    assert result.reason == ("converged", "indefinite")
    np.testing.assert_allclose(result.x[:, 0], [1, 0.5, 0])


@pytest.mark.parametrize("solver", HERMITIAN)
def test_indefinite_preconditioners_are_named(solver):
    with pytest.warns(ConvergenceWarning, match="preconditioner is not positive definite"):
        result = HERMITIAN[solver](with_eigenvalues(SPD, "float64", RNG), np.ones(12), preconditioner=-np.eye(12))
    assert result.reason == "indefinite_preconditioner"


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
@pytest.mark.parametrize("solver", HERMITIAN)
def test_singular_consistent_systems_get_the_least_norm_solution(solver, dtype):
    A = with_eigenvalues([0, 0, 0, *(np.linspace(-3, 3, 10) if solver == "minres" else np.linspace(1, 3, 10))], dtype, RNG)
    b = A @ draw(RNG, 13, 2, dtype=dtype)
    tol = 200 * np.finfo(dtype).eps
    result = HERMITIAN[solver](A, b, tol=tol)
    assert result.converged.all()
    assert_near(result.x, np.linalg.pinv(A.astype(np.complex128), rcond=1e-5) @ b, 50 * tol)


def test_minres_minimizes_the_residual_of_inconsistent_systems_and_says_so():
    A = with_eigenvalues([0, 0, *np.linspace(-3, 3, 10)], "float64", RNG)
    b = draw(RNG, 12)
    with pytest.warns(ConvergenceWarning, match="singular"):
        result = minres(A, b)
    assert result.reason == "singular"
    np.testing.assert_allclose(result.residual_norms[-1], np.linalg.norm(b - A @ np.linalg.pinv(A, rcond=1e-10) @ b), rtol=1e-8)
    with pytest.warns(ConvergenceWarning, match="singular"):
        assert not minres(np.zeros((3, 3)), np.ones(3)).x.any()


@pytest.mark.parametrize("solver", SOLVERS)
def test_running_out_of_steps_is_warned_and_the_last_residual_is_the_true_one(solver):
    A, b = poisson(12), draw(RNG, 144, 2)
    with pytest.warns(ConvergenceWarning, match=f"{solver} did not converge for 2 of 2 .*max_iterations") as record:
        result = SOLVERS[solver](A, b, max_iterations=3)
    assert record[0].filename == __file__
    assert result.iterations.tolist() == [3, 3]
    assert result.reason == ("max_iterations", "max_iterations")
    np.testing.assert_allclose(result.residual_norms[-1], np.linalg.norm(b - A @ result.x, axis=0), rtol=1e-12)


@pytest.mark.parametrize("solver", HERMITIAN)
def test_a_tolerance_beyond_rounding_is_not_claimed(solver):
    A = with_eigenvalues(np.geomspace(1e-4, 1, 50), np.float32, RNG)
    b = A @ draw(RNG, 50, dtype=np.float32)
    with pytest.warns(ConvergenceWarning):
        result = HERMITIAN[solver](A, b, tol=1e-9, max_iterations=2000)
    assert not result.converged
    assert result.residual_norms[-1] < 1e-4 * np.linalg.norm(b)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("scale", [1e-35, 1e-25, 1e25, 1e37])
@pytest.mark.parametrize("solver", SOLVERS)
def test_right_hand_sides_whose_norm_would_over_or_underflow(solver, scale, kind):
    A, b = matrix_for(solver, np.float32), np.stack([np.ones(12), np.arange(12)], axis=1).astype(np.float32)
    scaled = SOLVERS[solver](kind(A), kind(b * np.float32(scale)))
    assert scaled.converged.all()
    assert (scaled.iterations > 0).all()
    assert_near(scaled.x / np.float32(scale), np.linalg.solve(A, b), 1e-4)
    np.testing.assert_allclose(scaled.residual_norms[0], scale * np.linalg.norm(b, axis=0), rtol=1e-5)


@pytest.mark.parametrize("solver", SOLVERS)
def test_gradients_are_not_recorded(solver):
    A, b = torch.from_numpy(matrix_for(solver)).requires_grad_(), torch.ones(12, dtype=torch.float64, requires_grad=True)
    assert not SOLVERS[solver](A, b).x.requires_grad


def test_overflow_is_a_breakdown_not_a_result():
    A = np.diag(np.array([1e38, 2e38, 3e38], dtype=np.float32))
    with pytest.warns(ConvergenceWarning), np.errstate(all="ignore"):
        result = cg(A, np.full(3, 1.9, dtype=np.float32))
    assert result.reason == "breakdown"
    assert np.isfinite(result.x).all()


@pytest.mark.parametrize("solver", SOLVERS)
def test_preconditioners_do_not_change_the_solution(solver):
    scale = np.geomspace(1, 1e4, 12)
    A = matrix_for(solver) * np.sqrt(np.outer(scale, scale))
    x = draw(RNG, 12, 2)
    M = np.diag(1 / scale)
    for preconditioner in (M, scipy.sparse.csr_array(M), scipy.sparse.linalg.aslinearoperator(M), BlockDiagonalOperator(M[None])):
        result = SOLVERS[solver](A, A @ x, preconditioner=preconditioner, tol=1e-11)
        assert result.converged.all()
        np.testing.assert_allclose(result.x, x, atol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        plain = SOLVERS[solver](A, A @ x, tol=1e-11)
    assert solver == "gmres" or (result.iterations < plain.iterations).all()  # GMRES ends in n steps, here 12, with or without


@pytest.mark.parametrize("name", ["cg", "minres", "gmres"])
@pytest.mark.parametrize("columns", [1, 3])
def test_preconditioners_known_by_their_products_with_vectors_alone(name, columns):
    A, b = with_eigenvalues(SPD, seed=2), draw(RNG, 12, columns)
    M = scipy.sparse.linalg.LinearOperator(A.shape, matvec=lambda r: r / np.diag(A).reshape(-1, *(1,) * (r.ndim - 1)), dtype=np.float64)
    assert_near(SOLVERS[name](A, b, preconditioner=M, tol=1e-12).x, np.linalg.solve(A, b), 1e-9)


def test_exact_preconditioners_take_one_step():
    A = with_eigenvalues(SPD, "float64", RNG)
    for solve in (cg, minres, gmres):
        assert solve(A, draw(RNG, 12), preconditioner=np.linalg.inv(A), tol=1e-10).iterations == 1


def test_steps_and_solutions_are_scipys():
    A, b = poisson(20), draw(RNG, 400)
    steps = []
    expected, _ = scipy.sparse.linalg.cg(A, b, rtol=1e-8, callback=steps.append)
    ours = cg(A, b, tol=1e-8)
    assert abs(ours.iterations - len(steps)) <= 1
    np.testing.assert_allclose(ours.x, expected, atol=1e-6)
    M = jacobi(A)
    np.testing.assert_allclose(gmres(A, b, preconditioner=M, tol=1e-10).x, scipy.sparse.linalg.spsolve(A, b), atol=1e-6)


@pytest.mark.parametrize("kind", ["numpy", "csr_array", "LinearOperator", "torch", "torch sparse csr", "torch structured"])
@pytest.mark.parametrize("shape", [(20, 7), (7, 20)])
def test_lsmr_solves_least_squares_of_any_shape_with_least_norm(kind, shape):
    dense, b = draw(RNG, *shape), draw(RNG, shape[0], 2)
    result = lsmr(KINDS[kind](dense), matching(kind, b), tol=1e-13)
    assert result.converged.all()
    assert_near(result.x, np.linalg.pinv(dense) @ b, 1e-9)
    damped = lsmr(KINDS[kind](dense), matching(kind, b), damping=0.5, tol=1e-13)
    assert_near(damped.x, np.linalg.solve(dense.T @ dense + 0.25 * np.eye(shape[1]), dense.T @ b), 1e-9)


def bad_call(solver):
    def call(A=None, b=None, **options):
        return SOLVERS[solver](matrix_for(solver) if A is None else A, np.ones(12) if b is None else b, **options)

    return call


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"b": np.ones(11)}, ValueError, "b must have shape"),
        ({"b": torch.ones(12, dtype=torch.float64)}, TypeError, "A and b must both be torch"),
        ({"A": torch.eye(12), "b": torch.ones(12, dtype=torch.float64)}, TypeError, "b must have the dtype of A"),
        ({"preconditioner": np.eye(11)}, ValueError, "preconditioner must have"),
        ({"preconditioner": torch.eye(12)}, TypeError, "preconditioner and b must both"),
        ({"x0": np.ones(11)}, ValueError, "x0 must have shape"),
        ({"tol": -1.0}, ValueError, "tol must be"),
        ({"max_iterations": 0}, ValueError, "max_iterations must be"),
        ({"A": BlockDiagonalOperator(np.ones((2, 1, 12, 12)))}, ValueError, "A must be one matrix"),
    ],
)
def test_refusals(solver, options, error, message):
    with pytest.raises(error, match=message):
        bad_call(solver)(**options)


@pytest.mark.parametrize("solver", HERMITIAN)
@pytest.mark.parametrize("kind", ["numpy", "csr_array", "LinearOperator"])
def test_matrices_that_are_not_hermitian_are_refused(solver, kind):
    skewed = with_eigenvalues(SPD, "float64", RNG) + 1e-3 * draw(RNG, 12, 12)
    with pytest.raises(ValueError, match="A must be Hermitian"):
        HERMITIAN[solver](KINDS[kind](skewed), np.ones(12))
    complex_symmetric = with_eigenvalues(SPD, "float64", RNG) + 1j * with_eigenvalues(SPD, "float64", RNG)
    with pytest.raises(ValueError, match="A must be Hermitian"):
        HERMITIAN[solver](KINDS[kind](complex_symmetric), np.ones(12))
    with pytest.raises(ValueError, match="preconditioner must be Hermitian"):
        HERMITIAN[solver](with_eigenvalues(SPD, "float64", RNG), np.ones(12), preconditioner=KINDS[kind](skewed))


@pytest.mark.parametrize("solver", ["cg", "minres", "gmres"])
def test_rectangular_matrices_are_refused(solver):
    with pytest.raises(ValueError, match="A must be square"):
        SOLVERS[solver](np.ones((12, 11)), np.ones(12))
