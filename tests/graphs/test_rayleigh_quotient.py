"""The Rayleigh quotient is the area above the curve of accumulated energy, and what it is known to be on known graphs."""

import networkx as nx
import numpy as np
import pytest
import torch
from graphs.invariances import edges_of, random_order, relabelled
from specimens import Specimen
from torch_geometric.data import Batch, Data

from ritz.graphs import RayleighQuotient, accumulated_spectral_energy, laplacian, rayleigh_quotient

X, EDGES = torch.eye(3), torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])

SPECIMENS = {
    "rayleigh_quotient": Specimen(
        lambda x, edge_index, normalize: rayleigh_quotient(x, edge_index, normalize=normalize),
        lambda: {"x": X.clone(), "edge_index": EDGES, "normalize": True},
        spare=frozenset({"x", "edge_index"}),
    ),
    "accumulated_spectral_energy": Specimen(
        accumulated_spectral_energy, lambda: {"x": X.clone(), "edge_index": EDGES}, spare=frozenset({"x", "edge_index"})
    ),
    "RayleighQuotient": Specimen(RayleighQuotient, lambda: {"normalize": True}),
}


def _random(seed: int):
    graph = nx.gnp_random_graph(15, 0.3, seed=seed)
    x = torch.randn(15, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return graph, x


@pytest.mark.parametrize("seed", range(20))
def test_quotient_is_the_area_above_the_accumulated_energy(seed):
    graph, x = _random(seed)
    values, share = accumulated_spectral_energy(x, edges_of(graph))
    area = np.sum(np.diff(np.concatenate([[0], values]))[:, None] * (1 - np.concatenate([np.zeros((1, 4)), share[:-1]])), axis=0)
    np.testing.assert_allclose(rayleigh_quotient(x, edges_of(graph))[0], area, atol=1e-10)


@pytest.mark.parametrize("seed", range(5))
def test_quotient_equals_the_matrix_formula(seed):
    graph, x = _random(seed)
    graph.remove_edges_from(list(graph.edges(0)))  # an isolated node
    L = torch.from_numpy(laplacian(graph, "sym").toarray())
    energy = torch.einsum("if,ij,jf->f", x, L, x)
    torch.testing.assert_close(rayleigh_quotient(x, edges_of(graph))[0], energy / x.square().sum(0), atol=1e-12, rtol=0)
    torch.testing.assert_close(rayleigh_quotient(x, edges_of(graph), normalize=False)[0], energy, atol=1e-12, rtol=0)


def test_eigenvectors_give_their_eigenvalues():
    graph = nx.karate_club_graph()
    values, vectors = np.linalg.eigh(laplacian(nx.to_numpy_array(graph, weight=None), "sym").toarray())
    np.testing.assert_allclose(rayleigh_quotient(torch.from_numpy(vectors), edges_of(graph))[0], values, atol=1e-10)


def test_constant_and_alternating_signals():
    cycle = edges_of(nx.cycle_graph(8))
    assert rayleigh_quotient(torch.ones(8, 1), cycle).item() == pytest.approx(0, abs=1e-12)
    assert rayleigh_quotient(torch.tensor([1.0, -1.0] * 4)[:, None], cycle).item() == pytest.approx(2, abs=1e-6)


def test_scale_order_and_silent_isolated_nodes_change_nothing():
    graph, x = _random(0)
    expected = rayleigh_quotient(x, edges_of(graph))
    torch.testing.assert_close(rayleigh_quotient(-7 * x, edges_of(graph)), expected)
    order = random_order(15)
    torch.testing.assert_close(rayleigh_quotient(x[order], relabelled(edges_of(graph), order)), expected)
    torch.testing.assert_close(rayleigh_quotient(torch.cat([x, x.new_zeros(1, 4)]), edges_of(graph)), expected)


def test_a_perturbed_laplacian_moves_the_quotient_no_further_than_its_norm():
    for seed in range(10):
        graph, x = _random(seed)
        other = graph.copy()
        other.add_edge(0, 7)
        difference = np.linalg.norm(laplacian(other, "sym").toarray() - laplacian(graph, "sym").toarray(), 2)
        moved = rayleigh_quotient(x, edges_of(other)) - rayleigh_quotient(x, edges_of(graph))
        assert moved.abs().max() <= difference + 1e-12


def test_a_batch_equals_a_loop_and_the_transform():
    graphs = [Data(x=x.float(), edge_index=edges_of(graph)) for graph, x in map(_random, range(4))]
    graphs.append(Data(x=torch.ones(1, 4), edge_index=torch.zeros(2, 0, dtype=torch.long)))
    batch = Batch.from_data_list([RayleighQuotient()(data) for data in graphs])
    together = rayleigh_quotient(batch.x, batch.edge_index, batch.batch)
    torch.testing.assert_close(together, torch.cat([rayleigh_quotient(data.x, data.edge_index) for data in graphs]), atol=1e-6, rtol=0)
    torch.testing.assert_close(together, batch.rq)
    assert together[-1].tolist() == [0] * 4


def test_an_absent_feature_gives_zero_and_finite_gradients():
    x = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 0.0]], requires_grad=True)
    quotient = rayleigh_quotient(x, torch.tensor([[0, 1], [1, 0]]))
    assert quotient[0, 1] == 0
    quotient.sum().backward()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": torch.ones(3)}, "x must have shape"),
        ({"edge_index": torch.zeros(3, 2)}, "edge_index must have shape"),
        ({"batch": torch.zeros(2, dtype=torch.long)}, "batch must have shape"),
    ],
)
def test_shapes_that_disagree_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        rayleigh_quotient(**({"x": X, "edge_index": EDGES} | arguments))


@pytest.mark.parametrize(("x", "message"), [(X * float("nan"), "finite"), (torch.zeros(3, 1), "zero everywhere"), (torch.ones(3), "shape")])
def test_energy_of_nothing_is_refused(x, message):
    with pytest.raises(ValueError, match=message):
        accumulated_spectral_energy(x, EDGES)
