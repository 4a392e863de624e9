"""Exact interpolants between Gaussian mixtures: velocity, score, denoiser and density belong together."""

import numpy as np
import pytest
import torch
from diffusion.interpolant_cases import DOUBLE, ONE_SIDED, TWO_SIDED, case_name, mixture_between, normal
from specimens import Specimen

from ritz.diffusion import (
    GaussianMixtureInterpolant,
    Interpolant,
    ScoreFromDenoiser,
    VelocityFromParts,
)

SPECIMENS = {
    "GaussianMixtureInterpolant": Specimen(
        lambda **parts: GaussianMixtureInterpolant(**parts, interpolant=Interpolant()),
        lambda: {
            "weights0": np.ones(2),
            "means0": np.array([[0.0, 1.0], [1.0, 0.0]]),
            "covs0": np.ones(2),
            "weights1": np.ones(1),
            "means1": np.zeros((1, 2)),
            "covs1": np.ones((1, 2)),
        },
    ),
}


@pytest.mark.parametrize(("path", "gamma"), [*TWO_SIDED, *ONE_SIDED], ids=case_name)
def test_exact_velocity_score_and_density_belong_together(path, gamma):
    interpolant = Interpolant(path, gamma)
    mixture, x = mixture_between(2, interpolant), 1.5 * normal(20, 2)
    for t in (0.2, 0.7):
        b, v, s = (getattr(mixture, name)(x, t) for name in ("b", "v", "s"))
        torch.testing.assert_close(b, v - interpolant.gg_dot(t) * s, atol=1e-10, rtol=1e-10)
        torch.testing.assert_close(mixture.eta(x, t), -interpolant.gamma(t) * s, atol=1e-10, rtol=1e-10)
        moving = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(mixture.log_prob(moving, t).sum(), moving)
        torch.testing.assert_close(s, gradient, atol=1e-10, rtol=1e-10)
        h = 1e-5  # the continuity equation, d log rho / dt = -div b - b s
        change = (mixture.log_prob(x, t + h) - mixture.log_prob(x, t - h)) / (2 * h)
        divergence = torch.func.vmap(lambda y, t=t: torch.func.jacfwd(lambda y: mixture.b(y[None], t)[0])(y).trace())(x)
        torch.testing.assert_close(change, -divergence - (b * s).sum(1), atol=1e-5, rtol=1e-5)
    each = torch.linspace(0.1, 0.9, 20, dtype=DOUBLE)
    torch.testing.assert_close(mixture.b(x, each)[3:4], mixture.b(x[3:4], float(each[3])))
    if gamma != "zero" or interpolant.one_sided:
        derived = VelocityFromParts(mixture.v, ScoreFromDenoiser(mixture.eta, interpolant), interpolant)
        torch.testing.assert_close(derived(x, each), mixture.b(x, each), atol=1e-10, rtol=1e-10)
