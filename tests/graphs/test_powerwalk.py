"""PowerWalk: the index is a set of distributions, queries are better than it, and neither depends on workers or company."""

import networkx as nx
import numpy as np
import pytest
import scipy.sparse
from graphs.test_personalized_pagerank import exact_vectors, random_digraph
from sklearn.base import clone
from specimens import Specimen

from ritz.graphs import PowerWalk, personalized_pagerank

RING = np.roll(np.eye(6), 1, axis=1) + np.diag([0.5, 0, 0, 0, 2.0, 0])

SPECIMENS = {
    "PowerWalk": Specimen(
        lambda **options: PowerWalk(**options).fit(RING),
        lambda: {
            "restart_prob": 0.2,
            "n_walks": 3,
            "max_steps": 9,
            "iterations": 2,
            "threshold": 1e-6,
            "dangling": "self",
            "backend": "local",
            "num_workers": 1,
            "index_dtype": "float32",
            "rng": 0,
        },
        accepts={"max_steps": ("none",), "num_workers": ("none",), "rng": ("none",)},
    ),
    "PowerWalk.fit": Specimen(lambda adjacency: PowerWalk(n_walks=2, rng=0).fit(adjacency), lambda: {"adjacency": RING.copy()}),
    "PowerWalk.query": Specimen(
        lambda **options: PowerWalk(n_walks=2, rng=0).fit(RING).query(**options),
        lambda: {"sources": np.array([0, 4]), "iterations": 2, "threshold": 1e-6, "top_k": 3},
        accepts=dict.fromkeys(("iterations", "threshold", "top_k"), ("none",)),
    ),
}


def same_bits(a, b) -> bool:
    """Two CSR matrices of the same structure and the same bits."""
    return a.shape == b.shape and all(np.array_equal(x, y) for x, y in ((a.indptr, b.indptr), (a.indices, b.indices), (a.data, b.data)))


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-6)])
@pytest.mark.parametrize("dangling", ["self", "uniform"])
def test_rows_of_the_index_and_answers_sum_to_one(dtype, tolerance, dangling):
    model = PowerWalk(n_walks=30, dangling=dangling, index_dtype=dtype, rng=0).fit(random_digraph(60, dangling=6))
    assert model.index_.dtype == dtype
    assert model.index_.has_canonical_format
    np.testing.assert_allclose(model.index_.sum(axis=1, dtype=np.float64), 1, atol=tolerance)
    np.testing.assert_allclose(model.query(np.arange(60), threshold=0.0).sum(axis=1), 1, atol=tolerance)


def test_many_walks_converge():
    A = random_digraph(50)
    exact = exact_vectors(A, 0.15)
    model = PowerWalk(n_walks=100_000, rng=0).fit(A)
    assert np.abs(model.index_ - exact).max() < 5e-3
    assert np.abs(model.query(np.arange(50), iterations=3, threshold=0.0) - exact).max() < 5e-3


@pytest.mark.parametrize("iterations", [0, 1, 2, 4, 8])
@pytest.mark.parametrize("dangling", ["self", "uniform"])
def test_the_error_bound_holds_for_every_source(iterations, dangling):
    A, c = random_digraph(70, dangling=5), 0.15
    exact = exact_vectors(A, c, dangling)
    model = PowerWalk(n_walks=5, dangling=dangling, index_dtype="float64", rng=3).fit(A)
    worst = np.abs(model.index_.toarray() - exact).sum(axis=1).max()
    errors = np.abs(model.query(np.arange(70), iterations=iterations, threshold=0.0).toarray() - exact).sum(axis=1)
    assert errors.max() <= (1 - c) ** iterations * worst + 1e-12


def test_the_index_is_the_reference_estimate():
    A = random_digraph(40)
    model = PowerWalk(n_walks=20, index_dtype="float64", rng=7).fit(A)
    assert same_bits(model.index_, personalized_pagerank(A, np.arange(40), method="walk_full", n_walks=20, rng=7))


def test_without_walks_a_query_is_the_decomposition_alone():
    A = random_digraph(40)
    model = PowerWalk(n_walks=0, iterations=8, threshold=1e-4, rng=0).fit(A)
    expected = personalized_pagerank(A, [3, 0], method="decompose", iterations=8, threshold=1e-4)
    assert same_bits(model.query([3, 0]), expected)
    assert model.n_steps_ == 0


def test_certain_restart_answers_the_source():
    model = PowerWalk(restart_prob=1.0, n_walks=3, rng=0).fit(random_digraph(9, dangling=1))
    np.testing.assert_array_equal(model.query([8, 1]).toarray(), np.eye(9)[[8, 1]])
    assert model.n_steps_ == 0


def test_any_number_of_threads_gives_the_same_bits():
    A = random_digraph(150, dangling=10)
    plain = PowerWalk(n_walks=20, num_workers=1, rng=5).fit(A)
    answers = plain.query(np.arange(100))
    for workers in (2, 4):
        model = PowerWalk(n_walks=20, num_workers=workers, rng=5).fit(A)
        assert same_bits(model.index_, plain.index_)
        assert same_bits(model.query(np.arange(100)), answers)
    assert not same_bits(PowerWalk(n_walks=20, rng=6).fit(A).index_, plain.index_)


