"""Deep conjugate directions: what the solver adds to its products and its network, and what a batch of right-hand sides saves."""

from collections.abc import Iterator

import numpy as np
import torch

from ritz.linalg import DirectionNetwork, dcdm
from ritz.studies import Comparison, benchmark, compare
from ritz.studies.data.linear_systems import poisson

STEPS = 10


def _problem(side: int, count: int) -> tuple:
    torch.manual_seed(0)
    A, b = poisson(side, side), np.random.default_rng(0).standard_normal((count, side * side))
    return A, b, DirectionNetwork((side, side))


def _iterate(A, b, network) -> None:
    """So many steps: the tolerance is out of reach."""
    dcdm(A, b, network, tol=0.0, maxiter=STEPS)


@benchmark
def overhead_of_the_solver() -> Comparison:
    """At n = 128^2 all but network and product takes at most 15 % of an iteration: network and product take at least 85 %."""
    A, b, network = _problem(128, 1)

    def parts() -> None:
        for _ in range(STEPS):
            network.directions(b)
            A @ b[0]

    return compare(f"dcdm, {STEPS} steps, n = 128^2", lambda: _iterate(A, b[0], network), parts, peer_name="network and product alone", target=0.85)


@benchmark
def a_batch_of_right_hand_sides() -> Iterator[Comparison]:
    """32 right-hand sides at once at least 4 times as fast as one at a time."""
    for side, target in ((16, None), (32, None), (64, 4.0)):
        A, b, network = _problem(side, 32)

        def singly(A=A, b=b, network=network) -> None:
            for row in b:
                _iterate(A, row, network)

        yield compare(
            f"32 systems at once, n = {side}^2",
            lambda A=A, b=b, network=network: _iterate(A, b, network),
            singly,
            peer_name="one at a time",
            target=target,
            pairs=3,
        )
