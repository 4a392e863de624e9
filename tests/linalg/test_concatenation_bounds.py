"""Bounds on the error of joint truncation: never below the truth, ordered, exact where they must be, invariant."""

import numpy as np
import pytest
import scipy.sparse
import torch
from linalg.matrix_collections import mixed, true_error
from specimens import Specimen

from ritz.linalg import concatenation_error_bound
from ritz.linalg.concatenation_bounds import ESTIMATORS

BLOCKS = mixed(3)[0]

SPECIMENS = {
    "concatenation_error_bound": Specimen(
        lambda **o: concatenation_error_bound(BLOCKS, **o), lambda: {"rank": 3, "estimator": "residual", "oversampling": 2}
    ),
    "concatenation_error_bound.order": Specimen(
        lambda **o: concatenation_error_bound(BLOCKS[:3], 3, **o),
        lambda: {"order": np.arange(len(BLOCKS[:3]))},
        accepts={"order": ("more dimensions",)},
    ),
    "concatenation_error_bound.block": Specimen(lambda blocks: concatenation_error_bound([blocks], 2), lambda: {"blocks": BLOCKS[0].copy()}),
}


def bounds(blocks, rank):
    return {estimator: concatenation_error_bound(blocks, rank, estimator=estimator) for estimator in ESTIMATORS}


def test_no_bound_is_below_the_truth_and_the_residual_is_below_weyl():
    found = [(bounds(blocks, rank), true_error(blocks, rank)) for blocks, rank in map(mixed, range(300))]
    for bound, truth in found:
        for estimator in ESTIMATORS:
            assert bound[estimator] >= truth - 1e-12, estimator
        assert bound["residual"] <= bound["weyl"] + 1e-12
    mean = {estimator: np.mean([bound[estimator] for bound, _ in found]) for estimator in ESTIMATORS}
    assert mean["incremental"] - np.mean([truth for _, truth in found]) < 0.002
    assert mean["incremental"] < mean["residual"] < mean["weyl"]


def test_incremental_is_exact_up_to_rank_plus_oversampling_and_for_one_block():
    rng = np.random.default_rng(0)
    basis = rng.standard_normal((30, 9))
    blocks = [basis @ rng.standard_normal((9, n)) for n in (4, 12, 1, 40)]
    np.testing.assert_allclose(concatenation_error_bound(blocks, 4), true_error(blocks, 4), rtol=1e-12)
    assert concatenation_error_bound(blocks, 9) < 1e-14
    alone = [rng.standard_normal((30, 25))]
    for bound in bounds(alone, 7).values():
        np.testing.assert_allclose(bound, true_error(alone, 7), rtol=1e-12)


def test_residual_is_exact_for_orthogonal_blocks():
    rng = np.random.default_rng(1)
    Q = np.linalg.qr(rng.standard_normal((40, 24)))[0]
    blocks = [Q[:, 8 * i : 8 * i + 8] @ rng.standard_normal((8, 10)) for i in range(3)]
    np.testing.assert_allclose(concatenation_error_bound(blocks, 5, estimator="residual"), true_error(blocks, 5), rtol=1e-12)


def test_weyl_is_exact_if_all_other_blocks_are_zero():
    block = np.random.default_rng(2).standard_normal((20, 15))
    found = concatenation_error_bound([np.zeros((20, 3)), block, np.zeros((20, 9))], 4, estimator="weyl")
    np.testing.assert_allclose(found, true_error([block], 4), rtol=1e-12)
    assert concatenation_error_bound([np.zeros((5, 2))], 1, estimator="weyl") == 0.0


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_invariances(estimator):
    rng = np.random.default_rng(3)
    for seed in range(20):
        blocks, rank = mixed(seed)
        plain = concatenation_error_bound(blocks, rank, estimator=estimator)
        mixing = np.linalg.qr(rng.standard_normal((len(blocks[0]), len(blocks[0]))))[0]
        for changed in (
            [block[:, rng.permutation(block.shape[1])] for block in blocks],
            [1e-3 * block for block in blocks],
            [mixing @ block for block in blocks],
        ):
            np.testing.assert_allclose(concatenation_error_bound(changed, rank, estimator=estimator), plain, atol=1e-9)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_kind_of_block_gives_the_same(estimator):
    expected = concatenation_error_bound(BLOCKS, 3, estimator=estimator)
    for kind in (scipy.sparse.csr_array, scipy.sparse.coo_matrix, torch.from_numpy, np.asfortranarray, lambda A: A[:, ::-1]):
        np.testing.assert_allclose(concatenation_error_bound([kind(block) for block in BLOCKS], 3, estimator=estimator), expected, rtol=1e-10)
    single = concatenation_error_bound([block.astype(np.float32) for block in BLOCKS], 3, estimator=estimator)
    np.testing.assert_allclose(single, expected, rtol=1e-4)


def test_more_directions_tighten_the_incremental_bound():
    rng = np.random.default_rng(5)
    blocks = [rng.standard_normal((40, 6)) for _ in range(12)]
    found = [concatenation_error_bound(blocks, 8, oversampling=more) for more in (0, 5, 32)]
    assert found[0] > found[1] > found[2]
    np.testing.assert_allclose(found[2], true_error(blocks, 8), rtol=1e-12)


def test_the_order_can_be_given():
    blocks = [np.eye(6)[:, :1], 3 * np.eye(6)[:, 1:2], np.eye(6)[:, 2:3]]
    assert concatenation_error_bound(blocks, 1, estimator="weyl") == pytest.approx(np.sqrt(2 / 11))
    assert concatenation_error_bound(blocks, 1, estimator="weyl", order=[0, 1, 2]) == pytest.approx(np.sqrt(10 / 11))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocks": []}, "blocks must hold a matrix"),
        ({"blocks": [np.ones((3, 2)), np.ones((4, 2))]}, r"blocks must have equal numbers of rows, got 3 in blocks\[0\] and 4 in blocks\[1\]"),
        ({"blocks": [np.ones((3, 2)), np.full((3, 1), np.nan)]}, r"blocks\[1\] must be finite"),
        ({"rank": 0}, "rank must be"),
        ({"order": [0, 0]}, "order must be a permutation"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        concatenation_error_bound(**({"blocks": BLOCKS, "rank": 2} | options))


def test_what_is_no_list_of_real_matrices_is_refused():
    for bad in (np.ones((2, 3, 4)), [1j * np.ones((3, 2))], ["seven"]):
        with pytest.raises(TypeError, match="blocks"):
            concatenation_error_bound(bad, 2)
