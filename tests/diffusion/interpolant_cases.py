"""Interpolants, mixtures and small functions that the tests of stochastic interpolants share."""

import numpy as np
import torch

from ritz.diffusion import GaussianMixtureInterpolant, Interpolant, InterpolantNoise, InterpolantPath

DOUBLE = torch.float64
SQUARES = InterpolantPath(lambda t: 1 - t**2, lambda t: t**2, lambda t: -2 * t, lambda t: 2 * t)
BUMP = InterpolantNoise(lambda t: 0.5 * t * (1 - t), lambda t: 0.25 * t * (1 - t) * (1 - 2 * t))
TWO_SIDED = [(path, gamma) for path in ("linear", "trig", "encdec") for gamma in ("brownian", "bsquared", "sinesquared", "sigmoid")]
TWO_SIDED = [pair for pair in TWO_SIDED if pair != ("trig", "sinesquared")] + [(SQUARES, BUMP), ("linear", "zero")]
ONE_SIDED = [("one_sided_linear", "zero"), ("one_sided_trig", "zero")]


def normal(*shape: int, seed: int = 0, dtype=DOUBLE) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def zero(x, t):
    return torch.zeros_like(x)


def mixture_between(d: int, interpolant: Interpolant) -> GaussianMixtureInterpolant:
    rng = np.random.default_rng(0)
    two = [0.3, 0.7], rng.normal(size=(2, d)), 0.1 + rng.random((2, d))
    first = ([1.0], np.zeros((1, d)), [1.0]) if interpolant.one_sided else two
    A = rng.normal(size=(2, d, d))
    second = [0.4, 0.6], 1.5 * rng.normal(size=(2, d)), 0.2 * A @ A.transpose(0, 2, 1) + 0.2 * np.eye(d)
    return GaussianMixtureInterpolant(*first, *second, interpolant)


def case_name(part: object) -> str:
    """The name of a path or a noise in the names of tests, the same in every process."""
    return part if isinstance(part, str) else type(part).__name__
