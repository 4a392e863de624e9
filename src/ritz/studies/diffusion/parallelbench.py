"""Study: what decoding several tokens at once costs, for ideal models and for one small model trained on list tasks and one on latin squares."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import torch

from ritz.diffusion import (
    RADD,
    Factor,
    LeftToRight,
    RandomK,
    RunningConfidence,
    Threshold,
    TopK,
    list_task_accuracy,
    parallel_decode,
    score,
)
from ritz.studies.data import MissingData, real_file
from ritz.studies.registry import study
from ritz.studies.run import Run
from ritz.studies.training import fit, warmup_cosine

ITEMS, LONGEST, LENGTHS = 12, 6, (3, 4, 5, 6)
TASKS = ("copy", "reverse", "sort", "replace_index", "replace_random", "shuffle")
PAD, FIRST_TASK, FIRST_INDEX = ITEMS, ITEMS + 1, ITEMS + 1 + len(TASKS)
VOCABULARY = FIRST_INDEX + LONGEST
STRATEGIES = {
    "one token per step, random order": RandomK(k=1),
    "one token per step, left to right": LeftToRight(),
    "2 per step, random": RandomK(k=2),
    "one step": RandomK(k=LONGEST),
    "top-k in 3 steps": TopK(3),
    "top-k in 3 steps, margin": TopK(3, "margin"),
    "threshold 0.5": Threshold(0.5),
    "threshold 0.7": Threshold(0.7),
    "threshold 0.9": Threshold(0.9),
    "factor 1": Factor(1.0),
    "running confidence, 3 steps": RunningConfidence(3),
}


@study("parallelbench", minutes=5)
def parallelbench(run: Run) -> None:
    """Tasks that people find trivial fall apart when tokens that hang together are decoded in one step, and no strategy knows which do.

    Copying, sorting and the like need one step; shuffling and replacing a random item need one per token, by closed forms for ideal models and by a
    small trained model (Kang et al., ICLR 2026). The released test sets are scored with their own answers.
    """
    _ideal(run)
    _trained_lists(run)
    _latin_squares(run)
    _released_data(run)


def _ideal(run: Run) -> None:
    rows = [
        {"task": task, "n": n} | {f"{k} per step": list_task_accuracy(task, n, k) if k <= n else None for k in range(1, LONGEST + 1)}
        for task in ("copy", "replace_random", "shuffle")
        for n in LENGTHS
    ]
    run.table("ideal model: accuracy by items per step", rows)


def _trained_lists(run: Run) -> None:
    model = _list_model(run)
    instances = run.pick(smoke=20, default=300)
    rows, found = [], {}
    for task in run.progress(TASKS, "decoding"):
        for n in LENGTHS:
            tokens, answers = _batch(np.random.default_rng(1000 + run.seed), instances, task=task, n=n)
            prompt = tokens.masked_fill(answers, model.mask_id)
            for name, strategy in STRATEGIES.items():
                decoded = parallel_decode(model, prompt, strategy=strategy, temperature=1.0, generator=run.seed)
                right = np.mean([_right(task, before, after, n) for before, after in zip(tokens.tolist(), decoded.tokens.tolist())])
                found[task, n, name] = float(right), float(decoded.nfe.double().mean())
    for task in TASKS:
        for name in STRATEGIES:
            accuracy, steps = (float(np.mean([found[task, n, name][i] for n in LENGTHS])) for i in (0, 1))
            oracle = "1 step" if list_task_accuracy(task, 3, 3) == 1 else "n steps"
            rows.append(
                {
                    "task": task,
                    "strategy": name,
                    "accuracy": accuracy,
                    "steps": steps,
                    "tokens per step": float(np.mean(LENGTHS)) / steps,
                    "oracle": oracle,
                }
            )
    run.table(f"one trained model, {instances} lists each of 3 to 6 items, temperature 1", rows)
    _list_claims(run, found)
    run.figure("lists", lambda axes: _draw(axes, rows), caption="accuracy against tokens per step, by task")


def _list_claims(run: Run, found: dict) -> None:
    copied = min(found["copy", n, "one step"][0] for n in LENGTHS)
    paper = "dramatic losses under parallel decoding on tasks that people find trivial"
    run.claim("copy in one step is right at least 0.95 of the time (worst length)", measured=copied, holds=copied >= 0.95, paper=paper)
    for task, formula in (("shuffle", "n! / n^n"), ("replace_random", "(1 - 1/n)^(n - 1)")):
        gap = max(abs(found[task, n, "one step"][0] - list_task_accuracy(task, n, n)) for n in LENGTHS)
        run.claim(f"{task} in one step is within 0.1 of {formula} (worst length)", measured=gap, holds=gap <= 0.1, paper=paper)
        slow = min(found[task, n, "one token per step, random order"][0] for n in LENGTHS)
        run.claim(f"{task}, one token per step, is right at least 0.9 of the time (worst length)", measured=slow, holds=slow >= 0.9)


def _list_model(run: Run) -> RADD:
    """Trained on all tasks and lengths, with the answer's tokens masked at random."""
    torch.manual_seed(run.seed)
    model = RADD(VOCABULARY, hidden_size=64, blocks=2, heads=4, max_length=2 * LONGEST + 3)
    steps, generator, rng = run.pick(smoke=5, default=1500, full=20_000), torch.Generator().manual_seed(run.seed), np.random.default_rng(run.seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)

    def loss(_: int) -> torch.Tensor:
        tokens, answers = _batch(rng, 128)
        return _answer_loss(model, tokens, answers, generator)

    fit(optimizer, loss, run.progress(range(steps), "lists"), scheduler=warmup_cosine(optimizer, steps, steps // 10), clip_norm=1.0)
    return model.eval().requires_grad_(False)


def _answer_loss(model: RADD, tokens: torch.Tensor, answers: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """lambda-DCE on the answers, the prompt always shown; weights cut off at 20."""
    probability = torch.rand(len(tokens), 1, generator=generator)
    masked = answers & (torch.rand(tokens.shape, generator=generator) < probability)
    losses = torch.nn.functional.cross_entropy(model(tokens.masked_fill(masked, model.mask_id)).transpose(1, 2), tokens, reduction="none")
    return (torch.where(masked, losses, 0.0).sum(1) / probability[:, 0].clamp(min=0.05)).mean()


def _batch(rng: np.random.Generator, size: int, *, task: str | None = None, n: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Sequences [task, word, index, list, answer], padded, and where their answers are."""
    tokens = np.full((size, 2 * LONGEST + 3), PAD)
    for row in tokens:
        chosen = int(rng.integers(len(TASKS))) if task is None else TASKS.index(task)
        length = int(rng.choice(LENGTHS)) if n is None else n
        *items, word = rng.permutation(ITEMS)[: length + 1].tolist()
        at = int(rng.integers(length))
        row[0], row[1], row[2] = FIRST_TASK + chosen, word, FIRST_INDEX + at
        row[3 : 3 + length] = items
        row[3 + LONGEST : 3 + LONGEST + length] = _answer(TASKS[chosen], items, word, at, rng)
    tokens = torch.from_numpy(tokens)
    answers = tokens != PAD
    answers[:, : 3 + LONGEST] = False
    return tokens, answers


def _answer(task: str, items: list[int], word: int, at: int, rng: np.random.Generator) -> list[int]:
    if task == "replace_random":
        at = int(rng.integers(len(items)))
    return {
        "copy": lambda: items,
        "reverse": lambda: items[::-1],
        "sort": lambda: sorted(items),
        "shuffle": lambda: [items[i] for i in rng.permutation(len(items))],
        "replace_index": lambda: [*items[:at], word, *items[at + 1 :]],
        "replace_random": lambda: [*items[:at], word, *items[at + 1 :]],
    }[task]()


def _right(task: str, before: list[int], after: list[int], n: int) -> bool:
    items, word, answer = before[3 : 3 + n], before[1], after[3 + LONGEST : 3 + LONGEST + n]
    if task == "shuffle":
        return Counter(answer) == Counter(items)
    if task == "replace_random":
        return sum(a != b for a, b in zip(answer, items)) == 1 and word in answer
    return answer == before[3 + LONGEST : 3 + LONGEST + n]


def _latin_squares(run: Run) -> None:
    torch.manual_seed(run.seed)
    model = RADD(4, hidden_size=64, blocks=2, heads=4, max_length=16)
    rng, steps, generator = np.random.default_rng(run.seed), run.pick(smoke=5, default=400), torch.Generator().manual_seed(run.seed)
    optimizer, everywhere = torch.optim.AdamW(model.parameters(), lr=3e-3), torch.ones(128, 16, dtype=torch.bool)
    squares = _all_latin_squares()

    def loss(_: int) -> torch.Tensor:
        return _answer_loss(model, squares[rng.integers(len(squares), size=128)], everywhere, generator)

    fit(optimizer, loss, run.progress(range(steps), "latin squares"), scheduler=warmup_cosine(optimizer, steps, steps // 10), clip_norm=1.0)
    model.eval().requires_grad_(False)
    rows = []
    for name, strategy in ({"4 per step, random": RandomK(k=4)} | STRATEGIES | {"one step": RandomK(k=16)}).items():
        masked = torch.full((run.pick(smoke=20, default=400), 16), model.mask_id)
        decoded = parallel_decode(model, masked, strategy=strategy, temperature=1.0, generator=run.seed)
        valid = np.mean([_is_latin(row) for row in decoded.tokens.reshape(-1, 4, 4).tolist()])
        steps_taken = float(decoded.nfe.double().mean())
        rows.append({"strategy": name, "accuracy": float(valid), "steps": steps_taken, "tokens per step": 16 / steps_taken})
    run.table("latin squares of size 4", rows, note=f"all {len(squares)} squares, seen in training: the question is only whether entries agree")


def _all_latin_squares() -> torch.Tensor:
    found = [[]]
    for cell in range(16):
        row, column = divmod(cell, 4)
        used = [other for other in range(cell) if other // 4 == row or other % 4 == column]
        found = [[*grid, symbol] for grid in found for symbol in range(4) if all(grid[other] != symbol for other in used)]
    return torch.tensor(found)


def _is_latin(square: list[list[int]]) -> bool:
    return all(len(set(group)) == 4 for group in (*square, *zip(*square)))


def _released_data(run: Run) -> None:
    """The answers of the released test sets, scored, and how often their instances would be right by copying the input."""
    rows = []
    for task in (
        "copy",
        "reverse",
        "sort",
        "shuffle",
        "insert_index",
        "insert_random",
        "remove_index",
        "remove_random",
        "replace_index",
        "replace_random",
    ):
        try:
            path = real_file(f"parallelbench/waiting_line/{task}.jsonl")
        except MissingData as missing:
            run.note(str(missing))
            return
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        name = f"waiting_line/{task}"
        texts = [record["answer"]["example"] if isinstance(record["answer"], dict) else record["answer"] for record in records]
        answered = np.mean([score(name, text, record["answer"]) for text, record in zip(texts, records)])
        copied = np.mean([score(name, record["input"]["context"], record["answer"]) for record in records])
        rows.append({"task": task, "instances": len(records), "own answers": float(answered), "input copied": float(copied)})
    run.table("released test sets: scores of their own answers", rows)


def _draw(axes, rows: list[dict]) -> None:
    for task in TASKS:
        points = sorted((row["tokens per step"], row["accuracy"]) for row in rows if row["task"] == task)
        axes.plot(*zip(*points), marker="o", label=task)
    axes.set(xlabel="tokens per step", ylabel="accuracy")
    axes.legend(fontsize="small")
