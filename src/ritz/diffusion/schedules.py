"""Noise schedules: how signal and noise of a diffusion are mixed at time t, and the grids of times that samplers walk.

The forward kernel is ``x_t | x_0 ~ N(alpha(t) x_0, sigma(t)^2 I)``; t grows with the noise. Divided by alpha every schedule is the same process,
``y = x / alpha = x_0 + rho n`` with ``rho = sigma / alpha``, whose probability-flow ODE is ``dy/drho = (y - D(y, rho)) / rho`` for a denoiser D.
All samplers of this room work in that frame and with ``lam = log(alpha / sigma) = -log rho``, half the logarithm of the signal-to-noise ratio,
so a schedule only decides the grid, what a network is told about the time, and the factor alpha that takes y back to x.

Sources: VPLinear and VE are the VP and VE SDEs of Song et al., ICLR 2021, arXiv:2011.13456, appendix B; VPCosine of Nichol and Dhariwal, ICML 2021,
arXiv:2102.09672, section 3.2; EDM of Karras et al., NeurIPS 2022, arXiv:2206.00364; Flow of Liu et al., ICLR 2023, arXiv:2209.03003, with the time
shift of Esser et al., ICML 2024, arXiv:2403.03206, section 5.3.2; Discrete of Lu et al., NeurIPS 2022, arXiv:2206.00927, appendix D.4.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Literal

import numpy as np

from ritz.core import array, choice, integer, is_torch, namespace, positive, real, to_numpy

Spacing = Literal["logsnr", "uniform", "quadratic", "karras"]
SPACINGS: tuple[Spacing, ...] = ("logsnr", "uniform", "quadratic", "karras")


class NoiseSchedule(ABC):
    """A noise schedule: every method takes a float, a NumPy array or a torch tensor of times t > 0 and returns the same kind.

    Attributes
    ----------
    t_min, t_max : float
        The range of times that samplers use unless told otherwise.

    Raises
    ------
    TypeError, ValueError
        By every method, if its argument holds no finite numbers, or a time is not positive.

    Examples
    --------
    >>> schedule = VPLinear()
    >>> round(schedule.alpha(0.5) ** 2 + schedule.sigma(0.5) ** 2, 12)
    1.0
    >>> round(schedule.inverse_lam(schedule.lam(0.5)), 12)
    0.5
    """

    t_min: float
    t_max: float

    def log_alpha(self, t):
        """Logarithm of the factor of the signal."""
        return _evaluate(self._log_alpha, _times(t))

    def alpha(self, t):
        """Factor of the signal."""
        return _evaluate(lambda t, xp: xp.exp(self._log_alpha(t, xp)), _times(t))

    def sigma(self, t):
        """Standard deviation of the noise."""
        return _evaluate(self._sigma, _times(t))

    def rho(self, t):
        """Noise-to-signal ratio sigma / alpha: the standard deviation of the noise in y = x / alpha."""
        return _evaluate(lambda t, xp: xp.exp(-self._lam(t, xp)), _times(t))

    def lam(self, t):
        """Half the logarithm of the signal-to-noise ratio, log(alpha / sigma)."""
        return _evaluate(self._lam, _times(t))

    def inverse_lam(self, lam):
        """The time at which ``lam(t)`` equals `lam`."""
        return _evaluate(self._inverse_lam, _number_or_array(lam, "lam"))

    def dlog_alpha(self, t):
        """Time derivative of log alpha: the drift of the forward SDE is ``dlog_alpha(t) x``."""
        return _evaluate(self._dlog_alpha, _times(t))

    def g2(self, t):
        """Squared diffusion coefficient of the forward SDE, ``2 sigma^2 d/dt log(sigma / alpha)``."""
        return _evaluate(self._g2, _times(t))

    @abstractmethod
    def _log_alpha(self, t, xp): ...

    @abstractmethod
    def _sigma(self, t, xp): ...

    @abstractmethod
    def _lam(self, t, xp): ...

    @abstractmethod
    def _inverse_lam(self, lam, xp): ...

    @abstractmethod
    def _dlog_alpha(self, t, xp): ...

    @abstractmethod
    def _g2(self, t, xp): ...


class _VariancePreserving(NoiseSchedule):
    """alpha^2 + sigma^2 = 1, so all follows from log alpha; never through sqrt(1 - alpha^2), which cancels at small t."""

    def _sigma(self, t, xp):
        return xp.sqrt(-xp.expm1(2 * self._log_alpha(t, xp)))

    def _lam(self, t, xp):
        log_alpha = self._log_alpha(t, xp)
        return log_alpha - 0.5 * xp.log(-xp.expm1(2 * log_alpha))

    def _g2(self, t, xp):
        return -2 * self._dlog_alpha(t, xp)


@dataclass(frozen=True)
class VPLinear(_VariancePreserving):
    """Variance-preserving diffusion whose rate beta(t) grows linearly from `beta_min` to `beta_max` over [0, 1].

    ``log alpha = -t^2 (beta_max - beta_min) / 4 - t beta_min / 2``; used on [1e-3, 1].

    Raises
    ------
    TypeError, ValueError
        Unless 0 < beta_min < beta_max.

    Examples
    --------
    >>> round(VPLinear().rho(1.0), 1)
    152.2
    """

    beta_min: float = 0.1
    beta_max: float = 20.0
    t_min: float = 1e-3
    t_max: float = 1.0

    def __post_init__(self):
        real(self.beta_max, "beta_max", above=positive(self.beta_min, "beta_min"))
        _check_range(self)

    def _log_alpha(self, t, xp):
        return -0.25 * (self.beta_max - self.beta_min) * t**2 - 0.5 * self.beta_min * t

    def _dlog_alpha(self, t, xp):
        return -0.5 * (self.beta_max - self.beta_min) * t - 0.5 * self.beta_min

    def _inverse_lam(self, lam, xp):
        minus_2_log_alpha = _log_one_plus_exp(-2 * lam, xp)
        root = xp.sqrt(self.beta_min**2 + 2 * (self.beta_max - self.beta_min) * minus_2_log_alpha)
        return 2 * minus_2_log_alpha / (root + self.beta_min)


@dataclass(frozen=True)
class VPCosine(_VariancePreserving):
    """Variance-preserving diffusion with alpha a quarter of a cosine, ``cos((t + s) / (1 + s) pi / 2)`` over its value at t = 0.

    Used on [1e-3, 0.9946]: at t = 1 no signal is left.

    Raises
    ------
    TypeError, ValueError
        Unless s > 0.

    Examples
    --------
    >>> round(VPCosine().alpha(0.5), 3)
    0.703
    """

    s: float = 0.008
    t_min: float = 1e-3
    t_max: float = 0.9946

    def __post_init__(self):
        positive(self.s, "s")
        _check_range(self, at_most=1.0)

    def _angle(self, t):
        return (t + self.s) / (1 + self.s) * (math.pi / 2)

    def _log_alpha(self, t, xp):
        return xp.log(xp.cos(self._angle(t))) - math.log(math.cos(self._angle(0.0)))

    def _dlog_alpha(self, t, xp):
        return -xp.tan(self._angle(t)) * (math.pi / 2) / (1 + self.s)

    def _inverse_lam(self, lam, xp):
        log_alpha = -0.5 * _log_one_plus_exp(-2 * lam, xp)
        return xp.acos(xp.exp(log_alpha + math.log(math.cos(self._angle(0.0))))) * (2 * (1 + self.s) / math.pi) - self.s


@dataclass(frozen=True)
class VE(NoiseSchedule):
    """Variance-exploding diffusion: alpha = 1 and sigma grows geometrically from `sigma_min` at t = 0 to `sigma_max` at t = 1.

    Raises
    ------
    TypeError, ValueError
        Unless 0 < sigma_min < sigma_max.

    Examples
    --------
    >>> round(VE().sigma(1.0), 6)
    50.0
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0
    t_min: float = 1e-5
    t_max: float = 1.0

    def __post_init__(self):
        real(self.sigma_max, "sigma_max", above=positive(self.sigma_min, "sigma_min"))
        _check_range(self)

    @property
    def _rate(self) -> float:
        return math.log(self.sigma_max / self.sigma_min)

    def _log_alpha(self, t, xp):
        return xp.zeros_like(t)

    def _sigma(self, t, xp):
        return self.sigma_min * xp.exp(self._rate * t)

    def _lam(self, t, xp):
        return -math.log(self.sigma_min) - self._rate * t

    def _inverse_lam(self, lam, xp):
        return (-lam - math.log(self.sigma_min)) / self._rate

    def _dlog_alpha(self, t, xp):
        return xp.zeros_like(t)

    def _g2(self, t, xp):
        return 2 * self._rate * self._sigma(t, xp) ** 2


