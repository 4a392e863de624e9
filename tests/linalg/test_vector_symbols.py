"""Bind, bundle, sequence: exact inverses, and recall of what was put in."""

import numpy as np
import pytest
import torch
from linalg.kinds_of_input import KINDS, answers_in_torch, orthonormal
from specimens import Specimen

from ritz.linalg import OrthogonalFamily, bind, bundle, sequence
from ritz.linalg.vector_symbols import symbol_vectors

RNG = np.random.default_rng(0)
Q8 = orthonormal(RNG, 8, 8)
SPECIMENS = {
    "bind": Specimen(bind, lambda: {"Q": Q8.copy(), "v": np.arange(8.0)}),
    "bundle": Specimen(bundle, lambda: {"vectors": np.eye(4, 8), "weights": np.arange(4.0)}),
    "sequence": Specimen(sequence, lambda: {"vectors": np.eye(4, 8), "Q": Q8.copy()}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_matrix_binds_and_steps(kind):
    Q, v = KINDS[kind](Q8), np.arange(8.0)
    rows = RNG.standard_normal((3, 8))
    v, vectors = (torch.from_numpy(x) if answers_in_torch(kind) else x for x in (v, rows))
    bound, ordered = bind(Q, v), sequence(vectors, Q)
    assert isinstance(bound, torch.Tensor) == isinstance(ordered, torch.Tensor) == answers_in_torch(kind)
    np.testing.assert_allclose(np.asarray(bound), Q8 @ np.arange(8.0), atol=1e-12)
    np.testing.assert_allclose(np.asarray(ordered), rows[0] + Q8 @ rows[1] + Q8 @ Q8 @ rows[2], atol=1e-12)


def test_unbinding_is_the_transpose_and_binding_does_not_commute():
    family, v = OrthogonalFamily(512), symbol_vectors(["v"], 512, 0)[0].astype(np.float64)
    a, b = family["a"], family["b"]
    np.testing.assert_allclose(bind(a.T, bind(a, v)), v, atol=1e-12)
    assert abs(bind(a, bind(b, v)) @ bind(b, bind(a, v))) < 0.25


def test_a_bundle_is_the_weighted_sum_also_of_tensors():
    vectors, weights = RNG.standard_normal((4, 8)), np.arange(4.0)
    np.testing.assert_allclose(bundle(vectors), vectors.sum(0))
    np.testing.assert_allclose(bundle(vectors, weights), weights @ vectors)
    single = bundle(torch.from_numpy(vectors).float(), weights)
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.numpy(), weights @ vectors, rtol=1e-5)


def recall(Q, words, chosen):
    """How many elements of a sequence come back as the nearest word when the transpose is applied."""
    state, found = sequence(words[chosen], Q), 0
    for word in chosen:
        found += int(np.argmax(words @ state) == word)
        state = bind(Q.T, state)
    return found / len(chosen)


@pytest.mark.parametrize("kind", ["hadamard", "haar", "householder"])
def test_sixteen_words_come_back_from_orthogonal_steps_and_not_from_gaussian_ones(kind):
    orthogonal, gaussian = [], []
    for seed in range(20):
        rng, words = np.random.default_rng(seed), symbol_vectors(map(str, range(200)), 512, seed).astype(np.float64)
        chosen = rng.choice(200, 16, replace=False)
        orthogonal.append(recall(OrthogonalFamily(512, kind, seed)["next"], words, chosen))
        gaussian.append(recall(rng.standard_normal((512, 512)) / 512**0.5, words, chosen))
    assert np.mean(orthogonal) >= 0.95
    assert np.mean(gaussian) <= 0.7


def test_refusals():
    with pytest.raises(ValueError, match="v must have as many rows as Q"):
        bind(Q8, np.ones(7))
    with pytest.raises(ValueError, match="vectors must have rows of length 8"):
        sequence(np.ones((3, 7)), Q8)
    with pytest.raises(ValueError, match="weights must be one for each of the 3 vectors, got 2"):
        bundle(np.ones((3, 7)), np.ones(2))
    with pytest.raises(ValueError, match="Q must be square"):
        bind(np.ones((3, 2)), np.ones(2))
    with pytest.raises(TypeError, match="Q must be no torch tensor"):
        bind(torch.eye(3), np.ones(3))
