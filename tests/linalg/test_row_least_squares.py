"""The small least-squares problems of a half-step: exact, iterative and sketched solutions agree; the sketch preconditions."""

import numba
import numpy as np
import pytest
import scipy.sparse

from ritz.linalg.row_least_squares import SKETCH_ROWS, Accuracy, sketch_preconditioner, solve_rows

K = 6
TO_THE_END = Accuracy(1e-14, 4 * K)


def problems(dtype=float, seed=0):
    """Rows with 0, 1, k, a few more than k, and many entries; b is not in the range of A."""
    rng = np.random.default_rng(seed)
    lengths = [0, 1, 3, K, K + 1, 3 * K, 8 * K - 1, 8 * K, 9 * K, 16 * K, 100, 150]
    factor = np.linalg.qr(rng.standard_normal((150, K)))[0].astype(dtype)
    columns = np.concatenate([np.sort(rng.choice(150, n, replace=False)) for n in lengths])
    values = rng.standard_normal(len(columns)).astype(dtype)
    B = scipy.sparse.csr_array((values, columns, np.concatenate([[0], np.cumsum(lengths)])), shape=(len(lengths), 150))
    return B, factor, 0.1 * rng.standard_normal((len(lengths), K)).astype(dtype)


def reference(B, factor, damping=0.0):
    """numpy.linalg.lstsq, row by row."""
    solutions = []
    for i in range(B.shape[0]):
        row = slice(B.indptr[i], B.indptr[i + 1])
        A = np.concatenate([factor[B.indices[row]], np.sqrt(damping) * np.eye(K)])
        solutions.append(np.linalg.lstsq(A, np.concatenate([B.data[row], np.zeros(K)]), rcond=None)[0])
    return np.array(solutions)


@pytest.mark.parametrize("damping", [0.0, 0.05])
@pytest.mark.parametrize(("solver", "tolerance"), [("exact", 1e-9), ("cg", 1e-8), ("sketch", 1e-8)])
def test_every_solver_equals_lstsq(solver, tolerance, damping):
    B, factor, start = problems()
    found, expected = solve_rows(B, factor, start, solver, TO_THE_END, damping, 0), reference(B, factor, damping)
    np.testing.assert_allclose(found.x, expected, rtol=0, atol=tolerance * np.abs(expected).max())
    residuals = [np.sum((B.data[a:b] - factor[B.indices[a:b]] @ x) ** 2) for a, b, x in zip(B.indptr, B.indptr[1:], expected)]
    np.testing.assert_allclose(found.squares, residuals, atol=1e-8)
    assert (solver == "exact") == (found.steps.sum() == 0)


def test_single_precision_stays_single():
    B, factor, start = problems(np.float32)
    for solver in ("exact", "cg", "sketch"):
        found = solve_rows(B, factor, start, solver, TO_THE_END, 0.0, 0)
        assert found.x.dtype == np.float32
        well = np.diff(B.indptr) >= 3 * K
        np.testing.assert_allclose(found.x[well], reference(B, factor)[well], rtol=0, atol=2e-3)


def test_few_steps_leave_an_error_and_reduce_the_gradient():
    B, factor, start = problems()
    many = (np.diff(B.indptr) >= 8 * K) & (np.diff(B.indptr) < 150)  # all rows of the factor are orthonormal
    exact = reference(B, factor)

    def errors(steps):
        return np.linalg.norm(solve_rows(B, factor, start, "cg", Accuracy(0.0, steps), 0.0, 0).x - exact, axis=1)[many]

    assert np.all(errors(1) < 0.9 * np.linalg.norm(start - exact, axis=1)[many])
    assert np.all(errors(1) > 1e-6)
    assert np.all(errors(4) < 0.1 * errors(1))


def test_an_ill_conditioned_problem_goes_on_with_the_sketch():
    rng = np.random.default_rng(1)
    factor = rng.standard_normal((200, K)) * np.geomspace(1, 1e-5, K)
    B = scipy.sparse.csr_array(rng.standard_normal((3, 200)))
    found = solve_rows(B, factor, np.zeros((3, K)), "cg", Accuracy(1e-12, K + 2), 0.0, 0)
    np.testing.assert_allclose(found.x, reference(B, factor), rtol=1e-6)
    assert np.all(found.steps > K + 2)


def test_a_rank_deficient_factor_gives_the_solution_of_least_norm():
    rng = np.random.default_rng(2)
    factor = rng.standard_normal((80, 3)) @ rng.standard_normal((3, K))
    B = scipy.sparse.csr_array(rng.standard_normal((2, 80)))
    for solver in ("exact", "sketch"):
        found = solve_rows(B, factor, np.zeros((2, K)), solver, TO_THE_END, 0.0, 0)
        np.testing.assert_allclose(found.x, reference(B, factor), rtol=0, atol=1e-8)


def test_the_sketch_makes_the_condition_number_small():
    k, conditions = 8, []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(SKETCH_ROWS * k, 400))
        A = (rng.standard_normal((n, k)) * (1 + rng.pareto(1.5, (n, 1)))) @ (np.geomspace(1, 1e-4, k)[:, None] * rng.standard_normal((k, k)))
        R, full = sketch_preconditioner(A, 0.0, seed)
        assert full
        conditions.append(np.linalg.cond(np.linalg.solve(R.T, A.T)))
    assert np.mean(np.array(conditions) <= 3) >= 0.99


def test_threads_do_not_change_a_bit():
    B, factor, start = problems()
    one = solve_rows(B, factor, start, "sketch", TO_THE_END, 0.0, 3)
    numba.set_num_threads(min(2, numba.config.NUMBA_NUM_THREADS))
    two = solve_rows(B, factor, start, "sketch", TO_THE_END, 0.0, 3)
    assert np.array_equal(one.x, two.x)
