"""Measurement operators: adjoints, factored forms, and what they equal."""

import numpy as np
import pytest
import scipy.sparse.linalg
import torch
from specimens import Specimen

from ritz.linalg import MeasurementOperator
from ritz.linalg.measurements import as_measurements

RNG = np.random.default_rng(0)
ROWS, COLUMNS = np.array([0, 2, 4, 4]), np.array([1, 0, 3, 2])

SPECIMENS = {
    "MeasurementOperator": Specimen(MeasurementOperator, lambda: {"shape": (2, 3), "count": 4}),
    "MeasurementOperator.from_matrices": Specimen(MeasurementOperator.from_matrices, lambda: {"matrices": np.ones((2, 3, 4))}),
    "MeasurementOperator.gaussian": Specimen(MeasurementOperator.gaussian, lambda: {"m": 4, "shape": (3, 2)}),
    "MeasurementOperator.rank_one": Specimen(MeasurementOperator.rank_one, lambda: {"left": np.ones((2, 3)), "right": np.ones((2, 4))}),
    "MeasurementOperator.entries": Specimen(
        MeasurementOperator.entries, lambda: {"rows": ROWS, "columns": COLUMNS, "shape": (5, 4)}, spare=frozenset({"rows", "columns"})
    ),
}


def operators():
    gaussian = MeasurementOperator.gaussian(7, (5, 4), rng=0)
    matrix = RNG.standard_normal((6, 20))
    return {
        "matrices": MeasurementOperator.from_matrices(RNG.standard_normal((6, 5, 4))),
        "gaussian": gaussian,
        "entries": MeasurementOperator.entries(ROWS, COLUMNS, (5, 4)),
        "rank one": MeasurementOperator.rank_one(RNG.standard_normal((6, 5)), RNG.standard_normal((6, 4))),
        "identity": MeasurementOperator.identity((5, 4)),
        "linear operator": as_measurements(scipy.sparse.linalg.aslinearoperator(matrix), (5, 4), 6),
        "object": as_measurements(_Duck(gaussian), (5, 4), 7),
    }


class _Duck:
    def __init__(self, operator):
        self._operator = operator

    def __call__(self, Z):
        return self._operator(Z)

    def adjoint(self, r):
        return self._operator.adjoint(r)


@pytest.mark.parametrize("name", operators())
def test_adjoint_and_factored_forms(name):
    operator = operators()[name]
    Z, r = RNG.standard_normal((5, 4)), RNG.standard_normal(operator.count)
    assert operator(Z) @ r == pytest.approx(np.sum(Z * operator.adjoint(r)), abs=1e-12)
    F, G = RNG.standard_normal((5, 2)), RNG.standard_normal((4, 2))
    np.testing.assert_allclose(operator.of_product(F, G), operator(F @ G.T), atol=1e-12)
    for found, expected in zip(operator.adjoint_products(r, F, G), (operator.adjoint(r) @ G, operator.adjoint(r).T @ F)):
        np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("kind", ["entries", "identity"])
def test_torch_takes_the_same_way(kind):
    operator = operators()[kind]
    F, G, r = RNG.standard_normal((5, 2)), RNG.standard_normal((4, 2)), RNG.standard_normal(operator.count)
    tensors = [torch.from_numpy(part) for part in (F, G, r)]
    np.testing.assert_allclose(operator.of_product(*tensors[:2]).numpy(), operator.of_product(F, G), atol=1e-12)
    np.testing.assert_allclose(operator.adjoint(tensors[2]).numpy(), operator.adjoint(r), atol=1e-12)
    for found, expected in zip(operator.adjoint_products(tensors[2], *tensors[:2]), operator.adjoint_products(r, F, G)):
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


def test_entries_are_the_masked_residual():
    Z, M, mask = RNG.standard_normal((5, 4)), RNG.standard_normal((5, 4)), np.zeros((5, 4))
    mask[ROWS, COLUMNS] = 1
    operator = MeasurementOperator.entries(ROWS, COLUMNS, (5, 4))
    np.testing.assert_allclose(operator.adjoint(operator(Z) - operator(M)), mask * (Z - M), atol=1e-14)


def test_gaussian_measurements_are_near_an_isometry():
    operator = MeasurementOperator.gaussian(4000, (6, 5), rng=0)
    for _ in range(5):
        Z = np.outer(RNG.standard_normal(6), RNG.standard_normal(5))
        assert np.linalg.norm(operator(Z)) == pytest.approx(np.linalg.norm(Z), rel=0.06)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="right must have as many rows as left"):
        MeasurementOperator.rank_one(np.ones((2, 3)), np.ones((3, 3)))
    with pytest.raises(ValueError, match=r"rows must lie in 0\.\.1"):
        MeasurementOperator.entries([2], [0], (2, 2))
    with pytest.raises(ValueError, match="columns must have the shape of rows"):
        MeasurementOperator.entries([0, 1], [0], (2, 2))
    with pytest.raises(ValueError, match="rows must be a non-empty vector of integers"):
        MeasurementOperator.entries([0.5], [0], (2, 2))
    with pytest.raises(TypeError, match="operator must measure"):
        as_measurements("A", (2, 2), 3)
    with pytest.raises(ValueError, match="operator must have shape"):
        as_measurements(scipy.sparse.linalg.aslinearoperator(np.eye(3)), (2, 2), 3)
    with pytest.raises(TypeError, match="made by its constructors"):
        MeasurementOperator((2, 2), 3)(np.eye(2))
