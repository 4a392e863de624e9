"""SSOR-preconditioned conjugate gradients: the preconditioner's formula, equality with SciPy's method, the bound, refusals."""

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
from linalg.test_sor import laplacian
from specimens import Specimen

from ritz.core import ConvergenceWarning
from ritz.linalg import pcg, ssor_cg, ssor_cg_iteration_bound, ssor_preconditioner

RNG = np.random.default_rng(0)
SPECIMENS = {
    "ssor_cg": Specimen(ssor_cg, lambda: {"A": laplacian(4), "b": np.ones(16), "omega": 1.4, "x0": np.zeros(16), "tol": 1e-6, "maxiter": 100}),
    "ssor_preconditioner": Specimen(ssor_preconditioner, lambda: {"A": laplacian(3), "omega": 1.2}),
    "pcg": Specimen(pcg, lambda: {"A": laplacian(4), "b": np.ones(16), "M": np.eye(16), "tol": 1e-6, "maxiter": 100}),
    "pcg.x0": Specimen(pcg, lambda: {"A": laplacian(4), "b": np.ones(16), "x0": np.ones(16)}),
    "ssor_cg_iteration_bound": Specimen(
        ssor_cg_iteration_bound, lambda: {"A": laplacian(3).toarray(), "omega": np.array([1.0, 1.5]), "tol": 1e-6}, accepts={"omega": ("scalar",)}
    ),
}


@pytest.mark.parametrize("omega", [0.5, 1.0, 1.7])
def test_the_preconditioner_is_its_formula_and_positive_definite(omega):
    A = laplacian(5, shift=0.3).toarray()
    D, L = np.diag(np.diagonal(A)), np.tril(A, -1)
    formula = omega / (2 - omega) * (D / omega + L) @ np.linalg.inv(D) @ (D / omega + L.T)
    M = ssor_preconditioner(A, omega).toarray()
    np.testing.assert_allclose(M @ formula, np.eye(25), atol=1e-12)
    np.testing.assert_allclose(M, M.T, atol=1e-14)
    assert np.linalg.eigvalsh(M).min() > 0


@pytest.mark.parametrize("omega", [0.8, 1.0, 1.6])
def test_it_is_scipys_method_given_that_preconditioner(omega):
    A, b, x0 = laplacian(12), RNG.standard_normal(144), RNG.standard_normal(144)
    M, iterates = ssor_preconditioner(A, omega), []
    x, info = scipy.sparse.linalg.cg(A, b, x0=x0, M=M, rtol=1e-8, callback=lambda x: iterates.append(x.copy()))
    assert info == 0
    for found in (pcg(A, b, M, x0=x0, tol=1e-8), ssor_cg(A, b, omega=omega, x0=x0, tol=1e-8)):
        assert found.converged
        assert found.iterations == len(iterates)
        np.testing.assert_allclose(found.x, x, atol=1e-10)
        norms = [np.linalg.norm(b - A @ y) for y in (x0, *iterates)]
        np.testing.assert_allclose(found.residual_norms, norms, rtol=1e-6)


def test_the_bound_holds():
    A, omegas = laplacian(8, shift=0.1), np.linspace(0.85, 1.9, 6)
    bounds = ssor_cg_iteration_bound(A, omegas, 1e-8)
    for omega, bound in zip(omegas, bounds):
        assert ssor_cg(A, RNG.standard_normal(64), omega=omega).iterations <= bound
        assert ssor_cg_iteration_bound(A, float(omega), 1e-8) == pytest.approx(bound)
        preconditioned = np.linalg.eigvals(ssor_preconditioner(A, omega).toarray() @ A.toarray()).real
        D, L, inverse = np.diag(A.diagonal()), np.tril(A.toarray(), -1), np.linalg.inv(A.toarray())
        alpha, beta = (np.linalg.eigvals(X @ inverse).real.max() for X in (D, L @ np.linalg.inv(D) @ L.T - D / 4))
        condition = (1 + (2 - omega) ** 2 / (4 * omega) * alpha + omega * beta) / (2 - omega)
        assert preconditioned.max() / preconditioned.min() <= condition * (1 + 1e-9)


def test_zero_tiny_and_indefinite_systems():
    assert ssor_cg(np.array([[2.0]]), np.array([4.0])).x == pytest.approx(2.0)
    assert ssor_cg(laplacian(3), np.zeros(9)).iterations == 0
    with pytest.warns(ConvergenceWarning, match="ssor_cg did not converge"):
        assert not ssor_cg(np.diag([1.0, -1.0]), np.ones(2)).converged


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ssor_cg(np.eye(3), np.ones(3), omega=2.0), "omega"),
        (lambda: ssor_preconditioner(np.eye(3), 0.0), "omega"),
        (lambda: ssor_cg_iteration_bound(np.diag([1.0, -1.0]), 1.0, 1e-8), "A must be positive definite"),
        (lambda: pcg(np.eye(3), np.ones(3), M=np.eye(2)), "M must have the shape of A"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
