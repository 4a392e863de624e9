"""From continuous to discrete time: one diagonal system x' = A x + B u with step dt becomes x_k = Ab x_{k-1} + Bb u_k.

Both rules return log Ab rather than Ab, because kernels need its powers exp(l log Ab). They are differentiable, also at A = 0.
"""

from __future__ import annotations

import torch


def zero_order_hold(A: torch.Tensor, B: torch.Tensor, dt: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Exact for an input held constant over each step: Ab = exp(dt A), Bb = (exp(dt A) - 1) / A * B, and dt B where A = 0.

    Parameters
    ----------
    A, B, dt : torch.Tensor
        Complex poles, complex input weights and real steps, of shapes that broadcast.

    Returns
    -------
    log_Ab, Bb : torch.Tensor
    """
    return dt * A, dt * relative_growth(dt * A) * B


def bilinear(A: torch.Tensor, B: torch.Tensor, dt: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Tustin's rule: Ab = (1 + dt A / 2) / (1 - dt A / 2), Bb = dt / (1 - dt A / 2) * B. Arguments and results as in `zero_order_hold`."""
    half = dt * A / 2
    pole = (1 + half) / (1 - half)
    vanishing = torch.full_like(pole, torch.finfo(pole.dtype).tiny)
    return torch.where(pole == 0, vanishing, pole).log(), dt / (1 - half) * B


def relative_growth(z: torch.Tensor) -> torch.Tensor:
    """(exp(z) - 1) / z, and 1 at z = 0: by its Taylor series near zero, where the quotient and its derivative cancel.

    Examples
    --------
    >>> relative_growth(torch.tensor([0.0, 1.0], dtype=torch.float64))
    tensor([1.0000, 1.7183], dtype=torch.float64)
    """
    near = z.abs() < 1e-2
    small, large = torch.where(near, z, 0), torch.where(near, 1, z)
    series = torch.ones_like(z)
    for k in range(7, 1, -1):
        series = 1 + small / k * series
    return torch.where(near, series, expm1(large) / large)


def expm1(z: torch.Tensor) -> torch.Tensor:
    """exp(z) - 1 without cancellation, for real and complex z."""
    if not z.is_complex():
        return torch.expm1(z)
    x, y = z.real, z.imag
    return torch.complex(torch.expm1(x) * y.cos() - 2 * (y / 2).sin() ** 2, x.exp() * y.sin())
