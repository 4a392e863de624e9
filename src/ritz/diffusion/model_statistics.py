"""Empirical model statistics: three numbers per coordinate and noise level that say how a diffusion model behaves along its own trajectories.

Zheng et al., "DPM-Solver-v3: Improved Diffusion ODE Solver with Empirical Model Statistics", NeurIPS 2023, arXiv:2310.13268, sections 3.1-3.2 and
appendix C.1. In the frame y = x / alpha, with rho = sigma / alpha and lam = -log rho, the ODE is ``dy/dlam = -(l y + f)`` with
``f = rho eps(y, lam) - l y`` for any coefficients l(lam), one per coordinate. The statistics make f as easy to extrapolate as they can:

    l = E[diag(rho deps/dy)]                 f depends on y as little as possible
    (s, b) = least squares of f' on s f + b  f' = df/dlam along the ODE; what is left of it after s and b is what a first-order step gets wrong

with the expectations over points of the model's trajectories. Noise prediction is l = 0, s = -1, b = 0; data prediction is l = 1, s = b = 0.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch.autograd import forward_ad

from ritz.core import Result, array, atomic_path, choice, existing_file, integer, progress, torch_generator
from ritz.diffusion.denoisers import Denoiser, check_callable
from ritz.diffusion.exponential_integrator import MultistepSolver, check_answer, compile_plan
from ritz.diffusion.schedules import NoiseSchedule, timesteps
from ritz.diffusion.solver_plan import dpm_solver_plan

Visit = Callable[[int, torch.Tensor, torch.Tensor], torch.Tensor]

RIDGE = 1e-12
"""Added to the variance of f: where f does not vary, s is 0 and b is f'."""


@dataclass(frozen=True, eq=False, repr=False)
class EMS(Result):
    """Empirical model statistics on a grid that is uniform in lam.

    Attributes
    ----------
    lam : Tensor (N + 1,) float64
        Half-log-SNRs of the grid, rising, equally spaced.
    l, s, b : Tensor (N + 1, *shape)
        The statistics; shape () holds one number for all coordinates of data of any shape.

    Raises
    ------
    TypeError, ValueError
        If a field is not finite, the shapes do not fit together, or the grid is not uniform.

    Examples
    --------
    >>> EMS.degenerate("data", np.linspace(-5, 5, 121))
    EMS(lam=float64[121], l=float64[121], s=float64[121], b=float64[121])
    """

    lam: torch.Tensor
    l: torch.Tensor
    s: torch.Tensor
    b: torch.Tensor

    def __post_init__(self):
        for name in ("lam", "l", "s", "b"):
            object.__setattr__(self, name, torch.as_tensor(array(getattr(self, name), name)))
        if self.lam.ndim != 1 or len(self.lam) < 2:
            raise ValueError(f"lam must have shape (N + 1,) with N of at least 1, got {tuple(self.lam.shape)}")
        object.__setattr__(self, "lam", self.lam.double())
        steps = torch.diff(self.lam)
        mean = (self.lam[-1] - self.lam[0]) / len(steps)
        if not (mean > 0 and bool(((steps - mean).abs() < 1e-3 * mean).all())):
            raise ValueError("lam must be rising and equally spaced")
        for name in ("l", "s", "b"):
            shape = tuple(getattr(self, name).shape)
            if shape != (len(self.lam), *self.shape):
                raise ValueError(f"{name} must have shape ({len(self.lam)}, *shape), with the shape of l, got {shape}")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the data the statistics belong to; () for data of any shape."""
        return tuple(self.l.shape[1:])

    @property
    def grid_size(self) -> int:
        """Number N of intervals of the grid."""
        return len(self.lam) - 1

    @classmethod
    def degenerate(cls, prediction: Literal["data", "noise"], lam) -> EMS:
        """The statistics that turn DPM-Solver-v3 into DPM-Solver++ ("data") or DPM-Solver ("noise"), on the grid lam (N + 1,).

        Raises
        ------
        TypeError, ValueError
            For a bad argument.
        """
        choice(prediction, "prediction", ("data", "noise"))
        lam = torch.as_tensor(array(lam, "lam", ndim=1)).double()
        zero, one = torch.zeros_like(lam), torch.ones_like(lam)
        return cls(lam, one, zero, zero) if prediction == "data" else cls(lam, zero, -one, zero)

    def save(self, path: str | os.PathLike) -> None:
        """Write the statistics to a ``.safetensors`` file, whole or not at all."""
        from safetensors.torch import save_file

        with atomic_path(_safetensors_path(path)) as temporary:
            save_file({name: value.contiguous().cpu() for name, value in self.as_dict().items()}, str(temporary))

    @classmethod
    def load(cls, path: str | os.PathLike) -> EMS:
        """Read statistics that `save` wrote.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is no ``.safetensors`` file, or lacks a field.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        file = existing_file(_safetensors_path(path))
        try:
            fields = load_file(str(file))
        except SafetensorError as error:
            raise ValueError(f"path: '{file}' cannot be read: {error}") from error
        if set(fields) != {"lam", "l", "s", "b"}:
            raise ValueError(f"path: '{file}' must hold lam, l, s and b, got {', '.join(sorted(fields)) or 'nothing'}")
        return cls(**fields)


