"""Completion as a scikit-learn estimator: what it codes, what it fills in, and that it lives in a pipeline."""

import numpy as np
import pytest
import scipy.sparse
import torch
from linalg.completion_problems import low_rank, observe
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from specimens import Specimen

from ritz.linalg import LowRankCompleter, complete_matrix

M = low_rank(60, 30, 3)
CHOSEN = observe(np.ones_like(M), 0.5 * M.size).toarray() == 1
X = np.where(CHOSEN, M, np.nan)
FITTED = LowRankCompleter(3, tol=1e-10, rng=0).fit(X)
OPTIONS = {
    "k": 3, "solver": "cg", "inner_tol": 0.1, "max_inner": 8, "iterations": 40, "tol": 1e-3, "regularization": 1e-4, "init": "random",
    "incoherence": 3.0, "split": False, "rng": 0,
}  # fmt: skip

SPECIMENS = {
    "LowRankCompleter": Specimen(
        lambda **options: LowRankCompleter(**options).fit(X), lambda: OPTIONS, accepts={"rng": ("none",), "incoherence": ("none",)}
    ),
    "LowRankCompleter.fit": Specimen(LowRankCompleter(3, rng=0).fit, lambda: {"X": scipy.sparse.csr_array(np.where(CHOSEN, M, 0))}),
    "LowRankCompleter.transform": Specimen(FITTED.transform, lambda: {"X": X.copy()}, accepts={"X": ("nan",)}),
    "LowRankCompleter.inverse_transform": Specimen(FITTED.inverse_transform, lambda: {"X": np.ones((4, 3))}),
}


def test_rows_are_filled_in_seen_or_not():
    np.testing.assert_allclose(FITTED.inverse_transform(FITTED.transform(X)), M, atol=1e-6)
    np.testing.assert_allclose(FITTED.components_ @ FITTED.components_.T, np.eye(3), atol=1e-12)
    fresh = np.random.default_rng(0).standard_normal((5, 3)) @ FITTED.components_
    hidden = np.where(CHOSEN[:5], fresh, np.nan)
    np.testing.assert_allclose(FITTED.inverse_transform(FITTED.transform(hidden)), fresh, atol=1e-10)


def test_it_finds_what_the_function_finds():
    found = complete_matrix(X, 3, tol=1e-10, rng=0)
    np.testing.assert_array_equal(FITTED.completion_.V, found.V)
    np.testing.assert_allclose(FITTED.inverse_transform(FITTED.transform(X)), found.dense(), atol=1e-6)


def test_torch_in_torch_out():
    codes = LowRankCompleter(3, rng=0).fit_transform(torch.from_numpy(X))
    assert isinstance(codes, torch.Tensor)
    assert isinstance(FITTED.inverse_transform(codes), torch.Tensor)


def test_clones_and_pipelines():
    assert clone(FITTED).get_params() == FITTED.get_params()
    codes = make_pipeline(StandardScaler(), LowRankCompleter(3, rng=0)).fit_transform(X)
    assert codes.shape == (60, 3)


def test_other_columns_are_refused():
    with pytest.raises(ValueError, match="X must have 30 columns"):
        FITTED.transform(X[:, :20])
    with pytest.raises(ValueError, match="k must be at most 30"):
        LowRankCompleter(31).fit(X)
