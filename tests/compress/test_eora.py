"""EoRA: the defining properties of its factors, and whole models before and after."""

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from specimens import Specimen
from torch import nn

from ritz.compress import (
    LinearWithLowRankCompensation,
    activation_scaled_compensation,
    collect_statistics,
    eora,
    eora_factors,
    export_lora,
    output_errors,
    svd_compensation,
)
from ritz.linalg import RankRule

pytestmark = pytest.mark.filterwarnings("ignore:.*fewer tokens than they have inputs")

METHODS = {
    "eora": eora,
    "scaled": activation_scaled_compensation,
    "svd": lambda compressed, original, batches, *, sequential=True, **options: svd_compensation(compressed, original, **options),
}


def layer(rows=8, columns=12, tokens=60, seed=0, dtype=torch.float64):
    """A compression error and correlated inputs of decaying size."""
    rng = np.random.default_rng(seed)
    mixing = np.linalg.qr(rng.standard_normal((columns, columns)))[0]
    X = (rng.standard_normal((tokens, columns)) * np.arange(1, columns + 1) ** -1.0) @ mixing
    return torch.tensor(rng.standard_normal((rows, columns)), dtype=dtype), torch.tensor(X, dtype=dtype)


def output_error(error, X):
    return float((error @ X.T).square().sum())


class Block(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.down = nn.Linear(width, width)

    def forward(self, x):
        normal = self.norm(x)
        return x + self.down(torch.tanh(self.query(normal) * self.key(normal)))


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(3))
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def pruned(model):
    """A copy with half of each block weight's entries set to zero."""
    smaller = copy.deepcopy(model)
    with torch.no_grad():
        for name, weight in smaller.named_parameters():
            if weight.ndim == 2 and "head" not in name and "emb" not in name and "wte" not in name and "wpe" not in name:
                weight.mul_(torch.rand(weight.shape, generator=torch.Generator().manual_seed(weight.numel())) < 0.5)
    return smaller


def models():
    torch.manual_seed(0)
    original = Network()
    return pruned(original), original, [torch.randn(4, 10, 8) for _ in range(3)]


def named(model_arguments=("compressed", "original", "batches")):
    return dict(zip(model_arguments, models()))


def factors_arguments():
    error, X = layer()
    return {"error": error, "gram": X.T @ X, "rank": 3, "solver": "exact"}


SPECIMENS = {
    "eora": Specimen(eora, lambda: named() | {"rank": 2, "sequential": True, "solver": "exact"}),
    "activation_scaled_compensation": Specimen(activation_scaled_compensation, lambda: named() | {"rank": 2, "sequential": False}),
    "svd_compensation": Specimen(svd_compensation, lambda: {k: v for k, v in named().items() if k != "batches"} | {"rank": 2}),
    "eora_factors": Specimen(eora_factors, factors_arguments),
    "export_lora": Specimen(export_lora, lambda: {"model": eora(*models(), rank=2)}),
}


