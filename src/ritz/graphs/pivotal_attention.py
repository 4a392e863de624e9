"""Attention from pairs of nodes over pivots: each pair (i, k) looks at the two-step ways i, j, k; the learned form of Floyd and Warshall's step.

"FloydNet: A Learning Paradigm for Global Relational Reasoning", arXiv:2601.19094, 2026.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ritz.core import integer, positive, real
from ritz.graphs.pair_tensors import masked_softmax

MEMORY_LIMIT = 16e9  # bytes of scores at once
CHUNK_BYTES = 16e6  # of scores that stay in the caches


def pivotal_attention(
    q_ik: torch.Tensor,
    k_ij: torch.Tensor,
    k_jk: torch.Tensor,
    v_ij: torch.Tensor,
    v_jk: torch.Tensor,
    *,
    attn_mask: torch.Tensor | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    dropout: float = 0.0,
    chunk_size: int | None = None,
) -> torch.Tensor:
    """Return, for each pair (i, k), the mean of v_ij + v_jk over pivots j, weighted by the softmax of ``scale * q_ik . (k_ij + k_jk)``.

    Parameters
    ----------
    q_ik, k_ij, k_jk, v_ij, v_jk : Tensor (B, H, n, n, D)
        Queries, keys and values of pairs, by the nodes they stand for.
    attn_mask : bool Tensor, broadcastable to (B, H, n, n, n) over (i, k, j), optional
        True for pivots that may be looked at; the others get weight exactly 0, and a pair without any gets 0.
    scale : float, optional
        1 / sqrt(2 D) by default.
    softcap : float, optional
        Scores s become softcap * tanh(s / softcap).
    dropout : float
        On the weights.
    chunk_size : int, optional
        Work on so many first nodes at a time, and compute their weights again for the gradient: memory O(chunk n^2 H) instead of O(n^3 H).

    Raises
    ------
    ValueError
        If shapes disagree, or the scores need more than 16 GB at once.

    Notes
    -----
    Cost O(B H n^3 D), all of it in matrix products.

    Examples
    --------
    >>> pairs = torch.randn(1, 2, 5, 5, 4)
    >>> pivotal_attention(pairs, pairs, pairs, pairs, pairs).shape
    torch.Size([1, 2, 5, 5, 4])
    """
    parts = {"q_ik": q_ik, "k_ij": k_ij, "k_jk": k_jk, "v_ij": v_ij, "v_jk": v_jk}
    _check_parts(parts, 5)
    batch, heads, n, _, width = q_ik.shape
    scale = 1 / math.sqrt(2 * width) if scale is None else real(scale, "scale")
    softcap = None if softcap is None else positive(softcap, "softcap")
    dropout = real(dropout, "dropout", at_least=0, below=1)
    chunk = n if chunk_size is None else integer(chunk_size, "chunk_size", at_least=1)
    _check_memory(batch * heads * n * n * min(chunk, n) * q_ik.element_size())

    def attend(q, k1, v1, k2, v2, mask):
        first = q @ k1.transpose(-1, -2)
        second = (q.transpose(2, 3) @ k2.transpose(2, 3).transpose(-1, -2)).transpose(2, 3)
        weights = _weights((first + second) * scale, softcap, mask, dropout)
        return weights @ v1 + (weights.transpose(2, 3) @ v2.transpose(2, 3)).transpose(2, 3)

    if chunk >= n:
        return attend(q_ik, k_ij, v_ij, k_jk, v_jk, attn_mask)
    rows = []
    for start in range(0, n, chunk):
        here = slice(start, start + chunk)
        mask = attn_mask if attn_mask is None or attn_mask.shape[-3] == 1 else attn_mask[..., here, :, :]
        parts = q_ik[:, :, here], k_ij[:, :, here], v_ij[:, :, here], k_jk, v_jk, mask
        rows.append(checkpoint(attend, *parts, use_reentrant=False) if torch.is_grad_enabled() else attend(*parts))
    return torch.cat(rows, dim=2)


def pivotal_attention3(
    q_ijk: torch.Tensor,
    keys: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    values: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    *,
    attn_mask: torch.Tensor | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    dropout: float = 0.0,
) -> torch.Tensor:
    """Return the same over triples: for (i, j, k), the weighted mean over pivots p of the values of (p, j, k), (i, p, k) and (i, j, p), added up.

    Parameters
    ----------
    q_ijk : Tensor (B, H, n, n, n, D)
        Queries.
    keys, values : three tensors each of that shape
        Of the triples in which the first, the second and the third node is the pivot.
    attn_mask : bool Tensor, broadcastable to (B, H, n, n, n, n) over (i, j, k, p), optional
    scale : float, optional
        1 / sqrt(3 D) by default.
    softcap, dropout
        As for `pivotal_attention`.

    Examples
    --------
    >>> triples = torch.randn(1, 1, 3, 3, 3, 2)
    >>> pivotal_attention3(triples, (triples,) * 3, (triples,) * 3).shape
    torch.Size([1, 1, 3, 3, 3, 2])
    """
    names = [f"{kind}[{i}]" for kind in ("keys", "values") for i in range(3)]
    if len(keys) != 3 or len(values) != 3:
        raise ValueError(f"keys and values must be three tensors each, got {len(keys)} and {len(values)}")
    _check_parts({"q_ijk": q_ijk} | dict(zip(names, [*keys, *values])), 6)
    scale = 1 / math.sqrt(3 * q_ijk.shape[-1]) if scale is None else real(scale, "scale")
    softcap = None if softcap is None else positive(softcap, "softcap")
    dropout = real(dropout, "dropout", at_least=0, below=1)
    _check_memory(q_ijk[..., 0].numel() * q_ijk.shape[2] * q_ijk.element_size())
    places = ("pjk", "ipk", "ijp")
    scores = sum(torch.einsum(f"bhijkd,bh{place}d->bhijkp", q_ijk, key) for place, key in zip(places, keys))
    weights = _weights(scores * scale, softcap, attn_mask, dropout)
    return sum(torch.einsum(f"bhijkp,bh{place}d->bhijkd", weights, value) for place, value in zip(places, values))


def fitting_chunk(batch: int, heads: int, n: int, element_size: int) -> int:
    """How many first nodes at a time keep the scores within the caches."""
    return max(1, min(n, int(CHUNK_BYTES / (batch * heads * n * n * element_size))))


def _weights(scores: torch.Tensor, softcap: float | None, mask: torch.Tensor | None, dropout: float) -> torch.Tensor:
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    weights = torch.softmax(scores, -1) if mask is None else masked_softmax(scores, mask.expand(scores.shape), -1)
    return F.dropout(weights, dropout) if dropout else weights


def _check_parts(parts: dict[str, torch.Tensor], dimensions: int) -> None:
    (first_name, first), *others = parts.items()
    nodes = first.shape[2:-1]
    if first.dim() != dimensions or len(set(nodes)) != 1:
        raise ValueError(f"{first_name} must have shape (B, H, {', '.join('n' * (dimensions - 3))}, D), got {tuple(first.shape)}")
    for name, part in others:
        if part.shape != first.shape:
            raise ValueError(f"{name} must have the shape of {first_name}, {tuple(first.shape)}, got {tuple(part.shape)}")


def _check_memory(needed: float) -> None:
    if needed > MEMORY_LIMIT:
        raise ValueError(f"q_ik: the scores need about {needed / 1e9:.0f} GB at once; pass a smaller chunk_size, or fewer graphs")
