"""Matrix completion: recovery, exact and inexact half-steps, the fully observed case, invariances, refusals."""

import warnings

import numpy as np
import pytest
import scipy.sparse
import torch
from linalg.completion_problems import hidden_error, low_rank, observe
from specimens import Specimen

from ritz.core import ConvergenceWarning
from ritz.linalg import MatrixCompletion, complete_matrix

M = low_rank(40, 30, 2)
OBSERVED = observe(M, 0.5 * M.size)
WITH_NAN = np.where(observe(np.ones_like(M), 0.5 * M.size).toarray() == 1, M, np.nan)
OPTIONS = {
    "k": 2, "solver": "sketch", "inner_tol": 0.1, "max_inner": 8, "iterations": 40, "tol": 1e-3, "regularization": 1e-3, "init": "random",
    "incoherence": 3.0, "split": False, "rng": 0,
}  # fmt: skip
FOUND = MatrixCompletion(M[:, :2].copy(), M[:2].T.copy(), True, 1, np.ones(1), np.ones(1, int), 0)

SPECIMENS = {
    "complete_matrix": Specimen(complete_matrix, lambda: {"M": OBSERVED} | OPTIONS, accepts={"rng": ("none",), "incoherence": ("none",)}),
    "complete_matrix.mask": Specimen(
        complete_matrix,
        lambda: {"M": M.copy(), "mask": np.ones(M.shape, bool), "k": 2, "rng": 0},
        accepts={"rng": ("none",)},
    ),
    "complete_matrix.nan": Specimen(complete_matrix, lambda: {"M": WITH_NAN.copy(), "k": 2, "rng": 0}, accepts={"rng": ("none",), "M": ("nan",)}),
    "MatrixCompletion": Specimen(lambda: FOUND, dict),
    "MatrixCompletion.predict": Specimen(FOUND.predict, lambda: {"rows": np.array([0, 39, 1]), "cols": np.array([1, 2, 29])}),
}


