"""FastRP against the explicit similarity matrix, and its invariances."""

import networkx as nx
import numba
import numpy as np
import pytest
import scipy.sparse
import torch
from sklearn.base import clone
from sklearn.metrics import pairwise_distances
from specimens import Specimen

from ritz.graphs import FastRP, FastRPSearch, fastrp, search_fastrp

KARATE = nx.to_numpy_array(nx.karate_club_graph())
RANDOM = nx.to_scipy_sparse_array(nx.gnp_random_graph(40, 0.15, seed=3), dtype=float)
WEIGHTS = (0.5, 0.0, 1.0, 2.0)
OPTIONS = {
    "n_components": 8,
    "weights": np.array([0.0, 1.0]),
    "degree_power": -0.5,
    "sparsity": 2.0,
    "projection": "sparse",
    "normalize_powers": True,
    "standardize": True,
    "backend": "local",
    "num_workers": 1,
}

SPECIMENS = {
    "FastRP": Specimen(lambda **options: FastRP(**options).fit(KARATE), lambda: dict(OPTIONS), accepts={"num_workers": ("none",)}),
    "FastRP.fit": Specimen(lambda adjacency: FastRP(4).fit(adjacency), lambda: {"adjacency": KARATE.copy()}),
    "FastRP.transform": Specimen(lambda adjacency: FastRP(4).fit(KARATE).transform(adjacency), lambda: {"adjacency": KARATE.copy()}),
    "FastRP.update": Specimen(lambda adjacency: FastRP(4).fit(KARATE).update(adjacency), lambda: {"adjacency": KARATE.copy()}),
    "fastrp": Specimen(fastrp, lambda: {"adjacency": scipy.sparse.csr_array(KARATE)} | OPTIONS, accepts={"num_workers": ("none",)}),
    "FastRPSearch": Specimen(
        FastRPSearch,
        lambda: {"parameters": {}, "score": 0.0, "scores": np.zeros((1, 1)), "degree_powers": (0.0,), "last_weights": (1.0,)},
        spare=frozenset({"score", "scores"}),
    ),
    "search_fastrp": Specimen(
        search_fastrp,
        lambda: {
            "adjacency": KARATE.copy(),
            "y": np.arange(34) % 2,
            "n_components": 4,
            "weights": np.array([0.0, 1.0]),
            "degree_powers": np.array([-0.5]),
            "last_weights": np.array([1.0]),
            "train_fraction": 0.5,
        },
        spare=frozenset({"y"}),
    ),
}


def similarity(A, weights, beta):
    """S = sum_k w_k (D^-1 A)^k L, dense float64."""
    A = A.toarray() if scipy.sparse.issparse(A) else A
    degrees = A.sum(axis=1)
    walk = np.divide(A, degrees[:, None], where=degrees[:, None] > 0, out=np.zeros_like(A))
    L = np.diag((A.sum(axis=0) / A.sum()) ** beta) if beta else np.eye(len(A))
    return sum(w * np.linalg.matrix_power(walk, k) for k, w in enumerate(weights, start=1)) @ L


@pytest.mark.parametrize("projection", ["sparse", "gaussian"])
@pytest.mark.parametrize("beta", [-1.0, -0.6, 0.0, 0.5])
def test_equals_the_explicit_product(projection, beta):
    model = FastRP(16, weights=WEIGHTS, degree_power=beta, projection=projection, sparsity=3.0, normalize_powers=False, rng=0)
    embedding = model.fit_transform(KARATE)
    R = model.projection_.toarray() if scipy.sparse.issparse(model.projection_) else model.projection_
    expected = similarity(KARATE, WEIGHTS, beta) @ R
    np.testing.assert_allclose(embedding, expected, atol=1e-5 * np.abs(expected).max())


def test_one_power_without_degrees_is_the_projected_walk():
    model = FastRP(16, weights=(1.0,), degree_power=0.0, normalize_powers=False, rng=0)
    embedding = model.fit_transform(KARATE)
    np.testing.assert_allclose(embedding, KARATE / KARATE.sum(axis=1, keepdims=True) @ model.projection_.toarray(), atol=1e-6)


