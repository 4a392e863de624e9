"""Sparse products: SciPy's entries on every kind of matrix, whatever the accumulator and the threads; semirings and masks by their formulas."""

import networkx as nx
import numpy as np
import pytest
import scipy.sparse
import torch
from linalg.kinds_of_input import KINDS, OPERATORS
from specimens import Specimen

from ritz.linalg import row_windows, spgemm, spgemm_flops, spgemm_symbolic
from ritz.studies.data.graphs import rmat
from ritz.studies.data.linear_systems import poisson

RNG = np.random.default_rng(0)


def erdos_renyi(n, m, per_row, seed=0, dtype=float):
    rng = np.random.default_rng(seed)
    edges = n * per_row
    values = rng.integers(1, 9, edges) if np.dtype(dtype).kind in "ib" else rng.standard_normal(edges)
    if np.dtype(dtype).kind == "c":
        values = values + 1j * rng.standard_normal(edges)
    return scipy.sparse.csr_array((values.astype(dtype), (rng.integers(n, size=edges), rng.integers(m, size=edges))), shape=(n, m))


def hypersparse():
    A = erdos_renyi(3000, 3000, 1).tolil()
    A[200:2800] = 0
    return scipy.sparse.csr_array(A)


def with_dense_row_and_column():
    A = erdos_renyi(400, 400, 3).tolil()
    A[7], A[:, 11] = RNG.standard_normal(400), RNG.standard_normal((400, 1))
    return scipy.sparse.csr_array(A)


def unsorted():
    A = erdos_renyi(200, 200, 6)
    for begin, end in zip(A.indptr, A.indptr[1:]):
        A.indices[begin:end], A.data[begin:end] = A.indices[begin:end][::-1].copy(), A.data[begin:end][::-1].copy()
    A.has_sorted_indices = False
    return A


def with_duplicates():
    return scipy.sparse.csr_array((RNG.standard_normal(400), RNG.integers(0, 20, 400), np.arange(0, 401, 8)), shape=(50, 50))


def with_stored_zeros():
    A = erdos_renyi(100, 100, 4)
    A.data[::3] = 0
    return A


MATRICES = {
    "2-D Laplacian": lambda: (poisson(30, 30),) * 2,
    "3-D Laplacian": lambda: (poisson(9, 9, 9),) * 2,
    "Erdos-Renyi": lambda: (erdos_renyi(1000, 1000, 8),) * 2,
    "R-MAT": lambda: (scipy.sparse.csr_array(rmat(10, 8 * 2**10, rng=0), dtype=float),) * 2,
    "hypersparse": lambda: (hypersparse(),) * 2,
    "dense row and column": lambda: (with_dense_row_and_column(),) * 2,
    "rectangular": lambda: (erdos_renyi(300, 500, 5), erdos_renyi(500, 70, 4, seed=1)),
    "no rows": lambda: (scipy.sparse.csr_array((0, 5)), erdos_renyi(5, 4, 2)),
    "no inner dimension": lambda: (scipy.sparse.csr_array((3, 0)), scipy.sparse.csr_array((0, 4))),
    "no columns": lambda: (erdos_renyi(5, 4, 2), scipy.sparse.csr_array((4, 0))),
    "no entries": lambda: (scipy.sparse.csr_array((30, 20)), erdos_renyi(20, 40, 2)),
    "one by one": lambda: (scipy.sparse.csr_array([[2.0]]),) * 2,
    "duplicates": lambda: (with_duplicates(),) * 2,
    "unsorted": lambda: (unsorted(),) * 2,
    "stored zeros": lambda: (with_stored_zeros(),) * 2,
}
DTYPES = ["float32", "float64", "complex64", "complex128", "int64", "int32", "bool"]

SPECIMENS = {
    "spgemm": Specimen(
        spgemm,
        lambda: {
            "A": erdos_renyi(5, 6, 2), "B": erdos_renyi(6, 4, 2), "accumulator": "auto", "semiring": "plus_times", "mask": erdos_renyi(5, 4, 2),
            "mask_complement": False, "sort_indices": True, "drop_tolerance": 0.1, "top_k": 2, "threads": 1,
        },
        accepts={"mask": ("none",), "drop_tolerance": ("none",), "top_k": ("none",), "threads": ("none",)},
    ),
    "spgemm_flops": Specimen(spgemm_flops, lambda: {"A": erdos_renyi(5, 6, 2), "B": erdos_renyi(6, 4, 2)}),
    "spgemm_symbolic": Specimen(spgemm_symbolic, lambda: {"A": erdos_renyi(5, 6, 2), "B": erdos_renyi(6, 4, 2)}),
}  # fmt: skip


