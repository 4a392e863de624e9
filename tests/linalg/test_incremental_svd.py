"""Incremental SVD: equal to numpy's where nothing is truncated, orthonormal after many updates, a bound where something is."""

import numpy as np
import pytest
import scipy.sparse
import torch
from linalg.matrix_collections import true_error
from specimens import Specimen

from ritz.linalg import IncrementalSVD

A = np.random.default_rng(0).standard_normal((12, 9))
FITTED = IncrementalSVD(3).partial_fit(A)

SPECIMENS = {
    "IncrementalSVD": Specimen(IncrementalSVD, lambda: {"rank": 3, "oversampling": 2}),
    "IncrementalSVD.partial_fit": Specimen(lambda block: IncrementalSVD(3).partial_fit(A).partial_fit(block), lambda: {"block": A.copy()}),
    "IncrementalSVD.partial_fit.first": Specimen(lambda block: IncrementalSVD(3).partial_fit(block), lambda: {"block": scipy.sparse.csr_array(A)}),
}


@pytest.mark.parametrize("width", [1, 3, 7, 60])
def test_it_equals_numpy_if_nothing_is_truncated(width):
    rng = np.random.default_rng(1)
    M = (rng.standard_normal((30, 8)) * np.geomspace(1, 1e-6, 8)) @ rng.standard_normal((8, 60))
    svd = IncrementalSVD(6, oversampling=2)
    for first in range(0, 60, width):
        svd.partial_fit(M[:, first : first + width])
    U, s, _ = np.linalg.svd(M, full_matrices=False)
    np.testing.assert_allclose(svd.singular_values_, s[:6], rtol=0, atol=1e-13 * s[0])
    np.testing.assert_allclose(abs(np.sum(svd.components_ * U[:, :6], axis=0)), 1, atol=1e-8)
    np.testing.assert_allclose(svd.total_norm_, np.linalg.norm(M), rtol=1e-13)
    np.testing.assert_allclose(svd.error_bound_, true_error([M], 6), rtol=1e-6)


def test_it_stays_orthonormal_and_a_bound_over_500_updates():
    rng = np.random.default_rng(2)
    svd, M = IncrementalSVD(5), []
    for _ in range(500):
        M.append(rng.standard_normal((40, 3)) * np.geomspace(1, 0.01, 40)[:, None])
        svd.partial_fit(M[-1])
    np.testing.assert_allclose(svd.components_.T @ svd.components_, np.eye(5), atol=1e-10)
    s = np.linalg.svd(np.hstack(M), compute_uv=False)
    assert np.all(svd.singular_values_ <= s[:5] * (1 + 1e-12))
    assert true_error(M, 5) <= svd.error_bound_ <= true_error(M, 5) + 0.01
    whole = np.hstack(M)
    projected = np.linalg.norm(whole - svd.components_ @ (svd.components_.T @ whole)) / np.linalg.norm(whole)
    assert projected <= svd.error_bound_ + 1e-12


def test_zero_blocks_and_repeated_blocks():
    svd = IncrementalSVD(3).partial_fit(np.zeros((12, 2)))
    assert (svd.total_norm_, svd.error_bound_) == (0.0, 0.0)
    svd.partial_fit(A[:, :3]).partial_fit(A[:, :3])
    np.testing.assert_allclose(svd.singular_values_, np.sqrt(2) * np.linalg.svd(A[:, :3], compute_uv=False), rtol=1e-12)
    assert svd.error_bound_ < 1e-14


def test_torch_in_torch_out():
    svd = IncrementalSVD(3).partial_fit(torch.from_numpy(A).float())
    assert svd.components_.dtype == torch.float32
    np.testing.assert_allclose(svd.singular_values_.numpy(), FITTED.singular_values_, rtol=1e-5)


def test_a_refused_block_changes_nothing():
    svd = IncrementalSVD(3).partial_fit(A)
    with pytest.raises(ValueError, match="block must have 12 rows"):
        svd.partial_fit(A.T)
    np.testing.assert_array_equal(svd.components_, FITTED.components_)
