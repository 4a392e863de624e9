"""Encoders see a token's nodes, the edges among them, and the structure along walks; written out one token at a time."""

import networkx as nx
import pytest
import torch
from torch_geometric.nn import GINEConv, ResGatedGraphConv

from ritz.graphs import WalkTokens
from ritz.graphs.token_encoders import MeanEncoder, SubgraphEncoder, WalkEncoder, induced_edges
from ritz.studies.data.graph_collections import as_data


def _case(keep_walks: bool = False):
    torch.manual_seed(0)
    data = as_data(nx.gnp_random_graph(14, 0.25, seed=3))
    tokens = WalkTokens(3, 2, 2, rng=0, keep_walks=keep_walks).tokens(data)
    return data, tokens, torch.randn(14, 5, dtype=torch.float64), torch.randn(data.num_edges, 2, dtype=torch.float64)


def test_induced_edges_are_those_of_the_subgraphs():
    data, tokens, _, _ = _case()
    ends, numbers = induced_edges(tokens, data.edge_index, 14)
    assert torch.equal(tokens.nodes[ends], data.edge_index[:, numbers])
    owner = torch.repeat_interleave(tokens.sizes)
    assert torch.equal(owner[ends[0]], owner[ends[1]])
    every = data.edge_index.T.tolist()
    for token, members in enumerate(tokens.nodes.split(tokens.sizes.tolist())):
        inside = set(members.tolist())
        expected = sorted(number for number, (u, v) in enumerate(every) if u in inside and v in inside)
        assert sorted(numbers[owner[ends[0]] == token].tolist()) == expected


@pytest.mark.parametrize("kind", ["gated_gcn", "gin", "mean"])
@pytest.mark.parametrize("edge_channels", [None, 2])
def test_union_of_subgraphs_equals_one_at_a_time(kind, edge_channels):
    data, tokens, x, edge_attr = _case()
    features = None if edge_channels is None else edge_attr
    encoder = (MeanEncoder() if kind == "mean" else SubgraphEncoder(kind, 5, edge_channels)).double()
    found = encoder(x, tokens, data.edge_index, features)
    for vector, members in zip(found, tokens.nodes.split(tokens.sizes.tolist())):
        h = x[members]
        if kind != "mean":
            inside = torch.isin(data.edge_index, members).all(0)
            ends = (data.edge_index[:, inside].unsqueeze(-1) == members).int().argmax(-1)
            arguments = (h, ends) if features is None else (h, ends, features[inside])
            h = h + torch.relu(encoder.layer(*arguments))
        torch.testing.assert_close(vector, h.mean(0))


def test_layers_are_those_of_pyg():
    assert isinstance(SubgraphEncoder("gated_gcn", 4, None).layer, ResGatedGraphConv)
    assert isinstance(SubgraphEncoder("gin", 4, 2).layer, GINEConv)


@pytest.mark.parametrize("edge_channels", [None, 2])
def test_walk_features_are_those_along_each_walk(edge_channels):
    data, tokens, x, edge_attr = _case(keep_walks=True)
    encoder = WalkEncoder(5, edge_channels, 3, 2, 2).double()
    found = encoder(x, tokens, data.edge_index, None if edge_channels is None else edge_attr).view(14, 7, 5)
    number = {tuple(edge): i for i, edge in enumerate(data.edge_index.T.tolist())}

    def features(walk):
        rows = []
        for t, node in enumerate(walk):
            row = x[node].tolist()
            if edge_channels is not None:
                row += edge_attr[number[walk[t - 1], node]].tolist() if t and (walk[t - 1], node) in number else [0.0, 0.0]
            for back in range(1, 4):
                earlier = walk[t - back] if t >= back else None
                row += [float(earlier == node), float((earlier, node) in number)]
            rows.append(row)
        return torch.tensor(rows, dtype=torch.float64).T

    for v in range(14):
        first = 0
        for place, length in enumerate([3, 3, 2, 2, 1, 1, 0]):
            size = 2 * (length + 1) if length else 0
            walks = tokens.walks[v, first : first + size].view(-1, length + 1).tolist() if length else [[v]]
            expected = torch.stack([encoder.convolve(features(walk)[None])[0].mean(-1) for walk in walks]).mean(0)
            torch.testing.assert_close(found[v, place], expected)
            first += size


def test_a_graph_without_edges_has_tokens_of_one_node():
    x = torch.randn(3, 5)
    none = torch.zeros(2, 0, dtype=torch.long)
    tokens = WalkTokens(2, 2, 1, rng=0, keep_walks=True).tokens(nx.empty_graph(3))
    for encoder in (MeanEncoder(), SubgraphEncoder("gin", 5, None), WalkEncoder(5, None, 2, 2, 1)):
        assert torch.isfinite(encoder(x, tokens, none, None)).all()
    torch.testing.assert_close(MeanEncoder()(x, tokens, none, None), x.repeat_interleave(3, 0))
