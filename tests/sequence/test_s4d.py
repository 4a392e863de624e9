"""The S4D layer: its forms agree, it is causal and time-invariant, and its parameters fall into groups; the classifier learns."""

import numpy as np
import pytest
import torch
from specimens import Specimen

from ritz.sequence import S4D, S4DClassifier

KERNEL_OPTIONS = {
    "d_state": 8,
    "init": "legs",
    "discretization": "bilinear",
    "real_transform": "softplus",
    "B": "hippo",
    "dt_min": 0.01,
    "dt_max": 0.5,
    "n_ssm": 2,
    "bandlimit": 0.5,
}
OPTIONAL = {"n_ssm": ("none",), "bandlimit": ("none",)}
NOT_CHECKED = ("nan", "inf")  # layers check shapes, not every number


def _layer(*arguments, seed=0, **options):
    torch.manual_seed(seed)
    return S4D(*arguments, **options)


def _sequence(*shape, dtype=torch.float64):
    return torch.from_numpy(np.random.default_rng(shape[1]).standard_normal(shape)).to(dtype)


def _state(batch):
    return torch.ones(batch, 3, 2, dtype=torch.complex64)


SPECIMENS = {
    "S4D": Specimen(S4D, lambda: {"d_model": 4, "dropout": 0.1, "bidirectional": False, **KERNEL_OPTIONS}, accepts=OPTIONAL),
    "S4D.forward": Specimen(
        lambda **arguments: S4D(3, 4)(**arguments),
        lambda: {"x": _sequence(2, 7, 3, dtype=torch.float32), "state": _state(2)},
        accepts={"x": NOT_CHECKED, "state": NOT_CHECKED},
    ),
    "S4D.step": Specimen(
        lambda **arguments: S4D(3, 4).step(**arguments),
        lambda: {"x_t": _sequence(2, 3, dtype=torch.float32), "state": _state(2)},
        accepts={"x_t": NOT_CHECKED, "state": NOT_CHECKED},
    ),
    "S4D.default_state": Specimen(lambda **arguments: S4D(3, 4).default_state(**arguments), lambda: {"batch_size": 2}),
    "S4D.param_groups": Specimen(lambda **arguments: S4D(3, 4).param_groups(**arguments), lambda: {"weight_decay": 0.1, "ssm_lr": 1e-3}),
    "S4DClassifier": Specimen(
        S4DClassifier,
        lambda: {
            "d_input": 1,
            "d_output": 3,
            "d_model": 4,
            "n_layers": 2,
            "prenorm": True,
            "dropout": 0.1,
            "bidirectional": True,
            **KERNEL_OPTIONS,
        },
        accepts=OPTIONAL,
    ),
    "S4DClassifier.forward": Specimen(
        lambda **arguments: S4DClassifier(3, 2, d_model=4, n_layers=1, d_state=4)(**arguments),
        lambda: {"x": _sequence(2, 7, 3, dtype=torch.float32)},
        accepts={"x": NOT_CHECKED},
    ),
    "S4DClassifier.param_groups": Specimen(
        lambda **arguments: S4DClassifier(1, 2, d_model=4, n_layers=1, d_state=4).param_groups(**arguments),
        lambda: {"weight_decay": 0.1, "ssm_lr": 1e-3},
    ),
}


@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 200])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_steps_equal_forward(length, dtype, tolerance):
    layer, x = _layer(6, 16).to(dtype), _sequence(3, length, 6, dtype=dtype)
    y, state = layer(x), layer.default_state(3)
    steps = []
    for x_t in x.unbind(1):
        y_t, state = layer.step(x_t, state)
        steps.append(y_t)
    torch.testing.assert_close(torch.stack(steps, dim=1), y, rtol=0, atol=tolerance)


