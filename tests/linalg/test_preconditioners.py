"""Preconditioners equal their definitions, shorten the solvers' way, and refuse what they cannot factor."""

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch
from linalg.kinds_of_input import DTYPES, assert_near, draw, with_eigenvalues
from specimens import Specimen

from ritz.linalg import cg, gmres, incomplete_lu, jacobi, minres, ssor

RNG = np.random.default_rng(0)


def dominant(dtype=np.float64) -> np.ndarray:
    return draw(RNG, 8, 8, dtype=dtype) + 8 * np.eye(8, dtype=dtype)


def diffusion(m: int) -> scipy.sparse.csr_array:
    """Five-point stencil of -div(k grad u) with a coefficient that jumps by 100."""
    n, k = m * m, np.where(np.arange(m * m) % m < m // 2, 1.0, 100.0)
    T = scipy.sparse.diags_array([-np.ones(m - 1), 2 * np.ones(m), -np.ones(m - 1)], offsets=[-1, 0, 1])
    scale = scipy.sparse.diags_array(np.sqrt(k), shape=(n, n))
    return scipy.sparse.csr_array(scale @ scipy.sparse.kronsum(T, T) @ scale)


SPECIMENS = {
    "jacobi": Specimen(jacobi, lambda: {"A": dominant()}),
    "jacobi.sparse": Specimen(jacobi, lambda: {"A": scipy.sparse.csr_array(dominant())}),
    "jacobi.torch": Specimen(jacobi, lambda: {"A": torch.from_numpy(dominant())}),
    "ssor": Specimen(ssor, lambda: {"A": dominant(), "relaxation": 1.2}),
    "ssor.sparse": Specimen(ssor, lambda: {"A": scipy.sparse.csr_array(dominant())}),
    "incomplete_lu": Specimen(incomplete_lu, lambda: {"A": dominant(), "drop_tolerance": 0.01, "fill_factor": 5.0}),
    "incomplete_lu.sparse": Specimen(incomplete_lu, lambda: {"A": scipy.sparse.csr_array(dominant())}),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", [np.asarray, np.asfortranarray, scipy.sparse.csr_array, scipy.sparse.csc_matrix, scipy.sparse.coo_array])
def test_definitions_over_kinds_of_systems(kind, dtype):
    A, w = dominant(dtype), np.dtype(dtype).type(1.3)
    D, L, U = np.diag(np.diag(A)), np.tril(A, -1), np.triu(A, 1)
    expected = {
        "jacobi": (jacobi(kind(A)), np.linalg.inv(D)),
        "ssor": (ssor(kind(A), relaxation=1.3), (2 - w) * np.linalg.inv(D / w + U) @ (D / w) @ np.linalg.inv(D / w + L)),
        "complete": (incomplete_lu(kind(A), drop_tolerance=0.0, fill_factor=20.0), np.linalg.inv(A)),
    }
    for M, dense in expected.values():
        assert M.dtype == dtype
        for operator, matrix in ((M, dense), (M.T, dense.T), (M.H, dense.conj().T), (M.H.T, dense.conj()), (M.H.H, dense)):
            assert_near(operator.toarray(), matrix, 1e3 * np.finfo(dtype).eps)
        for shape in ((8,), (8, 3), (2, 8, 3)):
            x = draw(RNG, *shape, dtype=dtype)
            copy = x.copy()
            found = M @ x
            assert found.dtype == dtype
            assert_near(found, dense @ x, 1e3 * np.finfo(dtype).eps)
            np.testing.assert_array_equal(x, copy)


@pytest.mark.parametrize("make", [jacobi, ssor, incomplete_lu])
def test_real_factors_take_complex_columns(make):
    M, x = make(dominant()), draw(RNG, 8, 2, dtype=complex)
    np.testing.assert_allclose(M @ x, M.toarray() @ x, atol=1e-12)


def test_jacobi_of_tensors():
    A = dominant(np.float32)
    for tensor in (torch.from_numpy(A), torch.from_numpy(A).to_sparse_coo()):
        M = jacobi(tensor)
        assert M.diagonal.dtype == torch.float32
        np.testing.assert_array_equal(M.diagonal.numpy(), 1 / np.diag(A))


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
@pytest.mark.parametrize("relaxation", [0.5, 1.0, 1.7])
def test_ssor_of_a_positive_definite_matrix_is_positive_definite(relaxation, dtype):
    M = ssor(with_eigenvalues(np.geomspace(1e-3, 1, 8), dtype, RNG), relaxation=relaxation).toarray()
    np.testing.assert_allclose(M, M.conj().T, atol=1e-9 * np.abs(M).max())
    assert np.linalg.eigvalsh(M).min() > 0


def test_they_shorten_the_way():
    A = diffusion(24)
    b = draw(RNG, A.shape[0], 2)
    exact = scipy.sparse.linalg.spsolve(A.tocsc(), b)
    steps = {name: cg(A, b, preconditioner=M, tol=1e-9) for name, M in (("none", None), ("jacobi", jacobi(A)), ("ssor", ssor(A)))}
    for result in steps.values():
        assert result.converged.all()
        np.testing.assert_allclose(result.x, exact, atol=1e-4)
    assert (steps["jacobi"].iterations < 0.5 * steps["none"].iterations).all()
    assert (steps["ssor"].iterations < 0.6 * steps["jacobi"].iterations).all()
    assert (minres(A, b, preconditioner=ssor(A), tol=1e-9).iterations < steps["jacobi"].iterations).all()
    assert (gmres(A, b, preconditioner=incomplete_lu(A), tol=1e-9).iterations <= 10).all()


def test_scipys_solvers_take_them():
    A, b = diffusion(12), draw(RNG, 144)
    for M in (jacobi(A), ssor(A)):
        x, info = scipy.sparse.linalg.cg(A, b, M=M, rtol=1e-10)
        assert info == 0
        np.testing.assert_allclose(A @ x, b, atol=1e-7)
    x, info = scipy.sparse.linalg.gmres(A, b, M=incomplete_lu(A), rtol=1e-10)
    assert info == 0
    np.testing.assert_allclose(A @ x, b, atol=1e-7)


@pytest.mark.parametrize("make", [jacobi, ssor, incomplete_lu])
@pytest.mark.parametrize(
    ("A", "error", "message"),
    [
        (np.ones((3, 2)), ValueError, "A must be square"),
        (scipy.sparse.csr_array(np.array([[0.0, 1.0], [0.0, 0.0]])), ValueError, "A must have"),
        (scipy.sparse.linalg.aslinearoperator(np.eye(2)), TypeError, "A must be an explicit matrix"),
        (scipy.sparse.csr_array(np.array([[1.0, np.nan], [1.0, 1.0]])), ValueError, "A must be finite"),
    ],
)
def test_refusals(make, A, error, message):
    with pytest.raises(error, match=message):
        make(A)


@pytest.mark.parametrize("make", [ssor, incomplete_lu])
def test_tensors_are_refused_by_sweeps(make):
    with pytest.raises(TypeError, match="A must be a NumPy or SciPy sparse matrix"):
        make(torch.eye(2))


@pytest.mark.parametrize("relaxation", [0.0, 2.0, -1.0])
def test_relaxation_has_bounds(relaxation):
    with pytest.raises(ValueError, match="relaxation must be"):
        ssor(np.eye(2), relaxation=relaxation)
