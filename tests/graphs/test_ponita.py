"""PONITA turns with its input, in every mode and dimension."""

import numpy as np
import pytest
import torch
from graphs.invariances import random_order, relabelled
from scipy.spatial.transform import Rotation
from specimens import Specimen

from ritz.graphs import ConvNeXtBlock, FiberBundleConv, Ponita
from ritz.graphs.ponita import all_pairs

SIZES = {"in_scalars": 2, "hidden": 8, "out_scalars": 3, "in_vectors": 1, "out_vectors": 2, "num_layers": 2, "num_orientations": 6}

SPECIMENS = {
    "Ponita": Specimen(
        lambda in_scalars, hidden, out_scalars, **options: Ponita(in_scalars, hidden, out_scalars, **options),
        lambda: (
            SIZES
            | {
                "dim": 3,
                "radius": 2.0,
                "basis_dim": 4,
                "degree": 2,
                "widening": 2,
                "layer_scale": 0.1,
                "task": "node",
                "readout_every_layer": True,
                "mode": "bundle",
                "aggr": "add",
            }
        ),
        accepts={"radius": ("none",), "basis_dim": ("none",), "layer_scale": ("none",)},
    ),
    "ConvNeXtBlock": Specimen(
        lambda channels, widening, layer_scale: ConvNeXtBlock(FiberBundleConv(4, 3), channels, widening, layer_scale),
        lambda: {"channels": 4, "widening": 2, "layer_scale": 0.1},
        accepts={"layer_scale": ("none",)},
    ),
}


def _model(dim: int = 3, mode: str = "bundle", **options) -> Ponita:
    torch.manual_seed(0)
    vectors = {"in_vectors": 0, "out_vectors": 0} if mode == "position" else {}
    sizes = SIZES | vectors | options
    model = Ponita(sizes.pop("in_scalars"), sizes.pop("hidden"), sizes.pop("out_scalars"), dim=dim, mode=mode, layer_scale=0.5, **sizes)
    return model.eval()


def _cloud(dim: int, dtype=torch.float64, n: int = 7):
    generator = torch.Generator().manual_seed(1)
    shapes = ((n, 2), (n, dim), (n, 1, dim))
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes)


def _turn(dim: int, seed: int = 0) -> torch.Tensor:
    if dim == 3:
        return torch.from_numpy(Rotation.random(random_state=seed).as_matrix())
    return _plane_turn(0.7 + seed)


def _plane_turn(angle: float) -> torch.Tensor:
    return torch.tensor([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], dtype=torch.float64)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("task", ["graph", "node"])
@pytest.mark.parametrize("mode", ["bundle", "edges"])
@pytest.mark.parametrize("dim", [2, 3])
def test_turning_points_vectors_and_grid_turns_the_vectors_that_come_out(dim, mode, task, dtype, tolerance):
    model = _model(dim, mode, task=task, radius=3.0).to(dtype)
    x, pos, vec = _cloud(dim, dtype)
    scalars, vectors = model(x, pos, vec=vec)
    R = _turn(dim).to(dtype)
    if mode == "bundle":
        model.grid.copy_(model.grid @ R.T)
    turned_scalars, turned_vectors = model(x, pos @ R.T + 3, vec=vec @ R.T)
    scale = max(1.0, scalars.abs().max().item(), vectors.abs().max().item())
    torch.testing.assert_close(turned_scalars, scalars, atol=tolerance * scale, rtol=0)
    torch.testing.assert_close(turned_vectors, vectors @ R.T, atol=tolerance * scale, rtol=0)


def test_turns_by_a_step_of_the_circle_are_exact_with_a_fixed_grid_and_mirrors_are_seen():
    model = _model(2).double()
    x, pos, vec = _cloud(2)
    scalars, vectors = model(x, pos, vec=vec)
    R = _plane_turn(2 * np.pi / 6)
    turned_scalars, turned_vectors = model(x, pos @ R.T, vec=vec @ R.T)
    torch.testing.assert_close(turned_scalars, scalars, atol=1e-6, rtol=1e-6)  # the grid is stored in single precision
    torch.testing.assert_close(turned_vectors, vectors @ R.T, atol=1e-6, rtol=1e-6)
    mirror = torch.diag(torch.tensor([1.0, -1.0], dtype=torch.float64))
    mirrored, _ = model(x, pos @ mirror, vec=vec @ mirror)
    assert (mirrored - scalars).abs().max() > 1e-3 * scalars.abs().max()


