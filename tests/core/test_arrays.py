"""The way in and the way out: every kind of array to NumPy, CSR or an operator, and back to torch."""

import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse
import torch
from specimens import Specimen

from ritz.core import as_operator, is_torch, kind, like, namespace, to_csr, to_numpy

A = np.array([[0.0, 2.0], [3.0, 4.0]])
ANY_ARRAY = frozenset({"A", "value", "result", "reference"})  # conversions take any numbers, finite or not

SPECIMENS = {
    "as_operator": Specimen(as_operator, lambda: {"value": A}, spare=ANY_ARRAY),
    "kind": Specimen(kind, lambda: {"value": A}, spare=ANY_ARRAY),
    "like": Specimen(like, lambda: {"result": A, "reference": A}, spare=ANY_ARRAY),
    "namespace": Specimen(lambda: namespace(A), dict),
    "to_csr": Specimen(to_csr, lambda: {"value": A}, spare=ANY_ARRAY),
    "to_numpy": Specimen(to_numpy, lambda: {"value": A}, spare=ANY_ARRAY),
}

KINDS = {
    "numpy": (lambda: A, "numpy"),
    "fortran": (lambda: np.asfortranarray(A), "numpy"),
    "csr": (lambda: scipy.sparse.csr_array(A), "sparse"),
    "coo matrix": (lambda: scipy.sparse.coo_matrix(A), "sparse"),
    "torch": (lambda: torch.from_numpy(A), "torch"),
    "torch with a gradient": (lambda: torch.from_numpy(A).requires_grad_(), "torch"),
    "torch sparse": (lambda: torch.from_numpy(A).to_sparse(), "torch"),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_named_and_converted(name):
    make, expected = KINDS[name]
    assert kind(make()) == expected
    np.testing.assert_array_equal(to_numpy(make()), A)
    np.testing.assert_array_equal(to_csr(make()).toarray(), A)
    operator = as_operator(make())
    np.testing.assert_allclose(operator @ np.array([1.0, 2.0]), [4, 11])
    np.testing.assert_allclose(operator.T @ np.array([1.0, 2.0]), [6, 10])


def test_operators_are_passed_on_and_have_no_entries():
    operator = scipy.sparse.linalg.aslinearoperator(A)
    assert kind(operator) == "operator"
    assert as_operator(operator) is operator
    with pytest.raises(TypeError, match="A must be an explicit matrix"):
        to_numpy(operator)


def test_views_are_shared_and_csr_input_is_never_changed():
    assert np.shares_memory(to_numpy(torch.from_numpy(A)), A)
    doubled = scipy.sparse.csr_array((np.ones(2), np.array([1, 1]), np.array([0, 2, 2])), shape=(2, 2))
    assert to_csr(doubled).nnz == 1
    assert doubled.nnz == 2


def test_what_came_as_torch_goes_back_as_torch():
    assert isinstance(like(A, torch.zeros(1)), torch.Tensor)
    assert like(A, [1.0]) is A


def test_namespace_refuses_a_mixture():
    assert namespace(torch.ones(2)).ones is not None
    with pytest.raises(TypeError):
        namespace(np.ones(2), torch.ones(2))


@pytest.mark.parametrize("value", [[[1, 2]], "text", None])
def test_other_things_have_no_kind(value):
    with pytest.raises(TypeError, match="operand must be a NumPy array"):
        kind(value, "operand")
    with pytest.raises(TypeError, match="A must be"):
        to_numpy(object())


def test_core_does_not_import_torch():
    code = "import sys, numpy, ritz.core; assert not ritz.core.is_torch(numpy.ones(1)); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"
    assert is_torch(torch.ones(1))
