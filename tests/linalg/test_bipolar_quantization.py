"""Rounding to odd integers: the nearest, ties up, idempotent on its grid, and the known errors of a Gaussian."""

import numpy as np
import pytest
import torch
from specimens import Specimen

from ritz.linalg import bipolar_matmul, quantize_bipolar

RNG = np.random.default_rng(0)

SPECIMENS = {
    "quantize_bipolar": Specimen(
        quantize_bipolar,
        lambda: {"X": RNG.standard_normal((3, 8)), "bits": 2, "axis": -1, "scale": "mse", "group_size": 4},
        accepts={"group_size": ("none",)},
    ),
    "quantize_bipolar.scale": Specimen(quantize_bipolar, lambda: {"X": RNG.standard_normal((3, 8)), "bits": 2, "scale": np.ones(3)}),
}


@pytest.mark.parametrize("bits", range(1, 9))
def test_the_nearest_odd_integer_ties_up(bits):
    largest = 2**bits - 1
    levels = np.arange(-largest, largest + 1, 2)
    x = RNG.uniform(-largest - 2, largest + 2, 1000)
    found = quantize_bipolar(x[None], bits, scale=np.ones(1))[0].to_int()[0]
    np.testing.assert_array_equal(found, levels[abs(x[:, None] - levels).argmin(axis=1)])
    even = np.arange(-largest + 1.0, largest, 2)
    np.testing.assert_array_equal(quantize_bipolar(even[None], bits, scale=np.ones(1))[0].to_int()[0], levels[1:])


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("scale", ["absmax", "given"])
def test_idempotent_on_its_grid(bits, scale):
    x = RNG.standard_normal((5, 100))
    given = "absmax" if scale == "absmax" else abs(RNG.standard_normal(5)) + 0.1
    once, s = quantize_bipolar(x, bits, scale=given)
    twice, again = quantize_bipolar(once.dequantize(), bits, scale=given)
    np.testing.assert_array_equal(once.to_int(), twice.to_int())
    np.testing.assert_allclose(s, again, rtol=1e-14)


@pytest.mark.parametrize(("bits", "error"), [(2, 0.1188), (3, 0.0374), (4, 0.0115)])
def test_the_error_of_a_gaussian(bits, error):
    x = RNG.standard_normal((1, 1_000_000))
    tensor, _ = quantize_bipolar(x, bits)
    assert np.mean((x - tensor.dequantize()) ** 2) == pytest.approx(error, rel=0.01)


def test_one_bit_has_the_mean_magnitude():
    x = RNG.standard_normal((3, 50))
    tensor, scale = quantize_bipolar(x, 1)
    np.testing.assert_allclose(scale, abs(x).mean(axis=1), rtol=1e-14)
    np.testing.assert_array_equal(tensor.to_int(), np.sign(x))


def test_no_scale_of_the_grid_has_a_smaller_error():
    x = RNG.standard_normal((1, 200))
    least = np.mean((x - quantize_bipolar(x, 3)[0].dequantize()) ** 2)
    for ratio in np.linspace(0.3, 1.0, 60):
        other = quantize_bipolar(x, 3, scale=np.array([ratio * abs(x).max() / 7]))[0]
        assert least <= np.mean((x - other.dequantize()) ** 2) + 1e-15


@pytest.mark.parametrize("scale", ["mse", "absmax"])
@pytest.mark.parametrize("bits", [1, 4])
def test_rows_of_zeros_stay_zero(scale, bits):
    x = RNG.standard_normal((3, 70))
    x[1] = 0
    tensor, s = quantize_bipolar(x, bits, scale=scale)
    assert s[1] == 0
    assert not tensor.dequantize()[1].any()
    assert not bipolar_matmul(tensor, tensor, out_dtype="float32")[1].any()


def test_groups_axes_and_kinds():
    x = RNG.standard_normal((4, 128))
    tensor, scale = quantize_bipolar(x, 3, group_size=32)
    assert scale.shape == (4, 4)
    for g in range(4):
        part, s = quantize_bipolar(x[:, 32 * g : 32 * (g + 1)], 3)
        np.testing.assert_array_equal(tensor.to_int()[:, 32 * g : 32 * (g + 1)], part.to_int())
        np.testing.assert_array_equal(scale[:, g], s)
    np.testing.assert_array_equal(quantize_bipolar(x, 3, axis=0)[0].to_int(), quantize_bipolar(x.T, 3)[0].to_int())
    as_tensor, s = quantize_bipolar(torch.from_numpy(x).float(), 3)
    assert s.dtype == torch.float32
    assert isinstance(as_tensor.packed, torch.Tensor)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"X": np.array([[np.nan]])}, "X must be finite"),
        ({"bits": 0}, "bits must be"),
        ({"bits": 9}, "bits must be"),
        ({"group_size": 3}, "group_size must divide"),
        ({"axis": 2}, "axis must be"),
        ({"scale": np.ones(3)}, "scale must have shape"),
        ({"scale": -np.ones(2)}, "scale must not be negative"),
        ({"scale": "best"}, "scale must be one of"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        quantize_bipolar(**({"X": np.ones((2, 4)), "bits": 2} | options))
