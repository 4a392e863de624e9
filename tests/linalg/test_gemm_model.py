"""What the model sees of a product, the forest against scikit-learn's own, and recommendations."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.ensemble import RandomForestRegressor
from sklearn.preprocessing import StandardScaler
from specimens import Specimen

from ritz.linalg import GemmMeasurements, GemmModel, gemm_features, recommend_tiles

RNG = np.random.default_rng(0)
SIZES = np.concatenate([RNG.integers(32, 500, (120, 3)), RNG.choice([8, 16, 64], (120, 3))], axis=1)
SECONDS = 2e-10 * SIZES[:, :3].prod(axis=1) * (1 + 8 / SIZES[:, 3]) * np.exp(0.05 * RNG.standard_normal(120))
TABLE = GemmMeasurements.of(SIZES, SECONDS, power_w=30 + SIZES[:, 3] / 10)
NEW = np.array([[100, 200, 300, 8, 8, 8], [90, 80, 70, 16, 64, 16], [400, 400, 400, 64, 64, 8]])
MODEL = GemmModel(5, target="log_time_per_flop", rng=0).fit(SIZES, SECONDS)
SPECIMENS = {
    "gemm_features": Specimen(gemm_features, lambda: {"X": NEW, "itemsize": 4, "machine_balance": 59.0, "extended": True}),
    "GemmModel": Specimen(
        lambda **options: GemmModel(**options).fit(SIZES, SECONDS),
        lambda: {"n_estimators": 3, "max_depth": 4, "target": "runtime", "min_samples_leaf": 1, "itemsize": 4, "machine_balance": 59.0, "rng": 0},
        accepts={"max_depth": ("none",), "rng": ("none",)},
    ),
    "GemmModel.predict": Specimen(MODEL.predict, lambda: {"X": NEW}),
    "recommend_tiles": Specimen(
        recommend_tiles,
        lambda: {
            "model": MODEL,
            "M": 8,
            "N": 9,
            "K": 7,
            "candidates": [(4, 4, 4)],
            "top": 1,
            "objective": "runtime",
            "verify": False,
            "kernel": "tiled",
        },
        spare=frozenset({"candidates", "model"}),
    ),
    "TileRecommendation": Specimen(lambda: recommend_tiles(MODEL, 8, 8, 8, verify=False), dict),
}


def test_features_of_the_official_example():
    found = gemm_features([[512, 512, 512, 16, 16, 16]])[0]
    assert found[6] == 268435456
    assert found[7] == 3145728
    assert round(found[8], 3) == 85.333
    assert found[9] == 1
    extended = gemm_features([[100, 50, 7, 64, 64, 8]], extended=True)[0]
    np.testing.assert_allclose(extended[10:], [64 * 64 * 8, 4 * (64 * 8 + 8 * 64 + 64 * 64), 2, 64, 50, 7, 2 * 64 * 64 * 8 / (100 * 50 * 7)])


def test_the_forest_is_scikit_learns_bit_for_bit():
    model = GemmModel(100, 6, rng=0).fit(TABLE)
    assert model.targets_ == ("runtime_s", "power_w", "energy_j", "tflops")
    features = gemm_features(SIZES)
    features = np.clip(features, *np.quantile(features, [0.01, 0.99], axis=0))
    scaler = StandardScaler().fit(features)
    new = scaler.transform(np.clip(gemm_features(NEW), *np.quantile(gemm_features(SIZES), [0.01, 0.99], axis=0)))
    for j, name in enumerate(model.targets_):
        y = TABLE.table[name]
        y = np.clip(y, *np.quantile(y, [0.01, 0.99]))
        forest = RandomForestRegressor(n_estimators=100, max_depth=6, random_state=0).fit(scaler.transform(features), y)
        np.testing.assert_array_equal(model.predict(NEW)[:, j], forest.predict(new))


def test_row_order_clone_pickle_and_positivity():
    for model in (MODEL, GemmModel(10, rng=0).fit(SIZES, SECONDS)):
        order = np.random.default_rng(0).permutation(len(SIZES))
        np.testing.assert_array_equal(model.predict(SIZES)[order], model.predict(SIZES[order]))
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(NEW), model.predict(NEW))
        np.testing.assert_array_equal(clone(model).fit(SIZES, SECONDS).predict(NEW), model.predict(NEW))
        assert np.all(model.predict(NEW) > 0)
        assert np.all(model.predict_spread(NEW) >= 0)
        assert model.score(SIZES, SECONDS) > 0.8


@pytest.mark.parametrize("factor", [1e-3, 7.0])
def test_the_logarithmic_variant_scales(factor):
    scaled = clone(MODEL).fit(SIZES, factor * SECONDS)
    np.testing.assert_allclose(scaled.predict(NEW), factor * MODEL.predict(NEW), rtol=1e-12)


def test_clipping_never_uses_rows_that_are_predicted():
    """A row far off changes the prediction of no other row."""
    far = np.concatenate([NEW, [[10**6, 10**6, 10**6, 64, 64, 64]]])
    np.testing.assert_array_equal(MODEL.predict(far)[:-1], MODEL.predict(NEW))
    assert MODEL.is_extrapolating(far).tolist() == [False, False, False, True]


def test_missing_values():
    X = SIZES.astype(float)
    X[3, 4], y = np.nan, SECONDS.copy()
    y[5] = np.nan
    model = GemmModel(5, rng=0).fit(X, y)
    filled = np.delete(SIZES.astype(float), 5, axis=0)
    known = np.delete(X, 5, axis=0)
    filled[3, 4] = np.nanmedian(known[:, 4])
    np.testing.assert_array_equal(model.predict(NEW), GemmModel(5, rng=0).fit(filled, np.delete(SECONDS, 5)).predict(NEW))
    with pytest.raises(ValueError, match="X must be finite"):
        model.predict(np.full((1, 6), np.nan))
    without_power = GemmModel(5, rng=0).fit(GemmMeasurements.of(SIZES, SECONDS))
    assert without_power.targets_ == ("runtime_s", "tflops")


def test_recommendations_are_the_best_predicted_and_then_the_fastest_measured():
    candidates = [(8, 8, 8), (16, 16, 16), (64, 64, 64), (64, 8, 16)]
    X = np.array([[60, 60, 60, *tile] for tile in candidates])
    order = np.argsort(MODEL.predict(X), kind="stable")
    found = recommend_tiles(MODEL, 60, 60, 60, candidates=candidates, top=2, verify=False)
    np.testing.assert_array_equal(found.candidates, X[order[:2], 3:])
    assert found.tiles == candidates[order[0]]
    assert found.predicted == MODEL.predict(X).min()
    assert np.isnan(found.measured)
    verified = recommend_tiles(MODEL, 60, 60, 60, candidates=candidates, top=3)
    assert verified.tiles in [tuple(tile) for tile in verified.candidates.tolist()]
    assert verified.measured > 0
    assert recommend_tiles(MODEL, 600, 60, 60, verify=False).extrapolating
    with_energy = GemmModel(5, rng=0).fit(TABLE)
    for_energy = recommend_tiles(with_energy, 60, 60, 60, candidates=candidates, objective="energy", verify=False)
    assert for_energy.predicted == with_energy.predict(X)[:, 2].min()
    with pytest.raises(ValueError, match="objective must be one that the model was fitted to"):
        recommend_tiles(MODEL, 60, 60, 60, objective="energy")


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: MODEL.predict(NEW[:, :5]), "X must have 6 columns"),
        (lambda: MODEL.predict(-NEW), "X must have positive sizes"),
        (lambda: GemmModel().fit(SIZES), "Y must be given"),
        (lambda: GemmModel().fit(SIZES, SECONDS[:5]), "Y must have shape"),
        (lambda: GemmModel(target="log_time_per_flop").fit(SIZES, -SECONDS), "Y must be one target, positive"),
        (lambda: GemmModel(max_depth="deep").fit(SIZES, SECONDS), "max_depth must be one of"),
        (lambda: recommend_tiles("model", 1, 1, 1), "model must be a GemmModel"),
    ],
)
def test_refusals(act, message):
    with pytest.raises((ValueError, TypeError), match=message):
        act()
