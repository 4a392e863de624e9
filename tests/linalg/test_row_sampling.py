"""Row samples: unbiased, of the size asked for, whole where that is enough; the rounds end and never grow."""

import numpy as np
import pytest
import scipy.sparse
import torch
from specimens import Specimen

from ritz.core import random_generator
from ritz.linalg import RowSample, sample_rows
from ritz.linalg.row_sampling import SCORES, _rounds, keeping_probabilities

RNG = np.random.default_rng(0)
A = RNG.standard_normal((150, 3)) * (0.1 + RNG.pareto(1.5, 150))[:, None]
B = A @ np.ones(3) + RNG.standard_normal(150)
SPECIMENS = {
    "RowSample": Specimen(
        RowSample,
        lambda: {"indices": np.arange(2), "weights": np.ones(2), "A": A[:2], "probabilities": np.ones(2)},
        spare=frozenset({"indices", "weights", "A", "probabilities"}),
    ),
    "sample_rows": Specimen(
        sample_rows,
        lambda: {"A": A, "p": 3.0, "size": 30, "scores": "leverage", "b": B, "rng": 0},
        accepts={"b": ("none",), "rng": ("none",)},
    ),
    "sample_rows (scores)": Specimen(sample_rows, lambda: {"A": A, "p": 1.5, "size": "auto", "scores": np.ones(150)}),
}


@pytest.mark.parametrize("size", [1, 2.5, 10, 79, 80])
def test_probabilities_sum_to_the_size(size):
    scores = np.concatenate([RNG.pareto(0.7, 80), np.zeros(5)])
    q = keeping_probabilities(scores, size)
    np.testing.assert_allclose(q.sum(), size, atol=1e-6)
    assert np.all((q >= 0) & (q <= 1))
    assert np.all(q[80:] == 0)
    below = q < 1
    if below[:80].any():
        ratios = q[:80][below[:80]] / scores[:80][below[:80]]
        np.testing.assert_allclose(ratios, ratios[0])
        assert np.all(scores[~below] * ratios[0] >= 1 - 1e-9)


@pytest.mark.parametrize("scores", [*SCORES, "array"])
@pytest.mark.parametrize("p", [1.5, 4])
def test_the_norm_is_unbiased(scores, p):
    values = np.abs(A[:, 0]) + 0.1 if scores == "array" else scores
    if scores in ("sensitivity", "sensitivity+leverage", "lewis"):  # found once, sampled often
        from ritz.linalg.row_sampling import _scores

        values = _scores(A, p, scores, random_generator(0))[0]
    x, rng = np.array([1.0, -2.0, 0.5]), random_generator(1)
    powers = np.array([np.sum(np.abs(sample_rows(A, p, 40, scores=values, rng=rng).A @ x) ** p) for _ in range(2000)])
    exact = np.sum(np.abs(A @ x) ** p)
    assert abs(powers.mean() - exact) <= 4 * powers.std() / np.sqrt(2000)


@pytest.mark.parametrize("scores", SCORES)
@pytest.mark.parametrize("p", [1.5, 3])
def test_a_sample_as_large_as_the_matrix_is_the_matrix(scores, p):
    for size in (150, 1000):
        sample = sample_rows(A, p, size, scores=scores, rng=0)
        assert np.array_equal(sample.indices, np.arange(150))
        assert np.array_equal(sample.weights, np.ones(150))
        assert np.array_equal(sample.A, A)


@pytest.mark.parametrize("scores", SCORES)
@pytest.mark.parametrize("kind", [np.asarray, scipy.sparse.csr_array, torch.from_numpy])
def test_a_sample_is_what_it_says(scores, kind):
    sample = sample_rows(kind(A), 1.5, 40, scores=scores, rng=3)
    again = sample_rows(kind(A), 1.5, 40, scores=scores, rng=3)
    assert np.array_equal(sample.indices, again.indices)
    weights, probabilities = np.asarray(sample.weights), np.asarray(sample.probabilities)
    np.testing.assert_allclose(weights, probabilities ** (-1 / 1.5))
    rows = sample.A.toarray() if scipy.sparse.issparse(sample.A) else np.asarray(sample.A)
    np.testing.assert_allclose(rows, weights[:, None] * A[sample.indices])
    assert type(sample.A) is type(kind(A))
    assert 20 <= len(sample.indices) <= 60


@pytest.mark.parametrize("p", [1, 1.5])
def test_rounds_end_and_never_grow(p):
    tall = RNG.standard_normal((30_000, 3)) * (0.1 + RNG.pareto(1.5, 30_000))[:, None]
    indices, probabilities = _rounds(tall, p, "auto", random_generator(0))
    limit = (4 * np.log(3)) ** (2 / p) * 3
    assert 0.7 * limit <= len(indices) <= 1.5 * limit
    assert np.all((probabilities > 0) & (probabilities <= 1))
    assert np.all(np.diff(indices) > 0)
    few = min(len(indices), int(limit))
    again, unchanged = _rounds(tall[indices[:few]], p, "auto", random_generator(0))
    assert len(again) == few
    assert np.all(unchanged == 1)


@pytest.mark.parametrize("scores", SCORES)
@pytest.mark.parametrize("p", [1.2, 2, 4])
def test_automatic_sizes(scores, p):
    sample = sample_rows(A, p, "auto", scores=scores, rng=0)
    assert 3 <= len(sample.indices) <= 150


def test_the_right_side_is_a_column_of_its_own():
    with_b = sample_rows(A, 1.5, 40, scores="leverage", b=B, rng=0)
    stacked = sample_rows(np.column_stack([A, B]), 1.5, 40, scores="leverage", rng=0)
    assert np.array_equal(with_b.indices, stacked.indices)
    assert with_b.A.shape[1] == 3
    sparse = sample_rows(scipy.sparse.csr_array(A), 1.5, 40, scores="leverage", b=B, rng=0)
    assert np.array_equal(with_b.indices, sparse.indices)


def test_zero_rows_are_never_kept_and_rank_does_not_matter():
    deficient = np.vstack([A @ np.ones((3, 2)), np.zeros((20, 2))])
    for scores in SCORES:
        for size in (10, 170, "auto"):
            assert np.all(sample_rows(deficient, 1.5, size, scores=scores, rng=0).indices < 150)
    assert len(sample_rows(np.zeros((5, 2)), 1, 3, scores="lewis", rng=0).indices) == 0


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"scores": -np.ones(150)}, ValueError, "scores must not be negative"),
        ({"scores": np.zeros(150)}, ValueError, "not all zero"),
        ({"scores": np.ones(3)}, ValueError, "scores must have shape"),
        ({"scores": "best"}, ValueError, "scores must be one of"),
        ({"size": 0}, ValueError, "size must be"),
        ({"size": "all"}, ValueError, "size must be"),
        ({"b": np.ones(3)}, ValueError, "b must have shape"),
        ({"p": 0.9}, ValueError, "p must be"),
    ],
)
def test_bad_arguments_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        sample_rows(**({"A": A, "p": 1.5, "size": 10, "rng": 0} | options))
