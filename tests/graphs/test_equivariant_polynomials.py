"""Contractions equal sums over all maps, commute with permutations, and count what they should."""

import itertools

import networkx as nx
import numpy as np
import pytest
import scipy.sparse
import torch
from specimens import Specimen

from ritz.graphs import ContractionPlan, Motif, contraction_plan, equivariant_polynomial, injective_polynomial, polynomial_basis

TRIANGLE = [(0, 1), (1, 2), (2, 0)]
K4 = list(itertools.combinations(range(4), 2))
X = np.ones((4, 4)) - np.eye(4)

SPECIMENS = {
    "ContractionPlan": Specimen(ContractionPlan, lambda: {"order": (0, 1), "widths": (1, 0)}, spare=frozenset({"order", "widths"})),
    "contraction_plan": Specimen(contraction_plan, lambda: {"H": Motif(TRIANGLE)}, spare=frozenset({"H"})),
    "equivariant_polynomial": Specimen(equivariant_polynomial, lambda: {"X": X.copy(), "H": Motif(TRIANGLE)}, spare=frozenset({"H"})),
    "injective_polynomial": Specimen(injective_polynomial, lambda: {"X": X.copy(), "H": Motif(TRIANGLE)}, spare=frozenset({"H"})),
}


def _symmetric(n: int, seed: int) -> np.ndarray:
    A = np.random.default_rng(seed).standard_normal((n, n))
    return (A + A.T) / 2


def _brute_force(X, H: Motif, injective: bool = False) -> np.ndarray:
    """The sum over all maps, one by one; X has a matrix for each channel."""
    n = X[0].shape[0]
    result = np.zeros([n] * len(H.red))
    for h in itertools.product(range(n), repeat=H.num_nodes):
        if not injective or len(set(h)) == len(h):
            result[tuple(h[node] for node in H.red)] += np.prod([X[channel][h[u], h[v]] for u, v, channel in H.edges])
    return result


@pytest.mark.parametrize("output", ["graph", "node", "pair"])
def test_contraction_equals_the_sum_over_all_maps(output):
    for motif in polynomial_basis(4, output, connected=False, simple=False, max_nodes=4)[::3]:
        A = _symmetric(4, 0)
        np.testing.assert_allclose(equivariant_polynomial(A, motif), _brute_force([A], motif), atol=1e-10)


@pytest.mark.parametrize("seed", range(5))
def test_homomorphism_counts_of_all_motifs_of_four_nodes(seed):
    A = nx.to_numpy_array(nx.gnp_random_graph(6, 0.6, seed=seed))
    for motif in polynomial_basis(6, "graph", max_nodes=4):
        assert equivariant_polynomial(A, motif) == pytest.approx(_brute_force([A], motif).item(), abs=1e-9)


def test_directed_motifs_channels_and_coinciding_red_nodes():
    rng = np.random.default_rng(0)
    matrices = [rng.standard_normal((4, 4)) for _ in range(2)]
    motif = Motif([(0, 1, 0), (2, 1, 1), (1, 1, 0), (0, 2, 1), (0, 2, 1)], red=(2, 0), directed=True)
    np.testing.assert_allclose(equivariant_polynomial(matrices, motif), _brute_force(matrices, motif), atol=1e-12)
    diagonal = equivariant_polynomial(matrices, Motif([(0, 1, 0), (1, 0, 1)], red=(0, 0), directed=True))
    np.testing.assert_allclose(diagonal, np.diag(np.diagonal(matrices[0] @ matrices[1])), atol=1e-12)


def test_paths_triangles_and_stars_are_powers_traces_and_degrees():
    A = _symmetric(7, 1)
    for k in (1, 2, 3, 5):
        path = Motif([(i, i + 1) for i in range(k)], red=(0, k))
        np.testing.assert_allclose(equivariant_polynomial(A, path), np.linalg.matrix_power(A, k), atol=1e-10)
        star = Motif([(0, i + 1) for i in range(k)], red=(0,))
        np.testing.assert_allclose(equivariant_polynomial(A, star), A.sum(axis=1) ** k, atol=1e-10)
    assert equivariant_polynomial(A, Motif(TRIANGLE)) == pytest.approx(np.trace(A @ A @ A))
    B = np.random.default_rng(2).standard_normal((5, 5))
    np.testing.assert_allclose(equivariant_polynomial(B, Motif([(0, 1), (1, 2)], red=(0, 2), directed=True)), B @ B, atol=1e-12)