def assert_same(found, expected, tolerance=1e-12):
    """The same structure, after sorting, and entries that agree relative to the largest."""
    expected = scipy.sparse.csr_array(expected, copy=True)
    found = found.copy()
    found.sort_indices()
    expected.sort_indices()
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found.indptr, expected.indptr)
    np.testing.assert_array_equal(found.indices, expected.indices)
    if expected.dtype.kind in "fc" and expected.nnz:
        assert abs(found.data - expected.data).max() <= tolerance * abs(expected.data).max()
    else:
        np.testing.assert_array_equal(found.data, expected.data)


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("accumulator", ["auto", "hash", "dense", "sort"])
def test_the_product_is_scipys(name, accumulator):
    A, B = MATRICES[name]()
    options = {"drop_tolerance": 0.0} if name == "stored zeros" else {}  # SciPy leaves out what sums to zero
    assert_same(spgemm(A, B, accumulator=accumulator, **options), A @ B)


@pytest.mark.parametrize("accumulator", ["auto", "hash", "dense", "sort"])
def test_entries_that_cancel_are_kept_and_dropping_zeros_gives_scipys_structure(accumulator):
    A, B = scipy.sparse.csr_array([[1.0, 1.0], [1.0, 0.0]]), scipy.sparse.csr_array([[1.0, 2.0], [-1.0, 0.0]])
    found = spgemm(A, B, accumulator=accumulator)
    assert found.nnz == 4
    np.testing.assert_array_equal(found.toarray(), [[0.0, 2.0], [1.0, 2.0]])
    assert_same(spgemm(A, B, accumulator=accumulator, drop_tolerance=0.0), A @ B)
    assert (A @ B).nnz == 3


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(dtype):
    A = erdos_renyi(200, 200, 5, dtype=dtype)
    found = spgemm(A, A)
    assert found.dtype == {"int32": "int64"}.get(dtype, dtype)
    assert_same(found, A @ A, tolerance=1e-6 if dtype in ("float32", "complex64") else 1e-12)


def test_factors_of_different_dtypes_meet_in_the_common_one():
    A, B = erdos_renyi(30, 30, 3, dtype=np.float32), erdos_renyi(30, 30, 3, dtype=np.int64)
    assert spgemm(A, B).dtype == (A @ B).dtype == np.float64
    assert_same(spgemm(A, B), A @ B)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in OPERATORS])
def test_every_kind_of_matrix(kind):
    A, B = erdos_renyi(20, 30, 3).toarray(), erdos_renyi(30, 10, 3).toarray()
    found = spgemm(KINDS[kind](A), KINDS[kind](B))
    if kind.startswith("torch"):
        assert found.layout == torch.sparse_csr
        found = found.to_dense().numpy()
    np.testing.assert_allclose(found.toarray() if scipy.sparse.issparse(found) else found, A @ B, atol=1e-12)


@pytest.mark.parametrize("name", MATRICES)
def test_accumulators_agree_in_structure_and_bits(name):
    A, B = MATRICES[name]()
    dense, hashed, ordered = (spgemm(A, B, accumulator=accumulator) for accumulator in ("dense", "hash", "sort"))
    np.testing.assert_array_equal(dense.indices, hashed.indices)
    np.testing.assert_array_equal(dense.data, hashed.data)
    dense.sort_indices()
    np.testing.assert_array_equal(dense.indices, ordered.indices)
    np.testing.assert_array_equal(dense.data, ordered.data)


@pytest.mark.parametrize("accumulator", ["hash", "dense", "sort"])
@pytest.mark.parametrize("options", [{}, {"top_k": 3}, {"semiring": "min_plus"}, {"mask": "A"}], ids=str)
def test_threads_change_no_bit(accumulator, options):
    A = MATRICES["R-MAT"]()[0]
    options = {name: A if value == "A" else value for name, value in options.items()}
    one, two = (spgemm(A, A, accumulator=accumulator, threads=threads, **options) for threads in (1, 2))
    for part in ("indptr", "indices", "data"):
        np.testing.assert_array_equal(getattr(one, part), getattr(two, part))


@pytest.mark.parametrize("multiplier", [1, 2**16, "inverse of the hash"])
def test_columns_that_all_fall_into_one_slot(multiplier):
    """Consecutive, equal modulo every table size, and equal in all bits that the multiplicative hash looks at."""
    columns = 2**31 - 1
    if multiplier == "inverse of the hash":
        hits = np.arange(2**20, dtype=np.uint64) * np.uint64(pow(0x9E3779B1, -1, 2**32)) % np.uint64(2**32)
        picked = np.sort(hits[hits < columns])[:512].astype(np.int64)
    else:
        picked = np.arange(512, dtype=np.int64) * multiplier
    A = scipy.sparse.csr_array(np.ones((3, 4)))
    B = scipy.sparse.csr_array((np.arange(2048.0), np.tile(picked, 4), np.arange(5) * 512), shape=(4, columns))
    found = spgemm(A, B, accumulator="hash")
    np.testing.assert_array_equal(found.indices[:512], picked)
    np.testing.assert_array_equal(found.data[:512], B.data.reshape(4, 512).sum(axis=0))
    assert found.nnz == 3 * 512
    np.testing.assert_array_equal(spgemm(A, B).data, found.data)


