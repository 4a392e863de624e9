"""SOAP against Adam, against a plain form of itself, and its invariances."""

import copy
import io
import math

import numpy as np
import pytest
import torch
from specimens import Specimen
from torch import nn

from ritz.optim import SOAP
from ritz.optim.soap import eigenvectors, merged_shape

OPTIONS = {
    "lr": 0.01,
    "betas": (0.9, 0.95),
    "shampoo_beta": 0.9,
    "eps": 1e-8,
    "weight_decay": 0.01,
    "precondition_frequency": 2,
    "max_precond_dim": 100,
    "merge_dims": False,
    "precondition_1d": False,
    "normalize_grads": False,
    "correct_bias": True,
    "one_sided": False,
    "factorized": False,
    "data_format": "channels_first",
}
SPECIMENS = {
    "SOAP": Specimen(lambda **options: SOAP([nn.Parameter(torch.ones(2, 3))], **options), lambda: dict(OPTIONS), accepts={"shampoo_beta": ("none",)}),
}


def parameter(*shape, dtype=torch.float64, seed=0):
    return nn.Parameter(torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype))


def gradients(shape, count, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, dtype=torch.float64, generator=generator) for _ in range(count)]


def train(optimizer, W, grads):
    trajectory = []
    for grad in grads:
        W.grad = grad.to(W.dtype)
        optimizer.step()
        trajectory.append(W.detach().clone())
    return trajectory


def plain_soap(W, grads, QL, QR, *, lr, betas, eps, weight_decay, frequency):
    """Algorithm 3 as it is written, for one matrix, from the given first bases: the first moment in the original space, rotated at every step."""
    (b1, b2), M, V = betas, torch.zeros_like(W), torch.zeros_like(W)
    L, R = (1 - b2) * grads[0] @ grads[0].T, (1 - b2) * grads[0].T @ grads[0]
    for t, G in enumerate(grads[1:], start=1):
        projected = QL.T @ G @ QR
        M = b1 * M + (1 - b1) * G
        V = b2 * V + (1 - b2) * projected**2
        N = QL @ ((QL.T @ M @ QR) / (V.sqrt() + eps)) @ QR.T
        W = (W - lr * math.sqrt(1 - b2**t) / (1 - b1**t) * N) * (1 - lr * weight_decay)
        L, R = b2 * L + (1 - b2) * G @ G.T, b2 * R + (1 - b2) * G.T @ G
        if t % frequency == 0:
            order = torch.argsort(torch.diag(QL.T @ L @ QL), descending=True)
            QL, V = torch.linalg.qr(L @ QL[:, order]).Q, V[order]
            order = torch.argsort(torch.diag(QR.T @ R @ QR), descending=True)
            QR, V = torch.linalg.qr(R @ QR[:, order]).Q, V[:, order]
    return W


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)])
@pytest.mark.parametrize("frequency", [1, 3])
def test_equals_the_plain_form(shape, frequency):
    W, grads = parameter(*shape), gradients(shape, 12)
    settings = {"lr": 0.02, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}
    start, optimizer = W.detach().clone(), SOAP([W], precondition_frequency=frequency, **settings)
    train(optimizer, W, grads[:1])
    bases = [Q.clone() for Q in optimizer.eigenbasis(W)]
    for Q, gram in zip(bases, (grads[0] @ grads[0].T, grads[0].T @ grads[0])):
        torch.testing.assert_close(Q @ torch.linalg.eigvalsh(gram).flip(0).diag() @ Q.T, gram, rtol=0, atol=1e-12)
    train(optimizer, W, grads[1:])
    torch.testing.assert_close(W.detach(), plain_soap(start, grads, *bases, frequency=frequency, **settings), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("shape", "options"), [((4, 3), {"max_precond_dim": 0}), ((7,), {}), ((), {}), ((2, 3, 4), {"max_precond_dim": 0})])
def test_without_preconditioned_dimensions_it_is_adam_one_step_late(shape, options):
    W, twin = parameter(*shape), parameter(*shape)
    grads = gradients(shape, 20)
    ours = train(SOAP([W], lr=0.01, betas=(0.9, 0.99), eps=1e-14, weight_decay=0.0, **options), W, grads)
    adam = train(torch.optim.Adam([twin], lr=0.01, betas=(0.9, 0.99), eps=1e-14), twin, grads[1:])
    assert torch.equal(ours[0], parameter(*shape))
    for step, reference in zip(ours[1:], adam):
        torch.testing.assert_close(step, reference, rtol=1e-6, atol=1e-12)


