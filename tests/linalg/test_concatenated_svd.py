"""Clusters within an error, and what is stored of them."""

import numpy as np
import pytest
import torch
from linalg.matrix_collections import families, mixed, true_error
from sklearn.base import clone
from specimens import Specimen

from ritz.linalg import CompressedCollection, ConcatenatedSVDClustering
from ritz.linalg.concatenated_svd import leading_basis

BLOCKS, FAMILY = families([12, 8, 5], noise=1e-3)
FITTED = ConcatenatedSVDClustering(4, 0.02).fit(BLOCKS)
COMPRESSED = FITTED.compress()
ESTIMATORS = ("incremental", "residual", "weyl")

SPECIMENS = {
    "ConcatenatedSVDClustering": Specimen(
        lambda **options: ConcatenatedSVDClustering(**options).fit(BLOCKS),
        lambda: {
            "rank": 4, "eps": 0.1, "estimator": "incremental", "order": "norm", "oversampling": 3, "patience": 4, "refine": True,
        },
    ),
    "ConcatenatedSVDClustering.fit": Specimen(
        lambda blocks: ConcatenatedSVDClustering().fit([blocks]), lambda: {"blocks": BLOCKS[0].copy()}
    ),
    "CompressedCollection": Specimen(lambda: COMPRESSED, dict),
    "CompressedCollection.reconstruct": Specimen(COMPRESSED.reconstruct, lambda: {"i": 3}),
}  # fmt: skip


def partition(labels):
    return {frozenset(np.flatnonzero(labels == label).tolist()) for label in set(labels.tolist())}


@pytest.mark.parametrize("refine", [True, False])
@pytest.mark.parametrize("order", ["residual", "norm"])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_cluster_is_within_the_error(estimator, order, refine):
    for seed in range(25):
        blocks, rank = mixed(seed)
        for eps in (0.05, 0.3):
            found = ConcatenatedSVDClustering(rank, eps, estimator=estimator, order=order, refine=refine).fit(blocks)
            assert sorted(i for members in found.clusters_ for i in members) == list(range(len(blocks)))
            for label, members in enumerate(found.clusters_):
                assert np.all(found.labels_[members] == label)
                truth = true_error([blocks[i] for i in members], rank)
                assert truth <= found.error_bounds_[label] + 1e-12
                assert len(members) == 1 or truth <= eps + 1e-10
                if refine:
                    np.testing.assert_allclose(found.errors_[label], truth, atol=1e-10)


def test_families_are_found():
    assert partition(FITTED.labels_) == partition(FAMILY)
    assert np.all(FITTED.errors_ <= 0.02)
    before, after = 25 * 40 * 6, sum(min(4 * (40 + 6 * count), 40 * 6 * count) for count in (12, 8, 5))
    np.testing.assert_allclose(FITTED.compression_ratio_, before / after)


def test_at_zero_only_exact_unions_merge():
    rng = np.random.default_rng(0)
    one, other = (rng.standard_normal((20, 8)) for _ in range(2))
    blocks = [one, 2 * other, one.copy(), 0.5 * one, np.zeros((20, 3)), 3 * other]
    found = ConcatenatedSVDClustering(8, 0.0).fit(blocks)
    assert {0, 2, 3} <= set(np.flatnonzero(found.labels_ == found.labels_[0]).tolist())
    assert found.labels_[1] == found.labels_[5] != found.labels_[0]
    assert np.all(found.errors_ < 1e-13)
    for estimator in ("residual", "weyl"):  # to these bounds whatever lies in the space of the start is lost
        assert len(ConcatenatedSVDClustering(8, 0.0, estimator=estimator).fit(blocks).clusters_) == 5


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_at_one_everything_is_one_cluster_and_zero_blocks_join(estimator):
    assert len(ConcatenatedSVDClustering(2, 1.0, estimator=estimator).fit(BLOCKS).clusters_) == 1
    found = ConcatenatedSVDClustering(4, 0.02, estimator=estimator).fit([*BLOCKS, np.zeros((40, 3))])
    assert len(found.clusters_[found.labels_[-1]]) > 1
    nothing = ConcatenatedSVDClustering(4, 0.0, estimator=estimator).fit([np.zeros((40, 3))] * 3)
    assert nothing.labels_.tolist() == [0, 0, 0]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_permutation_permutes_the_labels(estimator):
    order = np.random.default_rng(1).permutation(len(BLOCKS))
    plain = ConcatenatedSVDClustering(4, 0.1, estimator=estimator).fit(BLOCKS)
    permuted = ConcatenatedSVDClustering(4, 0.1, estimator=estimator).fit([BLOCKS[i] for i in order])
    np.testing.assert_array_equal(permuted.labels_, plain.labels_[order])


