"""`solve` reaches its tolerance or says that it did not, on systems of all characters and kinds, and says what it picked and why."""

import warnings

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg
import torch
from linalg.kinds_of_input import DTYPES, KINDS, OPERATORS, assert_near, draw, matching, with_eigenvalues
from specimens import Specimen

from ritz.core import ConvergenceWarning
from ritz.linalg import BlockDiagonalOperator, DiagonalOperator, solve
from ritz.studies.data.linear_systems import linear_systems, poisson

RNG = np.random.default_rng(0)
SUITE = linear_systems(0.15)
ACCEPTS = {"preconditioner": ("none",), "max_iterations": ("none",)}
SPECIMENS = {
    "solve": Specimen(
        solve,
        lambda: {"A": with_eigenvalues([1, 2, 3, 4]), "b": np.ones(4), "method": "auto", "tol": 1e-8, "max_iterations": 9, "memory_limit": 1e9},
        accepts=ACCEPTS,
    ),
    "solve.sparse": Specimen(solve, lambda: {"A": poisson(4, 4), "b": np.ones(16), "preconditioner": "jacobi", "method": "cg"}, accepts=ACCEPTS),
    "solve.preconditioner": Specimen(solve, lambda: {"A": poisson(2, 2), "b": np.ones(4), "preconditioner": np.eye(4)}, accepts=ACCEPTS),
    "Solution": Specimen(lambda: solve(np.eye(2), np.ones(2)), dict),
}


@pytest.mark.parametrize("name", SUITE)
def test_the_suite_is_solved_or_said_not_to_be(name):
    A, b, solvable = SUITE[name]()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        found = solve(A, b)
    residual = np.linalg.norm(b - A @ found.x) / np.linalg.norm(b)
    np.testing.assert_allclose(found.residual_norms, residual, rtol=1e-6)
    assert found.converged == (residual <= 1e-8) == solvable
    assert any(w.category is ConvergenceWarning for w in caught) == (not solvable)
    assert found.why


@pytest.mark.parametrize("scale", [0.15, 1.0])
def test_an_inconsistent_laplacian_gets_its_least_squares_solution(scale):
    A, b, _ = linear_systems(scale)["inconsistent"]()
    with pytest.warns(ConvergenceWarning, match="b has a part outside the range"):
        found = solve(A, b)
    assert np.linalg.norm(A @ (b - A @ found.x)) <= 1e-8 * np.linalg.norm(b) * abs(A).max()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_input_gives_the_dense_solution(kind, dtype):
    A = draw(RNG, 30, 30, dtype=dtype) / 6 + 2 * np.eye(30, dtype=dtype)
    tol = 100 * np.finfo(dtype).eps
    for b in (draw(RNG, 30, dtype=dtype), draw(RNG, 30, 3, dtype=dtype)):
        found = solve(KINDS[kind](A), matching(kind, b), tol=tol)
        assert np.all(np.asarray(found.converged))
        assert type(found.x) is type(matching(kind, b))
        assert found.x.dtype == matching(kind, b).dtype
        assert tuple(found.x.shape) == b.shape
        assert_near(found.x, np.linalg.solve(A.astype(np.complex128), b), 100 * tol)


@pytest.mark.parametrize("method", ["dense", "svd", "direct", "cg", "minres", "gmres", "lsmr"])
@pytest.mark.parametrize("size", [6, 15])
def test_a_method_asked_for_is_obeyed(method, size):
    A, b = poisson(size, size), RNG.standard_normal((size * size, 2))
    found = solve(A, b, method=method)
    assert found.method == method
    assert found.why.startswith("asked for")
    assert found.converged.all()
    np.testing.assert_allclose(found.x, scipy.sparse.linalg.spsolve(A, b), atol=1e-5)


HERMITIAN_PRECONDITIONERS = ("amg", "jacobi", None, "operator")


@pytest.mark.parametrize(
    ("method", "preconditioner"),
    [*(("cg", name) for name in HERMITIAN_PRECONDITIONERS), *(("gmres", name) for name in (*HERMITIAN_PRECONDITIONERS, "ilu"))],
)
def test_preconditioners(method, preconditioner):
    A, b = poisson(20, 20), RNG.standard_normal(400)
    given = DiagonalOperator(np.full(400, 0.25)) if preconditioner == "operator" else preconditioner
    found = solve(A, b, method=method, preconditioner=given)
    assert found.converged
    assert {"operator": "the preconditioner given", None: "amg"}.get(preconditioner, preconditioner) in found.why


def test_factorizations_are_picked_by_structure():
    A = draw(RNG, 40, 40) / 20 + 2 * np.eye(40)
    b = draw(RNG, 40)
    cases = {"LU": A, "Cholesky": A @ A.T, "forward substitution": np.tril(A), "back substitution": np.triu(A)}
    for word, matrix in cases.items():
        found = solve(matrix, b)
        assert found.method == "dense"
        assert word in found.why
        np.testing.assert_allclose(found.x, np.linalg.solve(matrix, b), rtol=1e-9, atol=1e-9)
    indefinite = with_eigenvalues(np.r_[-1.0, np.linspace(1, 2, 39)]) + 5 * np.diag(np.r_[np.zeros(39), 1.0])
    assert solve(indefinite, b).converged


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_singular_dense_systems_get_the_least_norm_solution(dtype):
    A = with_eigenvalues([0, 0, 1, 2, -3, 4], dtype)
    b = A @ draw(RNG, 6, dtype=dtype)
    found = solve(A, b)
    assert found.method == "svd"
    assert found.converged
    assert "rank 4 of 6" in found.why
    assert found.attempts[0].startswith("dense: A is singular")
    np.testing.assert_allclose(found.x, np.linalg.pinv(A) @ b, atol=1e-12)
    c = draw(RNG, 6, dtype=dtype)
    with pytest.warns(ConvergenceWarning, match="relative residual"):
        found = solve(A, c)
    np.testing.assert_allclose(found.x, np.linalg.pinv(A) @ c, atol=1e-12)


