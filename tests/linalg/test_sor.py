"""Successive over-relaxation: Gauss and Seidel's method, sweeps as triangular solves, asymptotic rates, the best omega, the bound, refusals."""

import numpy as np
import pytest
import scipy.sparse
from linalg.kinds_of_input import KINDS, OPERATORS, check_kind, matching, with_eigenvalues
from specimens import Specimen

from ritz.core import ConvergenceWarning
from ritz.linalg import IterativeSolve, optimal_omega, sor, sor_iteration_bound, ssor_cg

RNG = np.random.default_rng(0)


def laplacian(n: int, shift: float = 0.0) -> scipy.sparse.csr_array:
    T = scipy.sparse.diags_array([-np.ones(n - 1), (2 + shift / 2) * np.ones(n), -np.ones(n - 1)], offsets=[-1, 0, 1])
    return scipy.sparse.csr_array(scipy.sparse.kronsum(T, T))


def iteration_matrix(A: np.ndarray, omega: float) -> np.ndarray:
    return np.eye(len(A)) - A @ np.linalg.inv(np.diag(np.diagonal(A)) / omega + np.tril(A, -1))


SPECIMENS = {
    "sor": Specimen(
        sor,
        lambda: {
            "A": laplacian(4),
            "b": np.ones(16),
            "omega": 1.4,
            "x0": np.zeros(16),
            "tol": 1e-6,
            "maxiter": 500,
            "symmetric": False,
        },
    ),
    "IterativeSolve": Specimen(
        IterativeSolve,
        lambda: {"x": np.ones(2), "converged": True, "iterations": 1, "residual_norms": np.ones(2)},
        spare=frozenset({"x", "converged", "iterations", "residual_norms"}),
    ),
    "optimal_omega": Specimen(optimal_omega, lambda: {"A": laplacian(4)}),
    "sor_iteration_bound": Specimen(
        sor_iteration_bound, lambda: {"A": laplacian(3).toarray(), "omega": np.array([1.0, 1.5]), "tol": 1e-6}, accepts={"omega": ("scalar",)}
    ),
}


@pytest.mark.parametrize("omega", [0.7, 1.0, 1.6])
def test_one_sweep_is_a_triangular_solve(omega):
    A, b, x0 = RNG.standard_normal((7, 7)) + 5 * np.eye(7), RNG.standard_normal(7), RNG.standard_normal(7)
    with pytest.warns(ConvergenceWarning):
        found = sor(A, b, omega=omega, x0=x0, tol=0, maxiter=1)
    lower = np.diag(np.diagonal(A)) / omega + np.tril(A, -1)
    np.testing.assert_allclose(found.x, x0 + np.linalg.solve(lower, b - A @ x0), rtol=1e-12)
    np.testing.assert_allclose(found.residual_norms, [np.linalg.norm(b - A @ x0), np.linalg.norm(b - A @ found.x)], rtol=1e-12)


def test_at_omega_one_it_is_gauss_and_seidels_method():
    A, b = laplacian(4).toarray(), RNG.standard_normal(16)
    x = np.zeros(16)
    for _ in range(5):
        for i in range(16):
            x[i] = (b[i] - A[i] @ x + A[i, i] * x[i]) / A[i, i]
    with pytest.warns(ConvergenceWarning, match="5 sweeps"):
        np.testing.assert_allclose(sor(A, b, omega=1.0, tol=0, maxiter=5).x, x, rtol=1e-12)


def test_a_symmetric_sweep_goes_forward_and_back():
    A, b, omega = laplacian(4).toarray(), RNG.standard_normal(16), 1.3
    D, L = np.diag(np.diagonal(A)), np.tril(A, -1)
    x = np.linalg.solve(D / omega + L, b)
    x = x + np.linalg.solve(D / omega + L.T, b - A @ x)
    with pytest.warns(ConvergenceWarning):
        np.testing.assert_allclose(sor(A, b, omega=omega, tol=0, maxiter=1, symmetric=True).x, x, rtol=1e-12)
    assert sor(A, b, omega=omega, symmetric=True).converged


@pytest.mark.parametrize("omega", [0.1, 0.5, 1.0, 1.5, 1.9])
def test_positive_definite_systems_converge_for_every_omega(omega):
    A = with_eigenvalues(np.linspace(0.5, 4, 15))
    b = RNG.standard_normal(15)
    found = sor(A, b, omega=omega)
    assert found.converged
    assert len(found.residual_norms) == found.iterations + 1
    assert found.residual_norms[-1] < 1e-8 * found.residual_norms[0] <= found.residual_norms[-2]
    np.testing.assert_allclose(found.x, np.linalg.solve(A, b), atol=1e-6)


