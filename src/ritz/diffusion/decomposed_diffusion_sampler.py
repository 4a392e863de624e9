"""Decomposed diffusion sampling: linear inverse problems ``y = A x + noise`` with a diffusion model as the prior and no gradient through it.

Chung, Lee and Ye, "Decomposed Diffusion Sampler for Accelerating Large-Scale Inverse Problems", ICLR 2024, arXiv:2303.05754, sections 3.1 to 3.4.

After each call of the denoiser a few steps of conjugate gradients, started at its estimate, move it towards the measurements. They stay in the
estimate plus a Krylov space of ``A^T A``, which under the authors' assumptions is the tangent space of the data: the estimate remains clean where a
gradient step would leave the data. Volumes add total variation along the slices, by ADMM whose duals live on from step to step.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from ritz.core import array, integer, positive, real, torch_generator
from ritz.diffusion.denoisers import Denoiser, check_callable, per_sample
from ritz.diffusion.exponential_integrator import check_answer
from ritz.diffusion.measurement_operators import measurement_operator, sample_shape
from ritz.diffusion.samples import Samples
from ritz.diffusion.schedules import NoiseSchedule, check_schedule, timesteps

Correction = Callable[[torch.Tensor], torch.Tensor]


def dds_sample(
    denoiser: Denoiser,
    y: torch.Tensor,
    operator,
    schedule: NoiseSchedule,
    *,
    shape: tuple[int, ...],
    steps: int = 50,
    eta: float = 0.85,
    cg_iterations: int = 5,
    gamma: float | None = None,
    noise_std: float = 0.0,
    spacing: str = "uniform",
    clip: float | None = None,
    generator: torch.Generator | int | None = None,
) -> Samples:
    """Sample solutions of linear inverse problems with a diffusion model as the prior.

    Parameters
    ----------
    denoiser : callable
        ``D(x, sigma)``; it is called without gradients and need not have any.
    y : Tensor (batch, *measured)
        The measurements, real or complex, one problem a row.
    operator : object with ``forward`` and ``adjoint``, matrix, sparse array, tensor or LinearOperator
        How samples (batch, *shape) are measured: `MaskedFourier`, `ParallelBeam`, `Inpainting`, `Blur`; a matrix applies to flattened samples.
    schedule : NoiseSchedule
        Gives the noise levels.
    shape : tuple of int
        (batch, *shape) of the samples.
    steps : int
        Denoiser calls.
    eta : float
        Share of fresh noise: ``sigma' (eta z + sqrt(1 - eta^2) eps)`` is added for the next step. Not the eta of DDIM.
    cg_iterations : int
        Steps of conjugate gradients after each call.
    gamma : float, optional
        Weight of the measurements in ``min_x gamma / 2 |y - A x|^2 + 1/2 |x - D|^2``. None solves ``A^T A x = A^T y`` from the estimate instead
        where `noise_std` is zero, and means 1, the value of the released code, where it is not. Its best value depends on the operator's scale
        and the noise, and is worth a sweep.
    noise_std : float
        Deviation of the measurements' noise. It only chooses between the two forms.
    spacing : {"logsnr", "uniform", "quadratic", "karras"}
        The grid of times; uniform is every so-many-th training step.
    clip : float, optional
        Estimates are clamped to [-clip, clip] before they are corrected. (The noise of the next step is that of the estimate unclamped.)
    generator : torch.Generator, int or None
        Where the noise comes from. Samples live on its device where it is given, and on that of y in any case.

    Returns
    -------
    Samples
        Clean samples: the last corrected estimates.

    Raises
    ------
    TypeError, ValueError
        For a bad argument, if operator, measurements and shape do not fit together, or if the denoiser's answer is of another shape or not finite.

    Notes
    -----
    Cost per step: one denoiser call and ``cg_iterations + 1`` forward and adjoint measurements. Samples of a batch do not influence each other.

    References
    ----------
    .. [1] Chung, Lee and Ye, "Decomposed Diffusion Sampler for Accelerating Large-Scale Inverse Problems", ICLR 2024, arXiv:2303.05754.

    Examples
    --------
    >>> from ritz.diffusion import GaussianMixtureDenoiser, Inpainting, VPLinear
    >>> denoiser = GaussianMixtureDenoiser([0.5, 0.5], [[1.0, 1.0], [-1.0, -1.0]], [1e-4, 1e-4])
    >>> seen = Inpainting(torch.tensor([True, False]))
    >>> dds_sample(denoiser, torch.tensor([[1.0], [-1.0]]), seen, VPLinear(), shape=(2, 2), generator=0).x.round(decimals=1)
    tensor([[ 1.,  1.],
            [-1., -1.]])
    """
    correct = DataConsistency(operator, y, shape, cg_iterations=cg_iterations, gamma=gamma, noise_std=noise_std)
    options = {"shape": shape, "steps": steps, "eta": eta, "spacing": spacing, "clip": clip, "generator": generator}
    return data_consistent_sample(denoiser, correct, schedule, dtype=correct.dtype, device=correct.device, **options)


@torch.no_grad()
def data_consistent_sample(
    denoiser: Denoiser,
    correction: Correction,
    schedule: NoiseSchedule,
    *,
    shape: tuple[int, ...],
    steps: int = 50,
    eta: float = 0.85,
    spacing: str = "uniform",
    clip: float | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    generator: torch.Generator | int | None = None,
) -> Samples:
    """Sample with estimates corrected after each denoiser call, the loop of `dds_sample`: ``x = C(D) + sigma' (eta z + sqrt(1 - eta^2) eps)``.

    Parameters
    ----------
    denoiser, schedule, shape, steps, eta, spacing, clip, generator
        As in `dds_sample`.
    correction : callable
        Maps estimates (batch, *shape) to corrected ones: `DataConsistency`, or a projection, which makes it DDNM.
    dtype, device
        Of the samples.

    Returns
    -------
    Samples

    Raises
    ------
    TypeError, ValueError
        For a bad argument, or if an answer is of another shape or not finite.

    Examples
    --------
    >>> from ritz.diffusion import GaussianMixtureDenoiser, VPLinear
    >>> denoiser = GaussianMixtureDenoiser([1.0], [[1.0, 1.0]], [1e-4])
    >>> data_consistent_sample(denoiser, lambda x: -x, VPLinear(), shape=(1, 2), steps=5, generator=0).x.round(decimals=1)
    tensor([[-1., -1.]])
    """
    check_callable(denoiser, "denoiser")
    check_callable(correction, "correction")
    check_schedule(schedule)
    eta = real(eta, "eta", at_least=0, at_most=1)
    clip = None if clip is None else positive(clip, "clip")
    shape = _batch_shape(shape)
    levels = np.append(schedule.rho(timesteps(schedule, integer(steps, "steps", at_least=1), spacing)[:-1]), 0.0)
    generator = torch_generator(generator, device)
    x = levels[0] * torch.randn(shape, generator=generator, dtype=dtype, device=device)
    for i, (level, following) in enumerate(zip(levels[:-1].tolist(), levels[1:].tolist())):
        estimate = denoiser(x, level)
        check_answer(estimate, x, f"step {i + 1}", level)
        x = renoised(x, estimate, correction, level, following, eta, clip, generator)
    return Samples(x, steps)


def renoised(
    x: torch.Tensor,
    estimate: torch.Tensor,
    correction: Correction,
    level: float,
    following: float,
    eta: float,
    clip: float | None,
    generator: torch.Generator | None,
) -> torch.Tensor:
    """The state at the following level: the corrected estimate, and noise of which eta is fresh and the rest what the estimate took away."""
    corrected = correction(estimate if clip is None else estimate.clamp(-clip, clip))
    if following == 0:
        return corrected
    fresh = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
    return corrected + following * (eta * fresh + (1 - eta**2) ** 0.5 * (x - estimate) / level)


class DataConsistency:
    """Move estimates towards measurements by a few steps of conjugate gradients started there; see `dds_sample` for the two forms.

    Parameters
    ----------
    operator, y, shape, cg_iterations, gamma, noise_std
        As in `dds_sample`.

    Raises
    ------
    TypeError, ValueError
        For a bad argument, or if operator, measurements and shape do not fit together.

    Examples
    --------
    >>> correct = DataConsistency(torch.tensor([[1.0, 1.0]]), torch.tensor([[4.0]]), (1, 2), cg_iterations=1)
    >>> correct(torch.tensor([[1.0, 0.0]]))
    tensor([[2.5000, 1.5000]])
    """

    def __init__(self, operator, y: torch.Tensor, shape, *, cg_iterations: int = 5, gamma: float | None = None, noise_std: float = 0.0):
        shape, y = _batch_shape(shape), _measurements(y)
        noisy = real(noise_std, "noise_std", at_least=0) > 0
        self.iterations = integer(cg_iterations, "cg_iterations", at_least=1)
        if gamma is not None:
            gamma = positive(gamma, "gamma") if noisy else real(gamma, "gamma", at_least=0)
        self.gamma = 1.0 if gamma is None and noisy else gamma
        self.operator, self.y = measurement_operator(operator, shape[1:]), y
        self.dtype, self.device = y.real.dtype, y.device
        self._pulled_back = check_measurements(self.operator, y, shape)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        b = self._pulled_back.to(x)
        if self.gamma is None:
            return conjugate_gradient(self._normal, b, x, self.iterations)
        return conjugate_gradient(lambda v: v + self.gamma * self._normal(v), x + self.gamma * b, x, self.iterations)

    def _normal(self, x: torch.Tensor) -> torch.Tensor:
        return self.operator.adjoint(self.operator.forward(x))


def conjugate_gradient(normal_op: Correction, b: torch.Tensor, x0: torch.Tensor, iterations: int, tol: float = 1e-10) -> torch.Tensor:
    """A few steps of conjugate gradients for ``N x = b``, sample by sample, from x0.

    `ritz.linalg.cg` is the same iteration for matrices, run until it converges; this one is for maps of batches, and stops after few steps by intent.

    Parameters
    ----------
    normal_op : callable
        N, symmetric positive semidefinite for each sample: (batch, *shape) to (batch, *shape).
    b, x0 : Tensor (batch, *shape)
        Right-hand sides, in the range of N, and starting points, real or complex.
    iterations : int
        Steps at most.
    tol : float
        A sample rests once its residual is no larger than ``tol |b|``.

    Returns
    -------
    Tensor (batch, *shape)

    Raises
    ------
    TypeError, ValueError
        For a bad argument.

    Notes
    -----
    Every sample has step lengths of its own, so that a batch is its samples one by one. Inner products are summed in double precision.

    Examples
    --------
    >>> diagonal = torch.tensor([1.0, 4.0])
    >>> conjugate_gradient(lambda x: diagonal * x, torch.tensor([[1.0, 4.0], [2.0, 0.0]]), torch.zeros(2, 2), 2)
    tensor([[1.0000, 1.0000],
            [2.0000, 0.0000]])
    """
    check_callable(normal_op, "normal_op")
    b, x = array(b, "b", allow_complex=True), array(x0, "x0", allow_complex=True)
    if not isinstance(b, torch.Tensor) or not isinstance(x, torch.Tensor) or b.ndim < 2 or x.ndim < 2 or b.shape != x.shape:
        raise ValueError("b and x0 must be tensors (batch, *shape) of one shape")
    iterations, tol = integer(iterations, "iterations", at_least=1), real(tol, "tol", at_least=0)
    r = b - normal_op(x)
    p, squares = r, _squared_norms(r)
    goal = tol**2 * _squared_norms(b)
    for _ in range(iterations):
        active = squares > goal
        if not bool(active.any()):
            break
        q = normal_op(p)
        curvature = _inner(p, q)
        active = active & (curvature > 0)
        step = torch.where(active, squares / torch.where(active, curvature, 1.0), 0.0)
        x, r = x + _factor(step, x) * p, r - _factor(step, r) * q
        previous, squares = squares, torch.where(active, _squared_norms(r), squares)
        ratio = torch.where(active, squares / torch.where(active, previous, 1.0), 0.0)
        p = r + _factor(ratio, p) * p
        goal = torch.where(active, goal, torch.inf)
    return x


@torch.no_grad()
def dds_tv3d_sample(
    denoiser: Denoiser,
    y: torch.Tensor,
    operator,
    schedule: NoiseSchedule,
    *,
    shape: tuple[int, ...],
    rho: float = 10.0,
    lam: float = 0.04,
    admm_iterations: int = 1,
    cg_iterations: int = 5,
    slice_batch: int = 20,
    steps: int = 50,
    eta: float = 0.85,
    spacing: str = "uniform",
    clip: float | None = None,
    generator: torch.Generator | int | None = None,
) -> Samples:
    """Reconstruct a volume with a prior for its slices, and total variation across them.

    The measurements' term is ``1/2 |y - A x|^2 + lam |D_z x|_1``, minimized by ADMM that goes on from step to step of the diffusion:
    ``x = CG(A^T A + rho D_z^T D_z, A^T y + rho D_z^T (w - u))``, ``w = shrink(D_z x + u, lam / rho)``, ``u = u + D_z x - w``.

    Parameters
    ----------
    denoiser, schedule, steps, eta, cg_iterations, spacing, clip, generator
        As in `dds_sample`; the denoiser is called on `slice_batch` slices at a time.
    y : Tensor (slices, *measured)
        Measurements of each slice.
    operator
        As in `dds_sample`; it measures slices, as a batch.
    shape : tuple of int
        (slices, channels, height, width).
    rho : float
        Weight of the constraint in ADMM.
    lam : float
        Weight of the total variation: 0.04 for 8 views, 0.4 for a limited angle in the paper.
    admm_iterations : int
        Per step of the diffusion.
    slice_batch : int
        Slices of a denoiser call.

    Returns
    -------
    Samples
        `nfe` counts a sweep over all slices as one call.

    Raises
    ------
    TypeError, ValueError
        As `dds_sample`.

    Notes
    -----
    D_z is the difference to the next slice, zero at the last. The volume is one problem: conjugate gradients have one step length for all slices.

    Examples
    --------
    >>> from ritz.diffusion import GaussianMixtureDenoiser, Inpainting, VPLinear
    >>> exact = GaussianMixtureDenoiser([1.0], [[1.0] * 4], [0.1])
    >>> def denoiser(x, sigma):
    ...     return exact(x.flatten(1), sigma).reshape(x.shape)
    >>> seen = Inpainting(torch.tensor([[[True, True], [False, False]]]))
    >>> dds_tv3d_sample(denoiser, torch.ones(3, 2), seen, VPLinear(), shape=(3, 1, 2, 2), steps=5, generator=0)
    Samples(x=float32[3, 1, 2, 2], nfe=5, trajectory=None)
    """
    shape, y = _batch_shape(shape), _measurements(y)
    operator = measurement_operator(operator, shape[1:])
    correct = _TotalVariation(operator, check_measurements(operator, y, shape), positive(rho, "rho"), real(lam, "lam", at_least=0))
    correct.admm_iterations = integer(admm_iterations, "admm_iterations", at_least=1)
    correct.cg_iterations = integer(cg_iterations, "cg_iterations", at_least=1)
    check_callable(denoiser, "denoiser")
    size = integer(slice_batch, "slice_batch", at_least=1)

    def by_slices(x: torch.Tensor, sigma: float) -> torch.Tensor:
        return torch.cat([denoiser(part, sigma) for part in x.split(size)])

    options = {"shape": shape, "steps": steps, "eta": eta, "spacing": spacing, "clip": clip, "generator": generator}
    return data_consistent_sample(by_slices, correct, schedule, dtype=y.real.dtype, device=y.device, **options)


class _TotalVariation:
    """The correction of a volume, with the duals of its total variation across slices."""

    def __init__(self, operator, pulled_back: torch.Tensor, rho: float, lam: float):
        self.operator, self.pulled_back, self.rho, self.lam = operator, pulled_back, rho, lam
        self.w, self.u = torch.zeros_like(pulled_back), torch.zeros_like(pulled_back)
        self.admm_iterations = self.cg_iterations = 1

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(self.admm_iterations):
            b = self.pulled_back + self.rho * slice_differences_adjoint(self.w - self.u)
            x = conjugate_gradient(self._normal, b[None], x[None], self.cg_iterations)[0]
            jumps = slice_differences(x) + self.u
            self.w = jumps.sign() * (jumps.abs() - self.lam / self.rho).clamp(min=0)
            self.u = jumps - self.w
        return x

    def _normal(self, volume: torch.Tensor) -> torch.Tensor:
        x = volume[0]
        return (self.operator.adjoint(self.operator.forward(x)) + self.rho * slice_differences_adjoint(slice_differences(x)))[None]


def slice_differences(x: torch.Tensor) -> torch.Tensor:
    """D_z x: the next slice less this one, zero at the last."""
    return torch.cat([x[1:] - x[:-1], torch.zeros_like(x[:1])])


def slice_differences_adjoint(d: torch.Tensor) -> torch.Tensor:
    """The adjoint of `slice_differences`."""
    inner = d[:-1]
    return torch.cat([torch.zeros_like(d[:1]), inner]) - torch.cat([inner, torch.zeros_like(d[:1])])


def check_measurements(operator, y: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Refuse measurements that are not those of samples of this shape; return the adjoint's answer to them."""
    try:
        measured = operator.forward(torch.zeros(shape, dtype=y.real.dtype, device=y.device))
    except (ValueError, RuntimeError, IndexError) as error:
        raise ValueError(f"operator does not measure samples of shape {shape}: {error}") from error
    if measured.shape != y.shape or measured.is_complex() != y.is_complex():
        kinds = [f"{'complex' if part.is_complex() else 'real'} of shape {tuple(part.shape)}" for part in (measured, y)]
        raise ValueError(f"y must be {kinds[0]} to fit operator and shape, got {kinds[1]}")
    return operator.adjoint(y)


def _measurements(y) -> torch.Tensor:
    if not isinstance(y, torch.Tensor) or not (y.is_floating_point() or y.is_complex()):
        raise TypeError(f"y must be a tensor of floating dtype, got {y.dtype if isinstance(y, torch.Tensor) else type(y).__name__}")
    y = array(y, "y", allow_complex=True)
    if y.ndim < 2:
        raise ValueError(f"y must have shape (batch, *measured), got {tuple(y.shape)}")
    return y


def _batch_shape(shape) -> tuple[int, ...]:
    shape = sample_shape(shape, "shape")
    if len(shape) < 2:
        raise ValueError(f"shape must be (batch, *shape), got {shape}")
    return shape


def _inner(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    product = (a.conj() * b).real if a.is_complex() else a * b
    return product.flatten(1).sum(dim=1, dtype=torch.float64)


def _squared_norms(r: torch.Tensor) -> torch.Tensor:
    return _inner(r, r)


def _factor(values: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return per_sample(values.to(x.real.dtype), x)