@pytest.mark.parametrize("length", [1, 2, 4, 64, 1024])
def test_tables_at_their_full_load(length):
    """Rows with exactly half as many entries as their table has slots."""
    A, B = scipy.sparse.csr_array(np.ones((5, 1))), scipy.sparse.csr_array(RNG.standard_normal((1, length)))
    assert_same(spgemm(A, B, accumulator="hash"), A @ B)


def test_long_rows_are_sorted_by_bytes():
    A, B = scipy.sparse.csr_array(np.ones((2, 40))), erdos_renyi(40, 70_000, 50)
    found = spgemm(A, B, accumulator="sort")
    assert_same(found, A @ B)
    assert np.all(np.diff(found.indices[: found.indptr[1]]) > 0)


def test_counting_the_rows_first_and_running_out_of_stamps_change_nothing(monkeypatch):
    A = erdos_renyi(300, 300, 40)
    expected = spgemm(A, A)
    for name, value in {"HARMLESS_ROOM": 0, "LARGEST_ROOM": 0, "LAST_STAMP": 20_000, "WINDOW_ROOM": 3_000}.items():
        monkeypatch.setattr(row_windows, name, value)
    for accumulator in ("dense", "hash"):
        found = spgemm(A, A, accumulator=accumulator)
        np.testing.assert_array_equal(found.indices, expected.indices)
        np.testing.assert_array_equal(found.data, expected.data)
    monkeypatch.setattr(row_windows, "LARGEST_ROOM", 2**32)
    np.testing.assert_array_equal(spgemm(A, A).data, expected.data)


def test_min_plus_is_the_dense_formula():
    A = abs(erdos_renyi(60, 60, 4))
    lengths = np.where(A.toarray() > 0, A.toarray(), np.inf)
    expected = (lengths[:, :, None] + lengths[None]).min(axis=1)
    for accumulator in ("dense", "hash", "sort"):
        found = spgemm(A, A, semiring="min_plus", accumulator=accumulator)
        dense = np.full((60, 60), np.inf)
        dense[found.nonzero()] = found.toarray()[found.nonzero()]
        np.testing.assert_allclose(dense, expected, rtol=1e-15)


def test_max_times_is_the_dense_formula():
    A = abs(erdos_renyi(60, 60, 4))
    expected = (A.toarray()[:, :, None] * A.toarray()[None]).max(axis=1)
    np.testing.assert_allclose(spgemm(A, A, semiring="max_times").toarray(), expected, rtol=1e-15)


def test_or_and_is_reachability():
    A = erdos_renyi(60, 60, 3)
    found = spgemm(A, A, semiring="or_and")
    assert found.dtype == bool
    np.testing.assert_array_equal(found.toarray(), (A.toarray() != 0).astype(int) @ (A.toarray() != 0).astype(int) > 0)


def test_entries_stored_in_parts_are_summed_before_a_minimum_is_taken():
    A = scipy.sparse.csr_array((np.array([1.0, 2.0]), np.array([0, 0]), np.array([0, 2])), shape=(1, 1))
    assert spgemm(A, scipy.sparse.csr_array([[4.0]]), semiring="min_plus").toarray()[0, 0] == 7.0


@pytest.mark.parametrize("accumulator", ["auto", "hash", "dense", "sort"])
@pytest.mark.parametrize("complement", [False, True])
def test_a_masked_product_has_the_wanted_positions_only(accumulator, complement):
    A, B, mask = erdos_renyi(80, 90, 6), erdos_renyi(90, 70, 6), erdos_renyi(80, 70, 20)
    wanted = (mask.toarray() != 0) != complement
    product = scipy.sparse.coo_array(A @ B)
    keep = wanted[product.row, product.col]
    expected = scipy.sparse.csr_array((product.data[keep], (product.row[keep], product.col[keep])), shape=product.shape)
    assert_same(spgemm(A, B, mask=mask, mask_complement=complement, accumulator=accumulator), expected)