def compute_ems(
    denoiser: Denoiser,
    schedule: NoiseSchedule,
    shape: tuple[int, ...],
    *,
    grid_size: int = 120,
    samples: int = 1024,
    probes: int = 1,
    batch_size: int = 256,
    t_start: float | None = None,
    t_end: float | None = None,
    generator: torch.Generator | int | None = None,
    dtype: torch.dtype = torch.float32,
) -> EMS:
    """Measure the statistics of a model along its own trajectories.

    Trajectories start at pure noise and follow DPM-Solver++(2M) over the grid. A first walk averages ``v * (J v)`` over random signs v, an unbiased
    estimate of the Jacobian's diagonal, by forward-mode differentiation; a second walk over the same trajectories, which needs the derivative of l,
    collects the moments of f and f'.

    Parameters
    ----------
    denoiser : callable
        ``D(x, sigma)``, differentiable in both arguments by forward-mode automatic differentiation; called with sigma of shape (batch,). For guided
        sampling, the guided denoiser: one EMS per guidance scale.
    schedule : NoiseSchedule
        Gives the range of noise levels.
    shape : tuple of int
        Shape of one sample.
    grid_size : int
        Number N of intervals. The paper takes 1200 for CIFAR-10, 500 for ImageNet, 250 for Stable Diffusion, 120 for LSUN.
    samples : int
        Number K of trajectories. The paper takes 1024 to 4096.
    probes : int
        Random sign vectors per sample and node. The diagonal's variance falls as 1 / (probes samples); one is enough for many samples.
    batch_size : int
        Trajectories walked at a time.
    t_start, t_end : float, optional
        Noisiest and last time; the schedule's range by default.
    generator : torch.Generator or int, optional
        Source of noise and probes. Its device is where the model runs.
    dtype : torch.dtype
        What the model computes in; moments are accumulated in float64.

    Returns
    -------
    EMS
        In `dtype`, on the generator's device.

    Raises
    ------
    TypeError, ValueError
        For a bad argument, or if the denoiser returns another shape or something not finite (the message names the node).

    Notes
    -----
    Cost: (grid_size + 1) samples (probes + 1) Jacobian-vector products and as many calls as there are samples and nodes, once per model. Memory:
    six (grid_size + 1, *shape) tables in float64.
    A trajectory keeps its sign vectors from node to node: l, s and b are then smooth in lam however few samples there are, which orders above 1 need.
    The derivative of l is taken by plain central differences, one-sided ones of second order at the ends; the paper does not say whether it
    smooths them, and nothing here needed it.
    Where f does not vary, as for Gaussian data or a constant coordinate, s is 0 and b is f'.

    Examples
    --------
    >>> from ritz.diffusion import VPLinear, GaussianMixtureDenoiser
    >>> denoiser = GaussianMixtureDenoiser([1.0], [[1.0, -1.0]], [0.25])
    >>> compute_ems(denoiser, VPLinear(), (2,), grid_size=20, samples=8, generator=0)
    EMS(lam=float64[21], l=float32[21, 2], s=float32[21, 2], b=float32[21, 2])
    """
    check_callable(denoiser, "denoiser")
    shape = _checked_shape(shape)
    integer(grid_size, "grid_size", at_least=2)
    integer(samples, "samples", at_least=2)
    integer(probes, "probes", at_least=1)
    integer(batch_size, "batch_size", at_least=1)
    if dtype not in (torch.float32, torch.float64):
        raise TypeError(f"dtype must be torch.float32 or torch.float64, got {dtype}")
    ends = timesteps(schedule, 1, t_start=t_start, t_end=t_end)
    lam = np.linspace(*schedule.lam(ends), grid_size + 1)
    device = generator.device if isinstance(generator, torch.Generator) else "cpu"
    generator = torch_generator(generator, device)
    noise = math.exp(-lam[0]) * torch.randn(samples, *shape, generator=generator, dtype=dtype, device=device)
    walks = _Walks(denoiser, lam, noise.split(batch_size))
    with torch.no_grad():
        l = _jacobian_diagonal(walks, probes, generator)
        s, b = _regression(walks, l)
    return EMS(torch.from_numpy(lam).to(device), l.to(dtype), s.to(dtype), b.to(dtype))