def test_a_singular_sparse_system_that_is_no_laplacian_is_solved_if_it_can_be():
    A = scipy.sparse.csr_array(scipy.sparse.block_diag([poisson(15, 15), np.zeros((3, 3))]))
    b = np.r_[RNG.standard_normal(225), np.zeros(3)]
    found = solve(A, b)
    assert found.converged
    assert found.attempts


def test_laplacians_are_grounded_component_by_component():
    A = SUITE["graph Laplacian, four components"]().A
    x = RNG.standard_normal(A.shape[0])
    found = solve(A, A @ x)
    assert found.method == "laplacian"
    labels = scipy.sparse.csgraph.connected_components(A)[1]
    means = np.bincount(labels, x) / np.bincount(labels)
    np.testing.assert_allclose(found.x, x - means[labels], atol=1e-8)
    with pytest.raises(ValueError, match="zero row sums"):
        solve(poisson(15, 15), np.ones(225), method="laplacian")


def test_structured_operators_solve_by_their_factors_and_singular_ones_fall_back():
    blocks = draw(RNG, 3, 4, 4) + 4 * np.eye(4)
    found = solve(BlockDiagonalOperator(blocks), np.ones(12))
    assert found.method == "structured"
    assert found.converged
    singular = DiagonalOperator(np.r_[0.0, np.arange(1.0, 12)])
    found = solve(singular, np.r_[0.0, np.ones(11)])
    assert found.converged
    assert found.attempts[0].startswith("structured: the operator has zeros")


def test_operators_without_an_adjoint():
    A = draw(RNG, 30, 30) / 12 + 2 * np.eye(30)
    found = solve(scipy.sparse.linalg.LinearOperator((30, 30), matvec=lambda x: A @ x, dtype=float), np.ones(30))
    assert found.method == "gmres"
    assert found.converged
    indefinite = with_eigenvalues(np.r_[-3:-1:15j, 1:3:15j])
    found = solve(scipy.sparse.linalg.LinearOperator((30, 30), matvec=lambda x: indefinite @ x, dtype=float), np.ones(30))
    assert found.method in ("cg", "minres")
    assert found.converged


def test_what_is_beyond_rounding_is_said():
    n = 400
    A, b = scipy.sparse.csr_array(poisson(n)) @ poisson(n) @ poisson(n) @ poisson(n), RNG.standard_normal(n)
    with pytest.warns(ConvergenceWarning, match="asked for 3.6e-15"):
        found = solve(A, b, tol=1e-20)
    assert not found.converged
    assert found.attempts or found.method == "direct"


def test_zero_right_hand_sides_and_memory_limit():
    A = poisson(20, 20)
    assert not solve(A, np.zeros(400)).x.any()
    both = solve(A, np.stack([np.zeros(400), np.ones(400)], axis=1))
    assert both.converged.all()
    assert both.residual_norms[0] == 0
    assert solve(A, np.ones(400), memory_limit=1.0).method == "cg"


def test_same_input_same_result_bit_for_bit():
    A, b = SUITE["Poisson, 3-D"]().A, RNG.standard_normal(216)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    first, second = (solve(A, b, method="cg", preconditioner="amg") for _ in range(2))
    np.testing.assert_array_equal(first.x, second.x)
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"A": np.ones((3, 4))}, "A must be square"),
        ({"b": np.ones(5)}, "b must have shape"),
        ({"b": torch.ones(4, dtype=torch.float64)}, "A and b must both be torch"),
        ({"method": "magic"}, "method must be one of"),
        ({"method": "structured"}, "needs an operator with a solve method"),
        ({"A": scipy.sparse.linalg.aslinearoperator(np.eye(4)), "method": "direct"}, "needs an explicit matrix"),
        ({"preconditioner": "magic"}, "preconditioner must be one of"),
        ({"preconditioner": np.eye(3)}, "preconditioner must have the shape"),
        ({"tol": 0.0}, "tol must be"),
        ({"max_iterations": 0}, "max_iterations must be"),
        ({"memory_limit": -1.0}, "memory_limit must be"),
    ],
)
def test_refusals(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        solve(**({"A": np.eye(4), "b": np.ones(4)} | options))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in OPERATORS])
def test_arguments_are_not_changed(kind):
    A, b = poisson(14, 14).toarray(), RNG.standard_normal((196, 2))
    matrix, right = KINDS[kind](A.copy()), matching(kind, b.copy())
    solve(matrix, right)
    dense = matrix.toarray() if scipy.sparse.issparse(matrix) else matrix.to_dense() if isinstance(matrix, torch.Tensor) else matrix
    np.testing.assert_array_equal(np.asarray(dense), A)
    np.testing.assert_array_equal(np.asarray(right), b)