def test_passing_over_candidates_finds_more():
    stopped = ConcatenatedSVDClustering(4, 0.02, order="norm", refine=False).fit(BLOCKS)
    assert len(stopped.clusters_) > len(FITTED.clusters_)
    assert not hasattr(stopped, "errors_")


def test_patience_leaves_the_rest_single():
    rng = np.random.default_rng(2)
    blocks = [rng.standard_normal((30, 5)) for _ in range(8)]
    found = ConcatenatedSVDClustering(5, 0.1, patience=2).fit(blocks)
    assert [len(members) for members in found.clusters_] == [1] * 8
    assert found.compression_ratio_ == 1.0


def test_reconstructions_are_within_the_error():
    for members, error in zip(FITTED.clusters_, FITTED.errors_):
        missed = sum(np.linalg.norm(BLOCKS[i] - COMPRESSED.reconstruct(i)) ** 2 for i in members)
        np.testing.assert_allclose(np.sqrt(missed / sum(np.linalg.norm(BLOCKS[i]) ** 2 for i in members)), error, rtol=1e-6)
    np.testing.assert_allclose(COMPRESSED.nbytes, sum(block.nbytes for block in BLOCKS) / FITTED.compression_ratio_)


def test_what_would_not_get_smaller_stays_as_it_is():
    rng = np.random.default_rng(3)
    full, narrow = rng.standard_normal((10, 30)), rng.standard_normal((10, 2))
    found = ConcatenatedSVDClustering(4, 0.05).fit([full, narrow])
    compressed = found.compress()
    assert compressed.bases == {}
    np.testing.assert_array_equal(compressed.reconstruct(0), full)
    assert found.compression_ratio_ == 1.0
    assert found.error_bounds_[found.labels_[0]] > 0.05


@pytest.mark.parametrize("ending", [".npz", ".safetensors"])
def test_files_give_back_what_was_saved(tmp_path, ending):
    COMPRESSED.save(tmp_path / f"shared{ending}")
    again = CompressedCollection.load(tmp_path / f"shared{ending}")
    for i in range(len(BLOCKS)):
        np.testing.assert_array_equal(again.reconstruct(i), COMPRESSED.reconstruct(i))
    with pytest.raises(ValueError, match=r"path must end in .npz or .safetensors"):
        COMPRESSED.save(tmp_path / "shared.txt")
    np.savez(tmp_path / "other.npz", a=np.ones(2))
    with pytest.raises(ValueError, match="holds no compressed collection"):
        CompressedCollection.load(tmp_path / "other.npz")


def test_memory_mapped_and_torch_blocks(tmp_path):
    mapped = []
    for i, block in enumerate(BLOCKS):
        np.save(tmp_path / f"{i}.npy", block)
        mapped.append(np.load(tmp_path / f"{i}.npy", mmap_mode="r"))
    np.testing.assert_array_equal(ConcatenatedSVDClustering(4, 0.02).fit(mapped).labels_, FITTED.labels_)
    tensors = ConcatenatedSVDClustering(4, 0.02).fit([torch.from_numpy(block) for block in BLOCKS]).compress()
    assert isinstance(tensors.reconstruct(0), torch.Tensor)
    assert isinstance(tensors.bases[0], torch.Tensor)


def test_a_large_basis_comes_from_random_blocks_unless_they_miss_the_error(monkeypatch):
    rng = np.random.default_rng(4)
    M = (rng.standard_normal((60, 60)) * np.arange(1, 61) ** -1.0) @ rng.standard_normal((60, 80))
    exact, error = leading_basis(M, 5, 0.5)
    np.testing.assert_allclose(error, true_error([M], 5), rtol=1e-12)
    monkeypatch.setattr("ritz.linalg.concatenated_svd.EXACT_WORK", 0)
    basis, near = leading_basis(M, 5, 0.5)
    assert 0 <= near - error < 1e-3
    assert not np.array_equal(basis, exact)
    np.testing.assert_array_equal(leading_basis(M, 5, 0.0)[0], exact)


def test_it_is_a_scikit_learn_estimator():
    assert clone(FITTED).get_params() == FITTED.get_params()
    np.testing.assert_array_equal(ConcatenatedSVDClustering(4, 0.02).fit_predict(BLOCKS), FITTED.labels_)


@pytest.mark.parametrize(
    ("options", "blocks", "message"),
    [
        ({"eps": -0.1}, BLOCKS, "eps must be"),
        ({"rank": 0}, BLOCKS, "rank must be"),
        ({}, [], "blocks must hold a matrix"),
        ({}, [np.ones((3, 2)), np.ones((2, 3))], "blocks must have equal numbers of rows"),
        ({}, [np.full((3, 2), np.nan)], r"blocks\[0\] must be finite"),
    ],
)
def test_bad_arguments_are_refused(options, blocks, message):
    with pytest.raises(ValueError, match=message):
        ConcatenatedSVDClustering(**options).fit(blocks)
