"""Tasks that people find trivial and whose answers hang together: where decoding in parallel shows.

Kang et al., "ParallelBench: Understanding the Trade-offs of Parallel Decoding in Diffusion LLMs", ICLR 2026, arXiv:2510.04767, sections 4 and 5.
Ten operations on a waiting line of names, latin squares, sudokus of size four, and words to be used in a sentence; each prompt has a worked
example.
An instance is a dictionary as in the released data: `input`, `answer`, `metadata`, and here also `prompt` and `reference`, an answer that scores 1.
(The released data sorts names by the whole string, first name first.)
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import product as cartesian_product

import numpy as np

from ritz.core import choice, flag, integer, random_generator

FIRST = (
    *("Aaron", "Alice", "Amy", "Anna", "Austin", "Billy", "Carol", "Charlotte", "David", "Donald", "Emily", "Eric", "Grace", "Henry", "James"),
    *("Jason", "Jerry", "Juan", "Karen", "Keith", "Kelly", "Kevin", "Kyle", "Maria", "Martin", "Michelle", "Patrick", "Robert", "Sarah", "Sean"),
)
LAST = (
    *("Adams", "Baker", "Bennett", "Carr", "Chavez", "Cooper", "Daniels", "Diaz", "Fisher", "Gomez", "Griffin", "Hayes", "Hughes", "Kim", "King"),
    *("Lewis", "Lopez", "Marshall", "Mitchell", "Morgan", "Nelson", "Owens", "Porter", "Reed", "Riley", "Romero", "Scott", "Tran", "Walsh", "Young"),
)
WORDS = ("ball", "bird", "boat", "book", "bridge", "cat", "cloud", "dog", "flower", "garden", "house", "lake", "park", "river", "street", "tree")
LENGTHS = (3, 4, 5, 6)
SIZE = 4

INSTRUCTIONS = {
    "copy": "Repeat the waiting line as it is.",
    "reverse": "Give the waiting line in reverse order.",
    "sort": "Sort the waiting line alphabetically.",
    "shuffle": "Give the waiting line in a random order that differs from the given one.",
    "insert_index": "Insert {word} at position {index} (counted from 0).",
    "insert_random": "Insert {word} at a random position.",
    "remove_index": "Remove the person at position {index} (counted from 0).",
    "remove_random": "Remove a random person.",
    "replace_index": "Replace the person at position {index} (counted from 0) by {word}.",
    "replace_random": "Replace a random person by {word}.",
}


def tasks() -> tuple[str, ...]:
    """Return the names of all tasks.

    Examples
    --------
    >>> len(tasks())
    13
    """
    return (*(f"waiting_line/{operation}" for operation in INSTRUCTIONS), "puzzle/latin_square_n4", "puzzle/sudoku_n4", "words_to_sentence")


def generate_task(name: str, n: int, rng: np.random.Generator | int | None = None) -> list[dict]:
    """Return n instances of a task; waiting lines of 3 to 6 people in turn.

    Parameters
    ----------
    name : str
        One of `tasks`.
    n : int
        Number of instances.
    rng : numpy.random.Generator, int or None
        Where the randomness comes from.

    Returns
    -------
    list of dict
        `prompt` (with one worked example), `input`, `answer` (what `score` wants), `reference` (text that scores 1), `metadata`.

    Raises
    ------
    TypeError, ValueError
        For an unknown task or a bad number.

    Examples
    --------
    >>> instance = generate_task("waiting_line/reverse", 1, 0)[0]
    >>> score("waiting_line/reverse", instance["reference"], instance["answer"])
    1.0
    """
    choice(name, "name", tasks())
    integer(n, "n", at_least=1)
    rng = random_generator(rng)
    make = _GENERATORS.get(name, _waiting_line)
    instances = []
    for i in range(n):
        example, instance = (make(name, LENGTHS[i % len(LENGTHS)], rng) for _ in range(2))
        question, worked = instance.pop("question"), example.pop("question")
        instance["prompt"] = f"{worked}\nAnswer: {example['reference']}\n\n{question}\nAnswer:"
        instances.append(instance)
    return instances


def score(name: str, prediction: str, reference: object, *, strict: bool = False) -> float:
    """Return 1 for a right answer, else 0; for words_to_sentence the share of the words that are there.

    Parameters
    ----------
    name : str
        One of `tasks`; the puzzles' names may end otherwise, as those of the released data do.
    prediction : str
        What the model said. A list is taken from the last "[" to the "]" after it; squares from its first valid rows.
    reference : object
        The `answer` of an instance.
    strict : bool
        Require items in double quotes, separated by a comma and one space.

    Raises
    ------
    TypeError, ValueError
        For an unknown task, or a prediction that is no text.

    Examples
    --------
    >>> score("waiting_line/copy", 'The line: ["Amy Kim", "Sean Reed"]', '["Amy Kim", "Sean Reed"]')
    1.0
    """
    known = {task.rpartition("_n4")[0] if task.startswith("puzzle") else task for task in tasks()}
    stem = next((task for task in known if isinstance(name, str) and (name == task or (task.startswith("puzzle") and name.startswith(task)))), None)
    if stem is None:
        choice(name, "name", tasks())
    if not isinstance(prediction, str):
        raise TypeError(f"prediction must be a string, got {type(prediction).__name__}")
    flag(strict, "strict")
    if stem == "words_to_sentence":
        return _share_of_words(prediction, reference["words"])
    if stem == "puzzle/latin_square":
        return float(_is_latin_square(_first_rows(prediction, SIZE), reference["symbols"]))
    if stem == "puzzle/sudoku":
        return float(_digit_rows(prediction) == str(reference).split())
    items = parse_list(prediction, strict=strict)
    return float(items is not None and _fits(stem.partition("/")[2], items, reference))


def parse_list(text: str, *, strict: bool = False) -> list[str] | None:
    """Return the items of the last bracketed list in a text, or None if there is none."""
    start = text.rfind("[")
    end = text.find("]", start + 1)
    if start < 0 or end < 0:
        return None
    inside = text[start + 1 : end]
    if strict:
        parts = inside.split(", ")
        quoted = all(len(part) >= 2 and part[0] == part[-1] == '"' and '"' not in part[1:-1] and "," not in part for part in parts)
        return [part[1:-1] for part in parts] if quoted else None
    if not inside.strip():
        return []
    return [part.strip().strip("\"'").strip() for part in inside.split(",")]


def run_benchmark(
    decoder: Callable[[dict, object], tuple[str, int, int]],
    strategies: Mapping[str, object],
    names: Sequence[str],
    *,
    instances: int = 20,
    rng: np.random.Generator | int | None = 0,
    strict: bool = False,
) -> list[dict]:
    """Decode the tasks with every strategy, and return a table of accuracies against tokens per step.

    Parameters
    ----------
    decoder : callable
        ``decoder(instance, strategy) -> (text, steps, tokens)``: the answer, the model calls it took, and how many tokens were decoded.
    strategies : mapping
        The strategies by the names they have in the table.
    names : sequence of str
        Tasks.
    instances : int
        Per task.
    rng : numpy.random.Generator, int or None
        For the instances, the same for all strategies.
    strict : bool
        As in `score`.

    Returns
    -------
    list of dict
        With `task`, `strategy`, `accuracy`, `steps` (mean) and `tokens per step`.

    Raises
    ------
    TypeError, ValueError
        For a bad argument.

    Examples
    --------
    >>> run_benchmark(lambda instance, _: (instance["reference"], 2, 8), {"cheat": None}, ["waiting_line/copy"])[0]["tokens per step"]
    4.0
    """
    if not callable(decoder):
        raise TypeError(f"decoder must be callable, got {type(decoder).__name__}")
    if not isinstance(strategies, Mapping) or not strategies:
        raise TypeError(f"strategies must be a mapping of one strategy or more, got {type(strategies).__name__}")
    if isinstance(names, str) or not len(names):
        raise TypeError(f"names must be a sequence of tasks, got {names!r:.60}")
    integer(instances, "instances", at_least=1)
    flag(strict, "strict")
    rng, rows = random_generator(rng), []
    for name in names:
        drawn = generate_task(name, instances, rng)
        for label, strategy in strategies.items():
            results = [decoder(instance, strategy) for instance in drawn]
            right = [score(name, text, instance["answer"], strict=strict) for (text, _, _), instance in zip(results, drawn)]
            steps, tokens = (sum(result[i] for result in results) for i in (1, 2))
            rows.append(
                {
                    "task": name,
                    "strategy": label,
                    "accuracy": float(np.mean(right)),
                    "steps": steps / len(drawn),
                    "tokens per step": tokens / max(steps, 1),
                }
            )
    return rows


def _waiting_line(name: str, length: int, rng: np.random.Generator) -> dict:
    operation = name.partition("/")[2]
    chosen = rng.permutation(len(FIRST) * len(LAST))[: length + 1]
    *line, word = (f"{FIRST[i // len(LAST)]} {LAST[i % len(LAST)]}" for i in chosen)
    index = int(rng.integers(length + (operation == "insert_index")))
    result = _operated(operation, line, word, index, rng)
    given: dict = {"context": json.dumps(line)}
    if operation.startswith(("insert", "replace")):
        given["word"] = word
    if operation.endswith("_index"):
        given["index"] = index
    free = operation.endswith("_random") or operation == "shuffle"
    reference = json.dumps(result)
    answer: object = {"input": line, "example": reference} if free else reference
    if free and "word" in given:
        answer["word"] = word
    question = f"Waiting line: {given['context']}\n{INSTRUCTIONS[operation].format(word=word, index=index)}"
    return {"question": question, "input": given, "answer": answer, "reference": reference, "metadata": {"length": length}}


def _operated(operation: str, line: list[str], word: str, index: int, rng: np.random.Generator) -> list[str]:
    if operation in ("copy", "reverse", "sort"):
        return {"copy": list, "reverse": lambda x: x[::-1], "sort": sorted}[operation](line)
    if operation == "shuffle":
        while True:
            result = [line[i] for i in rng.permutation(len(line))]
            if result != line:
                return result
    at = index if operation.endswith("_index") else int(rng.integers(len(line) + operation.startswith("insert")))
    if operation.startswith("insert"):
        return [*line[:at], word, *line[at:]]
    kept = [] if operation.startswith("remove") else [word]
    return [*line[:at], *kept, *line[at + 1 :]]


def _fits(operation: str, items: list[str], reference: object) -> bool:
    if not isinstance(reference, Mapping):
        return items == parse_list(str(reference))
    line = list(reference["input"])
    if operation == "shuffle":
        return Counter(items) == Counter(line) and items != line
    if operation == "insert_random":
        return any([*line[:i], reference["word"], *line[i:]] == items for i in range(len(line) + 1))
    if operation == "remove_random":
        return any([*line[:i], *line[i + 1 :]] == items for i in range(len(line)))
    return any([*line[:i], reference["word"], *line[i + 1 :]] == items for i in range(len(line)))


def _latin_square(_: str, __: int, rng: np.random.Generator) -> dict:
    symbols = [str(symbol) for symbol in rng.permutation(list("ABCDEFGHJKLMNPQRSTUVWXYZ123456789"))[:SIZE]]
    rows, columns = rng.permutation(SIZE), rng.permutation(SIZE)
    square = [[symbols[(rows[i] + columns[j]) % SIZE] for j in range(SIZE)] for i in range(SIZE)]
    reference = "\n".join(",".join(row) for row in square)
    question = f"Write a latin square of size {SIZE} with the symbols [{', '.join(symbols)}], rows as lines, entries separated by commas."
    answer = {"symbols": symbols, "example": reference}
    given = {"size": SIZE, "symbols": f"[{', '.join(symbols)}]"}
    return {"question": question, "input": given, "answer": answer, "reference": reference, "metadata": {"length": SIZE}}


def _sudoku(_: str, length: int, rng: np.random.Generator) -> dict:
    """Erase entries of a random solution as long as it stays the only one."""
    solutions = _all_sudokus()
    solution = solutions[int(rng.integers(len(solutions)))]
    shown = np.ones(SIZE * SIZE, dtype=bool)
    for cell in rng.permutation(SIZE * SIZE)[: 2 * length]:
        shown[cell] = False
        if int((solutions[:, shown] == solution[shown]).all(1).sum()) > 1:
            shown[cell] = True
    puzzle, reference = (_lines(np.where(kept, solution, 0)) for kept in (shown, True))
    question = f"Fill in the zeros of this sudoku with digits from 1 to 4:\n{puzzle}"
    return {
        "question": question,
        "input": {"sudoku": puzzle},
        "answer": reference,
        "reference": reference,
        "metadata": {"length": int(shown.sum())},
    }


def _all_sudokus() -> np.ndarray:
    """All 288 solved sudokus of size four, (288, 16)."""
    found = [[]]
    for cell in range(SIZE * SIZE):
        row, column = divmod(cell, SIZE)
        others = [
            other
            for other in range(cell)
            if other // SIZE == row or other % SIZE == column or (other // SIZE // 2, other % SIZE // 2) == (row // 2, column // 2)
        ]
        found = [[*grid, digit] for grid, digit in cartesian_product(found, range(1, SIZE + 1)) if all(grid[other] != digit for other in others)]
    return np.array(found)


def _lines(grid: np.ndarray) -> str:
    return "\n".join("".join(map(str, row)) for row in np.asarray(grid).reshape(SIZE, SIZE).tolist())


def _words_to_sentence(_: str, length: int, rng: np.random.Generator) -> dict:
    words = [WORDS[i] for i in rng.permutation(len(WORDS))[:length]]
    listed = f"{', '.join(words[:-1])}, and {words[-1]}"
    reference = f"I like the {', the '.join(words[:-1])} and the {words[-1]}."
    question = f"Write a sentence with the words {listed}."
    return {"question": question, "input": {"words": listed}, "answer": {"words": words}, "reference": reference, "metadata": {"length": length}}


_GENERATORS = {"puzzle/latin_square_n4": _latin_square, "puzzle/sudoku_n4": _sudoku, "words_to_sentence": _words_to_sentence}


def _share_of_words(text: str, words: Sequence[str]) -> float:
    letters = "".join(character.lower() if character.isalnum() else " " for character in text)
    present = set(letters.split())
    return sum(word.lower() in present for word in words) / len(words)


def _first_rows(text: str, size: int) -> list[list[str]]:
    rows = [[entry.strip() for entry in line.split(",")] for line in text.splitlines()]
    return [row for row in rows if len(row) == size and all(row)][:size]


def _is_latin_square(rows: list[list[str]], symbols: Sequence[str]) -> bool:
    wanted = set(symbols)
    return len(rows) == len(symbols) and all(set(group) == wanted for group in (*rows, *zip(*rows)))


def _digit_rows(text: str) -> list[str]:
    lines = ("".join(character for character in line if not character.isspace()) for line in text.splitlines())
    return [line for line in lines if len(line) == SIZE and line.isdigit()][:SIZE]
