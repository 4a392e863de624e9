"""Every hierarchy keeps its smooth vector, the composite solver gains with each, and the smooth vectors know the low spectrum."""

import warnings
from functools import cache

import numpy as np
import pytest
import scipy.sparse
import torch
from sklearn.base import clone
from specimens import Specimen

from ritz.core import ConvergenceWarning
from ritz.graphs import BootstrapAMG, definite_laplacian, laplacian
from ritz.graphs.matching_hierarchy import build_hierarchy, matching_weights
from ritz.linalg import cg, ssor
from ritz.studies.data.graphs import grid_graph, planted_partition, sparse_partition

TRIANGLE = np.array([[0, 1.0, 2.0], [1.0, 0, 1.0], [2.0, 1.0, 0]])
OPTIONS = {
    "tol": 0.5,
    "max_components": 2,
    "test_iterations": 3,
    "composition": "symmetric",
    "aggregation_sweeps": 1,
    "max_coarse": 2,
    "max_levels": 3,
}

SPECIMENS = {
    "BootstrapAMG": Specimen(lambda **options: BootstrapAMG(rng=0, **options).fit(definite_laplacian(TRIANGLE)), lambda: dict(OPTIONS)),
    "BootstrapAMG.fit": Specimen(lambda A: BootstrapAMG(0.5, rng=0).fit(A), lambda: {"A": definite_laplacian(TRIANGLE)}),
    "BootstrapAMG.solve": Specimen(
        lambda b, tol, max_iterations: BootstrapAMG(0.5, rng=0).fit(definite_laplacian(TRIANGLE)).solve(b, tol=tol, max_iterations=max_iterations),
        lambda: {"b": np.ones(3), "tol": 1e-3, "max_iterations": 50},
    ),
    "definite_laplacian": Specimen(definite_laplacian, lambda: {"adjacency": TRIANGLE.copy()}),
}


@cache
def on_the_grid(composition="multiplicative", components=14):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return BootstrapAMG(1e-12, max_components=components, composition=composition, rng=0).fit(definite_laplacian(grid_graph(32)))


def shuffled(adjacency, seed):
    order = np.random.default_rng(seed).permutation(adjacency.shape[0])
    return adjacency[order][:, order]


@pytest.mark.parametrize("sweeps", [1, 2, 3])
def test_prolongators_are_orthonormal_and_keep_the_smooth_vector(sweeps):
    A = definite_laplacian(planted_partition([40, 40], 0.3, 0.05, rng=0).adjacency)
    with pytest.warns(ConvergenceWarning):
        solver = BootstrapAMG(1e-12, max_components=3, aggregation_sweeps=sweeps, rng=0).fit(A)
    for hierarchy, w in zip(solver.hierarchies_, solver.smooth_vectors_.T):
        assert abs(hierarchy.matrix(0) - A).max() == 0
        assert hierarchy.sizes[-1] <= 10
        for level in range(len(hierarchy.sizes) - 1):
            P, fine, coarse = hierarchy.prolongator(level), hierarchy.matrix(level), hierarchy.matrix(level + 1)
            assert np.diff(P.indptr).max() == 1
            np.testing.assert_allclose((P.T @ P).toarray(), np.eye(P.shape[1]), atol=1e-12)
            np.testing.assert_allclose(P @ (P.T @ w), w, atol=1e-12 * np.abs(w).max())
            np.testing.assert_allclose(coarse.toarray(), (P.T @ fine @ P).toarray(), atol=1e-12 * abs(fine).max())
            assert abs(coarse - coarse.T).max() == 0
            assert np.linalg.eigvalsh(coarse.toarray())[0] > 0
            assert P.shape[0] / P.shape[1] <= 2**sweeps
            w = P.T @ w


def test_rows_at_which_the_vector_vanishes_go_into_no_aggregate():
    A = definite_laplacian(grid_graph(6))
    w = np.ones(36)
    w[[0, 1, 14]] = 0
    hierarchy = build_hierarchy(A, w, aggregation_sweeps=1, max_coarse=4, max_levels=10)
    P = hierarchy.prolongator(0).toarray()
    assert not P[0].any() or not P[1].any() or np.abs(w[:2]).max() == 0
    np.testing.assert_allclose(P @ (P.T @ w), w, atol=1e-14)
    assert np.linalg.eigvalsh(hierarchy.matrix(1).toarray())[0] > 0


