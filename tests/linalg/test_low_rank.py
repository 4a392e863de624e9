"""Low-rank approximation: optimality in the weighted norm, and exact residuals."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from specimens import Specimen

from ritz.linalg import (
    LowRankFactors,
    krylov_weighted_low_rank,
    symmetric_sqrt,
    truncated_svd,
    weighted_low_rank,
    weighted_singular_values,
)


def weighted_pair(rows, columns, tokens=None, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((tokens or 4 * columns, columns)) * np.arange(1, columns + 1) ** -1.0
    return rng.standard_normal((rows, columns)), X.T @ X


def weighted_error(D, G):
    return float(np.sum((D @ G) * D))


def pair_arguments():
    delta, gram = weighted_pair(5, 7)
    return {"delta": delta, "gram": gram, "rank": 2}


SPECIMENS = {
    "LowRankFactors": Specimen(LowRankFactors, lambda: {"B": np.ones((3, 2)), "A": np.ones((2, 4)), "error": 2.0, "tail": 1.0}),
    "weighted_low_rank": Specimen(weighted_low_rank, pair_arguments),
    "krylov_weighted_low_rank": Specimen(
        krylov_weighted_low_rank, lambda: pair_arguments() | {"iterations": 1, "oversampling": 4, "rng": 0}, accepts={"rng": ("none",)}
    ),
    "weighted_singular_values": Specimen(weighted_singular_values, lambda: {k: v for k, v in pair_arguments().items() if k != "rank"}),
    "truncated_svd": Specimen(truncated_svd, lambda: {"A": np.random.default_rng(0).standard_normal((4, 3)), "rank": 2}),
    "symmetric_sqrt": Specimen(symmetric_sqrt, lambda: {"G": np.diag([4.0, 1.0]), "floor": 0.1}),
}


@settings(deadline=None, max_examples=40, derandomize=True)
@given(rows=st.integers(1, 12), columns=st.integers(1, 12), tokens=st.integers(1, 30), rank=st.integers(0, 14), seed=st.integers(0, 99))
def test_the_tail_is_the_residual_whatever_the_shape_and_the_rank_of_gram(rows, columns, tokens, rank, seed):
    delta, gram = weighted_pair(rows, columns, tokens, seed)
    factors = weighted_low_rank(delta, gram, rank)
    total = weighted_error(delta, gram)
    assert factors.rank == min(rank, rows, columns)
    assert abs(weighted_error(delta - factors.product(), gram) - factors.tail) <= 1e-8 * total
    assert abs(factors.error - total) <= 1e-10 * total


@pytest.mark.parametrize(("rows", "columns"), [(8, 20), (20, 8), (9, 9)])
def test_it_equals_the_singular_value_decomposition_of_the_weighted_matrix(rows, columns):
    delta, gram = weighted_pair(rows, columns)
    root, inverse = symmetric_sqrt(gram)
    U, s, Vh = np.linalg.svd(delta @ root, full_matrices=False)
    factors = weighted_low_rank(delta, gram, 3)
    assert np.allclose(factors.product(), (U[:, :3] * s[:3]) @ Vh[:3] @ inverse, atol=1e-9)
    assert np.isclose(factors.tail, np.sum(s[3:] ** 2), rtol=1e-10)
    assert np.allclose(weighted_singular_values(delta, gram), s, rtol=1e-7)
    assert np.allclose(factors.B.T @ factors.B, np.eye(3), atol=1e-12)


def test_with_the_identity_it_is_the_truncated_svd():
    delta, _ = weighted_pair(6, 10)
    U, s, Vh = truncated_svd(delta, 4)
    assert np.allclose(weighted_low_rank(delta, 3.7 * np.eye(10), 4).product(), (U * s) @ Vh, atol=1e-12)


@pytest.mark.parametrize("scale", [1e-200, 1e-3, 1e200])
def test_the_scale_of_gram_changes_nothing_but_the_error(scale):
    delta, gram = weighted_pair(6, 10)
    plain, scaled = weighted_low_rank(delta, gram, 3), weighted_low_rank(delta, scale * gram, 3)
    assert np.allclose(plain.product(), scaled.product(), atol=1e-11)
    assert np.isclose(scaled.tail, scale * plain.tail)


def test_torch_and_numpy_agree_and_keep_their_dtype():
    delta, gram = weighted_pair(6, 10)
    expected = weighted_low_rank(delta, gram, 3)
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-4), (torch.bfloat16, 5e-2)):
        found = weighted_low_rank(torch.tensor(delta, dtype=dtype), torch.tensor(gram), 3)
        assert found.B.dtype == found.A.dtype == dtype
        assert np.allclose(found.product().double().numpy(), expected.product(), atol=tolerance * np.abs(delta).max())
    assert weighted_low_rank(delta.astype(np.float32), gram, 3).A.dtype == np.float32


@pytest.mark.parametrize(("rows", "columns"), [(300, 200), (200, 300)])
@pytest.mark.parametrize("decay", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("rank", [4, 24])
def test_the_krylov_route_is_within_two_percent_of_the_best(rows, columns, decay, rank):
    rng = np.random.default_rng(1)
    delta, X = rng.standard_normal((rows, columns)), rng.standard_normal((600, columns)) * np.arange(1, columns + 1) ** -decay
    gram = X.T @ X
    near, best = krylov_weighted_low_rank(delta, gram, rank, rng=0), weighted_low_rank(delta, gram, rank)
    assert best.tail <= near.tail + 1e-12 * best.error
    assert near.tail <= 1.02 * best.tail
    assert abs(weighted_error(delta - near.product(), gram) - near.tail) <= 1e-8 * near.error


def test_the_krylov_route_repeats_with_its_seed_and_runs_on_torch():
    delta, gram = (torch.tensor(part) for part in weighted_pair(200, 150))
    first, second = (krylov_weighted_low_rank(delta, gram, 5, rng=3) for _ in range(2))
    assert torch.equal(first.A, second.A)
    assert isinstance(first.A, torch.Tensor)
    assert np.allclose(krylov_weighted_low_rank(delta.numpy(), gram.numpy(), 5, rng=3).product(), first.product().numpy(), atol=1e-9)


def test_the_krylov_route_survives_a_matrix_of_lower_rank_than_its_block():
    rng = np.random.default_rng(0)
    delta, gram = rng.standard_normal((200, 2)) @ rng.standard_normal((2, 150)), np.eye(150)
    factors = krylov_weighted_low_rank(delta, gram, 6, rng=0)
    assert np.allclose(factors.product(), delta, atol=1e-10)
    assert factors.tail <= 1e-12 * factors.error
    zero = krylov_weighted_low_rank(np.zeros((200, 150)), gram, 6, rng=0)
    assert not zero.product().any()
    assert zero.tail == 0


def test_the_krylov_route_refuses_rules_that_need_all_singular_values():
    with pytest.raises(ValueError, match="rank must be a count or a fraction"):
        krylov_weighted_low_rank(*weighted_pair(5, 7), "energy:0.9")


def test_balanced_factors_have_equal_norms_and_the_same_product():
    factors = weighted_low_rank(*weighted_pair(6, 10), 4)
    balanced = factors.balanced()
    assert np.allclose(balanced.product(), factors.product(), atol=1e-12)
    assert np.allclose(np.linalg.norm(balanced.B, axis=0), np.linalg.norm(balanced.A, axis=1))
    nothing = weighted_low_rank(np.zeros((3, 4)), np.eye(4), 2).balanced()
    assert not nothing.B.any()
    assert not nothing.A.any()


def test_symmetric_sqrt_multiplies_back_and_inverts():
    _, gram = weighted_pair(1, 6)
    root, inverse = symmetric_sqrt(gram)
    assert np.allclose(root @ root, gram, rtol=1e-10, atol=1e-12 * gram.max())
    assert np.allclose(root @ inverse, np.eye(6), atol=1e-9)


def test_symmetric_sqrt_of_a_singular_matrix_is_pseudo_inverse_or_floored():
    X = np.random.default_rng(0).standard_normal((3, 6))
    _, inverse = symmetric_sqrt(X.T @ X)
    assert np.allclose(inverse @ inverse, np.linalg.pinv(X.T @ X), atol=1e-9)
    floored, inverse = symmetric_sqrt(X.T @ X, floor=1e-4)
    assert np.allclose(floored @ inverse, np.eye(6), atol=1e-9)
    assert np.isclose(np.linalg.eigvalsh(floored)[0] ** 2, 1e-4 * np.linalg.eigvalsh(X.T @ X)[-1])
    with pytest.raises(ValueError, match="G must be positive semidefinite"):
        symmetric_sqrt(np.diag([1.0, -1.0]))


def test_gram_must_be_symmetric_semidefinite_and_of_the_right_width():
    delta, gram = weighted_pair(4, 3)
    with pytest.raises(ValueError, match="gram must be symmetric"):
        weighted_low_rank(delta, gram + np.triu(np.full((3, 3), 1e-3), 1), 1)
    with pytest.raises(ValueError, match="gram must be positive semidefinite"):
        weighted_low_rank(delta, -gram, 1)
    with pytest.raises(ValueError, match="gram must have shape"):
        weighted_low_rank(delta, np.eye(4), 1)
    slightly = gram * (1 + 1e-8 * np.triu(np.ones((3, 3)), 1))
    assert np.allclose(weighted_low_rank(delta, slightly, 1).product(), weighted_low_rank(delta, gram, 1).product(), atol=1e-6)
