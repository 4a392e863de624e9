"""The learned path against the Schrodinger bridge between two Gaussians."""

import math

import numpy as np
import pytest
import torch
from specimens import Specimen

from ritz.diffusion import SchrodingerInterpolant, schrodinger_bridge_interpolant

SPECIMENS = {
    "SchrodingerInterpolant": Specimen(lambda: SchrodingerInterpolant(torch.nn.Identity(), torch.nn.Identity(), 0.5, np.zeros(1)), dict),
    "schrodinger_bridge_interpolant": Specimen(
        lambda **options: schrodinger_bridge_interpolant(lambda n: torch.zeros(n, 1), lambda n: torch.ones(n, 1), generator=0, **options),
        lambda: {"epsilon": 0.5, "steps": 1, "drift_steps": 1, "batch_size": 4, "width": 4, "lr": 1e-3},
    ),
}


def test_the_learned_path_is_the_bridge_between_gaussians():
    """From N(-1, 1/4) to N(1, 1/4) the bridge of sqrt(2 epsilon) W couples its ends by a known covariance."""
    generator = torch.Generator().manual_seed(0)

    def draw(center: float):
        return lambda n: center + 0.5 * torch.randn(n, 1, generator=generator)

    epsilon, variance = 0.25, 0.25
    bridge = schrodinger_bridge_interpolant(draw(-1.0), draw(1.0), epsilon=epsilon, steps=150, batch_size=256, width=32, lr=4e-3, generator=0)
    x0 = draw(-1.0)(10_000)
    x1 = bridge.sample(x0, steps=50, generator=1).x
    assert float(x1.mean()) == pytest.approx(1.0, abs=0.1)
    assert float(x1.std()) == pytest.approx(0.5, abs=0.08)
    exact = 0.5 * (math.sqrt(4 * variance**2 + (2 * epsilon) ** 2) - 2 * epsilon)
    independent = 0.0
    found = float(torch.cov(torch.cat([x0, x1], 1).T)[0, 1])
    assert abs(found - exact) < 0.5 * abs(exact - independent)
