"""Study of S4D: what the initial poles are worth, on digits read pixel by pixel and on two distant spikes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import nn

from ritz.sequence import S4DClassifier
from ritz.studies import Run, study
from ritz.studies.data.digits import Split
from ritz.studies.data.sequences import sequential_digits, spike_pairs
from ritz.studies.sequence.s4d_models import DilatedConvolutionClassifier, LSTMClassifier, of_size, parameter_count
from ritz.studies.training import fit, minibatches, warmup_cosine

MODELS = ("LegS", "Inv", "Lin", "Real", "Rand", "LSTM", "dilated convolution")
WARMUP = 20


@dataclass(frozen=True)
class Task:
    """A classification task, how long to train on it, and the learning rates that did best on seed 100, which no run reports."""

    name: str
    classes: int
    length: int
    data: Callable[[int], Split]
    batch: int
    steps: int
    prenorm: bool
    ssm_lr: float
    learning_rates: dict[str, float]


@study("s4d", minutes=4)
def s4d(run: Run) -> None:
    """The initial poles decide: LegS, Inv and Lin should be equally good and far above an LSTM, random or real ones worse at long range.

    Sequential digits (scikit-learn's, 256 steps) and the sign of the product of two spikes 400 steps apart (512 steps); two S4D layers of
    width 64 and state size 64, against an LSTM and a dilated convolution of the same number of parameters. The learning rate of each model
    is the best of three or more on a seed of its own, for digits on a held-out part of the training images.
    """
    digits, spikes = _tasks(run)
    digit_accuracy, spike_accuracy = _measure(run, digits), _measure(run, spikes)
    best_three = [digit_accuracy[init] for init in ("LegS", "Inv", "Lin")]
    spread, lead = max(best_three) - min(best_three), min(best_three) - digit_accuracy["LSTM"]
    run.claim(
        "S4D-LegS, -Inv and -Lin within 2 points of each other on sequential digits",
        baseline="each other",
        measured=spread,
        holds=spread <= 2,
        paper="S4D comparable to S4 in almost all settings, 85 % on average on Long Range Arena",
    )
    run.claim(
        "the least of them at least 3 points above an LSTM after the same epochs", baseline="LSTM of equal size", measured=lead, holds=lead >= 3
    )
    for init in ("Rand", "Real"):
        loss = spike_accuracy["Lin"] - spike_accuracy[init]
        run.claim(f"S4D-{init} worse than S4D-Lin on the spikes (points lost)", baseline="S4D-Lin", measured=loss, holds=loss > 0)
    run.note(
        "The spikes are 100 times as high as the noise, so that S4D-Lin learns them within the steps at each of the three learning rates; "
        "at half the height it leaves chance on some draws of the data only, which would compare luck."
    )


def _tasks(run: Run) -> tuple[Task, Task]:
    train, test = run.pick(smoke=(64, 16), default=(1600, 500), full=(6400, 2000))
    digits = Task(
        "sequential digits",
        classes=10,
        length=256,
        data=partial(_digits, test=run.pick(smoke=16, default=450)),
        batch=16,
        steps=run.pick(smoke=2, default=3 * (1347 // 16), full=20 * (1347 // 16)),
        prenorm=True,
        ssm_lr=1e-3,
        learning_rates={"LegS": 2e-2, "Inv": 2e-2, "Lin": 4e-2, "Real": 4e-2, "Rand": 2e-2, "LSTM": 2e-2, "dilated convolution": 2e-2},
    )
    spikes = Task(
        "two spikes",
        classes=2,
        length=512,
        data=partial(_spikes, train=train, test=test),
        batch=8,
        steps=run.pick(smoke=2, default=180, full=800),
        prenorm=False,
        ssm_lr=5e-3,
        learning_rates={"LegS": 1e-2, "Inv": 1e-2, "Lin": 1e-2, "Real": 1e-2, "Rand": 2e-2, "LSTM": 1e-2, "dilated convolution": 5e-3},
    )
    return digits, spikes


def _digits(seed: int, *, test: int) -> Split:
    split = sequential_digits(seed)
    return Split(split.x_train, split.y_train, split.x_test[:test], split.y_test[:test])


def _spikes(seed: int, *, train: int, test: int) -> Split:
    rng = np.random.default_rng(seed)
    return Split(*spike_pairs(train, rng), *spike_pairs(test, rng))


def _measure(run: Run, task: Task) -> dict[str, float]:
    """Train every model on every seed, report test accuracies in percent, and return their means."""
    seeds = run.seeds(2)
    jobs = [(seed, name) for seed in seeds for name in MODELS]
    results = {job: _train(run, task, *job) for job in run.progress(jobs, task.name)}
    mean = {name: float(np.mean([results[seed, name].accuracy for seed in seeds])) for name in MODELS}
    run.table(
        f"{task.name}: test accuracy (%)",
        [
            {"model": _label(name), "parameters": results[seeds[0], name].parameters, "learning rate": task.learning_rates[name], "mean": mean[name]}
            | {f"seed {seed}": results[seed, name].accuracy for seed in seeds}
            for name in MODELS
        ],
        note=f"{task.steps} steps of {task.batch} sequences; learning rates were chosen on seed 100",
    )
    run.figure(task.name.replace(" ", "_"), lambda axes: _draw_losses(axes, task, {name: results[seeds[0], name].losses for name in MODELS}))
    return mean


@dataclass(frozen=True)
class Trained:
    """Test accuracy in percent, training losses and number of parameters of one run."""

    accuracy: float
    losses: np.ndarray
    parameters: int


def _train(run: Run, task: Task, seed: int, name: str) -> Trained:
    x_train, y_train, x_test, y_test = (torch.from_numpy(part).to(run.device) for part in task.data(seed))
    torch.manual_seed(seed)
    model = _model(task, name).to(run.device)
    groups = model.param_groups(ssm_lr=task.ssm_lr) if isinstance(model, S4DClassifier) else model.parameters()
    optimizer = torch.optim.AdamW(groups, lr=task.learning_rates[name], weight_decay=0.01)
    batches = minibatches(len(x_train), task.batch, torch.Generator().manual_seed(seed))

    def loss(_: int) -> torch.Tensor:
        chosen = next(batches).to(run.device)
        return nn.functional.cross_entropy(model(x_train[chosen]), y_train[chosen])

    schedule = warmup_cosine(optimizer, task.steps, min(WARMUP, task.steps // 2))
    losses = fit(optimizer, loss, range(task.steps), scheduler=schedule, clip_norm=1.0 if name == "LSTM" else None)
    return Trained(_accuracy(model, x_test, y_test), losses, parameter_count(model))


def _model(task: Task, name: str) -> nn.Module:
    if name == "LSTM":
        return of_size(partial(LSTMClassifier, task.classes, length=task.length), parameter_count(_model(task, "Lin")))
    if name == "dilated convolution":
        build = partial(DilatedConvolutionClassifier, task.classes, length=task.length)
        return of_size(build, parameter_count(_model(task, "Lin")))
    return S4DClassifier(1, task.classes, d_model=64, n_layers=2, prenorm=task.prenorm, d_state=64, init=name.lower())


@torch.no_grad()
def _accuracy(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    model.eval()
    predicted = torch.cat([model(part).argmax(dim=1) for part in x.split(100)])
    return 100 * (predicted == y).double().mean().item()


def _draw_losses(axes, task: Task, losses: dict[str, np.ndarray]) -> None:
    for name, values in losses.items():
        window = max(1, len(values) // 20)
        axes.plot(np.convolve(values, np.ones(window) / window, mode="valid"), label=_label(name))
    axes.set(xlabel="step", ylabel="training loss (moving mean)", title=task.name)
    axes.legend(fontsize="small")


def _label(name: str) -> str:
    return name if name in ("LSTM", "dilated convolution") else f"S4D-{name}"
