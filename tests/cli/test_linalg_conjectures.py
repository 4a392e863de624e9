"""`ritz linalg conjectures`: the formulas of e are printed, or one sentence says why not."""

import json

import pytest
from cli.command import ritz


def test_the_formulas_of_e(capsys):
    code, text, _ = ritz(capsys, "linalg", "conjectures", "e", "--degree", 1, "--limit", 2, "--periods", 2, 2, "--json")
    assert code == 0
    found = json.loads(text)
    assert len(found) == 13
    assert {"signs": [1, 1], "initial": [2, 6], "recurrence": [1, -2, 1]}.items() <= next(one for one in found if one["initial"] == [2, 6]).items()


def test_a_table_and_latex(capsys):
    code, text, _ = ritz(capsys, "linalg", "conjectures", "phi", "--limit", 1)
    assert code == 0
    assert "3 conjectures on phi" in text
    code, text, _ = ritz(capsys, "linalg", "conjectures", "tan(1)", "--limit", 1, "--latex")
    assert code == 0
    assert r"\tan{\left(1 \right)} = 1 + \cfrac{1}{1 + " in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["x"], "constant must be a constant"), (["1 +"], "constant: '1 +' is no expression"), (["e", "--prime", 8], "prime must be a prime")],
)
def test_bad_input_is_one_sentence_and_code_2(capsys, arguments, message):
    code, _, err = ritz(capsys, "linalg", "conjectures", *arguments)
    assert code == 2
    assert message in err
