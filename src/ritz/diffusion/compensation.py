"""Compensation ratios of DC-Solver: how they are kept, and their prediction for numbers of steps and guidance scales that were never searched.

Zhao et al., ECCV 2024, arXiv:2409.03755, section 3.3. Ratios of neighboring settings resemble each other. Cascade polynomial regression makes them a
polynomial in the step's position i / N, whose coefficients are quadratic in the guidance scale, and the coefficients of those quadratic in N. All is
linear in the 9 (Q + 1) numbers of the innermost level.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from ritz.core import Result, array, choice, integer, real, to_numpy
from ritz.diffusion.json_files import read_settings, write_settings
from ritz.diffusion.schedules import SPACINGS, NoiseSchedule, Spacing, timesteps

VARIANTS = ("bh1", "bh2")
MAX_DC_ORDER = 3


@dataclass(frozen=True, eq=False, repr=False)
class Compensation(Result):
    """The compensation ratios of a sampler, and the settings of the sampler that they belong to.

    Attributes
    ----------
    ratios : ndarray (steps,) float64
        The ratio before each step; 1 changes nothing, and is what the first `dc_order` steps have.
    spacing : str
        The grid of times.
    order : int
        Order of UniPC, 1 to 3.
    variant : {"bh1", "bh2"}
        Its B(h).
    dc_order : int
        Degree K of the interpolating polynomial, 1 to 3.
    guidance : float or None
        The guidance scale of the denoiser, if it is known.
    times : ndarray (steps + 1,) or None
        The sampler's times; a sampler on other times refuses the ratios. None for predicted ratios, which belong to no schedule.
    losses : ndarray (steps,) or None
        Mean squared distance from the reference after each step, as the search left it.

    Raises
    ------
    TypeError, ValueError
        If a field is none of this, or the lengths do not fit together.

    Examples
    --------
    >>> Compensation([1.0, 1.0, 0.9], spacing="uniform", order=3).steps
    3
    """

    ratios: np.ndarray
    spacing: Spacing = "uniform"
    order: int = 3
    variant: str = "bh1"
    dc_order: int = 2
    guidance: float | None = None
    times: np.ndarray | None = None
    losses: np.ndarray | None = None

    def __post_init__(self):
        object.__setattr__(self, "ratios", _numbers(self.ratios, "ratios"))
        choice(self.spacing, "spacing", SPACINGS)
        integer(self.order, "order", at_least=1, at_most=3)
        choice(self.variant, "variant", VARIANTS)
        integer(self.dc_order, "dc_order", at_least=1, at_most=MAX_DC_ORDER)
        if self.guidance is not None:
            object.__setattr__(self, "guidance", real(self.guidance, "guidance"))
        for name, length in (("times", self.steps + 1), ("losses", self.steps)):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _numbers(getattr(self, name), name, length))

    @property
    def steps(self) -> int:
        """Number of steps."""
        return len(self.ratios)

    def grid(self, schedule: NoiseSchedule) -> np.ndarray:
        """The sampler's times (steps + 1,) under a schedule; refuses one for which the ratios were not made."""
        times = timesteps(schedule, self.steps, self.spacing)
        if self.times is not None and not np.allclose(times, self.times, rtol=1e-5, atol=0):
            raise ValueError(
                f"compensation was made for times from {self.times[0]:.4g} to {self.times[-1]:.4g}, which are not those of this schedule "
                f"({times[0]:.4g} to {times[-1]:.4g}, spacing {self.spacing})"
            )
        return times

    def save(self, path: str | os.PathLike) -> None:
        """Write it to a ``.json`` file, whole or not at all."""
        write_settings(path, {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in self.as_dict().items()})

    @classmethod
    def load(cls, path: str | os.PathLike) -> Compensation:
        """Read what `save` wrote.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is no such file, or spoiled.
        """
        return cls(**read_settings(path, [field.name for field in fields(cls)]))


