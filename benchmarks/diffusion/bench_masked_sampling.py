"""Sampling from masked diffusion: all bookkeeping against the network calls alone."""

import torch

from ritz.diffusion import RADD, expected_nfe, sample_masked
from ritz.studies.timing import Comparison, benchmark, compare

SEQUENCES, LENGTH, STEPS = 256, 128, 1024


@benchmark
def sampling() -> Comparison:
    torch.manual_seed(0)
    model = RADD(32, hidden_size=32, blocks=1, heads=2, max_length=LENGTH).eval().requires_grad_(False)
    tokens = torch.full((SEQUENCES, LENGTH), model.mask_id)
    calls = round(expected_nfe(LENGTH, STEPS))

    def forward_alone() -> None:
        for _ in range(calls):
            model(tokens)

    return compare(
        f"{SEQUENCES} sequences of length {LENGTH}, {STEPS} steps",
        lambda: sample_masked(model, LENGTH, SEQUENCES, steps=STEPS, generator=0),
        forward_alone,
        peer_name=f"{calls} calls of the network, the expected number",
        target=1 / 1.3,
        pairs=1,
        warmup=0,
    )
