"""A few eigenpairs: LAPACK's values from every route and every kind of matrix, Laplacians of graphs, honest failure, refusals."""

import warnings

import networkx as nx
import numpy as np
import pytest
import scipy.linalg
import scipy.sparse
import scipy.sparse.csgraph
import scipy.sparse.linalg
import scipy.spatial
import torch
from linalg.kinds_of_input import KINDS, OPERATORS, answers_in_torch
from specimens import Specimen

from ritz.core import ConvergenceWarning
from ritz.linalg import EigenResult, eigsh
from ritz.linalg.lanczos import ENDS, wanted_order

SPREAD_SEEDS = range(40)


def hermitian_matrix(n, seed=0, dtype=np.float64, spectrum=None):
    rng = np.random.default_rng(seed)
    square = rng.standard_normal((n, n)) + (1j * rng.standard_normal((n, n)) if np.dtype(dtype).kind == "c" else 0)
    if spectrum is None:
        A = (square + square.conj().T) / 2
    else:
        Q = np.linalg.qr(square)[0]
        A = (Q * spectrum) @ Q.conj().T
        A = (A + A.conj().T) / 2
    return A.astype(dtype)


def spectrum_of(kind, n, seed):
    rng = np.random.default_rng(seed)
    return {
        "random": rng.standard_normal(n),
        "repeated": np.repeat(rng.standard_normal(-(-n // 5)), 5)[:n],
        "clustered": np.repeat(rng.standard_normal(-(-n // 4)), 4)[:n] + 1e-5 * rng.standard_normal(n),
        "indefinite and low rank": np.where(np.arange(n) < n // 3, rng.standard_normal(n), 0.0),
    }[kind]


def path(n):
    return scipy.sparse.csr_array(
        scipy.sparse.diags_array([-np.ones(n - 1), np.r_[1.0, np.full(n - 2, 2.0), 1.0], -np.ones(n - 1)], offsets=[-1, 0, 1])
    )


def laplacian(graph):
    return scipy.sparse.csr_array(nx.laplacian_matrix(graph).astype(float))


def path_values(n):
    return 4 * np.sin(np.arange(n) * np.pi / (2 * n)) ** 2


def check(A, found, expected, tolerance=1e-8):
    """The expected values, orthonormal vectors, and the residuals that the result states."""
    scale = max(float(np.max(np.abs(expected))), 1.0)
    values, vectors = np.asarray(found.eigenvalues), np.asarray(found.eigenvectors)
    assert np.max(np.abs(values - expected)) <= tolerance * scale
    assert np.max(np.abs(vectors.conj().T @ vectors - np.eye(len(values)))) <= tolerance
    residuals = np.linalg.norm(A @ vectors - vectors * values, axis=0)
    assert np.allclose(residuals, found.residual_norms, atol=tolerance * scale / 10)
    assert np.asarray(found.converged).all()


SPECIMENS = {
    "EigenResult": Specimen(lambda: eigsh(np.eye(3), 1), dict),
    "eigsh": Specimen(
        eigsh,
        lambda: {
            "A": hermitian_matrix(30),
            "k": 3,
            "which": "largest",
            "tol": 1e-8,
            "M": np.diag(np.arange(1.0, 31.0)),
            "initial": np.ones(30),
            "max_matvecs": 1000,
            "method": "lanczos",
            "rng": 0,
        },
        accepts={"M": ("none",), "max_matvecs": ("none",), "rng": ("none",)},
    ),
}


def test_the_result_names_what_it_holds():
    found = eigsh(np.diag([1.0, 3.0, 2.0]), 2)
    assert isinstance(found, EigenResult)
    assert found.eigenvalues.tolist() == [3.0, 2.0]
    assert np.array_equal(found.eigenvectors, np.eye(3)[:, [1, 2]])
    assert (found.method, found.restarts, found.converged.tolist()) == ("dense", 0, [True, True])


@pytest.mark.parametrize("seed", SPREAD_SEEDS)
@pytest.mark.parametrize("method", ["dense", "lanczos"])
def test_equal_to_lapack_on_random_matrices(method, seed):
    kinds = ["random", "repeated", "clustered", "indefinite and low rank"]
    n = [40, 90, 150][seed % 3]
    dtype = [np.float64, np.complex128][seed // 4 % 2]
    A = hermitian_matrix(n, seed, dtype, spectrum_of(kinds[seed % 4], n, seed))
    values = np.linalg.eigvalsh(A)
    operand = scipy.sparse.csr_array(A) if seed % 2 else A
    for which in ENDS:
        for k in (1, 5, n // 3):
            found = eigsh(operand, k, which=which, method=method, tol=1e-10, rng=seed)
            ordered = values[wanted_order(values, which)][:k]
            if which == "magnitude":  # the sign of equal moduli is free
                assert np.allclose(np.abs(found.eigenvalues), np.abs(ordered), atol=1e-8)
                ordered = found.eigenvalues
            check(A, found, ordered)


@pytest.mark.parametrize("which", ENDS)
@pytest.mark.parametrize("method", ["dense", "lanczos"])
def test_every_k_from_1_to_n_minus_1(method, which):
    A = hermitian_matrix(17, 5)
    values = np.linalg.eigvalsh(A)
    ordered = values[wanted_order(values, which)]
    for k in range(1, 17):
        check(A, eigsh(A, k, which=which, method=method, rng=0), ordered[:k])


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("which", ENDS)
def test_tiny_matrices_zero_and_diagonal(n, which):
    for A in (np.zeros((n, n)), np.diag(np.arange(n) - 1.0), np.ones((n, n))):
        values = np.linalg.eigvalsh(A)
        found = eigsh(A, n, which=which)
        assert np.allclose(np.sort(found.eigenvalues), values, atol=1e-14)
        assert found.converged.all()


@pytest.mark.parametrize("which", ENDS)
@pytest.mark.parametrize("A", [scipy.sparse.csr_array((3000, 3000)), scipy.sparse.csr_array(scipy.sparse.eye_array(3000))], ids=["zero", "identity"])
def test_large_matrices_with_one_eigenvalue(A, which):
    found = eigsh(A, 4, which=which, rng=0)
    check(A, found, np.full(4, A.diagonal()[0]))


@pytest.mark.parametrize("method", ["dense", "lanczos", "chebyshev", "shift-invert"])
def test_single_precision_stays_single_and_is_accurate_to_1e4(method):
    A = hermitian_matrix(120, 3, np.float32)
    found = eigsh(A, 4, which="smallest", method=method, tol=1e-6, rng=0)
    assert found.eigenvalues.dtype == found.eigenvectors.dtype == np.float32
    check(A.astype(np.float64), found, np.linalg.eigvalsh(A.astype(np.float64))[:4], 1e-4)


@pytest.mark.filterwarnings("ignore:Sparse CSR:UserWarning")
@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
@pytest.mark.parametrize("method", ["dense", "lanczos", "chebyshev", "lobpcg", "shift-invert"])
def test_every_kind_of_input_gives_the_same_values(method, dtype):
    A = hermitian_matrix(60, 1, dtype)
    before, expected = A.copy(), np.linalg.eigvalsh(A)[:3]
    for kind in KINDS:
        if method == "shift-invert" and kind in OPERATORS:
            continue
        found = eigsh(KINDS[kind](A), 3, which="smallest", method=method, rng=0)
        assert isinstance(found.eigenvalues, torch.Tensor) == answers_in_torch(kind), kind
        check(A, found, expected)
    check(A, eigsh(A.tolist(), 3, which="smallest", method=method, rng=0), expected)
    assert np.array_equal(A, before)


def components(count, size):
    return scipy.sparse.csr_array(scipy.sparse.block_diag([path(size)] * count))


GRID = [4 * np.sin(np.arange(m) * np.pi / (2 * m)) ** 2 for m in (70, 60)]
GRAPHS = {
    "path": (path(20_000), path_values(20_000)[:8]),
    "cycle": (laplacian(nx.cycle_graph(5_000)), np.sort(2 - 2 * np.cos(2 * np.pi * np.arange(5_000) / 5_000))[:8]),
    "grid": (
        scipy.sparse.csr_array(scipy.sparse.kronsum(path(60), path(70), format="csr")),
        np.sort(np.add.outer(*GRID), axis=None)[:8],
    ),
    "star": (laplacian(nx.star_graph(4_000)), np.r_[0.0, np.ones(7)]),
    "complete bipartite": (laplacian(nx.complete_bipartite_graph(5, 3_000)), np.r_[0.0, np.full(7, 5.0)]),
    "disconnected": (components(7, 500), np.sort(np.tile(path_values(500), 7))[:8]),
}


@pytest.mark.parametrize("graph", GRAPHS)
def test_smallest_of_laplacians_without_choosing_anything(graph):
    A, expected = GRAPHS[graph]
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        check(A, eigsh(A, 8, which="smallest", rng=0), expected)


@pytest.mark.parametrize("graph", ["grid", "star", "complete bipartite", "disconnected"])
def test_smallest_of_laplacians_by_products_alone(graph):
    A, expected = GRAPHS[graph]
    found = eigsh(scipy.sparse.linalg.aslinearoperator(A), 8, which="smallest", rng=0)
    assert found.method in ("lanczos", "chebyshev")
    check(A, found, expected)


@pytest.mark.parametrize(("method", "size"), [("shift-invert", 500), ("chebyshev", 200), ("lanczos", 60)])
@pytest.mark.parametrize("count", [1, 5, 12])
def test_as_many_zeros_as_components(method, count, size):
    found = eigsh(components(count, size), 13, which="smallest", method=method, rng=0)
    assert found.converged.all()
    assert np.sum(found.eigenvalues < 1e-10) == count


def test_lanczos_finds_more_copies_than_its_block_has_columns():
    spectrum = np.r_[np.full(9, 3.0), np.linspace(-1, 2.5, 391)]
    A = hermitian_matrix(400, 2, spectrum=spectrum)
    check(A, eigsh(A, 11, method="lanczos", rng=0), np.r_[np.full(9, 3.0), spectrum[-1:-3:-1]])


def test_random_geometric_graph_equals_lapack():
    points = np.random.default_rng(0).random((2_500, 2))
    pairs = scipy.spatial.cKDTree(points).query_pairs(0.03, output_type="ndarray")
    W = scipy.sparse.coo_array((np.ones(len(pairs)), pairs.T), shape=(2_500, 2_500)).tocsr()
    L = scipy.sparse.csgraph.laplacian(W + W.T)
    found = eigsh(L, 20, which="smallest", rng=0)
    assert found.method == "shift-invert"
    assert np.sum(found.eigenvalues < 1e-10) == min(scipy.sparse.csgraph.connected_components(L)[0], 20)
    check(L, found, scipy.linalg.eigvalsh(L.toarray(), subset_by_index=(0, 19)))


@pytest.mark.parametrize("shift", [-2.7, 0.5, 40.0])
def test_the_smallest_are_found_wherever_the_spectrum_lies(shift):
    A, expected = GRAPHS["grid"]
    check(A + shift * scipy.sparse.eye_array(4200), eigsh(A + shift * scipy.sparse.eye_array(4200), 8, which="smallest", rng=0), expected + shift)


@pytest.mark.parametrize("method", ["dense", "shift-invert"])
@pytest.mark.parametrize("sigma", [-3.0, 0.0, 0.7, 2.0])
def test_sigma_gives_the_nearest_eigenvalues_nearest_first(sigma, method):
    A = scipy.sparse.csr_array(hermitian_matrix(100, 4, spectrum=np.linspace(-1, 2, 100)))  # has an eigenvalue at 2
    values = np.linspace(-1, 2, 100)
    found = eigsh(A, 5, sigma=sigma, method=method, rng=0)
    assert np.allclose(np.abs(found.eigenvalues - sigma), np.sort(np.abs(values - sigma))[:5], atol=1e-8)
    assert found.converged.all()


def test_sigma_on_a_large_sparse_matrix():
    A = path(4_000)
    values = path_values(4_000)
    found = eigsh(A, 4, sigma=1.0, rng=0)
    assert found.method == "shift-invert"
    check(A, found, values[np.argsort(np.abs(values - 1.0))][:4])


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(("method", "which"), [("dense", "smallest"), ("lanczos", "largest"), ("lanczos", "smallest"), ("shift-invert", "smallest")])
def test_generalized_problems_equal_lapack(method, which, sparse):
    A, B = hermitian_matrix(80, 6), hermitian_matrix(80, 7)
    M = B @ B.T / 80 + np.eye(80)
    values, vectors = scipy.linalg.eigh(A, M)
    order = wanted_order(values, which)[:5]
    kind = scipy.sparse.csr_array if sparse else np.asarray
    found = eigsh(kind(A), 5, M=kind(M), which=which, method=method, rng=0)
    assert np.allclose(found.eigenvalues, values[order], atol=1e-8)
    assert np.allclose(found.eigenvectors.T @ M @ found.eigenvectors, np.eye(5), atol=1e-8)
    assert np.allclose(np.abs(np.sum(found.eigenvectors * (M @ vectors[:, order]), axis=0)), 1, atol=1e-6)
    assert found.converged.all()


def test_the_largest_entry_of_each_vector_is_positive():
    for dtype in (np.float64, np.complex128):
        V = eigsh(hermitian_matrix(50, 8, dtype), 5, method="lanczos", rng=1).eigenvectors
        pivots = V[np.argmax(np.abs(V), axis=0), range(5)]
        assert np.all(pivots.real > 0)
        assert np.allclose(pivots.imag, 0, atol=1e-14)


@pytest.mark.parametrize("method", ["lanczos", "chebyshev", "shift-invert"])
def test_same_seed_same_result_bit_for_bit(method):
    A = GRAPHS["grid"][0]
    first, second = (eigsh(A, 3, which="smallest", method=method, tol=1e-4, rng=7) for _ in range(2))
    assert np.array_equal(first.eigenvalues, second.eigenvalues)
    assert np.array_equal(first.eigenvectors, second.eigenvectors)


@pytest.mark.parametrize(("method", "which"), [("lanczos", "largest"), ("chebyshev", "smallest")])
def test_a_warm_start_lowers_matvecs(method, which):
    A = hermitian_matrix(600, 9)
    cold = eigsh(A, 6, which=which, method=method, rng=0)
    warm = eigsh(A + 1e-6 * hermitian_matrix(600, 10), 6, which=which, method=method, initial=cold.eigenvectors, rng=0)
    assert warm.converged.all()
    assert warm.matvecs < cold.matvecs


@pytest.mark.parametrize("method", ["lanczos", "chebyshev"])
def test_what_is_not_reached_is_flagged_and_warned(method):
    A = path(3_000)
    with pytest.warns(ConvergenceWarning, match=f"eigsh \\({method}\\): .* of 40 pairs did not reach"):
        found = eigsh(A, 40, which="smallest", method=method, max_matvecs=60, rng=0)
    assert not found.converged.all()
    residuals = np.linalg.norm(A @ found.eigenvectors - found.eigenvectors * found.eigenvalues, axis=0)
    assert np.allclose(residuals, found.residual_norms)
    assert not found.converged[residuals > 4.001e-8].any()  # ||A|| is 4, and the estimate never exceeds it


def test_an_interrupt_passes_through():
    def interrupted(x):
        raise KeyboardInterrupt

    A = scipy.sparse.linalg.LinearOperator((3000, 3000), matvec=interrupted, dtype=float)
    with pytest.raises(KeyboardInterrupt):
        eigsh(A, 2)


@pytest.mark.parametrize("outliers", [[], [40.0, 25.0]])
@pytest.mark.parametrize("which", ["largest", "smallest"])
def test_crowded_ends_by_a_polynomial_with_multiplicities_and_outliers(which, outliers):
    """A torus of 84 x 90 nodes, whose eigenvalues come four at a time, beside a few that lie far off."""
    ring = [scipy.sparse.diags_array([np.full(m - 1, -1.0), np.full(m, 2.0), np.full(m - 1, -1.0)], offsets=[-1, 0, 1]).tolil() for m in (84, 90)]
    for side in ring:
        side[0, -1] = side[-1, 0] = -1.0
    sign = 1 if which == "largest" else -1
    A = scipy.sparse.csr_array(
        scipy.sparse.block_diag(
            [scipy.sparse.kronsum(*ring), scipy.sparse.diags_array(sign * np.array(outliers))] if outliers else [scipy.sparse.kronsum(*ring)]
        )
    )
    spectra = [4 * np.sin(np.arange(m) * np.pi / m) ** 2 for m in (84, 90)]
    expected = np.sort(np.r_[np.add.outer(*spectra).ravel(), sign * np.array(outliers)])
    for operand in (A, scipy.sparse.linalg.aslinearoperator(A)):
        found = eigsh(operand, 7, which=which, method="lanczos", tol=1e-7, rng=0)
        assert found.converged.all()
        np.testing.assert_allclose(found.eigenvalues, expected[::-1][:7] if which == "largest" else expected[:7], atol=1e-9)


@pytest.mark.parametrize("name", ["grid", "cycle", "disconnected", "random geometric"])
def test_lobpcg_with_multigrid_on_laplacians(name):
    graphs = {
        "grid": scipy.sparse.kronsum(path(50), path(45)),
        "cycle": scipy.sparse.csr_array(nx.laplacian_matrix(nx.cycle_graph(2_500)).astype(float)),
        "disconnected": components(4, 600),
        "random geometric": scipy.sparse.csr_array(nx.laplacian_matrix(nx.random_geometric_graph(2_200, 0.05, seed=0)).astype(float)),
    }
    A = scipy.sparse.csr_array(graphs[name])
    expected = np.linalg.eigvalsh(A.toarray())[:8]
    found = eigsh(A, 8, which="smallest", preconditioner="amg", tol=1e-9, rng=0)
    assert found.method == "lobpcg"
    assert found.converged.all()
    np.testing.assert_allclose(found.eigenvalues, expected, atol=1e-8)


def test_lobpcg_without_and_with_other_preconditioners():
    A = scipy.sparse.csr_array(path(400) + 0.1 * scipy.sparse.eye_array(400))
    expected, M = np.linalg.eigvalsh(A.toarray())[:4], np.linalg.inv(A.toarray())
    plain = eigsh(A, 4, which="smallest", method="lobpcg", tol=1e-8, rng=0)
    exact = eigsh(A, 4, which="smallest", preconditioner=M, tol=1e-8, rng=0)
    for found in (plain, exact):
        assert found.converged.all()
        np.testing.assert_allclose(found.eigenvalues, expected, atol=1e-10)
    assert exact.restarts < plain.restarts
    warm = eigsh(A, 4, which="smallest", preconditioner=M, initial=exact.eigenvectors, tol=1e-8, rng=0)
    assert warm.matvecs < exact.matvecs
    assert eigsh(hermitian_matrix(60, 1, np.complex128), 3, which="smallest", method="lobpcg", rng=0).converged.all()


def test_routes_of_auto():
    random = scipy.sparse.random_array((11_000, 11_000), density=1e-3, rng=0)
    random = scipy.sparse.csr_array(random + random.T)
    assert eigsh(random, 2, tol=1e-2, rng=0).method == "lanczos"
    assert eigsh(random, 2, which="smallest", tol=1e-2, rng=0).method == "lanczos"
    assert eigsh(scipy.sparse.linalg.aslinearoperator(path(2_500)), 2, which="smallest", tol=1e-7, rng=0).method == "chebyshev"
    assert eigsh(path(2_500), 2, which="smallest", rng=0).method == "shift-invert"
    assert eigsh(path(1_000), 2, which="smallest").method == "dense"


NOT_SYMMETRIC = np.triu(np.ones((40, 40)))


@pytest.mark.parametrize(
    ("A", "options", "message"),
    [
        (NOT_SYMMETRIC, {}, "A must be symmetric"),
        (scipy.sparse.csr_array(NOT_SYMMETRIC), {}, "A must be symmetric"),
        (scipy.sparse.linalg.aslinearoperator(NOT_SYMMETRIC), {}, "A must be symmetric"),
        (1j * np.ones((3, 3)), {}, "A must be symmetric"),
        (np.ones((3, 4)), {}, "A must be square"),
        (scipy.sparse.csr_array((3, 4)), {}, "A must be square"),
        (np.full((3, 3), np.nan), {}, "A must be finite"),
        (scipy.sparse.csr_array(np.full((3, 3), np.inf)), {}, "A must be finite"),
        (scipy.sparse.linalg.aslinearoperator(np.full((3, 3), np.nan)), {}, "A must be finite"),
        (np.eye(9), {"k": 0}, "k must be"),
        (np.eye(9), {"k": 10}, "k must be"),
        (np.eye(9), {"k": 9, "method": "lanczos"}, "k must be less than n"),
        (np.eye(9), {"which": "SM"}, "which must be one of"),
        (np.eye(9), {"tol": 0.0}, "tol must be"),
        (np.eye(9), {"sigma": 1.0, "which": "smallest"}, "which must be left"),
        (np.eye(9), {"sigma": 1.0, "method": "lanczos"}, "method must be"),
        (np.eye(9), {"method": "chebyshev"}, "which='smallest'"),
        (np.eye(9), {"method": "shift-invert"}, "which must be 'smallest'"),
        (scipy.sparse.linalg.aslinearoperator(path(3_000)), {"sigma": 1.0}, "need the entries of A"),
        (np.eye(9), {"M": np.diag(np.arange(9.0))}, "M must be positive definite"),
        (np.eye(9), {"M": scipy.sparse.diags_array(np.arange(9) - 4.5)}, "M must be positive definite"),
        (np.eye(9), {"M": np.eye(8)}, "M must have the shape of A"),
        (np.eye(9), {"initial": np.ones(8)}, "initial must have 9 rows"),
        (np.eye(9), {"initial": np.full(9, np.nan)}, "initial must be finite"),
        (np.eye(9), {"max_matvecs": 0}, "max_matvecs must be"),
        (np.eye(9), {"preconditioner": "amg", "which": "smallest"}, "preconditioner must be an operator where A is not sparse"),
        (np.eye(9), {"preconditioner": "ilu", "which": "smallest"}, "preconditioner must be one of"),
        (np.eye(9), {"preconditioner": np.eye(8), "which": "smallest"}, "preconditioner must have the shape of A"),
        (np.eye(9), {"preconditioner": np.eye(9), "method": "dense"}, "preconditioner must be None for method 'dense'"),
        (np.eye(9), {"preconditioner": np.eye(9)}, "which='smallest'"),
    ],
)
def test_refusals(A, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        eigsh(A, **({"k": 2} | options))