@dataclass(frozen=True, eq=False, repr=False)
class CascadePolynomial(Result):
    """Compensation ratios as a function of the number of steps and the guidance scale, from `fit_cascade`.

    ``r_i = sum_q (i / N)^q sum_a (w / 12)^a sum_b (N / 50)^b coefficients[q, a, b]`` for step i = dc_order + 1 .. N of N at guidance w, else 1.

    Attributes
    ----------
    coefficients : ndarray (Q + 1, 3, 3)
        By powers of i / N, w / 12 and N / 50.
    residual : float
        Root mean square of what the fit left of the searched ratios.
    steps_range, guidance_range : tuple of float
        Smallest and largest number of steps and guidance scale that were searched.
    spacing, order, variant, dc_order
        The settings that all searched compensations had.

    Raises
    ------
    TypeError, ValueError
        If a field is none of this.
    """

    coefficients: np.ndarray
    residual: float
    steps_range: tuple[float, float]
    guidance_range: tuple[float, float]
    spacing: Spacing
    order: int
    variant: str
    dc_order: int

    def __post_init__(self):
        coefficients = to_numpy(array(self.coefficients, "coefficients", shape=(None, 3, 3))).astype(np.float64)
        object.__setattr__(self, "coefficients", coefficients)
        real(self.residual, "residual", at_least=0)
        for name in ("steps_range", "guidance_range"):
            ends = _numbers(getattr(self, name), name, 2).tolist()
            if ends[0] > ends[1]:
                raise ValueError(f"{name} must rise, got {ends}")
            object.__setattr__(self, name, tuple(ends))
        Compensation([1.0], **self._settings)

    @property
    def _settings(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in SETTINGS}

    def predict(self, *, steps: int, guidance: float) -> Compensation:
        """Return the ratios for a number of steps and a guidance scale.

        Parameters
        ----------
        steps : int
            Number of steps.
        guidance : float
            Guidance scale.

        Raises
        ------
        TypeError, ValueError
            If one lies more than 20 % beyond what was searched; up to that there is a warning.
        """
        integer(steps, "steps", at_least=1)
        real(guidance, "guidance")
        _check_reach(steps, "steps", self.steps_range)
        _check_reach(guidance, "guidance", self.guidance_range)
        rows = _design(steps, guidance, self.dc_order, len(self.coefficients) - 1)
        ratios = np.concatenate([np.ones(steps - len(rows)), rows @ self.coefficients.reshape(-1)])
        return Compensation(ratios, guidance=guidance, **self._settings)

    def save(self, path: str | os.PathLike) -> None:
        """Write it to a ``.json`` file, whole or not at all."""
        write_settings(path, self.as_dict() | {"coefficients": self.coefficients.tolist()})

    @classmethod
    def load(cls, path: str | os.PathLike) -> CascadePolynomial:
        """Read what `save` wrote.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is no such file, or spoiled.
        """
        return cls(**read_settings(path, [field.name for field in fields(cls)]))


SETTINGS = ("spacing", "order", "variant", "dc_order")


def fit_cascade(compensations: Sequence[Compensation], *, degree: int = 3) -> CascadePolynomial:
    """Fit compensation ratios as a function of the number of steps and the guidance scale, by linear least squares.

    Parameters
    ----------
    compensations : sequence of Compensation
        Searched ones of different numbers of steps and guidance scales, otherwise alike, each with its guidance. Three of each determine the
        polynomial; with fewer it is the one of least coefficients.
    degree : int
        Degree Q in the position of the step. The authors' file for Stable Diffusion 2.1 has 3.

    Returns
    -------
    CascadePolynomial

    Raises
    ------
    TypeError, ValueError
        For a bad argument, no ratio to fit, no guidance, or settings that differ.

    Examples
    --------
    >>> searched = [Compensation([1, 1, 0.9, 0.8, 0.7], guidance=w) for w in (1.5, 3.0, 7.5)]
    >>> fit_cascade(searched).predict(steps=5, guidance=5.0).ratios.round(3)
    array([1. , 1. , 0.9, 0.8, 0.7])
    """
    integer(degree, "degree", at_least=0)
    if not isinstance(compensations, Sequence) or not compensations or not all(isinstance(one, Compensation) for one in compensations):
        raise TypeError("compensations must be one Compensation or more")
    if any(one.guidance is None for one in compensations):
        raise ValueError("compensations must each know its guidance")
    settings = [{name: getattr(one, name) for name in SETTINGS} for one in compensations]
    if any(other != settings[0] for other in settings):
        raise ValueError(f"compensations must agree in {', '.join(SETTINGS)}")
    if all(one.steps <= one.dc_order for one in compensations):
        raise ValueError("compensations hold no searched ratio: their steps are too few")
    rows = np.concatenate([_design(one.steps, one.guidance, one.dc_order, degree) for one in compensations])
    ratios = np.concatenate([one.ratios[one.dc_order :] for one in compensations])
    coefficients = np.linalg.lstsq(rows, ratios, rcond=None)[0]
    residual = float(np.sqrt(np.mean((rows @ coefficients - ratios) ** 2)))
    steps, guidances = ([getattr(one, name) for one in compensations] for name in ("steps", "guidance"))
    ranges = (float(min(steps)), float(max(steps))), (min(guidances), max(guidances))
    return CascadePolynomial(coefficients.reshape(degree + 1, 3, 3), residual, *ranges, **settings[0])


def _design(steps: int, guidance: float, dc_order: int, degree: int) -> np.ndarray:
    """A row for each compensated step: the products of powers in the order of the coefficients."""
    position = np.arange(dc_order + 1, steps + 1)[:, None] / steps
    scales = np.outer((guidance / 12) ** np.arange(3), (steps / 50) ** np.arange(3)).reshape(-1)
    return (position ** np.arange(degree + 1))[:, :, None].repeat(9, axis=2).reshape(-1, 9 * (degree + 1)) * np.tile(scales, degree + 1)


def _check_reach(value: float, name: str, searched: tuple[float, float]) -> None:
    """Refuse what lies more than 20 % beyond the searched range, and warn beyond it."""
    low, high = searched
    if low <= value <= high:
        return
    outside = f"{name} = {value:g} lies outside the searched range, {low:g} to {high:g}"
    if (value > high and value - high > 0.2 * abs(high)) or (value < low and low - value > 0.2 * abs(low)):
        raise ValueError(f"{outside}, by more than 20 %")
    warnings.warn(outside, UserWarning, stacklevel=3)


def _numbers(value: object, name: str, length: int | None = None) -> np.ndarray:
    return to_numpy(array(value, name, shape=(length,))).astype(np.float64)
