"""Which weights stay: scores, and masks with exact counts.

Ties go to the lower index, so a mask depends on nothing but its scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral

import torch

from ritz.core import array, choice, integer, real


def magnitude_score(weight: torch.Tensor) -> torch.Tensor:
    """Return ``|w|``.

    Examples
    --------
    >>> magnitude_score(torch.tensor([-2.0, 1.0]))
    tensor([2., 1.])
    """
    return torch.as_tensor(array(weight, "weight")).detach().abs()


def activation_score(weight: torch.Tensor, second_moment: torch.Tensor) -> torch.Tensor:
    """Return ``|w_ij| sqrt(E x_j^2)``: the magnitude of what a weight adds to its output (Wanda, Sun et al. 2024, arXiv:2306.11695).

    Parameters
    ----------
    weight : Tensor (o, i)
        The weight.
    second_moment : Tensor (i,)
        ``E x_j^2`` of every input, see `InputStatistics.second_moment_diagonal`.

    Examples
    --------
    >>> activation_score(torch.tensor([[1.0, 1.0]]), torch.tensor([4.0, 0.25]))
    tensor([[2.0000, 0.5000]])
    """
    weight = torch.as_tensor(array(weight, "weight", ndim=2)).detach()
    second_moment = torch.as_tensor(array(second_moment, "second_moment", ndim=1))
    if len(second_moment) != weight.shape[1]:
        raise ValueError(f"second_moment must have one entry per column of weight, {weight.shape[1]}, got {len(second_moment)}")
    if (second_moment < 0).any():
        raise ValueError(f"second_moment must not be negative, got {float(second_moment.min()):.3}")
    return weight.abs() * second_moment.sqrt().to(weight)


def n_m_mask(score: torch.Tensor, n: int, m: int, dim: int = -1) -> torch.Tensor:
    """Return the mask that keeps the `n` highest scores of every `m` consecutive ones along `dim`.

    Parameters
    ----------
    score : Tensor
        Higher is kept; for a weight (out, in) the hardware's groups run along the input, the last dimension.
    n, m : int
        The pattern, e.g. 2 and 4.
    dim : int
        The dimension the groups lie in; `m` must divide its size.

    Returns
    -------
    Tensor of bool
        In the shape of `score`, exactly `n` True in each group.

    Examples
    --------
    >>> n_m_mask(torch.tensor([[3.0, 1.0, 2.0, 2.0]]), 2, 4)
    tensor([[ True, False,  True, False]])
    """
    score = torch.as_tensor(array(score, "score"))
    if score.ndim == 0:
        raise ValueError("score must have at least one dimension, got a scalar")
    m = integer(m, "m", at_least=1)
    n = integer(n, "n", at_least=0, at_most=m)
    dim = integer(dim, "dim", at_least=-score.ndim, at_most=score.ndim - 1)
    size = score.shape[dim]
    if size % m:
        raise ValueError(f"score must have a multiple of m = {m} entries in dimension {dim}, got {size}")
    groups = score.movedim(dim, -1).reshape(-1, m)
    return _highest(groups, n).reshape(score.movedim(dim, -1).shape).movedim(-1, dim).contiguous()


def topk_mask(scores: torch.Tensor | Mapping[str, torch.Tensor], keep: int | float, scope: str = "global"):
    """Return the mask that keeps the highest scores, with an exact count.

    Parameters
    ----------
    scores : Tensor or mapping from str to Tensor
        Higher is kept.
    keep : int or float
        How many, or which fraction (rounded), of what `scope` counts.
    scope : {"global", "layer", "row", "filter", "channel"}
        ``global``: entries of all tensors together; ``layer``: entries of each tensor; ``row``: entries of each slice along dimension 0;
        ``filter`` and ``channel``: whole slices along dimension 0 and 1, by the sum of their scores, in each tensor.

    Returns
    -------
    Tensor of bool, or dict of them
        As `scores`.

    Raises
    ------
    ValueError
        If `keep` is more than there is.

    Examples
    --------
    >>> topk_mask(torch.tensor([[3.0, 1.0], [2.0, 2.0]]), 0.5)
    tensor([[ True, False],
            [ True, False]])
    >>> topk_mask(torch.tensor([[3.0, 1.0], [2.0, 4.0]]), 1, "channel")
    tensor([[ True, False],
            [ True, False]])
    """
    choice(scope, "scope", ("global", "layer", "row", "filter", "channel"))
    if isinstance(scores, Mapping):
        tensors = {name: torch.as_tensor(array(score, f"scores['{name}']")) for name, score in scores.items()}
        return _global_masks(tensors, keep) if scope == "global" and tensors else {name: _mask(score, keep, scope) for name, score in tensors.items()}
    return _mask(torch.as_tensor(array(scores, "scores")), keep, "layer" if scope == "global" else scope)


def _mask(score: torch.Tensor, keep: int | float, scope: str) -> torch.Tensor:
    if scope == "layer":
        return _highest(score.reshape(1, -1), _count(keep, score.numel())).reshape(score.shape)
    least = 2 if scope == "channel" else 1
    if score.ndim < least:
        raise ValueError(f"scores must have at least {least} dimension(s) for the scope '{scope}', got shape {tuple(score.shape)}")
    if scope == "row":
        rows = score.reshape(score.shape[0], -1)
        return _highest(rows, _count(keep, rows.shape[1])).reshape(score.shape)
    dim = 0 if scope == "filter" else 1
    slices = score.movedim(dim, 0)
    sums = slices.reshape(len(slices), -1).sum(1)
    kept = _highest(sums[None], _count(keep, len(sums)))[0]
    return kept.reshape(-1, *[1] * (score.ndim - 1)).movedim(0, dim).expand(score.shape).contiguous()


def _global_masks(scores: Mapping[str, torch.Tensor], keep: int | float) -> dict[str, torch.Tensor]:
    joined = torch.cat([score.reshape(-1) for score in scores.values()])
    parts = _highest(joined[None], _count(keep, joined.numel()))[0].split([score.numel() for score in scores.values()])
    return {name: part.reshape(score.shape) for part, (name, score) in zip(parts, scores.items())}


def _count(keep: int | float, total: int) -> int:
    if isinstance(keep, Integral) and not isinstance(keep, bool):
        if integer(keep, "keep", at_least=0) > total:
            raise ValueError(f"keep must be at most {total}, as many as scores has to choose from, got {keep}")
        return int(keep)
    return round(real(keep, "keep", at_least=0, at_most=1) * total)


def _highest(rows: torch.Tensor, count: int) -> torch.Tensor:
    """Mark the `count` highest entries of each row; a stable sort settles ties by index."""
    order = rows.sort(dim=1, descending=True, stable=True).indices[:, :count]
    return torch.zeros(rows.shape, dtype=torch.bool, device=rows.device).scatter_(1, order, True)
