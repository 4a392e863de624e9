"""The shared digit model: trained once, with denoisers that know about classes."""

import pytest
import torch

from ritz.studies import digit_diffusion
from ritz.studies.digit_diffusion import digit_pixels, trained_digit_diffusion
from ritz.studies.run import Run


def test_it_is_trained_once_per_seed(tmp_path, monkeypatch):
    first = trained_digit_diffusion(Run("one", tmp_path / "one", scale="smoke"))
    monkeypatch.setattr(digit_diffusion, "_train", lambda *_: pytest.fail("trained again"))
    second = trained_digit_diffusion(Run("two", tmp_path / "two", scale="smoke"))
    assert all(torch.equal(a, b) for a, b in zip(first.network.parameters(), second.network.parameters()))
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_its_denoisers(tmp_path):
    run = Run("one", tmp_path / "one", scale="smoke")
    model, x = trained_digit_diffusion(run), digit_pixels(run)["test"][:12]
    free, third, mixed = model.unconditional(x, 0.5), model.conditional(torch.full((12,), 3))(x, 0.5), model.conditional()(x, 0.5)
    assert free.shape == x.shape
    assert torch.equal(mixed[3], third[3])
    assert not torch.equal(mixed[4], third[4])
    assert torch.allclose(model.guided(2.0)(x, 0.5), free + 2 * (mixed - free), atol=1e-5)


def test_pixels_lie_between_minus_one_and_one(tmp_path):
    pixels = digit_pixels(Run("one", tmp_path, scale="smoke"))
    assert float(pixels["train"].min()) == -1
    assert float(pixels["test"].max()) == 1
    assert len(pixels["train"]) == len(pixels["train_labels"])