@pytest.mark.parametrize("omega", [1.0, 1.3, 1.5])
def test_the_error_contracts_by_the_spectral_radius(omega):
    A = laplacian(10)
    radius = np.abs(np.linalg.eigvals(iteration_matrix(A.toarray(), omega))).max()
    found = sor(A, RNG.standard_normal(100), omega=omega, tol=1e-12)
    rate = (found.residual_norms[-1] / found.residual_norms[-21]) ** (1 / 20)
    assert rate == pytest.approx(radius, rel=0.05)


@pytest.mark.parametrize("n", [5, 10, 50])
def test_the_best_omega_of_a_grid_is_known(n):
    assert optimal_omega(laplacian(n)) == pytest.approx(2 / (1 + np.sin(np.pi / (n + 1))), rel=1e-8)


def test_the_best_omega_has_the_least_spectral_radius():
    A = laplacian(8, shift=0.3)
    best = optimal_omega(A)
    radii = {omega: np.abs(np.linalg.eigvals(iteration_matrix(A.toarray(), omega))).max() for omega in (best - 0.05, best, best + 0.05)}
    assert min(radii, key=radii.get) == best
    assert radii[best] == pytest.approx(best - 1, abs=1e-3)  # a double eigenvalue: found to the root of rounding
    beta = np.cos(np.pi / 9) * 4 / 4.3
    w = best - 0.05
    assert radii[w] == pytest.approx(((w * beta + np.sqrt(w**2 * beta**2 - 4 * (w - 1))) / 2) ** 2)


def test_the_bound_holds_for_every_right_hand_side():
    A, omegas = laplacian(8, shift=0.2), np.linspace(1, 1.9, 7)
    bounds = sor_iteration_bound(A, omegas, 1e-8)
    for omega, bound in zip(omegas, bounds):
        for _ in range(3):
            assert sor(A, RNG.standard_normal(64), omega=omega).iterations <= bound
        alone = sor_iteration_bound(A, float(omega), 1e-8)
        assert isinstance(alone, float)
        assert alone <= bound + 1e-9
        C = iteration_matrix(A.toarray(), omega)
        k = next(k for k in range(1, 10_000) if np.linalg.norm(np.linalg.matrix_power(C, k), 2) <= 1e-8)
        assert alone == pytest.approx(1 + np.log(1e-8) / np.log(np.linalg.norm(np.linalg.matrix_power(C, k - 1), 2) ** (1 / (k - 1))), rel=1e-8)
    assert bounds.max() <= 2.5 * sor_iteration_bound(A, omegas[0], 1e-8)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", sorted(KINDS.keys() - OPERATORS))
@pytest.mark.parametrize("solve", [sor, ssor_cg])
def test_kinds_of_input(solve, kind, dtype):
    A, b = laplacian(5).toarray().astype(dtype), RNG.standard_normal(25).astype(dtype)
    found = solve(KINDS[kind](A), matching(kind, b), tol=1e-5, omega=1.3)
    np.testing.assert_allclose(check_kind(found.x, kind, dtype), np.linalg.solve(A, b), atol=1e-3)


@pytest.mark.parametrize("kind", OPERATORS)
def test_operators_have_no_rows_to_sweep_over(kind):
    with pytest.raises(TypeError, match="A"):
        sor(KINDS[kind](np.eye(3)), matching(kind, np.ones(3)))


def test_zero_tiny_and_solved_systems():
    assert sor(np.array([[2.0]]), np.array([4.0]), omega=1.0).x == pytest.approx(2.0)
    zero = sor(laplacian(3), np.zeros(9))
    assert zero.converged
    assert zero.iterations == 0
    x = np.ones(9)
    assert sor(laplacian(3), laplacian(3) @ x, x0=x).iterations == 0


def test_divergence_is_warned():
    with pytest.warns(ConvergenceWarning, match="sor did not converge"):
        assert not sor(np.array([[1.0, 3.0], [3.0, 1.0]]), np.ones(2), maxiter=2000).converged


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sor(np.eye(3), np.ones(3), omega=2.0), "omega"),
        (lambda: sor(np.eye(3), np.ones(3), omega=0.0), "omega"),
        (lambda: sor(np.array([[0.0, 1.0], [1.0, 1.0]]), np.ones(2)), "A must have no zeros on its diagonal"),
        (lambda: sor(np.ones((2, 3)), np.ones(2)), "A must be square"),
        (lambda: sor(np.eye(3), np.ones(4)), "b"),
        (lambda: optimal_omega(np.array([[1.0, 2.0], [2.0, 1.0]])), "A must be such that Jacobi"),
        (lambda: optimal_omega(np.array([[1.0, 0.5], [0.0, 1.0]])), "A must be symmetric"),
        (lambda: optimal_omega(-np.eye(2)), "A must have a positive diagonal"),
        (lambda: sor_iteration_bound(np.array([[1.0, 2.0], [2.0, 1.0]]), 1.5, 1e-8), "A must be positive definite"),
        (lambda: sor_iteration_bound(np.eye(2), [1.0, 2.5], 1e-8), "omega"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
