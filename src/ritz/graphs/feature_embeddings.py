"""Features of nodes and edges as vectors: types through a table, numbers through a linear map."""

from __future__ import annotations

import torch
from torch import nn

from ritz.core import integer


def feature_embedding(types: int | None, types_name: str, length: int | None, length_name: str, dim: int) -> nn.Module | None:
    """Return what maps features to vectors of length dim: a table of `types`, a linear map from `length` numbers, or None for none."""
    if types is not None and length is not None:
        raise ValueError(f"{types_name} and {length_name} must not both be given")
    if types is not None:
        return nn.Embedding(integer(types, types_name, at_least=1), dim)
    return None if length is None else nn.Linear(integer(length, length_name, at_least=1), dim)


def embedded_features(embed: nn.Module | None, features: torch.Tensor | None, count: int, name: str) -> torch.Tensor | None:
    """Embed the features of `count` nodes or edges; refuse those that are missing, not expected, or of another shape or type."""
    if (embed is None) != (features is None):
        raise ValueError(f"{name} must be given if and only if the network was built for it, got {'none' if features is None else 'some'}")
    if embed is None:
        return None
    if isinstance(embed, nn.Linear):
        if features.shape != (count, embed.in_features):
            raise ValueError(f"{name} must have shape ({count}, {embed.in_features}), got {tuple(features.shape)}")
        return embed(features)
    features = features.squeeze(-1) if features.dim() == 2 and features.shape[1] == 1 else features
    if features.shape != (count,) or features.dtype.is_floating_point:
        raise ValueError(f"{name} must hold one type for each of {count}, got {features.dtype} {tuple(features.shape)}")
    if features.numel() and not (int(features.min()) >= 0 and int(features.max()) < embed.num_embeddings):
        raise ValueError(f"{name} must hold types from 0 to {embed.num_embeddings - 1}, got {int(features.min())} to {int(features.max())}")
    return embed(features)
