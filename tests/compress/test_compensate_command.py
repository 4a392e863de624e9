"""`ritz compensate` on files, good and bad."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ritz.cli import main
from ritz.compress import eora_factors


@pytest.fixture
def files(tmp_path):
    generator = torch.Generator().manual_seed(0)
    shapes = {"layers.0.up.weight": (10, 6), "layers.0.down.weight": (6, 10)}
    original = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    compressed = {name: weight * (torch.rand(weight.shape, generator=generator) < 0.5) for name, weight in original.items()}
    inputs = {name: torch.randn(40, shape[1], generator=generator) for name, shape in shapes.items()}
    contents = {
        "original": original | {"norm.weight": torch.ones(3)},
        "compressed": compressed | {"norm.weight": torch.ones(3)},
        "gram": {name: X.T @ X for name, X in inputs.items()},
    }
    return Files(tmp_path, contents)


class Files:
    def __init__(self, folder, contents):
        self.folder, self.contents = folder, contents
        self.out = folder / "out" / "lora.safetensors"

    def run(self, *options):
        for name, tensors in self.contents.items():
            if tensors is not None:
                save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, self.folder / f"{name}.safetensors")
        paths = [argument for name in self.contents for argument in (f"--{name}", str(self.folder / f"{name}.safetensors"))]
        with pytest.raises(SystemExit) as end:
            main(["compensate", *paths, "--out", str(self.out), *options])
        return end.value.code


def test_it_writes_the_factors_of_every_layer_with_a_gram_matrix(files, capsys):
    assert files.run("--rank", "3", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    adapter = load_file(files.out)
    assert len(adapter) == 4
    assert summary["stored_numbers"] == sum(factor.numel() for factor in adapter.values()) == 2 * 3 * 16
    for row in summary["layers"]:
        name = row["layer"]
        error = (files.contents["original"][name] - files.contents["compressed"][name]).double()
        expected = eora_factors(error, files.contents["gram"][name].double(), 3)
        prefix = f"base_model.model.{name.removesuffix('.weight')}.lora_"
        assert torch.allclose((adapter[prefix + "B.weight"] @ adapter[prefix + "A.weight"]).double(), expected.product(), atol=1e-5)
        assert row["rank"] == 3
        assert row["eora"] == pytest.approx(expected.tail)
        assert row["eora"] <= row["svd"] <= row["uncompensated"]
    with safe_open(files.out, "pt") as opened:
        assert opened.metadata()["method"] == "eora"
    assert [path.name for path in files.out.parent.iterdir()] == ["lora.safetensors"]


@pytest.mark.parametrize(
    ("options", "ranks"), [(["--rank", "0.5"], [3, 3]), (["--rank", "budget:16"], [0, 1]), (["--rank", "2", "--solver", "krylov"], [2, 2])]
)
def test_rank_rules(files, capsys, options, ranks):
    assert files.run(*options, "--json") == 0
    assert sorted(row["rank"] for row in json.loads(capsys.readouterr().out)["layers"]) == ranks


def test_it_prints_a_table(files, capsys):
    assert files.run("--rank", "2") == 0
    printed = capsys.readouterr().out
    assert "layers.0.down.weight" in printed
    assert "64 numbers in" in printed


def test_transposed_weights(files, capsys):
    for which in ("original", "compressed"):
        files.contents[which] = {name: tensor.T for name, tensor in files.contents[which].items() if tensor.ndim == 2}
    assert files.run("--rank", "3", "--transposed") == 0
    assert load_file(files.out)["base_model.model.layers.0.up.lora_A.weight"].shape == (3, 6)


def test_half_precision_weights_give_half_precision_factors(files):
    for which in ("original", "compressed"):
        files.contents[which] = {name: tensor.bfloat16() for name, tensor in files.contents[which].items()}
    assert files.run("--rank", "3") == 0
    assert {factor.dtype for factor in load_file(files.out).values()} == {torch.bfloat16}


def spoil(which, change):
    def apply(files):
        files.contents[which] = change(dict(files.contents[which]))

    return apply


@pytest.mark.parametrize(
    ("spoiled", "options", "message"),
    [
        (spoil("original", lambda t: {"norm.weight": t["norm.weight"]}), [], "original: the file lacks layers.0.down.weight, layers.0.up.weight"),
        (spoil("compressed", lambda t: {"norm.weight": t["norm.weight"]}), [], "compressed: the file lacks"),
        (
            spoil("compressed", lambda t: t | {"layers.0.up.weight": torch.ones(10, 5)}),
            [],
            "must have the shape it has in original, (10, 6), got (10, 5)",
        ),
        (spoil("compressed", lambda t: t | {"layers.0.up.weight": torch.ones(10, 6, dtype=torch.int8)}), [], "dequantize it first"),
        (spoil("gram", lambda t: t | {"layers.0.up.weight": torch.eye(7)}), [], "gram: 'layers.0.up.weight' must have shape (6, 6), got (7, 7)"),
        (spoil("gram", lambda t: t | {"layers.0.up.weight": torch.full((6, 6), float("inf"))}), [], "gram: 'layers.0.up.weight' must be finite"),
        (spoil("gram", lambda t: t | {"layers.0.up.weight": torch.ones(6, 6).triu()}), [], "gram must be symmetric"),
        (spoil("gram", lambda t: {}), [], "gram: the file holds no tensor"),
        (lambda files: None, ["--rank", "-1"], "rank must be"),
        (lambda files: None, ["--rank", "many"], "rank must be"),
        (lambda files: None, ["--solver", "magic"], "solver must be one of"),
        (lambda files: files.contents.update(gram=None), [], "gram: there is no file"),
    ],
)
def test_bad_input_ends_in_one_line_and_leaves_no_file(files, capsys, spoiled, options, message):
    spoiled(files)
    assert files.run(*options) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not files.out.exists()


def test_a_file_of_another_format_is_refused(files, capsys):
    files.contents["gram"] = None
    (files.folder / "gram.safetensors").write_text("no tensors here")
    assert files.run() == 2
    assert "is not a safetensors file" in capsys.readouterr().err
