"""Activation functions by PyG's names for them."""

from __future__ import annotations

from torch import nn

from ritz.core import optional_import

_resolver = optional_import("torch_geometric.nn.resolver", extra="graphs")


def activation_named(name: str, argument: str) -> nn.Module:
    """Return the activation of that name; `argument` is what to call it in a refusal."""
    if not isinstance(name, str):
        raise TypeError(f"{argument} must be the name of an activation, got {type(name).__name__}")
    try:
        return _resolver.activation_resolver(name)
    except ValueError as error:
        raise ValueError(f"{argument}: {error}") from error
