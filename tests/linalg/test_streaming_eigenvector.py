"""The top eigenvector of a random-order stream: exact identities, accuracy by gap, heavy rows, order, and refusals."""

import numpy as np
import pytest
import scipy.sparse
from sklearn.base import clone
from specimens import Specimen

from ritz.linalg import StreamingTopEigenvector, top_eigenvector_stream
from ritz.linalg.streaming_eigenvector import default_blocks


def spiked(n, d, R, seed):
    """Gaussian rows with one direction of variance R among ones of variance 1."""
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(rng.standard_normal((d, d)))[0]
    return (rng.standard_normal((n, d)) * np.r_[np.sqrt(R), np.ones(d - 1)]) @ Q.T


def top(A):
    return np.linalg.eigh(A.T @ A)[1][:, -1]


def correlation(A, **options):
    return float((StreamingTopEigenvector(A.shape[1], **options).fit(A).components_[0] @ top(A)) ** 2)


A = spiked(600, 8, 9, 0)
OPTIONS = {
    "n_rows": 600, "blocks": 4, "growth": 1.5, "heavy_fraction": 0.01, "max_heavy": 5, "candidates": 2, "shuffle_buffer": 10, "rng": 0
}  # fmt: skip
NONE = dict.fromkeys(("n_rows", "heavy_fraction", "rng"), ("none",))
SPECIMENS = {
    "StreamingTopEigenvector": Specimen(
        lambda n_features, **options: StreamingTopEigenvector(n_features, **options).fit(A),
        lambda: {"n_features": 8, **OPTIONS},
        accepts={**NONE, "blocks": ("none",)},
    ),
    "StreamingTopEigenvector.fit": Specimen(lambda X: StreamingTopEigenvector(8).fit(X), lambda: {"X": A[:20]}),
    "StreamingTopEigenvector.partial_fit": Specimen(lambda X: StreamingTopEigenvector(8).partial_fit(X), lambda: {"X": A[:20]}),
    "StreamingTopEigenvector.transform": Specimen(lambda X: StreamingTopEigenvector(8).fit(A).transform(X), lambda: {"X": A[:20]}),
    "top_eigenvector_stream": Specimen(
        top_eigenvector_stream,
        lambda: {"rows_iterable": [A[:300], A[300:]], "d": 8, **OPTIONS},
        spare=frozenset({"rows_iterable"}),
        accepts={"heavy_fraction": ("none",), "rng": ("none",), "blocks": ("none",)},
    ),
    "StreamEigen": Specimen(lambda: top_eigenvector_stream([A], 8), dict),
}


@pytest.mark.parametrize("n_rows", [600, None])
@pytest.mark.parametrize("cuts", [[1], [7, 8, 400], list(range(50, 600, 50))])
def test_batches_do_not_matter(n_rows, cuts):
    whole = StreamingTopEigenvector(8, n_rows=n_rows, heavy_fraction=0.004, rng=1).partial_fit(A).finalize()
    parts = StreamingTopEigenvector(8, n_rows=n_rows, heavy_fraction=0.004, rng=1)
    for rows in np.split(A, cuts):
        parts.partial_fit(rows)
    np.testing.assert_allclose(parts.finalize().components_, whole.components_, atol=1e-12)
    np.testing.assert_allclose(parts.explained_variance_, whole.explained_variance_, rtol=1e-12)
    assert len(parts.heavy_rows_) == len(whole.heavy_rows_) > 0


def test_one_block_one_candidate_is_one_power_step():
    found = StreamingTopEigenvector(8, blocks=1, candidates=1, heavy_fraction=2.0, rng=3).fit(A)
    z = np.random.default_rng(3).standard_normal(8)
    z /= np.linalg.norm(z)
    expected = A.T @ (A @ z)
    np.testing.assert_allclose(found.components_[0] * np.sign(found.components_[0] @ expected), expected / np.linalg.norm(expected), atol=1e-13)
    np.testing.assert_allclose(found.explained_variance_, z @ expected, rtol=1e-12)


def test_a_stream_of_rank_one_is_exact_after_one_block():
    u = np.random.default_rng(0).standard_normal(8)
    rows = np.random.default_rng(1).standard_normal((40, 1)) * u
    found = StreamingTopEigenvector(8, heavy_fraction=2.0, rng=0).fit(rows)
    np.testing.assert_allclose(abs(found.components_[0] @ u) / np.linalg.norm(u), 1, atol=1e-14)


