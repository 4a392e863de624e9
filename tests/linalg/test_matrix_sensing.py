"""Over-parameterized matrix sensing: rebalancing, gradients, invariances, rates."""

import warnings

import numpy as np
import pytest
import torch
from specimens import Specimen

from ritz.core import ConvergenceWarning
from ritz.linalg import MatrixSensing, MeasurementOperator, matrix_sensing, rebalance
from ritz.linalg.matrix_sensing import _Descent

RNG = np.random.default_rng(0)


def low_rank(n1, n2, values, seed=0):
    rng = np.random.default_rng(seed)
    U, V = (np.linalg.qr(rng.standard_normal((n, len(values))))[0] for n in (n1, n2))
    return U @ np.diag(values) @ V.T, U @ np.diag(values) @ U.T


M, PSD = low_rank(12, 10, [1.0, 0.6])
OPERATOR = MeasurementOperator.gaussian(150, (12, 10), rng=1)

SPECIMENS = {
    "MatrixSensing": Specimen(
        MatrixSensing,
        lambda: {
            "left": M, "right": M, "converged": True, "iterations": 1, "loss_history": np.ones(1), "switch_iteration": None, "rank_estimate": 1,
        },
        spare=frozenset({"left", "right", "converged", "iterations", "loss_history", "rank_estimate"}),
    ),
    "matrix_sensing": Specimen(
        lambda **options: matrix_sensing(OPERATOR, shape=(12, 10), rng=0, **options),
        lambda: {
            "y": OPERATOR(M), "k": 3, "method": "accelerated", "step": 0.1, "init_scale": 0.1, "imbalance": 3.0, "switch": 10, "beta": 1.0,
            "tol": 1e-2, "maxiter": 200,
        },
        accepts={"step": ("none",), "beta": ("none",)},
    ),
    "rebalance": Specimen(rebalance, lambda: {"F": M[:, :3].copy() + np.eye(12, 3), "G": M[:10, :3].copy(), "beta": 0.5}),
}  # fmt: skip