@pytest.mark.parametrize("output", ["graph", "node", "pair"])
def test_a_permutation_of_the_matrix_permutes_the_polynomials(output):
    A, order = _symmetric(8, 3), np.random.default_rng(0).permutation(8)
    for motif in polynomial_basis(6, output, max_nodes=5)[::7]:
        expected = equivariant_polynomial(A, motif)
        expected = expected[order] if output == "node" else expected[np.ix_(order, order)] if output == "pair" else expected
        found = equivariant_polynomial(A[np.ix_(order, order)], motif)
        np.testing.assert_allclose(found, expected, atol=1e-10 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize(("n", "connected"), [(6, True), (8, False)])
def test_pair_motifs_of_up_to_three_edges_are_linearly_independent(n, connected):
    """Motifs of several components have up to eight nodes, and are independent only for matrices of as many rows."""
    options = {"connected": connected, "simple": False}
    diagonal = [Motif(motif.edges, motif.red * 2) for motif in polynomial_basis(3, "node", **options)]
    matrices = np.stack([_symmetric(n, seed) for seed in range(200)])
    evaluations = [equivariant_polynomial(matrices, motif).ravel() for motif in [*polynomial_basis(3, "pair", **options), *diagonal]]
    normalized = np.array([row / np.linalg.norm(row) for row in evaluations])
    assert np.linalg.eigvalsh(normalized @ normalized.T)[0] > 1e-10


def test_injective_maps_count_copies():
    graph = nx.gnp_random_graph(12, 0.5, seed=0)
    A = nx.to_numpy_array(graph)
    cliques = sum(len(clique) == 4 for clique in nx.enumerate_all_cliques(graph))
    assert injective_polynomial(A, Motif(K4)) == pytest.approx(24 * cliques)
    B = _symmetric(4, 5)
    for motif in polynomial_basis(3, "pair", connected=False, max_nodes=4)[::4]:
        np.testing.assert_allclose(injective_polynomial(B, motif), _brute_force([B], motif, injective=True), atol=1e-10)
    with pytest.raises(ValueError, match="at most 5 nodes"):
        injective_polynomial(A, Motif([(i, i + 1) for i in range(6)]))


@pytest.mark.parametrize("output", ["graph", "node", "pair"])
def test_sparse_batched_and_torch_matrices_give_the_same(output):
    A = nx.to_numpy_array(nx.gnp_random_graph(30, 0.1, seed=1)) * np.pi
    B = nx.to_numpy_array(nx.gnp_random_graph(30, 0.3, seed=2))
    for motif in polynomial_basis(5, output, connected=False, max_nodes=5)[::5]:
        expected = [np.asarray(equivariant_polynomial(matrix, motif)) for matrix in (A, B)]
        scale = np.abs(expected[0]).max() + 1
        sparse = equivariant_polynomial(scipy.sparse.csr_array(A), motif)
        np.testing.assert_allclose(sparse.toarray() if scipy.sparse.issparse(sparse) else sparse, expected[0], atol=1e-10 * scale)
        batched = equivariant_polynomial(np.stack([A, B]), motif)
        np.testing.assert_allclose(batched, np.stack(expected), atol=1e-10 * np.abs(batched).max() + 1e-12)
        tensor = equivariant_polynomial(torch.from_numpy(np.stack([A, B])), motif)
        torch.testing.assert_close(tensor, torch.from_numpy(batched))


def test_triangles_of_a_sparse_graph_stay_sparse():
    graph = nx.gnp_random_graph(300, 0.03, seed=0)
    A = scipy.sparse.csr_array(nx.to_scipy_sparse_array(graph, dtype=float))
    found = equivariant_polynomial(A, Motif(TRIANGLE, red=(0, 1)))
    assert scipy.sparse.issparse(found)
    assert found.nnz <= A.nnz
    np.testing.assert_allclose(found.toarray(), (A @ A).multiply(A).toarray())
    diagonal = equivariant_polynomial(A, Motif(TRIANGLE, red=(0, 0)))
    np.testing.assert_allclose(diagonal.diagonal() / 2, list(nx.triangles(graph).values()))


def test_plans_are_as_cheap_as_treewidth_allows():
    assert contraction_plan(Motif(TRIANGLE)).width == 2
    assert contraction_plan(Motif(K4)).width == 3
    assert contraction_plan(Motif([(i, i + 1) for i in range(6)], red=(0, 6))).width == 2
    star = contraction_plan(Motif([(0, i) for i in range(1, 6)]))
    assert star.widths == (1, 1, 1, 1, 1, 0)
    assert star.flops(10) == 510


@pytest.mark.parametrize(
    ("X", "motif", "message"),
    [
        (np.ones((2, 3)), Motif(TRIANGLE), "X must be square"),
        (np.array([[0.0, 1.0], [0.0, 0.0]]), Motif(TRIANGLE), "X must be symmetric"),
        (np.array([[0.0, np.nan], [np.nan, 0.0]]), Motif(TRIANGLE), "X must be finite"),
        (np.ones((2, 2)), Motif([(0, 1, 1)]), "a matrix for each channel"),
        ([np.ones((2, 2)), np.ones((3, 3))], Motif([(0, 1, 1)]), "one kind and shape"),
    ],
)
def test_what_no_polynomial_is_defined_for_is_refused(X, motif, message):
    with pytest.raises(ValueError, match=message):
        equivariant_polynomial(X, motif)
    with pytest.raises(TypeError, match="H must be a Motif"):
        equivariant_polynomial(np.ones((2, 2)), "triangle")
