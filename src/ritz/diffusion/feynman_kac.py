"""Feynman-Kac correctors: change what a trained diffusion model samples from, and let weighted particles pay for it.

Skreta, Akhound-Sadegh et al., "Feynman-Kac Correctors in Diffusion: Annealing, Guidance, and Product of Experts", ICML 2025, arXiv:2503.02819,
section 3 and algorithm 1. The marginals q_i of models i are combined into the path ``p proportional to prod_i q_i^{b_i}``: annealed (b), products
(1, 1), geometric averages (1 - w, w). Following the combined score ``s = sum_i b_i s_i`` alone samples something else; the difference is a
reaction term, which each particle carries as a weight. In the frame y = x / alpha, with dq > 0 the noise variance lost in a step and any zeta >= 0,

    dy = (1 + zeta) / 2 s dq + sqrt(zeta dq) z,      dlog w = (|s|^2 - sum_i b_i |s_i|^2) / 2 dq + sum_i db_i log q_i,

without the divergence terms of other frames, and with the same weights for all zeta. A reward tilts the path by e^R, R = beta_t r(alpha_t y): the
drift gains ``zeta / 2 grad R dq`` and the weight ``dR + <s, grad R> / 2 dq``, with dR the change of R at fixed y.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from ritz.core import choice, flag, integer, real, torch_generator
from ritz.diffusion.denoisers import Denoiser, check_callable, per_sample
from ritz.diffusion.exponential_integrator import check_answer, check_start
from ritz.diffusion.log_density import ito_increment, normal_log_density
from ritz.diffusion.particles import WeightedParticles, effective_sample_size, resampled_indices
from ritz.diffusion.schedules import NoiseSchedule, Spacing, timesteps

Exponent = float | Callable[[float], float]
Reward = Callable[[torch.Tensor], torch.Tensor]
Resampling = Literal["systematic", "birth_death"]


@dataclass(frozen=True, eq=False, repr=False)
class WeightedSamples(WeightedParticles):
    """What `fkc_sample` returns: weighted particles, with how they came about.

    Attributes
    ----------
    x : Tensor (n, *shape)
        The particles at the last time, in the frame y = x / alpha.
    log_weights : Tensor (n,) float64
        Logarithms of their weights; all equal right after a resampling. `mean`, `weights` and `resample` use them.
    ess_history : Tensor (steps,) float64
        Effective sample size after each step, before its resampling.
    ancestors : Tensor (n,) int64
        Which of the first particles each of the last descends from.
    log_normalizer : float
        Estimate of ``log Z_end / Z_start``, Z the integral of the unnormalized target over y.
    nfe : int
        Number of denoiser calls, those of all models together, each on the whole batch.
    """

    ess_history: torch.Tensor
    ancestors: torch.Tensor
    log_normalizer: float
    nfe: int

    @property
    def unique_ancestors(self) -> int:
        """How many of the first particles have descendants among the last; few of them mean a large error."""
        return len(self.ancestors.unique())

    def standard_error(self, function: Callable[[torch.Tensor], torch.Tensor] | None = None) -> torch.Tensor:
        """Estimated standard error of `mean`: descendants of one ancestor count as one draw (Lee and Whiteley, Biometrika 2018, arXiv:1509.00394).

        Raises
        ------
        TypeError
            If function cannot be called.
        """
        values = self.values(function).double()
        deviations = per_sample(self.weights, values) * (values - self.mean(function))
        families = torch.zeros_like(deviations).index_add_(0, self.ancestors, deviations)
        return families.square().sum(0).sqrt()


def fkc_sample(
    denoisers: Sequence[Denoiser],
    exponents: Sequence[Exponent],
    x_T: torch.Tensor | int,
    schedule: NoiseSchedule,
    *,
    shape: Sequence[int] | None = None,
    steps: int = 500,
    spacing: Spacing = "uniform",
    t_start: float | None = None,
    t_end: float | None = None,
    noise_scale: float = 1.0,
    last_step_noise: bool = True,
    resampling: Resampling | None = "systematic",
    ess_threshold: float | None = None,
    active: tuple[float, float] | None = None,
    reward: Reward | None = None,
    reward_schedule: Callable[[float], float] | None = None,
    clip_increment: float | None = None,
    generator: torch.Generator | int | None = None,
) -> WeightedSamples:
    """Sample from ``prod_i q_i^{b_i} e^{beta r}`` for the densities q_i of diffusion models, by weighted particles.

    Parameters
    ----------
    denoisers : sequence of M callables
        ``D_i(x, sigma)``, all for the same space and called with sigma a float.
    exponents : sequence of M numbers or callables
        The b_i; a callable is a function of the time t. For exponents that change, log q_i is followed along the paths by Itô's formula.
    x_T : Tensor (n, *shape) or int
        Starting particles in the frame y = x / alpha, or their number n: then they are drawn from N(0, rho^2 / sum_i b_i).
    schedule : NoiseSchedule
        Gives the times.
    shape : sequence of int, optional
        Shape of one sample, if x_T is a number.
    steps, spacing, t_start, t_end
        The grid of times, as in `timesteps`.
    noise_scale : float
        The zeta above: 1 is the reverse SDE of the combined score; annealing with zeta = 1 / b has the noise of a colder SDE ("tempered noise").
    last_step_noise : bool
        Whether the last step adds noise, as the theory has it; without it samples look cleaner.
    resampling : {"systematic", "birth_death"} or None
        Systematic: draw anew by the accumulated weights, with one uniform number. Birth and death: particles of low rate of weight are replaced by
        those of high rate when an exponential clock rings; there are no weights then. None: one importance weight per path.
    ess_threshold : float, optional
        Resample only if the effective sample size falls below ess_threshold * n; after every step by default.
    active : (float, float), optional
        Times (t_min, t_max) between which weights are accumulated; outside, particles just follow the combined score.
    reward : callable, optional
        ``reward(x)`` (n,) for x (n, *shape) in the schedule's own frame, differentiable.
    reward_schedule : callable, optional
        The factor beta_t of the reward; rises linearly from 0 at t_start to 1 at t_end by default.
    clip_increment : float, optional
        Center the weights' increments of a step over the batch and clamp them to this size (the paper does so for images, with 1 or 2).
    generator : torch.Generator, int or None
        Where the noise comes from.

    Returns
    -------
    WeightedSamples

    Raises
    ------
    TypeError, ValueError
        For a bad argument: M exponents for M denoisers, one particle with resampling, exponents with sum <= 0 or a reward that is on at t_start
        when the particles are to be drawn here; a denoiser or reward that answers another shape or NaN; weights that are all zero.

    Notes
    -----
    Cost: M denoiser calls per step; resampling is O(n). Without resampling, or with far targets, look at `ess_history`: a few particles may hold all
    the weight.

    Examples
    --------
    >>> from ritz.diffusion import GaussianMixtureDenoiser, VPLinear
    >>> q = GaussianMixtureDenoiser([1.0], [[2.0]], [1.0])
    >>> cold = fkc_sample([q], [4.0], 4000, VPLinear(), shape=(1,), steps=200, generator=0)
    >>> float(cold.mean(lambda x: (x - 2.0) ** 2).round(decimals=1))     # the variance of q^4 is 1/4
    0.2...
    """
    denoisers = check_models(denoisers)
    times = timesteps(schedule, integer(steps, "steps", at_least=1), spacing, t_start=t_start, t_end=t_end)
    table = exponent_table(exponents, len(denoisers), times)
    tilt = None if reward is None else RewardTilt(reward, reward_schedule, schedule, times)
    active_steps = _active_steps(active, times)
    y, generator = _starting_particles(x_T, shape, table[0].sum(), schedule.rho(float(times[0])), tilt, generator)
    solver = ParticleSolver(
        schedule.rho(times).tolist(),
        table,
        y,
        noise_scale=noise_scale,
        last_step_noise=last_step_noise,
        resampling=resampling,
        ess_threshold=ess_threshold,
        active_steps=active_steps,
        tilt=tilt,
        clip_increment=clip_increment,
    )
    for i in range(steps):
        sigma = solver.levels[i]
        answers = [denoiser(y, sigma) for denoiser in denoisers]
        for data in answers:
            check_answer(data, y, f"step {i + 1}", sigma)
        y = solver.step(y, answers, generator)
    return solver.result(y, nfe=steps * len(denoisers))


def anneal(
    denoiser: Denoiser,
    beta: float,
    x_T: torch.Tensor | int,
    schedule: NoiseSchedule,
    *,
    shape: Sequence[int] | None = None,
    steps: int = 500,
    noise_scale: float = 1.0,
    resampling: Resampling | None = "systematic",
    ess_threshold: float | None = None,
    generator: torch.Generator | int | None = None,
) -> WeightedSamples:
    """Sample from ``q^beta``, the density of a model at inverse temperature beta; `fkc_sample` with one exponent.

    Parameters
    ----------
    denoiser, x_T, schedule, shape, steps, noise_scale, resampling, ess_threshold, generator
        As in `fkc_sample`, which has further options.
    beta : float
        Positive; above 1 is colder. noise_scale = 1 moves by the target's score, noise_scale = 1 / beta is the paper's tempered noise.

    Raises
    ------
    TypeError, ValueError
        For a bad argument.

    Examples
    --------
    >>> from ritz.diffusion import GaussianMixtureDenoiser, VPLinear
    >>> q = GaussianMixtureDenoiser([1.0], [[2.0]], [1.0])
    >>> anneal(q, 4.0, 100, VPLinear(), shape=(1,), steps=20, generator=0).nfe
    20
    """
    return fkc_sample(
        [denoiser],
        [real(beta, "beta", above=0)],
        x_T,
        schedule,
        shape=shape,
        steps=steps,
        noise_scale=noise_scale,
        resampling=resampling,
        ess_threshold=ess_threshold,
        generator=generator,
    )


def product(
    denoisers: Sequence[Denoiser],
    x_T: torch.Tensor | int,
    schedule: NoiseSchedule,
    *,
    shape: Sequence[int] | None = None,
    steps: int = 500,
    noise_scale: float = 1.0,
    resampling: Resampling | None = "systematic",
    ess_threshold: float | None = None,
    generator: torch.Generator | int | None = None,
) -> WeightedSamples:
    """Sample from the normalized product of the models' densities: what all of them find likely; `fkc_sample` with exponents 1.

    Parameters
    ----------
    denoisers, x_T, schedule, shape, steps, noise_scale, resampling, ess_threshold, generator
        As in `fkc_sample`, which has further options.

    Raises
    ------
    TypeError, ValueError
        For a bad argument.

    Examples
    --------
    >>> from ritz.diffusion import GaussianMixtureDenoiser, VPLinear
    >>> parts = [GaussianMixtureDenoiser([1.0], [[mean]], [1.0]) for mean in (0.0, 2.0)]
    >>> both = product(parts, 4000, VPLinear(), shape=(1,), steps=200, generator=0)
    >>> float(both.mean().round())
    1.0
    """
    denoisers = check_models(denoisers)
    return fkc_sample(
        denoisers,
        [1.0] * len(denoisers),
        x_T,
        schedule,
        shape=shape,
        steps=steps,
        noise_scale=noise_scale,
        resampling=resampling,
        ess_threshold=ess_threshold,
        generator=generator,
    )


def geometric_average(
    unconditional: Denoiser,
    conditional: Denoiser,
    guidance: float,
    x_T: torch.Tensor | int,
    schedule: NoiseSchedule,
    *,
    shape: Sequence[int] | None = None,
    steps: int = 500,
    noise_scale: float = 1.0,
    resampling: Resampling | None = "systematic",
    ess_threshold: float | None = None,
    generator: torch.Generator | int | None = None,
) -> WeightedSamples:
    """Sample from ``q_u^{1 - w} q_c^w``, what classifier-free guidance with scale w means; `fkc_sample` with exponents 1 - w and w.

    Parameters
    ----------
    unconditional, conditional : callable
        The denoisers of q_u and q_c.
    guidance : float
        The scale w; 0 is unconditional, 1 conditional, above sharpened.
    x_T, schedule, shape, steps, noise_scale, resampling, ess_threshold, generator
        As in `fkc_sample`, which has further options.

    Raises
    ------
    TypeError, ValueError
        For a bad argument.

    Examples
    --------
    >>> from ritz.diffusion import GaussianMixtureDenoiser, VPLinear
    >>> parts = [GaussianMixtureDenoiser([1.0], [[mean]], [1.0]) for mean in (0.0, 2.0)]
    >>> guided = geometric_average(*parts, 3.0, 4000, VPLinear(), shape=(1,), steps=200, generator=0)
    >>> float(guided.mean().round())
    6.0
    """
    real(guidance, "guidance")
    check_callable(unconditional, "unconditional")
    check_callable(conditional, "conditional")
    return fkc_sample(
        [unconditional, conditional],
        [1.0 - guidance, guidance],
        x_T,
        schedule,
        shape=shape,
        steps=steps,
        noise_scale=noise_scale,
        resampling=resampling,
        ess_threshold=ess_threshold,
        generator=generator,
    )


def tilt(
    denoiser: Denoiser,
    reward: Reward,
    x_T: torch.Tensor | int,
    schedule: NoiseSchedule,
    *,
    reward_schedule: Callable[[float], float] | None = None,
    shape: Sequence[int] | None = None,
    steps: int = 500,
    noise_scale: float = 1.0,
    resampling: Resampling | None = "systematic",
    ess_threshold: float | None = None,
    generator: torch.Generator | int | None = None,
) -> WeightedSamples:
    """Sample from ``q e^r``: a model's density tilted towards high reward; `fkc_sample` with exponent 1 and a reward.

    Parameters
    ----------
    denoiser, reward, x_T, schedule, reward_schedule, shape, steps, noise_scale, resampling, ess_threshold, generator
        As in `fkc_sample`, which has further options.

    Raises
    ------
    TypeError, ValueError
        For a bad argument.

    Examples
    --------
    >>> from ritz.diffusion import GaussianMixtureDenoiser, VPLinear
    >>> q = GaussianMixtureDenoiser([1.0], [[0.0]], [1.0])
    >>> tilted = tilt(q, lambda x: 2 * x[:, 0], 4000, VPLinear(), shape=(1,), steps=200, generator=0)
    >>> float(tilted.mean().round())
    2.0
    """
    check_callable(reward, "reward")
    return fkc_sample(
        [denoiser],
        [1.0],
        x_T,
        schedule,
        reward=reward,
        reward_schedule=reward_schedule,
        shape=shape,
        steps=steps,
        noise_scale=noise_scale,
        resampling=resampling,
        ess_threshold=ess_threshold,
        generator=generator,
    )


def check_models(denoisers: object) -> list[Denoiser]:
    """Refuse what is no sequence of denoisers."""
    if callable(denoisers) or not isinstance(denoisers, Sequence) or not len(denoisers):
        raise TypeError(f"denoisers must be a sequence of one callable or more, got {type(denoisers).__name__}")
    for denoiser in denoisers:
        check_callable(denoiser, "denoisers: each")
    return list(denoisers)


def exponent_table(exponents: Sequence[Exponent], models: int, times: np.ndarray) -> np.ndarray:
    """The exponents (steps + 1, M) at all times."""
    if isinstance(exponents, str) or not hasattr(exponents, "__len__") or len(exponents) != models:
        raise ValueError(f"exponents must hold one number or function of t per denoiser, {models}, got {exponents!r:.60}")
    return np.array([[real(b(float(t)) if callable(b) else b, "exponents") for b in exponents] for t in times])


def _active_steps(active: tuple[float, float] | None, times: np.ndarray) -> list[bool]:
    if active is None:
        return [True] * (len(times) - 1)
    if not isinstance(active, Sequence) or len(active) != 2:
        raise TypeError(f"active must be a pair (t_min, t_max), got {active!r:.60}")
    low = real(active[0], "active[0]")
    high = real(active[1], "active[1]", at_least=low)
    return [bool(low <= t <= high) for t in times[:-1]]


def _starting_particles(x_T, shape, total: float, sigma: float, tilt: RewardTilt | None, generator) -> tuple[torch.Tensor, torch.Generator]:
    if isinstance(x_T, torch.Tensor):
        return check_start(x_T, "x_T"), torch_generator(generator, x_T.device)
    n = integer(x_T, "x_T", at_least=1)
    if not isinstance(shape, Sequence) or isinstance(shape, str) or not len(shape):
        raise TypeError(f"shape must be the shape of one sample where x_T is their number, got {shape!r:.60}")
    if total <= 0:
        raise ValueError(f"exponents must have a positive sum, got {total}: there is no density to draw x_T from")
    if tilt is not None and abs(tilt.factors[0]) > 1e-9:
        raise ValueError(f"reward_schedule must be 0 at t_start where x_T is drawn here, got {tilt.factors[0]}")
    generator = torch_generator(generator)
    size = [integer(length, "shape", at_least=1) for length in shape]
    return sigma / math.sqrt(total) * torch.randn(n, *size, generator=generator), generator


class RewardTilt:
    """The tilt R_i(y) = beta_i r(alpha_i y) at the nodes of a grid of times."""

    def __init__(self, reward: Reward, reward_schedule: Callable | None, schedule: NoiseSchedule, times: np.ndarray):
        check_callable(reward, "reward")
        first, last = float(times[0]), float(times[-1])
        factor = (lambda t: (first - t) / (first - last)) if reward_schedule is None else reward_schedule
        check_callable(factor, "reward_schedule")
        self.reward, self.alphas = reward, schedule.alpha(times).tolist()
        self.factors = [real(factor(float(t)), "reward_schedule") for t in times]

    def gradient(self, y: torch.Tensor, i: int) -> torch.Tensor:
        """Gradient of R_i at y."""
        return torch.func.grad(lambda y: self.factors[i] * self._values(self.alphas[i] * y).sum())(y)

    def change(self, y: torch.Tensor, i: int) -> torch.Tensor:
        """R_{i+1}(y) - R_i(y)."""
        return self.factors[i + 1] * self._values(self.alphas[i + 1] * y) - self.factors[i] * self._values(self.alphas[i] * y)

    def _values(self, x: torch.Tensor) -> torch.Tensor:
        values = self.reward(x)
        if values.shape != (len(x),):
            raise ValueError(f"reward must return shape ({len(x)},), got {tuple(values.shape)}")
        return values


class ParticleSolver:
    """Moves and weighs particles, step by step: told the state and what the models answered there, it returns the next state.

    Parameters
    ----------
    levels : list of float
        Falling noise levels of the steps + 1 nodes.
    exponents : ndarray (steps + 1, M)
        The exponents at the nodes.
    y : Tensor (n, *shape)
        The particles at the first node.
    active_steps : list of bool, optional
        The steps whose weights count; all by default.
    tilt : RewardTilt, optional
        The reward.
    noise_scale, last_step_noise, resampling, ess_threshold, clip_increment
        As in `fkc_sample`.
    """

    def __init__(
        self,
        levels: list[float],
        exponents: np.ndarray,
        y: torch.Tensor,
        *,
        noise_scale: float = 1.0,
        last_step_noise: bool = True,
        resampling: Resampling | None = "systematic",
        ess_threshold: float | None = None,
        active_steps: list[bool] | None = None,
        tilt: RewardTilt | None = None,
        clip_increment: float | None = None,
    ):
        n = len(y)
        self.levels, self.exponents, self.tilt = levels, exponents, tilt
        self.noise_scale = real(noise_scale, "noise_scale", at_least=0)
        self.last_step_noise = flag(last_step_noise, "last_step_noise")
        self.resampling = None if resampling is None else choice(resampling, "resampling", ("systematic", "birth_death"))
        if resampling is not None and n == 1:
            raise ValueError("x_T must hold two particles or more for resampling; one alone needs resampling=None")
        self.ess_limit = math.inf if ess_threshold is None else n * real(ess_threshold, "ess_threshold", at_least=0, at_most=1)
        self.clip = None if clip_increment is None else real(clip_increment, "clip_increment", above=0)
        self.active_steps = [True] * (len(levels) - 1) if active_steps is None else active_steps
        self.index = 0
        self.log_weights = torch.zeros(n, dtype=torch.float64, device=y.device)
        self.ancestors = torch.arange(n, device=y.device)
        self.log_normalizer, self.ess_history = 0.0, []
        varies = bool((exponents != exponents[0]).any())
        self._log_q = [normal_log_density(y, levels[0]).double() for _ in exponents[0]] if varies else None
        self._clocks: BirthDeathClocks | None = None

    def step(self, y: torch.Tensor, answers: list[torch.Tensor], generator: torch.Generator) -> torch.Tensor:
        """Move the particles from node `index` to the next, weigh them, and resample."""
        i = self.index
        s, t = self.levels[i], self.levels[i + 1]
        dq = s**2 - t**2
        b = self.exponents[i].tolist()
        pulls = [data - y for data in answers]  # s^2 times the scores
        total = sum(factor * pull for factor, pull in zip(b, pulls))
        gradient = None if self.tilt is None else self.tilt.gradient(y, i)
        moved = y + (0.5 * (1 + self.noise_scale) * dq / s**2) * total
        if gradient is not None:
            moved = moved + (0.5 * self.noise_scale * dq) * gradient
        if self.noise_scale and (self.last_step_noise or i + 2 < len(self.levels)):
            noise = torch.randn(y.shape, generator=generator, dtype=y.dtype, device=y.device)
            moved = moved + math.sqrt(self.noise_scale * dq) * noise
        increment = 0.5 * dq / s**4 * (_squares(total) - sum(factor * _squares(pull) for factor, pull in zip(b, pulls))).double()
        if gradient is not None:
            increment = increment + 0.5 * dq / s**2 * _inner(total, gradient).double() + self.tilt.change(y, i).double()
        if self._log_q is not None:
            increment = increment + self._follow_densities(moved - y, [pull / s**2 for pull in pulls], dq)
        self.index += 1
        return self._weigh(moved, increment, generator) if self.active_steps[i] else self._record(moved)

    def result(self, y: torch.Tensor, nfe: int) -> WeightedSamples:
        """What is returned at the end."""
        history = torch.tensor(self.ess_history, dtype=torch.float64)
        return WeightedSamples(y, self.log_weights, history, self.ancestors, self.log_normalizer, nfe)

    def _follow_densities(self, dy: torch.Tensor, scores: list[torch.Tensor], dq: float) -> torch.Tensor:
        """Carry log q_i to the next node, and return what the change of the exponents there adds to the weights."""
        self._log_q = [log_q + ito_increment(dy, score, dq).double() for log_q, score in zip(self._log_q, scores)]
        change = self.exponents[self.index + 1] - self.exponents[self.index]
        return sum(float(db) * log_q for db, log_q in zip(change, self._log_q))

    def _weigh(self, y: torch.Tensor, increment: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        if bool(torch.isnan(increment).any()):
            raise ValueError(f"the weights became NaN at step {self.index}: a denoiser or the reward answered NaN, or infinities met")
        if self.clip is not None:
            increment = (increment - increment.mean()).clamp(-self.clip, self.clip)
        before = torch.logsumexp(self.log_weights, 0)
        weighed = self.log_weights + increment
        after = torch.logsumexp(weighed, 0)
        if bool(torch.isneginf(after)):
            raise ValueError(f"all weights became zero at step {self.index}")
        self.log_normalizer += float(after - before)
        if self.resampling == "birth_death":
            self.ess_history.append(effective_sample_size(increment))
            self._clocks = self._clocks or BirthDeathClocks(len(y), y.device, generator)
            return self._inherit(y, self._clocks.ancestors(increment, generator))
        self.log_weights = weighed
        self._record(y)
        if self.resampling is None or not self.ess_history[-1] < self.ess_limit:
            return y
        ancestors = resampled_indices(weighed, "systematic", generator)
        self.log_weights = torch.zeros_like(weighed)
        return self._inherit(y, ancestors)

    def _record(self, y: torch.Tensor) -> torch.Tensor:
        self.ess_history.append(effective_sample_size(self.log_weights))
        return y

    def _inherit(self, y: torch.Tensor, ancestors: torch.Tensor) -> torch.Tensor:
        self.ancestors = self.ancestors[ancestors]
        if self._log_q is not None:
            self._log_q = [log_q[ancestors] for log_q in self._log_q]
        return y[ancestors]


class BirthDeathClocks:
    """The jump process that replaces weights.

    Particles die at half the rate by which they fall short of the mean increment, and are replaced by others in proportion to their excess; and they
    give birth at half the rate of their own excess, in the place of others in proportion to the shortfall of those. Either process alone at its full
    rate has the right law, both at their full rates would not: the halves together move fewer particles at a time.
    """

    def __init__(self, n: int, device: torch.device, generator: torch.Generator):
        self.elapsed = torch.zeros(2, n, dtype=torch.float64, device=device)
        self.rings_at = self._new_times(torch.ones_like(self.elapsed, dtype=torch.bool), generator)

    def ancestors(self, increment: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """For each particle (n,) the one whose place it takes up: most often itself."""
        difference = increment - increment.mean()
        shortfall, excess = difference.clamp(max=0).neg(), difference.clamp(min=0)
        self.elapsed += 0.5 * torch.stack([shortfall, excess])
        ringing = self.elapsed >= self.rings_at
        ancestors = torch.arange(len(increment), device=increment.device)
        dead, born = (torch.nonzero(row)[:, 0] for row in ringing)
        if len(dead):
            ancestors[dead] = torch.multinomial(excess, len(dead), replacement=True, generator=generator)
        if len(born):
            ancestors[torch.multinomial(shortfall, len(born), replacement=True, generator=generator)] = born
        if bool(ringing.any()):
            self.elapsed[ringing] = 0.0
            self.rings_at = torch.where(ringing, self._new_times(ringing, generator), self.rings_at)
        return ancestors

    def _new_times(self, like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return torch.empty(like.shape, dtype=torch.float64, device=like.device).exponential_(generator=generator)


def _squares(x: torch.Tensor) -> torch.Tensor:
    return x.flatten(1).square().sum(1)


def _inner(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (x * y).flatten(1).sum(1)
