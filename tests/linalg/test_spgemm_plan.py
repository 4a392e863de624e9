"""A planned product has the numbers of a fresh one."""

import numba
import numpy as np
import pytest
import scipy.sparse
from specimens import Specimen

from ritz.linalg import SpgemmPlan, spgemm, spgemm_plan
from ritz.linalg.row_products import Rows

RNG = np.random.default_rng(0)


def sparse(n, m, seed=0):
    return scipy.sparse.random_array((n, m), density=0.05, rng=seed, format="csr")


A, B = sparse(80, 60), sparse(60, 90, seed=1)
PLAN = spgemm_plan(A, B)
NO_ROWS = Rows(np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros(0))

SPECIMENS = {
    "SpgemmPlan": Specimen(SpgemmPlan, lambda: {"A": NO_ROWS, "B": NO_ROWS, "width": 1}, spare=frozenset({"A", "B", "width"})),
    "spgemm_plan": Specimen(spgemm_plan, lambda: {"A": sparse(5, 6), "B": sparse(6, 4)}),
    "SpgemmPlan.__call__": Specimen(PLAN.__call__, lambda: {"Ax": A.data.copy(), "Bx": B.data.copy()}),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128, np.int64])
@pytest.mark.parametrize("threads", [1, 2])
def test_the_plan_gives_the_bits_of_a_fresh_product(dtype, threads):
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    Ax, Bx = (RNG.integers(-50, 50, X.nnz).astype(dtype) / (1 if dtype == np.int64 else 7) for X in (A, B))
    Ax, Bx = Ax.astype(dtype), Bx.astype(dtype)
    fresh = spgemm(*(scipy.sparse.csr_array((x, X.indices, X.indptr), shape=X.shape) for x, X in ((Ax, A), (Bx, B))))
    planned = PLAN(Ax, Bx)
    assert planned.dtype == dtype
    np.testing.assert_array_equal(planned, fresh.data)
    np.testing.assert_array_equal(PLAN.indices, fresh.indices)
    np.testing.assert_array_equal(PLAN.indptr, fresh.indptr)
    assert PLAN.shape == fresh.shape


def test_entries_stored_in_parts_and_empty_products():
    A = scipy.sparse.csr_array((np.array([1.0, 2.0]), np.array([0, 0]), np.array([0, 2])), shape=(1, 1))
    np.testing.assert_array_equal(spgemm_plan(A, A)(A.data, A.data), [9.0])
    assert spgemm_plan(scipy.sparse.csr_array((3, 4)), scipy.sparse.csr_array((4, 2)))(np.zeros(0), np.zeros(0)).shape == (0,)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="Ax must have shape"):
        PLAN(A.data[:-1], B.data)
    with pytest.raises(ValueError, match="Bx must be finite"):
        PLAN(A.data, np.full(B.nnz, np.inf))
    with pytest.raises(ValueError, match="B must have as many rows"):
        spgemm_plan(A, A)
