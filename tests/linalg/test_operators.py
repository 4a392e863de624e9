"""Structured operators: products, SciPy's solvers, refusals."""

import numpy as np
import pytest
import scipy.sparse.linalg
import torch
from specimens import Specimen

from ritz.linalg import MonarchOperator, OperatorProduct, StructuredOperator

RNG = np.random.default_rng(0)


def monarch(K, J, I, O, rank=1):
    return MonarchOperator(RNG.standard_normal((K, rank * J, I)), RNG.standard_normal((J, O, rank * K)))


SPECIMENS = {
    "StructuredOperator": Specimen(lambda x: monarch(2, 3, 4, 5) @ x, lambda: {"x": np.ones(8)}, spare=frozenset({"x"})),
    "OperatorProduct": Specimen(lambda: OperatorProduct([monarch(2, 3, 4, 5)]), dict),
}


def test_products_of_products_are_flat_and_right():
    A, B, C = monarch(2, 3, 4, 5), monarch(4, 2, 3, 4), monarch(3, 4, 2, 3)
    product = (A @ B) @ C
    assert isinstance(product, OperatorProduct)
    assert len(product.operators) == 3
    expected = A.toarray() @ B.toarray() @ C.toarray()
    np.testing.assert_allclose(product.toarray(), expected, atol=1e-12)
    np.testing.assert_allclose(product.T.toarray(), expected.T, atol=1e-12)
    np.testing.assert_allclose(product.H @ np.ones(15), expected.T @ np.ones(15), atol=1e-12)


def test_scipy_solvers_and_operators_take_them():
    A = monarch(3, 3, 3, 3)
    x = RNG.standard_normal(9)
    found = scipy.sparse.linalg.lsqr(A, A @ x, atol=1e-14, btol=1e-14)[0]
    np.testing.assert_allclose(A @ found, A @ x, atol=1e-8)
    assert isinstance(A, StructuredOperator)
    shifted = A + scipy.sparse.linalg.aslinearoperator(np.eye(9))
    np.testing.assert_allclose(shifted @ x, A.toarray() @ x + x, atol=1e-12)
    mixed = A @ scipy.sparse.linalg.aslinearoperator(2 * np.eye(9))
    np.testing.assert_allclose(mixed @ x, 2 * (A @ x), atol=1e-12)


def test_products_refuse_what_does_not_meet():
    with pytest.raises(ValueError, match="operators must meet"):
        OperatorProduct([monarch(2, 3, 4, 5), monarch(2, 3, 4, 5)])
    with pytest.raises(TypeError, match="operators must be a sequence"):
        OperatorProduct([])
    with pytest.raises(TypeError, match="operators must be a sequence"):
        OperatorProduct([np.eye(2)])


@pytest.mark.parametrize("x", [np.ones(7), np.ones((7, 2)), np.float64(1.0), np.ones((8, 8, 3, 1))])
def test_operands_that_do_not_fit_are_refused(x):
    with pytest.raises(ValueError, match="x must have shape"):
        monarch(2, 3, 4, 5) @ x


def test_torch_operands_match_the_factors():
    A = MonarchOperator(torch.ones(2, 2, 2), torch.ones(2, 2, 2))
    with pytest.raises(TypeError, match="x must be a torch tensor"):
        A @ np.ones(4)
    with pytest.raises(TypeError, match="x must have the dtype"):
        A @ torch.ones(4, dtype=torch.float64)
