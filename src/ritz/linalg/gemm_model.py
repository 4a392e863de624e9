"""A random forest that predicts what a matrix product costs, and the tiles it recommends.

Liu and Halim, "Understanding GEMM Performance and Energy on NVIDIA Ada Lovelace: A Machine Learning-Based Analytical Approach", arXiv:2411.16954:
one forest for each of runtime, power, energy and throughput, from the sizes of the problem and of its tiles. The logarithmic variant is ours:
runtimes span five decades, and a shallow forest on raw seconds has a large relative error on small shapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.ensemble import RandomForestRegressor
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from ritz.core import Result, array, choice, flag, integer, positive, random_generator
from ritz.linalg.gemm_measurements import GemmMeasurements, product, seconds_of, tile_candidates
from ritz.linalg.tiled_matmul import tile_sizes

TARGETS = ("runtime_s", "power_w", "energy_j", "tflops")
PAPER_BALANCE = 59.0  # floating-point operations per byte at which the paper's card turns from memory bound to compute bound
VERIFY_REPEATS = 5
LOG_DIGITS = 10  # to which centered logarithms are rounded: then a change of units changes no split of a tree


def gemm_features(X, *, itemsize: int = 4, machine_balance: float = PAPER_BALANCE, extended: bool = False) -> np.ndarray:
    """Return what the model sees of sizes ``[m, n, k, tile_m, tile_n, tile_k]``.

    Parameters
    ----------
    X : array (rows, 6)
        Positive.
    itemsize : int
        Bytes of a number.
    machine_balance : float
        Peak operations per second over bytes per second from memory.
    extended : bool
        Also ours: the tile's volume and working set, the number of tiles, the tile clipped to the matrix, and the share of work in ragged tiles.

    Returns
    -------
    array (rows, 10) or (rows, 17)
        The six sizes, operations ``2 m n k``, bytes ``itemsize (m k + k n + m n)``, their ratio (arithmetic intensity), 1 where that is above the
        balance (compute bound), else 0; then the extended ones.

    Raises
    ------
    ValueError, TypeError
        If X has another shape or sizes that are not positive.

    Examples
    --------
    >>> gemm_features([[512, 512, 512, 8, 8, 8]])[0, 6:10].round(3).tolist()
    [268435456.0, 3145728.0, 85.333, 1.0]
    """
    X = _sizes(X)
    itemsize, balance = integer(itemsize, "itemsize", at_least=1), positive(machine_balance, "machine_balance")
    m, n, k, b1, b2, b3 = X.T
    operations, moved = 2 * m * n * k, itemsize * (m * k + k * n + m * n)
    features = [*X.T, operations, moved, operations / moved, (operations / moved > balance).astype(float)]
    if flag(extended, "extended"):
        tiles = [np.ceil(side / tile) for side, tile in ((m, b1), (n, b2), (k, b3))]
        volume, working_set = b1 * b2 * b3, itemsize * (b1 * b3 + b3 * b2 + b1 * b2)
        clipped = [np.minimum(m, b1), np.minimum(n, b2), np.minimum(k, b3)]
        features += [volume, working_set, np.prod(tiles, axis=0), *clipped, np.prod(tiles, axis=0) * volume / (m * n * k)]
    return np.stack(features, axis=1)


class GemmModel(RegressorMixin, BaseEstimator):
    """Predict runtime (and power, energy, throughput) of a matrix product from its sizes and tiles.

    Parameters
    ----------
    n_estimators : int
        Trees in each forest.
    max_depth : int, None or "auto"
        Depth of the trees; None is unlimited. "auto" is the paper's 6 for "runtime" and unlimited for "log_time_per_flop".
    target : {"runtime", "log_time_per_flop"}
        Forests on the targets as they are, one for each (the paper), or on the logarithm of one target, a runtime or an energy, over the number of
        operations, with extended features.
    min_samples_leaf : int
        As in scikit-learn.
    itemsize, machine_balance
        As for `gemm_features`.
    rng : int or None
        The forests' random state.

    Attributes
    ----------
    forests_ : list of RandomForestRegressor
        One for each target.
    targets_ : tuple of str
        Their names where fitted on `GemmMeasurements`, else "y0", "y1", ...
    size_range_ : array (2, 3)
        Least and largest m, n, k of the training rows.

    Notes
    -----
    Every feature and target is clipped to its 1 % and 99 % quantiles of the training rows, and of those alone; sizes that are missing (nan) become
    their column's median, rows whose target is missing are left out. Features are standardized, as in the paper; trees do not mind.

    References
    ----------
    .. [1] arXiv:2411.16954.

    Examples
    --------
    >>> sizes = [[64 * i, 64, 64, 16, 16, 16] for i in range(1, 30)]
    >>> model = GemmModel(10, target="log_time_per_flop", rng=0).fit(sizes, [2e-9 * 64**3 * i for i in range(1, 30)])
    >>> model.predict([[640, 64, 64, 16, 16, 16]]).round(5)
    array([0.00524])
    """

    def __init__(
        self,
        n_estimators: int = 100,
        max_depth: int | str | None = "auto",
        target: str = "runtime",
        min_samples_leaf: int = 1,
        itemsize: int = 4,
        machine_balance: float = PAPER_BALANCE,
        rng: int | None = None,
    ):
        self.n_estimators = n_estimators
        self.max_depth = max_depth
        self.target = target
        self.min_samples_leaf = min_samples_leaf
        self.itemsize = itemsize
        self.machine_balance = machine_balance
        self.rng = rng

    def fit(self, X, Y=None) -> GemmModel:
        """Fit to measured rows.

        Parameters
        ----------
        X : GemmMeasurements, or array (rows, 6) ``[m, n, k, tile_m, tile_n, tile_k]``
            nan where a size is unknown.
        Y : array (rows,) or (rows, targets), optional
            With a table by default its runtime, power, energy and throughput ("log_time_per_flop": its runtime); targets of which nothing is known
            are left out.

        Raises
        ------
        ValueError, TypeError
            If shapes do not fit, sizes or (for the logarithm) targets are not positive, or no complete row is left.
        """
        choice(self.target, "target", ("runtime", "log_time_per_flop"))
        if not isinstance(self.max_depth, str) and self.max_depth is not None:
            integer(self.max_depth, "max_depth", at_least=1)
        elif isinstance(self.max_depth, str):
            choice(self.max_depth, "max_depth", ("auto",))
        integer(self.n_estimators, "n_estimators", at_least=1)
        integer(self.min_samples_leaf, "min_samples_leaf", at_least=1)
        random_generator(self.rng)
        self._is_log = self.target == "log_time_per_flop"
        X, Y, self.targets_ = self._training_rows(X, Y)
        self._medians = np.nanmedian(X, axis=0)
        X = np.where(np.isnan(X), self._medians, X)
        self.size_range_ = np.stack([X[:, :3].min(axis=0), X[:, :3].max(axis=0)])
        features = self._features(X)
        self._center = 0.0
        if self._is_log:
            Y = np.log(Y / features[:, 6:7])
            self._center = float(np.median(Y))
            Y = np.round(Y - self._center, LOG_DIGITS)
        self._limits = np.quantile(features, [0.01, 0.99], axis=0)
        features = np.clip(features, *self._limits)
        Y = np.clip(Y, *np.quantile(Y, [0.01, 0.99], axis=0))
        self.scaler_ = StandardScaler().fit(features)
        scaled = self.scaler_.transform(features)
        depth = self.max_depth if self.max_depth != "auto" else None if self._is_log else 6
        self.forests_ = [
            RandomForestRegressor(self.n_estimators, max_depth=depth, min_samples_leaf=self.min_samples_leaf, random_state=self.rng).fit(
                scaled, column
            )
            for column in Y.T
        ]
        self.n_features_in_ = 6
        return self

    def predict(self, X) -> np.ndarray:
        """Predict for sizes X, a table or an array (rows, 6): (rows,), or (rows, targets) if there are several.

        Raises
        ------
        ValueError, TypeError
            If X has another shape, or sizes that are nan or not positive.
        """
        return self._squeezed(np.stack([forest.predict(scaled) for forest, scaled in self._each(X)], axis=1), X)

    def predict_spread(self, X) -> np.ndarray:
        """The standard deviation over the trees, in the units of the prediction ("log_time_per_flop": to first order)."""
        deviations = np.stack([np.std([tree.predict(scaled) for tree in forest.estimators_], axis=0) for forest, scaled in self._each(X)], axis=1)
        if self._is_log:
            return deviations[:, 0] * self.predict(X)
        return deviations if len(self.forests_) > 1 else deviations[:, 0]

    def is_extrapolating(self, X) -> np.ndarray:
        """Whether m, n or k of each row lies outside of what the model was fitted to (rows,)."""
        check_is_fitted(self, "forests_")
        sizes = _sizes(X)[:, :3]
        return np.any((sizes < self.size_range_[0]) | (sizes > self.size_range_[1]), axis=1)

    def _each(self, X):
        check_is_fitted(self, "forests_")
        scaled = self.scaler_.transform(np.clip(self._features(_sizes(X)), *self._limits))
        return [(forest, scaled) for forest in self.forests_]

    def _squeezed(self, Y: np.ndarray, X) -> np.ndarray:
        if self._is_log:
            return np.exp(Y[:, 0] + self._center) * self._features(_sizes(X))[:, 6]
        return Y if len(self.forests_) > 1 else Y[:, 0]

    def _features(self, X: np.ndarray) -> np.ndarray:
        return gemm_features(X, itemsize=self.itemsize, machine_balance=self.machine_balance, extended=self._is_log)

    def _training_rows(self, X, Y) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
        """Sizes (rows, 6), targets (rows, t) of the rows whose targets are all known, and the targets' names."""
        names = None
        if isinstance(X, GemmMeasurements):
            if Y is None:
                names = ("runtime_s",) if self._is_log else tuple(name for name in TARGETS if not np.isnan(X.table[name]).all())
                Y = np.stack([X.table[name] for name in names], axis=1)
            X = X.sizes
        elif Y is None:
            raise ValueError("Y must be given where X is no table of measurements")
        X = _sizes(X, allow_missing=True)
        Y = np.asarray(Y, dtype=np.float64)
        if Y.ndim not in (1, 2) or len(Y) != len(X) or Y.size == 0:
            raise ValueError(f"Y must have shape ({len(X)},) or ({len(X)}, targets), got {Y.shape}")
        Y = Y[:, None] if Y.ndim == 1 else Y
        if np.isinf(Y).any():
            raise ValueError("Y must be finite, or nan where a target is missing")
        if self._is_log and (Y.shape[1] != 1 or np.any(Y <= 0)):
            raise ValueError("Y must be one target, positive, for 'log_time_per_flop'")
        complete = ~np.isnan(Y).any(axis=1)
        if not complete.any():
            raise ValueError("Y must have at least one row without a missing target")
        return X[complete], Y[complete], names or tuple(f"y{i}" for i in range(Y.shape[1]))