def quiet(*arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return matrix_sensing(*arguments, **options)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_rebalancing_keeps_the_product_and_levels_the_left_factor(kind):
    F, G = kind(RNG.standard_normal((8, 3))), kind(RNG.standard_normal((6, 3)))
    left, right = rebalance(F, G, 0.7)
    assert type(left) is type(F)
    np.testing.assert_allclose(np.asarray(left @ right.T), np.asarray(F @ G.T), atol=1e-12)
    np.testing.assert_allclose(np.asarray(left.T @ left), 0.49 * np.eye(3), atol=1e-12)
    again = rebalance(left, right, 0.7)
    for once, twice in zip((left, right), again):
        np.testing.assert_allclose(np.asarray(twice), np.asarray(once), atol=1e-12)


def test_rebalancing_refuses_what_has_no_full_rank():
    with pytest.raises(ValueError, match="F must have full column rank"):
        rebalance(np.ones((4, 2)), np.ones((3, 2)), 1.0)
    with pytest.raises(ValueError, match="F must have full column rank"):
        rebalance(np.ones((1, 2)), np.ones((3, 2)), 1.0)
    with pytest.raises(ValueError, match="G must have as many columns as F"):
        rebalance(np.eye(3, 2), np.ones((3, 1)), 1.0)


@pytest.mark.parametrize("method", ["asymmetric", "symmetric"])
def test_steps_are_the_gradient_of_autograd(method):
    operator = MeasurementOperator.from_matrices(torch.from_numpy(RNG.standard_normal((20, 6, 6))))
    y = torch.from_numpy(RNG.standard_normal(20))
    F, G = (torch.from_numpy(RNG.standard_normal((6, 3))).requires_grad_() for _ in range(2))
    if method == "symmetric":
        G = F
    loss = 0.5 * (operator(F @ G.T) - y).square().sum()
    gradients = torch.autograd.grad(loss, [F] if method == "symmetric" else [F, G])
    descent = _Descent(operator, y, method, "auto", None, 0.0, 1)
    r = (operator.of_product(F, G) - y).detach()
    stepped = descent._step(r, F.detach(), G.detach(), 0.01)
    # the symmetric step is -eta sym(E) X, half the gradient of the loss in X
    scale = 0.5 if method == "symmetric" else 1.0
    for after, before, gradient in zip(stepped, (F, G), gradients):
        torch.testing.assert_close(after, before.detach() - 0.01 * scale * gradient, rtol=0, atol=1e-12)


def _products(F, G, operator, y, eta, steps):
    descent = _Descent(operator, y, "asymmetric", "auto", None, 0.0, 1)
    for _ in range(steps):
        F, G = descent._step(operator.of_product(F, G) - y, F, G, eta)
    return F, G


def test_rotating_both_factors_changes_no_product():
    F, G, Q = RNG.standard_normal((12, 4)), RNG.standard_normal((10, 4)), np.linalg.qr(RNG.standard_normal((4, 4)))[0]
    plain, rotated = (_products(*start, OPERATOR, OPERATOR(M), 0.02, 60) for start in ((F, G), (F @ Q, G @ Q)))
    np.testing.assert_allclose(rotated[0] @ rotated[1].T, plain[0] @ plain[1].T, atol=1e-10)


def test_scaling_the_matrix_and_the_start_scales_the_trajectory():
    c = 7.0
    F, G = 0.3 * RNG.standard_normal((12, 4)), 0.3 * RNG.standard_normal((10, 4))
    plain = _products(F, G, OPERATOR, OPERATOR(M), 0.05, 60)
    scaled = _products(c**0.5 * F, c**0.5 * G, OPERATOR, OPERATOR(c * M), 0.05 / c, 60)
    np.testing.assert_allclose(scaled[0] @ scaled[1].T, c * plain[0] @ plain[1].T, atol=1e-10)


def test_the_difference_of_the_gram_matrices_hardly_drifts():
    operator = MeasurementOperator.identity((12, 10))
    F, G = 0.5 * RNG.standard_normal((12, 4)), 0.2 * RNG.standard_normal((10, 4))
    before = F.T @ F - G.T @ G
    F, G = _products(F, G, operator, operator(M), 1e-4, 1000)
    assert np.linalg.norm(F.T @ F - G.T @ G - before) <= 1e-3 * np.linalg.norm(before)


def test_symmetric_at_the_right_rank_is_linear_to_rounding():
    operator = MeasurementOperator.identity((12, 12))
    found = matrix_sensing(operator, operator(PSD), (12, 12), 2, method="symmetric", tol=1e-14, maxiter=800, rng=0)
    assert found.converged
    assert np.linalg.norm(found.left @ found.right.T - PSD) < 1e-13
    assert found.left is found.right


@pytest.mark.parametrize("init_scale", [0.1, 0.01, 0.001])
def test_rebalanced_descent_is_fast_at_every_scale_of_the_start(init_scale):
    operator = MeasurementOperator.identity((12, 10))
    found = matrix_sensing(operator, operator(M), (12, 10), 5, init_scale=init_scale, switch=300, tol=1e-11, rng=0)
    assert found.switch_iteration == 300
    assert found.iterations - found.switch_iteration < 150
    assert found.rank_estimate == 2


def test_two_factors_are_faster_than_one_and_slower_the_smaller_they_start():
    _, target = low_rank(40, 40, [1.0, 0.6])
    operator = MeasurementOperator.identity((40, 40))

    def error(**options):
        found = quiet(operator, operator(target), (40, 40), 6, tol=0.0, maxiter=1500, step=0.1, rng=0, **options)
        return np.linalg.norm(found.left @ found.right.T - target)

    assert error(method="asymmetric") < 1e-3 * error(method="symmetric")
    assert error(method="asymmetric") < 1e-3 * error(method="asymmetric", init_scale=0.02)


@pytest.mark.parametrize("name", ["gaussian", "entries", "rank one", "torch"])
def test_recovery_from_measurements(name):
    rng = np.random.default_rng(3)
    entries = np.nonzero(rng.random((12, 10)) < 0.75)
    matrices = torch.from_numpy(rng.standard_normal((150, 12, 10)) / 150**0.5)
    operator = {
        "gaussian": OPERATOR,
        "entries": MeasurementOperator.entries(*entries, (12, 10)),
        "rank one": MeasurementOperator.rank_one(rng.standard_normal((200, 12)) / 200**0.25, rng.standard_normal((200, 10)) / 200**0.25),
        "torch": MeasurementOperator.from_matrices(matrices),
    }[name]
    found = matrix_sensing(operator, operator(torch.from_numpy(M) if name == "torch" else M), (12, 10), 3, tol=1e-9, maxiter=20000, rng=0)
    assert found.converged
    np.testing.assert_allclose(np.asarray(found.left @ found.right.T), M, atol=1e-6)
    assert isinstance(found.left, torch.Tensor) == (name == "torch")


def test_as_many_columns_as_the_matrix_has():
    operator = MeasurementOperator.identity((10, 10))
    found = matrix_sensing(operator, operator(PSD[:10, :10]), (10, 10), 10, rng=0)
    assert found.converged


def test_zero_measurements_give_zero():
    found = matrix_sensing(OPERATOR, np.zeros(150), (12, 10), 3, rng=0)
    assert found.converged
    assert not found.left.any()
    assert found.rank_estimate == 0


def test_a_step_that_is_too_long_is_shortened():
    found = matrix_sensing(OPERATOR, OPERATOR(M), (12, 10), 3, method="asymmetric", step=3.0, init_scale=0.3, maxiter=5000, tol=1e-6, rng=0)
    assert found.converged


def test_not_converging_is_warned_and_in_the_result():
    with pytest.warns(ConvergenceWarning, match="3 steps left a relative residual"):
        found = matrix_sensing(OPERATOR, OPERATOR(M), (12, 10), 3, maxiter=3, rng=0)
    assert not found.converged
    assert found.iterations == 3
    assert len(found.loss_history) == 4


def test_the_same_seed_gives_the_same_bits():
    first, second = (quiet(OPERATOR, OPERATOR(M), (12, 10), 3, maxiter=50, rng=5) for _ in range(2))
    assert np.array_equal(first.left, second.left)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"y": np.ones(3)}, "y must hold the 150 measurements"),
        ({"k": 0}, "k must be"),
        ({"k": 11}, "k must be"),
        ({"init_scale": 0.0}, "init_scale must be"),
        ({"shape": (10, 12)}, "shape is"),
        ({"method": "symmetric"}, "shape must be square"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        matrix_sensing(**({"operator": OPERATOR, "y": OPERATOR(M), "shape": (12, 10), "k": 3} | options))