def test_normalized_powers_are_unit_rows_in_a_weighted_sum():
    model = FastRP(16, weights=(0.0, 3.0, 0.5), sparsity=2.0, rng=0)
    embedding = model.fit_transform(KARATE)
    R = model.projection_.toarray()
    powers = [similarity(KARATE, np.eye(3)[k], -0.5) @ R for k in (1, 2)]
    unit = [U / np.linalg.norm(U, axis=1, keepdims=True) for U in powers]
    np.testing.assert_allclose(embedding, 3 * unit[0] + 0.5 * unit[1], atol=1e-5)


def test_inner_products_are_unbiased():
    S = similarity(RANDOM, WEIGHTS, -0.5)
    embeddings = (
        fastrp(RANDOM, 32, weights=WEIGHTS, degree_power=-0.5, sparsity=3.0, normalize_powers=False, rng=seed).astype(float) for seed in range(200)
    )
    mean = sum(N @ N.T for N in embeddings) / 200
    assert np.linalg.norm(mean - S @ S.T) / np.linalg.norm(S @ S.T) < 0.15


def test_distances_are_kept_johnson_lindenstrauss():
    graph = nx.to_scipy_sparse_array(nx.powerlaw_cluster_graph(200, 3, 0.3, seed=0), dtype=float)
    S = similarity(graph, (0.0, 1.0), -0.5)
    exact = pairwise_distances(S)[np.triu_indices(200, 1)]
    embedding = fastrp(graph, 512, weights=(0.0, 1.0), sparsity=3.0, normalize_powers=False, rng=0).astype(float)
    error = np.abs(pairwise_distances(embedding)[np.triu_indices(200, 1)] / exact - 1)
    assert np.quantile(error, 0.95) < 0.15


def test_permuting_nodes_and_rows_of_the_projection_permutes_the_output_exactly():
    # on a cycle, where the order of the two neighbors in a sum cannot change its rounding
    model = FastRP(8, weights=WEIGHTS, sparsity=2.0, rng=0).fit(nx.cycle_graph(30))
    order = np.random.default_rng(0).permutation(30)
    A = nx.to_numpy_array(nx.cycle_graph(30))
    permuted = clone(model).fit(A[np.ix_(order, order)])
    permuted.projection_ = model.projection_[order]
    np.testing.assert_array_equal(permuted.transform(A[np.ix_(order, order)]), model.embedding_[order])


def test_a_disjoint_union_embeds_each_component_as_alone():
    first, second = KARATE, nx.to_numpy_array(nx.cycle_graph(10))
    union = scipy.sparse.block_diag([first, second]).tocsr()
    model = FastRP(16, weights=WEIGHTS, sparsity=2.0, rng=0).fit(union)
    for A, rows in ((first, slice(0, 34)), (second, slice(34, 44))):
        alone = FastRP(16, weights=WEIGHTS, rng=0).fit(A)
        alone.projection_ = model.projection_[rows]
        np.testing.assert_allclose(alone.transform(A), model.embedding_[rows], atol=1e-5)


@pytest.mark.parametrize("factor", [7.0, 1e-9, 1e30])
@pytest.mark.parametrize("normalize", [True, False])
def test_the_scale_of_the_weights_does_not_matter(factor, normalize):
    plain, scaled = (fastrp(c * KARATE, 16, degree_power=-0.8, normalize_powers=normalize, rng=0) for c in (1, factor))
    np.testing.assert_allclose(scaled, plain, atol=1e-5 * np.abs(plain).max())


def test_same_seed_same_bits_on_one_and_two_threads():
    before = numba.get_num_threads()
    try:
        results = []
        for threads in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
            numba.set_num_threads(threads)
            results.append(fastrp(RANDOM, 64, rng=5))
    finally:
        numba.set_num_threads(before)
    np.testing.assert_array_equal(results[0], results[1])


