"""Tasks and scores: cases made by hand, references that score 1, reproducible instances, and the released data."""

import json

import pytest
from specimens import Specimen

from ritz.diffusion import generate_task, run_benchmark, score, tasks
from ritz.studies.data import MissingData, real_file

LINE = ["Amy Kim", "Sean Reed", "Bob Ray"]
TEXT = '["Amy Kim", "Sean Reed", "Bob Ray"]'
FREE = {"input": LINE}
WITH = {"input": LINE, "word": "Zoe Fox"}
SQUARE = {"symbols": ["A", "B", "C", "D"]}
GOOD_SQUARE = "A,B,C,D\nB,A,D,C\nC,D,A,B\nD,C,B,A"

CASES = [
    ("waiting_line/copy", TEXT, TEXT, 1),
    ("waiting_line/copy", "", TEXT, 0),
    ("waiting_line/copy", "[]", TEXT, 0),
    ("waiting_line/copy", '["Amy Kim", "Sean Reed", "Bob Ray"', TEXT, 0),
    ("waiting_line/copy", '"Amy Kim", "Sean Reed", "Bob Ray"]', TEXT, 0),
    ("waiting_line/copy", "[Amy Kim,Sean Reed,Bob Ray]", TEXT, 1),
    ("waiting_line/copy", "['Amy Kim' ,  'Sean Reed','Bob Ray' ]", TEXT, 1),
    ("waiting_line/copy", f"Sure! Here: {TEXT} Anything else?", TEXT, 1),
    ("waiting_line/copy", f'["Bob Ray"] no, {TEXT}', TEXT, 1),
    ("waiting_line/copy", f'{TEXT} or ["Bob Ray"]', TEXT, 0),
    ("waiting_line/copy", '["Amy Kim", "Bob Ray", "Sean Reed"]', TEXT, 0),
    ("waiting_line/copy", '["Amy  Kim", "Sean Reed", "Bob Ray"]', TEXT, 0),
    ("waiting_line/copy", '["amy kim", "Sean Reed", "Bob Ray"]', TEXT, 0),
    ("waiting_line/copy", '["Amy Kim", "Amy Kim", "Sean Reed", "Bob Ray"]', TEXT, 0),
    ("waiting_line/reverse", '["Bob Ray", "Sean Reed", "Amy Kim"]', '["Bob Ray", "Sean Reed", "Amy Kim"]', 1),
    ("waiting_line/sort", '["Amy Kim", "Bob Ray", "Sean Reed"]', '["Amy Kim", "Bob Ray", "Sean Reed"]', 1),
    ("waiting_line/shuffle", '["Sean Reed", "Amy Kim", "Bob Ray"]', FREE, 1),
    ("waiting_line/shuffle", TEXT, FREE, 0),
    ("waiting_line/shuffle", '["Sean Reed", "Sean Reed", "Bob Ray"]', FREE, 0),
    ("waiting_line/shuffle", '["Sean Reed", "Bob Ray"]', FREE, 0),
    ("waiting_line/shuffle", '["Sean Reed", "Amy Kim", "Bob Ray", "Amy Kim"]', FREE, 0),
    ("waiting_line/insert_random", '["Amy Kim", "Zoe Fox", "Sean Reed", "Bob Ray"]', WITH, 1),
    ("waiting_line/insert_random", '["Amy Kim", "Sean Reed", "Bob Ray", "Zoe Fox"]', WITH, 1),
    ("waiting_line/insert_random", TEXT, WITH, 0),
    ("waiting_line/insert_random", '["Zoe Fox", "Amy Kim", "Zoe Fox", "Sean Reed", "Bob Ray"]', WITH, 0),
    ("waiting_line/insert_random", '["Zoe Fox", "Sean Reed", "Amy Kim", "Bob Ray"]', WITH, 0),
    ("waiting_line/insert_random", '["Zoe Fox", "Amy Kim", "Sean Reed"]', WITH, 0),
    ("waiting_line/remove_random", '["Amy Kim", "Bob Ray"]', FREE, 1),
    ("waiting_line/remove_random", '["Bob Ray", "Amy Kim"]', FREE, 0),
    ("waiting_line/remove_random", TEXT, FREE, 0),
    ("waiting_line/remove_random", '["Amy Kim"]', FREE, 0),
    ("waiting_line/replace_random", '["Amy Kim", "Zoe Fox", "Bob Ray"]', WITH, 1),
    ("waiting_line/replace_random", '["Zoe Fox", "Zoe Fox", "Bob Ray"]', WITH, 0),
    ("waiting_line/replace_random", TEXT, WITH, 0),
    ("puzzle/latin_square_n4", GOOD_SQUARE, SQUARE, 1),
    ("puzzle/latin_square_n4", f"My square:\n{GOOD_SQUARE}\nDone, or not?", SQUARE, 1),
    ("puzzle/latin_square_n4", "A,B,C,D\nB,A,D,C\nC,D,A,B\nD,C,B,B", SQUARE, 0),
    ("puzzle/latin_square_n4", "A,B,C,D\nA,B,C,D\nC,D,A,B\nD,C,B,A", SQUARE, 0),
    ("puzzle/latin_square_n4", "A,B,C,D\nB,A,D,C", SQUARE, 0),
    ("puzzle/sudoku_n4", "1342\n2431\n4123\n3214", "1342\n2431\n4123\n3214", 1),
    ("puzzle/sudoku_n4", "1 3 4 2\n2 4 3 1\n4 1 2 3\n3 2 1 4\n", "1342\n2431\n4123\n3214", 1),
    ("puzzle/sudoku_n4", "1342\n2431\n4123", "1342\n2431\n4123\n3214", 0),
    ("words_to_sentence", "The dog chased a ball in the PARK.", {"words": ["dog", "park", "ball"]}, 1),
    ("words_to_sentence", "The dogs sleep.", {"words": ["dog", "park"]}, 0),
    ("words_to_sentence", "A park.", {"words": ["dog", "park"]}, 0.5),
]


