"""Input statistics: exact merging, sharing and masks."""

import warnings

import numpy as np
import pytest
import torch
from specimens import Specimen
from torch import nn

from ritz.compress import InputStatistics, collect_statistics, output_errors

pytestmark = pytest.mark.filterwarnings("ignore:.*fewer tokens than they have inputs")


def statistics_arguments():
    return {
        "count": 3,
        "mean": torch.zeros(2),
        "scatter": torch.eye(2),
        "absolute_mean": torch.ones(2),
        "absolute_maximum": torch.ones(2),
    }


SPECIMENS = {
    "InputStatistics": Specimen(InputStatistics, statistics_arguments),
    "InputStatistics.empty": Specimen(InputStatistics.empty, lambda: {"width": 3}),
    "InputStatistics.of": Specimen(InputStatistics.of, lambda: {"inputs": torch.randn(5, 3)}, accepts={"inputs": ("more dimensions",)}),
    "collect_statistics": Specimen(collect_statistics, lambda: {"model": nn.Sequential(nn.Linear(3, 2)), "batches": [torch.randn(9, 3)]}),
    "output_errors": Specimen(
        output_errors,
        lambda: {
            "model": nn.Sequential(nn.Linear(3, 2)),
            "original": nn.Sequential(nn.Linear(3, 2)),
            "statistics": {"0": InputStatistics.of(torch.randn(5, 3))},
        },
    ),
}


class Attention(nn.Module):
    """Query and key share their input, value has its own."""

    def __init__(self, width=6):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))

    def forward(self, x, scale=1.0):
        return x + torch.tanh(self.query(x) * self.key(x)) * self.value(x * scale)


class Network(nn.Module):
    def __init__(self, width=6):
        super().__init__()
        self.blocks = nn.ModuleList(Attention(width) for _ in range(3))
        self.head = nn.Linear(width, 4)

    def forward(self, x, attention_mask=None):
        for position, block in enumerate(self.blocks):
            x = block(x, scale=1.0 + position)
        return self.head(x)


def network():
    torch.manual_seed(0)
    return Network().double()