@pytest.mark.parametrize("threshold", [0.0, 1e-4])
def test_a_batch_answers_as_single_queries_do(threshold):
    model = PowerWalk(n_walks=20, threshold=threshold, rng=0).fit(random_digraph(120))
    sources = [5, 119, 5, *range(60)]
    together = model.query(sources)
    assert same_bits(scipy.sparse.csr_array(scipy.sparse.vstack([model.query([source]) for source in sources])), together)


def test_no_mass_leaves_a_component():
    model = PowerWalk(n_walks=20, rng=0).fit(scipy.sparse.block_diag([random_digraph(20), random_digraph(15, seed=1)]))
    assert model.query(np.arange(20)).indices.max() < 20
    assert model.query(np.arange(20, 35)).indices.min() >= 20


def test_the_largest_entries_in_order():
    model = PowerWalk(n_walks=30, rng=0).fit(random_digraph(50))
    whole = model.query([4, 9]).toarray()
    ids, scores = model.query([4, 9], top_k=7)
    for row in range(2):
        order = np.lexsort((np.arange(50), -whole[row]))[:7]
        np.testing.assert_array_equal(ids[row], order)
        np.testing.assert_array_equal(scores[row], whole[row][order])


def test_ties_go_by_number_and_missing_entries_are_filled():
    star = np.zeros((6, 6))
    star[2, [0, 1, 3, 4]] = 1
    model = PowerWalk(n_walks=0, iterations=1, rng=0).fit(star)
    ids, scores = model.query([2, 5], top_k=4)
    np.testing.assert_array_equal(ids, [[0, 1, 3, 4], [5, -1, -1, -1]])
    np.testing.assert_allclose(scores, [[0.2125] * 4, [1, 0, 0, 0]])
    assert model.query([2], top_k=9)[0].tolist() == [[0, 1, 3, 4, 2, -1, -1, -1, -1]]
    assert model.query([], top_k=2)[0].shape == (0, 2)
    assert model.query([]).shape == (0, 6)


def test_a_file_brings_back_the_same_bits(tmp_path):
    graph = nx.relabel_nodes(nx.karate_club_graph(), str)
    model = PowerWalk(n_walks=np.int64(10), restart_prob=0.2, max_steps=30, rng=3).fit(graph)
    model.save(tmp_path / "index.npz")
    loaded = PowerWalk.load(tmp_path / "index.npz")
    assert loaded.get_params() == model.get_params()
    assert loaded.n_steps_ == model.n_steps_
    assert loaded.nodes_.tolist() == list(graph.nodes)
    assert same_bits(loaded.index_, model.index_)
    assert same_bits(loaded.query([0, 33]), model.query([0, 33]))


def test_files_that_are_none_are_refused(tmp_path):
    model = PowerWalk(n_walks=1, rng=0).fit(RING)
    with pytest.raises(ValueError, match=r"path must end in \.npz"):
        model.save(tmp_path / "index.bin")
    with pytest.raises(FileNotFoundError, match="path"):
        PowerWalk.load(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("hello")
    np.savez(tmp_path / "other.npz", a=np.ones(3))
    model.save(tmp_path / "index.npz")
    with np.load(tmp_path / "index.npz") as held:
        np.savez(tmp_path / "spoiled.npz", **(dict(held) | {"index_indices": held["index_indices"] + 6}))
    for name in ("text.npz", "other.npz", "spoiled.npz"):
        with pytest.raises(ValueError, match=r"path: .* holds no index"):
            PowerWalk.load(tmp_path / name)


def test_scikit_learn_conventions():
    model = PowerWalk(n_walks=3, rng=0)
    assert clone(model).get_params() == model.get_params()
    with pytest.raises(ValueError, match="not fitted"):
        model.query([0])
    assert model.fit(RING).n_features_in_ == 6


@pytest.mark.parametrize(
    "options",
    [
        {"restart_prob": 0.0},
        {"restart_prob": 1.5},
        {"n_walks": -1},
        {"max_steps": -1},
        {"iterations": -1},
        {"threshold": -1e-9},
        {"threshold": 1.0},
        {"dangling": "source"},
        {"backend": "dask"},
        {"num_workers": 0},
        {"index_dtype": "float16"},
    ],
)
def test_bad_options_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        PowerWalk(**options).fit(RING)


@pytest.mark.parametrize("graph", [-RING, np.full((3, 3), np.nan), np.zeros((0, 0)), np.ones((2, 3))])
def test_bad_graphs_are_refused(graph):
    with pytest.raises(ValueError, match="adjacency"):
        PowerWalk(n_walks=1).fit(graph)


@pytest.mark.parametrize("sources", [[6], [-1], [[0]]])
def test_sources_that_are_no_nodes_are_refused(sources):
    with pytest.raises(ValueError, match="sources"):
        PowerWalk(n_walks=1, rng=0).fit(RING).query(sources)
