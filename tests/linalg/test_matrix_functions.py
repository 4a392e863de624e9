"""f(A) b by Lanczos against the eigendecomposition, for every kind of input; the error estimate; refusals."""

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse
import torch
from linalg.kinds_of_input import DTYPES, KINDS, answers_in_torch, check_kind, tolerance, with_eigenvalues
from specimens import Specimen

from ritz.core import ConvergenceWarning
from ritz.linalg import MatrixFunctionAction, matrix_function_action

FUNCTIONS = {"exp": np.exp, "sqrt": np.sqrt, "inverse sqrt": lambda x: x**-0.5, "sign": np.sign}
POSITIVE = np.linspace(0.5, 4.0, 60)
INDEFINITE = np.concatenate([np.linspace(-3, -1, 30), np.linspace(1, 2, 30)])


def arguments():
    return {"f": "exp", "A": with_eigenvalues(np.linspace(1, 2, 8)), "b": np.arange(1.0, 9.0), "tol": 1e-6, "max_steps": 8}


SPECIMENS = {
    "matrix_function_action": Specimen(matrix_function_action, arguments),
    "matrix_function_action.block": Specimen(matrix_function_action, lambda: arguments() | {"b": np.ones((8, 2))}),
    "MatrixFunctionAction": Specimen(lambda: matrix_function_action(**arguments()), dict),
}


def vectors(kind, dtype, columns=None):
    rng = np.random.default_rng(1)
    shape = (60,) if columns is None else (60, columns)
    b = rng.standard_normal(shape) + (1j * rng.standard_normal(shape) if dtype.startswith("complex") else 0)
    b = b.astype(dtype)
    return b, torch.from_numpy(b) if answers_in_torch(kind) else b


@pytest.mark.parametrize("f", FUNCTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_functions_of_every_kind(kind, dtype, f):
    spectrum = INDEFINITE if f == "sign" else POSITIVE
    dense = with_eigenvalues(spectrum, dtype)
    values, V = np.linalg.eigh(dense.astype("complex128"))
    for columns in (None, 3):
        plain, b = vectors(kind, dtype, columns)
        found = matrix_function_action(f, KINDS[kind](dense), b, tol=tolerance(dtype))
        expected = (V * FUNCTIONS[f](values)) @ (V.conj().T @ plain)
        np.testing.assert_allclose(check_kind(found.x, kind, dtype), expected, atol=20 * tolerance(dtype) * np.linalg.norm(expected))
        assert found.converged
        assert found.steps <= 60


def test_a_callable_and_polynomials_are_exact_below_the_number_of_steps():
    A = with_eigenvalues(np.linspace(-1, 1, 60))
    b = np.ones(60)
    found = matrix_function_action(lambda x: 3 * x**3 - x + 2, A, b)
    np.testing.assert_allclose(found.x, 3 * A @ A @ A @ b - A @ b + 2 * b, atol=1e-12)
    assert found.steps <= 8  # exact from 4 steps on, confirmed 4 steps later
    wave = matrix_function_action(lambda x: torch.cos(5 * x), torch.from_numpy(A), torch.ones(60, dtype=torch.float64))
    np.testing.assert_allclose(wave.x.numpy(), scipy.linalg.cosm(5 * A) @ b, atol=1e-6)


def test_the_exponential_of_a_large_sparse_laplacian_against_scipy():
    n = 2000
    path = scipy.sparse.diags_array([-np.ones(n - 1), 2 * np.ones(n), -np.ones(n - 1)], offsets=[-1, 0, 1])
    b = np.random.default_rng(0).standard_normal(n)
    found = matrix_function_action("exp", -path, b, tol=1e-10)
    np.testing.assert_allclose(found.x, scipy.sparse.linalg.expm_multiply(-path.tocsc(), b), atol=1e-8)
    assert found.steps <= 40


def test_identities():
    A = with_eigenvalues(POSITIVE)
    b = np.random.default_rng(0).standard_normal(60)
    root = matrix_function_action("sqrt", A, b, tol=1e-12).x
    np.testing.assert_allclose(matrix_function_action("sqrt", A, root, tol=1e-12).x, A @ b, atol=1e-9)
    np.testing.assert_allclose(matrix_function_action("inverse sqrt", A, root, tol=1e-12).x, b, atol=1e-9)


def test_the_error_estimate_is_near_the_error_and_not_converging_is_warned():
    A, b = with_eigenvalues(np.linspace(1e-3, 1, 300)), np.ones(300)
    exact = scipy.linalg.sqrtm(A).real @ b
    with pytest.warns(ConvergenceWarning, match="estimated error"):
        found = matrix_function_action("sqrt", A, b, tol=1e-14, max_steps=20)
    error = np.linalg.norm(found.x - exact)
    assert not found.converged
    assert found.steps == 20
    assert error / 10 < found.error_estimate < 100 * error


def test_zero_vectors_eigenvectors_and_the_smallest_matrix():
    A = with_eigenvalues(POSITIVE)
    found = matrix_function_action("exp", A, np.stack([np.zeros(60), np.ones(60)], axis=1))
    assert np.array_equal(found.x[:, 0], np.zeros(60))
    values, V = np.linalg.eigh(A)
    np.testing.assert_allclose(matrix_function_action("exp", A, V[:, 5]).x, np.exp(values[5]) * V[:, 5], atol=1e-12)
    assert matrix_function_action("exp", np.eye(60), np.ones(60)).steps <= 4
    np.testing.assert_allclose(matrix_function_action("sqrt", [[4.0]], [3.0]).x, [6.0])
    np.testing.assert_allclose(matrix_function_action("sqrt", np.zeros((3, 3)), np.ones(3)).x, np.zeros(3))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"f": "log2"}, ValueError, "f must be one of"),
        ({"f": 3}, TypeError, "f must be one of"),
        ({"f": lambda x: x.sum()}, ValueError, "f must return"),
        ({"f": lambda x: np.sqrt(-x - 5 + 0j)}, TypeError, r"f\(eigenvalues\) must be real"),
        ({"f": lambda x: x * np.inf}, ValueError, r"f\(eigenvalues\) must be finite"),
        ({"A": np.triu(np.ones((8, 8)))}, ValueError, "A must be symmetric"),
        ({"A": -np.eye(8), "f": "sqrt"}, ValueError, "A must be positive semidefinite"),
        ({"A": np.zeros((8, 8)), "f": "inverse sqrt"}, ValueError, "A must be positive definite"),
        ({"b": np.ones(7)}, ValueError, "b must have 8 rows"),
        ({"b": torch.ones(8)}, TypeError, "b must be of A's kind"),
        ({"b": 1j * np.ones(8)}, TypeError, "b must be real"),
        ({"A": torch.eye(8), "b": np.ones(8)}, TypeError, "b must be of A's kind"),
        ({"A": torch.eye(8), "b": torch.ones(8, dtype=torch.float64)}, TypeError, "b must have A's dtype"),
    ],
)
def test_refusals(change, error, message):
    with pytest.raises(error, match=message):
        matrix_function_action(**(arguments() | change))


def test_the_result_is_a_result():
    assert isinstance(matrix_function_action(**arguments()), MatrixFunctionAction)