def _rotated_training(make, rotated, steps=40, n=6):
    generator = torch.Generator().manual_seed(3)
    A, B = (torch.eye(n, dtype=torch.float64) + 0.1 * torch.randn(n, n, dtype=torch.float64, generator=generator) for _ in range(2))
    U, Z = (torch.linalg.qr(torch.randn(n, n, dtype=torch.float64, generator=generator)).Q for _ in range(2))
    W = parameter(n, n)
    if rotated:
        W = nn.Parameter(U @ W.detach() @ Z.T)
    optimizer = make([W])
    for _ in range(steps):
        optimizer.zero_grad()
        inside = U.T @ W @ Z if rotated else W
        target = torch.randn(n, n, dtype=torch.float64, generator=generator)
        (A @ inside @ B - target).square().sum().backward()
        optimizer.step()
    return W.detach() if not rotated else U.T @ W.detach() @ Z


def test_training_in_rotated_coordinates_is_rotated_training():
    def make(params):
        return SOAP(params, lr=0.02, eps=1e-12, weight_decay=0.0, precondition_frequency=5)

    plain, back = _rotated_training(make, False), _rotated_training(make, True)
    assert (plain - back).norm() / plain.norm() < 1e-6

    def adam(params):
        return torch.optim.Adam(params, lr=0.02)

    plain, back = _rotated_training(adam, False), _rotated_training(adam, True)
    assert (plain - back).norm() / plain.norm() > 1e-2


def test_shampoo_with_exponent_one_half_is_adafactor_in_the_eigenbasis():
    G = torch.stack(gradients((5, 4), 30))
    L, R = (G @ G.mT).mean(dim=0), (G.mT @ G).mean(dim=0)
    (left, QL), (right, QR) = torch.linalg.eigh(L), torch.linalg.eigh(R)
    X = gradients((5, 4), 1, seed=9)[0]
    shampoo = L.trace().sqrt() * (QL / left.sqrt()) @ QL.T @ X @ (QR / right.sqrt()) @ QR.T
    rotated = QL.T @ G @ QR
    rows, columns = rotated.square().sum(dim=2).mean(dim=0), rotated.square().sum(dim=1).mean(dim=0)
    adafactor = QL @ ((QL.T @ X @ QR) / (rows[:, None] * columns[None] / rows.sum()).sqrt()) @ QR.T
    assert (shampoo - adafactor).norm() / shampoo.norm() < 1e-8


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bases_stay_orthogonal_and_sorted(dtype):
    W = parameter(8, 5, dtype=dtype)
    optimizer = SOAP([W], lr=0.01, precondition_frequency=4)
    scale = torch.logspace(0, -2, 8, dtype=torch.float64)[:, None]
    train(optimizer, W, [scale * grad for grad in gradients((8, 5), 81)])
    for k, Q in enumerate(optimizer.eigenbasis(W)):
        assert (Q.T @ Q - torch.eye(len(Q), dtype=dtype)).abs().max() < 1e-5
        quotients = torch.diag(Q.T @ optimizer.state[W][f"gram_{k}"] @ Q)
        assert (quotients.diff() <= 0.1 * quotients.max()).all()
        exact = torch.linalg.eigvalsh(optimizer.state[W][f"gram_{k}"]).flip(0)
        torch.testing.assert_close(quotients, exact, rtol=0, atol=0.1 * float(exact.max()))


def test_commuting_gradients_keep_the_basis_a_signed_permutation_and_give_adam():
    n, lr = 5, 0.02
    W, w = nn.Parameter(torch.zeros(n, n, dtype=torch.float64)), nn.Parameter(torch.zeros(n, dtype=torch.float64))
    scale, target = torch.logspace(0, 1, n, dtype=torch.float64), torch.linspace(1, 2, n, dtype=torch.float64)
    options = {"lr": lr, "betas": (0.9, 0.95), "eps": 1e-8}
    soap, adam = SOAP([W], weight_decay=0.0, precondition_frequency=3, **options), torch.optim.Adam([w], **options)
    for step in range(30):
        W.grad = torch.diag(scale * (torch.diagonal(W.detach()) - target))
        soap.step()
        if step:
            w.grad = scale * (w.detach() - target)
            adam.step()
    for Q in soap.eigenbasis(W):
        torch.testing.assert_close(Q.abs().sort(dim=0).values[-1], torch.ones(n, dtype=torch.float64))
        torch.testing.assert_close(Q.abs().sum(dim=0), torch.ones(n, dtype=torch.float64))
    torch.testing.assert_close(torch.diagonal(W.detach()), w.detach(), rtol=1e-6, atol=1e-9)
    assert (W.detach() - torch.diag(torch.diagonal(W.detach()))).abs().max() < 1e-6


