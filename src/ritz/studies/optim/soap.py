"""SOAP against AdamW: an autoencoder of digits, both tuned over the same learning rates."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from ritz.optim import SOAP
from ritz.studies import Run, study
from ritz.studies.training import fit, minibatches, warmup_cosine

LEARNING_RATES = (1e-2, 2e-2, 4e-2)
BATCH = 512
WARM_UP = 40
Make = Callable[[list[nn.Parameter], float], torch.optim.Optimizer]


@study("soap", minutes=1.5)
def study_soap(run: Run) -> None:
    """SOAP reaches AdamW's loss in fewer steps, and keeps most of the gain when its basis is refreshed rarely (Vyas et al. 2025)."""
    steps = run.pick(smoke=20, default=400)
    rates = LEARNING_RATES[:1] if run.scale == "smoke" else LEARNING_RATES
    makers: dict[str, Make] = {"AdamW": _adamw, "SOAP": _soap(10)}
    jobs = [(name, rate, seed) for name in makers for rate in rates for seed in run.seeds(2)]
    tuned = [
        {"optimizer": name, "lr": rate, "seed": seed} | _train(run, makers[name], rate, steps, seed)
        for name, rate, seed in run.progress(jobs, "tuning")
    ]
    run.table(f"autoencoder of digits, {steps} steps", [{key: value for key, value in row.items() if key != "losses"} for row in tuned])
    best = {name: min(rates, key=lambda rate: _mean(tuned, optimizer=name, lr=rate)) for name in makers}
    loss = {name: _mean(tuned, optimizer=name, lr=best[name]) for name in makers}
    run.figure("loss", lambda axes: _draw(axes, tuned, best), caption="training loss at each optimizer's best learning rate, every seed")
    ratio = loss["SOAP"] / loss["AdamW"]
    run.claim(
        "SOAP's final error is at most 0.75 of AdamW's",
        baseline="AdamW, learning rate tuned alike",
        measured=ratio,
        holds=ratio <= 0.75,
        paper="over 40 % fewer iterations on 360M and 660M language models",
    )
    shorter = [
        _train(run, makers["SOAP"], best["SOAP"], round(0.7 * steps), seed)["error"] for seed in run.progress(run.seeds(2), "70 % of the steps")
    ]
    relative = float(np.mean(shorter)) / loss["AdamW"]
    run.claim(
        "SOAP with 70 % of the steps reaches AdamW's error: ratio at most 1",
        baseline="AdamW, learning rate tuned alike",
        measured=relative,
        holds=relative <= 1,
    )
    _refresh_rarely(run, best["SOAP"], steps)
    if run.scale == "full":
        _language_model(run)


def _refresh_rarely(run: Run, rate: float, steps: int) -> None:
    """How the error grows with the number of steps between refreshes: for SOAP, and for Shampoo's schedule, which freezes the second moment too.

    SOAP keeps the learning rate it was tuned to at 10; Shampoo's schedule takes its best at each frequency, smaller ones included.
    """
    jobs = [("SOAP", f, rate) for f in (1, 10, 100)] + [("frozen", f, r) for f in (10, 100) for r in (rate / 16, rate / 4, rate)]
    makers = {"SOAP": _soap, "frozen": _frozen}
    rows = [
        {"second moment": name, "frequency": f, "lr": r, "seed": seed, "error": _train(run, makers[name](f), r, steps, seed)["error"]}
        for (name, f, r), seed in run.progress(list(itertools.product(jobs, run.seeds(2))), "refreshing rarely")
    ]
    run.table("error by steps between refreshes", rows, note="-: diverged")
    best = {(name, f): _best(rows, name, f) for name, f, _ in jobs}
    run.figure("frequency", lambda axes: _draw_frequencies(axes, best), caption="error by steps between refreshes")
    near = abs(best["SOAP", 10] / best["SOAP", 1] - 1)
    run.claim("refreshing every 10 steps is within 15 % of every step", baseline="SOAP refreshed at every step", measured=near, holds=near <= 0.15)
    worse = best["SOAP", 100] / best["SOAP", 10]
    run.claim(
        "refreshing every 100 steps is worse than every 10: ratio above 1", baseline="SOAP refreshed every 10 steps", measured=worse, holds=worse > 1
    )
    gaps = [best["frozen", f] / best["SOAP", f] for f in (10, 100)]
    run.claim(
        "freezing the second moment as Shampoo does costs more the rarer the refresh: gap at 100 over gap at 10 above 1",
        baseline="second moment frozen between refreshes",
        measured=gaps[1] / gaps[0],
        holds=gaps[1] > gaps[0],
        paper="SOAP degrades more slowly with the frequency than Shampoo",
    )


def _best(rows: list[dict], name: str, frequency: int) -> float:
    """The mean error over the seeds at the best learning rate at which no seed diverged."""
    own = [row for row in rows if (row["second moment"], row["frequency"]) == (name, frequency)]
    errors = {rate: [row["error"] for row in own if row["lr"] == rate] for rate in {row["lr"] for row in own}}
    return min(float(np.mean(values)) for values in errors.values() if None not in values)


