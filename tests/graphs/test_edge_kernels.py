"""Compiled sums over neighbors equal gathering and scattering, values and gradients, whatever the number of threads."""

import numba
import pytest
import torch

from ritz.graphs.edge_kernels import EdgeOrder, edge_weights, neighbor_relu_sum, neighbor_sum

SPECIMENS = {}

torch.manual_seed(0)
EDGES = torch.stack([torch.randint(0, 9, (40,)), torch.randint(0, 6, (40,))])  # duplicates among them
HOWS = ["sum", "mean", "sym"]


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sums_equal_gather_and_scatter(how, dtype):
    order = EdgeOrder(EDGES, 9, 7)
    k, q = torch.randn(9, 5, dtype=dtype), torch.randn(7, 5, dtype=dtype)
    weights = edge_weights(EDGES, 9, 7, how, dtype)[:, None]
    expected = torch.zeros(7, 5, dtype=dtype).index_add(0, EDGES[1], weights * k[EDGES[0]])
    torch.testing.assert_close(neighbor_sum(k, order, how), expected)
    expected = torch.zeros(7, 5, dtype=dtype).index_add(0, EDGES[1], weights * torch.relu(q[EDGES[1]] + k[EDGES[0]]))
    torch.testing.assert_close(neighbor_relu_sum(q, k, order, how), expected)


@pytest.mark.parametrize("how", HOWS)
def test_gradients(how):
    order = EdgeOrder(EDGES, 9, 7)
    k, q = (torch.randn(n, 3, dtype=torch.float64, requires_grad=True) for n in (9, 7))
    assert torch.autograd.gradcheck(lambda k: neighbor_sum(k, order, how), (k,))
    assert torch.autograd.gradcheck(lambda q, k: neighbor_relu_sum(q, k, order, how), (q, k))


def test_one_and_two_threads_agree_bit_for_bit():
    edges = torch.randint(0, 300, (2, 5000))
    order = EdgeOrder(edges, 300, 300)
    results = []
    before = numba.get_num_threads()
    try:
        for threads in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
            numba.set_num_threads(threads)
            q, k = (torch.randn(300, 16, generator=torch.Generator().manual_seed(i)).requires_grad_() for i in (1, 2))
            neighbor_relu_sum(q, k, order, "mean").square().sum().backward()
            results.append(torch.cat([q.grad, k.grad]))
    finally:
        numba.set_num_threads(before)
    assert torch.equal(*results)


def test_a_graph_without_edges_gives_zeros():
    order = EdgeOrder(torch.zeros(2, 0, dtype=torch.long), 3, 2)
    assert torch.equal(neighbor_relu_sum(torch.ones(2, 4), torch.ones(3, 4), order, "mean"), torch.zeros(2, 4))
