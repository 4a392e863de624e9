"""What a sampler returns."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ritz.core import Result


@dataclass(frozen=True, eq=False, repr=False)
class Samples(Result):
    """The samples a sampler drew, and what they cost.

    Attributes
    ----------
    x : Tensor (batch, *shape)
        The state at the last time, in the frame y = x / alpha: near the data.
    nfe : int
        Number of denoiser calls, each on the whole batch.
    trajectory : Tensor (nodes, batch, *shape) or None
        The states at the nodes of the grid, the first one included, if they were asked for.

    Examples
    --------
    >>> Samples(torch.zeros(2, 3), nfe=10)
    Samples(x=float32[2, 3], nfe=10, trajectory=None)
    """

    x: torch.Tensor
    nfe: int
    trajectory: torch.Tensor | None = None
