"""Monarch layers: what they compute, conversions, and training that ends dense."""

import numpy as np
import pytest
import torch
from specimens import Specimen
from torch import nn

from ritz.linalg import MonarchLinear, MonarchOperator, ReverseSparsification, densify, monarch_project, monarchize

LAYER = {"in_features": 10, "out_features": 7, "blocks": 3, "rank": 2, "bias": True, "layout": "standard"}


def network():
    return nn.Sequential(nn.Linear(10, 12), nn.GELU(), nn.Linear(12, 5))


SPECIMENS = {
    "MonarchLinear": Specimen(MonarchLinear, lambda: dict(LAYER)),
    "MonarchLinear.from_linear": Specimen(
        lambda blocks, rank: MonarchLinear.from_linear(nn.Linear(6, 6), blocks=blocks, rank=rank), lambda: {"blocks": 2, "rank": 1}
    ),
    "monarchize": Specimen(lambda blocks, rank: monarchize(network(), blocks=blocks, rank=rank), lambda: {"blocks": 2, "rank": 1}),
    "densify": Specimen(lambda: densify(monarchize(network())), dict),
    "ReverseSparsification": Specimen(
        lambda **options: ReverseSparsification(monarchize(network()), **options), lambda: {"fraction": 0.5, "moments": "reset", "warmup_steps": 3}
    ),
    "ReverseSparsification.step": Specimen(lambda progress: ReverseSparsification(monarchize(network())).step(progress), lambda: {"progress": 0.5}),
}


@pytest.mark.parametrize("layout", ["standard", "official"])
@pytest.mark.parametrize("sizes", [(12, 12, 3), (10, 7, 3), (7, 10, 4), (5, 5, 5), (64, 256, 8), (3, 3, 1)])
def test_layer_equals_its_dense_form(sizes, layout):
    n, m, blocks = sizes
    layer = MonarchLinear(n, m, blocks=blocks, layout=layout).double()
    x = torch.randn(2, 4, n, dtype=torch.float64)
    torch.testing.assert_close(layer(x), nn.functional.linear(x, layer.weight(), layer.bias), rtol=0, atol=1e-12)
    torch.testing.assert_close(layer.to_linear()(x), layer(x), rtol=0, atol=1e-12)
    assert layer(torch.randn(0, n, dtype=torch.float64)).shape == (0, m)


def test_official_layout_is_the_published_multiply():
    """Blocks, then '(r l) -> l r', blocks, then 's l' with l innermost."""
    layer = MonarchLinear(12, 20, blocks=4, layout="official", bias=False).double()
    x = torch.randn(6, 12, dtype=torch.float64)
    k, _, p = layer.R.shape
    count, s, r = layer.L.shape
    first = torch.einsum("bkp,kqp->bkq", x.reshape(6, k, p), layer.R)
    second = torch.einsum("brl,lsr->bsl", first.reshape(6, r, count), layer.L).reshape(6, s * count)
    torch.testing.assert_close(layer(x), second[:, :20], rtol=0, atol=1e-12)
    assert (layer.R.shape, layer.L.shape) == ((4, 3, 3), (4, 5, 3))
    assert MonarchLinear(20, 12, blocks=4, layout="official").L.shape == (4, 3, 3)


