"""`ritz linalg cluster-svd`: a checkpoint in, shared bases out, every tensor within the error."""

import json

import pytest
import torch
from cli.command import ritz
from linalg.matrix_collections import families
from safetensors import safe_open
from safetensors.torch import load_file, save_file


@pytest.fixture
def checkpoint(tmp_path):
    blocks, _ = families([8, 6], rows=40, rank=4, columns=10, noise=1e-3)
    tensors = {f"layer.{i}.weight": torch.from_numpy(block).float() for i, block in enumerate(blocks)}
    tensors |= {"bias": torch.arange(3.0), "odd": torch.randn(7, 5), "count": torch.ones(2, 2, dtype=torch.int64)}
    save_file(tensors, tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors", tensors


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_tensor_comes_back_within_the_error(capsys, tmp_path, checkpoint, dtype):
    path, tensors = checkpoint
    tensors = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    save_file(tensors, path)
    out = tmp_path / "shared.safetensors"
    code, text, _ = ritz(capsys, "linalg", "cluster-svd", path, "--rank", 4, "--eps", 0.02, "--out", out, "--json")
    assert code == 0
    summary = json.loads(text)
    assert [group["rows"] for group in summary["groups"]] == [40, 7]
    assert summary["groups"][0]["clusters"] == 2
    assert summary["groups"][0]["largest error"] <= 0.02
    stored = load_file(out)
    assert summary["numbers_after"] == sum(tensor.numel() for tensor in stored.values()) < summary["numbers_before"]
    with safe_open(out, "pt") as file:
        basis_of = json.loads(file.metadata()["bases"])
    assert len(basis_of) == 14
    for name, basis in basis_of.items():
        expected = tensors[name].float()
        assert torch.linalg.norm(stored[basis].float() @ stored[name].float() - expected) <= 0.04 * torch.linalg.norm(expected)
    for name in ("bias", "odd", "count"):
        assert torch.equal(stored[name], tensors[name])


def test_a_table_for_people(capsys, tmp_path, checkpoint):
    code, text, _ = ritz(capsys, "linalg", "cluster-svd", checkpoint[0], "--rank", 4, "-o", tmp_path / "s.safetensors", "--estimator", "weyl")
    assert code == 0
    assert "clusters by number of rows" in text


def test_bad_input_is_one_sentence_and_code_2(capsys, tmp_path, checkpoint):
    path, out = checkpoint[0], tmp_path / "s.safetensors"
    (tmp_path / "no.safetensors").write_text("hello")
    save_file({"bias": torch.ones(3)}, tmp_path / "vectors.safetensors")
    for arguments, message in (
        ([path, "-o", tmp_path / "s.npz"], "out must end in .safetensors"),
        ([path, "-o", out, "--rank", 0], "rank must be"),
        ([path, "-o", out, "--eps", -1], "eps must be"),
        ([tmp_path / "no.safetensors", "-o", out], "is not a safetensors file"),
        ([tmp_path / "vectors.safetensors", "-o", out], "holds no floating-point matrix"),
    ):
        code, _, err = ritz(capsys, "linalg", "cluster-svd", *arguments)
        assert code == 2
        assert message in err
    assert not out.exists()
