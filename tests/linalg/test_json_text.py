"""Strict JSON: what Python's parser takes, less NaN, Infinity, overflow and double keys, at any depth."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ritz.linalg.json_text import _parse_deep, parse_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(value=VALUES, indent=st.sampled_from([None, 2]), ascii_=st.booleans())
def test_both_parsers_give_back_what_was_written(value, indent, ascii_):
    text = f" {json.dumps(value, indent=indent, ensure_ascii=ascii_)}\n"
    assert parse_json(text) == _parse_deep(text) == value


BAD = [
    "",
    "[",
    "]",
    "{",
    '{"a"',
    '{"a":',
    '{"a":1',
    '{"a":1,}',
    "[1,]",
    "[1 2]",
    "tru",
    "1 2",
    "01",
    "-",
    "'a'",
    '"a',
    "[NaN]",
    "Infinity",
    "-Infinity",
    "1e999",
]
BAD += ['{"a":1,"b":2,"a":3}', '[{"a":{},"a":{}}]', "{1:2}", '{"a" 1}', "[}", '{"a":1]', "+1", "1.", ".5", "nulll"]


@pytest.mark.parametrize("text", BAD)
@pytest.mark.parametrize("parse", [parse_json, _parse_deep])
def test_what_is_no_json_is_refused(text, parse):
    with pytest.raises(ValueError):
        parse(text)


@pytest.mark.parametrize("depth", [1000, 4000])
def test_depth_is_no_matter(depth):
    value = parse_json('{"a":[' * depth + "1" + "]}" * depth)
    for _ in range(depth):
        value = value["a"][0]
    assert value == 1
    with pytest.raises(ValueError, match="comes twice"):
        parse_json("[" * depth + '{"a":1,"a":1}' + "]" * depth)
