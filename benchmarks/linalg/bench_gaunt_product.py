"""Gaunt tensor products: the sphere's grid against a dense contraction by one GEMM, and against the FFT on the torus; float32, 2048 rows."""

from collections.abc import Callable, Iterator
from functools import partial

import torch

from ritz.linalg import GauntTensorProduct, gaunt_coefficients
from ritz.studies import Comparison, benchmark, compare
from ritz.studies.timing import triad

BATCH = 2048


def _inputs(L: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(BATCH, (L + 1) ** 2, generator=generator) for _ in range(2))
    return x, y


@benchmark
def grid_against_one_gemm() -> Iterator[Comparison]:
    """At least 5 times as fast at L = 6 and L = 8."""
    for L, target in ((2, None), (4, None), (6, 5.0), (8, 5.0), (10, None)):
        G = torch.from_numpy(gaunt_coefficients(L, L, 2 * L)).float().flatten(0, 1)
        yield _against(L, partial(_one_gemm, G), "dense, one GEMM", target=target)


@benchmark
def grid_against_fourier() -> Iterator[Comparison]:
    """The published FFT on the torus, from small to large degrees."""
    for L in (2, 4, 6, 8, 12):
        yield _against(L, GauntTensorProduct(L, L, backend="fourier"), "fourier")


@benchmark
def grid_against_memory() -> Iterator[Comparison]:
    """What reading both inputs and writing the output takes at the memory's rate: the limit."""
    for L in (2, 6):
        move = triad(4 * BATCH * (2 * (L + 1) ** 2 + (2 * L + 1) ** 2))
        yield _against(L, lambda x, y, move=move: move(), "moving inputs and output once")


def _against(L: int, peer: Callable, peer_name: str, *, target: float | None = None) -> Comparison:
    x, y = _inputs(L)
    product = GauntTensorProduct(L, L)
    return compare(f"grid, L = {L}", lambda: product(x, y), lambda: peer(x, y), peer_name=peer_name, target=target)


def _one_gemm(G: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (x[:, :, None] * y[:, None, :]).flatten(1) @ G