@pytest.mark.parametrize("discretization", ["zoh", "bilinear"])
@pytest.mark.parametrize(("length", "cut"), [(2, 1), (65, 64), (200, 37), (200, 199)])
def test_pieces_equal_the_whole(discretization, length, cut):
    layer, x = _layer(6, 16, discretization=discretization).double(), _sequence(3, length, 6)
    first, state = layer(x[:, :cut], layer.default_state(3))
    second, state = layer(x[:, cut:], state)
    torch.testing.assert_close(torch.cat([first, second], dim=1), layer(x), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(state, layer(x, layer.default_state(3))[1], rtol=1e-10, atol=1e-10)


def test_gradients_of_pieces_equal_those_of_the_whole():
    def gradients(cut):
        layer, x = _layer(3, 8).double(), _sequence(2, 70, 3).requires_grad_()
        if cut is None:
            y = layer(x)
        else:
            first, state = layer(x[:, :cut], layer.default_state(2))
            y = torch.cat([first, layer(x[:, cut:], state)[0]], dim=1)
        (y * _sequence(1, 70, 1)).sum().backward()
        return [x.grad, *(p.grad for p in layer.parameters())]

    for pieces, whole in zip(gradients(33), gradients(None)):
        torch.testing.assert_close(pieces, whole, rtol=1e-10, atol=1e-10 * whole.abs().max().item())


def _changed_at(x, t):
    changed = x.clone()
    changed[:, t] += 10
    return changed


def test_the_recurrent_forms_are_causal_to_the_last_bit():
    layer, x, t = _layer(4, 16), _sequence(2, 150, 4, dtype=torch.float32), 100
    (before, _), (after, _) = (layer(z, layer.default_state(2)) for z in (x, _changed_at(x, t)))
    assert torch.equal(after[:, :t], before[:, :t])
    assert not torch.equal(after[:, t], before[:, t])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-13)])
def test_the_fft_form_is_causal_up_to_rounding(dtype, tolerance):
    layer, x, t = _layer(4, 16).to(dtype), _sequence(2, 150, 4, dtype=dtype), 100
    before, after = layer(x), layer(_changed_at(x, t))
    assert (after[:, :t] - before[:, :t]).abs().max() <= tolerance
    assert (after[:, t] - before[:, t]).abs().max() > 0.1


def test_it_commutes_with_shifts_in_time():
    layer, x = _layer(4, 16).double(), _sequence(2, 100, 4)
    shifted = torch.cat([torch.zeros(2, 23, 4, dtype=torch.float64), x], dim=1)
    torch.testing.assert_close(layer(shifted)[:, 23:], layer(x), rtol=1e-10, atol=1e-10)


def test_it_is_the_kernel_the_skip_and_the_gated_mixing():
    layer, x = _layer(3, 8).double(), _sequence(1, 20, 3)
    kernel = layer.kernel(20)
    convolved = torch.stack([(kernel[:, : t + 1].flip(-1).T * x[0, : t + 1]).sum(0) for t in range(20)]) + layer.D * x[0]
    value, gate = layer.output(torch.nn.functional.gelu(convolved)).chunk(2, dim=-1)
    torch.testing.assert_close(layer(x)[0], value * gate.sigmoid(), rtol=1e-10, atol=1e-10)


def test_a_bidirectional_layer_adds_the_second_kernel_reversed():
    layer, x = _layer(3, 8, bidirectional=True).double(), _sequence(1, 20, 3)
    kernel, reverse = layer.kernel(20), layer.reverse_kernel(20)
    convolved = layer.D * x[0]
    for t in range(20):
        convolved[t] += (kernel[:, : t + 1].flip(-1).T * x[0, : t + 1]).sum(0) + (reverse[:, : 19 - t].T * x[0, t + 1 :]).sum(0)
    value, gate = layer.output(torch.nn.functional.gelu(convolved)).chunk(2, dim=-1)
    torch.testing.assert_close(layer(x)[0], value * gate.sigmoid(), rtol=1e-10, atol=1e-10)


