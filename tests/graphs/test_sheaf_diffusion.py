"""Networks of sheaf diffusion: shapes, variants, the order of the integrators, and that they learn where neighbors differ."""

import networkx as nx
import numpy as np
import pytest
import torch
from graphs.invariances import edges_of, random_order, relabelled
from specimens import Specimen

from ritz.core import MissingExtra
from ritz.graphs import SheafDiffusion, SheafODE

PATH = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
OPTIONS = {
    "in_channels": 5,
    "hidden_channels": 3,
    "out_channels": 2,
    "d": 2,
    "kind": "orthogonal",
    "act": "elu",
    "dropout": 0.5,
    "input_dropout": 0.1,
    "left": True,
    "right": True,
    "low_pass": False,
    "high_pass": True,
    "edge_weights": True,
    "orth": "cayley",
    "second_linear": True,
}
FEATURES = {"x": ("nan", "inf")}  # networks check shapes, not every number

SPECIMENS = {
    "SheafDiffusion": Specimen(SheafDiffusion, lambda: {**OPTIONS, "num_layers": 2, "per_layer_sheaf": True}),
    "SheafDiffusion.forward": Specimen(
        lambda x, edge_index: SheafDiffusion(4)(x, edge_index), lambda: {"x": torch.randn(3, 4), "edge_index": PATH.clone()}, accepts=FEATURES
    ),
    "SheafDiffusion.states": Specimen(
        lambda x, edge_index: SheafDiffusion(4).states(x, edge_index), lambda: {"x": torch.randn(3, 4), "edge_index": PATH.clone()}, accepts=FEATURES
    ),
    "SheafODE": Specimen(SheafODE, lambda: {**OPTIONS, "time": 1.0, "steps": 2, "method": "rk4", "moving_sheaf": False}),
    "SheafODE.forward": Specimen(
        lambda x, edge_index: SheafODE(4)(x, edge_index), lambda: {"x": torch.randn(3, 4), "edge_index": PATH.clone()}, accepts=FEATURES
    ),
}


def graph(n=14, seed=0):
    return edges_of(nx.gnp_random_graph(n, 0.3, seed=seed))


@pytest.mark.parametrize("kind", ["diagonal", "orthogonal", "general"])
@pytest.mark.parametrize("options", [{}, {"per_layer_sheaf": False}, {"second_linear": True, "low_pass": True}, {"left": False, "right": False}])
def test_any_graph_at_any_call(kind, options):
    torch.manual_seed(0)
    network = SheafDiffusion(5, 4, 3, d=2, kind=kind, input_dropout=0.2, **options)
    for n in (14, 9):
        logits = network(torch.randn(n, 5), graph(n))
        assert logits.shape == (n, 3)
        logits.sum().backward()
    expected = 4 if options.get("per_layer_sheaf", True) else 1
    assert sum("map_learner" in name for name, _ in network.named_parameters()) == expected


def test_networks_commute_with_permutations():
    torch.manual_seed(0)
    edge_index, order, x = graph(), random_order(14), torch.randn(14, 5).double()
    for network in (SheafDiffusion(5, 4, 3, kind="general", d=2), SheafODE(5, 4, 3, kind="orthogonal", d=2)):
        network = network.double().eval()
        torch.testing.assert_close(network(x[order], relabelled(edge_index, order)), network(x, edge_index)[order], rtol=0, atol=1e-10)


def test_layers_are_the_steps_of_the_chain():
    torch.manual_seed(0)
    network, x, edge_index = SheafDiffusion(5, 4, 3).eval(), torch.randn(14, 5), graph()
    state = torch.nn.functional.elu(network.encoder.first(x))
    for conv, expected in zip(network.convs, network.states(x, edge_index)[1:]):
        state = conv(state, edge_index)
        torch.testing.assert_close(state, expected)
    torch.testing.assert_close(network(x, edge_index), network.classifier(state))


def test_a_fixed_sheaf_is_that_of_the_first_layer():
    torch.manual_seed(0)
    network, x, edge_index = SheafDiffusion(5, 4, 3, per_layer_sheaf=False).eval(), torch.randn(14, 5), graph()
    state = network.encoder(x)
    laplacian = network.convs[0].laplacian(state, edge_index)
    for conv in network.convs:
        state = conv(state, edge_index, laplacian)
    torch.testing.assert_close(network(x, edge_index), network.classifier(state))


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("rk4", 4)])
@pytest.mark.parametrize("moving", [True, False])
def test_integrators_converge_with_their_order(method, order, moving):
    edge_index, x = graph(), torch.from_numpy(np.random.default_rng(0).standard_normal((14, 5)))

    def final(steps, method):
        torch.manual_seed(0)
        network = SheafODE(5, 4, 3, act="tanh", d=2, method=method, steps=steps, moving_sheaf=moving).double().eval()
        with torch.no_grad():
            return network(x, edge_index)

    exact = final(256, "rk4")
    errors = [(final(steps, method) - exact).norm().item() for steps in (8, 16)]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.35)


def test_one_euler_step_is_a_layer_without_residual_scale():
    torch.manual_seed(0)
    network, x, edge_index = SheafODE(5, 4, 3, steps=1).eval(), torch.randn(14, 5), graph()
    torch.testing.assert_close(network(x, edge_index), network.classifier(network.conv(network.encoder(x), edge_index)))
    assert not network.conv.epsilon.requires_grad


def test_the_adaptive_method_needs_its_library():
    try:
        import torchdiffeq  # noqa: F401
    except ModuleNotFoundError:
        with pytest.raises(MissingExtra, match="pip install torchdiffeq"):
            SheafODE(5, method="dopri5")
        return
    torch.manual_seed(0)
    adaptive, x, edge_index = SheafODE(5, 4, 3, act="tanh", method="dopri5").double().eval(), torch.randn(14, 5).double(), graph()
    fixed = SheafODE(5, 4, 3, act="tanh", method="rk4", steps=64).double().eval()
    fixed.load_state_dict(adaptive.state_dict())
    torch.testing.assert_close(adaptive(x, edge_index), fixed(x, edge_index), rtol=0, atol=5e-3)


def test_same_seed_same_network_bit_for_bit():
    outputs = []
    for _ in range(2):
        torch.manual_seed(3)
        outputs.append(SheafDiffusion(5, 4, 3)(torch.ones(14, 5), graph()))
    assert torch.equal(*outputs)


def test_it_learns_classes_whose_members_avoid_each_other():
    """Features are noise but for the first, a weak hint; neighbors are of the other class."""
    rng = np.random.default_rng(0)
    labels = np.arange(80) % 2
    upper = np.triu((rng.random((80, 80)) < 0.15) & (labels[:, None] != labels), 1)
    edge_index, y = torch.from_numpy(np.stack(np.nonzero(upper | upper.T))), torch.from_numpy(labels)
    x = torch.from_numpy(rng.standard_normal((80, 6))).float()
    x[:, 0] += 1.5 * (2 * y - 1)
    torch.manual_seed(0)
    network = SheafDiffusion(6, 8, 2, d=2, dropout=0.2)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02, weight_decay=5e-3)
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(x, edge_index)[:40], y[:40]).backward()
        optimizer.step()
    accuracy = (network.eval()(x, edge_index)[40:].argmax(1) == y[40:]).float().mean()
    assert accuracy > 0.9