@pytest.mark.parametrize("frequency", [1, 1000])
def test_extreme_frequencies_run(frequency):
    W = parameter(4, 3)
    before = None
    optimizer = SOAP([W], precondition_frequency=frequency)
    for grad in gradients((4, 3), 15):
        train(optimizer, W, [grad])
        if before is not None and frequency == 1000:
            assert all(torch.equal(Q, kept) for Q, kept in zip(optimizer.eigenbasis(W), before))
        before = [Q.clone() for Q in optimizer.eigenbasis(W)]
    assert W.isfinite().all()


VARIANTS = [
    {},
    {"one_sided": True},
    {"factorized": True},
    {"one_sided": True, "factorized": True},
    {"normalize_grads": True},
    {"correct_bias": False},
]


def _model(dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3)).to(dtype)


def _steps(model, optimizer, start, stop):
    for step in range(start, stop):
        x = torch.randn(16, 6, generator=torch.Generator().manual_seed(step)).to(next(model.parameters()).dtype)
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("options", VARIANTS)
def test_a_saved_state_continues_bit_for_bit(options, dtype):
    """Saved in the middle of a period, through a file, into an optimizer whose parameters are no longer stacked in memory."""
    straight, resumed = _model(dtype), _model(dtype)

    def make(model):
        return SOAP(model.parameters(), precondition_frequency=4, **options)

    optimizer = make(straight)
    _steps(straight, optimizer, 0, 7)
    buffer = io.BytesIO()
    torch.save({"model": straight.state_dict(), "optimizer": optimizer.state_dict()}, buffer)
    buffer.seek(0)
    saved = torch.load(buffer, weights_only=True)
    resumed.load_state_dict(saved["model"])
    second = make(resumed)
    second.load_state_dict(saved["optimizer"])
    _steps(straight, optimizer, 7, 15)
    _steps(resumed, second, 7, 15)
    for p, q in zip(straight.parameters(), resumed.parameters()):
        assert torch.equal(p, q)


def test_copies_and_pickles_go_on():
    model = _model()
    optimizer = SOAP(model.parameters(), precondition_frequency=3)
    _steps(model, optimizer, 0, 5)
    twin_model, twin = copy.deepcopy((model, optimizer))
    _steps(model, optimizer, 5, 10)
    _steps(twin_model, twin, 5, 10)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), twin_model.parameters()))


def test_alike_parameters_in_one_batch_equal_each_alone():
    grads = [gradients((5, 4), 10, seed=s) for s in range(3)]
    together = [parameter(5, 4, seed=s) for s in range(3)]
    optimizer = SOAP(together, precondition_frequency=3)
    for step in range(10):
        for W, own in zip(together, grads):
            W.grad = own[step]
        optimizer.step()
    for s, W in enumerate(together):
        alone = parameter(5, 4, seed=s)
        train(SOAP([alone], precondition_frequency=3), alone, grads[s])
        torch.testing.assert_close(W, alone, rtol=1e-12, atol=1e-12)


def test_parameters_without_a_gradient_are_skipped_and_catch_up():
    W, other = parameter(4, 3), parameter(4, 3, seed=5)
    optimizer = SOAP([W, other], precondition_frequency=2)
    grads = gradients((4, 3), 9)
    for step, grad in enumerate(grads):
        W.grad = grad
        other.grad = None if step % 3 == 1 else grad
        held = other.detach().clone()
        optimizer.step()
        if step % 3 == 1:
            assert torch.equal(other, held)
    assert optimizer.state[W]["step"] == 8
    assert optimizer.state[other]["step"] == 5
    alone = parameter(4, 3, seed=5)
    train(SOAP([alone], precondition_frequency=2), alone, [grad for step, grad in enumerate(grads) if step % 3 != 1])
    torch.testing.assert_close(other, alone, rtol=1e-12, atol=1e-12)


