"""Replacement layers: one protocol, and putting them into models."""

import copy

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from specimens import Specimen
from torch import nn

from ritz.compress import LinearWithLowRankCompensation, LowRankLinear, dense_weight, flops, replace_modules, stored_numbers
from ritz.linalg import weighted_low_rank

SPECIMENS = {
    "LowRankLinear": Specimen(LowRankLinear, lambda: {"A": torch.ones(2, 4), "B": torch.ones(3, 2), "bias": torch.ones(3)}),
    "LowRankLinear.from_linear": Specimen(LowRankLinear.from_linear, lambda: {"linear": nn.Linear(4, 3), "rank": 2}),
    "LinearWithLowRankCompensation": Specimen(
        LinearWithLowRankCompensation, lambda: {"base": nn.Linear(4, 3), "A": torch.ones(2, 4), "B": torch.ones(3, 2)}
    ),
    "dense_weight": Specimen(dense_weight, lambda: {"layer": nn.Linear(4, 3)}),
    "stored_numbers": Specimen(stored_numbers, lambda: {"layer": nn.Linear(4, 3)}),
    "flops": Specimen(flops, lambda: {"layer": nn.Linear(4, 3), "tokens": 2}),
    "replace_modules": Specimen(
        replace_modules, lambda: {"model": nn.Sequential(nn.Linear(4, 3)), "replacements": {"0": nn.Linear(4, 3)}, "break_ties": False}
    ),
}


class Doubling(nn.Module):
    """A linear layer of a foreign format: an integer weight and a scale, no `weight`."""

    def __init__(self, codes, scale):
        super().__init__()
        self.in_features, self.out_features = codes.shape[1], codes.shape[0]
        self.register_buffer("codes", codes)
        self.register_buffer("scale", scale)

    def forward(self, x):
        return F.linear(x, self.codes * self.scale)


def low_rank(bias=True):
    torch.manual_seed(0)
    return LowRankLinear.from_linear(nn.Linear(10, 6, bias=bias), 4)


def compensated():
    torch.manual_seed(0)
    base, error = nn.Linear(10, 6), torch.randn(6, 10)
    return LinearWithLowRankCompensation.from_linear(base, weighted_low_rank(error, torch.eye(10), 4))


@pytest.mark.parametrize("make", [low_rank, lambda: low_rank(bias=False), compensated])
class TestProtocol:
    def test_forward_is_the_dense_layer(self, make):
        layer, x = make(), torch.randn(2, 3, 10)
        assert torch.allclose(layer(x), F.linear(x, layer.to_dense(), layer.bias), rtol=1e-5, atol=1e-6)
        assert torch.equal(layer.weight, layer.to_dense())
        assert (layer.in_features, layer.out_features, layer.rank) == (10, 6, 4)

    def test_the_state_dict_goes_through_safetensors(self, make, tmp_path):
        layer, other = make(), make()
        save_file(layer.state_dict(), tmp_path / "layer.safetensors")
        with torch.no_grad():
            other.A.weight.zero_()
        other.load_state_dict(load_file(tmp_path / "layer.safetensors"))
        x = torch.randn(3, 10)
        assert torch.equal(layer(x), other(x))

    def test_stored_numbers_are_those_of_the_state_dict(self, make):
        layer = make()
        assert layer.stored_numbers() == stored_numbers(layer) == sum(value.numel() for value in layer.state_dict().values())

    def test_it_trains(self, make):
        layer = make()
        layer(torch.randn(3, 10)).square().sum().backward()
        assert layer.A.weight.grad.abs().sum() > 0
        assert layer.B.weight.grad.abs().sum() > 0

    def test_a_wrong_width_is_refused(self, make):
        with pytest.raises(ValueError, match="x must have 10 features"):
            make()(torch.randn(3, 9))


def test_flops_count_both_thin_products():
    assert low_rank().flops(7) == 2 * 7 * 4 * (10 + 6)
    assert compensated().flops(7) == 2 * 7 * (4 * (10 + 6) + 60)
    assert flops(nn.Linear(10, 6), 7) == 2 * 7 * 60


