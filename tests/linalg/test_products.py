"""Products with matrices of every kind, and what is no matrix."""

import numpy as np
import pytest
import scipy.sparse
import torch
from linalg.kinds_of_input import DTYPES, KINDS, check_kind, tolerance, with_eigenvalues, with_singular_values

from ritz.linalg.products import as_products


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_products_of_every_kind_and_dtype(kind, dtype):
    dense = with_singular_values([3, 2, 1], 5, 4, dtype)
    A = as_products(KINDS[kind](dense))
    rng = np.random.default_rng(0)
    X, Y = A.gaussian(rng, 4, 2), A.signs(rng, 5, 3)
    assert A.shape == (5, 4)
    assert A.adjoint().shape == (4, 5)
    atol = tolerance(dtype)
    np.testing.assert_allclose(check_kind(A.matmat(X), kind, dtype), dense @ np.asarray(X), atol=atol)
    np.testing.assert_allclose(check_kind(A.rmatmat(Y), kind, dtype), dense.conj().T @ np.asarray(Y), atol=atol)
    np.testing.assert_allclose(check_kind(A.adjoint().matmat(Y), kind, dtype), dense.conj().T @ np.asarray(Y), atol=atol)
    if A.entries is not None:
        assert np.isclose(A.squared_norm, 14, rtol=atol)


def test_integers_count_as_float64_and_the_draws_of_all_kinds_are_the_same():
    for A in (
        np.eye(3, dtype=int),
        scipy.sparse.eye_array(3, dtype=int),
        scipy.sparse.linalg.aslinearoperator(np.eye(3, dtype=int)),
        [[1, 0], [0, 1]],
    ):
        assert as_products(A).dtype == np.float64
    numpy_draw = as_products(np.eye(3)).gaussian(np.random.default_rng(1), 3, 2)
    torch_draw = as_products(torch.eye(3, dtype=torch.float64)).gaussian(np.random.default_rng(1), 3, 2)
    assert np.array_equal(numpy_draw, torch_draw.numpy())


def test_the_inputs_are_not_changed_and_tensors_are_detached():
    A = torch.eye(3, requires_grad=True)
    assert not as_products(A).matmat(torch.ones(3, 1)).requires_grad
    sparse = scipy.sparse.coo_array(([1.0, 2.0], ([0, 0], [1, 1])), shape=(2, 2))
    as_products(sparse)
    assert sparse.nnz == 2


@pytest.mark.parametrize("kind", KINDS)
def test_matrices_that_are_not_hermitian_are_refused(kind):
    as_products(KINDS[kind](with_eigenvalues([3, -2, 1, 0], "complex128")), hermitian=True)
    with pytest.raises(ValueError, match="A must be symmetric"):
        as_products(KINDS[kind](np.triu(np.ones((4, 4)))), hermitian=True)
    with pytest.raises(ValueError, match="A must be Hermitian"):
        as_products(KINDS[kind](1j * np.eye(4)), hermitian=True)
    with pytest.raises(ValueError, match="A must be square"):
        as_products(KINDS[kind](np.ones((4, 3))), hermitian=True)
    with pytest.raises(ValueError, match="A must be square"):
        as_products(KINDS[kind](np.ones((4, 3))), square=True)


@pytest.mark.parametrize("kind", ["numpy", "csr_array", "torch", "torch sparse coo", "torch sparse csr"])
def test_entries_that_are_not_finite_are_refused(kind):
    dense = np.eye(3)
    dense[1, 2] = np.nan
    with pytest.raises(ValueError, match="A must be finite"):
        as_products(KINDS[kind](dense))


def test_operators_are_checked_at_each_product():
    operator = scipy.sparse.linalg.LinearOperator((2, 2), matvec=lambda x: np.nan * x, dtype=np.float64)
    A = as_products(operator)
    with pytest.raises(ValueError, match=r"A\.matmat\(X\) must be finite"):
        A.matmat(np.ones((2, 1)))
    with pytest.raises(TypeError, match="A must be an operator that defines rmatmat"):
        A.rmatmat(np.ones((2, 1)))
    complex_in_disguise = scipy.sparse.linalg.LinearOperator((2, 2), matvec=lambda x: 1j * x, dtype=np.float64)
    with pytest.raises(TypeError, match="must be real"):
        as_products(complex_in_disguise).matmat(np.ones((2, 1)))


@pytest.mark.parametrize(
    ("A", "error", "message"),
    [
        (np.zeros((0, 3)), ValueError, "A must not be empty"),
        (scipy.sparse.csr_array((0, 3)), ValueError, "A must not be empty"),
        (scipy.sparse.coo_array(np.ones(3)), ValueError, "A must be a matrix"),
        (np.ones(3), ValueError, "A must have 2 dimension"),
        (np.eye(2, dtype=np.float16), TypeError, "A must have one of the dtypes"),
        (torch.eye(2, dtype=torch.bfloat16), TypeError, "A must have one of the dtypes"),
        (np.eye(2, dtype=np.longdouble), TypeError, "A must have one of the dtypes"),
        ("matrix", TypeError, "A must be"),
        (object(), TypeError, "A must be"),
        (None, TypeError, "A must be"),
    ],
)
def test_what_is_no_matrix_is_refused(A, error, message):
    with pytest.raises(error, match=message):
        as_products(A)