def test_a_history_of_zero_gradients_changes_nothing():
    W = parameter(4, 3)
    train(SOAP([W], weight_decay=0.0), W, [torch.zeros(4, 3)] * 12)
    assert torch.equal(W, parameter(4, 3))


def test_merged_shapes():
    group = {"merge_dims": True, "max_precond_dim": 288, "data_format": "channels_first"}
    assert merged_shape(torch.empty(64, 32, 3, 3), group) == (64, 288)
    assert merged_shape(torch.empty(64, 3, 3, 32), group | {"data_format": "channels_last"}) == (64, 288)
    assert merged_shape(torch.empty(50000, 8), group | {"max_precond_dim": 100}) == (50000, 8)
    assert merged_shape(torch.empty(1, 1), group) == (1,)
    assert merged_shape(torch.empty(64, 32, 3, 3), group | {"merge_dims": False}) == (64, 32, 3, 3)


def test_channels_last_weights_take_the_steps_of_channels_first_ones():
    first = parameter(6, 4, 3, 3)
    last = nn.Parameter(first.detach().permute(0, 2, 3, 1).clone())
    grads = gradients((6, 4, 3, 3), 8)
    options = {"merge_dims": True, "max_precond_dim": 36, "precondition_frequency": 2}
    train(SOAP([first], **options), first, grads)
    train(SOAP([last], data_format="channels_last", **options), last, [grad.permute(0, 2, 3, 1) for grad in grads])
    torch.testing.assert_close(last.detach().permute(0, 3, 1, 2), first.detach(), rtol=1e-12, atol=1e-12)


def test_tensors_of_any_order_have_a_basis_per_dimension():
    W = parameter(3, 4, 2, 5)
    optimizer = SOAP([W], precondition_frequency=2, max_precond_dim=4)
    train(optimizer, W, gradients((3, 4, 2, 5), 6))
    assert [None if Q is None else len(Q) for Q in optimizer.eigenbasis(W)] == [3, 4, 2, None]
    gram = optimizer.state[W]["gram_1"]
    grads = gradients((3, 4, 2, 5), 6)
    beta, expected = 0.95, torch.zeros(4, 4, dtype=torch.float64)
    for grad in grads:
        expected = beta * expected + (1 - beta) * torch.einsum("iajk,ibjk->ab", grad, grad)
    torch.testing.assert_close(gram, expected)


def test_one_sided_and_vectors():
    tall, wide, vector = parameter(6, 3), parameter(3, 6), parameter(4)
    optimizer = SOAP([tall, wide, vector], one_sided=True, precondition_1d=True)
    for p in (tall, wide, vector):
        p.grad = torch.randn_like(p)
    optimizer.step()
    shapes = [[None if Q is None else len(Q) for Q in optimizer.eigenbasis(p)] for p in (tall, wide, vector)]
    assert shapes == [[None, 3], [3, None], [4]]
    assert SOAP([vector]).eigenbasis.__self__.param_groups


def test_factorized_memory_and_agreement_on_rank_one_moments():
    W, twin = parameter(5, 4), parameter(5, 4)
    rows, columns = torch.rand(5, 1, dtype=torch.float64) + 0.5, torch.rand(1, 4, dtype=torch.float64) + 0.5
    signs = [torch.sign(grad) for grad in gradients((5, 4), 10)]
    grads = [rows * columns * sign for sign in signs]  # squares of rank one in the original basis
    options = {"max_precond_dim": 0, "weight_decay": 0.0}
    optimizer = SOAP([W], factorized=True, **options)
    train(optimizer, W, grads)
    train(SOAP([twin], **options), twin, grads)
    assert optimizer.state[W]["row_sq"].shape == (5,)
    assert optimizer.state[W]["column_sq"].shape == (4,)
    assert "exp_avg_sq" not in optimizer.state[W]
    torch.testing.assert_close(W, twin, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("options", VARIANTS)
def test_every_variant_trains(options):
    model = _model()
    x = torch.randn(64, 6)
    before = model(x).square().mean().item()
    _steps(model, SOAP(model.parameters(), lr=0.01, precondition_frequency=3, **options), 0, 60)
    assert model(x).square().mean().item() < 0.3 * before


def test_bfloat16_state_is_single_precision():
    model = _model(torch.bfloat16)
    optimizer = SOAP(model.parameters())
    _steps(model, optimizer, 0, 3)
    state = optimizer.state[model[0].weight]
    assert {value.dtype for value in state.values() if torch.is_tensor(value)} == {torch.float32}
    assert model[0].weight.dtype == torch.bfloat16


def test_closures_schedulers_groups():
    W, late = parameter(4, 3), parameter(2, 2)
    optimizer = SOAP([{"params": [W], "lr": 0.1}], lr=0.01, max_precond_dim=5)
    optimizer.add_param_group({"params": [late], "max_precond_dim": 0})
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)

    def closure():
        optimizer.zero_grad()
        loss = W.square().sum() + late.square().sum()
        loss.backward()
        return loss

    losses = []
    for _ in range(5):
        losses.append(optimizer.step(closure).item())
        scheduler.step()
    assert losses[-1] < losses[0]
    assert [group["lr"] for group in optimizer.param_groups] == [0.1 / 32, 0.01 / 32]
    assert optimizer.eigenbasis(late) == [None, None]