class TestInputStatistics:
    @pytest.mark.parametrize("offset", [0.0, 1e6])
    def test_chunks_and_one_shot_agree(self, offset):
        x = torch.randn(997, 8, dtype=torch.float64) + offset
        parts = InputStatistics.empty(8)
        for part in x.split(100):
            parts.update(part)
        whole = InputStatistics.of(x)
        assert parts.count == whole.count == 997
        assert torch.allclose(parts.mean, whole.mean, rtol=1e-12)
        assert torch.allclose(parts.scatter, whole.scatter, rtol=1e-10, atol=1e-7 if offset else 1e-10)
        assert torch.allclose(parts.covariance(), torch.cov(x.T, correction=0), rtol=1e-6, atol=1e-8)

    def test_everything_is_what_it_says(self):
        x = torch.randn(50, 4, dtype=torch.float64)
        seen = InputStatistics.of(x.reshape(5, 10, 4))
        assert torch.allclose(seen.gram(), x.T @ x / 50, rtol=1e-12)
        assert torch.allclose(seen.second_moment_diagonal(), x.square().mean(0), rtol=1e-12)
        assert torch.allclose(seen.absolute_mean, x.abs().mean(0), rtol=1e-12)
        assert torch.equal(seen.absolute_maximum, x.abs().amax(0))

    def test_merging_is_in_any_order(self):
        x = torch.randn(60, 4, dtype=torch.float64)
        left, right = InputStatistics.of(x[:13]), InputStatistics.of(x[13:])
        right.merge(left)
        right.merge(InputStatistics.empty(4))
        assert torch.allclose(right.scatter, InputStatistics.of(x).scatter, rtol=1e-10)

    def test_a_large_mean_in_single_precision_keeps_the_spread(self):
        x = torch.randn(20_000, 3, dtype=torch.float64)
        seen = InputStatistics.of((x + 1000.0).float())
        exact = InputStatistics.of((x + 1000.0).float().double())
        assert torch.allclose(seen.covariance(), exact.covariance(), rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_is_accumulated_in_double(self, dtype):
        x = torch.randn(100, 4).to(dtype)
        assert torch.allclose(InputStatistics.of(x).gram(), x.double().T @ x.double() / 100, rtol=1e-5, atol=1e-6)
        assert InputStatistics.of(x).scatter.dtype == torch.float64

    def test_no_tokens_have_no_mean(self):
        with pytest.raises(ValueError, match="count must be positive"):
            InputStatistics.empty(2).gram()
        with pytest.raises(ValueError, match="other must be statistics of width 2"):
            InputStatistics.empty(2).merge(InputStatistics.empty(3))


class TestCollect:
    def test_it_sees_what_enters_each_layer(self):
        model, batches = network(), [torch.randn(2, 7, 6, dtype=torch.float64) for _ in range(3)]
        seen = collect_statistics(model, batches)
        x = torch.cat(batches).reshape(-1, 6)
        assert torch.allclose(seen["blocks.0.query"].gram(), x.T @ x / 42, rtol=1e-10)
        hidden = model.blocks[0](x).detach() * 2.0
        assert torch.allclose(seen["blocks.1.value"].gram(), hidden.T @ hidden / 42, rtol=1e-10)
        assert "head" not in seen

    def test_layers_fed_by_one_tensor_share_their_statistics(self):
        seen = collect_statistics(network(), [torch.randn(40, 6, dtype=torch.float64) for _ in range(3)])
        assert seen["blocks.0.query"] is seen["blocks.0.key"]
        assert seen["blocks.0.query"] is not seen["blocks.0.value"]
        assert seen["blocks.0.query"] is not seen["blocks.1.query"]

    def test_a_tensor_changed_in_place_is_another_input(self):
        class InPlace(nn.Module):
            def __init__(self):
                super().__init__()
                self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)

            def forward(self, x):
                x = x.clone()
                a = self.first(x)
                x.mul_(2.0)
                return a + self.second(x)

        seen = collect_statistics(InPlace(), [torch.randn(10, 3)])
        assert torch.allclose(4 * seen["first"].gram(), seen["second"].gram(), rtol=1e-5)

    def test_layers_that_stop_sharing_are_refused_by_name(self):
        class Fickle(Attention):
            calls = 0

            def forward(self, x):
                self.calls += 1
                return self.query(x) + self.key(x if self.calls == 1 else x + 1) + self.value(x)

        with pytest.raises(ValueError, match=r"'key' and 'query' .* batch 2"):
            collect_statistics(Fickle(), [torch.randn(10, 6), torch.randn(10, 6)])

    def test_masked_tokens_do_not_count(self):
        model, x = network(), torch.randn(2, 5, 6, dtype=torch.float64)
        mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 0]])
        seen = collect_statistics(model, [{"x": x, "attention_mask": mask}])["blocks.0.query"]
        kept = x[mask.bool()]
        assert seen.count == 7
        assert torch.allclose(seen.gram(), kept.T @ kept / 7, rtol=1e-10)

    def test_a_function_can_run_the_batches(self):
        seen = collect_statistics(network(), [{"tokens": torch.randn(9, 6).double()}], batch_fn=lambda model, batch: model(batch["tokens"]))
        assert seen["blocks.0.query"].count == 9

    def test_the_model_is_left_as_it_was(self):
        model = network().train()
        model.blocks[1].eval()
        before = {name: module.training for name, module in model.named_modules()}
        collect_statistics(model, [torch.randn(9, 6).double()])
        assert {name: module.training for name, module in model.named_modules()} == before
        assert not any(module._forward_pre_hooks for module in model.modules())

    def test_transformer_encoder_layers_are_seen_despite_their_fused_path(self):
        encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2, enable_nested_tensor=False)
        assert collect_statistics(encoder, [torch.randn(4, 5, 8)])["layers.1.linear1"].count == 20

    @pytest.mark.parametrize(
        ("batches", "modules", "message"),
        [
            ([], None, "at least one batch"),
            ([torch.full((3, 6), float("nan")).double()], None, "'blocks.0.query' is not finite in batch 1"),
            ([torch.randn(0, 6).double()], None, "'blocks.0.query' saw no tokens"),
        ],
    )
    def test_refusals_name_the_layer(self, batches, modules, message):
        with pytest.raises(ValueError, match=message):
            collect_statistics(network(), batches, modules=modules)

    def test_a_layer_that_never_ran_is_named(self):
        model = network()
        model.spare = nn.Linear(2, 2)
        with pytest.raises(ValueError, match="'spare' never ran"):
            collect_statistics(model, [torch.randn(9, 6).double()], modules=["spare"])

    def test_few_tokens_are_noted(self):
        with pytest.warns(UserWarning, match="fewer tokens than they have inputs"):
            collect_statistics(network(), [torch.randn(3, 6).double()])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            collect_statistics(network(), [torch.randn(6, 6).double()])


def test_output_errors_are_mean_squared_changes_of_the_output():
    original, changed, x = network(), network(), torch.randn(40, 6, dtype=torch.float64)
    torch.nn.init.normal_(changed.blocks[0].query.weight)
    errors = output_errors(changed, original, collect_statistics(original, [x]))
    with torch.no_grad():
        changed.blocks[0].query.bias.copy_(original.blocks[0].query.bias)
        change = (changed.blocks[0].query(x) - original.blocks[0].query(x)).square().sum(1).mean()
    assert np.isclose(errors["blocks.0.query"], float(change), rtol=1e-10)
    assert errors["blocks.0.key"] == 0
