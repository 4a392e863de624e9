"""Parallel decoding: what the decoder does beside the model and the softmax, at the size of a large language model's vocabulary."""

import time

import torch

from ritz.diffusion import Threshold, TopK, parallel_decode
from ritz.studies.timing import Comparison, benchmark

LENGTH, VOCABULARY, STEPS = 256, 100_000, 8
LIMIT = 1e-3


class _Logits:
    """The same logits always, at no cost."""

    mask_id = VOCABULARY

    def __init__(self):
        self.logits = torch.randn(1, LENGTH, VOCABULARY, generator=torch.Generator().manual_seed(0))

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.logits


@benchmark
def bookkeeping() -> list[Comparison]:
    """Seconds per step beyond picking the eligible rows, their softmax and its maximum, which any decoder needs: measured in the same loop."""
    model = _Logits()
    return [_measured(model, TopK(STEPS)), _measured(model, Threshold(0.9))]


def _measured(model: _Logits, strategy) -> Comparison:
    prompt, excess = torch.full((1, LENGTH), model.mask_id), []
    prompt[:, 2 * STEPS :] = 0  # few positions, so that the softmax does not drown what is measured
    for _ in range(9):
        started = time.perf_counter()
        decoded = parallel_decode(model, prompt, strategy=strategy)
        whole, steps = time.perf_counter() - started, len(decoded.history)
        started = time.perf_counter()
        masks = [prompt == model.mask_id, *(tokens == model.mask_id for tokens in decoded.history[:-1])]
        for mask in masks:
            torch.softmax(model.logits[mask], dim=-1).max(-1)
        excess.append((whole - (time.perf_counter() - started)) / steps)
    seconds = max(sorted(excess)[len(excess) // 2], 1e-9)
    name = f"a step's bookkeeping, {strategy}, L = {LENGTH}, V = {VOCABULARY}"
    return Comparison(name, "limit of 1 ms", LIMIT / seconds, seconds, LIMIT, len(excess), torch.get_num_threads(), 1.0)