@dataclass(frozen=True)
class EDM(NoiseSchedule):
    """The time is the noise level: alpha = 1, sigma = t, used on [sigma_min, sigma_max].

    Raises
    ------
    TypeError, ValueError
        Unless 0 < sigma_min < sigma_max.

    Examples
    --------
    >>> EDM().sigma(2.0)
    2.0
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def __post_init__(self):
        real(self.sigma_max, "sigma_max", above=positive(self.sigma_min, "sigma_min"))

    @property
    def t_min(self) -> float:
        """The smallest noise level."""
        return self.sigma_min

    @property
    def t_max(self) -> float:
        """The largest noise level."""
        return self.sigma_max

    def _log_alpha(self, t, xp):
        return xp.zeros_like(t)

    def _sigma(self, t, xp):
        return 1.0 * t

    def _lam(self, t, xp):
        return -xp.log(t)

    def _inverse_lam(self, lam, xp):
        return xp.exp(-lam)

    def _dlog_alpha(self, t, xp):
        return xp.zeros_like(t)

    def _g2(self, t, xp):
        return 2.0 * t


@dataclass(frozen=True)
class Flow(NoiseSchedule):
    """The straight path of flow matching, ``x = (1 - t') x_0 + t' n``, with the shifted time ``t' = shift t / (1 + (shift - 1) t)``.

    Raises
    ------
    TypeError, ValueError
        Unless shift > 0.

    Examples
    --------
    >>> Flow().alpha(0.25), Flow(shift=3.0).sigma(0.25)
    (0.75, 0.5)
    """

    shift: float = 1.0
    t_min: float = 1e-3
    t_max: float = 1 - 1e-3

    def __post_init__(self):
        positive(self.shift, "shift")
        _check_range(self, below=1.0)

    def _log_alpha(self, t, xp):
        return xp.log1p(-self._sigma(t, xp))

    def _sigma(self, t, xp):
        return self.shift * t / (1 + (self.shift - 1) * t)

    def _lam(self, t, xp):
        return self._log_alpha(t, xp) - xp.log(self._sigma(t, xp))

    def _inverse_lam(self, lam, xp):
        shifted = xp.exp(-_log_one_plus_exp(lam, xp))
        return shifted / (self.shift - (self.shift - 1) * shifted)

    def _speed(self, t):
        return self.shift / (1 + (self.shift - 1) * t) ** 2

    def _dlog_alpha(self, t, xp):
        return -self._speed(t) / (1 - self._sigma(t, xp))

    def _g2(self, t, xp):
        sigma = self._sigma(t, xp)
        return 2 * self._speed(t) * sigma / (1 - sigma)


@dataclass(frozen=True, eq=False)
class Discrete(_VariancePreserving):
    """The schedule of a network trained on N discrete steps, made continuous: log alpha is linear between the times (i + 1) / N.

    Nodes at the noisy end whose `lam` is below -5.1 are dropped, since there the products of a table of betas underflow
    (the times of the others stay as they are); used on [1/N, (nodes left)/N].

    Parameters
    ----------
    alphas_cumprod : array (N,)
        ``alpha^2`` at step i = 0..N-1, strictly decreasing, in (0, 1): the table of that name in `diffusers` schedulers.

    Raises
    ------
    TypeError, ValueError
        Unless `alphas_cumprod` is such a table of at least two entries.

    Examples
    --------
    >>> schedule = Discrete(np.cumprod(1 - np.linspace(1e-4, 0.02, 1000)))
    >>> schedule.t_min, schedule.t_max
    (0.001, 1.0)
    """

    alphas_cumprod: np.ndarray

    def __post_init__(self):
        table = np.asarray(to_numpy(array(self.alphas_cumprod, "alphas_cumprod", ndim=1)), dtype=np.float64)
        if len(table) < 2 or not (np.all(np.diff(table) < 0) and table[0] < 1 and table[-1] > 0):
            raise ValueError(
                f"alphas_cumprod must fall strictly inside (0, 1) over at least two entries, got {len(table)} from {table[0]} to {table[-1]}"
            )
        log_alpha = 0.5 * np.log(table)
        kept = max(2, int(np.sum(log_alpha - 0.5 * np.log1p(-table) >= _LOWEST_DISCRETE_LAM)))
        object.__setattr__(self, "alphas_cumprod", table)
        object.__setattr__(self, "_nodes", np.arange(1, kept + 1) / len(table))
        object.__setattr__(self, "_values", log_alpha[:kept])

    @property
    def steps(self) -> int:
        """Number N of training steps."""
        return len(self.alphas_cumprod)

    @property
    def t_min(self) -> float:
        """The time 1/N of the first training step."""
        return float(self._nodes[0])

    @property
    def t_max(self) -> float:
        """The time of the last training step that is kept."""
        return float(self._nodes[-1])

    def _log_alpha(self, t, xp):
        return _interpolate(t, self._nodes, self._values, xp)[0]

    def _dlog_alpha(self, t, xp):
        return _interpolate(t, self._nodes, self._values, xp)[1]

    def _inverse_lam(self, lam, xp):
        log_alpha = -0.5 * _log_one_plus_exp(-2 * lam, xp)
        return _interpolate(log_alpha, self._values[::-1].copy(), self._nodes[::-1].copy(), xp)[0]


_LOWEST_DISCRETE_LAM = -5.1


def timesteps(
    schedule: NoiseSchedule,
    n: int,
    spacing: Spacing = "logsnr",
    *,
    rho: float = 7.0,
    t_start: float | None = None,
    t_end: float | None = None,
) -> np.ndarray:
    """Return the n + 1 decreasing times of a sampler of n steps.

    Parameters
    ----------
    schedule : NoiseSchedule
        Where the times live.
    n : int
        Number of steps.
    spacing : {"logsnr", "uniform", "quadratic", "karras"}
        Uniform in lam, in t, in sqrt(t), or in the noise level to the power 1/rho.
    rho : float
        The exponent of "karras".
    t_start, t_end : float, optional
        First (noisiest) and last time; the schedule's own range by default.

    Returns
    -------
    ndarray (n + 1,) float64

    Raises
    ------
    TypeError, ValueError
        For a bad argument, or if not 0 < t_end < t_start.

    Examples
    --------
    >>> timesteps(EDM(), 4, "uniform", t_start=1.0, t_end=0.2)
    array([1. , 0.8, 0.6, 0.4, 0.2])
    """
    check_schedule(schedule)
    integer(n, "n", at_least=1)
    choice(spacing, "spacing", SPACINGS)
    positive(rho, "rho")
    start = schedule.t_max if t_start is None else real(t_start, "t_start", above=0)
    end = schedule.t_min if t_end is None else real(t_end, "t_end", above=0, below=start)
    times = _grid(schedule, n, spacing, rho, start, end)
    times[0], times[-1] = start, end
    return times


def check_schedule(schedule: object) -> None:
    """Refuse what is no noise schedule."""
    if not isinstance(schedule, NoiseSchedule):
        raise TypeError(f"schedule must be a NoiseSchedule such as VPLinear(), got {type(schedule).__name__}")


def _grid(schedule: NoiseSchedule, n: int, spacing: Spacing, rho: float, start: float, end: float) -> np.ndarray:
    if spacing == "uniform":
        return np.linspace(start, end, n + 1)
    if spacing == "quadratic":
        return np.linspace(math.sqrt(start), math.sqrt(end), n + 1) ** 2
    if spacing == "logsnr":
        return schedule.inverse_lam(np.linspace(schedule.lam(start), schedule.lam(end), n + 1))
    levels = np.linspace(schedule.rho(start) ** (1 / rho), schedule.rho(end) ** (1 / rho), n + 1) ** rho
    return schedule.inverse_lam(-np.log(levels))


def _check_range(schedule: NoiseSchedule, **limits: float) -> None:
    real(schedule.t_max, "t_max", above=positive(schedule.t_min, "t_min"), **limits)


def _times(t):
    t = _number_or_array(t, "t")
    if not (bool((t > 0).all()) if hasattr(t, "shape") else t > 0):
        raise ValueError("t must be positive: at t = 0 there is no noise")
    return t


def _number_or_array(value, name: str):
    return real(value, name) if isinstance(value, Real) and not hasattr(value, "shape") else array(value, name)


def _evaluate(formula: Callable, value):
    """Apply an elementwise formula to a float or an array, and return the same kind."""
    if isinstance(value, float):
        return float(formula(np.asarray(value), namespace(np.asarray(value))))
    return formula(value, namespace(value))


def _log_one_plus_exp(x, xp):
    return xp.logaddexp(x, xp.zeros_like(x))


def _interpolate(x, nodes: np.ndarray, values: np.ndarray, xp):
    """Piecewise linear interpolation over rising nodes, the outer pieces prolonged; returns value and slope."""
    if is_torch(x):
        nodes, values = (xp.asarray(table, dtype=x.dtype, device=x.device) for table in (nodes, values))
    right = xp.clip(xp.searchsorted(nodes, x), 1, len(nodes) - 1)
    slope = ((values[1:] - values[:-1]) / (nodes[1:] - nodes[:-1]))[right - 1]
    return values[right] + slope * (x - nodes[right]), slope
