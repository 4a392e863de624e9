"""Batches of pair tensors: what is padded is zero, what is real is untouched."""

import torch

from ritz.graphs.pair_tensors import dense_nodes, dense_pairs, diagonal, masked_softmax, mean_diagonal, mean_off_diagonal, on_diagonal, pair_mask

SPECIMENS = {}

EDGES = torch.tensor([[0, 1, 2, 3, 3, 4], [1, 0, 3, 2, 4, 3]])  # an edge, and a path of three
BATCH = torch.tensor([0, 0, 1, 1, 1])


def test_a_batch_of_edges_becomes_a_masked_tensor():
    pairs = dense_pairs(EDGES, BATCH, torch.arange(12.0).reshape(6, 2))
    _, nodes = dense_nodes(torch.ones(5, 1), BATCH)
    mask = pair_mask(nodes)
    assert pairs.shape == (2, 3, 3, 2)
    assert mask.sum(dim=(1, 2)).tolist() == [4, 9]
    assert torch.all(pairs[~mask] == 0)
    assert pairs[1, 1, 2].tolist() == [8, 9]
    assert dense_pairs(EDGES, BATCH).shape == (2, 3, 3, 1)


def test_means_of_diagonal_and_the_rest_ignore_padding():
    x, nodes = dense_nodes(torch.arange(5.0).unsqueeze(-1), BATCH)
    pairs = on_diagonal(x) + 10 * dense_pairs(EDGES, BATCH)
    torch.testing.assert_close(diagonal(pairs), x)
    assert mean_diagonal(pairs, nodes).ravel().tolist() == [0.5, 3.0]
    torch.testing.assert_close(mean_off_diagonal(pairs, nodes).ravel(), torch.tensor([10.0, 40 / 6]))
    assert mean_off_diagonal(torch.ones(1, 1, 1, 1), torch.ones(1, 1, dtype=torch.bool)).item() == 0


def test_softmax_gives_exact_zeros_and_finite_gradients_where_nothing_is_real():
    scores = torch.randn(2, 3, 3, requires_grad=True)
    mask = torch.ones(2, 3, 3, dtype=torch.bool)
    mask[0, :, 2] = mask[0, 2] = False
    weights = masked_softmax(scores, mask, -1)
    assert torch.all(weights[~mask] == 0)
    torch.testing.assert_close(weights.sum(-1), mask.any(-1).float())
    weights.square().sum().backward()
    assert torch.isfinite(scores.grad).all()