@dataclass(frozen=True, eq=False, repr=False)
class TileRecommendation(Result):
    """What `recommend_tiles` recommends.

    Attributes
    ----------
    tiles : tuple of int
        (tile_m, tile_n, tile_k): the fastest measured, or without measuring the one predicted best.
    predicted : float
        Its predicted runtime in seconds, or energy in joules.
    measured : float
        Its measured runtime in seconds; nan without `verify`.
    spread : float
        Standard deviation of the prediction over the trees.
    extrapolating : bool
        Whether the shape lies outside of what the model was fitted to.
    candidates : array (top, 3)
        The tiles that were predicted best, best first.
    """

    tiles: tuple[int, int, int]
    predicted: float
    measured: float
    spread: float
    extrapolating: bool
    candidates: np.ndarray


def recommend_tiles(
    model: GemmModel,
    M: int,
    N: int,
    K: int,
    *,
    candidates: Sequence[Sequence[int]] | None = None,
    top: int = 3,
    objective: str = "runtime",
    verify: bool = True,
    kernel: str = "tiled",
) -> TileRecommendation:
    """Return the tiles that a model predicts to be best for a shape that was perhaps never measured; the best few are then measured.

    Parameters
    ----------
    model : GemmModel
        Fitted.
    M, N, K : int
        The product's sizes: (M, K) times (K, N).
    candidates : sequence of (tile_m, tile_n, tile_k), optional
        What to choose from; by default what `measure_gemms` measures.
    top : int
        How many of the best predicted are measured.
    objective : {"runtime", "energy"}
        What to have least of; energy needs a model fitted to tables with power.
    verify : bool
        Measure the `top` best and return the fastest; without it the first.
    kernel : {"tiled", "triton"}
        What is measured.

    Raises
    ------
    ValueError, TypeError
        If an argument does not fit, or the model has not learned the objective.

    Examples
    --------
    >>> from ritz.linalg import measure_gemms
    >>> measured = measure_gemms([(32, 32, 32), (48, 48, 48)], [(8, 8, 8), (32, 32, 32)], repeats=1, rng=0)
    >>> model = GemmModel(5, target="log_time_per_flop", rng=0).fit(measured)
    >>> recommend_tiles(model, 40, 40, 40, candidates=[(8, 8, 8), (32, 32, 32)]).extrapolating
    False
    """
    if not isinstance(model, GemmModel):
        raise TypeError(f"model must be a GemmModel, got {type(model).__name__}")
    shape = tuple(integer(size, name, at_least=1) for size, name in ((M, "M"), (N, "N"), (K, "K")))
    top, verify = integer(top, "top", at_least=1), flag(verify, "verify")
    objective, kernel = choice(objective, "objective", ("runtime", "energy")), choice(kernel, "kernel", ("tiled", "triton"))
    check_is_fitted(model, "forests_")
    column = _column(model, objective)
    tiles = tile_candidates(candidates, kernel)
    if not tiles:
        raise ValueError("candidates must not be empty")
    X = np.array([[*shape, *tile_sizes(tile)] for tile in tiles])
    predicted, spread = (values if values.ndim == 1 else values[:, column] for values in (model.predict(X), model.predict_spread(X)))
    best = np.argsort(predicted, kind="stable")[:top]
    seconds = _measured(shape, [tiles[i] for i in best], kernel) if verify else np.full(len(best), np.nan)
    chosen = int(np.argmin(seconds)) if verify and objective == "runtime" else 0
    i = best[chosen]
    return TileRecommendation(
        tiles[i], float(predicted[i]), float(seconds[chosen]), float(spread[i]), bool(model.is_extrapolating(X[:1])[0]), X[best, 3:]
    )


