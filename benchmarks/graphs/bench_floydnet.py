"""Attention over pivots against five plain einsums, in a training step."""

import torch

from ritz.graphs import pivotal_attention
from ritz.graphs.pivotal_attention import fitting_chunk
from ritz.studies import benchmark, compare

B, H, N, D = 4, 8, 64, 8


def _parts() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(B, H, N, N, D, generator=generator).requires_grad_() for _ in range(5)]


def _plain(q, k1, k2, v1, v2):
    scores = (torch.einsum("bhikd,bhijd->bhikj", q, k1) + torch.einsum("bhikd,bhjkd->bhikj", q, k2)) / (2 * D) ** 0.5
    weights = torch.softmax(scores, -1)
    return torch.einsum("bhikj,bhijd->bhikd", weights, v1) + torch.einsum("bhikj,bhjkd->bhikd", weights, v2)


@benchmark(threads=2)
def forward_and_backward():
    """n = 64, 64 channels in 8 heads, 4 graphs."""
    ours_parts, plain_parts = _parts(), _parts()
    chunk = fitting_chunk(B, H, N, 4)

    def ours():
        pivotal_attention(*ours_parts, chunk_size=chunk).sum().backward()

    def plain():
        _plain(*plain_parts).sum().backward()

    return compare("n = 64, forward and backward", ours, plain, peer_name="five einsums", target=2.0)
