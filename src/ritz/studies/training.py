"""The one training loop of all studies: small networks, seconds to minutes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch


def fit(
    optimizer: torch.optim.Optimizer,
    loss: Callable[[int], torch.Tensor],
    steps: Iterable[int],
    *,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
    clip_norm: float | None = None,
    after_step: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Take one optimizer step per element of `steps` on `loss(step)` and return the losses seen.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Holds the parameters.
    loss : callable
        Maps the step to a scalar tensor (it draws its own batch).
    steps : iterable of int
        Usually ``run.progress(range(n), "training")``.
    scheduler : optional
        Stepped once after each optimizer step.
    clip_norm : float, optional
        Gradients are scaled down to this global norm.
    after_step : callable, optional
        Called with the step after each update.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    losses = []
    for step in steps:
        optimizer.zero_grad(set_to_none=True)
        value = loss(step)
        value.backward()
        if clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(parameters, clip_norm)
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        losses.append(value.detach())
        if after_step is not None:
            after_step(step)
    return torch.stack(losses).cpu().numpy() if losses else np.zeros(0)


def minibatches(size: int, batch: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Yield index tensors forever: shuffled passes over `size` examples, the incomplete last batch of each pass dropped."""
    while True:
        yield from torch.randperm(size, generator=generator).split(batch)[: max(1, size // batch)]


def warmup_cosine(optimizer: torch.optim.Optimizer, steps: int, warmup: int = 0) -> torch.optim.lr_scheduler.LambdaLR:
    """Return a schedule that rises linearly for `warmup` steps and falls as a half cosine to zero at `steps`."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