def _measured(shape, tiles: list, kernel: str) -> np.ndarray:
    """The least of a few seconds for each tile, in turns."""
    runs = [product(shape, tile, kernel=kernel, dtype="float32", rng=np.random.default_rng(0)) for tile in tiles]
    for run in runs:
        run()
    return np.min([[seconds_of(run) for run in runs] for _ in range(VERIFY_REPEATS)], axis=0)


def _column(model: GemmModel, objective: str) -> int:
    name = {"runtime": "runtime_s", "energy": "energy_j"}[objective]
    if name in model.targets_:
        return model.targets_.index(name)
    if objective == "runtime" and model.targets_ == ("y0",):
        return 0
    raise ValueError(f"objective must be one that the model was fitted to, {', '.join(model.targets_)}, got '{objective}'")


def _sizes(X, *, allow_missing: bool = False) -> np.ndarray:
    if isinstance(X, GemmMeasurements):
        X = X.sizes
    if allow_missing:
        X = np.asarray(X, dtype=np.float64)
        missing = np.isnan(X)
        if missing.ndim == 2 and len(X) and missing.all(axis=0).any():
            raise ValueError("X must have at least one known size in each column")
        X = np.where(missing, 1.0, X)
    X = np.asarray(array(X, "X", ndim=2), dtype=np.float64)
    if X.shape[1] != 6:
        raise ValueError(f"X must have 6 columns m, n, k, tile_m, tile_n, tile_k, got shape {X.shape}")
    if np.any(X <= 0):
        raise ValueError("X must have positive sizes")
    return np.where(missing, np.nan, X) if allow_missing else X
