"""The missing polynomials as features: twelve of degree six, equivariant, batched by pairs."""

import networkx as nx
import numpy as np
import pytest
import torch
from graphs.invariances import edges_of, random_order, relabelled, rook, shrikhande
from specimens import Specimen
from torch_geometric.data import Batch, Data

from ritz.graphs import Motif, PolynomialFeatures, PPGNPlus, equivariant_polynomial, pairs_of

SPECIMENS = {
    "PolynomialFeatures": Specimen(PolynomialFeatures, lambda: {"degree": 5, "bank": "ppgn", "normalize": True}),
    "pairs_of": Specimen(pairs_of, lambda: {"features": torch.ones(5, 2), "batch": torch.tensor([0, 1, 1])}, spare=frozenset({"features", "batch"})),
}


def _data(graph: nx.Graph) -> Data:
    return Data(edge_index=edges_of(graph), num_nodes=len(graph))


def test_channels_are_the_polynomials_of_pairs_nodes_and_the_graph():
    transform = PolynomialFeatures(6, normalize=False)
    reds = [len(motif.red) for motif in transform.motifs]
    assert reds == [2] * 10 + [1, 0]
    graph = nx.gnp_random_graph(8, 0.6, seed=0)
    features = transform(_data(graph)).poly_pair.view(8, 8, 12)
    A = nx.to_numpy_array(graph)
    np.testing.assert_allclose(features[:, :, 0], equivariant_polynomial(A, transform.motifs[0]), rtol=1e-6)
    K4 = [(u, v) for u in range(4) for v in range(u)]
    np.testing.assert_allclose(features[:, :, 10], np.diag(equivariant_polynomial(A, Motif(K4, red=(0,)))), rtol=1e-6)
    assert torch.all(features[:, :, 11] == equivariant_polynomial(A, Motif(K4)))


def test_normalized_channels_have_norm_one_or_are_zero_and_follow_the_nodes():
    graph = nx.gnp_random_graph(9, 0.7, seed=1)
    data = PolynomialFeatures()(_data(graph))
    norms = data.poly_pair.norm(dim=0)
    torch.testing.assert_close(norms, torch.ones(12))
    assert torch.all(PolynomialFeatures()(_data(nx.empty_graph(4))).poly_pair == 0)
    order = random_order(9)
    permuted = PolynomialFeatures()(Data(edge_index=relabelled(data.edge_index, order), num_nodes=9)).poly_pair.view(9, 9, 12)
    torch.testing.assert_close(permuted, data.poly_pair.view(9, 9, 12)[order][:, order])


def test_batches_come_back_as_padded_pair_tensors():
    graphs = [PolynomialFeatures()(_data(nx.complete_graph(n))) for n in (4, 6)]
    batch = Batch.from_data_list(graphs)
    pairs = pairs_of(batch.poly_pair, batch.batch)
    assert pairs.shape == (2, 6, 6, 12)
    torch.testing.assert_close(pairs[0, :4, :4], graphs[0].poly_pair.view(4, 4, 12))
    assert torch.all(pairs[0, 4:] == 0)
    with pytest.raises(ValueError, match="features must have a row"):
        pairs_of(batch.poly_pair[1:], batch.batch)


def test_features_tell_apart_what_the_network_alone_cannot():
    torch.manual_seed(0)
    outputs = {}
    for name, graph in (("rook", rook()), ("shrikhande", shrikhande())):
        adjacency = torch.from_numpy(nx.to_numpy_array(graph))[None, :, :, None]
        features = PolynomialFeatures()(_data(graph)).poly_pair.double().view(1, 16, 16, 12)
        for kind, pairs in (("plain", adjacency), ("with features", torch.cat([adjacency, features], dim=-1))):
            torch.manual_seed(0)
            outputs[name, kind] = PPGNPlus(pairs.shape[-1], 8, 4, depth=3).double()(pairs, torch.ones(1, 16, dtype=torch.bool))
    assert (outputs["rook", "plain"] - outputs["shrikhande", "plain"]).abs().max() < 1e-6 * outputs["rook", "plain"].abs().max()
    assert (outputs["rook", "with features"] - outputs["shrikhande", "with features"]).abs().max() > 1e-3


def test_the_bank_of_message_passing_lacks_cycles():
    motifs = PolynomialFeatures(4, bank="mpnn").motifs
    assert Motif([(0, 1), (1, 2), (2, 0)], red=(0,)) in motifs
    assert all(len(motif.red) < 2 for motif in motifs)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Data(edge_index=torch.tensor([[0], [1]]), num_nodes=2), "symmetric"),
        (Data(edge_index=torch.tensor([[0, 1], [1, 0]]), edge_weight=torch.tensor([2.0, 2.0]), num_nodes=2), "no weights other than 1"),
        (Data(edge_index=torch.tensor([[0], [0]]), num_nodes=1), "no self-loops"),
    ],
)
def test_other_graphs_are_refused(data, message):
    with pytest.raises(ValueError, match=message):
        PolynomialFeatures()(data)
