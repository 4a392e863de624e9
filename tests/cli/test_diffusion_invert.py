"""`ritz diffusion invert` reconstructs as `dds_sample` does."""

import json

import numpy as np
import pytest
import torch
from cli.command import ritz
from diffusers import UNet2DModel

from ritz.diffusion import Blur, DDSScheduler, Inpainting, MatrixMeasurements, NetworkDenoiser, ParallelBeam, dds_sample

RNG = np.random.default_rng(0)
OPERATORS = {
    "matrix": (RNG.normal(size=(5, 64)), lambda value: MatrixMeasurements(value, (1, 8, 8))),
    "mask": (RNG.random((8, 8)) > 0.5, lambda value: Inpainting(value[None])),
    "kernel": (RNG.random((3, 3)), Blur),
    "angles": (np.array([0.0, 1.0]), lambda value: ParallelBeam(value, 8)),
}


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",), "block_out_channels": (8,), "norm_num_groups": 4}
    network = UNet2DModel(sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, **blocks)
    network.save_pretrained(tmp_path)
    return tmp_path / "diffusion_pytorch_model.safetensors", network.eval().requires_grad_(False)


@pytest.mark.parametrize("kind", OPERATORS)
def test_invert(capsys, tmp_path, model, kind):
    weights, network = model
    value, make = OPERATORS[kind]
    operator = make(value)
    y = operator.forward(torch.rand(2, 1, 8, 8))
    np.savez(tmp_path / "op.npz", **{kind: value})
    np.savez(tmp_path / "y.npz", y=y.numpy())
    files = ["--model", weights, "--operator", tmp_path / "op.npz", "--data", tmp_path / "y.npz", "--out", tmp_path / "x.npz"]
    code, out, _ = ritz(capsys, "diffusion", "invert", *files, "--steps", "3", "--clip", "2", "--seed", "4", "--json")
    assert code == 0
    assert json.loads(out)["calls"] == 3
    schedule = DDSScheduler().schedule
    denoiser = NetworkDenoiser(lambda x, t: network(x, t).sample, schedule, time_input="timestep")
    expected = dds_sample(denoiser, y, operator, schedule, shape=(2, 1, 8, 8), steps=3, clip=2.0, generator=4).x
    np.testing.assert_allclose(np.load(tmp_path / "x.npz")["x"], expected.numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("arrays", "data", "message"),
    [
        ({}, {"y": np.ones((1, 3))}, "operator must hold one of"),
        ({"matrix": np.ones((3, 64))}, {"z": np.ones((1, 3))}, "data must hold y"),
        ({"matrix": np.ones((3, 60))}, {"y": np.ones((1, 3))}, "matrix must have 64 columns"),
        ({"matrix": np.ones((3, 64))}, {"y": np.ones((1, 2))}, "y must be"),
    ],
)
def test_bad_files_are_refused(capsys, tmp_path, model, arrays, data, message):
    np.savez(tmp_path / "op.npz", **arrays)
    np.savez(tmp_path / "y.npz", **data)
    files = ["--model", model[0], "--operator", tmp_path / "op.npz", "--data", tmp_path / "y.npz", "--out", tmp_path / "x.npz"]
    code, _, err = ritz(capsys, "diffusion", "invert", *files)
    assert code == 2
    assert message in " ".join(err.split())
    assert not (tmp_path / "x.npz").exists()
