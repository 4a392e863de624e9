"""A layer of sheaf diffusion equals its dense definition, commutes with permutations, and has right and finite gradients."""

import networkx as nx
import numba
import numpy as np
import pytest
import torch
from graphs.invariances import edges_of, random_order, relabelled
from specimens import Specimen

from ritz.graphs import SheafConv, sheaf_laplacian
from ritz.graphs import symmetric_block_product as block_module
from ritz.graphs.edge_structure import edge_structure
from ritz.graphs.sheaf_laplacian import normalized_blocks
from ritz.graphs.symmetric_block_product import plain_block_product, symmetric_block_product

PATH = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
KINDS = ("diagonal", "orthogonal", "general")
NOT_CHECKED = ("nan", "inf")  # layers check shapes, not every number
FEATURES = {"x": NOT_CHECKED}

SPECIMENS = {
    "SheafConv": Specimen(
        SheafConv,
        lambda: {
            "hidden_channels": 4,
            "d": 2,
            "kind": "orthogonal",
            "act": "elu",
            "dropout": 0.1,
            "map_dropout": 0.1,
            "left": True,
            "right": False,
            "low_pass": True,
            "high_pass": False,
            "edge_weights": True,
            "orth": "euler",
            "learned_sheaf": True,
        },
    ),
    "SheafConv.forward": Specimen(
        lambda x, edge_index: SheafConv(2, d=2)(x, edge_index), lambda: {"x": torch.randn(3, 4), "edge_index": PATH.clone()}, accepts=FEATURES
    ),
    "SheafConv.restriction_maps": Specimen(
        lambda x, edge_index: SheafConv(2, d=2).restriction_maps(x, edge_index),
        lambda: {"x": torch.randn(3, 4), "edge_index": PATH.clone()},
        accepts=FEATURES,
    ),
}


def graph(n=14, probability=0.3, seed=0):
    return edges_of(nx.gnp_random_graph(n, probability, seed=seed))


def layer(seed=0, **options):
    torch.manual_seed(seed)
    made = SheafConv(3, d=2, **options).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return made


def features(n, width, seed=1):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, width)))