def test_matching_weights_by_their_formula():
    A = definite_laplacian(planted_partition([10, 10], 0.5, 0.2, rng=0).adjacency)
    w = np.random.default_rng(0).standard_normal(20)
    found = scipy.sparse.csr_array((matching_weights(A.indptr, A.indices, A.data, w), A.indices, A.indptr)).toarray()
    D, dense = A.diagonal(), A.toarray()
    expected = np.abs(1 - 2 * np.outer(w, w) * dense / (D[:, None] * w[:, None] ** 2 + D * w**2))
    off = (dense != 0) & ~np.eye(20, dtype=bool)
    np.testing.assert_allclose(found[off], expected[off], rtol=1e-14)
    np.testing.assert_array_equal(found, found.T)
    assert 0 < matching_weights(A.indptr, A.indices, A.data, np.zeros(20)).max() < 1e-10


def test_one_cycle_is_a_symmetric_contraction_in_the_norm_of_A():
    A = definite_laplacian(grid_graph(12))
    with pytest.warns(ConvergenceWarning):
        solver = BootstrapAMG(max_components=1, rng=0).fit(A)
    B, dense = solver.aspreconditioner() @ np.eye(144), A.toarray()
    np.testing.assert_allclose(B, B.T, atol=1e-12)
    values = np.linalg.eigvals(np.eye(144) - B @ dense)
    assert np.abs(values.imag).max() < 1e-8
    assert values.real.min() > -1e-10
    assert values.real.max() < 1


def test_the_cycle_equals_its_dense_definition():
    """Forward Gauss-Seidel, exact correction from the coarse level, backward Gauss-Seidel."""
    A = definite_laplacian(grid_graph(4))
    with pytest.warns(ConvergenceWarning):
        solver = BootstrapAMG(max_components=1, max_coarse=8, rng=0).fit(A)
    P, dense = solver.hierarchies_[0].prolongator(0).toarray(), A.toarray()
    assert P.shape == (16, 8)
    lower, coarse = np.tril(dense), P @ np.linalg.inv(P.T @ dense @ P) @ P.T
    E = (np.eye(16) - np.linalg.inv(lower.T) @ dense) @ (np.eye(16) - coarse @ dense) @ (np.eye(16) - np.linalg.inv(lower) @ dense)
    np.testing.assert_allclose(np.eye(16) - (solver.aspreconditioner() @ np.eye(16)) @ dense, E, atol=1e-12)
    x = np.random.default_rng(0).random(16)
    np.testing.assert_allclose(solver._improved(x, np.zeros(16), solver.hierarchies_), E @ x, atol=1e-12)


def test_compositions_of_cycles():
    A = definite_laplacian(grid_graph(5))
    dense, errors = A.toarray(), {}
    for composition in ("multiplicative", "symmetric", "additive"):
        with pytest.warns(ConvergenceWarning):
            solver = BootstrapAMG(1e-9, max_components=2, composition=composition, rng=0).fit(A)
        solver.hierarchies_ = errors.setdefault("hierarchies", solver.hierarchies_)
        errors[composition] = np.eye(25) - (solver.aspreconditioner() @ np.eye(25)) @ dense
        adjoint = solver.aspreconditioner().rmatmat(np.eye(25))
        np.testing.assert_allclose(adjoint, (solver.aspreconditioner() @ np.eye(25)).T, atol=1e-12)
    single = []
    for hierarchy in errors["hierarchies"]:
        solver.hierarchies_ = [hierarchy]
        single.append(np.eye(25) - (solver.aspreconditioner() @ np.eye(25)) @ dense)
    np.testing.assert_allclose(errors["multiplicative"], single[1] @ single[0], atol=1e-12)
    np.testing.assert_allclose(errors["symmetric"], single[0] @ single[1] @ single[1] @ single[0], atol=1e-12)
    np.testing.assert_allclose(errors["additive"], (single[0] + single[1]) / 2, atol=1e-12)


def test_factors_fall_with_each_hierarchy_on_the_grid():
    solver = on_the_grid()
    assert solver.hierarchies_[0].sizes[:3] == [1024, 512, 257]
    assert solver.convergence_factors_[5] <= 0.2
    assert solver.convergence_factors_[13] <= 5e-3
    assert not solver.converged_
    assert solver.smooth_vectors_.shape == (1024, 15)


@pytest.mark.parametrize("seed", range(3))
def test_clustered_graphs_reach_the_tolerance_with_few_hierarchies(seed):
    graph = shuffled(planted_partition([100] * 3, 0.2, 0.02, rng=seed).adjacency, seed)
    solver = BootstrapAMG(1e-6, rng=seed).fit(definite_laplacian(graph))
    assert solver.converged_
    assert len(solver.hierarchies_) <= 10


def test_as_a_preconditioner_it_halves_the_iterations_of_gauss_seidel():
    A = definite_laplacian(grid_graph(128))
    with pytest.warns(ConvergenceWarning):
        solver = BootstrapAMG(1e-12, max_components=6, composition="symmetric", rng=0).fit(A)
    b = np.random.default_rng(0).standard_normal(A.shape[0])
    ours, peer = (cg(A, b, preconditioner=M, tol=1e-8).iterations for M in (solver.aspreconditioner(), ssor(A)))
    assert ours <= 0.5 * peer


