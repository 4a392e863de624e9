"""Attention over pivots is its formula, in chunks as at once, and contains Floyd and Warshall's step."""

import networkx as nx
import numpy as np
import pytest
import torch
from specimens import Specimen

from ritz.graphs import pivotal_attention, pivotal_attention3


def _parts(n: int = 5, dtype=torch.float64, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 3, n, n, 4, generator=generator, dtype=torch.float64).to(dtype) for _ in range(5)]


NAMES = ("q_ik", "k_ij", "k_jk", "v_ij", "v_jk")
SPECIMENS = {
    "pivotal_attention": Specimen(
        pivotal_attention,
        lambda: dict(zip(NAMES, _parts())) | {"scale": 0.5, "softcap": 2.0, "dropout": 0.1, "chunk_size": 2},
        spare=frozenset(NAMES),
        accepts={"scale": ("none",), "softcap": ("none",), "chunk_size": ("none",)},
    ),
    "pivotal_attention3": Specimen(
        pivotal_attention3,
        lambda: {
            "q_ijk": torch.randn(1, 1, 3, 3, 3, 2),
            "keys": (torch.randn(1, 1, 3, 3, 3, 2),) * 3,
            "values": (torch.randn(1, 1, 3, 3, 3, 2),) * 3,
            "scale": 0.5,
            "softcap": 2.0,
            "dropout": 0.1,
        },
        spare=frozenset({"q_ijk", "keys", "values"}),
        accepts={"scale": ("none",), "softcap": ("none",)},
    ),
}


def _plain(q, k1, k2, v1, v2, mask=None, softcap=None):
    scores = (torch.einsum("bhikd,bhijd->bhikj", q, k1) + torch.einsum("bhikd,bhjkd->bhikj", q, k2)) / (2 * q.shape[-1]) ** 0.5
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    weights = torch.softmax(scores, -1)
    return torch.einsum("bhikj,bhijd->bhikd", weights, v1) + torch.einsum("bhikj,bhjkd->bhikd", weights, v2)


@pytest.mark.parametrize("softcap", [None, 1.5])
@pytest.mark.parametrize("chunk_size", [None, 1, 2, 7])
def test_equals_five_einsums(chunk_size, softcap):
    parts = _parts()
    mask = torch.rand(2, 1, 5, 5, 5, generator=torch.Generator().manual_seed(1)) < 0.7
    mask[..., 0] = True
    torch.testing.assert_close(pivotal_attention(*parts, chunk_size=chunk_size, softcap=softcap), _plain(*parts, softcap=softcap))
    found = pivotal_attention(*parts, attn_mask=mask, chunk_size=chunk_size, softcap=softcap)
    torch.testing.assert_close(found, _plain(*parts, mask=mask, softcap=softcap))


def test_chunks_have_the_same_gradients():
    gradients = []
    for chunk_size in (None, 2):
        parts = [part.float().requires_grad_() for part in _parts()]
        pivotal_attention(*parts, chunk_size=chunk_size).square().sum().backward()
        gradients.append([part.grad for part in parts])
    for whole, chunked in zip(*gradients):
        torch.testing.assert_close(chunked, whole, atol=1e-6, rtol=1e-5)


def test_a_masked_pivot_changes_nothing_and_none_gives_zero():
    parts = _parts()
    mask = torch.ones(1, 1, 1, 1, 5, dtype=torch.bool)
    mask[..., 3] = False
    before = pivotal_attention(*parts, attn_mask=mask)
    for name in (1, 3):  # keys and values of (i, j)
        parts[name][:, :, :, 3] = 1e6
    for name in (2, 4):  # of (j, k)
        parts[name][:, :, 3] = 1e6
    torch.testing.assert_close(pivotal_attention(*parts, attn_mask=mask), before)
    assert torch.all(pivotal_attention(*parts, attn_mask=torch.zeros(1, 1, 1, 1, 5, dtype=torch.bool)) == 0)


def test_without_queries_it_is_the_mean_and_transposition_swaps_the_roles():
    q, k1, k2, v1, v2 = _parts()
    mean = v1.mean(3, keepdim=True) + v2.mean(2, keepdim=True)
    torch.testing.assert_close(pivotal_attention(torch.zeros_like(q), k1, k2, v1, v2), mean.expand(-1, -1, 5, 5, -1))
    swapped = [part.transpose(2, 3) for part in (q, k2, k1, v2, v1)]
    torch.testing.assert_close(pivotal_attention(*swapped), pivotal_attention(q, k1, k2, v1, v2).transpose(2, 3))


def test_sharp_attention_to_distances_is_floyd_and_warshalls_step():
    graph = nx.gnp_random_graph(9, 0.4, seed=3)
    rng = np.random.default_rng(0)
    for u, v in graph.edges:
        graph[u][v]["weight"] = int(rng.integers(1, 20)) + 1e-2 * rng.random()  # no two ways of equal length
    expected = torch.from_numpy(nx.floyd_warshall_numpy(graph))
    d = torch.from_numpy(nx.to_numpy_array(graph, nonedge=1e3))
    d.fill_diagonal_(0)
    for _ in range(4):
        R = d.view(1, 1, 9, 9, 1)
        d = pivotal_attention(torch.full_like(R, -2000.0), R, R, R, R, scale=1.0).view(9, 9)
    torch.testing.assert_close(d, expected, atol=1e-3, rtol=0)


def test_triples_equal_their_sum():
    generator = torch.Generator().manual_seed(0)
    q, *rest = (torch.randn(1, 2, 3, 3, 3, 4, generator=generator, dtype=torch.float64) for _ in range(7))
    k, v = rest[:3], rest[3:]
    found = pivotal_attention3(q, tuple(k), tuple(v))
    i, j, m = 0, 2, 1
    scores = torch.stack([(q[0, 1, i, j, m] * (k[0][0, 1, p, j, m] + k[1][0, 1, i, p, m] + k[2][0, 1, i, j, p])).sum() for p in range(3)])
    weights = torch.softmax(scores / 12**0.5, 0)
    expected = sum(w * (v[0][0, 1, p, j, m] + v[1][0, 1, i, p, m] + v[2][0, 1, i, j, p]) for p, w in enumerate(weights))
    torch.testing.assert_close(found[0, 1, i, j, m], expected)


def test_what_does_not_fit_is_refused():
    parts = _parts()
    with pytest.raises(ValueError, match="k_ij must have the shape"):
        pivotal_attention(parts[0], parts[1][..., :2], *parts[2:])
    with pytest.raises(ValueError, match="q_ik must have shape"):
        pivotal_attention(*(part[:, :, :4] for part in parts))
    huge = torch.empty(1, 1, 1, 1, 1).expand(4, 8, 1024, 1024, 4)
    with pytest.raises(ValueError, match="GB at once; pass a smaller chunk_size"):
        pivotal_attention(huge, huge, huge, huge, huge)
    with pytest.raises(ValueError, match="keys and values must be three"):
        pivotal_attention3(torch.ones(1, 1, 2, 2, 2, 1), (), ())