def test_rotation_scaling_and_sign():
    Q = np.linalg.qr(np.random.default_rng(5).standard_normal((8, 8)))[0]
    found, turned = StreamingTopEigenvector(8, rng=0).fit(A), StreamingTopEigenvector(8, rng=0)
    turned.n_rows = len(A)
    turned._begin(len(A))
    turned._Z = Q @ turned._Z  # the start must turn too
    turned._take(A @ Q.T).finalize()
    expected = found.components_[0] @ Q.T
    np.testing.assert_allclose(turned.components_[0] * np.sign(turned.components_[0] @ expected), expected, atol=1e-12)
    scaled = StreamingTopEigenvector(8, rng=0).fit(3 * A)
    np.testing.assert_allclose(scaled.components_, found.components_, atol=1e-13)
    np.testing.assert_allclose(scaled.explained_variance_, 9 * found.explained_variance_)
    assert found.components_[0, np.argmax(np.abs(found.components_))] > 0


def test_sparse_is_dense():
    X = scipy.sparse.random_array((500, 8), density=0.3, rng=0, format="csr")
    dense, sparse = (StreamingTopEigenvector(8, heavy_fraction=0.004, rng=0).fit(rows) for rows in (X.toarray(), X))
    np.testing.assert_allclose(sparse.components_, dense.components_, atol=1e-12)
    np.testing.assert_allclose(sparse.transform(X), dense.transform(X.toarray()), atol=1e-12)
    assert len(sparse.heavy_rows_) > 0


@pytest.mark.parametrize(("R", "bound"), [(2, 0.97), (4, 0.99), (16, 0.998)])
def test_accuracy_by_gap(R, bound):
    assert min(correlation(spiked(20_000, 100, R, 100 + seed), rng=seed) for seed in range(5)) >= bound


def test_all_rows_heavy_is_the_svd():
    X = spiked(120, 10, 4, 0)
    found = StreamingTopEigenvector(10, heavy_fraction=0.0, rng=0).fit(X)
    _, sizes, right = np.linalg.svd(X)
    np.testing.assert_allclose(abs(found.components_[0] @ right[0]), 1, atol=1e-10)
    np.testing.assert_allclose(found.explained_variance_, sizes[:1] ** 2, rtol=1e-10)
    np.testing.assert_allclose(found.gap_estimate_, (sizes[0] / sizes[1]) ** 2, rtol=1e-10)


def with_heavy_rows(seed):
    """Light rows of the spectrum 4, 1, ..., 1 in sum, and ten orthogonal rows of norm 1.6 outside the leading direction: 4 stays on top of 3.56."""
    n, d, rng = 20_000, 100, np.random.default_rng(seed)
    Q = np.linalg.qr(rng.standard_normal((d, d)))[0]
    light = (rng.standard_normal((n - 10, d)) * np.sqrt(np.r_[4.0, np.ones(d - 1)] / n)) @ Q.T
    return rng.permutation(np.concatenate([light, 1.6 * Q.T[1:11]]))


@pytest.mark.parametrize("seed", range(5))
def test_heavy_rows_are_set_aside_and_merged(seed):
    X = with_heavy_rows(seed)
    found = StreamingTopEigenvector(100, rng=seed).fit(X)
    assert float((found.components_[0] @ top(X)) ** 2) >= 0.85
    assert 10 <= found.heavy_count_ <= 40
    np.testing.assert_allclose(found.explained_variance_, np.linalg.eigvalsh(X.T @ X)[-1:], rtol=0.1)


def test_a_heavy_row_can_be_the_answer():
    X = spiked(5_000, 20, 2, 0)
    X[1234] = 300 * np.eye(20)[7]
    found = StreamingTopEigenvector(20, rng=0).fit(X)
    assert found.components_[0, 7] > 0.99
    assert found.heavy_count_ == 1


def test_heavy_rows_never_exceed_their_room():
    X = np.random.default_rng(0).standard_t(1.5, size=(3_000, 30))
    stream = StreamingTopEigenvector(30, n_rows=3_000, max_heavy=12, heavy_fraction=1e-3, rng=0)
    for rows in np.split(X, 30):
        stream.partial_fit(rows)
        assert len(stream._heavy.rows()) <= 12
    stream.finalize()
    assert stream.heavy_count_ > 12
    assert len(stream.heavy_rows_) <= 12
    assert any("were compressed" in line for line in stream.warnings_)
    assert float((stream.components_[0] @ top(X)) ** 2) > 0.9


