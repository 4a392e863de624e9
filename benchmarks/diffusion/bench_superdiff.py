"""SuperDiff: its step against a plain one with as many network calls, and Itô's density against the flow's with a derivative per call."""

import torch

from ritz.diffusion import EDM, VPLinear, euler_maruyama_sample, log_likelihood, superdiff, timesteps
from ritz.studies.timing import Comparison, benchmark, compare

STEPS, BATCH, PIXELS, WIDTH = 10, 64, 3072, 1024


class _Network(torch.nn.Module):
    def __init__(self, size: int, width: int):
        super().__init__()
        layers = [torch.nn.Linear(size, width), torch.nn.SiLU(), torch.nn.Linear(width, width), torch.nn.SiLU(), torch.nn.Linear(width, size)]
        self.layers = torch.nn.Sequential(*layers).requires_grad_(False)

    def forward(self, y: torch.Tensor, sigma: float) -> torch.Tensor:
        return y / (1 + sigma**2) + 1e-3 * self.layers(y / (1 + sigma**2) ** 0.5)


@benchmark
def step() -> list[Comparison]:
    torch.manual_seed(0)
    models, schedule = [_Network(PIXELS, WIDTH) for _ in range(2)], VPLinear()
    starts = schedule.rho(1.0) * torch.randn(BATCH, PIXELS)
    levels = schedule.rho(timesteps(schedule, STEPS, "uniform"))

    def plain() -> object:
        return euler_maruyama_sample(lambda y, sigma: 0.5 * (models[0](y, sigma) + models[1](y, sigma)), starts, levels, generator=0)

    return [
        compare(
            f"superdiff, {mode}, two networks of {PIXELS} inputs, batch {BATCH}",
            lambda mode=mode: superdiff(models, starts, schedule, mode=mode, steps=STEPS, generator=0),
            plain,
            peer_name="Euler-Maruyama with the same calls",
            target=1 / 1.2,
            pairs=5,
        )
        for mode in ("or", "and")
    ]


@benchmark
def density() -> Comparison:
    """The same number of network calls: a Heun step of the flow makes two, each with its derivative."""
    torch.manual_seed(0)
    model, points = _Network(64, WIDTH), torch.randn(BATCH, 64)
    return compare(
        f"log-density, {2 * STEPS} calls of an MLP, batch {BATCH}",
        lambda: log_likelihood(model, points, EDM(), method="ito", steps=2 * STEPS, generator=0),
        lambda: log_likelihood(model, points, EDM(), method="ode", steps=STEPS, generator=0),
        peer_name="flow with one random sign",
        target=1.7,
        pairs=7,
    )