def _language_model(run: Run) -> None:
    """A byte-level language model of 85 million parameters on Python source, half a million bytes a batch: steps and seconds to AdamW's loss."""
    curves = {"AdamW": _language_model_curve(run, "AdamW", _adamw, 1e-3), "SOAP": _language_model_curve(run, "SOAP", _soap(10), 3e-3)}
    goal = curves["AdamW"][0][-1]
    rows = []
    for name, (losses, seconds) in curves.items():
        reached = int(np.argmax(losses <= goal)) if losses.min() <= goal else None
        rows.append({"optimizer": name, "final loss": losses[-1], "steps to AdamW's loss": reached, "seconds a step": seconds / len(losses)})
    run.table("language model of 85 million parameters", rows)


def _language_model_curve(run: Run, name: str, make: Make, rate: float, *, steps: int = 600, parts: int = 32) -> tuple[np.ndarray, float]:
    """Train with `parts` accumulated batches of 32 sequences of 512 bytes a step; the loss smoothed over ten steps, and the seconds taken."""
    from ritz.studies.byte_language_model import ByteLanguageModel, Shape, next_byte_loss, sample, training_text

    torch.manual_seed(run.seed)
    shape = Shape(blocks=12, width=768, heads=12, hidden=3072, context=512)
    model, text = ByteLanguageModel(shape).to(run.device), training_text()
    optimizer = make(list(model.parameters()), rate)
    started = time.perf_counter()

    def part_loss(seed: int) -> torch.Tensor:
        return next_byte_loss(model, sample(text, 32, shape.context + 1, seed, run.device)) / parts

    def loss(step: int) -> torch.Tensor:
        for part in range(parts - 1):
            part_loss(step * parts + part).backward()
        return part_loss(step * parts + parts - 1)

    losses = fit(optimizer, loss, run.progress(range(steps), f"language model, {name}"), scheduler=warmup_cosine(optimizer, steps, steps // 10))
    return np.convolve(losses * parts, np.ones(10) / 10, mode="valid"), time.perf_counter() - started


def _adamw(parameters: list[nn.Parameter], rate: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.95))


def _soap(frequency: int) -> Make:
    return lambda parameters, rate: SOAP(parameters, lr=rate, precondition_frequency=frequency)


def _frozen(frequency: int) -> Make:
    return lambda parameters, rate: FrozenSecondMoment(parameters, lr=rate, precondition_frequency=frequency)


class FrozenSecondMoment(SOAP):
    """Shampoo's schedule: after the warm-up, basis and second moment change together at refreshes and are frozen in between."""

    def _second_moment(self, stack, projected, beta2, count):
        current = super()._second_moment(stack, projected, beta2, count)
        return stack["held"] * (1 - beta2**count) if "held" in stack else current

    def _refresh(self, stack, modes, count, beta2):
        super()._refresh(stack, modes, count, beta2)
        if count >= WARM_UP:
            stack["held"] = stack["exp_avg_sq"] / (1 - beta2**count)


def _train(run: Run, make: Make, rate: float, steps: int, seed: int) -> dict[str, object]:
    """Train the autoencoder and return its mean squared error over all digits (None if it diverged), and the loss of every step."""
    torch.manual_seed(seed)
    images = torch.from_numpy((load_digits().data / 16).astype(np.float32)).to(run.device)
    widths = (64, 128, 32, 8, 32, 128, 64)
    layers = [layer for n, m in pairwise(widths) for layer in (nn.Linear(n, m), nn.GELU() if m not in (8, 64) else nn.Identity())]
    net = nn.Sequential(*layers).to(run.device)
    optimizer = make(list(net.parameters()), rate)
    batches = minibatches(len(images), BATCH, torch.Generator().manual_seed(seed))

    def loss(step: int) -> torch.Tensor:
        x = images[next(batches).to(run.device)]
        return (net(x) - x).square().mean()

    try:
        losses = fit(optimizer, loss, range(steps), scheduler=warmup_cosine(optimizer, steps, min(WARM_UP, steps // 2)))
    except ValueError as diverged:
        if "must be finite" not in str(diverged):
            raise
        return {"error": None, "losses": []}
    with torch.no_grad():
        return {"error": (net(images) - images).square().mean().item(), "losses": losses}


def _mean(rows: list[dict], **wanted: object) -> float:
    return float(np.mean([row["error"] for row in rows if all(row[key] == value for key, value in wanted.items())]))


def _draw(axes, rows: list[dict], best: dict[str, float]) -> None:
    for name, color in zip(best, ("#8a8f98", "#1f4e8c")):
        for i, row in enumerate(row for row in rows if row["optimizer"] == name and row["lr"] == best[name]):
            axes.plot(row["losses"], color=color, linewidth=1, label=f"{name}, lr {best[name]:g}" if i == 0 else None)
    axes.set(yscale="log", xlabel="step", ylabel="mean squared error of the batch")
    axes.legend()


def _draw_frequencies(axes, best: dict[tuple[str, int], float]) -> None:
    for name, label in {"SOAP": "SOAP", "frozen": "second moment frozen in between"}.items():
        points = [(f, error) for (other, f), error in best.items() if other == name]
        axes.plot(*zip(*points), marker="o", label=label)
    axes.set(xscale="log", yscale="log", xlabel="steps between refreshes", ylabel="mean squared error")
    axes.legend()