@pytest.mark.parametrize("normalize", [True, False])
def test_update_equals_a_new_fit_bit_for_bit(normalize):
    graph = nx.random_regular_graph(3, 300, seed=1)
    before = nx.to_scipy_sparse_array(graph, nodelist=range(300), dtype=float)
    u, v = next(iter(graph.edges))
    graph.remove_edge(u, v)
    graph.add_edge(u, 299 if v != 299 else 298)
    after = nx.to_scipy_sparse_array(graph, nodelist=range(300), dtype=float)
    options = {"n_components": 16, "weights": (1.0, 0.0, 2.0), "normalize_powers": normalize, "rng": 0}
    updated, fresh = FastRP(**options).fit(before).update(after), FastRP(**options).fit(after)
    np.testing.assert_array_equal(updated.embedding_, fresh.embedding_)
    assert not np.array_equal(updated.embedding_, FastRP(**options).fit(before).embedding_)


def test_update_computes_only_rows_near_the_change():
    from ritz.graphs.fastrp import _rows_to_recompute

    path = nx.to_scipy_sparse_array(nx.path_graph(100), dtype=float, format="csr")
    changed = path.copy()
    changed[0, 1] = changed[1, 0] = 2.0
    needed = _rows_to_recompute(path, changed, 3)
    assert np.flatnonzero(needed[-1]).max() <= 4
    assert np.flatnonzero(needed[0]).max() <= 8


def test_isolated_nodes_and_sinks_get_zero_rows():
    directed = np.array([[0, 1.0, 1.0, 0], [0, 0, 1.0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    embedding = fastrp(directed, 8, weights=(1.0, 1.0), degree_power=-1.0, sparsity=1.0, rng=0)
    assert np.isfinite(embedding).all()
    assert not embedding[2:].any()
    assert embedding[:2].any(axis=1).all()
    assert not fastrp(np.zeros((1, 1)), 3, rng=0).any()


def test_standardized_columns():
    embedding = fastrp(RANDOM, 16, standardize=True, sparsity=1.0, rng=0)
    np.testing.assert_allclose(embedding.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(embedding.std(axis=0), 1, atol=1e-5)


def test_torch_in_torch_out_and_scikit_learn_conventions():
    from_torch = fastrp(torch.from_numpy(KARATE), 8, rng=0)
    assert isinstance(from_torch, torch.Tensor)
    np.testing.assert_array_equal(from_torch.numpy(), fastrp(nx.karate_club_graph(), 8, rng=0))
    model = FastRP(8, rng=0)
    assert clone(model).get_params() == model.get_params()
    assert model.set_params(n_components=4).fit(KARATE).embedding_.shape == (34, 4)
    assert model.n_features_in_ == 34


def test_search_finds_the_informative_power():
    graph = nx.planted_partition_graph(4, 30, 0.4, 0.02, seed=0)
    found = search_fastrp(
        graph, np.repeat(range(4), 30), n_components=32, train_fraction=0.3, degree_powers=(-0.5, 0.0), last_weights=(1.0, 8.0), rng=0
    )
    assert found.score == found.scores.max() > 0.9
    assert FastRP(**found.parameters).fit(graph).embedding_.shape == (120, 32)


@pytest.mark.parametrize(
    "options",
    [
        {"n_components": 0},
        {"weights": (0.0, 0.0)},
        {"weights": ()},
        {"degree_power": 1.5},
        {"degree_power": -1.1},
        {"sparsity": 0.5},
        {"projection": "dense"},
        {"backend": "dask"},
        {"num_workers": 0},
    ],
)
def test_bad_options_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        FastRP(**options).fit(KARATE)


def test_bad_graphs_are_refused():
    with pytest.raises(ValueError, match="adjacency must have no negative weight"):
        FastRP().fit(-KARATE)
    with pytest.raises(ValueError, match="34 nodes"):
        FastRP(4).fit(KARATE).update(np.eye(3))