def test_a_bidirectional_layer_has_no_state():
    layer, x = _layer(3, 8, bidirectional=True), _sequence(1, 20, 3, dtype=torch.float32)
    with pytest.raises(ValueError, match="bidirectional"):
        layer(x, layer.default_state(1))
    with pytest.raises(ValueError, match="bidirectional"):
        layer.step(x[:, 0], layer.default_state(1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("half_parameters", [False, True])
def test_half_precision_is_upcast_inside(dtype, half_parameters):
    layer, x = _layer(4, 16), _sequence(2, 500, 4, dtype=torch.float32).to(dtype)
    exact = layer(x.float())
    layer = layer.to(dtype) if half_parameters else layer
    y = layer(x)
    step, _ = layer.step(x[:, 0], layer.default_state(2))
    assert y.dtype == step.dtype == dtype
    rounding = torch.finfo(dtype).eps * (8 if half_parameters else 1)
    assert (y.float() - exact).abs().max() <= rounding * exact.abs().max().clamp(min=1)
    assert (step.float() - exact[:, 0]).abs().max() <= rounding * exact.abs().max().clamp(min=1)


def test_groups_separate_the_slow_parameters():
    layer = S4D(4, 8, B="trainable")
    others, slow = layer.param_groups(weight_decay=0.05, ssm_lr=1e-4)
    assert set(map(id, slow["params"])) == {id(p) for p in (layer.kernel.log_dt, layer.kernel.A_real, layer.kernel.A_imag, layer.kernel.B)}
    assert (slow["lr"], slow["weight_decay"], others["weight_decay"]) == (1e-4, 0.0, 0.05)
    assert len(others["params"]) + len(slow["params"]) == len(list(layer.parameters()))
    optimizer = torch.optim.AdamW(S4DClassifier(1, 2, d_model=4, n_layers=2, d_state=4, bidirectional=True).param_groups(), lr=1e-2)
    assert [len(group["params"]) for group in optimizer.param_groups] == [18, 12]
    assert [group["lr"] for group in optimizer.param_groups] == [1e-2, 1e-3]


def test_dropout_acts_in_training_only():
    layer, x = _layer(4, 8, dropout=0.5), _sequence(1, 30, 4, dtype=torch.float32)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


def test_a_state_of_the_wrong_shape_is_refused():
    layer, x = _layer(4, 8), _sequence(2, 30, 4, dtype=torch.float32)
    with pytest.raises(ValueError, match=r"state must have shape \(2, 4, 4\), got \(1, 4, 4\)"):
        layer(x, layer.default_state(1))
    with pytest.raises(TypeError, match="state must be a complex torch tensor, got dtype"):
        layer(x, layer.default_state(2).real)


@pytest.mark.parametrize("shape", [(2, 0, 4), (0, 5, 4), (2, 5, 3), (5, 4)])
def test_sequences_of_the_wrong_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"x must have shape \(batch, length, 4\) and not be empty"):
        S4D(4, 8)(torch.zeros(shape))


@pytest.mark.parametrize("prenorm", [False, True])
def test_the_classifier_is_residual_blocks_and_a_mean_over_time(prenorm):
    torch.manual_seed(0)
    model, x = S4DClassifier(2, 3, d_model=4, n_layers=2, d_state=8, prenorm=prenorm).double(), _sequence(2, 20, 2)
    hidden = model.encoder(x)
    for layer, norm in zip(model.layers, model.norms):
        hidden = hidden + layer(norm(hidden)) if prenorm else norm(hidden + layer(hidden))
    torch.testing.assert_close(model(x), model.decoder(hidden.mean(dim=1)))


def test_the_classifier_learns_to_tell_slow_waves_from_fast_ones():
    torch.manual_seed(0)
    model, rng = S4DClassifier(1, 2, d_model=8, n_layers=1, d_state=8), np.random.default_rng(0)
    optimizer = torch.optim.AdamW(model.param_groups(), lr=1e-2)
    for _ in range(100):
        fast, phase = rng.integers(0, 2, 32), rng.uniform(0, 2 * np.pi, (32, 1))
        waves = np.sin(np.where(fast, 0.4, 0.2)[:, None] * np.arange(60) + phase) + 0.1 * rng.standard_normal((32, 60))
        scores = model(torch.from_numpy(waves[..., None].astype(np.float32)))
        loss = torch.nn.functional.cross_entropy(scores, torch.from_numpy(fast))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.3