@pytest.mark.parametrize("accumulator", ["hash", "dense", "sort"])
def test_triangles_are_networkx_triangles(accumulator):
    graph = nx.barabasi_albert_graph(300, 6, seed=0)
    adjacency = scipy.sparse.csr_array(nx.to_scipy_sparse_array(graph, dtype=np.int64))
    found = spgemm(adjacency, adjacency, mask=adjacency, accumulator=accumulator)
    assert found.sum() == 6 * (sum(nx.triangles(graph).values()) // 3)


@pytest.mark.parametrize("semiring", ["plus_times", "min_plus"])
def test_the_best_entries_of_each_row(semiring):
    A = erdos_renyi(50, 50, 6)
    whole, best = spgemm(A, A, semiring=semiring), spgemm(A, A, semiring=semiring, top_k=4)
    keys = (lambda row: row) if semiring == "min_plus" else (lambda row: -abs(row))
    for i in range(50):
        row, kept = (C.data[C.indptr[i] : C.indptr[i + 1]] for C in (whole, best))
        np.testing.assert_array_equal(np.sort(keys(kept)), np.sort(keys(row))[:4])


def test_of_equal_entries_lower_columns_are_kept():
    ones = scipy.sparse.csr_array(np.ones((2, 6)))
    found = spgemm(scipy.sparse.csr_array([[1.0, 1.0]]), ones[:, ::-1], top_k=2)
    np.testing.assert_array_equal(np.sort(found.indices), [0, 1])


def test_small_entries_are_dropped_as_asked():
    A = erdos_renyi(100, 100, 5)
    product = (A @ A).toarray()
    np.testing.assert_allclose(spgemm(A, A, drop_tolerance=0.5).toarray(), np.where(abs(product) > 0.5, product, 0), atol=1e-12)


@pytest.mark.parametrize("name", ["R-MAT", "2-D Laplacian"])
def test_sorted_indices(name):
    A = MATRICES[name]()[0]
    found = spgemm(A, A, sort_indices=True)
    assert all(np.all(np.diff(found.indices[begin:end]) > 0) for begin, end in zip(found.indptr, found.indptr[1:]))
    assert_same(found, A @ A)


@pytest.mark.parametrize("name", MATRICES)
def test_counts_of_products_and_of_entries(name):
    A, B = MATRICES[name]()
    ones = [scipy.sparse.csr_array((np.ones(X.nnz), X.indices, X.indptr), shape=X.shape) for X in (A, B)]
    np.testing.assert_array_equal(spgemm_flops(A, B), np.asarray((ones[0] @ ones[1]).sum(axis=1)).ravel())
    lengths, total = spgemm_symbolic(A, B)
    product = spgemm(A, B) if name == "stored zeros" else A @ B
    np.testing.assert_array_equal(lengths, np.diff(product.indptr))
    assert total == product.nnz


def test_inputs_stay_as_they_are():
    A = unsorted()
    before = A.copy()
    spgemm(A, A, sort_indices=True, top_k=1)
    for part in ("indptr", "indices", "data"):
        np.testing.assert_array_equal(getattr(A, part), getattr(before, part))


def broken(**parts):
    A = erdos_renyi(4, 4, 2)
    for name, value in parts.items():
        getattr(A, name)[1] = value
    return A


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"B": np.ones((3, 3))}, "B must have as many rows as A has columns, 4, got 3"),
        ({"A": np.ones(4)}, "A must be a matrix, got 1 dimension"),
        ({"A": scipy.sparse.coo_array(np.ones(4))}, "A must be a matrix, got 1 dimension"),
        ({"B": scipy.sparse.csr_array((4, 2**31))}, "B must have fewer than 2"),
        ({"A": np.full((4, 4), np.nan)}, "A must be finite"),
        ({"A": np.full((4, 4), 2**63, np.uint64)}, "A must have entries below"),
        ({"A": broken(indices=9)}, "A must be a valid CSR"),
        ({"B": broken(indptr=-3)}, "B must be a valid CSR"),
        ({"mask": np.ones((4, 3))}, "mask must have the shape"),
        ({"mask_complement": True}, "mask_complement needs a mask"),
        ({"semiring": "min_plus", "drop_tolerance": 0.1}, "drop_tolerance has no meaning"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        spgemm(**({"A": np.eye(4), "B": np.eye(4)} | arguments))


def test_wrong_types_are_refused():
    with pytest.raises(TypeError, match="semiring 'min_plus' needs an order"):
        spgemm(1j * np.eye(4), np.eye(4), semiring="min_plus")
    with pytest.raises(TypeError, match="B must be a torch tensor"):
        spgemm(torch.eye(4), np.eye(4))
    with pytest.raises(TypeError, match="explicit matrix"):
        spgemm(scipy.sparse.linalg.aslinearoperator(np.eye(4)), np.eye(4))


@pytest.mark.gpu
def test_cuda_tensors_are_multiplied_by_torch():
    A = torch.from_numpy(erdos_renyi(20, 20, 3).toarray())
    found = spgemm(A.cuda(), A.cuda())
    torch.testing.assert_close(found.to_dense().cpu(), A @ A)
    with pytest.raises(ValueError, match="semiring must be 'plus_times' for CUDA"):
        spgemm(A.cuda(), A.cuda(), semiring="min_plus")