@pytest.mark.parametrize(("n", "m", "blocks", "rank"), [(12, 12, 3, 1), (10, 7, 3, 2), (7, 10, 4, 1)])
def test_from_linear_is_the_projected_weight(n, m, blocks, rank):
    dense = nn.Linear(n, m).double()
    layer = MonarchLinear.from_linear(dense, blocks=blocks, rank=rank)
    J, I = -(-m // blocks), -(-n // blocks)
    padded = np.zeros((J * blocks, I * blocks))
    padded[:m, :n] = dense.weight.detach().numpy()
    expected = monarch_project(padded, blocks=(blocks, J), rank=rank).toarray()[:m, :n]
    np.testing.assert_allclose(layer.to_linear().weight.detach().numpy(), expected, atol=1e-12)
    assert torch.equal(layer.bias, dense.bias)


def test_rank_of_a_block_makes_the_layer_exact():
    dense = nn.Linear(12, 9).double()
    layer = MonarchLinear.from_linear(dense, blocks=3, rank=3)
    torch.testing.assert_close(layer.weight(), dense.weight, rtol=0, atol=1e-12)


def test_starts_with_the_stated_bounds():
    layer = MonarchLinear(64, 64, blocks=4)
    assert layer.R.abs().max() <= 1 / 16**0.5
    assert layer.L.abs().max() <= 1 / 4**0.5
    assert layer.R.abs().max() > 0.9 / 16**0.5


def test_densify_leaves_the_function_and_monarchize_the_input_alone():
    net = network()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    sparse = monarchize(net, blocks=4)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert [type(layer) for layer in sparse] == [MonarchLinear, nn.GELU, MonarchLinear]
    dense = densify(sparse)
    assert [type(layer) for layer in dense] == [nn.Linear, nn.GELU, nn.Linear]
    x = torch.randn(5, 10)
    torch.testing.assert_close(dense(x), sparse(x), rtol=0, atol=1e-6)
    assert type(monarchize(nn.Linear(8, 8))) is MonarchLinear
    assert type(densify(MonarchLinear(8, 8))) is nn.Linear


def test_match_chooses_layers():
    sparse = monarchize(network(), match=lambda name, layer: name == "0")
    assert [type(sparse[i]) for i in (0, 2)] == [MonarchLinear, nn.Linear]
    with pytest.raises(ValueError, match="module has no Linear layer that matches"):
        monarchize(network(), match=lambda name, layer: False)
    with pytest.raises(ValueError, match="module has no MonarchLinear"):
        densify(network())


def test_training_reduces_the_loss():
    layer = MonarchLinear(16, 16, blocks=4)
    target = MonarchLinear(16, 16, blocks=4).weight().detach()
    optimizer = torch.optim.Adam(layer.parameters(), lr=1e-2)
    x = torch.randn(64, 16)
    losses = []
    for _ in range(200):
        optimizer.zero_grad()
        loss = (layer(x) - x @ target.T).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


def _train(net, optimizer, hook, steps, scheduler=None):
    x = torch.randn(16, 10)
    rates = []
    for step in range(steps):
        hook.step(step / steps)
        optimizer.zero_grad()
        net(x).square().mean().backward()
        optimizer.register_step_pre_hook(lambda o, *_: rates.append(o.param_groups[0]["lr"])).remove()
        optimizer.step()
        rates.append(optimizer.param_groups[0]["lr"])
        if scheduler is not None:
            scheduler.step()
    return rates


@pytest.mark.parametrize("moments", ["reset", "multiply"])
def test_reverse_sparsification_keeps_the_function_and_moves_the_state(moments):
    net = monarchize(network(), blocks=2)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    hook = ReverseSparsification(net, 0.5, optimizer=optimizer, moments=moments, warmup_steps=0)
    _train(net, optimizer, hook, 10)
    assert hook.is_dense
    assert all(type(layer) is not MonarchLinear for layer in net)
    assert {id(p) for group in optimizer.param_groups for p in group["params"]} == {id(p) for p in net.parameters()}
    state = optimizer.state[net[0].weight]
    assert state["exp_avg"].shape == net[0].weight.shape
    assert int(state["step"]) == 5  # counted from the change
    assert int(optimizer.state[net[0].bias]["step"]) == 10  # the bias kept its own


def test_multiplied_moments_are_the_change_of_the_product():
    net = monarchize(network(), blocks=2)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    _train(net, optimizer, ReverseSparsification(net, 0.9), 2)
    layer = net[0]
    R, L, size = layer.R.detach(), layer.L.detach(), 1e-4
    dR, dL = optimizer.state[layer.R]["exp_avg"], optimizer.state[layer.L]["exp_avg"]
    ahead, behind = (MonarchOperator(R.double() + s * dR, L.double() + s * dL).toarray() for s in (size, -size))
    ReverseSparsification(net, 0.5, optimizer=optimizer, moments="multiply").step(0.6)
    expected = ((ahead - behind) / (2 * size))[:12, :10].float()
    torch.testing.assert_close(optimizer.state[net[0].weight]["exp_avg"], expected, rtol=1e-3, atol=1e-6)


def test_densifying_changes_no_output_at_that_step():
    net = monarchize(network(), blocks=2)
    x = torch.randn(3, 10)
    before = net(x)
    assert ReverseSparsification(net, 0.5).step(0.7)
    torch.testing.assert_close(net(x), before, rtol=0, atol=1e-6)


def test_warm_up_scales_the_scheduled_rate_and_ends():
    net = monarchize(network(), blocks=2)
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    hook = ReverseSparsification(net, 0.5, optimizer=optimizer, warmup_steps=3)
    seen = []
    hook.step(0.5)
    optimizer.register_step_pre_hook(lambda o, *_: seen.append(o.param_groups[0]["lr"]))
    _train(net, optimizer, hook, 5, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5))
    assert seen == pytest.approx([0.125, 0.25, 0.375, 0.5, 0.5])
    assert optimizer.param_groups[0]["lr"] == 0.5


@pytest.mark.parametrize(
    "options", [{"in_features": 0}, {"blocks": 8}, {"blocks": 0}, {"rank": 4}, {"layout": "other"}, {"layout": "official", "rank": 2}, {"bias": 1.0}]
)
def test_bad_options_are_refused(options):
    with pytest.raises((ValueError, TypeError), match="rank" if "rank" in options else next(iter(options))):
        MonarchLinear(**(LAYER | {"rank": 1} | options))


def test_bad_input_and_modules_are_refused():
    with pytest.raises(ValueError, match=r"x must have shape \(..., 10\)"):
        MonarchLinear(10, 10)(torch.ones(2, 9))
    with pytest.raises(TypeError, match=r"layer must be a torch\.nn\.Linear"):
        MonarchLinear.from_linear(nn.Conv2d(1, 1, 1))
    with pytest.raises(TypeError, match=r"module must be a torch\.nn\.Module"):
        densify("net")
    with pytest.raises(ValueError, match="module must hold Monarch layers"):
        ReverseSparsification(network())