@pytest.mark.parametrize("seed", range(5))
def test_the_span_of_smooth_vectors_holds_the_constant_and_nearly_the_fiedler_vector(seed):
    graph = shuffled(planted_partition([150, 150], 0.1, 0.02, rng=seed).adjacency, seed)
    Q, _ = np.linalg.qr(BootstrapAMG(rng=seed).fit(definite_laplacian(graph)).smooth_vectors_)
    constant = np.full(300, 300**-0.5)
    fiedler = np.linalg.eigh(laplacian(graph, "comb").toarray())[1][:, 1]
    assert np.linalg.norm(constant - Q @ (Q.T @ constant)) < 1e-12
    assert np.arccos(np.linalg.norm(Q.T @ fiedler)) < 0.35


@pytest.mark.parametrize("composition", ["multiplicative", "symmetric", "additive"])
def test_solve(composition):
    solver, b = on_the_grid(composition, 6), np.random.default_rng(1).standard_normal(1024)
    solution = solver.solve(torch.from_numpy(b), tol=1e-8)
    assert solution.converged
    assert isinstance(solution.x, torch.Tensor)
    assert np.linalg.norm(b - solver._matrix @ solution.x.numpy()) <= 1e-8 * np.linalg.norm(b)
    assert solver.solve(np.zeros(1024)).iterations == 0
    with pytest.warns(ConvergenceWarning, match="after 1 iterations"):
        assert not solver.solve(b, tol=1e-15, max_iterations=1).converged


def test_a_star_whose_coarsening_stalls_is_still_solved():
    star = np.zeros((800, 800))
    star[0, 1:] = star[1:, 0] = 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        solver = BootstrapAMG(0.1, max_components=3, rng=0).fit(definite_laplacian(star))
    assert solver.hierarchies_[0].sizes == [800, 1]
    assert abs(np.linalg.norm(solver.hierarchies_[0].weights) - 1) < 1e-14
    assert solver.solve(np.ones(800)).converged


@pytest.mark.parametrize("n", [1, 2, 3])
def test_smallest_matrices(n):
    A = np.eye(n) * 2 - 0.5
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        solver = BootstrapAMG(max_components=3, rng=0).fit(A)
    np.testing.assert_allclose(solver.solve(np.ones(n), tol=1e-10).x, np.linalg.solve(A, np.ones(n)), rtol=1e-8)
    assert np.isfinite(solver.smooth_vectors_).all()


def test_the_laplacian_is_made_definite_by_one_rank_and_follows_the_scale():
    graph = sparse_partition(200, 2, 6, 0.8, rng=0).adjacency
    A, L = definite_laplacian(graph), laplacian(graph, "comb")
    difference = (A - L).toarray()
    assert np.linalg.matrix_rank(difference) == 1
    assert np.linalg.eigvalsh(A.toarray())[0] > 0
    np.testing.assert_allclose(definite_laplacian(3.5 * graph).toarray(), 3.5 * A.toarray())
    assert np.ones(200) @ (A @ np.ones(200)) == pytest.approx(4.0)


def test_same_seed_same_bits_and_scikit_learn_conventions():
    A = definite_laplacian(sparse_partition(300, 2, 8, 0.9, rng=1).adjacency)
    model = BootstrapAMG(1e-3, rng=4)
    first, second = clone(model).fit(A), clone(model).fit(A)
    np.testing.assert_array_equal(first.smooth_vectors_, second.smooth_vectors_)
    assert model.get_params()["composition"] == "multiplicative"


@pytest.mark.parametrize(
    ("A", "message"),
    [
        (np.array([[1.0, 2.0], [0.0, 1.0]]), "A must be symmetric"),
        (np.array([[1.0, 0.0], [0.0, -1.0]]), "A must be positive definite"),
        (np.array([[1.0, 2.0], [2.0, 1.0]]), "A must be positive definite"),
        (laplacian(grid_graph(4), "comb"), "A must be positive definite"),
        (np.ones((2, 3)), "A must be square"),
    ],
)
def test_matrices_that_are_not_definite_are_refused(A, message):
    with pytest.raises(ValueError, match=message):
        BootstrapAMG(rng=0).fit(A)


def test_graphs_without_a_definite_laplacian_are_refused():
    with pytest.raises(ValueError, match="2 components"):
        definite_laplacian(np.kron(np.eye(2), np.ones((2, 2)) - np.eye(2)))
    with pytest.raises(ValueError, match="one node"):
        definite_laplacian([[0.0]])
