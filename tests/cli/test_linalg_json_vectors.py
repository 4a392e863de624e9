"""`ritz linalg json-vectors` and `json-search`: the nearest record is found, or one sentence says why not."""

import json

import numpy as np
import pytest
from cli.command import ritz

from ritz.linalg import JSONVectorizer

RECORDS = [{"name": name, "age": age, "tags": ["x", name]} for name, age in (("Ann", 31), ("Bob", 64), ("Eve", 20))]


@pytest.fixture
def vectors(capsys, tmp_path):
    path, out = tmp_path / "records.jsonl", tmp_path / "vectors.npz"
    path.write_text("\n".join(json.dumps(record) for record in RECORDS) + "\n\n")
    code, text, err = ritz(capsys, "linalg", "json-vectors", path, out, "-d", 512, "--strings", "trigrams", "--json")
    assert code == 0, err
    assert json.loads(text)["records"] == 3
    return out


def test_vectors_are_those_of_the_vectorizer(vectors):
    expected = JSONVectorizer(512, strings="trigrams", normalize="unit").fit_transform(RECORDS)
    np.testing.assert_array_equal(np.load(vectors)["vectors"], expected)


def test_a_query_in_other_order_with_a_typo_finds_its_record(capsys, tmp_path, vectors):
    query = tmp_path / "query.json"
    query.write_text('{"age": 63, "name": "Bobb"}')
    code, text, _ = ritz(capsys, "linalg", "json-search", vectors, query, "-k", 2, "--json")
    assert code == 0
    found = json.loads(text)
    assert len(found) == 2
    assert found[0]["value"] == RECORDS[1]
    code, text, _ = ritz(capsys, "linalg", "json-search", vectors, query)
    assert code == 0
    assert "Bob" in text


def test_an_array_of_records_is_read_too(capsys, tmp_path):
    (tmp_path / "records.json").write_text(json.dumps(RECORDS))
    assert ritz(capsys, "linalg", "json-vectors", tmp_path / "records.json", tmp_path / "v.npz")[0] == 0


def test_bad_input_is_one_sentence_and_code_2(capsys, tmp_path, vectors):
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"a": 1}\n{"a": 1, "a": 2}\n')
    code, _, err = ritz(capsys, "linalg", "json-vectors", bad, tmp_path / "v.npz")
    assert code == 2
    assert "X[1] must be JSON: the key 'a' comes twice" in err
    code, _, err = ritz(capsys, "linalg", "json-vectors", bad, tmp_path / "v.csv")
    assert code == 2
    assert "out must end in .npz" in err
    np.savez(tmp_path / "other.npz", a=np.ones(3))
    (tmp_path / "query.json").write_text("{}")
    code, _, err = ritz(capsys, "linalg", "json-search", tmp_path / "other.npz", tmp_path / "query.json")
    assert code == 2
    assert "is no file that `ritz linalg json-vectors` wrote" in err
    (tmp_path / "nan.json").write_text('{"a": NaN}')
    code, _, err = ritz(capsys, "linalg", "json-search", vectors, tmp_path / "nan.json")
    assert code == 2
    assert "NaN is no JSON number" in err
