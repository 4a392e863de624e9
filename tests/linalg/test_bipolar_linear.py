"""The layer of few bits: near the float layer at eight, exact in its own arithmetic, offsets, calibration."""

import numpy as np
import pytest
import torch
from specimens import Specimen
from torch import nn

from ritz.linalg import BipolarLinear

SPECIMENS = {
    "BipolarLinear": Specimen(
        BipolarLinear,
        lambda: {"in_features": 6, "out_features": 3, "weight_bits": 2, "activation_bits": 4, "bias": True},
        accepts={"activation_bits": ("none",)},
    ),
    "BipolarLinear.from_linear": Specimen(
        lambda **options: BipolarLinear.from_linear(nn.Linear(6, 3), **options),
        lambda: {"calibration": torch.ones(4, 6), "weight_bits": 2, "activation_bits": 4},
        accepts={"activation_bits": ("none",)},
    ),
}


def relative(found, expected):
    return float((found - expected).detach().norm() / expected.detach().norm())


@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_eight_bits_are_within_two_percent_of_the_float_layer(shift):
    layer, x = nn.Linear(200, 30), torch.randn(40, 200) + shift
    assert relative(BipolarLinear.from_linear(layer, weight_bits=8, activation_bits=8)(x), layer(x)) < 0.02


def test_the_output_is_that_of_the_decoded_matrices():
    layer, x = nn.Linear(130, 7), torch.rand(5, 130)
    rounded = BipolarLinear.from_linear(layer, weight_bits=3, activation_bits=None)
    expected = x @ rounded.tensor().dequantize().T + layer.bias
    torch.testing.assert_close(rounded(x), expected)
    finer = BipolarLinear.from_linear(layer, weight_bits=3, activation_bits=8)
    assert relative(finer(x), expected) < 0.02


def test_activations_that_are_not_around_zero_need_no_more_bits():
    layer, x = nn.Linear(300, 20), torch.rand(50, 300)
    exact = BipolarLinear.from_linear(layer, weight_bits=8, activation_bits=8)(x)
    shifted = BipolarLinear.from_linear(layer, weight_bits=8, activation_bits=4)
    assert relative(shifted(x), exact) < 0.15
    torch.testing.assert_close(shifted(torch.full((1, 300), 2.0)), layer(torch.full((1, 300), 2.0)), rtol=0.02, atol=0.02)


def test_calibration_weighs_errors_by_what_the_weights_meet():
    layer = nn.Linear(64, 16)
    x = torch.randn(500, 64) * torch.logspace(-3, 1, 64)
    with torch.no_grad():
        layer.weight[:, :40] *= 20
    plain, calibrated = (BipolarLinear.from_linear(layer, inputs, weight_bits=2, activation_bits=None) for inputs in (None, x))
    assert relative(calibrated(x), layer(x)) < relative(plain(x), layer(x))


def test_shapes_state_and_dtypes():
    layer = BipolarLinear(70, 5, weight_bits=1, bias=False)
    assert layer(torch.randn(2, 3, 70)).shape == (2, 3, 5)
    assert layer(torch.randn(0, 70)).shape == (0, 5)
    assert layer(torch.randn(70)).shape == (5,)
    other = BipolarLinear(70, 5, weight_bits=1, bias=False)
    other.load_state_dict(layer.state_dict())
    x = torch.randn(4, 70)
    assert torch.equal(layer(x), other(x))
    assert layer(x.double()).dtype == torch.float64
    assert list(layer.parameters()) == []
    assert "weight_bits=1" in repr(layer)
    np.testing.assert_array_equal(np.unique(layer.tensor().to_int()), [-1, 1])


def test_bad_arguments_are_refused():
    with pytest.raises(TypeError, match=r"layer must be a torch\.nn\.Linear"):
        BipolarLinear.from_linear(nn.ReLU())
    with pytest.raises(ValueError, match="calibration must have shape"):
        BipolarLinear.from_linear(nn.Linear(3, 2), torch.ones(4, 5))
    with pytest.raises(ValueError, match="weight_bits must be"):
        BipolarLinear(3, 2, weight_bits=9)
    with pytest.raises(ValueError, match="x must have shape"):
        BipolarLinear(3, 2)(torch.ones(2, 4))
