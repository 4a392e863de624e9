"""Argument checks: what passes, what comes out, and what the refusals say."""

import numpy as np
import pytest
import scipy.sparse
import torch
from specimens import Specimen

from ritz.core import (
    array,
    choice,
    flag,
    integer,
    matrix,
    positive,
    real,
    same_shape,
    sparse_matrix,
    square_matrix,
    symmetric_matrix,
)

SQUARE = np.array([[2.0, 1.0], [1.0, 3.0]])

SPECIMENS = {
    "array": Specimen(lambda value: array(value, "value", ndim=(1, 2)), lambda: {"value": SQUARE.copy()}),
    "matrix": Specimen(lambda value: matrix(value, "value"), lambda: {"value": torch.from_numpy(SQUARE.copy())}),
    "square_matrix": Specimen(lambda value: square_matrix(value, "value"), lambda: {"value": SQUARE.copy()}),
    "symmetric_matrix": Specimen(lambda value: symmetric_matrix(value, "value"), lambda: {"value": SQUARE.copy()}),
    "sparse_matrix": Specimen(lambda value: sparse_matrix(value, "value"), lambda: {"value": scipy.sparse.csr_array(SQUARE)}),
    "integer": Specimen(lambda value: integer(value, "value"), lambda: {"value": 3}),
    "real": Specimen(lambda value: real(value, "value", at_least=0), lambda: {"value": 0.5}),
    "positive": Specimen(lambda value: positive(value, "value"), lambda: {"value": 0.5}),
    "choice": Specimen(lambda value: choice(value, "value", ["a", "b"]), lambda: {"value": "a"}),
    "flag": Specimen(lambda value: flag(value, "value"), lambda: {"value": True}),
    "same_shape": Specimen(
        lambda first, second: same_shape(first, "first", second, "second"),
        lambda: {"first": SQUARE.copy(), "second": SQUARE.copy()},
        spare=frozenset({"first", "second"}),
    ),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats_keep_their_dtype_and_identity(dtype):
    x = np.ones((2, 3), dtype=dtype)
    assert array(x, "x") is x


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, bool])
def test_integers_become_float64(dtype):
    assert array(np.ones(2, dtype=dtype), "x").dtype == np.float64


def test_tensors_stay_tensors_with_their_graph():
    x = torch.ones(2, requires_grad=True)
    assert array(x, "x") is x
    assert array(torch.ones(2, dtype=torch.int64), "x").dtype == torch.float64


def test_complex_is_welcome_only_when_asked_for():
    with pytest.raises(TypeError, match="x must be real, got complex128"):
        array(np.array([1j]), "x")
    assert array(np.array([1j]), "x", allow_complex=True).dtype == np.complex128


def test_empty_is_welcome_only_when_asked_for():
    with pytest.raises(ValueError, match="x must not be empty"):
        array([], "x")
    assert array([], "x", allow_empty=True).shape == (0,)


@pytest.mark.parametrize(
    ("value", "options", "message"),
    [
        (np.ones(3), {"ndim": 2}, r"x must have 2 dimension\(s\), got 1, shape \(3,\)"),
        (np.ones(3), {"shape": (None, 2)}, r"x must have shape \(any, 2\), got \(3,\)"),
        (np.array([1, np.inf, np.nan]), {}, "x must be finite, got 2 NaN or infinite entries of 3"),
        (torch.tensor([np.nan]), {}, "x must be finite, got 1 NaN or infinite entry of 1"),
    ],
)
def test_refusals_say_what_came_and_what_is_expected(value, options, message):
    with pytest.raises(ValueError, match=message):
        array(value, "x", **options)


@pytest.mark.parametrize("value", ["text", None, object(), [[1, 2], [3]], np.array(["a"]), {1: 2}])
def test_what_is_no_array_of_numbers_is_a_type_error(value):
    with pytest.raises(TypeError, match="x must be"):
        array(value, "x")


def test_square_and_symmetric():
    with pytest.raises(ValueError, match=r"A must be square, got shape \(2, 3\)"):
        square_matrix(np.ones((2, 3)), "A")
    with pytest.raises(ValueError, match="A must be symmetric"):
        symmetric_matrix([[1.0, 2.0], [2.1, 1.0]], "A")
    nearly = SQUARE + np.array([[0, 1e-12], [0, 0]])
    assert symmetric_matrix(nearly, "A") is nearly
    hermitian = np.array([[1, 1j], [-1j, 1]])
    assert symmetric_matrix(hermitian, "A", allow_complex=True) is hermitian
    assert symmetric_matrix(torch.from_numpy(SQUARE), "A").shape == (2, 2)


@pytest.mark.parametrize("make", [scipy.sparse.csr_array, scipy.sparse.coo_matrix, np.asarray, torch.from_numpy, np.ndarray.tolist])
def test_sparse_matrices_of_all_kinds(make):
    A = sparse_matrix(make(SQUARE.copy()), "A", square=True)
    assert A.format == "csr"
    np.testing.assert_array_equal(A.toarray(), SQUARE)


def test_sparse_matrices_with_bad_entries_are_refused():
    with pytest.raises(ValueError, match="A must be finite"):
        sparse_matrix(scipy.sparse.csr_array([[np.nan]]), "A")
    with pytest.raises(TypeError, match="A must be real"):
        sparse_matrix(scipy.sparse.csr_array([[1j]]), "A")
    with pytest.raises(ValueError, match="A must be square"):
        sparse_matrix(np.ones((1, 2)), "A", square=True)


def test_integers_are_integers():
    assert integer(np.int64(3), "k") == 3
    for value in (3.0, True, "3", None):
        with pytest.raises(TypeError, match="k must be an integer"):
            integer(value, "k")
    with pytest.raises(ValueError, match="k must be an integer of at least 1 and at most 4, got 5"):
        integer(5, "k", at_least=1, at_most=4)


@pytest.mark.parametrize(("bounds", "inside", "outside"), [({"at_least": 0, "below": 1}, 0, 1), ({"above": 0, "at_most": 1}, 1, 0)])
def test_bounds_of_numbers_are_open_or_closed_as_said(bounds, inside, outside):
    assert real(inside, "beta", **bounds) == inside
    with pytest.raises(ValueError, match="beta must be a finite number"):
        real(outside, "beta", **bounds)


def test_choices_and_flags():
    with pytest.raises(ValueError, match="kind must be one of 'a', 'b', got 'c'"):
        choice("c", "kind", ["a", "b"])
    with pytest.raises(TypeError, match="exact must be True or False, got str 'no'"):
        flag("no", "exact")


def test_same_shape():
    same_shape(np.ones(2), "a", torch.ones(2), "b")
    with pytest.raises(ValueError, match=r"b must have the shape of a, \(2,\), got \(3,\)"):
        same_shape(np.ones(2), "a", np.ones(3), "b")