def test_eigenvectors_of_a_rank_deficient_matrix_are_orthogonal():
    x = torch.randn(2, 6, 1)
    Q = eigenvectors(x @ x.mT)
    torch.testing.assert_close(Q.mT @ Q, torch.eye(6).expand(2, 6, 6), rtol=0, atol=1e-5)
    np.testing.assert_allclose((Q[:, :, 0] * x[:, :, 0]).sum(dim=1).abs() / x[:, :, 0].norm(dim=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (torch.full((4, 3), float("nan"), dtype=torch.float64), ValueError, "gradient of parameter 1 must be finite"),
        (torch.full((4, 3), float("inf"), dtype=torch.float64), ValueError, "gradient of parameter 1 must be finite"),
        (torch.eye(4, 3, dtype=torch.float64).to_sparse(), ValueError, "gradient of parameter 1 must be dense"),
    ],
)
def test_bad_gradients_are_refused_before_anything_changes(bad, error, message):
    first, second = parameter(4, 3), parameter(4, 3, seed=1)
    optimizer = SOAP([first, second])
    for grad in gradients((4, 3), 3):
        first.grad = second.grad = grad
        optimizer.step()
    state, weights = copy.deepcopy(optimizer.state_dict()), (first.detach().clone(), second.detach().clone())
    second.grad = bad
    with pytest.raises(error, match=message):
        optimizer.step()
    assert torch.equal(first, weights[0])
    assert torch.equal(second, weights[1])
    for index, saved in state["state"].items():
        now = optimizer.state_dict()["state"][index]
        assert all(torch.equal(value, now[name]) if torch.is_tensor(value) else value == now[name] for name, value in saved.items())


def test_complex_gradients_are_refused_and_huge_finite_ones_are_not():
    z = nn.Parameter(torch.ones(2, 2, dtype=torch.complex64))
    z.grad = torch.ones_like(z)
    with pytest.raises(TypeError, match="gradient of parameter 0 must be real"):
        SOAP([z]).step()
    W = nn.Parameter(torch.zeros(200, dtype=torch.float32))
    W.grad = torch.full((200,), 1e38)
    SOAP([W]).step()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lr", -1.0),
        ("betas", (0.9, 1.0)),
        ("betas", (-0.1, 0.9)),
        ("betas", (0.9,)),
        ("shampoo_beta", 1.0),
        ("eps", 0.0),
        ("weight_decay", -0.1),
        ("precondition_frequency", 0),
        ("max_precond_dim", -1),
        ("data_format", "NHWC"),
    ],
)
def test_bad_options_are_refused(name, value):
    with pytest.raises(ValueError, match=name):
        SOAP([parameter(2, 2)], **{name: value})
    with pytest.raises(ValueError, match=name):
        SOAP([{"params": [parameter(2, 2)], name: value}])


def test_the_basis_of_an_unseen_parameter_is_refused():
    W = parameter(2, 2)
    with pytest.raises(KeyError, match="no gradient of it"):
        SOAP([W]).eigenbasis(W)


@pytest.mark.gpu
def test_cuda_takes_the_steps_of_the_cpu():
    W, twin = parameter(6, 4), nn.Parameter(parameter(6, 4).detach().cuda())
    grads = gradients((6, 4), 12)
    train(SOAP([W], precondition_frequency=3), W, grads)
    train(SOAP([twin], precondition_frequency=3), twin, [grad.cuda() for grad in grads])
    torch.testing.assert_close(twin.detach().cpu(), W.detach(), rtol=1e-8, atol=1e-10)