@pytest.mark.parametrize(("low_pass", "high_pass"), [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_dense_definition(kind, low_pass, high_pass):
    n, edge_index = 14, graph()
    conv = layer(kind=kind, low_pass=low_pass, high_pass=high_pass)
    stalk = conv.stalk
    x = features(n, stalk * 3)
    maps = conv.restriction_maps(x, edge_index)
    learned = sheaf_laplacian(edge_index, maps, n, kind="diagonal" if kind == "diagonal" else "general").to_dense()
    A = torch.zeros(n, n, dtype=x.dtype)
    A[edge_index[0], edge_index[1]] = 1
    D, root = torch.diag(A.sum(1)), torch.diag((A.sum(1) + 1).rsqrt())
    delta = torch.zeros(n, stalk, n, stalk, dtype=x.dtype)
    delta[:, :2, :, :2] = learned.reshape(n, 2, n, 2)
    for position, sign in enumerate([1.0] * low_pass + [-1.0] * high_pass, start=2):
        delta[:, position, :, position] = root @ (D + sign * A) @ root
    X = x.reshape(n, stalk, 3)
    weighted = torch.einsum("ij,njc,kc->nik", conv.left.weight, X, conv.right.weight)
    Y = torch.nn.functional.elu(torch.einsum("aibj,bjc->aic", delta, weighted))
    expected = (1 + torch.tanh(conv.epsilon)) * X - Y
    torch.testing.assert_close(conv(x, edge_index), expected.reshape(n, -1), rtol=0, atol=1e-10)


def test_the_learned_maps_by_their_formula():
    edge_index, x = graph(), features(14, 6)
    ends = torch.cat([x[edge_index[0]], x[edge_index[1]]], dim=1)
    for kind in ("diagonal", "general"):
        conv = layer(kind=kind)
        expected = torch.tanh(ends @ conv.map_learner.weight.T).reshape(-1, *(2,) * (1 if kind == "diagonal" else 2))
        torch.testing.assert_close(conv.restriction_maps(x, edge_index), expected)
    conv = layer(kind="orthogonal")
    other = torch.cat([x[edge_index[1]], x[edge_index[0]]], dim=1)
    alpha = torch.sigmoid(ends @ conv.weight_learner.weight.T) * torch.sigmoid(other @ conv.weight_learner.weight.T)
    maps = conv.restriction_maps(x, edge_index)
    torch.testing.assert_close(maps.transpose(1, 2) @ maps, alpha[:, :, None].square() * torch.eye(2, dtype=x.dtype))
    unweighted = layer(kind="orthogonal", edge_weights=False).restriction_maps(x, edge_index)
    torch.testing.assert_close(unweighted.transpose(1, 2) @ unweighted, torch.eye(2, dtype=x.dtype).expand_as(unweighted))


def test_without_weights_and_sigma_it_is_a_step_of_graph_convolution():
    edge_index, n = graph(), 14
    conv = SheafConv(3, d=1, act="identity", left=False, right=False).double()
    x = features(n, 3)
    ones, structure = torch.ones(edge_index.shape[1], 1, dtype=x.dtype), edge_structure(edge_index, n)
    diagonal, blocks = normalized_blocks(structure, ones, None, False, augmented=True)
    trivial = conv.laplacian(x, edge_index)._replace(diagonal=diagonal, blocks=blocks)
    dense = sheaf_laplacian(edge_index, ones, n, kind="diagonal").to_dense()
    torch.testing.assert_close(conv(x, edge_index, trivial), x - dense @ x)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_the_layer(kind):
    edge_index = graph(6, 0.5)
    conv = layer(kind=kind, low_pass=True)
    x = features(6, conv.stalk * 3).requires_grad_()
    names, values = zip(*conv.named_parameters())

    def forward(x, *parameters):
        return torch.func.functional_call(conv, dict(zip(names, parameters)), (x, edge_index))

    assert torch.autograd.gradcheck(forward, (x, *values))


def test_gradients_are_finite_at_equal_maps():
    edge_index = graph()
    conv = SheafConv(3, d=3, kind="general")
    torch.nn.init.zeros_(conv.map_learner.weight)
    x = features(14, 9).float().requires_grad_()
    conv(x, edge_index).square().sum().backward()
    assert torch.isfinite(x.grad).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in conv.parameters())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("orth", ["cayley", "householder"])
def test_commutes_with_permutations_of_the_nodes(kind, orth):
    edge_index, order = graph(), random_order(14)
    conv = layer(kind=kind, orth=orth, high_pass=True)
    x = features(14, conv.stalk * 3)
    torch.testing.assert_close(conv(x[order], relabelled(edge_index, order)), conv(x, edge_index)[order], rtol=0, atol=1e-12)


@pytest.mark.parametrize("blocks", ["diagonal", "full"])
def test_compiled_and_plain_products_agree_whatever_the_threads(blocks, monkeypatch):
    rng, edge_index = np.random.default_rng(0), graph(40)
    structure = edge_structure(edge_index, 40)
    shape = (3,) if blocks == "diagonal" else (3, 3)
    diagonal, x = torch.from_numpy(rng.standard_normal((40, *shape))), torch.from_numpy(rng.standard_normal((40, 3, 5)))
    diagonal = diagonal if blocks == "diagonal" else diagonal + diagonal.transpose(1, 2)
    edges = structure.sorted_pairs(torch.from_numpy(rng.standard_normal((edge_index.shape[1] // 2, *shape))))
    dense = torch.zeros(40, 3, 40, 3, dtype=x.dtype)
    full = (lambda values: torch.diag_embed(values)) if blocks == "diagonal" else (lambda values: values)
    dense[structure.rows, :, structure.columns] = full(edges)
    dense[range(40), :, range(40)] = full(diagonal)
    x, edges, diagonal = (value.requires_grad_() for value in (x, edges, diagonal))
    before, found = numba.get_num_threads(), []
    try:
        for threads, least in ((1, 0), (min(2, numba.config.NUMBA_NUM_THREADS), 0), (1, 10**9)):
            numba.set_num_threads(threads)
            monkeypatch.setattr(block_module, "LEAST_PARALLEL", least)
            product = symmetric_block_product(structure, diagonal, edges, x)
            found.append([product.detach(), *torch.autograd.grad(product.sin().sum(), (x, edges, diagonal))])
    finally:
        numba.set_num_threads(before)
    for parallel in found[:2]:
        assert all(torch.equal(one, other) for one, other in zip(parallel, found[2]))
    plain = plain_block_product(structure, diagonal, edges, x)
    for mine, theirs in zip(found[0], [plain.detach(), *torch.autograd.grad(plain.sin().sum(), (x, edges, diagonal))]):
        torch.testing.assert_close(mine, theirs)
    torch.testing.assert_close(found[0][0], torch.einsum("aibj,bjc->aic", dense, x))


def test_isolated_nodes_and_no_edges_are_finite():
    for kind in KINDS:
        conv = layer(kind=kind, low_pass=True, high_pass=True)
        x = features(5, conv.stalk * 3).requires_grad_()
        for edge_index in (torch.tensor([[0, 1], [1, 0]]), torch.zeros(2, 0, dtype=torch.long)):
            y = conv(x, edge_index)
            y.sum().backward()
            assert torch.isfinite(y).all()
            assert torch.isfinite(x.grad).all()
            torch.testing.assert_close(y[2:], (x * (1 + torch.tanh(conv.epsilon)).repeat_interleave(3, 0).T)[2:])


def test_a_layer_without_maps_needs_those_of_another():
    edge_index, x = graph(), features(14, 6)
    first, second = layer(0), layer(1, learned_sheaf=False)
    with pytest.raises(ValueError, match="laplacian must be given"):
        second(x, edge_index)
    assert torch.isfinite(second(x, edge_index, first.laplacian(x, edge_index))).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"d": 0}, "d must be"),
        ({"d": 1, "kind": "orthogonal"}, "d must be at least 2"),
        ({"d": 4, "kind": "orthogonal", "orth": "euler"}, "d must be 2 or 3"),
        ({"kind": "unitary"}, "kind"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SheafConv(4, **options)


@pytest.mark.parametrize(
    ("edge_index", "message"),
    [([[0, 1, 2], [1, 0, 2]], "self-loops"), ([[0, 1, 1], [1, 0, 2]], "both directions")],
)
def test_graphs_that_are_not_undirected_or_have_loops_are_refused(edge_index, message):
    with pytest.raises(ValueError, match=message):
        SheafConv(4, d=1)(torch.ones(3, 4), torch.tensor(edge_index))
