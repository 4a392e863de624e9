"""Alignment of graphs by stochastic descent over Sinkhorn's doubly stochastic matrices.

Petric Maretic et al., "GOT: An Optimal Transport framework for Graph comparison", NeurIPS 2019, arXiv:1906.02085, section 4: P is Sinkhorn's
projection of a Gaussian random matrix whose means and deviations are trained to make the expected Wasserstein distance of the aligned signals small.
"""

from __future__ import annotations

import numpy as np
import scipy.optimize
import torch

STEPS = 1000
LEARNING_RATE = 0.2
TEMPERATURE = 1.0
SINKHORN_ROUNDS = 10
FIRST_DEVIATION = 10.0
LEAST_LOGARITHM = -300.0  # below this lie subnormal numbers and their slow arithmetic


def transport_alignment(factor: np.ndarray, reference_factor: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Return the permutation p (n,) that brings the signals with factor X[p] near to the reference's; `draws` random matrices a step."""
    generator = torch.Generator().manual_seed(seed)
    X, reference = torch.from_numpy(factor), torch.from_numpy(reference_factor)
    covariance = X @ X.T
    mean = torch.rand(X.shape, generator=generator, dtype=X.dtype).requires_grad_()
    deviation = torch.full_like(X, FIRST_DEVIATION).requires_grad_()
    optimizer = torch.optim.Adam([mean, deviation], lr=LEARNING_RATE, amsgrad=True)
    for _ in range(STEPS):
        noise = torch.randn((draws, *X.shape), generator=generator, dtype=X.dtype)
        P = _doubly_stochastic(mean + deviation * noise)
        spread = torch.einsum("kij,kij->k", P @ covariance, P)  # tr P L^+ P^T; the reference's trace is constant
        overlap = torch.linalg.svdvals(reference.T @ P @ X).sum(dim=-1)
        optimizer.zero_grad()
        (spread - 2 * overlap).mean().backward()
        optimizer.step()
    return scipy.optimize.linear_sum_assignment(_doubly_stochastic(mean.detach()).numpy(), maximize=True)[1]


def _doubly_stochastic(values: torch.Tensor) -> torch.Tensor:
    logarithms = values / TEMPERATURE
    for _ in range(SINKHORN_ROUNDS):
        logarithms = logarithms - logarithms.logsumexp(dim=-1, keepdim=True)
        logarithms = logarithms - logarithms.logsumexp(dim=-2, keepdim=True)
    return logarithms.clamp(min=LEAST_LOGARITHM).exp()