@pytest.mark.parametrize(("name", "prediction", "reference", "expected"), CASES)
def test_scores_by_hand(name, prediction, reference, expected):
    assert score(name, prediction, reference) == expected


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        (TEXT, 1),
        ("[Amy Kim, Sean Reed, Bob Ray]", 0),
        ('["Amy Kim","Sean Reed","Bob Ray"]', 0),
        ("['Amy Kim', 'Sean Reed', 'Bob Ray']", 0),
        ('["Amy Kim",  "Sean Reed", "Bob Ray"]', 0),
        ("[]", 0),
    ],
)
def test_strict_scores_want_the_format(prediction, expected):
    assert score("waiting_line/copy", prediction, TEXT, strict=True) == expected


@pytest.mark.parametrize("name", tasks())
def test_references_score_one_and_prompts_hold_what_is_needed(name):
    for instance in generate_task(name, 24, 0):
        assert score(name, instance["reference"], instance["answer"]) == 1.0
        if name.startswith("waiting_line"):
            assert score(name, instance["reference"], instance["answer"], strict=True) == 1.0
        assert instance["prompt"].endswith("Answer:")
        for value in instance["input"].values():
            assert str(value) in instance["prompt"]


def test_instances_are_reproducible_and_differ():
    for name in tasks():
        assert generate_task(name, 6, 3) == generate_task(name, 6, 3)
        assert generate_task(name, 6, 3) != generate_task(name, 6, 4)


def test_sudokus_have_one_solution():
    for instance in generate_task("puzzle/sudoku_n4", 20, 0):
        puzzle, solution = instance["input"]["sudoku"].replace("\n", ""), instance["answer"].replace("\n", "")
        assert "0" in puzzle
        assert all(shown in ("0", entry) for shown, entry in zip(puzzle, solution))


def test_the_table_of_a_benchmark():
    def decoder(instance, strategy):
        return (instance["reference"] if strategy == "good" else "[]", 2, 8)

    rows = run_benchmark(decoder, {"good": "good", "bad": "bad"}, ["waiting_line/copy", "puzzle/sudoku_n4"], instances=3)
    assert [row["accuracy"] for row in rows] == [1.0, 0.0, 1.0, 0.0]
    assert all(row["tokens per step"] == 4.0 for row in rows)


def _records(file):
    try:
        path = real_file(f"parallelbench/{file}.jsonl")
    except MissingData as missing:
        pytest.skip(str(missing))
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("name", [*(name for name in tasks() if name.startswith("waiting_line")), "puzzle/latin_square_n4", "puzzle/sudoku_n4_12"])
def test_answers_of_the_released_data_score_one(name):
    for record in _records(name):
        answer = record["answer"]
        text = answer["example"] if isinstance(answer, dict) else answer
        assert score(name, text, answer) == 1.0


def test_the_released_operations_are_ours():
    for operation in ("copy", "reverse", "sort", "insert_index", "remove_index", "replace_index"):
        for record in _records(f"waiting_line/{operation}"):
            line, given = json.loads(record["input"]["context"]), record["input"]
            at, word = given.get("index"), given.get("word")
            expected = {
                "copy": lambda line=line: line,
                "reverse": lambda line=line: line[::-1],
                "sort": lambda line=line: sorted(line),
                "insert_index": lambda line=line, at=at, word=word: [*line[:at], word, *line[at:]],
                "remove_index": lambda line=line, at=at: [*line[:at], *line[at + 1 :]],
                "replace_index": lambda line=line, at=at, word=word: [*line[:at], word, *line[at + 1 :]],
            }[operation]()
            assert json.loads(record["answer"]) == expected


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: generate_task("waiting_line/juggle", 1), "name"),
        (lambda: generate_task("words_to_sentence", 0), "n must"),
        (lambda: score("waiting_line/juggle", "", ""), "name"),
    ],
)
def test_refusals(make, name):
    with pytest.raises(ValueError, match=name):
        make()


def test_wrong_types():
    with pytest.raises(TypeError, match="decoder"):
        run_benchmark(None, {"a": 1}, ["waiting_line/copy"])
    with pytest.raises(TypeError, match="strategies"):
        run_benchmark(len, {}, ["waiting_line/copy"])
    with pytest.raises(TypeError, match="names"):
        run_benchmark(len, {"a": 1}, "waiting_line/copy")


SPECIMENS = {
    "tasks": Specimen(tasks, dict),
    "generate_task": Specimen(generate_task, lambda: {"name": "waiting_line/copy", "n": 2, "rng": 0}, accepts={"rng": ("none",)}),
    "score": Specimen(
        lambda **arguments: score(reference=TEXT, **arguments),
        lambda: {"name": "waiting_line/copy", "prediction": TEXT, "strict": False},
        accepts={"prediction": ("unknown word",)},
    ),
    "run_benchmark": Specimen(
        lambda **arguments: run_benchmark(lambda instance, _: ("[]", 1, 1), {"a": None}, ["waiting_line/copy"], **arguments),
        lambda: {"instances": 2, "rng": 0, "strict": False},
        accepts={"rng": ("none",)},
    ),
}
