"""A training step of the light Schrodinger bridge against the same loss written with torch.distributions."""

import math

import numpy as np
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from ritz.diffusion import LightSchrodingerBridge
from ritz.studies import benchmark, compare, within

BATCH, K, DIM, STEPS = 128, 50, 50, 200


def _samples() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((2000, DIM)), 1.0 + rng.standard_normal((2000, DIM))


def _ours():
    X, Y = _samples()
    LightSchrodingerBridge(K, 1.0, steps=STEPS, batch_size=BATCH, tol=0.0, rng=0).fit(X, Y)


def _distributions():
    """Both terms from (batch, K, d) tensors, as the mixture of the library has them; double precision as well."""
    X, Y = (torch.from_numpy(part) for part in _samples())
    rng = np.random.default_rng(0)
    raw = torch.full((K,), -math.log(K), dtype=torch.float64, requires_grad=True)
    means, log_scales = Y[:K].clone().requires_grad_(), torch.full((K, DIM), math.log(0.1), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([raw, means, log_scales], lr=1e-3)
    for _ in range(STEPS):
        x, y = (sample[torch.from_numpy(rng.integers(len(sample), size=BATCH))] for sample in (X, Y))
        optimizer.zero_grad()
        mixture = MixtureSameFamily(Categorical(logits=raw), Independent(Normal(means, (0.5 * log_scales).exp()), 1))
        exponents = ((x[:, None] ** 2 * log_scales.exp()) / 2 + x[:, None] * means).sum(-1)
        loss = torch.logsumexp(raw + exponents, 1).mean() - mixture.log_prob(y).mean()
        loss.backward()
        optimizer.step()


@benchmark
def training():
    """200 steps of 128 points in 50 dimensions with 50 components: at most 1.5 ms a step, three times as fast as torch.distributions."""
    yield within(f"{STEPS} steps, batch {BATCH}, K = {K}, d = {DIM}", _ours, limit=1.5e-3 * STEPS)
    yield compare(f"{STEPS} steps", _ours, _distributions, peer_name="torch.distributions MixtureSameFamily", target=3.0, pairs=5)
