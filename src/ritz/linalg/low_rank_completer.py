"""Low-rank matrix completion as a scikit-learn estimator: factors of the columns are learned, rows are coded by them.

The method is `ritz.linalg.complete_matrix`: Gu, Song, Yin and Zhang, ICLR 2024, arXiv:2302.11068.
"""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from ritz.core import like, matrix, random_generator
from ritz.linalg.matrix_completion import Options, complete_matrix, half_step, observed_entries


class LowRankCompleter(TransformerMixin, BaseEstimator):
    """Codes rows with missing entries by k numbers each, and fills them in: ``inverse_transform(transform(X))``.

    Parameters
    ----------
    k : int
        Rank, at most the number of rows and of columns.
    solver, inner_tol, max_inner, iterations, tol, regularization, init, incoherence, split, rng
        As in `complete_matrix`.

    Attributes
    ----------
    components_ : ndarray (k, n)
        Orthonormal rows, which all completed rows are combinations of.
    completion_ : MatrixCompletion
        What `complete_matrix` found for the fitted matrix.
    n_features_in_ : int
        The number of columns n.

    References
    ----------
    .. [1] Gu, Song, Yin and Zhang, ICLR 2024, arXiv:2302.11068.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> M = rng.standard_normal((60, 2)) @ rng.standard_normal((2, 50))
    >>> X = np.where(rng.random(M.shape) < 0.4, M, np.nan)
    >>> completer = LowRankCompleter(2, tol=1e-10, rng=0).fit(X)
    >>> bool(np.allclose(completer.inverse_transform(completer.transform(X)), M))
    True
    """

    def __init__(
        self,
        k: int,
        *,
        solver: str = "cg",
        inner_tol: float = 1e-3,
        max_inner: int = 10,
        iterations: int = 50,
        tol: float = 1e-6,
        regularization: float = 0.0,
        init: str = "spectral",
        incoherence: float | None = None,
        split: bool = False,
        rng: np.random.Generator | int | None = None,
    ):
        self.k = k
        self.solver = solver
        self.inner_tol = inner_tol
        self.max_inner = max_inner
        self.iterations = iterations
        self.tol = tol
        self.regularization = regularization
        self.init = init
        self.incoherence = incoherence
        self.split = split
        self.rng = rng

    def fit(self, X, y=None) -> LowRankCompleter:
        """Learn the factors of the columns.

        Parameters
        ----------
        X : array or torch tensor with NaN for missing entries, or sparse array whose stored entries are the observed ones (m, n)
        y : ignored

        Raises
        ------
        ValueError, TypeError
            As in `complete_matrix`.
        """
        observed = observed_entries(X, name="X")
        if isinstance(self.k, int) and self.k > min(observed.shape):
            raise ValueError(f"k must be at most {min(observed.shape)}, the shorter side of X of shape {observed.shape}, got {self.k}")
        self.completion_ = complete_matrix(observed, **self.get_params())
        self.components_ = np.linalg.qr(self.completion_.V)[0].T
        self.n_features_in_ = observed.shape[1]
        return self

    def transform(self, X):
        """Return the codes (m, k) of rows with missing entries: least squares on what each row has observed, exactly; zero for an empty row."""
        check_is_fitted(self)
        observed = observed_entries(X, name="X")
        if observed.shape[1] != self.n_features_in_:
            raise ValueError(f"X must have {self.n_features_in_} columns, as the fitted matrix, got shape {observed.shape}")
        options = Options.checked("exact", 0.0, 1, 1, 0.0, self.regularization, "random", None, False)
        factor = self.components_.T.astype(observed.dtype)
        start = np.zeros((observed.shape[0], factor.shape[1]), observed.dtype)
        return like(half_step(observed, factor, start, options, random_generator(0)).x, X)

    def inverse_transform(self, X):
        """Return the completed rows (m, n) of codes X (m, k)."""
        check_is_fitted(self)
        return matrix(X, "X", shape=(None, len(self.components_))) @ like(self.components_, X)
