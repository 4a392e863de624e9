"""Monarch layers against dense ones: forward passes of 4096 x 4096 layers, float32."""

import torch

from ritz.linalg import MonarchLinear
from ritz.studies import Comparison, benchmark, compare


def _forward(n: int, batch: int, blocks: int, *, target: float | None) -> Comparison:
    torch.manual_seed(0)
    x, ours, dense = torch.randn(batch, n), MonarchLinear(n, n, blocks=blocks), torch.nn.Linear(n, n)
    with torch.no_grad():
        found = compare(f"n = {n}, batch {batch}, {blocks} blocks", lambda: ours(x), lambda: dense(x), peer_name="torch.nn.Linear", target=target)
    flops = 2 * batch * (ours.R.numel() + ours.L.numel())
    rate, dense_rate = flops / found.seconds, 2 * batch * n * n / found.peer_seconds
    found.extra.update({"GFLOP/s": rate / 1e9, "of the dense rate": rate / dense_rate})
    return found


@benchmark
def forward_passes():
    """The claimed sizes, and a larger batch to see how near the two products come to a dense product's rate."""
    yield _forward(4096, 64, 32, target=10.0)
    yield _forward(4096, 64, 4, target=2.0)
    yield _forward(1024, 64, 32, target=None)
    yield _forward(4096, 256, 32, target=None)
