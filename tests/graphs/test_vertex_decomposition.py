"""The decomposition against dense arithmetic: exact for exact vectors, and the same for a source alone and in company."""

import numpy as np
import pytest
import scipy.sparse
from graphs.test_personalized_pagerank import exact_vectors, random_digraph

from ritz.graphs.personalized_pagerank import as_rows, walk_graph
from ritz.graphs.ray_tasks import Placed
from ritz.graphs.sparse_products import SparseRows
from ritz.graphs.vertex_decomposition import decompose


def _rows(matrix) -> SparseRows:
    matrix = scipy.sparse.csr_array(matrix)
    return Placed(SparseRows(matrix.indptr.astype(np.int64), matrix.indices, matrix.data)).value


def _decomposed(A, index, sources, c, iterations, threshold, dangling="self") -> np.ndarray:
    graph = Placed(walk_graph(scipy.sparse.csr_array(A), dangling)).value
    return as_rows([decompose(graph[:3], _rows(index), np.asarray(sources), c, iterations, threshold)], len(A)).toarray()


def _dense(A, index, source, c, iterations, threshold) -> np.ndarray:
    """The definition, one source, all amounts written out."""

    def kept(x):
        return np.where(x >= threshold, x, 0)

    W = A / A.sum(axis=1, keepdims=True)
    flow, settled = np.eye(len(A))[source], np.zeros(len(A))
    for _ in range(iterations):
        settled += kept(c * flow)
        flow = kept((1 - c) * flow[:, None] * W).sum(axis=0)
    return settled + kept(kept(flow)[:, None] * index).sum(axis=0)


@pytest.mark.parametrize("iterations", range(1, 11))
@pytest.mark.parametrize("dangling", ["self", "uniform"])
def test_exact_vectors_give_exact_answers(iterations, dangling):
    A, c = random_digraph(50, dangling=5), 0.15
    exact = exact_vectors(A, c, dangling)
    found = _decomposed(A, exact, np.arange(50), c, iterations, 0.0, dangling)
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-12)


@pytest.mark.parametrize("threshold", [0.0, 1e-4, 1e-2])
def test_thresholds_act_as_defined(threshold):
    A, index = random_digraph(40), np.random.default_rng(0).dirichlet(np.full(40, 0.1), size=40)
    found = _decomposed(A, index, np.arange(40), 0.2, 4, threshold)
    for source in range(40):
        np.testing.assert_allclose(found[source], _dense(A, index, source, 0.2, 4, threshold), rtol=0, atol=1e-14)


@pytest.mark.parametrize("threshold", [0.0, 1e-4])
def test_a_source_is_answered_alike_alone_and_in_any_company(threshold):
    A, index = random_digraph(300, seed=2), random_digraph(300, seed=3)
    index /= index.sum(axis=1, keepdims=True)
    together = _decomposed(A, index, np.arange(64), 0.15, 5, threshold)
    shuffled = np.random.default_rng(0).permutation(64)[:20]
    np.testing.assert_array_equal(_decomposed(A, index, shuffled, 0.15, 5, threshold), together[shuffled])
    for source in (0, 17, 63):
        np.testing.assert_array_equal(_decomposed(A, index, [source], 0.15, 5, threshold)[0], together[source])


def test_drops_only_lower_and_their_sum_is_the_error():
    A, index = random_digraph(80), exact_vectors(random_digraph(80), 0.15)
    whole, dropped = (_decomposed(A, index, np.arange(80), 0.15, 4, threshold) for threshold in (0.0, 1e-3))
    assert np.all(dropped <= whole + 1e-15)
    missing = 1 - dropped.sum(axis=1)
    assert missing.min() > 0.01
    np.testing.assert_allclose(missing, np.abs(whole - dropped).sum(axis=1), atol=1e-12)
    assert missing.max() <= 1e-3 * (4 * (80 + np.count_nonzero(A)) + index.size)


def test_few_sources_on_a_large_graph_touch_little():
    ring = scipy.sparse.csr_array(scipy.sparse.diags_array([1.0], offsets=[1], shape=(200_000, 200_000)))
    graph, none = Placed(walk_graph(ring, "self")).value, scipy.sparse.eye_array(200_000)
    sizes, columns, scores = decompose(graph[:3], _rows(none), np.array([150_000, 3]), 0.5, 3, 0.0)
    np.testing.assert_array_equal(sizes, [4, 4])
    np.testing.assert_array_equal(columns, [150_000, 150_001, 150_002, 150_003, 3, 4, 5, 6])
    np.testing.assert_allclose(scores, [0.5, 0.25, 0.125, 0.125] * 2)