def quiet(*arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return complete_matrix(*arguments, **options)


@pytest.mark.parametrize("solver", ["cg", "sketch", "exact"])
@pytest.mark.parametrize(("size", "k"), [(400, 4), (400, 8), (600, 16)])
def test_noise_free_matrices_are_recovered(size, k, solver):
    M = low_rank(size, size, k)
    observed = observe(M, 4 * k * 2 * size)
    found = quiet(observed, k, solver=solver, iterations=30, tol=0.0, rng=0)
    assert hidden_error(found, M, observed) <= 1e-5
    assert found.iterations == len(found.residual_norms) == len(found.inner_iterations) == 30
    np.testing.assert_allclose(found.U.T @ found.U, np.eye(k), atol=1e-12)


def test_inexact_half_steps_follow_the_exact_trajectory():
    M = low_rank(500, 400, 16)
    observed = observe(M, 4 * 16 * 900)
    for t in range(1, 16):
        exact, inexact = (
            hidden_error(quiet(observed, 16, iterations=t, tol=0.0, rng=0, **options), M, observed)
            for options in ({"solver": "exact"}, {"solver": "cg", "inner_tol": 1e-3, "max_inner": 4})
        )
        assert abs(inexact / exact - 1) <= 0.05, (t, exact, inexact)


@pytest.mark.parametrize("solver", ["cg", "sketch", "exact"])
def test_a_fully_observed_matrix_gives_its_truncated_svd(solver):
    rng = np.random.default_rng(0)
    A = low_rank(60, 50, 4, condition=3.0) + 0.1 * rng.standard_normal((60, 50))
    U, s, Vh = np.linalg.svd(A)
    found = complete_matrix(A, 4, solver=solver, init="random", tol=1e-14, iterations=200, rng=0)
    np.testing.assert_allclose(found.dense(), (U[:, :4] * s[:4]) @ Vh[:4], atol=1e-8)
    np.testing.assert_allclose(found.residual_norms[-1], np.linalg.norm(s[4:]) / np.linalg.norm(s), rtol=1e-10)


@pytest.mark.parametrize("regularization", [0.0, 0.02])
def test_exact_half_steps_never_increase_the_objective(regularization):
    rng = np.random.default_rng(1)
    A = low_rank(80, 70, 3) + 0.5 * rng.standard_normal((80, 70))
    observed = observe(A, 0.3 * A.size)
    scale = np.sqrt(np.mean(observed.data**2))
    objectives = []
    for t in range(1, 21):
        found = quiet(observed, 5, solver="exact", iterations=t, tol=0.0, regularization=regularization, init="random", rng=0)
        fit = found.residual_norms[-1] ** 2 * np.sum(observed.data**2)
        objectives.append((fit + regularization * np.linalg.norm(found.dense()) ** 2) / scale**2)
    assert np.all(np.diff(objectives) <= 1e-10 * objectives[0])
    assert objectives[-1] < 0.9 * objectives[0]


def test_permuting_permutes_and_scaling_scales():
    rng = np.random.default_rng(2)
    rows, columns = rng.permutation(40), rng.permutation(30)
    options = {"tol": 1e-13, "iterations": 200, "rng": 0}
    plain = complete_matrix(OBSERVED, 2, **options).dense()
    permuted = complete_matrix(scipy.sparse.csr_array(OBSERVED[rows][:, columns]), 2, **options).dense()
    np.testing.assert_allclose(permuted, plain[rows][:, columns], atol=1e-9)
    scaled = quiet(OBSERVED * 1e-5, 2, tol=0.0, iterations=3, rng=0)
    np.testing.assert_allclose(scaled.dense(), 1e-5 * quiet(OBSERVED, 2, tol=0.0, iterations=3, rng=0).dense(), rtol=0, atol=1e-14)


def test_a_positive_matrix_of_rank_one_is_exact():
    rng = np.random.default_rng(3)
    A = np.outer(1 + rng.random(50), 1 + rng.random(40))
    found = complete_matrix(observe(A, 0.2 * A.size), 1, tol=1e-14, rng=0)
    np.testing.assert_allclose(found.dense(), A, rtol=1e-12)


KINDS = {
    "nan": lambda: WITH_NAN,
    "csc": lambda: scipy.sparse.csc_matrix(OBSERVED),
    "coo": lambda: OBSERVED.tocoo(),
    "fortran": lambda: np.asfortranarray(WITH_NAN),
    "torch": lambda: torch.from_numpy(WITH_NAN),
    "torch sparse": lambda: torch.sparse_coo_tensor(np.array(OBSERVED.nonzero()), OBSERVED.data, OBSERVED.shape, check_invariants=False),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_input_gives_the_same(kind):
    expected, found = complete_matrix(OBSERVED, 2, rng=0), complete_matrix(KINDS[kind](), 2, rng=0)
    assert isinstance(found.U, torch.Tensor) == kind.startswith("torch")
    np.testing.assert_allclose(np.asarray(found.dense()), expected.dense(), atol=1e-10)
    rows, columns = np.array([0, 3]), np.array([5, 0])
    np.testing.assert_allclose(np.asarray(found.predict(rows, columns)), expected.dense()[rows, columns], atol=1e-10)


def test_a_mask_hides_whatever_is_below_it():
    mask = ~np.isnan(WITH_NAN)
    garbage = np.where(mask, M, np.inf)
    np.testing.assert_array_equal(complete_matrix(garbage, 2, mask=mask, rng=0).U, complete_matrix(WITH_NAN, 2, rng=0).U)
    garbage[tuple(np.argwhere(mask)[0])] = np.nan
    with pytest.raises(ValueError, match="M must be finite"):
        complete_matrix(garbage, 2, mask=mask)


def test_explicit_zeros_are_observed():
    A = scipy.sparse.csr_array((np.zeros(6), ([0, 0, 1, 1, 2, 2], [0, 1, 0, 1, 0, 1])), shape=(3, 2))
    found = complete_matrix(A, 1, rng=0)
    assert found.converged
    assert not found.dense().any()
    A.data[0] = 1.0
    assert complete_matrix(A, 1, rng=0).residual_norms[-1] < 1e-6


def test_fresh_samples_for_each_half_step():
    M = low_rank(200, 200, 2)
    found = quiet(M, 2, split=True, iterations=5, tol=0.0, rng=0)
    assert np.linalg.norm(found.dense() - M) < 0.05 * np.linalg.norm(M)
    residual = np.linalg.norm(found.dense() - M) / np.linalg.norm(M)
    np.testing.assert_allclose(found.residual_norms[-1], residual, rtol=1e-8)


def test_clipping_bounds_the_start_of_a_spiky_matrix():
    from ritz.linalg.matrix_completion import Options, _start

    A = np.ones((50, 40))
    A[7] = 100
    options = Options.checked("cg", 0.1, 5, 5, 0.0, 0.0, "spectral", 1.0, False)
    U = _start(scipy.sparse.csr_array(A), 1, options, np.random.default_rng(0))[0]
    assert abs(U[7, 0]) < 1e-12
    np.testing.assert_allclose(np.delete(abs(U[:, 0]), 7), 1 / 7, rtol=1e-10)


def test_single_precision_stays_single():
    found = complete_matrix(OBSERVED.astype(np.float32), 2, rng=0)
    assert found.U.dtype == found.V.dtype == np.float32
    np.testing.assert_allclose(found.dense(), M, atol=1e-3)


def test_the_same_seed_gives_the_same_bits():
    first, second = (complete_matrix(OBSERVED, 2, init="random", solver="sketch", rng=7) for _ in range(2))
    assert np.array_equal(first.V, second.V)


def test_empty_rows_are_warned_and_zero_and_short_ones_counted():
    A = WITH_NAN.copy()
    A[3] = np.nan
    A[:, 4] = np.nan
    A[5, 1:] = np.nan
    A[5, 0] = 2.0
    with pytest.warns(UserWarning, match="1 of 40 rows and 1 of 30 columns have no observed entry"):
        found = complete_matrix(A, 2, rng=0)
    assert not found.dense()[3].any()
    assert not found.V[4].any()
    assert found.underdetermined == 3
    np.testing.assert_allclose(found.dense()[5, 0], 2.0, rtol=1e-3)


def test_not_converging_is_warned_and_in_the_result():
    with pytest.warns(ConvergenceWarning, match="2 iterations left a relative residual"):
        found = complete_matrix(OBSERVED, 2, init="random", iterations=2, tol=1e-12, rng=0)
    assert not found.converged


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k must be"),
        ({"k": 31}, "k must be at most 30"),
        ({"M": np.full((4, 3), np.nan)}, "M must have an observed entry"),
        ({"M": scipy.sparse.csr_array((4, 3))}, "M must have an observed entry"),
        ({"M": np.array([[np.inf, 1.0], [1.0, np.nan]])}, "M must be finite"),
        ({"M": M, "mask": np.ones((30, 40), bool)}, "mask must have the shape of M"),
        ({"mask": np.ones(M.shape, bool)}, "mask must be None for a sparse M"),
        ({"inner_tol": 1.0}, "inner_tol must be"),
        ({"incoherence": 0.5}, "incoherence must be"),
        ({"regularization": -1.0}, "regularization must be"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        complete_matrix(**({"M": OBSERVED, "k": 2} | options))


def test_complex_entries_and_operators_are_refused():
    for bad in (M.astype(complex), OBSERVED.astype(complex), scipy.sparse.linalg.aslinearoperator(M)):
        with pytest.raises(TypeError, match="M must be"):
            complete_matrix(bad, 2)
    with pytest.raises(TypeError, match="mask must hold True and False"):
        complete_matrix(M, 2, mask=np.ones(M.shape))
