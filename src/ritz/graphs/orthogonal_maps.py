"""Orthogonal matrices from d (d - 1) / 2 numbers each, by four parametrizations."""

from __future__ import annotations

import math

import torch

PARAMETRIZATIONS = ("cayley", "householder", "matrix_exp", "euler")


def orthogonal_matrices(parameters: torch.Tensor, d: int, parametrization: str = "cayley") -> torch.Tensor:
    """Return orthogonal matrices (m, d, d).

    Parameters
    ----------
    parameters : Tensor (m, d (d - 1) / 2)
        Entries below the diagonal, row by row, for the first three; angles in turns for "euler".
    d : int
        2 or more; "euler" knows 2 and 3.
    parametrization : {"cayley", "householder", "matrix_exp", "euler"}
        With S = lower - lower^T: (I - S/2)^-1 (I + S/2); the product of reflections in the columns of I + lower; exp(S); rotations about axes.
        All but "householder" give determinant 1, that gives (-1)^d.
    """
    if parametrization == "euler":
        angles = 2 * math.pi * parameters
        return _plane_rotations(angles[:, 0]) if d == 2 else _space_rotations(*angles.unbind(1))
    row, column = torch.tril_indices(d, d, offset=-1, device=parameters.device)
    every = torch.arange(len(parameters), device=parameters.device)[:, None]
    lower = parameters.new_zeros(len(parameters), d, d).index_put((every, row, column), parameters)
    if parametrization == "householder":
        return _reflections(lower)
    skew = lower - lower.transpose(1, 2)
    return torch.matrix_exp(skew) if parametrization == "matrix_exp" else _cayley(skew)


def _cayley(skew: torch.Tensor) -> torch.Tensor:
    """By a closed form for d = 2 and 3, where S^3 = -|s|^2 S, and by a solve beyond."""
    d = skew.shape[-1]
    identity = torch.eye(d, dtype=skew.dtype, device=skew.device)
    if d > 3:
        return torch.linalg.solve(identity - skew / 2, identity + skew / 2)
    square = skew @ skew
    length = -square.diagonal(dim1=1, dim2=2).sum(-1)[:, None, None] / 2
    return identity + (skew + square / 2) / (1 + length / 4)


def _reflections(lower: torch.Tensor) -> torch.Tensor:
    d = lower.shape[-1]
    identity = torch.eye(d, dtype=lower.dtype, device=lower.device)
    columns, Q = lower + identity, identity.expand_as(lower)
    for k in range(d):
        v = columns[:, :, k, None]
        Q = Q - (Q @ v) @ (2 * v / v.square().sum(1, keepdim=True)).transpose(1, 2)
    return Q


def _plane_rotations(angle: torch.Tensor) -> torch.Tensor:
    sine, cosine = angle.sin(), angle.cos()
    return torch.stack([cosine, -sine, sine, cosine], dim=1).reshape(-1, 2, 2)


def _space_rotations(about_z: torch.Tensor, about_y: torch.Tensor, about_x: torch.Tensor) -> torch.Tensor:
    return _axis_rotation(about_z, 0, 1) @ _axis_rotation(-about_y, 0, 2) @ _axis_rotation(about_x, 1, 2)


def _axis_rotation(angle: torch.Tensor, i: int, j: int) -> torch.Tensor:
    """Rotations by an angle in the plane of axes i and j of three."""
    sine, cosine, zero, one = angle.sin(), angle.cos(), torch.zeros_like(angle), torch.ones_like(angle)
    entry = {(i, i): cosine, (j, j): cosine, (i, j): -sine, (j, i): sine}
    return torch.stack([entry.get((a, b), one if a == b else zero) for a in range(3) for b in range(3)], dim=1).reshape(-1, 3, 3)
