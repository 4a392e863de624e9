"""The direction network: its loss, its architecture, its training, and what it does inside the solver."""

import numpy as np
import pytest
import torch
from specimens import Specimen

from ritz.linalg import DirectionNetwork, cg, dcdm, train_direction_network
from ritz.linalg.direction_network import direction_loss
from ritz.linalg.products import as_products
from ritz.studies.data.linear_systems import poisson

A = poisson(8, 8)

SPECIMENS = {
    "DirectionNetwork": Specimen(DirectionNetwork, lambda: {"grid_shape": (8, 8), "channels": 2, "levels": 2, "dims": 2, "mask": np.ones((8, 8))},
        accepts={"levels": ("none",), "dims": ("none",), "mask": ("none",)}),
    "train_direction_network": Specimen(
        lambda **options: train_direction_network(grid_shape=(8, 8), model=DirectionNetwork((8, 8), channels=2), **options),
        lambda: {
            "A": A, "samples": 2, "ritz_vectors": 6, "theta": 1, "low_weight": 9.0, "epochs": 1, "batch_size": 2, "learning_rate": 1e-3,
            "final_learning_rate": 1e-4, "generator": 0, "progress": False,
        },
        accepts={"ritz_vectors": ("none",), "theta": ("none",), "final_learning_rate": ("none",), "generator": ("none",)},
    ),
}  # fmt: skip


def unit_rows(k, n, seed=0):
    return torch.nn.functional.normalize(torch.randn(k, n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_the_loss_is_that_of_dense_algebra():
    r, f = unit_rows(5, 64), unit_rows(5, 64, seed=1)
    dense, expected = torch.from_numpy(A.toarray()), []
    for residual, proposal in zip(r, f):
        alpha = (residual @ proposal) / (proposal @ dense @ proposal)
        expected.append(1 - 2 * alpha * residual @ dense @ proposal + alpha**2 * (dense @ proposal) @ (dense @ proposal))
    torch.testing.assert_close(direction_loss(as_products(A), r, f), torch.stack(expected).mean(), rtol=0, atol=1e-6)
    torch.testing.assert_close(direction_loss(as_products(dense), r, f), torch.stack(expected).mean(), rtol=0, atol=1e-12)


def test_the_loss_ignores_the_factor_and_vanishes_at_the_solution():
    r, f = unit_rows(4, 64), unit_rows(4, 64, seed=1)
    products = as_products(A)
    for c in (-1.0, 1e-6, 1e6):
        torch.testing.assert_close(direction_loss(products, r, c * f), direction_loss(products, r, f), rtol=1e-10, atol=0)
    exact = torch.from_numpy(np.linalg.solve(A.toarray(), r.numpy().T).T)
    assert direction_loss(products, r, -3 * exact) < 1e-24


@pytest.mark.parametrize("matrix", [A, torch.from_numpy(A.toarray())])
def test_the_loss_has_the_right_gradient(matrix):
    products, r = as_products(matrix), unit_rows(2, 64)
    assert torch.autograd.gradcheck(lambda f: direction_loss(products, r, f), unit_rows(2, 64, seed=1).requires_grad_())


@pytest.mark.parametrize(("grid", "levels"), [((8, 8), 1), ((16, 9), 3), ((64, 64), None), ((8, 6, 5), 2)])
def test_shapes_and_levels(grid, levels):
    network = DirectionNetwork(grid, channels=3, levels=levels, dims=len(grid))
    r = torch.randn(2, 1, *grid)
    assert network(r).shape == r.shape
    assert network.levels == (levels or 4)


def test_size_of_the_published_network():
    count = sum(p.numel() for p in DirectionNetwork((64, 64, 64), levels=2).parameters())
    assert 5e4 < count < 1.2e5  # about 1e5


def test_directions_work_in_the_kind_and_dtype_of_the_residuals():
    network = DirectionNetwork((8, 8), channels=2)
    r = unit_rows(3, 64)
    expected = network(r.float().reshape(3, 1, 8, 8)).reshape(3, 64).detach().double()
    torch.testing.assert_close(network.directions(r), expected)
    np.testing.assert_array_equal(network.directions(r.numpy()), expected.numpy())
    assert network.directions(r.float()).dtype == torch.float32
    with pytest.raises(ValueError, match=r"residuals must have shape \(k, 64\)"):
        network.directions(np.ones((2, 63)))
    with pytest.raises(ValueError, match="r must have shape"):
        network(torch.ones(2, 8, 8))


def test_masks_and_other_grids_share_parameters():
    mask = np.ones((8, 8))
    mask[2:4, 3:] = 0
    network = DirectionNetwork((8, 8), channels=2, mask=mask)
    assert not network(torch.randn(2, 1, 8, 8))[..., 2:4, 3:].any()
    larger = network.on_grid((16, 12))
    assert larger.directions(np.ones((1, 192))).shape == (1, 192)
    assert larger.first is network.first
    assert larger.mask is None


def test_training_lowers_the_loss_and_helps_the_solver():
    torch.manual_seed(0)
    grid = (16, 16)
    B = poisson(*grid)
    network = train_direction_network(
        B,
        grid,
        model=DirectionNetwork(grid, levels=3),
        ritz_vectors=100,
        samples=8 * 200,
        epochs=1,
        batch_size=8,
        learning_rate=3e-3,
        final_learning_rate=1e-5,
        generator=0,
    )
    losses = network.training_losses
    assert losses.shape == (200,)
    assert losses[-10:].mean() < 0.2 * losses[:10].mean()
    b = np.random.default_rng(1).standard_normal(256)
    learned, plain = dcdm(B, b, network, conjugate_to=10), cg(B, b, tol=1e-4)
    assert learned.converged
    assert learned.iterations < 0.6 * plain.iterations
    assert dcdm(B, b, network, tol=1e-8).converged
    batch = dcdm(B, np.stack([b, 2 * b]), network, conjugate_to=10)
    assert np.all(np.abs(batch.iterations - learned.iterations) <= 2)


def test_training_is_reproducible_and_leaves_the_global_generator_alone():
    state = torch.random.get_rng_state()
    first, second = (train_direction_network(A, (8, 8), samples=6, batch_size=2, epochs=1, generator=3) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), state)
    np.testing.assert_array_equal(first.training_losses, second.training_losses)
    assert all(torch.equal(p, q) for p, q in zip(first.parameters(), second.parameters()))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: DirectionNetwork((8,)), ValueError, "grid_shape must be two or three"),
        (lambda: DirectionNetwork((8, 8), dims=3), ValueError, "dims must be 2"),
        (lambda: DirectionNetwork((8, 4), levels=4), ValueError, "levels must be at most 3"),
        (lambda: DirectionNetwork((8, 8), mask=np.ones((4, 4))), ValueError, "mask must have shape"),
        (lambda: train_direction_network(A, (8, 9)), ValueError, "grid_shape must have 64 points"),
        (lambda: train_direction_network(A, (8, 8), model=torch.nn.Linear(2, 2)), TypeError, "model must be a DirectionNetwork"),
        (lambda: train_direction_network(A, (8, 8), model=DirectionNetwork((4, 16))), ValueError, "model must work on the grid"),
        (lambda: train_direction_network(A.toarray() + np.triu(np.ones((64, 64))), (8, 8)), ValueError, "A must be symmetric"),
    ],
)
def test_bad_arguments_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
