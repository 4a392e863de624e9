"""The exact mixture at many points, and a flow against the bare loop of its network calls."""

import torch

from ritz.diffusion import GaussianMixtureInterpolant, Interpolant, interpolant_flow
from ritz.studies import benchmark, compare, within


@benchmark
def exact_mixture():
    """10^5 points and 16 pairs of components in the plane, velocity and score: at most 30 ms each."""
    generator = torch.Generator().manual_seed(0)
    ends = [[1.0] * 4, torch.randn(4, 2, generator=generator), [0.1] * 4, [1.0] * 4, torch.randn(4, 2, generator=generator), [0.2] * 4]
    mixture, x = GaussianMixtureInterpolant(*ends, Interpolant()), torch.randn(100_000, 2, generator=generator)
    for name in ("b", "s"):
        function = getattr(mixture, name)
        function(x, 0.3)
        yield within(f"{name}, 10^5 points, 16 pairs", lambda function=function: function(x, 0.3), limit=0.03)


@benchmark
def flow_of_a_network():
    """100 steps of Heun's method: within 1.1 of the 200 network calls alone."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(3, 128), torch.nn.SiLU(), torch.nn.Linear(128, 128), torch.nn.SiLU(), torch.nn.Linear(128, 2))
    network.requires_grad_(False)
    x0 = torch.randn(2000, 2)

    def b(x, t):
        return network(torch.cat([x, t[:, None]], dim=1))

    def bare():
        x, t = x0, x0.new_zeros(len(x0))
        for _ in range(100):
            first = b(x, t)
            x = x + 0.005 * (first + b(x + 0.01 * first, t))
        return x

    return compare("100 steps, 2,000 points", lambda: interpolant_flow(b, x0, steps=100), bare, peer_name="the calls alone", target=1 / 1.1)