class TestFactors:
    @settings(deadline=None, max_examples=40, derandomize=True)
    @given(rows=st.integers(1, 10), columns=st.integers(1, 10), tokens=st.integers(1, 30), rank=st.integers(0, 12), seed=st.integers(0, 50))
    def test_the_residual_is_the_tail(self, rows, columns, tokens, rank, seed):
        error, X = layer(rows, columns, tokens, seed)
        factors = eora_factors(error, X.T @ X, rank)
        assert torch.isfinite(factors.A).all()
        assert torch.isfinite(factors.B).all()
        total = output_error(error, X)
        assert abs(output_error(error - factors.product(), X) - factors.tail) <= 1e-8 * total
        assert abs(factors.error - total) <= 1e-8 * total

    @pytest.mark.parametrize(("rows", "columns"), [(8, 12), (12, 8), (10, 10)])
    def test_it_is_the_published_construction(self, rows, columns):
        error, X = layer(rows, columns)
        gram = X.T @ X
        assert torch.linalg.cond(gram) < 1e8
        values, Q = torch.linalg.eigh(gram)
        projection = Q * values.sqrt()
        U, s, Vh = torch.linalg.svd(error @ projection, full_matrices=False)
        B, A = U[:, :3] * s[:3].sqrt(), s[:3].sqrt()[:, None] * Vh[:3] @ torch.diag(values.rsqrt()) @ Q.T
        assert torch.allclose(eora_factors(error, gram, 3).product(), B @ A, rtol=0, atol=1e-9)

    def test_nothing_of_its_rank_is_better(self):
        error, X = layer()
        gram = X.T @ X
        for rank in range(1, 8):
            best = eora_factors(error, gram, rank).tail
            plain = eora_factors(error, torch.eye(12, dtype=torch.float64), rank).product()
            assert best <= output_error(error - plain, X)
            for seed in range(20):
                subspace = torch.linalg.qr(torch.randn(8, rank, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)))[0]
                assert best <= output_error(error - subspace @ subspace.T @ error, X)
                A = torch.randn(rank, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
                B = torch.linalg.lstsq(X @ A.T, X @ error.T).solution.T
                assert best <= output_error(error - B @ A, X) * (1 + 1e-12)

    def test_white_inputs_give_the_plain_svd(self):
        error, _ = layer()
        U, s, Vh = torch.linalg.svd(error)
        assert torch.allclose(eora_factors(error, 0.3 * torch.eye(12, dtype=torch.float64), 4).product(), (U[:, :4] * s[:4]) @ Vh[:4], atol=1e-12)

    @pytest.mark.parametrize(("rows", "columns"), [(8, 12), (12, 8)])
    def test_full_rank_gives_the_error_itself(self, rows, columns):
        error, X = layer(rows, columns, dtype=torch.float32)
        for rank in (8, 100):
            assert torch.allclose(eora_factors(error, X.T @ X, rank).product(), error, atol=1e-5)

    def test_more_rank_is_never_worse(self):
        error, X = layer()
        tails = [eora_factors(error, X.T @ X, rank).tail for rank in range(9)]
        assert all(after <= before for before, after in pairwise(tails))
        assert tails[0] == pytest.approx(output_error(error, X))

    def test_scale_and_order_of_the_tokens_change_nothing(self):
        error, X = layer()
        expected = eora_factors(error, X.T @ X, 3).product()
        shuffled = X[torch.randperm(len(X), generator=torch.Generator().manual_seed(0))]
        for gram in (1e-6 * X.T @ X, X.T @ X / len(X), shuffled.T @ shuffled):
            assert torch.allclose(eora_factors(error, gram, 3).product(), expected, atol=1e-10)

    def test_a_rotation_of_the_inputs_rotates_A_alone(self):
        error, X = layer()
        R = torch.linalg.qr(torch.randn(12, 12, dtype=torch.float64))[0]
        plain, rotated = eora_factors(error, X.T @ X, 3), eora_factors(error @ R, R.T @ X.T @ X @ R, 3)
        signs = torch.sign((plain.B * rotated.B).sum(0))
        assert torch.allclose(rotated.B, plain.B * signs, atol=1e-9)
        assert torch.allclose(rotated.A, signs[:, None] * plain.A @ R, atol=1e-9)

    def test_no_error_gives_zero_factors(self):
        factors = eora_factors(torch.zeros(4, 6), torch.eye(6), 2)
        assert not factors.A.any()
        assert not factors.B.any()
        assert factors.tail == factors.error == 0

    @pytest.mark.parametrize(("rows", "columns"), [(8, 12), (12, 8)])
    def test_few_tokens_and_dead_features_are_compensated_exactly(self, rows, columns):
        error, X = layer(rows, columns, tokens=4)
        X[:, 2] = 0
        factors = eora_factors(error, X.T @ X, 4)
        assert torch.isfinite(factors.A).all()
        assert output_error(error - factors.product(), X) <= 1e-12 * output_error(error, X)

    def test_both_factors_have_the_same_norms(self):
        error, X = layer()
        factors = eora_factors(error, X.T @ X, 5)
        assert torch.allclose(factors.A.norm(dim=1), factors.B.norm(dim=0), rtol=1e-10)

    def test_the_krylov_solver_comes_close(self):
        error, X = layer(150, 120, tokens=400)
        best, near = (eora_factors(error, X.T @ X, 6, solver=solver) for solver in ("exact", "krylov"))
        assert best.tail <= near.tail * (1 + 1e-9) <= 1.02 * best.tail
        again = eora_factors(error, X.T @ X, 6, solver="krylov")
        assert torch.equal(near.A, again.A)

    def test_refusals(self):
        error, X = layer()
        gram = X.T @ X
        with pytest.raises(ValueError, match="gram must be symmetric"):
            eora_factors(error, gram + torch.triu(torch.full_like(gram, 1e-3 * float(gram.max())), 1), 2)
        with pytest.raises(ValueError, match="gram must be finite"):
            eora_factors(error, torch.where(gram == gram.max(), torch.inf, gram), 2)
        with pytest.raises(ValueError, match="gram must have shape"):
            eora_factors(error.T, gram, 2)
        with pytest.raises(ValueError, match="rank"):
            eora_factors(error, gram, -1)


@pytest.mark.parametrize("sequential", [True, False])
@pytest.mark.parametrize("method", METHODS)
class TestModels:
    def test_every_layer_adds_the_path_to_its_untouched_base(self, method, sequential):
        compressed, original, batches = models()
        before = copy.deepcopy(compressed.state_dict())
        better = METHODS[method](compressed, original, batches, rank=3, sequential=sequential)
        assert all(torch.equal(value, before[name]) for name, value in compressed.state_dict().items())
        layers = {name: module for name, module in better.named_modules() if isinstance(module, LinearWithLowRankCompensation)}
        assert set(layers) == {f"blocks.{block}.{name}" for block in range(3) for name in ("query", "key", "down")}
        for name, module in layers.items():
            base = compressed.get_submodule(name)
            assert all(torch.equal(value, base.state_dict()[key]) for key, value in module.base.state_dict().items())
            x = torch.randn(5, 8)
            assert torch.allclose(module(x), base(x) + (x @ module.A.weight.T) @ module.B.weight.T, atol=1e-5)
            assert not any(p.requires_grad for p in module.base.parameters())
            assert module.A.weight.requires_grad
            assert module.B.weight.requires_grad

    def test_full_rank_gives_the_original_and_rank_zero_the_compressed_model(self, method, sequential):
        compressed, original, batches = models()
        x = torch.randn(3, 8)
        full, none = (METHODS[method](compressed, original, batches, rank=rank, sequential=sequential) for rank in (100, 0))
        assert torch.allclose(full(x), original(x), atol=1e-5)
        assert torch.allclose(none(x), compressed(x), atol=1e-6)

    def test_weights_by_name_do_as_well_as_the_original_model(self, method, sequential):
        compressed, original, batches = models()
        with torch.no_grad():
            compressed.blocks[0].query.bias.add_(1.0)
        by_model, by_name = (
            METHODS[method](compressed, source, batches, rank=2, sequential=sequential) for source in (original, original.state_dict())
        )
        assert all(torch.equal(value, by_name.state_dict()[name]) for name, value in by_model.state_dict().items())

    @pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
    def test_dtype_and_modes_are_kept(self, method, sequential, dtype):
        compressed, original, batches = models()
        compressed, original = compressed.to(dtype).train(), original.to(dtype)
        compressed.blocks[1].eval()
        better = METHODS[method](compressed, original, [batch.to(dtype) for batch in batches], rank=2, sequential=sequential)
        assert {parameter.dtype for parameter in better.parameters()} == {dtype}
        assert better(batches[0].to(dtype)).dtype == dtype
        for name, module in compressed.named_modules():
            assert better.get_submodule(name).training == module.training
        assert better.blocks[0].query.A.training
        assert not better.blocks[1].query.A.training

    def test_the_same_input_gives_the_same_bits(self, method, sequential):
        first, second = (METHODS[method](*models(), rank=2, sequential=sequential).state_dict() for _ in range(2))
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_one_pass_is_optimal_for_the_statistics_of_the_original_model():
    compressed, original, batches = models()
    seen = collect_statistics(original, batches)
    errors = {name: output_errors(METHODS[name](compressed, original, batches, rank=2, sequential=False), original, seen) for name in METHODS}
    for name in seen:
        change = (original.get_submodule(name).weight - compressed.get_submodule(name).weight).double()
        assert errors["eora"][name] == pytest.approx(eora_factors(change, seen[name].gram(), 2).tail, rel=1e-4)
        assert errors["eora"][name] <= min(errors["svd"][name], errors["scaled"][name]) * (1 + 1e-6)


def test_block_by_block_uses_original_weights_behind_compensated_blocks():
    compressed, original, batches = models()
    better = eora(compressed, original, batches, rank=2)
    hybrid = copy.deepcopy(better)
    for name in ("query", "key", "down"):
        setattr(hybrid.blocks[1], name, original.get_submodule(f"blocks.1.{name}"))
    gram = collect_statistics(hybrid, batches, modules=["blocks.1.down"])["blocks.1.down"].gram()
    change = (original.blocks[1].down.weight - compressed.blocks[1].down.weight).double()
    expected = eora_factors(change, gram, 2).product().float()
    path = better.blocks[1].down
    assert torch.allclose(path.B.weight @ path.A.weight, expected, atol=1e-5)


def test_the_activation_scaled_baseline_is_the_svd_of_the_scaled_error():
    compressed, original, batches = models()
    scale = collect_statistics(original, batches)["blocks.0.query"].absolute_mean
    change = (original.blocks[0].query.weight - compressed.blocks[0].query.weight).double()
    U, s, Vh = torch.linalg.svd(change * scale)
    path = activation_scaled_compensation(compressed, original, batches, rank=2, sequential=False).blocks[0].query
    assert torch.allclose((path.B.weight @ path.A.weight).double(), (U[:, :2] * s[:2]) @ Vh[:2] / scale, atol=1e-5)


def test_a_budget_is_spent_where_it_lowers_the_error_most():
    compressed, original, batches = models()
    seen = collect_statistics(original, batches)
    uniform = eora(compressed, original, batches, rank=2, sequential=False)
    numbers = sum(
        module.A.weight.numel() + module.B.weight.numel() for module in uniform.modules() if isinstance(module, LinearWithLowRankCompensation)
    )
    for sequential in (True, False):
        spent = eora(compressed, original, batches, rank=RankRule("budget", numbers), sequential=sequential)
        layers = [module for module in spent.modules() if isinstance(module, LinearWithLowRankCompensation)]
        assert sum(module.A.weight.numel() + module.B.weight.numel() for module in layers) <= numbers
    assert sum(output_errors(spent, original, seen).values()) <= sum(output_errors(uniform, original, seen).values())
    svd = svd_compensation(compressed, original, rank=f"budget:{numbers}")
    assert sum(module.A.weight.numel() for module in svd.modules() if isinstance(module, LinearWithLowRankCompensation)) <= numbers / 2


def test_a_base_of_a_foreign_format_is_compensated():
    class Codes(nn.Module):
        def __init__(self, linear):
            super().__init__()
            self.in_features, self.out_features = linear.in_features, linear.out_features
            self.register_buffer("codes", (linear.weight * 10).round().to(torch.int8))
            self.register_buffer("bias", linear.bias.detach())

        def forward(self, x):
            return F.linear(x, self.codes.to(x) / 10, self.bias)

    _, original, batches = models()
    compressed = copy.deepcopy(original)
    compressed.blocks[0].query = Codes(original.blocks[0].query)
    better = eora(compressed, original, batches, rank=8, modules=["blocks.0.query"])
    assert better.blocks[0].query.base.codes.dtype == torch.int8
    x = torch.randn(5, 8)
    assert torch.allclose(better(x), original(x), atol=1e-5)


def test_it_can_start_a_fine_tuning():
    compressed, original, batches = models()
    better = eora(compressed, original, batches, rank=2)
    trained = [parameter for name, parameter in better.named_parameters() if ".A." in name or ".B." in name]
    optimizer = torch.optim.Adam(trained, lr=1e-3)
    before = (better(batches[0]) - original(batches[0])).square().mean()
    base = copy.deepcopy(better.blocks[0].query.base.state_dict())
    for _ in range(20):
        optimizer.zero_grad()
        (better(batches[0]) - original(batches[0]).detach()).square().mean().backward()
        optimizer.step()
    assert (better(batches[0]) - original(batches[0])).square().mean() < before
    assert all(torch.equal(value, base[name]) for name, value in better.blocks[0].query.base.state_dict().items())


def test_a_tied_head_stays_tied():
    compressed, original, batches = models()
    compressed.tied = nn.Linear(8, 8)
    compressed.tied.weight = compressed.blocks[0].key.weight
    better = eora(compressed, original, batches, rank=2)
    assert better.tied.weight is better.blocks[0].key.base.weight


class TestRefusals:
    def test_shapes_and_names(self):
        compressed, original, batches = models()
        weights = original.state_dict()
        with pytest.raises(ValueError, match=r"original: there is no 'blocks.1.key.weight'"):
            eora(compressed, {name: value for name, value in weights.items() if name != "blocks.1.key.weight"}, batches)
        with pytest.raises(ValueError, match=r"original: 'blocks.1.key' must have the shape"):
            eora(compressed, weights | {"blocks.1.key.weight": torch.zeros(8, 7)}, batches)
        with pytest.raises(ValueError, match=r"original\['blocks.1.key.weight'\] must be finite"):
            svd_compensation(compressed, weights | {"blocks.1.key.weight": torch.full((8, 8), float("nan"))})
        original.blocks[2] = nn.Identity()
        with pytest.raises(ValueError, match=r"original: there is no layer 'blocks.2"):
            eora(compressed, original, batches)
        with pytest.raises(TypeError, match="original must be"):
            eora(compressed, [1], batches)
        with pytest.raises(TypeError, match="compressed must be"):
            eora(weights, weights, batches)

    def test_no_batches(self):
        compressed, original, _ = models()
        for sequential in (True, False):
            with pytest.raises(ValueError, match="batches must hold at least one"):
                eora(compressed, original, [], sequential=sequential)


class TestHuggingFace:
    @pytest.fixture(params=["llama", "gpt2"])
    def model(self, request):
        transformers = pytest.importorskip("transformers")
        torch.manual_seed(0)
        if request.param == "llama":
            sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
            return transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=30, **sizes)).eval()
        ends = {"bos_token_id": None, "eos_token_id": None}
        return transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=30, n_embd=16, n_layer=2, n_head=4, n_positions=32, **ends)).eval()

    @pytest.fixture
    def batches(self):
        ids = torch.randint(30, (4, 12), generator=torch.Generator().manual_seed(0))
        mask = torch.ones_like(ids)
        mask[0, 9:] = 0
        return [{"input_ids": part, "attention_mask": part_mask} for part, part_mask in zip(ids.split(2), mask.split(2))]

    @pytest.mark.parametrize("sequential", [True, False])
    def test_full_rank_gives_the_logits_back_and_small_rank_helps(self, model, batches, sequential):
        compressed = pruned(model)
        ids = batches[0]["input_ids"]
        full = eora(compressed, model, batches, rank=64, sequential=sequential)
        assert torch.allclose(full(ids).logits, model(ids).logits, atol=1e-5)
        by_name = eora(compressed, model.state_dict(), batches, rank=64, sequential=sequential)
        assert torch.allclose(by_name(ids).logits, model(ids).logits, atol=1e-5)
        seen = collect_statistics(model, batches)
        small = output_errors(eora(compressed, model, batches, rank=2, sequential=False), model, seen)
        assert sum(small.values()) < sum(output_errors(compressed, model, seen).values())
        assert model.config.use_cache
        assert len(full.generate(ids[:1, :4], max_new_tokens=3, do_sample=False, pad_token_id=0)[0]) == 7

    def test_block_by_block_statistics_are_those_of_the_whole_model(self, model, batches):
        from ritz.compress import blockwise

        found = {}
        blockwise(model, None, batches, lambda _, seen: found.update(seen))
        expected = collect_statistics(model, batches)
        assert set(found) == set(expected)
        for name, seen in expected.items():
            assert found[name].count == seen.count == 45
            assert torch.allclose(found[name].gram(), seen.gram(), rtol=1e-5, atol=1e-7)


