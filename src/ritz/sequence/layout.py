"""The layout of sequences in this room, (batch, length, channels), checked where they enter a layer."""

from __future__ import annotations

import torch


def sequence(x: torch.Tensor, channels: int, name: str = "x") -> torch.Tensor:
    """Return `x` if it is a real floating tensor of shape (batch, length, channels), none of them zero. Finiteness is not checked."""
    return _real_tensor(x, name, ("batch", "length", channels))


def sequence_item(x_t: torch.Tensor, channels: int, name: str = "x_t") -> torch.Tensor:
    """Return `x_t` if it is one time step of a sequence, a real floating tensor of shape (batch, channels)."""
    return _real_tensor(x_t, name, ("batch", channels))


def complex_state(state: torch.Tensor, shape: tuple[int, ...], name: str = "state") -> torch.Tensor:
    """Return `state` if it is a complex tensor of this shape."""
    if not isinstance(state, torch.Tensor) or not state.is_complex():
        raise TypeError(f"{name} must be a complex torch tensor, got {_describe(state)}")
    if tuple(state.shape) != shape:
        raise ValueError(f"{name} must have shape {shape}, got {tuple(state.shape)}")
    return state


def _real_tensor(x: torch.Tensor, name: str, axes: tuple[str | int, ...]) -> torch.Tensor:
    if not isinstance(x, torch.Tensor) or not x.is_floating_point():
        raise TypeError(f"{name} must be a real floating torch tensor, got {_describe(x)}")
    if x.ndim != len(axes) or x.shape[-1] != axes[-1] or 0 in x.shape:
        raise ValueError(f"{name} must have shape ({', '.join(map(str, axes))}) and not be empty, got {tuple(x.shape)}")
    return x


def _describe(value: object) -> str:
    return f"dtype {value.dtype}" if isinstance(value, torch.Tensor) else type(value).__name__