def test_full_rank_from_linear_and_merge_give_the_layer_back():
    linear = nn.Linear(5, 8)
    layer, x = LowRankLinear.from_linear(linear, 1.0), torch.randn(4, 5)
    assert torch.allclose(layer(x), linear(x), atol=1e-5)
    assert torch.allclose(layer.merge()(x), linear(x), atol=1e-5)


def test_rank_zero_is_the_bias_and_the_base():
    linear, x = nn.Linear(5, 3), torch.randn(4, 5)
    assert torch.equal(LowRankLinear.from_linear(linear, 0)(x), linear.bias.expand(4, 3))
    assert torch.equal(LinearWithLowRankCompensation(linear, torch.zeros(0, 5), torch.zeros(3, 0))(x), linear(x))


def test_an_activation_between_the_factors_has_no_dense_equivalent():
    layer, x = LowRankLinear(torch.randn(2, 4), torch.randn(3, 2), activation=F.relu), torch.randn(5, 4)
    assert torch.allclose(layer(x), F.relu(x @ layer.A.weight.T) @ layer.B.weight.T, atol=1e-6)
    with pytest.raises(ValueError, match="no dense equivalent"):
        layer.to_dense()


def test_dense_weight_of_a_foreign_layer_is_its_response():
    codes = torch.randint(-4, 4, (3, 5), dtype=torch.int8)
    assert torch.equal(dense_weight(Doubling(codes, torch.tensor(0.5))), codes * 0.5)
    with pytest.raises(TypeError, match="layer must be a linear layer"):
        dense_weight(nn.ReLU())


def test_dense_weight_of_conv1d_is_a_transposed_view():
    conv = pytest.importorskip("transformers.pytorch_utils").Conv1D(6, 4)
    weight, x = dense_weight(conv), torch.randn(2, 4)
    assert weight.shape == (6, 4)
    assert weight.data_ptr() == conv.weight.data_ptr()
    assert torch.allclose(conv(x), F.linear(x, weight, conv.bias), atol=1e-6)


def test_factors_that_do_not_fit_the_base_or_each_other_are_refused():
    with pytest.raises(ValueError, match="A and B must have 4 columns and 3 rows"):
        LinearWithLowRankCompensation(nn.Linear(4, 3), torch.ones(2, 5), torch.ones(3, 2))
    with pytest.raises(ValueError, match="B must have as many columns"):
        LowRankLinear(torch.ones(2, 4), torch.ones(3, 1))
    with pytest.raises(ValueError, match="B must have the dtype"):
        LowRankLinear(torch.ones(2, 4), torch.ones(3, 2).double())


class TestReplaceModules:
    def test_training_mode_carries_over(self):
        model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2))).eval()
        new = nn.Linear(2, 2)
        assert replace_modules(model, {"1.0": new}) is model
        assert model[1][0] is new
        assert not new.training

    def test_a_module_at_two_places_is_replaced_at_both(self):
        shared = nn.Linear(2, 2)
        model = nn.Sequential(shared, nn.ReLU(), shared)
        new = nn.Linear(2, 2)
        replace_modules(model, {"0": new})
        assert model[0] is model[2] is new

    def test_a_tie_is_kept_unless_asked(self):
        model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 5, bias=False))
        model[1].weight = model[0].weight
        before = copy.deepcopy(model)
        with pytest.raises(ValueError, match="'1' shares weight with another module"):
            replace_modules(model, {"1": nn.Linear(3, 5)})
        assert torch.equal(model[1].weight, before[1].weight)
        replace_modules(model, {"1": LinearWithLowRankCompensation(model[1], torch.ones(1, 3), torch.ones(5, 1))})
        assert model[1].base.weight is model[0].weight
        replace_modules(model, {"1": nn.Linear(3, 5)}, break_ties=True)
        assert not isinstance(model[1], LinearWithLowRankCompensation)

    def test_an_unknown_name_is_refused(self):
        with pytest.raises(ValueError, match="there is no module '7'"):
            replace_modules(nn.Sequential(nn.Linear(2, 2)), {"7": nn.Linear(2, 2)})
