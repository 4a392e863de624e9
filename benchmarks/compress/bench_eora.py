"""EoRA's factors of one layer against the paper's literal route: eigenbasis of the Gram matrix, inverse, full SVD of the projected error."""

from functools import partial

import torch

from ritz.compress import eora_factors
from ritz.linalg import krylov_weighted_low_rank, weighted_low_rank
from ritz.studies import Comparison, benchmark, compare

RANK = 128


@benchmark
def factors_1024() -> list[Comparison]:
    """A small layer, many pairs; no target."""
    return _against_the_literal_route(1024, pairs=3, exact_target=None, krylov_target=None)


@benchmark
def factors_4096() -> list[Comparison]:
    """The layer of the target: the literal route takes minutes on one core, so there is one pair."""
    return _against_the_literal_route(4096, pairs=1, exact_target=2.0, krylov_target=4.0)


def _against_the_literal_route(width: int, pairs: int, exact_target: float | None, krylov_target: float | None) -> list[Comparison]:
    error, gram = _layer(width)
    literal = partial(literal_factors, error, gram, RANK)
    best = weighted_low_rank(error, gram, RANK)
    near = krylov_weighted_low_rank(error, gram, RANK, rng=0)
    B, A = literal()
    timed = partial(compare, peer=literal, peer_name="eigh + inverse + full SVD", pairs=pairs, warmup=0, shortest=0.0)
    return [
        timed(
            f"eora_factors, {width} x {width}, rank {RANK}, float32",
            partial(eora_factors, error, gram, RANK),
            target=exact_target,
            extra={"squared error / that of the literal route": _left(error, gram, best.product()) / _left(error, gram, B @ A)},
        ),
        timed(
            f"eora_factors by block Krylov, {width} x {width}, rank {RANK}, float32",
            partial(eora_factors, error, gram, RANK, solver="krylov"),
            target=krylov_target,
            extra={"squared error / optimal": _left(error, gram, near.product()) / _left(error, gram, best.product())},
        ),
    ]


def literal_factors(error: torch.Tensor, gram: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Algorithm 1 of the paper as it stands, with the official code's floor on the eigenvalues."""
    values, Q = torch.linalg.eigh(gram)
    values = torch.where(values > 0, values, values[values > 0].min())
    projection = Q * values.sqrt()
    U, s, Vh = torch.linalg.svd(error @ projection, full_matrices=False)
    root = s[:rank].sqrt()
    return U[:, :rank] * root, (root[:, None] * Vh[:rank]) @ torch.linalg.inv(projection)


def _layer(width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The error of half the entries of a random weight set to zero, and the Gram matrix of correlated inputs of decaying size."""
    generator = torch.Generator().manual_seed(0)
    normal = partial(torch.randn, generator=generator)
    error = normal(width, width) * (torch.rand(width, width, generator=generator) < 0.5) / width**0.5
    mixing = torch.linalg.qr(normal(width, width))[0]
    tokens = normal(2 * width, width) * torch.arange(1, width + 1) ** -0.5 @ mixing
    return error, tokens.T @ tokens / len(tokens)


def _left(error: torch.Tensor, gram: torch.Tensor, product: torch.Tensor) -> float:
    left = (error - product).double()
    return float(((left @ gram.double()) * left).sum())
