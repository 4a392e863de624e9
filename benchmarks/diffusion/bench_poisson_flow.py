"""PFGM++'s perturbation against Gaussian noise, and its exact field against the product of matrices within it."""

import torch

from ritz.diffusion import EmpiricalDenoiser, PoissonFlow, pfgmpp_field
from ritz.studies import benchmark, compare


@benchmark
def perturbation():
    """512 samples of 3072 numbers: at most 1.3 times as long as Gaussian noise."""
    x0, flow = torch.zeros(512, 3072), PoissonFlow(128, 3072)
    generator = torch.Generator().manual_seed(0)
    return compare(
        "perturb, 512 x 3072",
        lambda: flow.perturb(x0, 0.5, generator),
        lambda: x0 + 0.5 * torch.randn(x0.shape, generator=generator),
        peer_name="x + sigma randn",
        target=1 / 1.3,
        shortest=0.1,
    )


@benchmark
def exact_field():
    """1,000 queries on 10,000 points of 64 dimensions, against the distances alone by torch.cdist."""
    data, x, flow = torch.randn(10_000, 64), torch.randn(1_000, 64), PoissonFlow(128, 64)
    empirical = EmpiricalDenoiser(data)
    return compare(
        "field, 1,000 queries on 10,000 points", lambda: pfgmpp_field(empirical, x, 0.5, flow), lambda: torch.cdist(x, data), peer_name="torch.cdist"
    )
