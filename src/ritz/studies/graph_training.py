"""How the studies train graph networks, on nodes and on whole graphs: the best state by validation is what is tested."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F
from torch_geometric.data import Batch, Data

from ritz.studies.training import fit, minibatches


class Accuracies(NamedTuple):
    """The shares of right answers of the state with the least validation loss, and the epoch it comes from."""

    validation: float
    test: float
    epoch: int


def fit_node_classifier(
    model: torch.nn.Module,
    forward: Callable[[], torch.Tensor],
    y: torch.Tensor,
    split: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    *,
    epochs: int = 200,
    patience: int = 100,
    learning_rate: float = 0.01,
    weight_decay: float = 5e-4,
) -> Accuracies:
    """Train on the first mask of `split`, take the state with the least loss on the second, and test it on the third.

    Parameters
    ----------
    model : Module
        Holds the parameters.
    forward : callable
        Returns the logits (n, classes) of all nodes.
    y : LongTensor (n,)
        Classes.
    split : three bool tensors (n,)
        Train, validation, test.
    epochs, patience : int
        Training ends after `epochs`, or `patience` epochs without a better validation loss.
    """
    train, validation, test = split
    least, best = np.inf, Accuracies(0.0, 0.0, 0)

    def loss(_epoch: int) -> torch.Tensor:
        model.train()
        return F.cross_entropy(forward()[train], y[train])

    def check(epoch: int) -> None:
        nonlocal least, best
        model.eval()
        with torch.no_grad():
            logits = forward()
        value = F.cross_entropy(logits[validation], y[validation]).item()
        if value < least:
            right = (logits.argmax(-1) == y).float()
            least, best = value, Accuracies(right[validation].mean().item(), right[test].mean().item(), epoch)

    def patient() -> Iterator[int]:
        for epoch in range(epochs):
            if epoch - best.epoch > patience:
                return
            yield epoch

    fit(torch.optim.Adam(model.parameters(), lr=learning_rate, weight_decay=weight_decay), loss, patient(), after_step=check)
    return best


def fit_graph_model(
    model: torch.nn.Module,
    graphs: Sequence[Data],
    train: np.ndarray,
    validation: np.ndarray,
    *,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = F.cross_entropy,
    epochs: int = 50,
    batch_size: int = 32,
    learning_rate: float = 1e-3,
    weight_decay: float = 1e-4,
    clip_norm: float | None = None,
    seed: int = 0,
) -> torch.nn.Module:
    """Train ``model(batch)`` on graphs with a target ``y`` and return it in the state with the least validation loss.

    Parameters
    ----------
    model : Module
        Maps a PyG batch to outputs (B, ...).
    graphs : sequence of Data
        Their targets stand in ``y``.
    train, validation : ndarray of int
        Numbers of the graphs to train on and to choose by.
    loss : callable
        Of outputs and targets, both (B, ...).
    """
    batches = minibatches(len(train), min(batch_size, len(train)), torch.Generator().manual_seed(seed))
    steps_per_epoch = max(1, len(train) // batch_size)
    least, best = np.inf, copy.deepcopy(model.state_dict())

    def batch_loss(_step: int) -> torch.Tensor:
        model.train()
        batch = Batch.from_data_list([graphs[train[i]] for i in next(batches)])
        return loss(model(batch), batch.y)

    def check(step: int) -> None:
        nonlocal least, best
        if (step + 1) % steps_per_epoch == 0:
            value = loss(*graph_outputs(model, graphs, validation)).item()
            if value < least:
                least, best = value, copy.deepcopy(model.state_dict())

    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, weight_decay=weight_decay)
    fit(optimizer, batch_loss, range(epochs * steps_per_epoch), clip_norm=clip_norm, after_step=check)
    model.load_state_dict(best)
    return model.eval()


def fit_graph_regression(
    model: torch.nn.Module,
    graphs: Sequence[Data],
    *,
    epochs: int,
    batch_size: int = 63,
    learning_rate: float = 5e-3,
    clip_norm: float | None = None,
    seed: int = 0,
) -> torch.nn.Module:
    """Train ``model(batch)`` to the targets ``y`` of graphs in mean absolute error, at a learning rate that rises and falls once."""
    batches = minibatches(len(graphs), batch_size, torch.Generator().manual_seed(seed))
    steps = epochs * (len(graphs) // batch_size)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=learning_rate, total_steps=steps + 1)

    def loss(_step: int) -> torch.Tensor:
        batch = Batch.from_data_list([graphs[i] for i in next(batches)])
        return F.l1_loss(model.train()(batch), batch.y)

    fit(optimizer, loss, range(steps), scheduler=scheduler, clip_norm=clip_norm)
    return model.eval()


def graph_outputs(model: torch.nn.Module, graphs: Sequence[Data], numbers: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the model's outputs on the graphs with these numbers, and their targets, in evaluation mode."""
    model.eval()
    parts = [Batch.from_data_list([graphs[i] for i in part]) for part in np.array_split(numbers, -(-len(numbers) // 128))]
    with torch.no_grad():
        return torch.cat([model(batch) for batch in parts]), torch.cat([batch.y for batch in parts])


def graph_accuracy(model: torch.nn.Module, graphs: Sequence[Data], numbers: np.ndarray) -> float:
    """Return the share of graphs whose largest output is that of their class."""
    outputs, y = graph_outputs(model, graphs, numbers)
    return (outputs.argmax(-1) == y).float().mean().item()


def fold_splits(folds: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return (train, validation, test) for each fold: fold i is tested, the one before it validates, the others train."""
    tests = [test for _, test in folds]
    return [(np.setdiff1d(train, tests[i - 1]), tests[i - 1], test) for i, (train, test) in enumerate(folds)]
