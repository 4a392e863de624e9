"""JSON as vectors: similarity is the shared paths', order of keys is nothing, and what was put in is found again."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from sklearn.base import clone
from specimens import Specimen

from ritz.linalg import JSONVectorizer, OrthogonalFamily
from ritz.linalg.json_leaves import THRESHOLDS, NumberVectors
from ritz.linalg.json_paths import steps

RECORDS = [{"name": "Ann Lee", "age": 31, "labs": [{"value": 1.5}, {"value": 2.5}]}, {"name": "Bob", "age": 64, "labs": []}]
PLAIN = {"key_weight": 0.0, "type_weight": 0.0}
VECTOR = JSONVectorizer(64).transform(RECORDS)[0]
OPTIONS = {
    "n_features": 64, "matrices": "hadamard", "strings": "words", "numbers": "auto", "normalize": "none", "arrays": "sequence", "word_order": False,
    "key_weight": 0.25, "type_weight": 0.25, "identifiers": "auto", "seed": 0,
}  # fmt: skip
SPECIMENS = {
    "JSONVectorizer": Specimen(lambda **options: JSONVectorizer(**options).fit_transform(RECORDS), lambda: dict(OPTIONS)),
    "JSONVectorizer.unbind": Specimen(
        JSONVectorizer(64).unbind, lambda: {"vector": VECTOR.copy(), "path": "labs[1].value"}, accepts={"path": ("unknown word",)}
    ),
    "JSONVectorizer.lookup": Specimen(
        lambda **arguments: JSONVectorizer(64).lookup(candidates=["a", "b"], **arguments),
        lambda: {"vector": VECTOR.copy(), "k": 2, "path": "name"},
        accepts={"path": ("unknown word",)},
    ),
}  # fmt: skip


def cosine(x, y, **options):
    a, b = JSONVectorizer(**options).transform([x, y])
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_order_of_keys_is_nothing_to_the_last_bit():
    keys = [f"k{i}" for i in range(12)]
    record = {key: {"b": [i, str(i)], "a": i / 7} for i, key in enumerate(keys)}
    other = {key: dict(reversed(record[key].items())) for key in np.random.default_rng(0).permutation(keys)}
    for options in ({}, {"matrices": "householder"}, {"normalize": "sqrt", "strings": "trigrams"}):
        vectorizer = JSONVectorizer(256, **options)
        np.testing.assert_array_equal(vectorizer.transform([record]), vectorizer.transform([other]))
        np.testing.assert_array_equal(vectorizer.transform([other, record]), vectorizer.transform([json.dumps(record)] * 2))


def test_order_in_arrays_matters_unless_they_are_bags():
    first, second = ["a", "b"], ["b", "a"]
    assert cosine(first, second) < 0.6
    assert cosine({"x": first}, {"x": second}) < 0.6
    assert cosine(first, second, arrays="bag") > 1 - 1e-6
    assert cosine('"dog bites man"', '"man bites dog"') > 1 - 1e-6
    assert cosine('"dog bites man"', '"man bites dog"', word_order=True) < 0.6


def test_nesting_does_not_commute():
    assert cosine({"a": {"b": 1}}, {"b": {"a": 1}}, **PLAIN) < 0.3
    assert cosine({"a": {"a": 1}}, {"a": 1}, **PLAIN) < 0.3


def test_near_numbers_are_near_and_far_ones_far():
    for numbers in ("auto", "thermometer", "sincos", "quantile"):
        for ranges in (None, {"x": (0, 2)}):
            assert cosine({"x": 1}, {"x": 1.01}, numbers=numbers, number_ranges=ranges, **PLAIN) > 0.99
    for numbers in ("thermometer", "sincos"):
        assert cosine({"x": -9}, {"x": 99}, numbers=numbers, number_ranges={"x": (0, 2)}, **PLAIN) < 0.15


def test_a_thermometers_cosine_falls_linearly_and_an_angles_is_a_cosine():
    grid = np.linspace(0, 1, THRESHOLDS)
    gram = np.mean([x @ x.T for x in (NumberVectors(1024, seed)(grid, circle=False) for seed in range(20))], axis=0)
    distance = np.abs(grid[:, None] - grid)
    np.testing.assert_allclose(gram, 1 - distance * (THRESHOLDS - 1) / THRESHOLDS, atol=0.03)
    u = np.linspace(0, 1, 77)
    circle = NumberVectors(1024, 0)(u, circle=True)
    np.testing.assert_allclose(circle @ circle.T, np.cos(np.pi / 2 * (u[:, None] - u)), atol=1e-5)


def test_numbers_beyond_their_range_are_clamped_and_huge_ones_taken():
    options = {"number_ranges": {"x": (0, 2)}}
    assert cosine({"x": 2}, {"x": 10**400}, **options) > 1 - 1e-6
    assert cosine({"x": -1e300}, {"x": 0}, **options) > 1 - 1e-6
    assert cosine({"x": -(10**400)}, {"x": -(2**53)}) > 1 - 1e-6
    assert cosine({"x": 1e308}, {"x": -1e308}, number_ranges={"x": (-1e308, 1e308)}, **PLAIN) < 0.15
    fitted = JSONVectorizer(numbers="quantile").fit([{"x": value} for value in (3, 3, 3)])
    assert np.all(np.isfinite(fitted.transform([{"x": value} for value in (2, 3, 4)])))


def test_it_is_linear_in_its_weights():
    def vectors(weight):
        return JSONVectorizer(key_weight=weight, type_weight=weight).transform(RECORDS)

    np.testing.assert_allclose(vectors(1.0) - vectors(0.0), 2 * (vectors(0.5) - vectors(0.0)), atol=1e-5)


def test_a_record_is_the_sum_over_its_paths():
    family = OrthogonalFamily(256, seed=3)
    vectorizer = JSONVectorizer(256, seed=3, **PLAIN)
    a, b = vectorizer.transform(['"x"', '"y"'])
    (found,) = vectorizer.transform([{"p": {"q": ["x", "y"]}}])
    expected = family[".p"] @ (family[".q"] @ (family["[]"] @ a + family["[next]"] @ (family["[]"] @ b)))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    one, two = JSONVectorizer(256, normalize="sqrt", **PLAIN).transform([{"a": "x", "b": "y"}, {"a": "x"}])
    assert 0.8 < np.linalg.norm(one) / np.linalg.norm(two) < 1.2
    np.testing.assert_allclose(np.linalg.norm(JSONVectorizer(256, normalize="unit").transform(RECORDS), axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("matrices", ["hadamard", "haar", "householder"])
def test_inner_products_are_the_kernel_of_shared_paths(matrices):
    D = 256
    x = {"a": {"b": "w1", "c": "w2"}, "d": ["w3", "w4", "w5"], "e": "w6 w7", "f": None}
    y = {"a": {"b": "w1", "c": "w9"}, "d": ["w3", "w8", "w5", "w3"], "e": "w6 w9", "g": None}
    shared = 1 + 0 + 2 + 1  # a.b; d[0] and d[2]; one word of e
    products, norms = [], []
    for seed in range(60):
        u, v = JSONVectorizer(D, matrices=matrices, seed=seed, **PLAIN).transform([x, y]).astype(np.float64)
        products.append(u @ v)
        norms.append(np.linalg.norm(u) * np.linalg.norm(v))
    assert np.std(products) <= 3 / D**0.5 * np.mean(norms)
    assert abs(np.mean(products) - shared) <= 4 * np.std(products) / 60**0.5


def test_twenty_keys_come_back():
    words = [f"value{i}" for i in range(200)]
    for seed in range(20):
        chosen = np.random.default_rng(seed).choice(words, 20, replace=False).tolist()
        vectorizer = JSONVectorizer(1024, seed=seed)
        (vector,) = vectorizer.transform([{f"key{i}": word for i, word in enumerate(chosen)}])
        assert [vectorizer.lookup(vectorizer.unbind(vector, f"key{i}"), words, k=1)[0][0] for i in range(20)] == chosen


def test_sixteen_places_of_an_array_come_back():
    words, right = [f"word{i}" for i in range(200)], 0
    for seed in range(10):
        chosen = np.random.default_rng(seed).choice(words, 16, replace=False).tolist()
        vectorizer = JSONVectorizer(512, seed=seed)
        (vector,) = vectorizer.transform([{"list": chosen}])
        right += sum(vectorizer.lookup(vectorizer.unbind(vector, f"list[{i}]"), words, k=1)[0][0] == word for i, word in enumerate(chosen))
    assert right / 160 >= 0.95


def test_numbers_are_looked_up_in_the_range_of_their_path():
    vectorizer = JSONVectorizer(1024, number_ranges={"labs[].value": (0, 10)})
    (vector,) = vectorizer.transform([{"labs": [{"value": 2}, {"value": 7.5}]}])
    found = vectorizer.lookup(vectorizer.unbind(vector, "labs[1].value"), [0, 2, 5, 7.5, 10], k=3, path="labs[].value")
    assert found[0][0] == 7.5
    assert [cosine_ for _, cosine_ in found] == sorted((cosine_ for _, cosine_ in found), reverse=True)
    assert len(found) == 3


def test_paths_are_escaped_and_keys_are_any_text():
    keys = ["a.b", "c[0]", "back\\slash", "ключ", "", "\ud800", "[]", "[next]", "new\nline"]
    (vector,) = JSONVectorizer(1024).transform([{key: f"v{i}" for i, key in enumerate(keys)}])
    vectorizer, candidates = JSONVectorizer(1024), [f"v{i}" for i in range(len(keys))]
    for i, key in enumerate(keys):
        assert vectorizer.lookup(vectorizer.unbind(vector, (key,)), candidates, k=1)[0][0] == f"v{i}"
    np.testing.assert_array_equal(vectorizer.unbind(vector, r"a\.b"), vectorizer.unbind(vector, ["a.b"]))
    assert steps(r"[2].a\.b[0][11].back\\slash..x") == [2, "a.b", 0, 11, "back\\slash", "", "x"]
    for bad in ("a..[", "a]b", ".a", "a[x]", "a[1]b", "\\"):
        with pytest.raises(ValueError, match="path must be like"):
            vectorizer.unbind(vector, bad)
    with pytest.raises(ValueError, match="path must not go to place 1 of an array whose order"):
        JSONVectorizer(1024, arrays="bag").unbind(vector, "a[1]")


def test_types_are_told_apart_and_empty_things_are_something():
    values = ["1", 1, True, False, None, {}, [], "", -(10**9), [[]], [None], {"": None}]
    vectors = JSONVectorizer(1024, normalize="unit").transform([{"x": value} for value in values])
    assert np.all(np.abs(vectors @ vectors.T - np.eye(len(values)))[np.triu_indices(len(values), 1)] < 0.95)
    assert np.all(np.linalg.norm(JSONVectorizer(64, **PLAIN).transform([{}, [], '""', None]), axis=1) > 0.9)


def test_strings_by_words_trigrams_tokens_or_an_embedding():
    assert cosine('"Ann Lee"', '"lee, ANN"') > 1 - 1e-6
    assert cosine('"Ann Lee"', '"Ann Lew"', strings="token", **PLAIN) < 0.2
    assert cosine('"elizabeth"', '"elisabeth"', strings="trigrams", **PLAIN) > 0.5
    assert abs(cosine('"elizabeth"', '"elisabeth"', **PLAIN)) < 0.2

    def embed(texts):
        return np.array([[len(text), text.count("a"), 1.0] for text in texts])

    a, b = JSONVectorizer(64, strings=embed, **PLAIN).transform(['"banana"', '"ab"']).astype(np.float64)
    np.testing.assert_allclose([a @ a, a @ b], [36 + 9 + 1, 12 + 3 + 1], rtol=1e-5)
    with pytest.raises(ValueError, match="strings must return a row for each"):
        JSONVectorizer(64, strings=lambda texts: np.ones((1, 2))).transform(['"a"', '"b"'])


def cosine_of_ids(identifiers):
    fitted = JSONVectorizer(1024, identifiers=identifiers, **PLAIN).fit([{"user_id": i, "n": i} for i in range(100)])
    a, b = fitted.transform([{"user_id": 50}, {"user_id": 51}])
    return fitted, float(a @ b)


def test_identifiers_are_compared_for_equality():
    fitted, near = cosine_of_ids("auto")
    assert fitted.identifier_paths_ == {"user_id"}
    assert set(fitted.number_knots_) == {"n"}
    assert abs(near) < 0.2
    assert cosine_of_ids("never")[1] > 0.9
    assert JSONVectorizer().fit([{"user_id": 1}, {"user_id": 1}]).identifier_paths_ == frozenset()


def test_batches_and_single_records_agree(monkeypatch):
    records = [{"a": {"b": [i, str(i), {"c": None}]}, "d": "x" * (i % 3)} for i in range(40)]
    vectorizer = JSONVectorizer(128).fit(records)
    together = vectorizer.transform(records)
    monkeypatch.setattr("ritz.linalg.json_vectorizer.BATCH_ENTRIES", 128 * 9)
    np.testing.assert_array_equal(vectorizer.transform(iter(records)), together)
    np.testing.assert_array_equal(np.vstack([vectorizer.transform([record]) for record in records]), together)


def test_another_process_gives_the_same_bits():
    code = (
        "import sys, json; from ritz.linalg import JSONVectorizer as V; sys.stdout.buffer.write(V(128).transform(json.loads(sys.argv[1])).tobytes())"
    )
    environment = os.environ | {"PYTHONHASHSEED": "5"}
    found = subprocess.run([sys.executable, "-c", code, json.dumps(RECORDS)], capture_output=True, check=True, env=environment).stdout
    assert found == JSONVectorizer(128).transform(RECORDS).tobytes()


def test_depth_1000_is_no_matter():
    value = "x"
    for i in range(1000):
        value = {"a": value} if i % 2 else [value]
    vectorizer = JSONVectorizer(256, **PLAIN)
    (vector,) = vectorizer.transform([value])
    path = ["a", 0] * 500
    assert vectorizer.lookup(vectorizer.unbind(vector, path), ["x", "y"], k=1)[0][0] == "x"
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-4)
    np.testing.assert_array_equal(vectorizer.transform(['{"a":' * 1200 + "1" + "}" * 1200]).shape, (1, 256))
    own = []
    own.append(own)
    with pytest.raises(ValueError, match=r"X\[0\].* must nest at most .*contain itself"):
        vectorizer.transform([own])


@pytest.mark.parametrize(
    ("record", "error", "message"),
    [
        ({"a": [1, {"b": {1, 2}}]}, TypeError, r"X\[1\] at 'a\[1\].b' must be a JSON value .*, got set"),
        ({"a": {"x.y": float("nan")}}, ValueError, r"X\[1\] at 'a.x\\\\.y' must be a finite number, got nan"),
        ([float("inf")], ValueError, r"X\[1\] at '\[0\]' must be a finite number"),
        ({"a": {3: 1}}, TypeError, r"X\[1\] at 'a' must have text as keys, got 3"),
        (1j, TypeError, r"X\[1\] must be a JSON value"),
        (b"{}", TypeError, r"X\[1\] must be a JSON value .*, got bytes"),
        ('{"a": NaN}', ValueError, r"X\[1\] must be JSON: NaN is no JSON number"),
        ('{"a": 1, "a": 2}', ValueError, r"X\[1\] must be JSON: the key 'a' comes twice"),
        ("{", ValueError, r"X\[1\] must be JSON"),
    ],
)
def test_what_is_no_json_is_refused_with_its_path(record, error, message):
    for method in ("fit", "transform"):
        with pytest.raises(error, match=message):
            getattr(JSONVectorizer(64), method)([{"a": 1}, record])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_features": 100}, "power of two"),
        ({"strings": 3}, "strings must be one of"),
        ({"number_ranges": 3}, "number_ranges must map"),
        ({"number_ranges": {"a": 3}}, "number_ranges must map"),
        ({"number_ranges": {"a": (2, 1)}}, "number_ranges"),
        ({"number_ranges": {"a": (0, float("nan"))}}, "number_ranges"),
        ({"key_weight": -1}, "key_weight"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        JSONVectorizer(**options).transform([{}])


def test_bad_arguments_are_refused_and_scikit_learn_can_clone():
    for X in ({}, "{}", 3, None, []):
        with pytest.raises((ValueError, TypeError), match="X must"):
            JSONVectorizer(64).transform(X)
    with pytest.raises(TypeError, match=r"candidates\[0\] at 'a' must be a JSON value"):
        JSONVectorizer(64).lookup(VECTOR, [{"a": object()}])
    vectorizer = clone(JSONVectorizer(64, strings="trigrams", number_ranges={"age": (0, 99)}))
    assert vectorizer.fit_transform(RECORDS).dtype == np.float32
    assert vectorizer.number_knots_["age"].tolist() == [0, 99]
    assert vectorizer.get_feature_names_out()[-1] == "jsonvectorizer63"