class _Walks:
    """The model's trajectories over the grid, batch by batch; the same ones whenever they are walked."""

    def __init__(self, denoiser: Denoiser, lam: np.ndarray, starts: tuple[torch.Tensor, ...]):
        self.denoiser, self.lam, self.starts = denoiser, lam.tolist(), starts
        self.plan = dpm_solver_plan(len(lam) - 1, order=2)
        self.compiled = compile_plan(self.plan, self.lam)

    def table(self) -> torch.Tensor:
        """Zeros for every node and coordinate."""
        return self.starts[0].new_zeros((len(self.lam), *self.starts[0].shape[1:]), dtype=torch.float64)

    def run(self, visitor: Callable[[torch.Tensor], Visit], description: str) -> None:
        """Call ``visitor(start)(node, y, sigma)`` along the trajectories of each batch; it returns D there."""
        for y in progress(self.starts, description):
            visit = visitor(y)
            solver = MultistepSolver(self.plan, self.lam, compiled=self.compiled)
            for node, lam in enumerate(self.lam):
                sigma = math.exp(-lam)
                data = visit(node, y, torch.full((len(y),), sigma, dtype=y.dtype, device=y.device))
                check_answer(data, y, f"node {node}", sigma)
                if node < len(self.plan.steps):
                    y = solver.step(y, data)


def _jacobian_diagonal(walks: _Walks, probes: int, generator: torch.Generator) -> torch.Tensor:
    """l = E[diag(rho deps/dy)] = 1 - E[v * (dD/dy v)], since rho eps = y - D and v^2 = 1."""
    total = walks.table()

    def visitor(start: torch.Tensor) -> Visit:
        signs = 2.0 * torch.randint(0, 2, (probes, *start.shape), generator=generator, device=start.device).to(start.dtype) - 1

        def visit(node: int, y: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
            for v in signs:
                data, change = _directional_derivative(walks.denoiser, y, sigma, v)
                total[node] += (v * change).sum(0)
            return data

        return visit

    walks.run(visitor, "EMS: Jacobian")
    return 1 - total / (probes * sum(map(len, walks.starts)))


def _regression(walks: _Walks, l: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """s and b of the least squares f' ~ s f + b."""
    spacing = walks.lam[1] - walks.lam[0]
    dl = torch.gradient(l, spacing=spacing, dim=0, edge_order=2)[0]
    moments = _Moments(walks)

    def visit(node: int, y: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        velocity = walks.denoiser(y, sigma) - y
        data, change = _directional_derivative(walks.denoiser, y, sigma, velocity, -sigma)
        y, data, velocity = y.double(), data.double(), velocity.double()
        f = (1 - l[node]) * y - data
        moments.add(node, f, (1 - l[node]) * velocity - change.double() - dl[node] * y)
        return data.to(sigma)

    walks.run(lambda _: visit, "EMS: regression")
    s = moments.covariance / (moments.variance + RIDGE)
    return s, moments.mean_df - s * moments.mean_f


def _directional_derivative(
    denoiser: Denoiser, y: torch.Tensor, sigma: torch.Tensor, dy: torch.Tensor, dsigma: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """D(y, sigma) and its derivative along (dy, dsigma), forward; `torch.func.jvp` does the same with more overhead."""
    with forward_ad.dual_level():
        level = sigma if dsigma is None else forward_ad.make_dual(sigma, dsigma)
        data, change = forward_ad.unpack_dual(denoiser(forward_ad.make_dual(y, dy), level))
        return data, torch.zeros_like(y) if change is None else change


class _Moments:
    """Means, variance and covariance of f and f' per node and coordinate, merged from batches; raw moments would cancel."""

    def __init__(self, walks: _Walks):
        self.mean_f, self.mean_df, self.variance, self.covariance = (walks.table() for _ in range(4))
        self.seen = [0] * len(walks.lam)

    def add(self, node: int, f: torch.Tensor, df: torch.Tensor) -> None:
        share = len(f) / (self.seen[node] + len(f))
        self.seen[node] += len(f)
        batch_f, batch_df = f.mean(0), df.mean(0)
        step_f, step_df = batch_f - self.mean_f[node], batch_df - self.mean_df[node]
        spread = f - batch_f
        self.variance[node] += share * ((spread**2).mean(0) + (1 - share) * step_f**2 - self.variance[node])
        self.covariance[node] += share * ((spread * df).mean(0) + (1 - share) * step_f * step_df - self.covariance[node])
        self.mean_f[node] += share * step_f
        self.mean_df[node] += share * step_df


def _checked_shape(shape: object) -> tuple[int, ...]:
    if not isinstance(shape, tuple | list | torch.Size) or not shape:
        raise TypeError(f"shape must be a tuple of sizes, got {shape!r}")
    return tuple(integer(size, "shape", at_least=1) for size in shape)


def _safetensors_path(path: str | os.PathLike) -> str:
    path = os.fspath(path)
    if not path.endswith(".safetensors"):
        raise ValueError(f"path must end in .safetensors, got '{path}'")
    return path