def test_mirror_images_give_the_same_scalars_in_space():
    model = _model(3).double()
    x, pos, vec = _cloud(3)
    scalars, _ = model(x, pos, vec=vec)
    mirror = torch.diag(torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64))
    model.grid.copy_(model.grid @ mirror)
    torch.testing.assert_close(model(x, pos @ mirror, vec=vec @ mirror)[0], scalars)


def test_a_finer_grid_is_more_nearly_invariant():
    x, pos, vec = _cloud(3)
    errors = []
    for count in (8, 16, 32, 64):
        model = _model(3, num_orientations=count).double()
        scalars, _ = model(x, pos, vec=vec)
        moved = [(model(x, pos @ R.T, vec=vec @ R.T)[0] - scalars).norm() for R in (_turn(3, seed) for seed in range(20))]
        errors.append((torch.stack(moved).mean() / scalars.norm()).item())
    assert errors[3] <= 0.5 * errors[0]
    assert errors == sorted(errors, reverse=True)


def test_positions_alone_are_invariant_and_have_no_vectors():
    model = _model(mode="position").double()
    x, pos, _ = _cloud(3)
    scalars, vectors = model(x, pos)
    assert vectors is None
    torch.testing.assert_close(model(x, pos @ _turn(3).T)[0], scalars)
    with pytest.raises(ValueError, match="out_vectors"):
        Ponita(1, 4, 1, out_vectors=1, mode="position")


@pytest.mark.parametrize("mode", ["bundle", "position", "edges"])
def test_order_and_company_change_nothing(mode):
    model = _model(mode=mode, task="node").double()
    x, pos, vec = _cloud(3)
    vec = None if mode == "position" else vec
    edges = all_pairs(pos, torch.zeros(7, dtype=torch.long), None)
    outputs = model(x, pos, edges, vec)
    order = random_order(7)
    permuted = model(x[order], pos[order], relabelled(edges, order), None if vec is None else vec[order])
    batch = torch.tensor([0] * 7 + [1] * 4)
    far = [torch.cat([part, part[:4] + 1]) for part in (x, pos)]
    together = model(*far, vec=None if vec is None else torch.cat([vec, vec[:4]]), batch=batch)
    for alone, other, beside in zip(outputs, permuted, together):
        if alone is not None:
            torch.testing.assert_close(other, alone[order])
            torch.testing.assert_close(beside[:7], alone)


def test_silent_kernels_give_no_vectors_and_gradients_are_finite():
    model = _model().train()
    x, pos, vec = _cloud(3, torch.float32)
    pos[1] = pos[0]  # two points in one place
    pos.requires_grad_()
    sum(part.sum() for part in model(x, pos, vec=vec)).backward()
    assert torch.isfinite(pos.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    silent = _model(in_vectors=0)
    for block in silent.blocks:
        torch.nn.init.zeros_(block.conv.kernel.weight)
    assert silent(x, pos.detach())[1].abs().max() < 1e-5  # scalars alone, the same along all orientations, have no direction


def test_points_beyond_the_radius_are_not_seen():
    model = _model(task="node", radius=1.0)
    x, pos, vec = _cloud(3, torch.float32, n=2)
    pos[1] = pos[0] + torch.tensor([5.0, 0.0, 0.0])
    together, alone = model(x, pos, vec=vec)[0][0], model(x[:1], pos[:1], vec=vec[:1])[0][0]
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pos": torch.ones(7, 2)}, "pos must have shape"),
        ({"pos": torch.full((7, 3), float("nan"))}, "pos must be finite"),
        ({"vec": None}, "vec must have shape"),
        ({"x": torch.ones(7, 3)}, "x must have shape"),
        ({"edge_index": torch.ones(3, 3)}, "edge_index must have shape"),
    ],
)
def test_input_that_does_not_fit_is_refused(arguments, message):
    x, pos, vec = _cloud(3, torch.float32)
    with pytest.raises(ValueError, match=message):
        _model()(**({"x": x, "pos": pos, "vec": vec} | arguments))
    with pytest.raises(ValueError, match="vec must be None"):
        _model(in_vectors=0)(x, pos, vec=vec)
    with pytest.raises(ValueError, match="must not both be 0"):
        Ponita(0, 4, 1)
