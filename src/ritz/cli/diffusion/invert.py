"""`ritz diffusion invert`: images from linear measurements, with a diffusion model as the prior."""

from __future__ import annotations

import json as json_format
import time
from pathlib import Path

import numpy as np
import typer

from ritz.cli.output import print_summary

OPERATORS = ("matrix", "mask", "fourier_mask", "kernel", "angles")
MODEL_HELP = "Weights of a UNet2DModel of diffusers (.safetensors); config.json is beside them, and perhaps scheduler_config.json."
OPERATOR_HELP = f".npz with one of: {', '.join(OPERATORS)}; with fourier_mask perhaps sensitivities."


def invert(
    model: Path = typer.Option(..., help=MODEL_HELP),
    operator: Path = typer.Option(..., help=OPERATOR_HELP),
    data: Path = typer.Option(..., help=".npz with y, the measurements, one problem a row."),
    out: Path = typer.Option(..., "--out", "-o", help="Where the images go (.npz, as x)."),
    steps: int = typer.Option(50, help="Calls of the model."),
    eta: float = typer.Option(0.85, help="Share of fresh noise."),
    cg_iterations: int = typer.Option(5, help="Steps of conjugate gradients after each call."),
    gamma: float = typer.Option(None, help="Weight of the measurements; without noise none by default."),
    noise_std: float = typer.Option(0.0, help="Deviation of the measurements' noise."),
    clip: float = typer.Option(None, help="Clamp estimates to [-clip, clip]."),
    seed: int = typer.Option(0, min=0, help="Seed of all random choices."),
    json: bool = typer.Option(False, "--json", help="Print the summary as JSON."),
) -> None:
    """Reconstruct images from linear measurements by decomposed diffusion sampling."""
    import torch

    from ritz.cli.matrix_files import check_ending
    from ritz.core import atomic_path
    from ritz.diffusion import dds_sample

    check_ending(out, ".npz")
    denoiser, schedule, sides = _prior(model)
    y = torch.from_numpy(_arrays(data, "data", ("y",))["y"])
    y = y.to(torch.complex64 if y.is_complex() else torch.float32)
    options = {"steps": steps, "eta": eta, "cg_iterations": cg_iterations, "gamma": gamma, "noise_std": noise_std, "clip": clip, "generator": seed}
    start = time.perf_counter()
    samples = dds_sample(denoiser, y, _operator(operator, sides), schedule, shape=(len(y), *sides), **options)
    seconds = time.perf_counter() - start
    with atomic_path(out) as path, open(path, "wb") as file:
        np.savez(file, x=samples.x.numpy())
    print_summary({"images": len(y), "shape": list(sides), "calls": samples.nfe, "seconds": round(seconds, 3), "out": str(out)}, json)


def _prior(model: Path):
    """The denoiser of a network's file, its schedule, and the shape of a sample."""
    from safetensors.torch import load_file

    from ritz.core import existing_file, optional_import
    from ritz.diffusion import DDSScheduler, NetworkDenoiser
    from ritz.diffusion.scheduler_interface import PREDICTION_TYPES

    weights, config = existing_file(model, "model"), existing_file(model.parent / "config.json", "config.json beside model")
    settings = model.parent / "scheduler_config.json"
    network = optional_import("diffusers", extra="diffusers").UNet2DModel.from_config(json_format.loads(config.read_text()))
    network.load_state_dict(load_file(weights))
    network.eval().requires_grad_(False)
    scheduler = DDSScheduler.from_config(json_format.loads(settings.read_text()) if settings.exists() else {})
    prediction = PREDICTION_TYPES[scheduler.config.prediction_type]
    denoiser = NetworkDenoiser(lambda x, t: network(x, t).sample, scheduler.schedule, prediction, time_input="timestep")
    sides = network.config.sample_size
    return denoiser, scheduler.schedule, (network.config.in_channels, *((sides, sides) if isinstance(sides, int) else sides))


def _operator(path: Path, sides: tuple[int, ...]):
    """The operator that a file describes, for samples (channels, height, width)."""
    from ritz.diffusion import Blur, Inpainting, MaskedFourier, MatrixMeasurements, ParallelBeam

    arrays = _arrays(path, "operator", ())
    kinds = [name for name in OPERATORS if name in arrays]
    if len(kinds) != 1:
        raise ValueError(f"operator must hold one of {', '.join(OPERATORS)}, got {', '.join(arrays) or 'nothing'}")
    value = arrays[kinds[0]]
    if kinds[0] == "fourier_mask":
        return MaskedFourier(value, arrays.get("sensitivities"), channels=sides[0])
    if kinds[0] == "mask":
        return Inpainting(np.broadcast_to(value, sides))
    if kinds[0] == "kernel":
        return Blur(value)
    return ParallelBeam(value, sides[-1]) if kinds[0] == "angles" else MatrixMeasurements(value, sides)


def _arrays(path: Path, name: str, needed: tuple[str, ...]) -> dict[str, np.ndarray]:
    from ritz.core import existing_file

    try:
        with np.load(existing_file(path, name)) as archive:
            arrays = dict(archive)
    except (ValueError, OSError, TypeError, AttributeError) as error:
        raise ValueError(f"{name} must be an .npz file: '{path}' cannot be read ({error})") from error
    if missing := [key for key in needed if key not in arrays]:
        raise ValueError(f"{name} must hold {', '.join(missing)}, got {', '.join(arrays)}")
    return arrays