def test_sorted_streams_fail_and_a_buffer_for_all_restores_them():
    X = spiked(6_000, 20, 4, 0)
    X = X[np.argsort(np.abs(X @ top(X)))[::-1]]
    assert correlation(X, rng=0) < 0.9
    assert correlation(X, shuffle_buffer=6_000, rng=0) > 0.98
    assert correlation(X, shuffle_buffer=3_000, rng=0) > correlation(X, rng=0)


def test_the_shuffle_buffer_loses_no_row():
    X = np.arange(200.0)[:, None] + 1
    found = StreamingTopEigenvector(1, heavy_fraction=2.0, blocks=1, shuffle_buffer=30, rng=0).fit(X)
    np.testing.assert_allclose(found.explained_variance_, np.sum(X**2), rtol=1e-12)


def test_unknown_length_is_as_good():
    X = spiked(20_000, 50, 4, 3)
    stream = StreamingTopEigenvector(50, rng=0)
    for rows in np.split(X, 20):
        stream.partial_fit(rows)
    assert float((stream.finalize().components_[0] @ top(X)) ** 2) > 0.99
    np.testing.assert_allclose(stream.explained_variance_, np.linalg.eigvalsh(X.T @ X)[-1:], rtol=0.05)
    assert not stream.warnings_


def test_edge_cases():
    one = StreamingTopEigenvector(1, rng=0).fit(np.ones((5, 1)))
    assert one.components_ == 1
    few = StreamingTopEigenvector(6, n_rows=3, rng=0).partial_fit(np.eye(6)[:1]).finalize()
    assert any("rows came" in line for line in few.warnings_)
    assert abs(few.components_[0, 0]) > 0.999
    zeros = StreamingTopEigenvector(4, rng=0).fit(np.zeros((50, 4)))
    assert zeros.explained_variance_ == 0
    assert np.isfinite(zeros.components_).all()
    noise = top_eigenvector_stream([np.random.default_rng(0).standard_normal((2_000, 10))], 10, rng=0)
    assert any("not reliable" in line for line in noise.warnings)
    assert default_blocks(1) == 2


def test_it_is_a_scikit_learn_transformer():
    model = clone(StreamingTopEigenvector(8, growth=1.4, rng=0))
    assert model.get_params()["growth"] == 1.4
    scores = model.fit_transform(A)
    np.testing.assert_allclose(scores, A @ model.components_.T)
    np.testing.assert_array_equal(scores, clone(model).fit_transform(A))


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: StreamingTopEigenvector(8).partial_fit(A).partial_fit(A[:, :5]), "X must have n_features = 8 columns"),
        (lambda: StreamingTopEigenvector(8).finalize(), "there must be rows"),
        (lambda: StreamingTopEigenvector(8, n_rows=10).partial_fit(A), "more rows than n_rows = 10"),
        (lambda: StreamingTopEigenvector(8).partial_fit(A).finalize().partial_fit(A), "must not come after finalize"),
        (lambda: StreamingTopEigenvector(8, blocks=3).partial_fit(A), "blocks must be None"),
        (lambda: StreamingTopEigenvector(8, growth=1.0).partial_fit(A), "growth must be above 1"),
        (lambda: StreamingTopEigenvector(8).fit(np.full((3, 8), np.nan)), "X must be finite"),
        (lambda: top_eigenvector_stream(7, 8), "rows_iterable must be an iterable"),
        (lambda: top_eigenvector_stream([], 8), "there must be rows"),
    ],
)
def test_refusals(act, message):
    with pytest.raises((ValueError, TypeError), match=message):
        act()


def test_refused_rows_leave_the_stream_as_it_was():
    stream = StreamingTopEigenvector(8, n_rows=600, rng=0).partial_fit(A[:300])
    with pytest.raises(ValueError, match="finite"):
        stream.partial_fit(np.full((10, 8), np.inf))
    stream.partial_fit(A[300:])
    np.testing.assert_allclose(stream.finalize().components_, StreamingTopEigenvector(8, rng=0).fit(A).components_, atol=1e-12)
