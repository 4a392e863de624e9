"""Invariants are what rotations leave alone, and the convolution is its formula."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from specimens import Specimen

from ritz.graphs import FiberBundleConv, invariants, sphere_grid
from ritz.graphs.position_orientation import pair_invariants, polynomial_cutoff, safe_norm

EDGES = torch.tensor([[0, 1, 2, 3, 0], [1, 2, 0, 1, 0]])

SPECIMENS = {
    "invariants": Specimen(
        invariants, lambda: {"pos": torch.randn(4, 3), "edge_index": EDGES, "grid": sphere_grid(5)}, spare=frozenset({"pos", "edge_index", "grid"})
    ),
    "FiberBundleConv": Specimen(
        lambda channels, basis, fiber, mean: FiberBundleConv(channels, basis, fiber=fiber, mean=mean),
        lambda: {"channels": 3, "basis": 4, "fiber": True, "mean": False},
    ),
}


def _rotation(seed: int) -> torch.Tensor:
    return torch.from_numpy(Rotation.random(random_state=seed).as_matrix())


def test_rotations_and_translations_change_no_invariant_and_lengths_add_up():
    pos, grid = torch.randn(4, 3, dtype=torch.float64), sphere_grid(6).double()
    spatial, fiber, dist = invariants(pos, EDGES, grid)
    R = _rotation(0)
    for found, expected in zip(invariants(pos @ R.T + 5, EDGES, grid @ R.T), (spatial, fiber, dist)):
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(spatial.square().sum(-1), dist.square().expand(-1, 6), atol=1e-6, rtol=0)
    assert torch.all(spatial[-1] == 0)


def test_mirror_images_look_alike_in_space_and_differ_in_the_plane():
    mirror = torch.diag(torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64))
    pos, grid = torch.randn(4, 3, dtype=torch.float64), sphere_grid(6).double()
    torch.testing.assert_close(invariants(pos @ mirror, EDGES, grid @ mirror)[0], invariants(pos, EDGES, grid)[0])
    flat, circle = pos[:, :2], sphere_grid(6, dim=2).double()
    flip = torch.diag(torch.tensor([1.0, -1.0], dtype=torch.float64))
    before, after = invariants(flat, EDGES, circle)[0], invariants(flat @ flip, EDGES, circle @ flip)[0]
    torch.testing.assert_close(after[..., 0], before[..., 0])
    torch.testing.assert_close(after[..., 1], -before[..., 1])


def test_oriented_points_have_the_invariants_of_the_grid():
    pos, grid = torch.randn(4, 3, dtype=torch.float64), sphere_grid(4).double()
    spatial, fiber, _ = invariants(pos, EDGES, grid)
    found = pair_invariants(pos, grid, EDGES).squeeze(1)  # point i looks along grid[i]
    torch.testing.assert_close(found[:, :2], spatial[torch.arange(5), EDGES[1]])
    torch.testing.assert_close(found[:, 2], fiber[EDGES[1], EDGES[0], 0])


def test_the_cutoff_is_one_at_the_point_and_flat_zero_at_the_radius():
    dist = torch.tensor([0.0, 1.0, 2.0, 3.0], dtype=torch.float64, requires_grad=True)
    weight = polynomial_cutoff(dist, 2.0)
    assert weight[0] == 1
    assert weight[2:].tolist() == [0, 0]
    (slope,) = torch.autograd.grad(polynomial_cutoff(dist * (1 - 1e-9), 2.0)[2], dist)
    assert slope.abs().max() < 1e-6
    assert torch.all(polynomial_cutoff(dist, None) == 1)


def test_the_norm_has_a_finite_gradient_at_zero():
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0]], requires_grad=True)
    safe_norm(x, dim=-1).sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([[0.0, 0.0], [0.6, 0.8]]))


@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("edges_at_once", [1, 100])
def test_the_convolution_is_its_formula_with_gradients(mean, edges_at_once, monkeypatch):
    monkeypatch.setattr("ritz.graphs.position_orientation.EDGES_AT_ONCE", edges_at_once)
    torch.manual_seed(0)
    conv = FiberBundleConv(3, 4, mean=mean).double().eval()
    x = torch.randn(4, 5, 3, dtype=torch.float64, requires_grad=True)
    basis = torch.randn(5, 5, 4, dtype=torch.float64, requires_grad=True)
    fiber = torch.randn(5, 5, 4, dtype=torch.float64, requires_grad=True)
    expected = torch.zeros(4, 5, 3, dtype=torch.float64)
    for e, (source, target) in enumerate(EDGES.T.tolist()):
        expected[target] += conv.kernel(basis[e]) * x[source] / (EDGES[1].tolist().count(target) if mean else 1)
    expected = torch.stack([(conv.fiber_kernel(fiber[:, b]) * expected).mean(1) for b in range(5)], dim=1) + conv.bias
    torch.testing.assert_close(conv(x, EDGES, basis, fiber), expected)
    weight = conv.kernel.weight.detach().clone().requires_grad_()

    def outputs(x, basis, fiber, weight):
        return torch.func.functional_call(conv, {"kernel.weight": weight}, (x, EDGES, basis, fiber))

    assert torch.autograd.gradcheck(outputs, (x, basis, fiber, weight))


def test_the_first_training_step_keeps_the_standard_deviation_and_only_the_first():
    torch.manual_seed(0)
    conv = FiberBundleConv(16, 8)
    x, basis, fiber = torch.randn(50, 6, 16), 30 * torch.rand(200, 6, 8), torch.rand(6, 6, 8)
    edges = torch.randint(0, 50, (2, 200))
    conv.eval()(x, edges, basis, fiber)
    assert not conv.calibrated
    assert conv.train()(x, edges, basis, fiber).std().item() == pytest.approx(x.std().item(), rel=1e-4)
    assert conv.calibrated
    weight = conv.kernel.weight.clone()
    conv(2 * x, edges, basis, fiber)
    assert torch.equal(weight, conv.kernel.weight)
    silent = FiberBundleConv(16, 8)
    assert torch.isfinite(silent(torch.zeros(50, 6, 16), edges, basis, fiber)).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pos": torch.ones(4, 4)}, "pos must have shape"),
        ({"pos": torch.full((4, 3), float("nan"))}, "pos must be finite"),
        ({"grid": torch.ones(5, 3)}, "grid must be made of unit vectors"),
        ({"grid": torch.eye(2)}, "grid must have shape"),
        ({"edge_index": torch.zeros(3, 2)}, "edge_index must have shape"),
    ],
)
def test_what_has_no_invariants_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        invariants(**({"pos": torch.randn(4, 3), "edge_index": EDGES, "grid": sphere_grid(5)} | arguments))
    assert np.isfinite(float(sphere_grid(5).sum()))