def test_exported_factors_bear_the_names_of_lora():
    compressed, original, batches = models()
    better = eora(compressed, original, batches, rank=3)
    adapter = export_lora(better)
    assert len(adapter) == 18
    A, B = (adapter[f"base_model.model.blocks.0.query.lora_{which}.weight"] for which in "AB")
    assert A.shape == (3, 8)
    assert B.shape == (8, 3)
    assert torch.equal(B @ A, better.blocks[0].query.B.weight @ better.blocks[0].query.A.weight)
    with pytest.raises(ValueError, match="model must have layers"):
        export_lora(compressed)


def test_the_krylov_solver_compensates_a_whole_model():
    torch.manual_seed(0)
    original = nn.Sequential(nn.Linear(120, 100), nn.ReLU(), nn.Linear(100, 120))
    compressed, batches = pruned(original), [torch.randn(300, 120)]
    seen = collect_statistics(original, batches)
    exact, near = (
        output_errors(eora(compressed, original, batches, rank=4, sequential=False, solver=solver), original, seen) for solver in ("exact", "krylov")
    )
    assert all(exact[name] <= near[name] * (1 + 1e-6) <= 1.02 * exact[name] for name in exact)


def test_the_file_does_not_hide_the_function():
    import importlib

    import ritz.compress

    module = importlib.import_module("ritz.compress.eora")
    assert ritz.compress.eora is module.eora
